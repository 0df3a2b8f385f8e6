"""What the tests on equal bytes share: the images of this checkout, and copies to build from."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import containers
import pytest
import trees

from scripts import build

#: What each update costs, and notes, for the end of pytest's report.
ROWS: list[tuple[str, str, str, str, str]] = []
NOTES: list[str] = []


@pytest.fixture
def costs() -> Callable[[str, dict[str, int], int, str, float], None]:
    """Return ``costs(what, pulled, whole, image, goal)``: an update may cost that share alone.

    ``pulled``: the layers to pull anew with their compressed bytes; ``whole``: the image's bytes;
    ``goal``: the largest share of it that is allowed.
    """

    def check(what: str, pulled: dict[str, int], whole: int, image: str, goal: float) -> None:
        size = sum(pulled.values())
        ROWS.append((what, ", ".join(pulled), f"{size / 1e6:.1f}",
                     f"{size / whole:.1%} of {image}", f"{goal:.1%}"))
        assert size <= goal * whole, ROWS[-1]

    return check


@pytest.fixture
def note() -> Callable[[str], None]:
    """Return a function that puts a line at the end of pytest's report."""
    return NOTES.append


def pytest_terminal_summary(terminalreporter):
    """Print what each update costs whoever pulls the image."""
    if ROWS:
        terminalreporter.section("what an update pulls anew")
        for row in [("update", "layers", "MB", "share", "goal"), *ROWS]:
            terminalreporter.write_line(
                f"{row[0]:<22} {row[1]:<20} {row[2]:>6}  {row[3]:<22} {row[4]:>6}")
    for line in NOTES:
        terminalreporter.write_line(f"note: {line}")


@pytest.fixture(scope="session")
def tags() -> dict[str, str]:
    """The tag of each bake target's image, as `inv build` makes it from this checkout."""
    return {name: target["tags"][0] for name, target in build.targets().items()}


def remove_images(prefix: str) -> None:
    """Remove the images whose names begin with ``prefix/``."""
    shown = containers.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout
    for name in shown.splitlines():
        if name.startswith(f"{prefix}/"):
            containers.docker("image", "rm", "--force", name, check=False)


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> trees.Tree:
    """A copy of the checkout without git, at a path with a space; its images are removed."""
    it = trees.copy(tmp_path_factory.mktemp("tree"))
    try:
        yield it
    finally:
        remove_images(it.tag)


def strange_copy(folder: Path) -> Path:
    """Copy the checkout with its history: another path, no rights for others, other times.

    Its files are those that lie here, committed or not, so that its revision is the same.
    """
    root = folder / "another folder"
    options = {"check": True, "umask": 0o077, "capture_output": True, "text": True}
    if (containers.ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(containers.ROOT), str(root)], **options)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=containers.ROOT, **options,
        ).stdout
        for name in filter(None, listed.split("\0")):
            (root / name).unlink(missing_ok=True)
            if (containers.ROOT / name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(containers.ROOT / name, root / name, follow_symlinks=False)
                if os.access(containers.ROOT / name, os.X_OK):
                    (root / name).chmod(0o700)
    else:
        shutil.copytree(containers.ROOT, root, ignore=trees.LEFT_OUT, symlinks=True)
    store = Path(".artifacts", "store")
    shutil.copytree(containers.ROOT / store, root / store, copy_function=private_copy)
    for path in sorted(root.rglob("*")):
        if ".git" not in path.parts and ".artifacts" not in path.parts:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return root


def private_copy(source: str, target: str) -> None:
    """Copy a small file of the store for its owner alone; link a large one."""
    if os.path.getsize(source) > 2_000_000:
        trees.link_or_copy(source, target)
    else:
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
