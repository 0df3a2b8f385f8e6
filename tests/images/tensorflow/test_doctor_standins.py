"""The doctor's reading of machines with a GPU, by stand-ins for the driver.

A stand-in tests our reading of a machine; it never counts as evidence that a GPU works.
"""

import json

import containers
import pytest
import standin

#: The images that are tried. A CPU image is made to look like a CUDA one by what is mounted.
IMAGES = ("hothouse/tensorflow:cpu", "hothouse/tensorflow:cuda")
A100 = "NVIDIA A100-SXM4-40GB|8.0"

standin.import_shared()


@pytest.fixture(scope="module")
def stand(tmp_path_factory) -> standin.StandIns:
    """The compiled stand-ins."""
    return standin.StandIns(tmp_path_factory.mktemp("standins"))


@pytest.fixture(params=IMAGES)
def doctor(request, stand):
    """Returns ``doctor(options, arguments)`` → (exit status, the JSON report) on a CUDA image."""
    def run(*options: str, arguments: tuple[str, ...] = ("--quick",)) -> tuple[int, dict]:
        done = containers.run(
            request.param, "hothouse", "doctor", "--json", *arguments, check=False,
            options=["--shm-size", "512m", *stand.cuda_image(request.param), *options],
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    run.image = request.param
    return run


def keys(report: dict, status: str = "fail") -> list[str]:
    """The findings of a report with one status."""
    return [row["key"] for row in report["rows"] if row["status"] == status]


def row(report: dict, name: str) -> dict:
    """One row by its name."""
    return next(row for row in report["rows"] if row["name"] == name)


def test_a_gpu_that_was_given_rightly_is_named(doctor, stand):
    status, report = doctor(*stand.gpu(), "--env", "NVIDIA_VISIBLE_DEVICES=all",
                            arguments=("--quick", "--expect-gpu"))
    assert (status, keys(report), report["state"]) == (0, [], "works")
    assert keys(report, "warn") == []
    assert report["gpu"]["line"] == (
        "GPU: NVIDIA A100-SXM4-40GB, driver 550.54.15, compute capability 8.0")
    assert "550.54.15; CUDA 12 needs 525.60.13 or newer" in row(report, "driver")["found"]
    assert "the build has kernels for it" in row(report, "GPU 0")["found"]
    assert "/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm" in row(report, "device nodes")["found"]
    assert row(report, "libcuda")["found"].endswith("/libcuda.so.1; starts; for CUDA up to 12.4")


def test_without_a_driver_the_cuda_image_warns_once(doctor):
    status, report = doctor()
    assert (status, keys(report), report["state"]) == (0, [], "none")
    assert keys(report, "warn") == ["no-gpu"]


def test_without_a_driver_a_gpu_that_is_expected_is_a_failure(doctor):
    status, report = doctor(arguments=("--quick", "--expect-gpu"))
    assert status == 1
    assert keys(report) == ["no-gpu", "no-gpu-computes"]
    assert sum(bool(row["cause"]) for row in report["rows"]) == 1


@pytest.mark.parametrize(("driver", "found"), [
    ("470.57.02", ["driver-old"]), ("525.60.11", ["driver-old"]), ("525.60.13", []),
    ("580.65.06", []),
])
def test_the_driver_is_compared_with_the_floor(doctor, stand, driver, found):
    status, report = doctor(*stand.gpu(), "--env", f"STANDIN_DRIVER={driver}")
    assert (status, keys(report)) == (int(bool(found)), found)


def test_device_nodes_without_libraries_mean_that_the_toolkit_is_missing(doctor, stand):
    status, report = doctor(*stand.nodes())
    assert (status, keys(report)) == (1, ["toolkit-missing"])


@pytest.mark.parametrize(("capabilities", "found"), [
    ("utility", "no-compute"), ("compute,utility", "libcuda-missing"), ("all", "libcuda-missing"),
])
def test_nvidia_smi_without_libcuda(doctor, stand, capabilities, found):
    status, report = doctor(*stand.nvml(), *stand.nodes(), "--env", f"STANDIN_GPUS={A100}",
                            "--env", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}")
    assert (status, keys(report)) == (1, [found])


def test_an_empty_libcuda_is_not_taken_for_a_missing_one(doctor, stand):
    empty = stand.mount("empty", f"{standin.LINKER}/libcuda.so.1")
    status, report = doctor(*stand.nvml(), *stand.nodes(), *empty)
    assert (status, keys(report)) == (1, ["libcuda-broken"])
    assert "file too short" in row(report, "libcuda")["cause"]


def test_a_node_that_its_mode_forbids(doctor, stand, tmp_path):
    node = tmp_path / "node"
    node.touch(mode=0o600)
    options = [*stand.cuda(), *stand.nvml(), *stand.nodes("nvidiactl", "nvidia-uvm"),
               "--volume", f"{node}:/dev/nvidia0", "--user", "4242:4242",
               "--env", "STANDIN_CUINIT=304"]
    status, report = doctor(*options)
    assert (status, keys(report)) == (1, ["node-mode"])
    assert "uid 4242 may not open /dev/nvidia0: its mode is 0600" in (
        row(report, "device nodes")["cause"])


def test_a_node_that_the_engines_device_rules_forbid(doctor, stand):
    options = [*stand.cuda(), *stand.nvml(), *stand.nodes("nvidiactl", "nvidia-uvm"),
               "--device", "/dev/kmsg:/dev/nvidia0:m", "--user", "0:0",
               "--env", "STANDIN_CUINIT=999", "--env", "STANDIN_NVML=999"]
    status, report = doctor(*options)
    assert (status, keys(report)) == (1, ["node-cgroup"])


def test_a_node_that_is_missing(doctor, stand):
    options = [*stand.cuda(), *stand.nvml(), *stand.nodes("nvidia0", "nvidiactl"),
               "--env", "STANDIN_CUINIT=999"]
    status, report = doctor(*options)
    assert (status, keys(report)) == (1, ["node-missing"])
    assert "/dev/nvidia-uvm" in row(report, "device nodes")["cause"]


@pytest.mark.parametrize(("code", "found", "name"), [
    (34, "cuda-stub", "libcuda"), (100, "cuda-no-device", "libcuda"), (802, "fabric", "libcuda"),
    (803, "driver-mismatch", "driver"), (804, "cuda-compat", "libcuda"), (805, "mps", "libcuda"),
    (999, "cuda-unknown", "libcuda"), (701, "cuda-other", "libcuda"),
])
def test_what_cuinit_says_is_translated(doctor, stand, code, found, name):
    status, report = doctor(*stand.gpu(), "--env", f"STANDIN_CUINIT={code}")
    assert (status, keys(report), row(report, name)["key"]) == (1, [found], found)
    assert row(report, name)["fix"]


def test_nvml_of_another_version_than_the_kernel_module(doctor, stand):
    status, report = doctor(*stand.gpu(), "--env", "STANDIN_NVML=18", "--env", "STANDIN_CUINIT=803")
    assert (status, keys(report)) == (1, ["driver-mismatch"])


@pytest.mark.parametrize(("capability", "status", "found", "word"), [
    ("8.6", "ok", "", "kernels"), ("7.5", "ok", "", "kernels"),
    ("9.0", "info", "capability-mixed", "some as PTX"),
    ("12.0", "info", "capability-ptx", "PTX only"),
    ("99.7", "info", "capability-ptx", "PTX only"), ("5.2", "fail", "capability-old", "5.2"),
])
def test_compute_capabilities(doctor, stand, capability, status, found, word):
    code, report = doctor(*stand.gpu(f"NVIDIA Future|{capability}"), "--env", "STANDIN_CUDA=12050")
    seen = row(report, "GPU 0")
    assert (seen["status"], seen["key"]) == (status, found)
    assert word in seen["found"]
    assert code == int(status == "fail")


@pytest.mark.parametrize(("cuda", "found"), [("12040", ["driver-ptx"]), ("12050", [])])
def test_a_driver_that_is_older_than_the_builds_ptx(doctor, stand, cuda, found):
    status, report = doctor(*stand.gpu("NVIDIA H200|9.0"), "--env", f"STANDIN_CUDA={cuda}")
    assert (status, keys(report)) == (int(bool(found)), found)
    assert not found or "555.42.02" in row(report, "GPU 0")["fix"]


def test_a_mig_slice_is_a_gpu(doctor, stand):
    status, report = doctor(*stand.gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb|8.0"),
                            "--env", "STANDIN_MIG=2")
    assert (status, keys(report)) == (0, [])
    assert "MIG-00000000" in row(report, "MIG")["found"]
    assert "MIG 1g.5gb" in row(report, "GPU 0")["found"]


def test_mig_without_a_slice(doctor, stand):
    status, report = doctor(*stand.gpu(), "--env", "STANDIN_MIG=1", "--env", "STANDIN_CUINIT=100")
    assert (status, keys(report)) == (1, ["mig-no-slice"])


def test_dockers_own_size_of_dev_shm_is_a_warning(doctor, stand):
    status, report = doctor(*stand.gpu(), "--shm-size", "64m")
    assert (status, keys(report, "warn")) == (0, ["shm"])
    assert row(report, "/dev/shm")["found"] == "64 MiB"


@pytest.mark.parametrize(("value", "found"), [
    ("gpu0", "visible-nonsense"), ("0,one", "visible-nonsense"), ("3", "visible-absent"),
    ("0,7", "visible-absent"), ("0,0", "visible-twice"),
])
def test_visible_devices_that_make_no_sense(doctor, stand, value, found):
    status, report = doctor(*stand.gpu(), "--env", f"CUDA_VISIBLE_DEVICES={value}")
    assert (status, keys(report)) == (1, [found])
    assert value in row(report, "visibility")["cause"]


@pytest.mark.parametrize("value", ["", "-1"])
def test_gpus_that_are_hidden_on_purpose_are_a_warning(doctor, stand, value):
    hide = ["--env", f"CUDA_VISIBLE_DEVICES={value}"]
    status, report = doctor(*stand.gpu(), *hide)
    assert (status, report["state"], keys(report, "warn")) == (0, "hidden", ["hidden"])
    status, report = doctor(*stand.gpu(), *hide, arguments=("--quick", "--expect-gpu"))
    assert status == 1


def test_one_of_two_gpus_is_chosen(doctor, stand):
    status, report = doctor(*stand.gpu(f"{A100};NVIDIA L4|8.9"), "--env", "CUDA_VISIBLE_DEVICES=1")
    assert (status, keys(report)) == (0, [])
    assert "NVIDIA L4" in row(report, "GPU 0")["found"]


@pytest.mark.parametrize(("code", "found"), [
    (2, "device-memory"), (46, "device-busy"), (719, "device-context"),
])
def test_a_gpu_on_which_nothing_can_be_run(doctor, stand, code, found):
    status, report = doctor(*stand.gpu(), "--env", f"STANDIN_CONTEXT={code}")
    assert (status, keys(report)) == (1, [found])


def test_a_compiler_that_does_not_run_is_a_failure(doctor, stand):
    broken = stand.mount("empty", f"{standin.PACKAGES}/nvidia/cuda_nvcc/bin/ptxas")
    status, report = doctor(*stand.gpu(), *broken)
    assert (status, keys(report)) == (1, ["tool-broken"])


def test_a_library_that_does_not_load_is_a_failure(doctor, stand):
    status, report = doctor(*stand.gpu(), *stand.mount("empty", "/opt/broken/libcudnn.so.9"),
                            "--env", "LD_LIBRARY_PATH=/opt/broken")
    assert (status, keys(report)) == (1, ["library"])
    assert row(report, "libcudnn.so.9")["cause"].startswith(
        "libcudnn.so.9 does not load: /opt/broken/libcudnn.so.9: file too short")


def test_a_driver_that_crashes_is_a_row(doctor, stand):
    status, report = doctor(*stand.gpu(), "--env", "STANDIN_CUINIT=crash")
    assert (status, keys(report)) == (1, ["libcuda-hangs"])
    assert "SIGABRT" in row(report, "libcuda")["cause"]


def test_a_cdi_container_is_not_taken_for_one_without_a_gpu(doctor, stand):
    status, report = doctor(*stand.gpu(), "--env", "NVIDIA_VISIBLE_DEVICES=void")
    assert (status, keys(report), keys(report, "warn")) == (0, [], [])


def test_a_driver_that_hangs_is_one_line_of_hothouse_gpu(stand):
    image = IMAGES[0]
    done = containers.run(image, "hothouse", "gpu", "--limit", "3", check=False, options=[
        *stand.cuda_image(image), *stand.gpu(), "--env", "STANDIN_CUINIT=hang"])
    assert done.returncode == 1
    assert done.stdout.startswith("no GPU: the CUDA driver does not answer: no answer within 3 s")
    assert done.stdout.count("\n") == 1


def test_the_cpu_image_with_a_gpu_is_told_so(stand):
    done = containers.run("hothouse/tensorflow:cpu", "hothouse", "doctor", "--quick", check=False,
                          options=stand.gpu())
    assert done.returncode == 1
    assert "error: this is the CPU image, and a GPU was asked for: /dev/nvidia0 is here\n" in (
        done.stdout)
    assert "fix: use the tag :cuda instead of :cpu" in done.stdout
    line = containers.run("hothouse/tensorflow:cpu", "hothouse", "gpu", check=False,
                          options=stand.gpu())
    assert (line.returncode, line.stdout.count("\n")) == (1, 1)
    assert line.stdout.startswith("no GPU: this is the CPU image")


def test_a_driver_without_a_gpu_for_tensorflow_fails_when_measured(stand):
    # TensorFlow's CPU build beside a driver that works: it registers no GPU.
    image = "hothouse/tensorflow:cpu"
    done = containers.run(
        image, "hothouse", "doctor", "--json", check=False, timeout=300,
        options=["--shm-size", "512m", *stand.cuda_image(image), *stand.gpu()],
    )
    report = json.loads(done.stdout)
    assert (done.returncode, keys(report)) == (1, ["work-no-gpu"])
    assert row(report, "CPU training")["status"] == "ok"
