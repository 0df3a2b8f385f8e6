"""Which commit the files that lie here are of, as far as images are made from them.

What git prints as changed is not asked for: its settings may hide a file that it ignores or does
not track, and an empty folder it never names. All of them would be copied into an image. So every
file that lies here is held against the commit itself.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from scripts import gittree
from scripts.paths import ROOT


def git(*arguments: str) -> str:
    """What a git command prints.

    :raises subprocess.CalledProcessError: it failed.
    :raises OSError: there is no git.
    """
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, check=True, encoding="utf-8",
        errors="surrogateescape",
    ).stdout


@functools.cache
def note(text: str) -> None:
    """Print a note, once however often the revision is asked for."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def names(sources: Iterable[Path]) -> list[str]:
    """The paths as git calls them."""
    return [path.relative_to(ROOT).as_posix() for path in sources]


def last_change(sources: Iterable[Path], commit: str = "HEAD") -> str:
    """The commit, up to this one, that last changed these paths; empty where none did."""
    return git("rev-list", "-1", commit, "--", *names(sources)).strip()


def cut_off(commit: str) -> bool:
    """Whether a shallow clone's history ends at this commit: then it seems to have made every file
    that may be far older."""
    kept = ROOT / git("rev-parse", "--git-path", "shallow").rstrip("\n")
    return kept.exists() and commit in kept.read_text().split()


def recorded(commit: str, sources: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """Git's mode and ID of each file of a commit below these paths."""
    found = {}
    for line in git("ls-tree", "-r", "-z", commit, "--", *names(sources)).split("\0")[:-1]:
        head, _, path = line.partition("\t")
        mode, _, blob = head.split(" ")
        found[path] = (mode, blob)
    return found


def lying(sources: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """The same of what lies here, with folders that hold nothing."""
    found = {}
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir():
            found |= {f"{name}/{inner}": it for inner, it in gittree.below(path).items()}
        elif it := gittree.entry_of(path):
            found[name] = it
    return found


def revision(sources: Iterable[Path]) -> str:
    """The commit that last changed these files and folders, ``-dirty`` at its end when what lies
    here differs from it. Outside a git checkout that is what a bundle says, or ``unknown``."""
    sources = tuple(sources)
    try:
        if Path(git("rev-parse", "--show-toplevel").rstrip("\n")).resolve() != ROOT:
            return gittree.revision(sources)
        commit = last_change(sources)
        if not commit:
            return "unknown"
        if cut_off(commit):
            note("this clone is shallow, so the images' revision is unknown (git fetch "
                 "--unshallow)")
            return "unknown"
        there = recorded(commit, sources)
    except (OSError, subprocess.CalledProcessError) as error:
        if (ROOT / ".git").exists():
            words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            note(f"git does not read this checkout ({words[0] if words else 'no reason given'}), "
                 "so the images' revision is unknown")
        return gittree.revision(sources)
    here = lying(sources)
    changed = sorted(path for path in there.keys() | here.keys()
                     if there.get(path) != here.get(path))
    if not changed:
        return commit
    more = f" and {len(changed) - 1} more" if changed[1:] else ""
    note(f"{changed[0]}{more}: not as in the commit {commit[:12]}, so the images' revision ends in "
         "-dirty")
    return f"{commit}-dirty"


def sweep(top: Path) -> None:
    """Remove what Python leaves in any folder, which would get into an image."""
    for folder in list(top.rglob("__pycache__")):
        shutil.rmtree(folder, ignore_errors=True)
