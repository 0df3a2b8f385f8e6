"""Threads follow the container's CPU quota, in every kind of start."""

import json
import os
import subprocess

import fresh
import pytest
from cgroups import expected_threads

COUNTS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
SHOW = f"import json, os; print(json.dumps({{n: os.environ.get(n) for n in {COUNTS!r}}}))"


def test_an_empty_environment_gets_the_quota():
    seen = json.loads(fresh.python(SHOW).stdout)
    assert seen == dict.fromkeys(COUNTS, str(expected_threads()))


@pytest.mark.parametrize("start", (["/usr/bin/python"], ["sh", "-c", 'exec python -c "$1"', "sh"]))
def test_every_name_of_python_gets_the_quota(start):
    command = [*start, "-c", SHOW] if start[0] != "sh" else [*start, SHOW]
    path = os.environ["PATH"]
    done = subprocess.run(
        command, env={"PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == dict.fromkeys(COUNTS, str(expected_threads()))


@pytest.mark.parametrize("name", COUNTS)
def test_a_number_that_the_user_chose_stays(name):
    seen = json.loads(fresh.python(SHOW, **{name: "7"}).stdout)
    assert seen[name] == "7"


def test_fewer_allowed_cpus_mean_fewer_threads():
    one = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        ["/usr/bin/python", "-c", SHOW],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=lambda: os.sched_setaffinity(0, one),
    )
    assert json.loads(done.stdout) == dict.fromkeys(COUNTS, "1")


def test_a_start_with_the_quota_says_nothing():
    done = fresh.python("pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
