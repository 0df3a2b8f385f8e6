"""The image's doctor on machines that a folder stands for: what no container can be made to show,
such as the host's driver in /proc. It tests our reading; it never counts as GPU evidence."""

import io
import re
import time

import pytest

from scripts.paths import ROOT
from scripts.shared import findings, load, machine, nvidia, rows

gpu, noise, cli, measure = (load(name) for name in ("gpu", "noise", "cli", "measure"))
checks, installed, probes = (load(name) for name in ("checks", "installed", "probes"))
BUILT = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
GONE = {"loads": False,
        "error": "libcuda.so.1: cannot open shared object file: No such file or directory"}


def facts(root, variant="cuda", cuda=None, nvml=None, **environ):
    seen = machine.Machine(root, environ)
    return gpu.Facts(seen, variant, 12, BUILT, cuda or GONE, nvml or {"loads": False},
                     seen.gpu_nodes(), built_cuda=12050)


def write(root, name, text=""):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_driver_on_the_host_and_nothing_in_the_container(tmp_path):
    write(tmp_path, "proc/driver/nvidia/version", CLOSED)
    verdict = gpu.judge(facts(tmp_path))
    assert (verdict.state, verdict.key) == ("broken", "not-given")
    line = gpu.line(facts(tmp_path), verdict)["line"]
    assert line.startswith("no GPU: the host has the NVIDIA driver 550.54.15, but this container")
    assert ". Fix: start the container anew with docker run --gpus all" in line


def test_a_container_that_was_given_no_gpu_on_purpose(tmp_path):
    write(tmp_path, "proc/driver/nvidia/version", CLOSED)
    verdict = gpu.judge(facts(tmp_path, NVIDIA_VISIBLE_DEVICES="none"))
    assert (verdict.state, verdict.key) == ("hidden", "hidden")


def test_a_host_with_a_driver_is_no_fault_of_a_cpu_image(tmp_path):
    write(tmp_path, "proc/driver/nvidia/version", CLOSED)
    verdict = gpu.judge(facts(tmp_path, "cpu"))
    assert (verdict.state, verdict.key) == ("none", "")
    assert gpu.line(facts(tmp_path, "cpu"), verdict)["ok"] is True
    assert gpu.judge(facts(tmp_path, "cpu"), expected=True).key == "cpu-image"


def test_the_node_of_wsl2_without_its_libraries(tmp_path):
    write(tmp_path, "dev/dxg")
    assert gpu.judge(facts(tmp_path)).key == "toolkit-missing"


def test_the_node_of_wsl2_is_enough(tmp_path):
    write(tmp_path, "dev/dxg")
    cuda = {"loads": True, "code": 999, "devices": []}
    assert gpu.judge(facts(tmp_path, cuda=cuda)).key == "cuda-unknown"


def test_an_image_without_tensorflow_says_so(tmp_path):
    assert gpu.judge(facts(tmp_path, "")).key == "no-tensorflow"


@pytest.mark.parametrize(("limit", "wanted"), [
    ("536870912\n", 536870912), ("max\n", None), ("9223372036854771712\n", None), ("", None),
])
def test_memory_limits_of_both_versions_of_cgroups(tmp_path, limit, wanted):
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        folder = tmp_path / name.replace("/", "-")
        write(folder, f"sys/fs/cgroup/{name}", limit)
        assert machine.Machine(folder).memory_limit() == wanted


@pytest.mark.parametrize(("capability", "wanted"), [
    ((5, 2), "old"), ((6, 0), "native"), ((6, 1), "native"), ((7, 5), "native"),
    ((8, 0), "native"), ((8, 6), "native"), ((8, 9), "native"), ((9, 0), "mixed"),
    ((10, 0), "ptx"), ((12, 0), "ptx"), ((0, 0), "unknown"),
])
def test_capabilities_against_a_build(capability, wanted):
    assert nvidia.coverage(capability, BUILT) == wanted


