"""`inv doctor` on machines that a folder and a few scripts stand for.

These stand-ins test our reading of a machine; they never count as evidence that a GPU works.
"""

import json
import os
import shutil
import subprocess

import pytest
from stages import CLOSED, NEW, OLD, SPEC, Stage

from scripts import doctor, engine, host_gpu
from scripts.host_findings import FINDINGS
from scripts.paths import ROOT
from scripts.shared import machine, nvidia, rows

OPEN = ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
        "(dvs-builder@U22)  Sun Jul 27\nGCC version:  gcc version 12.3.0\n")


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def keys(found: dict[str, rows.Row]) -> list[str]:
    return [row.key for row in found.values() if row.key]


def test_a_host_with_the_toolkit_can_give_a_gpu(stage):
    stage.driver()
    stage.program(host_gpu.HOOK)
    stage.program(host_gpu.CTK)
    found = stage.look(OLD)
    assert keys(found) == []
    assert found["driver"].found == (
        "550.54.15, NVIDIA A100-SXM4-40GB; CUDA 12 needs 525.60.13 or newer")
    assert {row.status for row in found.values()} == {"ok", "info"}


def test_a_host_with_cdi_alone_can_give_a_gpu(stage):
    stage.driver()
    found = stage.look(NEW)
    assert keys(found) == []
    assert found["CDI"].status == "ok"
    assert "nvidia.com/gpu=all" in found["CDI"].found


def test_a_cdi_specification_counts_where_the_engine_does_not_list_devices(stage):
    stage.driver()
    stage.write("/etc/cdi/nvidia.yaml", SPEC)
    found = stage.look({**OLD, "CDISpecDirs": ["/etc/cdi"]})
    assert (keys(found), found["CDI"].status) == ([], "ok")
    assert "/etc/cdi/nvidia.yaml" in found["CDI"].found


@pytest.mark.parametrize(("prepare", "info", "wanted"), [
    (lambda s: None, OLD, ["host-no-gpu"]),
    (lambda s: s.pci(), OLD, ["host-no-driver", "toolkit-absent"]),
    (lambda s: s.driver(), OLD, ["toolkit-absent"]),
    (lambda s: (s.driver(), s.program(host_gpu.CTK)), OLD, ["toolkit-hook"]),
    (lambda s: (s.driver(), s.write("/etc/cdi/nvidia.yaml", SPEC)), OLD, ["cdi-off"]),
    (lambda s: (s.driver(), s.write("/etc/cdi/nvidia.yaml", SPEC.replace("550", "545"))), NEW,
     ["cdi-stale"]),
    (lambda s: (s.driver(), s.program(host_gpu.HOOK), (s.root / "dev/nvidia-uvm").unlink()), OLD,
     ["host-nodes"]),
    (lambda s: s.write("/proc/version", "Linux version 5.15.1-microsoft-standard-WSL2"), OLD,
     ["host-wsl", "toolkit-absent"]),
])
def test_what_is_wrong_is_named(stage, prepare, info, wanted):
    prepare(stage)
    found = stage.look(info)
    assert keys(found) == wanted
    for row in found.values():
        assert not row.key or (row.cause and row.fix)


def test_a_host_may_have_another_gpu_than_the_first(stage):
    stage.driver()
    stage.program(host_gpu.HOOK)
    (stage.root / "dev/nvidia0").rename(stage.root / "dev/nvidia3")
    assert keys(stage.look(OLD)) == []
    (stage.root / "dev/nvidia3").unlink()
    assert "/dev/nvidia0 is missing" in stage.look(OLD)["device nodes"].cause


def test_nouveau_is_named(stage):
    stage.pci()
    stage.write("/sys/module/nouveau/version")
    assert "nouveau" in stage.look(OLD)["driver"].cause


@pytest.mark.parametrize(("said", "wanted"), [
    ("NVIDIA T4, 470.57.02", ["host-driver-old"]), ("NVIDIA T4, 525.60.13", []),
    ("NVIDIA L4, 550.54.15, 8.9", []), ("NVIDIA H200, 550.54.15, 9.0", ["host-driver-ptx"]),
    ("NVIDIA H200, 555.42.02, 9.0", []), ("NVIDIA H200, 550.54.15, [N/A]", []),
    ("NVIDIA L4, 550.54.15, 8.9\nNVIDIA H200, 550.54.15, 9.0", ["host-driver-ptx"]),
])
def test_the_hosts_driver_is_compared_with_the_floor(stage, monkeypatch, said, wanted):
    stage.driver()
    stage.program(host_gpu.HOOK)
    monkeypatch.setenv("STANDIN_SMI", said)
    assert keys(stage.look(OLD)) == wanted


def test_an_old_nvidia_smi_is_asked_without_the_compute_capability(stage):
    stage.driver()
    stage.program(host_gpu.HOOK)
    (stage.bin / "nvidia-smi").write_text(
        "#!/bin/sh\ncase $1 in *compute_cap*)\n"
        "echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2;; esac\n"
        "echo 'Tesla K80, 470.57.02'\n")
    assert keys(stage.look(OLD)) == ["host-driver-old"]


