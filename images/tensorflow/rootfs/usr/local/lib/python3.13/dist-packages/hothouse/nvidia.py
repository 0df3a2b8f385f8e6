"""Facts about NVIDIA's driver and CUDA, each with its source. No machine is read here."""

from __future__ import annotations

import re

Version = tuple[int, ...]

# The oldest Linux driver for each major version of CUDA: a driver runs every minor version of the
# toolkit's major version. From "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor
# Version Compatibility" in NVIDIA's CUDA Toolkit Release Notes.
DRIVER_FLOORS: dict[int, Version] = {12: (525, 60, 13)}
# That does not hold for PTX: the driver compiles it, and knows no PTX that is newer than itself
# (CUDA_ERROR_UNSUPPORTED_PTX_VERSION). So, for the CUDA that TensorFlow was built with, as
# cuDriverGetVersion counts: the oldest driver of that very CUDA, by "CUDA Toolkit and Corresponding
# Driver Versions" in the same notes.
PTX_FLOORS: dict[int, Version] = {12050: (555, 42, 2)}
# From this compute capability on some or all kernels of TensorFlow's build are PTX. The host can't
# look into the image; a test in the image compares the two.
PTX_FROM = (9, 0)

# What TensorFlow's CUDA build opens, and what those need in turn: the file, the wheel that brings
# it, and how it tells its version: "int", "size_t" and "pair" are ways to call the function, "xyz"
# is a *GetProperty(0|1|2). Versions by property need no GPU, those by handle would.
LIBRARIES: tuple[tuple[str, str, str, str], ...] = (
    ("libcudart.so.12", "nvidia-cuda-runtime-cu12", "cudaRuntimeGetVersion", "int"),
    ("libcublas.so.12", "nvidia-cublas-cu12", "cublasGetProperty", "xyz"),
    ("libcublasLt.so.12", "nvidia-cublas-cu12", "cublasLtGetProperty", "xyz"),
    ("libcufft.so.11", "nvidia-cufft-cu12", "cufftGetProperty", "xyz"),
    ("libcusolver.so.11", "nvidia-cusolver-cu12", "cusolverGetProperty", "xyz"),
    ("libcusparse.so.12", "nvidia-cusparse-cu12", "cusparseGetProperty", "xyz"),
    ("libcudnn.so.9", "nvidia-cudnn-cu12", "cudnnGetVersion", "size_t"),
    ("libnccl.so.2", "nvidia-nccl-cu12", "ncclGetVersion", "int"),
    ("libcupti.so.12", "nvidia-cuda-cupti-cu12", "cuptiGetVersion", "int"),
    ("libnvrtc.so.12", "nvidia-cuda-nvrtc-cu12", "nvrtcVersion", "pair"),
    ("libnvJitLink.so.12", "nvidia-nvjitlink-cu12", "nvJitLinkVersion", "pair"),
)

# cuInit's answers (enum CUresult in cuda.h) that have a cause of their own in findings.py.
CU_NAMES = {
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    303: "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    999: "CUDA_ERROR_UNKNOWN",
}
CU_FINDINGS = {
    34: "cuda-stub",
    46: "device-busy",
    100: "cuda-no-device",
    101: "cuda-invalid-device",
    303: "cuda-object",
    304: "cuda-system",
    802: "fabric",
    803: "driver-mismatch",
    804: "cuda-compat",
    805: "mps",
    999: "cuda-unknown",
}
NVML_MISMATCH = 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH


def cu_name(number: int) -> str:
    """Write one of cuInit's answers with its name: ``100 (CUDA_ERROR_NO_DEVICE)``."""
    name = CU_NAMES.get(number)
    return f"{number} ({name})" if name else str(number)


def parse(text: str) -> Version | None:
    """Read a driver's or a library's version, such as ``550.54.15``; None where it is none."""
    found = re.fullmatch(r"(\d+)((?:\.\d+){1,3})", text.strip())
    return tuple(int(part) for part in text.strip().split(".")) if found else None


def show(version: Version) -> str:
    """Write a version as NVIDIA does: ``525.60.13`` (two digits after each full stop)."""
    return ".".join([str(version[0]), *(f"{part:02}" for part in version[1:])])


def driver_of_kernel(text: str) -> str:
    """Read the driver's version from ``/proc/driver/nvidia/version``, or return "".

    The line's form differs between the closed and the open kernel module.
    """
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else ""


def below_floor(driver: str, major: int) -> Version | None:
    """Return the floor that a driver is below, or None where it is new enough or not known.

    :param major: the major version of the image's CUDA.
    """
    version, floor = parse(driver), DRIVER_FLOORS.get(major)
    return floor if version and floor and version < floor else None


def show_cuda(number: int) -> str:
    """Write a version of CUDA as people do, from cuDriverGetVersion's number: ``12.5``."""
    return f"{number // 1000}.{number % 1000 // 10}"


def coverage(capability: tuple[int, int], built: list[str]) -> str:
    """Compare a GPU's compute capability with the kernels in a build.

    Machine code (sm_XY) runs on the same major version with an equal or higher minor one. PTX
    (compute_XY) is compiled by the driver for any capability from XY on (CUDA C++ Programming
    Guide, "Binary Compatibility" and "PTX Compatibility"). TensorFlow's compute_XY brings PTX for
    all of its kernels, and for XY itself also machine code: in 2.21's CUDA wheel for 249 of 1398
    modules, with 95 % of the bytes; the driver compiles the others' 1.1 MB of PTX in seconds.

    :param built: such as ``["sm_80", "compute_90"]``.
    :returns: ``native``, ``mixed`` (machine code and PTX), ``ptx``, ``old`` or ``unknown``.
    """
    if capability <= (0, 0) or not built:
        return "unknown"
    answer = "old"
    for name in built:
        kind, _, digits = name.partition("_")
        if not re.fullmatch(r"\d{2,3}[af]?", digits):
            continue
        digits = digits.rstrip("af")
        have = (int(digits[:-1]), int(digits[-1]))
        if kind == "sm" and have[0] == capability[0] and have[1] <= capability[1]:
            return "native"
        if kind == "compute" and have <= capability:
            answer = "mixed" if have == capability else "ptx"
    return answer


def visible_words(value: str) -> list[tuple[str, str]]:
    """Split ``CUDA_VISIBLE_DEVICES`` into words with their kinds.

    CUDA stops at the first word that is no device: only those before it are seen (CUDA C++
    Programming Guide, "CUDA Environment Variables").

    :returns: pairs of word and kind: ``index``, ``uuid``, ``mig``, ``hide`` (a negative number) or
        ``nonsense``.
    """
    pairs = []
    for word in (part.strip() for part in value.split(",")):
        if re.fullmatch(r"\d+", word):
            kind = "index"
        elif re.fullmatch(r"-\d+", word):
            kind = "hide"
        elif re.fullmatch(r"GPU-[0-9a-fA-F-]+", word):
            kind = "uuid"
        elif re.fullmatch(r"MIG-[0-9a-zA-Z/-]+", word):
            kind = "mig"
        else:
            kind = "nonsense"
        pairs.append((word, kind))
    return pairs