def seen_by_cuda(*capabilities, cuda=12040):
    """A driver's answer with a GPU of each capability."""
    devices = [{"index": index, "name": "NVIDIA X", "capability": list(capability), "code": 0}
               for index, capability in enumerate(capabilities)]
    return {"loads": True, "path": "libcuda.so.1", "code": 0, "cuda": cuda, "devices": devices}


@pytest.mark.parametrize(("capability", "cuda", "key"), [
    ((9, 0), 12040, "driver-ptx"), ((9, 0), 12050, ""), ((9, 0), 13000, ""), ((9, 0), 0, ""),
    ((12, 0), 12040, "driver-ptx"), ((8, 9), 12040, ""), ((8, 9), 12000, ""),
])
def test_ptx_needs_a_driver_of_the_builds_own_cuda(tmp_path, capability, cuda, key):
    here = facts(tmp_path, cuda=seen_by_cuda(capability, cuda=cuda), nvml={"driver": "550.54.15"})
    verdict = gpu.judge(here)
    assert (verdict.state, verdict.key) == ("broken" if key else "works", key)
    if key:
        assert "550.54.15 knows CUDA up to 12.4, and" in gpu.line(here, verdict)["cause"]
        assert "to 555.42.02 or newer" in gpu.line(here, verdict)["fix"]


def test_a_gpu_that_needs_no_ptx_is_used_beside_one_that_cannot_have_it(tmp_path):
    here = facts(tmp_path, cuda=seen_by_cuda((9, 0), (8, 0)))
    assert gpu.judge(here).state == "works"
    assert [bool(gpu.device_problem(here, device)) for device in here.devices] == [True, False]


def test_a_driver_that_hangs_takes_no_longer_than_one_limit(tmp_path, monkeypatch):
    hangs = tmp_path / "hangs.py"
    hangs.write_text("import signal; signal.pause()\n")
    monkeypatch.setattr(probes, "SCRIPT", str(hangs))
    began = time.monotonic()
    found = gpu.look(machine.Machine(tmp_path, {"CUDA_VISIBLE_DEVICES": "0"}), limit=1)
    assert time.monotonic() - began < 1.9
    assert found.cuda["wrong"] == found.nvml["wrong"] == "no answer within 1 s"


def test_the_notebook_waits_longer_than_hothouse_gpu_does():
    text = (ROOT / "images/jupyter/rootfs/etc/jupyter/jupyter_server_config.py").read_text()
    # Eight GPUs of two seconds each fit; processes that the kernel does not let go take a few more.
    assert 8 * 2 < gpu.QUICK_LIMIT < int(re.search(r"^GPU_LIMIT = (\d+)", text, re.M)[1]) - 10


def test_a_gpu_that_cannot_be_asked_is_a_row_with_its_code(tmp_path):
    row = checks.gpu(facts(tmp_path), {"index": 1, "code": 999})
    assert (row.name, row.key) == ("GPU 1", "device-context")
    assert "999 (CUDA_ERROR_UNKNOWN)" in row.cause


def test_the_cuda_of_the_build_is_read_as_the_driver_counts(monkeypatch):
    for said, number in (("12.5.1", 12050), ("12.9", 12090), ("", 0)):
        monkeypatch.setattr(installed, "build_info", lambda said=said: {"cuda_version": said})
        assert installed.built_cuda() == number


@pytest.mark.parametrize(("value", "status", "key"), [
    ("MIG-a,MIG-b", "warn", "visible-mig"), ("MIG-a", "info", ""),
    ("0,7", "fail", "visible-absent"),
])
def test_a_second_mig_slice_is_no_gpu_that_is_absent(tmp_path, value, status, key):
    here = facts(tmp_path, cuda=seen_by_cuda((8, 0)), CUDA_VISIBLE_DEVICES=value)
    (row,) = checks.visibility(here)
    assert (row.status, row.key) == (status, key)
    assert key != "visible-mig" or row.cause.endswith("; MIG-b is not used")


def test_a_build_without_ptx_does_not_run_on_what_is_newer():
    assert nvidia.coverage((9, 0), ["sm_80"]) == "old"
    assert nvidia.coverage((9, 0), ["sm_80", "sm_90a"]) == "native"