def test_an_nvidia_smi_that_fails_is_quoted(stage, monkeypatch):
    stage.driver()
    stage.program(host_gpu.HOOK)
    monkeypatch.setenv("STANDIN_SMI", "Failed to initialize NVML: Driver/library version mismatch")
    monkeypatch.setenv("STANDIN_SMI_STATUS", "18")
    found = stage.look(OLD)
    assert keys(found) == ["host-smi-failed"]
    assert "Driver/library version mismatch" in found["driver"].cause


def test_an_engine_elsewhere_is_not_judged_by_this_machine(stage):
    assert keys(stage.look(OLD, "tcp://gpu.example:2376")) == ["host-elsewhere"]


@pytest.mark.parametrize(("text", "version"), [
    (CLOSED, "550.54.15"), (OPEN, "580.65.06"), ("", ""), ("nonsense\n", ""),
])
def test_the_kernel_modules_version_is_read(text, version):
    assert nvidia.driver_of_kernel(text) == version


def healthy() -> dict:
    return {
        "ServerVersion": "26.1.5+dfsg1", "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "0.13.1+ds1"},
                                   {"Name": "compose", "Version": "2.26.1-4"}]},
    }


def test_each_part_of_the_engine_is_judged_by_itself():
    info = healthy()
    assert {row.status for row in doctor.engine_rows(engine.Answer(info))} == {"ok"}
    other = doctor.engine_rows(engine.Answer({**info, "Architecture": "aarch64"}))
    assert [(row.name, row.status) for row in other] == [
        ("engine", "fail"), ("buildx", "ok"), ("compose", "ok"), ("image store", "ok")]
    info["ServerVersion"] = "20.10.24"
    info["ClientInfo"]["Plugins"] = [{"Name": "buildx", "Version": "0.10.2"}]
    info["DriverStatus"] = [["Backing Filesystem", "extfs"]]
    found = doctor.engine_rows(engine.Answer(info))
    assert [(row.name, row.status) for row in found] == [
        ("engine", "fail"), ("buildx", "fail"), ("compose", "fail"), ("image store", "fail")]
    assert found[1].cause == "docker buildx is 0.10.2; at least 0.12.0 is needed"
    assert "missing" in found[2].cause
    assert "containerd" in found[3].cause


def test_an_engine_that_does_not_answer_is_one_failure():
    found = doctor.engine_rows(engine.Answer(None, "there is no docker command"))
    assert [(row.name, row.status) for row in found] == [("engine", "fail")]
    assert "scripts/inv up" in found[0].fix


def test_the_space_that_is_left_is_compared_with_the_need(monkeypatch):
    def left(count):
        monkeypatch.setattr(machine.Machine, "space", lambda *_: (1 << 40, count))
        return doctor.disk({}, doctor.needed([], gpu=False))

    assert left(100 << 30).status == "ok"
    assert (left(2 << 30).status, left(2 << 30).key) == ("warn", "host-space")
    assert (left(100 << 20).status, left(100 << 20).key) == ("fail", "host-full")
    assert doctor.needed(["hothouse/base:latest"], True) == doctor.SPACE_NEEDED_CUDA
    assert doctor.needed(["hothouse/jupyter:cuda"], True) < doctor.SPACE_NEEDED


def inv(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "scripts/inv"), "doctor", *words], capture_output=True,
                          text=True, timeout=120, check=False, env={**os.environ, **environment})


def test_the_command_prints_a_table_and_the_same_as_json(tmp_path):
    # No docker on the PATH and none installed or started by looking.
    for name in ("python3", "git", "sh", "dirname", "readlink", "cmp", "cat"):
        if path := shutil.which(name):
            (tmp_path / name).symlink_to(path)
    done = inv("--json", PATH=str(tmp_path), DOCKER_HOST="")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (1, False)
    assert report["rows"][0]["name"] == "engine"
    assert report["rows"][0]["cause"] == (
        "no Docker engine answers: there is no docker command")
    assert done.stderr == ""
    table = inv(PATH=str(tmp_path), DOCKER_HOST="")
    assert table.returncode == 1
    assert "error: no Docker engine answers: there is no docker command\n  fix: scripts/inv up" in (
        table.stdout)
    assert max(map(len, table.stdout.split("\n\n")[0].splitlines())) <= 100


def test_gpu_turns_the_hosts_warnings_into_failures(monkeypatch, tmp_path):
    stage = Stage(tmp_path)
    stage.driver()
    stage.become_this_host(monkeypatch, {})
    monkeypatch.setattr(engine, "ask", lambda: engine.Answer(None, "off"))
    statuses = {
        gpu: {row.key: row.status for row in doctor.look(gpu).found if row.key in FINDINGS}
        for gpu in (False, True)
    }
    assert statuses[False]["toolkit-absent"] == "warn"
    assert statuses[True]["toolkit-absent"] == "fail"


def test_looking_leaves_no_compiled_files_among_the_images():
    inv("--json")
    assert list((ROOT / "images").rglob("__pycache__")) == []
