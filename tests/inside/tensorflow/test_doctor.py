"""The command hothouse as a user types it, in this very container."""

import json
import os
import re
import subprocess

import pytest


def hothouse(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as the container's own environment has it, and one more variable or so."""
    return subprocess.run(
        ["hothouse", *words], env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=LIMIT, check=False,
    )


def has_gpu() -> bool:
    """Whether this container was given a GPU, told without the code under test."""
    # A pod may have /dev/nvidia3 alone.
    return any(re.fullmatch(r"nvidia\d+|dxg", name) for name in os.listdir("/dev"))


def is_cuda() -> bool:
    return os.environ.get("HOTHOUSE_VARIANT", "cpu") == "cuda"


# Seconds. On a GPU the doctor's whole run times two devices, and a first start compiles.
LIMIT = 800 if has_gpu() else 110
pytestmark = pytest.mark.timeout(900 if has_gpu() else 120)


@pytest.fixture(scope="module")
def full() -> subprocess.CompletedProcess[str]:
    """One whole run with all works."""
    return hothouse("doctor", "--json")


def test_the_quick_report_is_one_table():
    done = hothouse("doctor", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    table = done.stdout.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 100
    names = [line.split("  ")[0] for line in table if not line.startswith(" ")]
    for name in ("image", "versions", "driver", "libcuda", "device nodes", "visibility",
                 "/dev/shm", "memory", "disk", "CPU"):
        assert names.count(name) == 1, name
    # Aligned: each row's status stands in one column.
    place = table[0].index(" ok ") + 1
    assert {line[place:place + 4].strip() for line in table} <= {"ok", "info", "warn", "fail", ""}


def test_the_report_names_this_image_and_its_versions():
    import keras
    import tensorflow as tf

    report = json.loads(hothouse("doctor", "--quick", "--json").stdout)
    rows = {row["name"]: row for row in report["rows"]}
    assert ("CUDA image" if is_cuda() else "CPU image") in rows["image"]["found"]
    assert tf.__version__ in rows["image"]["found"]
    assert f"Keras {keras.__version__}" in rows["versions"]["found"]


def test_all_cuda_libraries_of_a_cuda_image_load():
    report = json.loads(hothouse("doctor", "--quick", "--json").stdout)
    found = {row["name"]: row for row in report["rows"] if row["name"].startswith("lib")}
    found.pop("libcuda")
    assert len(found) == (11 if is_cuda() else 0)
    assert {row["status"] for row in found.values()} <= {"ok"}


def test_each_work_is_timed_and_right(full):
    assert full.returncode == 0, full.stdout + full.stderr
    report = json.loads(full.stdout)
    assert report["ok"] is True
    works = report["measured"]["CPU"]
    assert set(works) == {"start", "matmul", "convolution", "XLA step", "training"}
    for name, work in works.items():
        assert work["seconds"] > 0
        assert not set(work) & {"error", "wrong"}
        if name != "start":
            assert work["rate"] > 0
    # The time and the rate are of the same work: 2 · 2048³ operations.
    product = works["matmul"]
    assert product["rate"] * product["seconds"] * 1e9 == pytest.approx(2 * 2048**3)
    assert works["training"]["losses"][-1] < 0.8 * works["training"]["losses"][0]


def test_every_gpu_that_was_given_is_timed(full):
    report = json.loads(full.stdout)
    gpus = [name for name in report["measured"] if name.startswith("GPU")]
    assert bool(gpus) == (is_cuda() and has_gpu())
    for name in gpus:
        for work in ("matmul", "convolution", "XLA step", "training"):
            assert report["measured"][name][work]["ratio"] > 0


def test_a_healthy_image_prints_no_line_of_tensorflow(full):
    lines = [line for line in full.stderr.splitlines() if not line.startswith("timing TensorFlow")]
    assert lines == []
    assert not any(json.loads(full.stdout)["said"].values())


def test_what_is_measured_is_what_tensorflow_really_does():
    # A library that Python finds before TensorFlow's: the doctor must notice and show its line.
    broken = "/tmp/hothouse-test-broken"
    os.makedirs(f"{broken}/tensorflow", exist_ok=True)
    with open(f"{broken}/tensorflow/__init__.py", "w") as file:
        file.write("raise ImportError('no such thing here')\n")
    done = hothouse("doctor", PYTHONPATH=broken)
    assert done.returncode == 1
    assert "ImportError: no such thing here" in done.stderr
    assert "error: TensorFlow could not compute on the CPU: ImportError: no such" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_limit_that_is_too_short_is_a_failure_with_its_fix():
    done = hothouse("doctor", "--limit", "1")
    assert done.returncode == 1
    assert "error: TensorFlow did not end on the CPU within 1 s\n  fix: run it again with" in (
        done.stdout)


def test_a_gpu_that_is_expected_and_not_there_is_a_failure():
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if is_cuda() and has_gpu() else {}
    done = hothouse("doctor", "--quick", "--expect-gpu", **hidden)
    assert done.returncode == 1
    assert done.stdout.count("error: ") == 1
    assert done.stdout.count("\n  fix: ") == done.stdout.count("error: ") + done.stdout.count(
        "warning: ")


def test_the_cpu_image_says_so_when_a_gpu_is_asked_for():
    done = hothouse("doctor", "--quick", NVIDIA_VISIBLE_DEVICES="all")
    said = "error: this is the CPU image, and a GPU was asked for: NVIDIA_VISIBLE_DEVICES=all"
    assert (said in done.stdout) != is_cuda()
    if not is_cuda():
        assert done.returncode == 1


def test_gpu_prints_one_line_at_once():
    # Processor time, of its own processes too: the machine may be busy with other things.
    spans = []
    for _ in range(3):
        before = os.times()
        done = hothouse("gpu")
        after = os.times()
        spans.append(after.children_user + after.children_system
                     - before.children_user - before.children_system)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert done.returncode == (0 if not is_cuda() or has_gpu() else 1)
    if not has_gpu():
        assert min(spans) < 0.3
    answer = json.loads(hothouse("gpu", "--json").stdout)
    assert answer["line"] == done.stdout.strip()
    assert set(answer) == {"ok", "line", "cause", "fix", "key"}


def test_gpu_does_not_import_tensorflow():
    code = (
        "import sys, hothouse.gpu; hothouse.gpu.quick(); "
        "print([n for n in ('tensorflow', 'numpy', 'keras') if n in sys.modules])"
    )
    done = subprocess.run(["python", "-c", code], capture_output=True, text=True, timeout=LIMIT,
                          check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("words", "said"), [
    ((), "error: no command was given. Fix: hothouse doctor"),
    (("docter",), "error: there is no command 'docter'. Fix: hothouse doctor, or hothouse gpu"),
    (("doctor", "--fast"), "error: hothouse doctor does not take '--fast'. Fix: leave it out"),
    (("doctor", "quick"), "error: hothouse doctor does not take 'quick'. Fix: leave it out"),
    (("gpu", "--quick"), "error: hothouse gpu does not take '--quick'. Fix: leave it out"),
    (("doctor", "--limit"), "error: --limit takes whole seconds, not ''. Fix: --limit 600"),
    (("doctor", "--limit", "x"), "error: --limit takes whole seconds, not 'x'. Fix: --limit 600"),
    (("doctor", "--json=1"), "error: hothouse doctor does not take '--json'. Fix: leave it out"),
])
def test_a_wrong_command_line_is_one_error_after_the_usage(words, said):
    done = hothouse(*words)
    assert (done.returncode, done.stdout) == (2, "")
    *usage, last = done.stderr.splitlines()
    assert usage[0].startswith("usage: hothouse doctor")
    assert last == said


def test_help_is_no_error():
    done = hothouse("--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_it_works_with_an_empty_environment():
    done = subprocess.run(["/usr/local/bin/hothouse", "doctor", "--quick"], env={},
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
