"""`inv bench`: sizes and waiting times, beside an image made the usual way in the same run."""

import json
import re
import statistics
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request

from scripts import build, context
from scripts.paths import ROOT
from scripts.problem import Problem

PLAIN = "hothouse-bench/plain:latest"
OURS = "hothouse/jupyter:cpu"
RUNS = 3
START_LIMIT = 120
IMPORT = "import time; t = time.perf_counter(); import tensorflow; print(time.perf_counter() - t)"
#: The images from the base up, by the folders that their Dockerfiles lie in.
CHAIN = ("base", "tensorflow", "jupyter")


def output(*command: str) -> str:
    """Return what a command prints.

    :raises Problem: it failed.
    """
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise Problem(f"`{' '.join(command[:4])} …` failed: {last}", "mend that and run it again")
    return result.stdout.strip()


def layer_names() -> list[str]:
    """Return the names of the layers of the Jupyter image, base first: image and stage."""
    return [
        f"{image}/{stage}"
        for image in CHAIN
        for stage in re.findall(
            r"^COPY --link --from=(\S+)", (ROOT / "images" / image / "Dockerfile").read_text(),
            re.MULTILINE,
        )
    ]


def layer_sizes(image: str) -> list[int]:
    """Return the compressed size of each layer in bytes, base first.

    Reads the OCI image layout (index.json, manifest) that ``docker image save`` writes.

    :raises Problem: the engine has no such image.
    """
    command = ["docker", "image", "save", image]
    blobs: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    sizes[member.name] = member.size
                    if member.isfile() and member.size < 1 << 20:
                        blobs[member.name] = archive.extractfile(member).read()
        except tarfile.ReadError:
            raise Problem(f"the engine has no image {image}", "scripts/inv build") from None

    def blob(descriptor: dict) -> str:
        return "blobs/" + descriptor["digest"].replace(":", "/")

    manifest = json.loads(blobs[blob(json.loads(blobs["index.json"])["manifests"][0])])
    return [sizes[blob(layer)] for layer in manifest["layers"]]


def first_answer(image: str) -> float:
    """Return the seconds from ``docker run`` to the first answer of /api.

    :raises Problem: no answer within START_LIMIT seconds.
    """
    start = time.perf_counter()
    container = output("docker", "run", "--detach", "--rm", "--publish", "127.0.0.1::8888", image,
                       "jupyter", "lab", "--ip=0.0.0.0", "--no-browser")
    try:
        address = output("docker", "port", container, "8888/tcp").splitlines()[0]
        while time.perf_counter() - start < START_LIMIT:
            try:
                with urllib.request.urlopen(f"http://{address}/api", timeout=5):  # noqa: S310
                    return time.perf_counter() - start
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise Problem(f"{image} did not answer in {START_LIMIT} s", "docker run it by hand")
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)


def first_import(image: str) -> float:
    """Return the seconds of the first ``import tensorflow`` in a new container."""
    return float(output("docker", "run", "--rm", image, "python3", "-c", IMPORT))


def build_plain() -> None:
    """Build the image to compare with."""
    print("building the image to compare with …", file=sys.stderr, flush=True)
    output("docker", "buildx", "build", "--provenance=false", "--file", "scripts/plain.Dockerfile",
           "--build-context", "base=docker-image://hothouse/base:latest",
           "--build-context", f"wheels={context.CONTEXTS}", "--tag", PLAIN, "--load", "scripts")


def run() -> None:
    """Measure, print, and remove the image made for the comparison.

    :raises Problem: an image is missing or does not answer.
    """
    build.build()
    build_plain()
    try:
        ours, plain = layer_sizes(OURS), layer_sizes(PLAIN)
        print(f"\n{OURS}, compressed by layer:")
        for name, size in zip(layer_names(), ours, strict=True):
            print(f"  {name:28}{size / 1e6:8.1f} MB")
        rows = [("compressed size, MB", sum(ours) / 1e6, sum(plain) / 1e6)]
        for name, measure in (
            ("first answer of /api, s", first_answer),
            ("first import tensorflow, s", first_import),
        ):
            # In turns, so that whatever else the machine does burdens both alike.
            pairs = [(measure(OURS), measure(PLAIN)) for _ in range(RUNS)]
            rows.append((name, *(statistics.median(column) for column in zip(*pairs, strict=True))))
        print(f"\n{'':30}{'ours':>9}{'plain':>9}{'ratio':>8}")
        for name, one, other in rows:
            print(f"  {name:28}{one:9.2f}{other:9.2f}{one / other:8.2f}")
        print("\nplain: pip install of the same wheels on hothouse/base. Times are medians of "
              f"{RUNS};\nthe ratios are what can be compared.")
    finally:
        subprocess.run(["docker", "image", "rm", "--force", PLAIN], capture_output=True,
                       check=False)
