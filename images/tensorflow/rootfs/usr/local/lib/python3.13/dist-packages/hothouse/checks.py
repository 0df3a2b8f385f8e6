"""The doctor's rows that need no TensorFlow: the packages, the driver, the GPUs, the limits."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace

from hothouse import findings, installed, nvidia, probes
from hothouse.gpu import NONE_GIVEN, Facts, Verdict, absent, device_problem
from hothouse.machine import NODES, size
from hothouse.rows import FAIL, INFO, OK, WARN, Row

SHM_MIN = 256 << 20
MEMORY_MIN = 1 << 30  # TensorFlow's import alone takes 400 MB
DISK_MIN = 1 << 30  # a JIT cache and a saved model
#: XLA's compiler and its library of device functions, below any package folder.
TOOLS = {
    "ptxas": "nvidia/cuda_nvcc/bin/ptxas",
    "libdevice": "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc",
}
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def quick(facts: Facts, verdict: Verdict) -> list[Row]:
    """Return all rows that need no TensorFlow; the verdict's finding is in the row it is about."""
    rows = [image(facts), versions(), driver(facts), libcuda(facts), device_nodes(facts),
            *visibility(facts)]
    if facts.variant == installed.CUDA:
        rows += [*libraries(), tools()]
    rows += [*gpus(facts), *limits(facts)]
    if not verdict.key:
        return rows
    found = findings.row(verdict.key, "", **verdict.values)
    for index, row in enumerate(rows):
        if row.name == found.name:
            rows[index] = replace(found, found=row.found)
            return rows
    return [*rows, replace(found, found=found.cause)]


def image(facts: Facts) -> Row:
    """Say which image this is."""
    names = {installed.CPU: ("CPU image", "tensorflow-cpu"),
             installed.CUDA: ("CUDA image", "tensorflow")}
    if facts.variant not in names:
        return Row("image", FAIL, "no TensorFlow")
    what, package = names[facts.variant]
    return Row("image", OK, f"{what}: {package} {installed.versions()[package]} is installed")


def versions() -> Row:
    """List what is installed."""
    have = installed.versions()
    names = {"Keras": "keras", "NumPy": "numpy", "CUDA runtime": "nvidia-cuda-runtime-cu12",
             "cuDNN": "nvidia-cudnn-cu12", "NCCL": "nvidia-nccl-cu12", "JupyterLab": "jupyterlab"}
    parts = [f"{name} {have[package]}" for name, package in names.items() if package in have]
    return Row("versions", INFO, ", ".join([f"Python {platform.python_version()}", *parts]))


def driver(facts: Facts) -> Row:
    """Say which driver the host has."""
    nvml = facts.nvml
    if nvml.get("wrong") or nvml.get("code") not in (None, 0, nvidia.NVML_MISMATCH):
        message = nvml.get("wrong") or nvml.get("message") or f"code {nvml['code']}"
        return findings.row("nvml-failed", facts.driver or "not known", message=message)
    if not facts.driver:
        return Row("driver", INFO, "none")
    if facts.variant != installed.CUDA:
        return Row("driver", INFO, facts.driver)
    if facts.cuda_major not in nvidia.DRIVER_FLOORS:
        return Row("driver", WARN, f"{facts.driver}; the minimum of this CUDA is not known")
    said = f"{facts.driver}; CUDA {facts.cuda_major} needs {facts.floor} or newer"
    return Row("driver", OK, said)


def libcuda(facts: Facts) -> Row:
    """Say whether the driver's library for programs loads and starts."""
    cuda = facts.cuda
    if cuda.get("wrong"):
        return Row("libcuda", WARN, cuda["wrong"])
    if not cuda.get("loads"):
        return Row("libcuda", INFO, "is not here")
    if cuda.get("code"):
        return Row("libcuda", INFO, f"{cuda['path']}; cuInit says {nvidia.cu_name(cuda['code'])}")
    newest = cuda.get("cuda", 0)
    return Row("libcuda", OK, f"{cuda['path']}; starts; for CUDA up to {nvidia.show_cuda(newest)}")


def device_nodes(facts: Facts) -> Row:
    """List the device nodes and whether this user may open them."""
    here = facts.nodes + [f"/dev/{n}" for n in (*NODES, "dxg") if facts.machine.has(f"/dev/{n}")]
    if not here:
        return Row("device nodes", INFO, "none")
    said = [f"{node} ({facts.denied[node].strerror})" if node in facts.denied else node
            for node in here]
    works = bool(facts.devices)
    return Row("device nodes", OK if works and not facts.denied else INFO, ", ".join(said))


def visibility(facts: Facts) -> Iterator[Row]:
    """List the variables that choose GPUs, and warn where one names a GPU that is not there."""
    names = ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VISIBLE_DEVICES")
    environ = facts.machine.environ
    said = ", ".join(f"{name}={environ[name]}" for name in names if name in environ)
    row = Row("visibility", INFO, said or "no variable is set")
    value = environ.get("CUDA_VISIBLE_DEVICES", "")
    words = nvidia.visible_words(value) if value.strip() not in ("", "NoDevFiles") else []
    if facts.variant == installed.CUDA:
        # What CUDA sees ends at the first word that is no GPU: fewer GPUs than words.
        if words and len(facts.devices) < len(words) and facts.devices:
            word, kind = words[len(facts.devices)]
            if kind == "nonsense":
                row = findings.row("visible-nonsense", said, value=value, word=word)
            elif kind == "mig":
                row = findings.row("visible-mig", said, word=word)
            elif kind != "hide":
                seen = len(facts.nvml.get("devices", [])) or len(facts.devices)
                row = findings.row("visible-absent", said, **absent(value, word, seen))
        elif words and words[0][1] == "nonsense":
            row = findings.row("visible-nonsense", said, value=value, word=words[0][0])
        given = environ.get("NVIDIA_VISIBLE_DEVICES")
        if given in NONE_GIVEN and not facts.nodes and facts.devices == []:
            row = findings.row("hidden", said, variable="NVIDIA_VISIBLE_DEVICES", value=given)
    yield row


