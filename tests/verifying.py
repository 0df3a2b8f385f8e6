"""`scripts/inv verify` as a user runs it, on images made from an image of this checkout."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import containers
import pytest
from containers import ROOT


def needs_a_commit(image: str) -> str:
    """Return the commit that an image is made from; without one there is nothing to verify by."""
    labels = containers.inspect(image)["Config"]["Labels"]
    revision = labels["org.opencontainers.image.revision"]
    if revision == "unknown" or revision.endswith("-dirty"):
        pytest.skip(f"{image} is built from a tree that is no commit ({revision})")
    return revision


def verify(*words: str, limit: float = 900) -> tuple[int, str, str]:
    """Run ``scripts/inv verify``.

    :param limit: seconds.
    :returns: its status, stdout and stderr.
    """
    done = subprocess.run(["scripts/inv", "verify", *words], cwd=ROOT, capture_output=True,
                          text=True, timeout=limit, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@contextmanager
def child(image: str, folder: Path, *steps: str) -> Iterator[str]:
    """Build an image on another one, without a network, and yield its name.

    :param steps: shell commands, run by root in one step.
    """
    # With the tag of its parent, which says whether it is a CPU or a CUDA image.
    name = f"{containers.unique('tampered')}:{image.rpartition(':')[2]}"
    command = " && ".join(steps)
    (folder / "Dockerfile").write_text(
        f"FROM {image}\nUSER root\nRUN --network=none {command}\nUSER 1000:100\n")
    try:
        containers.docker("build", "--quiet", "--tag", name, str(folder), timeout=300)
        yield name
    finally:
        containers.docker("image", "rm", "--force", name, check=False)


def images() -> set[str]:
    """The names of all images."""
    return set(containers.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
               .stdout.split())