@pytest.mark.parametrize(("capability", "key", "limit"), [
    ((8, 9), "", measure.LIMIT), ((9, 0), "capability-mixed", measure.LIMIT),
    ((10, 0), "capability-ptx", measure.LIMIT_PTX),
])
def test_hopper_compiles_for_seconds_and_what_is_newer_for_minutes(
    tmp_path, monkeypatch, capability, key, limit
):
    here = facts(tmp_path, cuda=seen_by_cuda(capability, cuda=12050))
    (device,) = here.devices
    assert checks.gpu(here, device | {"memory": 1 << 30}).key == key
    limits = []
    monkeypatch.setattr(measure, "start", lambda kind, index, limit, log: (
        limits.append(limit), measure.Child())[1])
    measure.run(here, gpu.judge(here), 0, io.StringIO())
    assert limits == [measure.LIMIT, limit]


def test_versions_are_written_as_nvidia_writes_them():
    assert nvidia.show((525, 60, 13)) == "525.60.13"
    assert nvidia.show((580, 65, 6)) == "580.65.06"
    assert nvidia.below_floor("525.60.13", 12) is None
    assert nvidia.below_floor("470.57.02", 12) == (525, 60, 13)
    assert nvidia.below_floor("", 12) is None


@pytest.mark.parametrize("line", [
    "2026-11-21 09:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are "
    "on. You may see slightly different numerical results",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:1753232013.68 24341 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting"
    " to register factory for plugin cuDNN when one has already been registered",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with "
    "the appropriate compiler flags.",
    "W0000 00:00:1753232013.68 24341 cuda_executor.cc:1811] could not open file to read NUMA node: "
    "/sys/bus/pci/devices/0000:01:00.0/numa_node",
    "Your kernel may have been built without NUMA support.",
    "W0000 00:00:1753232013.68 24341 gpu_timer.cc:82] Delay kernel timed out: measured time has "
    "sub-optimal accuracy. There may be a missing warmup execution, please investigate in Nsight "
    "Systems.",
    "W0000 00:00:1753232013.68 24341 service.cc:163]   StreamExecutor [0]: NVIDIA H200, Compute "
    "Capability 9.0",
    "",
])
def test_harmless_lines_are_dropped_everywhere(line):
    assert not noise.real(line, gpu=True)
    assert not noise.real(line, gpu=False)


@pytest.mark.parametrize("line", [
    "2026-11-21 09:00:00.1: E external/local_xla/xla/stream_executor/cuda/cuda_platform.cc:51] "
    "failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)",
])
def test_a_failed_cuinit_is_noise_only_where_no_gpu_was_to_be_used(line):
    assert not noise.real(line, gpu=False)
    assert noise.real(line, gpu=True)


@pytest.mark.parametrize("line", [
    "2026-11-21 09:00:00.1: W tensorflow/core/framework/op_kernel.cc:1842] OOM when allocating",
    "E0000 00:00:1.2 3 cuda_executor.cc:1] CUDA_ERROR_ILLEGAL_ADDRESS",
    "Traceback (most recent call last):", "Killed", "ImportError: no such thing",
    "2026-11-21 09:00:00.1: W tensorflow/core/common_runtime/gpu/gpu_device.cc:2] Cannot dlopen "
    "some GPU libraries.",
])
def test_real_lines_are_never_hidden(line):
    assert noise.real(line, gpu=True)
    assert noise.real(line, gpu=False)


def test_every_template_can_be_filled_and_says_both():
    for key, finding in findings.FINDINGS.items():
        names = set(re.findall(r"\{(\w+)", finding.row + finding.cause + finding.fix))
        row = findings.row(key, "x", **dict.fromkeys(names, 7))
        assert row.cause, key
        assert row.fix, key
        assert "{" not in row.cause + row.fix, key
        assert not row.cause.endswith("."), key
        assert row.status in (rows.FAIL, rows.WARN, rows.INFO)


def test_every_code_of_cuinit_leads_to_a_finding():
    assert set(nvidia.CU_FINDINGS.values()) <= set(findings.FINDINGS)
    assert set(nvidia.CU_FINDINGS) <= set(nvidia.CU_NAMES)