def libraries() -> Iterator[Row]:
    """Load each CUDA library that TensorFlow opens."""
    have = installed.versions()
    wanted = nvidia.LIBRARIES
    for (name, wheel, *_), found in zip(wanted, probes.libraries(wanted), strict=True):
        package = f"{wheel} {have[wheel]}" if wheel in have else f"no {wheel}"
        if found.get("loads"):
            own = found.get("version")
            yield Row(name, OK, f"{package}, says {own}" if own else package)
        else:
            row = findings.row("library", package, library=name, message=found["error"])
            yield replace(row, name=name)


def tools() -> Row:
    """Look for what XLA compiles with, and run its compiler."""
    for tool, path in TOOLS.items():
        if not installed.find(path):
            return findings.row("tool", f"no {path}", tool=tool)
    ptxas = str(installed.find(TOOLS["ptxas"]))
    try:
        done = subprocess.run([ptxas, "--version"], capture_output=True, text=True, timeout=20,
                              stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return findings.row("tool-broken", ptxas, tool=ptxas, message=str(error))
    version = re.search(r"V(\d+\.\d+\.\d+)", done.stdout)
    if done.returncode or not version:
        message = f"it ended with {done.returncode}"
        return findings.row("tool-broken", ptxas, tool=ptxas, message=message)
    return Row("ptxas, libdevice", OK, f"ptxas {version[1]} runs")


def gpus(facts: Facts) -> Iterator[Row]:
    """Describe each GPU that CUDA sees, and MIG."""
    for device in facts.devices:
        yield gpu(facts, device)
    sliced = [device for device in facts.nvml.get("devices", []) if device.get("mig")]
    if sliced:
        slices = [name for device in sliced for name in device.get("slices", [])]
        yield Row("MIG", OK, f"on; given: {', '.join(slices) or 'no slice'}")
    elif any(" MIG " in device.get("name", "") for device in facts.devices):
        yield Row("MIG", OK, "a slice")


def gpu(facts: Facts, device: dict) -> Row:
    """Describe one GPU and compare it with the build's kernels."""
    index = device["index"]
    if "name" not in device:
        key, values = device_problem(facts, device)  # it has none only where it failed
        return findings.row(key, "cannot be asked", **values)
    capability = tuple(device["capability"])
    shown = "{}.{}".format(*capability)
    said = f"{device['name']}, {size(device['memory'])}, compute capability {shown}"
    if facts.variant != installed.CUDA:
        return Row(f"GPU {index}", INFO, said)
    if problem := device_problem(facts, device):
        key, values = problem
        return findings.row(key, said, **values)
    built = ", ".join(facts.built)
    match nvidia.coverage(capability, facts.built):
        case "native":
            return Row(f"GPU {index}", OK, f"{said}: the build has kernels for it ({built})")
        case "mixed" | "ptx" as covered:
            cache = facts.machine.environ.get("CUDA_CACHE_PATH") or "~/.nv/ComputeCache"
            said += (f": kernels for it, some as PTX ({built})" if covered == "mixed"
                     else f": PTX only ({built}); the first start compiles")
            return findings.row(f"capability-{covered}", said, index=index, capability=shown,
                                cache=cache)
        case _:
            return findings.row("capability-unknown", said, index=index, name=device["name"])


def limits(facts: Facts) -> Iterator[Row]:
    """Look at shared memory, memory, disk and CPUs."""
    machine, environ = facts.machine, facts.machine.environ
    shm = machine.space("/dev/shm")
    if shm and shm[0] < SHM_MIN:
        yield findings.row("shm", size(shm[0]), size=size(shm[0]))
    else:
        yield Row("/dev/shm", OK if shm else INFO, size(shm[0]) if shm else "none")
    limit, whole = machine.memory_limit(), machine.memory()
    said = f"limit {size(limit)}" if limit else "no limit"
    said += f", the machine has {size(whole)}" if whole else ""
    if limit and limit < MEMORY_MIN:
        yield findings.row("memory", said, size=size(limit))
    else:
        yield Row("memory", OK, said)
    yield disk(facts)
    yield cpus(environ)


def disk(facts: Facts) -> Row:
    """Look at the home folder."""
    home = facts.machine.environ.get("HOME", "/")
    space = facts.machine.space(home)
    if not space or not os.access(facts.machine.path(home), os.W_OK):
        return findings.row("home", f"{home} is not writable", home=home, uid=os.getuid())
    said = f"{size(space[1])} free in {home}"
    if space[1] < DISK_MIN:
        return findings.row("disk", said, home=home, size=size(space[1]))
    return Row("disk", OK, said)


def cpus(environ) -> Row:
    """Compare the numbers of threads with the CPU quota."""
    try:
        import hothouse_threads
    except ImportError:
        return Row("CPU", INFO, f"{os.cpu_count()} cores")
    threads, quota = hothouse_threads.threads(), hothouse_threads.quota()
    limit = f"quota {quota}" if quota else "no quota"
    said = f"{threads} thread{'s' * (threads > 1)} ({limit}, {os.cpu_count()} cores)"
    for name in THREADS:
        value = environ.get(name, "")
        if value.isdigit() and int(value) > threads:
            return findings.row("threads", said, variable=name, value=value, threads=threads)
    return Row("CPU", OK, said)
