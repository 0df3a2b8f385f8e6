"""`inv evidence`: run the in-container suite on a real GPU and keep what came out as a record.

Two ways to the same tests: in a container of a pulled or built image, or, where a GPU host has no
engine, with the image's unpacked tree (see scripts/unpacked.py). A record is written only when
every test passed on a GPU; what a record must say is in scripts/gpu_record.py.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

from scripts import build, engine, gpu_record, locks, oci, suite
from scripts.paths import ARTIFACTS, ROOT, TESTS
from scripts.problem import Problem

DEFAULT = "hothouse/tensorflow:cuda"
FOLDER = ROOT / "docs" / "gpu-evidence"
#: What a run said that is no evidence; for whoever looks into it.
LAST = ARTIFACTS / "gpu-run.json"
DOCTOR = ("hothouse", "doctor", "--json", "--expect-gpu")
NO_IMAGE = "docker pull it, or scripts/inv build"


def identify(image: str) -> dict:
    """Return what a record says of an image: digests and the labels that name its source.

    :raises Problem: it is missing, or not an image of ours with TensorFlow in it.
    """
    print(f"reading the digests of {image} …", file=sys.stderr, flush=True)
    with oci.open_image(image) as it:
        return {"name": image, "manifest": it.digest, "config": it.config_digest,
                **source(it.labels, image)}


def source(labels: dict[str, str], image: str) -> dict:
    """Return what an image's labels say of its source.

    :raises Problem: they say nothing, or of other locks than this checkout's.
    """
    kind = labels.get("org.opencontainers.image.title", "").rpartition("/")[2]
    if kind not in suite.CHAIN[1:] or "io.hothouse.lock" not in labels:
        raise Problem(f"{image} is no image of Hothouse with TensorFlow", f"name one: {DEFAULT}")
    revision = labels.get("org.opencontainers.image.revision", "")
    lock = labels["io.hothouse.lock"]
    ours = build.variables_of([locks.read(path) for path in locks.ALL])[f"LOCK_{kind.upper()}"]
    if lock != ours:
        raise Problem(f"{image} was built from other locks than this checkout's",
                      f"git checkout {revision.removesuffix('-dirty') or 'its revision'}")
    return {"kind": kind, "revision": revision, "lock": lock,
            "drifted": labels.get("io.hothouse.drifted") != "false"}


def checkout() -> str:
    """Return the revision of the tests: this checkout's.

    :raises Problem: the tests are not those of any revision.
    """
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True,
                              check=False).stdout.strip()

    if git("status", "--porcelain", "--", "tests", "images", "scripts"):
        raise Problem("the tests differ from what is committed, so that a record could not name "
                      "them", "commit the changes under tests, images and scripts, or stash them")
    if not (revision := git("rev-parse", "HEAD")):
        raise Problem("this folder is no git checkout, so that a record could not name its tests",
                      "git clone the project and run it there")
    return revision


def gpus_of(driver: str, wanted: str) -> tuple[list[str], int]:
    """Look at the host's GPUs.

    :param driver: ``nvidia`` or ``cdi``.
    :param wanted: ``all``, or indices with commas between them.
    :returns: the options of ``docker run``, and how many GPUs a container must see.
    :raises Problem: there is none, or containers can't have them.
    """
    if driver not in ("nvidia", "cdi"):
        raise Problem(f'"{driver}" is no way to give a container a GPU', "--driver nvidia or cdi")
    from scripts import gpus, host_gpu

    host = host_gpu.here()
    names = gpus.names(host)
    if not names and not host_gpu.pci_gpus(host):
        raise Problem("there is no NVIDIA GPU in this machine, and nothing else is evidence",
                      "run it on a machine with one; see docs/gpu-evidence/README.md")
    driver = gpus.way(driver, wanted)
    count = len(names) if wanted == "all" else len(wanted.split(","))
    if driver == "cdi":
        devices = [gpus.CDI_KIND + word for word in wanted.split(",")]
        return [word for device in devices for word in ("--device", device)], count
    return ["--gpus", "all" if wanted == "all" else f'"device={wanted}"'], count


def environment(kind: str, count: int, where: str) -> dict[str, str]:
    """Return the variables of the run.

    :param where: the folder of the locks, as the tests see it.
    """
    parts = suite.CHAIN[: suite.CHAIN.index(kind) + 1]
    return {
        "HOTHOUSE_EXPECT_GPU": "1",
        "HOTHOUSE_GPU_COUNT": str(count),
        "HOTHOUSE_VARIANT": "cuda",
        "HOTHOUSE_LOCKS": os.pathsep.join(f"{where}/{part}.lock" for part in parts),
    }


@contextmanager
def container(name: str):
    """Take a container's name for a while; whatever happens, it is gone afterwards."""
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True,
                       check=False)