def test_a_table_wraps_and_stays_aligned():
    text = rows.table([rows.Row("a", "ok", "word " * 40), rows.Row("longer name", "fail", "x")])
    lines = text.splitlines()
    assert max(map(len, lines)) <= rows.WIDTH
    assert {line.find("word") for line in lines[:-1]} == {19}
    assert lines[-1] == "longer name  fail  x"


def test_failures_come_before_warnings_and_a_failure_sets_the_status():
    found = [rows.Row("a", "warn", "", "low", "raise it"), rows.Row("b", "fail", "", "off", "on")]
    assert rows.speech(found) == "error: off\n  fix: on\nwarning: low\n  fix: raise it"
    assert (rows.code(found), rows.code(found[:1])) == (1, 0)


def test_options_are_read_in_both_forms():
    assert cli.parse(["doctor", "--limit=7", "--quick"])[1] == {
        "quick": True, "json": False, "expect-gpu": False, "limit": 7.0}
    assert cli.parse(["doctor", "--limit", "7"])[1]["limit"] == 7.0
    assert cli.parse(["gpu", "--limit=7"])[1] == {"json": False, "limit": 7.0}
    with pytest.raises(cli.Wrong):
        cli.parse(["doctor", "--limit", "0"])


WORK = {"first": 1.0, "seconds": 0.5, "rate": 50.0, "unit": "GFLOP/s"}


def judged(label="GPU 0", works=None, **child):
    begun = {"start": {"seconds": 2.0, "gpus": 1}}
    seen = measure.Child(begun | (works or {}), **child)
    cpu = {name: {**WORK, "rate": 10.0} for name in measure.WORKS}
    return measure.judge(label, seen, 300, cpu if label != "CPU" else {})


def test_a_gpus_numbers_are_shown_with_the_ratio_to_the_cpu():
    found = judged(works={name: dict(WORK) for name in measure.WORKS})
    assert {row.status for row in found} == {"ok"}
    assert found[1].found == "50 GFLOP/s, first in 1.00 s; 5 times the CPU"
    assert [row.name for row in found] == ["GPU 0 start", *(f"GPU 0 {n}" for n in measure.WORKS)]


@pytest.mark.parametrize(("works", "child", "key"), [
    ({}, {"status": -11}, "work-killed"), ({}, {"slow": True}, "work-slow"),
    ({}, {"status": 1, "said": ["ImportError: x"]}, "work-failed"),
    ({"matmul": {"wrong": "off by 0.5"}}, {"slow": True}, "work-wrong"),
    ({"matmul": {"error": "InternalError: no ptxas"}}, {"slow": True}, "work-failed"),
    ({"start": {"seconds": 1.0, "gpus": 0}}, {}, "work-no-gpu"),
    ({name: dict(WORK) for name in measure.WORKS}, {"status": -6}, "work-killed"),
])
def test_what_goes_wrong_while_computing_is_a_failure(works, child, key):
    found = judged(works=works, **child)
    assert key in [row.key for row in found if row.status == "fail"]


def test_a_gpu_is_measured_under_the_number_that_tensorflow_gives_it(tmp_path, monkeypatch):
    # TensorFlow leaves out what is older than its build, and counts what only lacks a driver.
    here = facts(tmp_path, cuda=seen_by_cuda((5, 2), (9, 0), (8, 0)))
    asked = []
    monkeypatch.setattr(measure, "start", lambda kind, index, *_: (
        asked.append((kind, index)), measure.Child())[1])
    measure.run(here, gpu.judge(here), 0, io.StringIO())
    assert asked == [("cpu", 0), ("gpu", 1)]


def test_the_cpu_is_measured_without_a_gpu_in_sight(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [measure.environment(kind)["CUDA_VISIBLE_DEVICES"] for kind in ("cpu", "gpu")] == [
        "-1", "0"]


def test_numbers_have_three_figures():
    assert [measure.figures(x) for x in (0.01234, 1.005, 12.345, 123.4, 54321.0)] == [
        "0.0123", "1", "12.3", "123", "54,300"]
