"""The rules of the in-container suite for a run with a GPU expected, on a machine without one.

A run of pytest in a copy of the suite with made-up tests; there is no stand-in for a GPU here, and
one for TensorFlow only where a test says so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INSIDE = Path(__file__).resolve().parents[1] / "inside"
PASSES = "def test_it():\n    pass\n"
#: Ways of not doing what a test promises.
EVASIONS = {
    "skip": "import pytest\ndef test_it():\n    pytest.skip('no time')\n",
    "skip mark": "import pytest\n@pytest.mark.skip(reason='no time')\ndef test_it():\n    pass\n",
    "skip in a fixture": "import pytest\n@pytest.fixture\ndef f():\n    pytest.skip('no time')\n"
                         "def test_it(f):\n    pass\n",
    "skip of the file": "import pytest\npytest.skip('no time', allow_module_level=True)\n",
    "missing module": "import pytest\npytest.importorskip('no_time', reason='no time')\n",
    "expected failure": "import pytest\n@pytest.mark.xfail(reason='no time')\n"
                        "def test_it():\n    assert 0\n",
    "unexpected pass": "import pytest\n@pytest.mark.xfail(reason='no time')\n"
                       "def test_it():\n    pass\n",
}


@pytest.fixture
def run(tmp_path):
    """Run pytest on a suite of made-up files; ``run({path: text}, *arguments, **environment)``."""
    root = tmp_path / "suite"
    shutil.copytree(INSIDE, root, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    (root / "gpu" / "conftest.py").unlink()

    def go(files, *arguments, **environment):
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        folders = sorted({name.split("/")[0] for name in files})
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOTHOUSE", "PYTEST"))}
        return subprocess.run(
            [sys.executable, "-B", "-m", "pytest", *arguments, *folders], cwd=root,
            env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )

    return go


#: What a module called tensorflow needs to be asked for GPUs and told about TF32.
TENSORFLOW = """
from types import SimpleNamespace
tf32 = []
config = SimpleNamespace(
    list_physical_devices=lambda kind: [SimpleNamespace(name="GPU:0")],
    experimental=SimpleNamespace(enable_tensor_float_32_execution=tf32.append))
"""


def test_tf32_is_off_for_every_test_on_a_gpu_and_nobody_else_imports_tensorflow(run, tmp_path):
    (tmp_path / "fake/tensorflow").mkdir(parents=True)
    (tmp_path / "fake/tensorflow/__init__.py").write_text(TENSORFLOW)
    path = str(tmp_path / "fake")
    using = "import tensorflow\ndef test_it():\n    assert tensorflow.tf32 == [False]\n"
    done = run({"tensorflow/test_one.py": using}, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "suite/tensorflow/test_one.py").unlink()
    free = "import sys\ndef test_it():\n    assert 'tensorflow' not in sys.modules\n"
    done = run({"base/test_two.py": free}, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout


def test_a_suite_without_gpu_tests_is_as_ever(run):
    done = run({"base/test_one.py": PASSES + EVASIONS["skip"].replace("test_it", "test_two")})
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert "GPU" not in done.stdout


def test_gpu_tests_without_a_gpu_are_named_as_not_run_with_the_cause(run):
    done = run({"base/test_one.py": PASSES, "gpu/test_two.py": PASSES})
    assert done.returncode == 0, done.stdout
    assert "NOT RUN gpu/test_two.py::test_it" in done.stdout
    assert "1 tests not run, no GPU: " in done.stdout
    assert "1 passed, 1 deselected" in done.stdout


def test_a_missing_gpu_fails_the_run_even_where_all_tests_pass(run):
    # gpu/conftest.py, which fails each test, is not in this copy: the rule holds without it.
    done = run({"base/test_one.py": PASSES, "gpu/test_two.py": PASSES}, HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode == 1, done.stdout
    assert "2 passed" in done.stdout
    assert "FAILED no GPU: TensorFlow is not installed. Fix: " in done.stdout


@pytest.mark.parametrize("how", EVASIONS)
def test_a_test_that_evades_fails_where_a_gpu_is_expected(how, run):
    done = run({"base/test_one.py": EVASIONS[how]}, HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode in (1, 2), done.stdout
    assert "skipped, though a GPU is expected: " in done.stdout
    assert "no time" in done.stdout
    assert not {" skipped", " xfailed", " xpassed"} & {
        word.rstrip(",0123456789") for word in done.stdout.splitlines()[-1].split(" in ")[0]}
    assert run({"base/test_one.py": EVASIONS[how]}, HOTHOUSE_EXPECT_GPU="0").returncode in (0, 5)


def test_a_run_without_the_gpu_folder_is_refused(run):
    done = run({"base/test_one.py": PASSES}, HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode == 1, done.stdout
    assert "FAILED no test of the folder gpu was asked for" in done.stdout


def test_a_run_of_a_part_is_refused(run):
    two = PASSES + PASSES.replace("test_it", "test_two")
    done = run({"gpu/test_one.py": two}, "-k", "test_two", HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode == 1, done.stdout
    assert "FAILED 1 tests were deselected" in done.stdout


def test_nothing_collected_is_refused(run):
    done = run({"gpu/notes.txt": ""}, HOTHOUSE_EXPECT_GPU="1")
    assert done.returncode not in (0, 5), done.stdout


def test_a_misspelt_expectation_is_refused(run):
    done = run({"base/test_one.py": PASSES}, HOTHOUSE_EXPECT_GPU="yes")
    assert done.returncode not in (0, 5)
    assert "HOTHOUSE_EXPECT_GPU is 'yes', not 0 or 1" in done.stdout + done.stderr
