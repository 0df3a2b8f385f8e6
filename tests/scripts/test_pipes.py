"""`scripts/inv … | head`: a list may be read in part, but a task that was cut off is not done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.paths import ROOT

TASKS = '''
from invoke import task


@task
def many(_):
    """Print more than a pipe holds."""
    for number in range(100_000):
        print(number)


@task
def few(_):
    """Print what a buffer holds."""
    print("done")
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("__init__.py", "cli.py", "paths.py", "printable.py", "problem.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def cut_off(root: Path, *words: str) -> tuple[int, str]:
    """The status and the errors of a command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "scripts.cli", *words], cwd=root, stdout=writing,
                          stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize("task", ["many", "few"])
def test_a_task_that_was_cut_off_is_not_done(root, task):
    assert cut_off(root, task) == (141, "")


@pytest.mark.parametrize("words", [["--list"], ["--help"], ["--help", "many"], [], ["--version"]])
def test_a_list_that_was_cut_off_is_as_good_as_read(root, words):
    assert cut_off(root, *words) == (0, "")


def test_a_mistake_stays_one_where_nobody_reads(root):
    status, said = cut_off(root, "mani")
    assert status == 1
    assert said.startswith("error: ")
