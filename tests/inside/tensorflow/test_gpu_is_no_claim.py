"""Without a GPU no run can say that the GPU tests passed; a hidden one counts as none."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *arguments],
        cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        capture_output=True, text=True, timeout=110,
    )


def test_a_gpu_that_is_expected_and_missing_fails_every_test_with_the_cause():
    done = _run("gpu", HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode == 1, done.stdout
    last = done.stdout.splitlines()[-1]
    assert " passed" not in last and " skipped" not in last and " deselected" not in last
    assert " errors in " in last
    causes = {line for line in done.stdout.splitlines() if line.startswith("no GPU: ")}
    assert len(causes) == 1, causes
    assert ". Fix: " in causes.pop()


def test_without_one_that_is_expected_each_test_is_named_as_not_run():
    done = _run("gpu", HOTHOUSE_EXPECT_GPU="")
    named = [line for line in done.stdout.splitlines() if line.startswith("NOT RUN gpu/")]
    assert len(named) > 30
    assert f"{len(named)} tests not run, no GPU: " in done.stdout
    assert " passed" not in done.stdout.splitlines()[-1]
    assert done.returncode == 5, done.stdout