def in_container(image: dict, options: list[str], count: int) -> tuple[dict, dict | None]:
    """Run the suite and the doctor in containers.

    :returns: what the suite recorded, and what the doctor said.
    :raises Problem: the suite wrote no record, for example because no container came up.
    """
    parts = suite.CHAIN[: suite.CHAIN.index(image["kind"]) + 1]
    mounts = [f"{TESTS / 'inside'}:/opt/tests:ro", f"{suite.INSIDE}:/opt/tests-site:ro",
              *(f"{path}:/opt/locks/{part}.lock:ro"
                for part, path in zip(suite.CHAIN, locks.ALL, strict=True) if part in parts)]
    common = ["--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
              "--shm-size", "1g", *options]
    variables = {**environment(image["kind"], count, "/opt/locks"),
                 "PYTHONPATH": "/opt/tests-site"}
    LAST.unlink(missing_ok=True)
    with container(f"hothouse-evidence-{uuid.uuid4().hex[:8]}") as name:
        command = [
            "docker", "run", "--name", name, *common,
            *(word for mount in mounts for word in ("--volume", mount)),
            *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
            "--workdir", "/opt/tests", image["name"],
            "python", "-B", "-m", "pytest", "--record=/tmp/record.json", *parts, "cuda", "gpu",
        ]
        print(f"\n+ {' '.join(command)}", file=sys.stderr, flush=True)
        subprocess.run(command, cwd=ROOT, check=False)
        subprocess.run(["docker", "cp", f"{name}:/tmp/record.json", str(LAST)],
                       capture_output=True, check=False)
    doctor = ["docker", "run", "--rm", *common, image["name"], *DOCTOR]
    return recorded(), ask_doctor(doctor)


def recorded() -> dict:
    """Return what the suite wrote.

    :raises Problem: it wrote nothing.
    """
    try:
        return json.loads(LAST.read_text())
    except (OSError, ValueError):
        raise Problem("the tests ended without a record",
                      "mend what is said above, then run it again") from None


def ask_doctor(command: list[str]) -> dict | None:
    """Run the image's doctor; its status and report, or None where the image has none."""
    print(f"\n+ {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 127:  # the shell's and the engine's "no such command"
        return None
    try:
        return {"status": done.returncode, "report": json.loads(done.stdout)}
    except ValueError:
        return {"status": done.returncode, "report": None}


def file_name(record: dict) -> str:
    """Return DATE-GPU-DRIVER.json in letters, digits, dots and dashes."""
    names = sorted({gpu["name"] for gpu in record["gpus"]})
    words = [record["date"][:10], *names, record["driver"]["version"]]
    return re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-") + ".json"


def keep(record: dict) -> Path:
    """Write a record that is one; its path.

    :raises Problem: it is none.
    """
    if faults := gpu_record.complaints(record):
        LAST.write_text(json.dumps(record, indent=1) + "\n")
        print("\nno evidence:", *(f"  {fault}" for fault in faults), sep="\n", file=sys.stderr)
        raise Problem(f"this run is no evidence: {len(faults)} faults, the first: {faults[0]}",
                      f"mend that and run it again; {LAST.relative_to(ROOT)} holds what was seen")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / file_name(record)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def run(image: str, gpu: str, driver: str, tree: str | None = None) -> None:
    """Run everything, write the record and say what to do next.

    :param image: the image's name; with ``tree`` what it is a tree of.
    :param gpu: ``all``, or indices with commas between them.
    :param driver: ``nvidia`` or ``cdi``; not used with ``tree``.
    :param tree: a folder made by ``--pack``, for a host without an engine.
    :raises Problem: no GPU, no image, or a test that did not pass.
    """
    if tree:
        from scripts import unpacked

        result = unpacked.run(tree, image, gpu)
    else:
        engine.ensure()
        options, count = gpus_of(driver, gpu)
        revision, known = checkout(), identify(image)
        suite.make_environment()
        seen, doctor = in_container(known, options, count)
        result = {"how": "engine", "suite": revision, "image": known, "asked": count, **seen,
                  "doctor": doctor}
    now = datetime.datetime.now(datetime.timezone.utc)
    tests = result.get("tests", [])
    record = {"schema": gpu_record.SCHEMA, "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"), **result,
              "counts": gpu_record.counts(tests), "ratios": gpu_record.ratios(tests)}
    path = keep(record)
    shown = ", ".join(f"{name} {ratio:.1f}" for name, ratio in record["ratios"].items())
    print(f"{record['counts']['passed']} tests passed, {record['counts']['gpu']} of them on "
          f"{record['gpus'][0]['name']}; CPU : GPU time {shown}.\n"
          f"Next: git add {path.relative_to(ROOT)}, commit it, and send it in.")
