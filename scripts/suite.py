"""`inv test`: the tests in the order of their price, on images that are built when needed."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts import build, engine, install, locks
from scripts.paths import ARTIFACTS, ROOT, TESTS
from scripts.problem import Problem

INSIDE = ARTIFACTS / "inside"
#: Set where an image holds Debian's present packages instead of the locked ones: the tests that
#: need the locked bytes then report themselves as not run.
DRIFTED = "HOTHOUSE_DRIFTED"
#: The images' folders, parents first: a child inherits its parents' tests.
CHAIN = ("base", "tensorflow", "jupyter")
#: What docker-bake.hcl builds, and under which names.
IMAGES = {
    "base": "hothouse/base:latest",
    "tensorflow-cpu": "hothouse/tensorflow:cpu",
    "tensorflow-cuda": "hothouse/tensorflow:cuda",
    "jupyter-cpu": "hothouse/jupyter:cpu",
    "jupyter-cuda": "hothouse/jupyter:cuda",
}
#: Parts that need no image, and parts that need them all; between them, each image has its own.
QUICK = ("static", "scripts")
SLOW = ("notebooks", "browser", "faults", "bits")


@dataclass
class Outcome:
    """How one part of the suite ended."""

    part: str
    passed: bool


def pip(requirements: str, *options: str) -> None:
    """Install a hash-locked file with the tool environment's pip.

    :raises Problem: pip failed.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes",
               "--only-binary", ":all:", *options, "--requirement", str(TESTS / requirements)]
    if subprocess.run(command, check=False).returncode:
        raise Problem(f"pip could not install tests/{requirements}",
                      "check the network and pip's configuration, then run it again")


def make_environment() -> None:
    """Install what the tests need on this side and what they need inside a container, once."""
    # In .venv: an environment that is made anew has lost them.
    stamp = Path(sys.prefix) / "tests-made-for"
    wanted = "".join(
        (TESTS / name).read_text() for name in ("requirements.txt", "inside/requirements.txt")
    )
    if stamp.exists() and stamp.read_text() == wanted and INSIDE.is_dir():
        return
    print("Making the test environment (once) …", file=sys.stderr, flush=True)
    pip("requirements.txt")
    shutil.rmtree(INSIDE, ignore_errors=True)
    pip("inside/requirements.txt", "--no-deps", "--target", str(INSIDE))
    stamp.write_text(wanted)


def find_browser() -> str:
    """Return the path of a Chromium; installs Debian's where that is possible.

    :raises Problem: there is none and it cannot be installed here.
    """
    path = install.program(("chromium", "chromium-browser", "google-chrome"),
                           ("chromium", "fonts-dejavu-core"), "the browser tests")
    if path:
        return path
    raise Problem("the browser tests need Chromium", "install the package chromium")


def run_pytest(part: str, *arguments: str) -> Outcome:
    """Run pytest on folders of this side.

    :param part: the name in the summary.
    """
    command = [sys.executable, "-m", "pytest", "-ra", "--durations=5", *arguments]
    print(f"\n+ pytest {' '.join(arguments)}", file=sys.stderr, flush=True)
    return Outcome(part, subprocess.run(command, cwd=ROOT, check=False).returncode == 0)


def run_inside(target: str) -> Outcome:
    """Run the tests inside a container of an image, on mounts: they are no part of it."""
    kind, _, variant = target.partition("-")
    parts = CHAIN[: CHAIN.index(kind) + 1]
    files = dict(zip(CHAIN, locks.ALL, strict=True))
    mounts = [f"{TESTS / 'inside'}:/opt/tests:ro", f"{INSIDE}:/opt/tests-site:ro",
              *(f"{files[part]}:/opt/locks/{part}.lock:ro" for part in parts)]
    command = [
        "docker", "run", "--rm", "--network", "none", "--cpus", "2",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        *(word for mount in mounts for word in ("--volume", mount)),
        "--env", "PYTHONPATH=/opt/tests-site",
        "--env", f"HOTHOUSE_LOCKS={os.pathsep.join(f'/opt/locks/{part}.lock' for part in parts)}",
        "--env", DRIFTED, "--env", f"HOTHOUSE_VARIANT={variant or 'any'}",
        "--workdir", "/opt/tests", IMAGES[target],
        "python", "-B", "-m", "pytest", "--durations=5", *parts,
        *(["cuda", "gpu"] if variant == "cuda" else []),
    ]
    print(f"\n+ {' '.join(command)}", file=sys.stderr, flush=True)
    result = subprocess.run(command, cwd=ROOT, check=False)
    return Outcome(f"inside {target}", result.returncode == 0)


def run(part: str | None) -> None:
    """Run all tests, or one part of them.

    :param part: ``static``, ``scripts``, an image's name, ``notebooks``, ``browser``, ``faults``,
        ``bits``.
    :raises Problem: an unknown part, or a test that failed.
    """
    known = (*QUICK, *CHAIN, *SLOW)
    if part is not None and part not in known:
        raise Problem(f'no tests "{part}"', f"choose from: {', '.join(known)}")
    engine.ensure()
    make_environment()
    if part in QUICK:
        outcomes = [run_pytest(part, f"tests/{part}")]
    else:
        outcomes = [] if part else [run_pytest("static and scripts", "tests/static",
                                               "tests/scripts")]
        # Nothing is built on a tree that the quick tests refuse.
        if all(outcome.passed for outcome in outcomes):
            build.build(["all"], allow_drift=True)
            outcomes += run_on_images(part)
    failed = [outcome.part for outcome in outcomes if not outcome.passed]
    if failed:
        raise Problem(f"tests failed: {', '.join(failed)}", "their reports are above")
    print("All tests passed.")
    if part not in (*QUICK, *SLOW, "base"):
        print("Not run here: tests/inside/gpu; scripts/inv evidence runs them on a GPU host.")


def run_on_images(part: str | None) -> list[Outcome]:
    """Run the tests that need the images; see :func:`run`."""
    images = [part] if part in CHAIN else [] if part else list(CHAIN)
    targets = [name for name in IMAGES if name.split("-")[0] in images]
    drifted = build.record_of("base").get("variables", {}).get("DRIFTED") == "true"
    os.environ[DRIFTED] = "1" if drifted else ""
    outcomes = [run_inside(target) for target in targets]
    outcomes += [run_pytest(f"image {image}", f"tests/images/{image}") for image in images]
    for name in [part] if part in SLOW else [] if part else SLOW:
        if name == "browser":
            os.environ["HOTHOUSE_BROWSER"] = find_browser()
        outcomes.append(run_pytest(name, f"tests/{name}"))
    return outcomes
