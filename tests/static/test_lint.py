"""Every file that a linter knows is clean. No engine is needed here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
DOCKERFILES = sorted(ROOT.glob("images/*/Dockerfile"))


def tracked() -> list[Path]:
    """The files of the source tree: git's, or in a tarball all but what the tasks make."""
    made = {".git", ".venv", ".artifacts", ".env", "__pycache__", "work", ".ruff_cache"}
    shown = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    if shown.returncode == 0 and (ROOT / ".git").exists():
        paths = [ROOT / name for name in shown.stdout.splitlines()]
    else:
        paths = [p for p in ROOT.rglob("*") if not made & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    """The text files among them with their text."""
    pairs = []
    for path in tracked():
        try:
            pairs.append((path, path.read_text()))
        except UnicodeDecodeError:
            continue
    return pairs


def shell_scripts() -> list[str]:
    """Everything that names a shell as its interpreter."""
    return [str(path) for path, text in texts() if text.startswith(("#!/bin/sh", "#!/bin/bash"))]


def clean(*command: str) -> None:
    """Fail with the tool's own words unless it finds nothing."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_there_is_something_to_lint():
    assert len(DOCKERFILES) >= 4
    assert len(shell_scripts()) >= 4


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.parent.name)
def test_hadolint_finds_nothing_in_a_dockerfile(path):
    clean(str(TOOLS / "hadolint"), "--config", ".hadolint.yaml", str(path))


def test_shellcheck_finds_nothing():
    clean(str(TOOLS / "shellcheck"), *shell_scripts())


def test_ruff_finds_nothing():
    clean(str(TOOLS / "ruff"), "check", "--no-cache", ".")


def test_yamllint_finds_nothing():
    clean(str(TOOLS / "yamllint"), "--strict", "compose.yaml", ".hadolint.yaml", ".yamllint")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.parent.name)
def test_a_dockerfile_fits_on_a_screen_or_two(path):
    assert len(path.read_text().splitlines()) <= 80


def test_no_python_file_is_longer_than_four_hundred_lines():
    long = {
        str(path.relative_to(ROOT)): len(text.splitlines())
        for path, text in texts()
        if path.suffix == ".py" and len(text.splitlines()) > 400
    }
    assert long == {}


def test_every_relative_link_in_a_page_leads_somewhere():
    import re

    dead = []
    for path, text in texts():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#]+)", text):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{path.name}: {target}")
    assert dead == []
