"""The CUDA libraries: all that TensorFlow loads are there, whole, once, and found in any process.

Nothing here needs a GPU; what does is in tests/inside/gpu.
"""

import ctypes
import mmap
import os
import re
import subprocess
from pathlib import Path

import fresh
import pytest
from wheels import SITE

NVIDIA = SITE / "nvidia"
LIBRARIES = sorted(NVIDIA.glob("*/lib/*.so*"))
TENSORFLOW = sorted((SITE / "tensorflow").glob("*.so*"))
FRAMEWORK = SITE / "tensorflow" / "libtensorflow_framework.so.2"
LOADER = Path("/lib64/ld-linux-x86-64.so.2")

#: TensorFlow's loader has a function for each library: those that have to work without a GPU …
LOADED = {"Cublas", "CublasLt", "CudaRuntime", "Cudnn", "Cufft", "Cupti", "Cusolver", "Cusparse",
          "Nccl"}
#: … and the others, each with its reason.
NOT_LOADED = {
    "CudaDriver": "the driver brings libcuda",
    "Nvml": "the driver brings libnvidia-ml",
    "NvInfer": "TensorRT is not among the packages of tensorflow[and-cuda]",
    "NvInferPlugin": "TensorRT is not among the packages of tensorflow[and-cuda]",
    "Nvshmem": "NVSHMEM is not among the packages of tensorflow[and-cuda]",
    **dict.fromkeys(
        ("Hip", "Hipblaslt", "Hipfft", "Hipsparse", "Miopen", "Rocblas", "Rocrand", "Rocsolver",
         "Roctracer"), "for AMD's GPUs"),
}
#: Libraries that a CUDA library may name and that are not in the image, each with its reason.
ELSEWHERE = {
    r"libcuda|libnvidia-.*|libnvoptix|libOpenCL": "of the driver",
    r"libEGL.*|libGL.*|libVulkan.*|libX11": "graphics, which CUPTI can trace",
    r"libibverbs|libmlx5|libgdrapi|libdoca_.*|libnccl-.*": "NCCL's plugins for networks",
    r"libnvperf_host": "hardware counters, pruned",
    r"libcask_profile_interface": "NVIDIA's own profiling of cuDNN, published nowhere",
    r"libcudart": "asked by its name without a version only where it is loaded already",
}
#: The driver's libraries, which are the host's.
DRIVER = re.compile(r"lib(cuda|nvidia-ml|nvidia-ptxjitcompiler)\.so")


def mapped(path: Path) -> mmap.mmap:
    """A file's bytes, read as they are looked at."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def names_of_loaders() -> set[str]:
    """The libraries that TensorFlow has a loader for, read from its symbols."""
    with mapped(FRAMEWORK) as data:
        # As the Itanium C++ ABI writes tsl::internal::DsoLoader::Get…DsoHandle().
        pattern = rb"_ZN3tsl8internal9DsoLoader\d+Get(\w+)DsoHandleEv\0"
        return {match[1].decode() for match in re.finditer(pattern, data)}


def test_the_list_of_libraries_is_tensorflows_own():
    assert names_of_loaders() == LOADED | set(NOT_LOADED)


@pytest.mark.parametrize("name", sorted(LOADED))
def test_tensorflow_loads_the_library(name):
    # absl::StatusOr<void*> is two words in memory: 1 for OK, then the handle.
    symbol = f"_ZN3tsl8internal9DsoLoader{len(name) + 12}Get{name}DsoHandleEv"
    code = f"""
