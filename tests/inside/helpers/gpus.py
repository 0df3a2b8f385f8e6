"""What a GPU test needs: the devices, the reason when there is none, proofs that a GPU computed.

TensorFlow is imported where it is needed: the rules in gpu_rules.py also hold for a run without it.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from wheels import SITE

#: The device on which each test runs; those of several GPUs name them all.
DEVICE = "/GPU:0"
CHILDREN = Path(__file__).with_name("gpu_children.py")
# A GPU newer than the build's kernels compiles them at the first use; that may take minutes, once.
LIMIT_S = 900
#: CUDA's answers to cuInit (CUresult in cuda.h), as far as a user can do something about them.
INIT = {
    100: ("the driver shows no device to this container",
          "docker run --gpus all, and check CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES"),
    803: ("the driver's library and its kernel module are of different versions",
          "restart the host after an update of the driver"),
    804: ("CUDA's compatibility library does not support this GPU", "update the host's driver"),
}


def expected() -> bool:
    """Tell whether this run has to use a GPU (``HOTHOUSE_EXPECT_GPU``).

    :raises ValueError: the variable is neither empty, 0 nor 1.
    """
    value = os.environ.get("HOTHOUSE_EXPECT_GPU", "")
    if value not in ("", "0", "1"):
        raise ValueError(f"HOTHOUSE_EXPECT_GPU is {value!r}, not 0 or 1")
    return value == "1"


def tensorflow():
    """Return the module, or None where it is not installed."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        return None
    # The tests' own folder of that name is a package, too, when there is no other.
    return tf if tf.__file__ else None


@cache
def visible() -> tuple[str, ...]:
    """Return TensorFlow's names of the GPUs, in order; none where TensorFlow is not installed."""
    tf = tensorflow()
    if tf is None:
        return ()
    return tuple(device.name for device in tf.config.list_physical_devices("GPU"))


def details() -> list[dict]:
    """Return each GPU's name and compute capability, as TensorFlow had them from the driver."""
    if not visible():
        return []
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        said = tf.config.experimental.get_device_details(device)
        capability = ".".join(map(str, said.get("compute_capability", ())))
        found.append({"name": said.get("device_name", ""), "compute_capability": capability})
    return found


def capability() -> tuple[int, ...]:
    """Return the first GPU's compute capability as numbers, such as (9, 0)."""
    return tuple(int(part) for part in details()[0]["compute_capability"].split("."))


def driver() -> tuple[ctypes.CDLL | None, int]:
    """Return the driver's library and what cuInit answers (0: it works), or None and -1."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, -1
    return library, library.cuInit(0)


def driver_device_count() -> int:
    """Return how many devices the driver itself shows to this process."""
    library, code = driver()
    count = ctypes.c_int(0)
    if library is None or code or library.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def free_memory() -> tuple[int, int]:
    """Return the free and the whole memory of the driver's first device, in bytes.

    :raises OSError: the driver does not answer.
    """
    library, code = driver()
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    if library is None or code:
        raise OSError(f"cuInit answered {code}")
    for step in (
        lambda: library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        lambda: library.cuCtxPushCurrent_v2(context),
        lambda: library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
        lambda: library.cuCtxPopCurrent_v2(ctypes.byref(context)),
    ):
        if code := step():
            raise OSError(f"the driver answered {code}")
    return free.value, total.value


def driver_version() -> str:
    """Return the version of the host's driver, or "" where nothing tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        text = ""
    if found := re.search(r"(?:Kernel Module|Module for \S+) +(\d+\.\d+(?:\.\d+)?)", text):
        return found[1]
    if shutil.which("nvidia-smi"):
        shown = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=False,
        )
        if shown.returncode == 0 and shown.stdout.strip():
            return shown.stdout.splitlines()[0].strip()
    return ""


def driver_cuda_version() -> str:
    """Return the newest CUDA that the driver supports, such as "12.9", or ""."""
    library, code = driver()
    version = ctypes.c_int(0)
    if library is None or code or library.cuDriverGetVersion(ctypes.byref(version)):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def the_images_word() -> str:
    """Return what the image's own ``hothouse gpu`` says is wrong, or ""."""
    if not (program := shutil.which("hothouse")):
        return ""
    try:
        shown = subprocess.run([program, "gpu", "--json"], capture_output=True, text=True,
                               timeout=60, check=False)
        said = json.loads(shown.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    if not isinstance(said, dict) or said.get("ok") or not said.get("cause"):
        return ""
    return f"{said['cause']}. Fix: {said.get('fix')}"


def why_none() -> str:
    """Return in one line why TensorFlow sees no GPU, and what to do about it."""
    tf = tensorflow()
    if tf is None:
        return "no GPU: TensorFlow is not installed. Fix: take hothouse/tensorflow:cuda"
    library, code = driver()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not tf.test.is_built_with_cuda():
        cause, fix = "this TensorFlow is built without CUDA", "take the image with the tag cuda"
    elif hidden is not None and not re.fullmatch(r"\s*(\d+|GPU-\S+|MIG-\S+)(,.*)?", hidden):
        cause, fix = f"CUDA_VISIBLE_DEVICES is {hidden!r}", "unset it, or name a GPU's index"
    elif said := the_images_word():
        return f"no GPU: {said}"
    elif library is None:
        cause = "the driver's library libcuda.so.1 is not in this container"
        fix = "docker run --gpus all, on a host with NVIDIA's driver and container toolkit"
    elif code:
        cause, fix = INIT.get(code, (f"cuInit answers {code}", "see the host's kernel log (dmesg)"))
    else:
        cause = "the driver works, but TensorFlow could not load one of the CUDA libraries"
        fix = "see its warnings: import tensorflow, then tf.config.list_physical_devices()"
    return f"no GPU: {cause}. Fix: {fix}"


def mapped(pattern: str = r"lib(cu|nv|nccl)") -> set[Path]:
    """Return the shared libraries in this process whose file's name begins with ``pattern``."""
    paths = {
        Path(line.split(maxsplit=5)[5].removesuffix(" (deleted)"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if len(line.split(maxsplit=5)) == 6
    }
    return {path for path in paths if re.match(pattern, path.name)}


def in_the_image(path: Path) -> bool:
    """Tell whether a file is one that the image's wheels brought."""
    return path.resolve().is_relative_to(SITE.resolve())


def on(device: str, function, *arrays) -> list:
    """Call a function with tensors on one device; what it returns, as arrays of NumPy.

    :raises AssertionError: one of its results is not in that device's memory.
    """
    import tensorflow as tf

    with tf.device(device):
        results = tf.nest.flatten(function(*(tf.constant(array) for array in arrays)))
    wanted = device.removeprefix("/")
    for result in results:
        assert result.backing_device.endswith(wanted), f"computed on {result.backing_device}"
    return [result.numpy() for result in results]


def child(verb: str, *arguments: str, **environment: str) -> tuple[dict, str]:
    """Run a function of gpu_children.py in a new Python; its answer, and what it said on stderr.

    :param environment: more variables; TensorFlow reads most of its own before it starts.
    :raises AssertionError: it failed; with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-B", str(CHILDREN), verb, *arguments],
        env={**os.environ, **environment},
        capture_output=True, text=True, timeout=LIMIT_S - 60, check=False,
    )
    assert done.returncode == 0, f"{verb} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1]), done.stderr
