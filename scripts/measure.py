"""`inv bench`: sizes and waiting times, beside an image made the usual way in the same run."""

import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from scripts import build, context, fetch, oci, source
from scripts.paths import ROOT
from scripts.problem import Problem

PLAIN = "hothouse-bench/plain:latest"
RUNS = 3
START_LIMIT = 120
IMPORT = "import time; t = time.perf_counter(); import tensorflow; print(time.perf_counter() - t)"


def output(*command: str) -> str:
    """Return what a command prints.

    :raises Problem: it failed.
    """
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise Problem(f"`{' '.join(command[:4])} …` failed: {last}", "mend that and run it again")
    return result.stdout.strip()


def layers_of(image: str) -> list[tuple[str, int, int]]:
    """Return each layer's build step, its compressed bytes and those of its files, base first.

    :raises Problem: the engine has no such image.
    """
    with oci.open_image(image) as it:
        return [
            (step, layer.size, sum(member.size for member, _ in it.members(layer)))
            for step, layer in zip(source.steps_of(it), it.layers, strict=True)
        ]


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


def build_plain(variant: str) -> None:
    """Build the image to compare with."""
    print("building the image to compare with …", file=sys.stderr, flush=True)
    output("docker", "buildx", "build", "--provenance=false", "--file", "scripts/plain.Dockerfile",
           "--build-arg", f"VARIANT={variant}",
           "--build-context", "base=docker-image://hothouse/base:latest",
           "--build-context", f"wheels={context.CONTEXTS}", "--tag", PLAIN, "--load", "scripts")


def run(variant: str) -> None:
    """Measure, print, and remove the image made for the comparison.

    :param variant: ``cpu`` or ``cuda``.
    :raises Problem: an image is missing or does not answer.
    """
    fetch.variants(variant)
    ours = f"hothouse/jupyter:{variant}"
    build.build([f"jupyter-{variant}"])
    build_plain(variant)
    try:
        layers = {image: layers_of(image) for image in (ours, PLAIN)}
        rows = [
            (f"{what} size, MB", *(sum(each[column] for each in layers[image]) / 1e6
                                   for image in (ours, PLAIN)))
            for column, what in ((1, "compressed"), (2, "unpacked"))
        ]
        print(f"\n{ours}, compressed by layer:")
        for name, size, _ in layers[ours]:
            print(f"  {name:28}{size / 1e6:8.1f} MB")
        for name, measure in (
            ("first answer of /api, s", first_answer),
            ("first import tensorflow, s", first_import),
        ):
            # In turns, so that whatever else the machine does burdens both alike.
            pairs = [(measure(ours), measure(PLAIN)) for _ in range(RUNS)]
            rows.append((name, *(statistics.median(column) for column in zip(*pairs, strict=True))))
        print(f"\n{'':30}{'ours':>9}{'plain':>9}{'ratio':>8}")
        for name, one, other in rows:
            print(f"  {name:28}{one:9.2f}{other:9.2f}{one / other:8.2f}")
        print("\nplain: pip install of the same wheels on hothouse/base. Times are medians of "
              f"{RUNS};\nthe ratios are what can be compared.")
    finally:
        subprocess.run(["docker", "image", "rm", "--force", PLAIN], capture_output=True,
                       check=False)
