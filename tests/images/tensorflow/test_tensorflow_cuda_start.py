"""The CUDA libraries are found in any kind of start: no start script, no LD_LIBRARY_PATH."""

import containers
import pytest

VARIANT = "cuda"
LIBRARIES = (
    "libcublas.so.12", "libcublasLt.so.12", "libcudart.so.12", "libcudnn.so.9", "libcufft.so.11",
    "libcupti.so.12", "libcusolver.so.11", "libcusparse.so.12", "libnccl.so.2",
    "libnvJitLink.so.12", "libnvrtc.so.12",
)
CODE = f"import ctypes; [ctypes.CDLL(name) for name in {LIBRARIES}]; print('all load')"
#: How a program can start in a container, as the arguments of docker exec.
STARTS = {
    "docker exec": ([], ["python", "-c", CODE]),
    "an empty environment": ([], ["env", "-i", "/usr/bin/python3", "-c", CODE]),
    "a login shell": ([], ["bash", "-lc", f'python -c "{CODE}"']),
    "another user": (["--user", "31337:31337"], ["python", "-c", CODE]),
    "root": (["--user", "0:0"], ["python", "-c", CODE]),
}


@pytest.mark.parametrize("start", STARTS)
def test_the_libraries_are_found(idle, start):
    options, command = STARTS[start]
    assert containers.execute(idle, *command, options=options).stdout == "all load\n"


def test_the_driver_compiles_into_a_cache_that_is_large_enough(host):
    assert host.check_output("printenv CUDA_CACHE_MAXSIZE") == str(4 << 30)
    # The default place lies in the home folder, which compose.yaml keeps in a volume.
    assert not host.run("printenv CUDA_CACHE_PATH").succeeded


def test_what_the_nvidia_runtime_mounts_is_asked_for(host):
    assert host.check_output("printenv NVIDIA_VISIBLE_DEVICES") == "all"
    assert host.check_output("printenv NVIDIA_DRIVER_CAPABILITIES") == "compute,utility"
