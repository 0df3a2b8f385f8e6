"""The revision that images are labelled with: that of a commit only where every file is its."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import worktree

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="not run: no git here")
WHO = ("-c", "user.name=test", "-c", "user.email=test@hothouse.invalid")


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *WHO, *arguments], cwd=root, check=True, capture_output=True,
                          text=True).stdout.strip()


def commit(root: Path, words: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", words)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose last commit changed no image."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = tmp_path / "a checkout"
    for name, text in {"images/base/Dockerfile": "FROM scratch\n", "images/base/run": "#!/bin/sh\n",
                       "docker-bake.hcl": "target\n", "README.md": "words\n",
                       ".gitignore": "__pycache__/\n"}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "images/base/run").chmod(0o755)
    (made / "images/link").symlink_to("base")
    git(made, "init", "--quiet")
    commit(made, "images")
    (made / "README.md").write_text("other words\n")
    commit(made, "words")
    use(made, monkeypatch)
    return made


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worktree.note.cache_clear()
    monkeypatch.setattr(worktree, "ROOT", root)


def revision(root: Path) -> str:
    return worktree.revision([root / "images", root / "docker-bake.hcl"])


def test_the_revision_is_the_last_commit_that_changed_an_image(root, capsys):
    assert revision(root) == git(root, "rev-parse", "HEAD^")
    (root / "images/base/Dockerfile").write_text("FROM other\n")
    new = commit(root, "an image")
    assert revision(root) == new
    assert capsys.readouterr().err == ""


def changed(path: Path) -> None:
    path.write_text("changed\n")


DIFFERENT = {
    "changed": lambda root: changed(root / "images/base/Dockerfile"),
    "gone": lambda root: (root / "docker-bake.hcl").unlink(),
    "not to be run any more": lambda root: (root / "images/base/run").chmod(0o644),
    "empty folder": lambda root: (root / "images/base/more").mkdir(),
    "untracked": lambda root: changed(root / "images/base/more"),
    "untracked and not shown": lambda root: (
        changed(root / "images/base/more"),
        git(root, "config", "status.showUntrackedFiles", "no"),
    ),
    "ignored by the user": lambda root: (
        changed(root / "images/base/more"), (root.parent / "mine").write_text("more\n"),
        git(root, "config", "core.excludesFile", str(root.parent / "mine")),
    ),
    "ignored by all": lambda root: (
        (root / "images/base/__pycache__").mkdir(), changed(root / "images/base/__pycache__/x.pyc"),
    ),
    "assumed to be unchanged": lambda root: (
        changed(root / "images/base/Dockerfile"),
        git(root, "update-index", "--assume-unchanged", "images/base/Dockerfile"),
    ),
    "a mode that git is told to ignore": lambda root: (
        git(root, "config", "core.fileMode", "false"), (root / "images/base/run").chmod(0o644),
    ),
    "link elsewhere": lambda root: (
        (root / "images/link").unlink(), (root / "images/link").symlink_to("nowhere"),
    ),
    "a pipe": lambda root: os.mkfifo(root / "images/pipe"),
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_what_no_commit_holds_is_dirty_and_named(root, change, capsys):
    true = git(root, "rev-parse", "HEAD^")
    change(root)
    assert revision(root) == f"{true}-dirty"
    said = capsys.readouterr().err
    assert said.startswith(("note: images/", "note: docker-bake.hcl"))
    assert said.endswith("so the images' revision ends in -dirty\n")
    assert said.count("\n") == 1


def test_what_python_left_is_swept_away(root):
    for name in ("images/__pycache__", "images/base/deep/__pycache__"):
        (root / name).mkdir(parents=True)
        changed(root / name / "x.pyc")
    (root / "images/base/deep/kept").write_text("")
    worktree.sweep(root / "images")
    assert not list(root.rglob("__pycache__"))
    assert (root / "images/base/deep/kept").exists()


def test_a_shallow_clone_knows_no_revision_and_says_so(root, tmp_path, monkeypatch, capsys):
    true = revision(root)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{root}", str(clone))
    use(clone, monkeypatch)
    for _ in range(2):
        assert revision(clone) == "unknown"
    said = capsys.readouterr().err
    assert said.count("this clone is shallow, so the images' revision is unknown") == 1
    git(clone, "fetch", "--quiet", "--unshallow")
    assert revision(clone) == true


def test_a_shallow_clone_that_holds_the_commit_is_as_good_as_a_whole_one(
    root, tmp_path, monkeypatch
):
    true = revision(root)
    for number in range(3):
        (root / "images/base/Dockerfile").write_text(f"FROM {number}\n")
        true = commit(root, "images")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "2", f"file://{root}", str(clone))
    use(clone, monkeypatch)
    assert revision(clone) == true


def test_a_checkout_that_git_does_not_read_is_said_to_be_so(root, monkeypatch, capsys):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert revision(root) == "unknown"
    assert "note: git does not read this checkout (fatal: detected dubious ownership" in (
        capsys.readouterr().err
    )
    shutil.rmtree(root / ".git")
    worktree.note.cache_clear()
    assert revision(root) == "unknown"
    assert capsys.readouterr().err == ""  # no checkout, and so no surprise
