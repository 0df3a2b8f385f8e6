"""Two builds in one folder take turns, for they share its contexts and records."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import build, engine, worktree
from scripts.paths import IMAGES, ROOT

BUILD = """
import sys
from pathlib import Path
from scripts import build, engine
engine.ensure = lambda: None
build.LOCK = Path(sys.argv[1])
build._build = lambda *_: print("building", flush=True)
build.build()
"""


def start(lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILD, str(lock)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_build_waits_for_another_one_and_says_so(tmp_path):
    lock = tmp_path / "build.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start(lock)
        assert process.stderr.readline() == "waiting for another build in this folder …\n"
        assert process.poll() is None
    said, more = process.communicate(timeout=30)
    assert (process.returncode, said, more) == (0, "building\n", "")
    # The lock fell with its process, though its file is still there.
    said, more = start(lock).communicate(timeout=30)
    assert (said, more) == ("building\n", "")


def test_a_build_first_removes_what_python_left_in_the_images(tmp_path, monkeypatch):
    swept = []
    monkeypatch.setattr(engine, "ensure", lambda: None)
    monkeypatch.setattr(build, "LOCK", tmp_path / "build.lock")
    monkeypatch.setattr(worktree, "sweep", swept.append)
    monkeypatch.setattr(build, "targets", lambda: pytest.fail("no sweep") if not swept else {})
    monkeypatch.setattr(build, "chosen", lambda names: [])
    monkeypatch.setattr(build.fetch, "run", lambda *_, **__: [])
    monkeypatch.setattr(build, "variables_of", lambda used: {})
    build.build()
    assert swept == [IMAGES]
