"""`inv evidence` makes no record without a GPU, and names the image's source. No engine needed."""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from stages import NEW, Stage

from scripts import evidence, gpu_record, host_gpu, unpacked
from scripts.problem import Problem

ROOT = Path(__file__).resolve().parents[2]


def test_an_image_of_somebody_else_is_refused():
    with pytest.raises(Problem, match="no image of Hothouse"):
        evidence.source({}, "busybox")


def test_an_image_of_other_locks_names_the_revision_to_check_out():
    labels = {"org.opencontainers.image.title": "hothouse/tensorflow",
              "org.opencontainers.image.revision": "abc", "io.hothouse.lock": "sha256:0"}
    with pytest.raises(Problem, match=r"other locks .* Fix: git checkout abc$"):
        evidence.source(labels, "x")


TWO = "NVIDIA A100, 550.54.15, 8.0\nNVIDIA A100, 550.54.15, 8.0"


@pytest.mark.parametrize(("driver", "wanted", "options", "count"), [
    ("nvidia", "all", ["--gpus", "all"], 2),
    ("nvidia", "0,1", ["--gpus", '"device=0,1"'], 2),
    ("cdi", "all", ["--device", "nvidia.com/gpu=all"], 2),
    ("cdi", "0,1", ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"], 2),
    ("cdi", "1", ["--device", "nvidia.com/gpu=1"], 1),
])
def test_docker_run_is_given_each_gpu_that_is_asked_for(
    tmp_path, monkeypatch, driver, wanted, options, count
):
    stage = Stage(tmp_path)
    stage.driver()
    stage.program(host_gpu.HOOK)
    stage.become_this_host(monkeypatch, NEW)
    monkeypatch.setenv("STANDIN_SMI", TWO)
    assert evidence.gpus_of(driver, wanted) == (options, count)


def test_gpus_are_counted_on_a_host_without_nvidia_smi(tmp_path, monkeypatch):
    stage = Stage(tmp_path)
    stage.driver()
    stage.program(host_gpu.HOOK)
    (stage.bin / "nvidia-smi").unlink()
    stage.write("/dev/nvidia1")
    stage.become_this_host(monkeypatch, NEW)
    assert evidence.gpus_of("nvidia", "all") == (["--gpus", "all"], 2)
    assert evidence.gpus_of("nvidia", "1") == (["--gpus", '"device=1"'], 1)
    with pytest.raises(Problem, match=r"there is no GPU 2. Fix: choose from all, 0 \(/dev/nvidia0"):
        evidence.gpus_of("nvidia", "2")


def test_what_is_no_evidence_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evidence, "FOLDER", tmp_path / "evidence")
    monkeypatch.setattr(evidence, "LAST", ROOT / ".artifacts" / f"{tmp_path.name}.json")
    record = {"schema": gpu_record.SCHEMA, "tests": [], "date": "2026-01-02T03:04:05Z"}
    try:
        with pytest.raises(Problem, match="this run is no evidence: "):
            evidence.keep(record)
    finally:
        evidence.LAST.unlink(missing_ok=True)
    assert not (tmp_path / "evidence").exists()
    assert "it names no GPU" in capsys.readouterr().err


def test_a_records_name_holds_its_date_gpus_and_driver():
    record = {"date": "2026-01-02T03:04:05Z", "driver": {"version": "550.54.15"},
              "gpus": [{"name": "NVIDIA A100-SXM4/80GB"}, {"name": "NVIDIA A100-SXM4/80GB"}]}
    assert evidence.file_name(record) == "2026-01-02-NVIDIA-A100-SXM4-80GB-550.54.15.json"


@pytest.mark.parametrize("words", (
    ["--image", "hothouse-test/none"], ["--driver", "cdi", "--image", "hothouse-test/none"],
    ["--tree", "/nonexistent"], ["--driver", "magic"], ["--image", "hothouse-test/none",
                                                         "--pack", "pack"],
), ids=" ".join)
def test_without_what_it_needs_it_says_one_line_and_writes_no_record(words, tmp_path):
    before = sorted(evidence.FOLDER.glob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "evidence", *words], cwd=ROOT, text=True,
        env={**os.environ, "HOTHOUSE_CWD": str(tmp_path)}, capture_output=True, check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.endswith("…")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and ". Fix: " in lines[0], done.stderr
    assert sorted(evidence.FOLDER.glob("*")) == before


def test_a_packed_folder_whose_parts_do_not_belong_together_is_refused(tmp_path):
    for name in (unpacked.LINKER, unpacked.PYTHON, f"{unpacked.SITE}/tensorflow/x"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "manifest.json").write_text('{"config": {"digest": "sha256:0"}}')
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Problem, match="is not the configuration"):
        unpacked.check(tmp_path, "x")


@pytest.mark.parametrize("part", ["oci.open_image", "unpack"])
def test_an_image_that_cannot_be_packed_leaves_no_folder_behind(tmp_path, monkeypatch, part):
    def fails(*_):
        raise Problem("no such image", "build it")

    image = SimpleNamespace(digest="sha256:1", config_digest="sha256:2", place=tmp_path)
    monkeypatch.setattr(unpacked.oci, "open_image", lambda _: nullcontext(image))
    monkeypatch.setattr(unpacked.oci, "whole", lambda *_: b"{}")
    monkeypatch.setattr(f"scripts.unpacked.{part}", fails)
    for _ in range(2):
        with pytest.raises(Problem, match="no such image"):
            unpacked.pack("x", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder_to_pack_into(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Problem, match="is no empty folder"):
        unpacked.pack("x", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/", unpacked.LINKER).exists(), reason="no glibc of x86-64 here")
def test_the_trees_python_opens_what_is_linked_into_usr_lib(tmp_path):
    # This machine's linker and Python stand for an image's.
    tree, name = tmp_path / "tree", "libhothouse-test.so.1"
    python, stdlib = Path(sys.executable).resolve(), Path(os.__file__).parent
    for link, real in ((unpacked.LIBRARIES, Path("/", unpacked.LIBRARIES)),
                       (unpacked.PYTHON, python), (f"usr/lib/{stdlib.name}", stdlib)):
        (tree / link).parent.mkdir(parents=True, exist_ok=True)
        (tree / link).symlink_to(real)
    package = tree / unpacked.SITE / "nvidia" / name
    package.parent.mkdir(parents=True)
    shutil.copy(Path("/", unpacked.LIBRARIES, "libdl.so.2").resolve(), package)
    (tree / "usr/lib" / name).symlink_to(package)
    program = unpacked.write_python(tree, tmp_path, [])
    code = f"import ctypes; print(ctypes.CDLL({name!r}) and open('/proc/self/maps').read())"
    done = subprocess.run([str(program), "-S", "-c", code], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"]}, check=False)
    assert done.returncode == 0, done.stderr
    assert str(package) in done.stdout


@pytest.mark.parametrize(("name", "is_driver"), [
    ("libcuda.so.1", True), ("libcuda.so.550.54.15", True), ("libnvidia-ml.so.1", True),
    ("libnvidia-ptxjitcompiler.so.550.54.15", True), ("libcudart.so.12", False),
    ("libcudnn.so.9", False), ("libc.so.6", False), ("libnvidia-glcore.so.550.54.15", False),
])
def test_only_the_drivers_libraries_are_taken_from_the_host(name, is_driver):
    assert bool(unpacked.DRIVER.fullmatch(name)) == is_driver
