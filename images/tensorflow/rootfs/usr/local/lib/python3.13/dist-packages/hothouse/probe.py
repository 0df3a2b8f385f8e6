"""Opens the driver's and CUDA's libraries, in a process of its own: they may crash or hang.

    python -I -S probe.py cuda [context]     libcuda: cuInit and what it sees
    python -I -S probe.py nvml               NVML, which nvidia-smi uses too
    python -I -S probe.py libraries NAME=FUNCTION=KIND …

Prints a line of JSON for each library; imports nothing of Hothouse and no package.
"""

import ctypes
import json
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_void_p, create_string_buffer

RTLD_NOW = 2  # as TensorFlow opens them: every symbol has to be found
ATTRIBUTE_MAJOR, ATTRIBUTE_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def where(name):
    """Return the file that a loaded library is mapped from."""
    stem = name.split(".so")[0] + ".so"
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if path.startswith("/") and path.rsplit("/", 1)[1].startswith(stem):
                return path
    return ""


def load(name):
    """Return the library and what is known of it; the library is None where it does not load."""
    try:
        library = ctypes.CDLL(name, mode=RTLD_NOW)
    except OSError as error:
        return None, {"library": name, "loads": False, "error": str(error)}
    return library, {"library": name, "loads": True, "path": where(name.rsplit("/", 1)[-1])}


def named(raw):
    """Write a UUID of 16 bytes as nvidia-smi does."""
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def cuda_device(cuda, index, context):
    """Describe one GPU as CUDA sees it."""
    device, major, minor = c_int(), c_int(), c_int()
    code = cuda.cuDeviceGet(byref(device), index)
    if code:
        return {"index": index, "code": code}
    name, uuid, size = create_string_buffer(256), create_string_buffer(16), c_size_t()
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDeviceGetAttribute(byref(major), ATTRIBUTE_MAJOR, device)
    cuda.cuDeviceGetAttribute(byref(minor), ATTRIBUTE_MINOR, device)
    cuda.cuDeviceTotalMem_v2(byref(size), device)
    found = {
        "index": index, "name": name.value.decode(errors="replace"), "memory": size.value,
        "capability": [major.value, minor.value], "code": 0,
    }
    if hasattr(cuda, "cuDeviceGetUuid") and not cuda.cuDeviceGetUuid(uuid, device):
        found["uuid"] = "GPU-" + named(uuid.raw)
    if context:
        handle = c_void_p()
        found["code"] = cuda.cuDevicePrimaryCtxRetain(byref(handle), device)
        if not found["code"]:
            free, total = c_size_t(), c_size_t()
            cuda.cuCtxPushCurrent_v2(handle)
            if not cuda.cuMemGetInfo_v2(byref(free), byref(total)):
                found["free"] = free.value
            cuda.cuDevicePrimaryCtxRelease_v2(device)
    return found


def cuda(context):
    """Start libcuda and list its devices."""
    library, found = load("libcuda.so.1")
    if library:
        count, version = c_int(), c_int()
        try:
            found["code"] = library.cuInit(0)
            if not library.cuDriverGetVersion(byref(version)):
                found["cuda"] = version.value
            if not found["code"]:
                library.cuDeviceGetCount(byref(count))
            found["devices"] = [cuda_device(library, i, context) for i in range(count.value)]
        except AttributeError as error:  # no such function: no driver's library
            found.update(loads=False, error=str(error))
    return found


def nvml_device(nvml, index):
    """Describe one GPU as nvidia-smi sees it."""
    class Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    handle, memory, text = c_void_p(), Memory(), create_string_buffer(96)
    found = {"index": index, "code": nvml.nvmlDeviceGetHandleByIndex_v2(index, byref(handle))}
    if found["code"]:
        return found
    for key, function in (("name", "nvmlDeviceGetName"), ("uuid", "nvmlDeviceGetUUID")):
        if not getattr(nvml, function)(handle, text, len(text)):
            found[key] = text.value.decode(errors="replace")
    if not nvml.nvmlDeviceGetMemoryInfo(handle, byref(memory)):
        found["memory"] = memory.total
    now, pending = c_uint(), c_uint()
    # Older drivers lack it, other GPUs answer "not supported".
    if hasattr(nvml, "nvmlDeviceGetMigMode") and not nvml.nvmlDeviceGetMigMode(
        handle, byref(now), byref(pending)
    ):
        found["mig"] = bool(now.value)
        slices = []
        for number in range(8 if now.value else 0):
            part = c_void_p()
            if not nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number, byref(part)):
                uuid = "MIG"
                if not nvml.nvmlDeviceGetUUID(part, text, len(text)):
                    uuid = text.value.decode(errors="replace")
                slices.append(uuid)
        found["slices"] = slices
    return found


def nvml():
    """Start NVML and list its devices."""
    library, found = load("libnvidia-ml.so.1")
    if library:
        text, count = create_string_buffer(96), c_uint()
        library.nvmlErrorString.restype = c_char_p
        found["code"] = library.nvmlInit_v2()
        found["message"] = (library.nvmlErrorString(found["code"]) or b"").decode()
        found["devices"] = []
        if not found["code"]:
            if not library.nvmlSystemGetDriverVersion(text, len(text)):
                found["driver"] = text.value.decode()
            library.nvmlDeviceGetCount_v2(byref(count))
            found["devices"] = [nvml_device(library, i) for i in range(count.value)]
            library.nvmlShutdown()
    return found


def version(library, function, kind):
    """Ask a library for its version; "" where it does not say."""
    call = getattr(library, function, None)
    a, b, c = c_int(), c_int(), c_int()
    if call is None:
        return ""
    if kind == "xyz":
        failed = [call(number, byref(into)) for number, into in enumerate((a, b, c))]
        return "" if any(failed) else f"{a.value}.{b.value}.{c.value}"
    if kind == "pair":
        return "" if call(byref(a), byref(b)) else f"{a.value}.{b.value}"
    if kind == "size_t":
        call.restype = c_size_t
        number = call()
    else:
        number = 0 if call(byref(a)) else a.value
    if number >= 20000:  # cuDNN and NCCL: 92800 is 9.28.0
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    # CUDA's runtime: 12090 is 12.9. CUPTI counts its interface: no version that people know.
    return f"{number // 1000}.{number % 1000 // 10}" if number >= 10000 else ""


def libraries(wanted):
    """Load each library; a line for each, so that a crash takes only its own."""
    for word in wanted:
        name, function, kind = word.split("=")
        library, found = load(name)
        if library:
            found["version"] = version(library, function, kind)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "libraries":
        libraries(sys.argv[2:])
    else:
        print(json.dumps(nvml() if sys.argv[1] == "nvml" else cuda("context" in sys.argv[2:])))
    sys.stdout.flush()
    # Libraries may hang in their own clean-up.
    import os

    os._exit(0)