import ctypes
loader = getattr(ctypes.CDLL({str(FRAMEWORK)!r}), {symbol!r})
loader.restype = None
answer = (ctypes.c_uint64 * 2)()
loader(ctypes.byref(answer))
assert answer[0] == 1, "not OK"
assert answer[1]
print({{line.split()[-1] for line in open("/proc/self/maps") if "/nvidia/" in line}})
"""
    done = fresh.python(code)
    assert done.returncode == 0, done.stderr
    assert str(NVIDIA) in done.stdout


@pytest.mark.parametrize("path", [*LIBRARIES, *TENSORFLOW], ids=lambda path: path.name)
def test_every_symbol_of_a_library_is_resolved(path):
    # What `ldd -r` does: the linker binds everything and says what it misses.
    done = subprocess.run(
        [LOADER, path], capture_output=True, text=True, check=False,
        env={"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "yes"},
    )
    said = done.stdout + done.stderr
    assert "error while loading" not in said
    missing = set(re.findall(r"(\S+) => not found", said))
    assert missing <= {"libcuda.so.1"}, said
    unresolved = set(re.findall(r"undefined symbol: (\w+)", said))
    if missing:  # the driver's functions, and nothing else
        unresolved = {name for name in unresolved if not re.match(r"cu[A-Z]", name)}
    assert unresolved == set()


def test_there_are_as_many_libraries_as_are_expected():
    names = {path.name.split(".")[0] for path in LIBRARIES}
    assert {"libcublas", "libcublasLt", "libcudart", "libcudnn", "libcufft", "libcupti",
            "libcusolver", "libcusparse", "libnccl", "libnvJitLink", "libnvrtc"} <= names
    assert len([name for name in names if name.startswith("libcudnn_")]) == 7


def test_every_library_that_a_library_names_is_there_or_has_a_reason():
    pattern = re.compile(rb"\0(lib[A-Za-z][\w-]*)\.so[.\d]*(?=\0)")
    known = {path.name.split(".so")[0] for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu")
             for path in Path(folder).glob("lib*.so*")}
    unknown = {}
    for path in LIBRARIES:
        with mapped(path) as data:
            named = {match[1].decode() for match in pattern.finditer(data)}
        for name in named - known:
            if not any(re.fullmatch(reason, name) for reason in ELSEWHERE):
                unknown.setdefault(name, path.name)
    assert unknown == {}


def test_no_library_is_there_twice():
    seen: dict[str, Path] = {}
    wanted = {path.name for path in LIBRARIES}
    for top in ("/usr", "/opt"):
        for folder, _, files in os.walk(top):
            for path in (Path(folder, name) for name in wanted.intersection(files)):
                if not path.is_symlink():
                    assert seen.setdefault(path.name, path) == path
    assert len(seen) == len(wanted)


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_the_linker_finds_the_library_by_its_name_alone(path):
    assert Path("/usr/lib", path.name).resolve() == path


def test_ptxas_compiles_and_libdevice_lies_where_xla_looks(tmp_path):
    source = tmp_path / "empty.ptx"
    source.write_text(".version 8.0\n.target sm_60\n.address_size 64\n.visible .entry f() { ret; }")
    made = tmp_path / "empty.cubin"
    done = subprocess.run(["ptxas", "-arch=sm_60", source, "-o", made], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert made.read_bytes()[:4] == b"\x7fELF"
    # XLA's own list of folders holds this one, relative to TensorFlow's libraries.
    root = SITE / "tensorflow" / ".." / "nvidia" / "cuda_nvcc"
    assert (root / "nvvm/libdevice/libdevice.10.bc").read_bytes()[:2] == b"BC"
    assert os.access(root / "bin/ptxas", os.X_OK)


def test_the_host_knows_which_gpus_need_ptx_and_of_which_cuda():
    from hothouse import installed, nvidia

    assert installed.built_cuda() == max(nvidia.PTX_FLOORS)
    shown = ".".join(map(str, nvidia.PTX_FROM))
    assert f"compute_{shown.replace('.', '')}" in installed.capabilities()


def test_the_driver_is_not_in_the_image():
    if os.environ.get("HOTHOUSE_EXPECT_GPU") != "1":
        with pytest.raises(OSError, match="libcuda.so.1"):
            ctypes.CDLL("libcuda.so.1")
    # What NVIDIA's toolkit brings into a container is mounted file by file, or in a mounted folder.
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    own = []
    for top in ("/usr", "/opt"):
        for folder, _, files in os.walk(top):
            paths = (Path(folder, name) for name in files if DRIVER.match(name))
            own += [path for path in paths if not path.is_symlink()
                    and not {str(path), *map(str, path.parents)} & mounts - {"/"}]
    assert own == []
