"""Every cause that the doctor names, with its fix. docs/gpu.md quotes these very lines, and a test
compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hothouse.rows import FAIL, INFO, WARN, Row


@dataclass(frozen=True)
class Finding:
    """What is wrong and what to do; both are templates.

    :param row: the name of the row that it belongs to.
    """

    row: str
    cause: str
    fix: str
    status: str = FAIL


RESTART = "start the container anew with docker run --gpus all (compose: scripts/inv up --gpu)"
HOST = "run scripts/inv doctor on the host"

FINDINGS = {
    # Which image.
    "no-tensorflow": Finding(
        "image", "TensorFlow is not installed in this Python",
        "use an unchanged hothouse image; pip list shows what is there"),
    "cpu-image": Finding(
        "image", "this is the CPU image, and a GPU was asked for: {sign}",
        "use the tag :cuda instead of :cpu (hothouse/jupyter:cuda, hothouse/tensorflow:cuda)"),
    # The driver.
    "no-gpu": Finding(
        "driver", "no NVIDIA GPU or driver is visible on this machine, so the CPU computes",
        "for a GPU install NVIDIA's driver {floor} or newer on the host until nvidia-smi lists it, "
        "then " + RESTART, WARN),
    "not-given": Finding(
        "driver", "the host has the NVIDIA driver {driver}, but this container was given no GPU",
        RESTART + "; if that fails, " + HOST),
    "driver-old": Finding(
        "driver", "the NVIDIA driver {driver} is too old for this image's CUDA {cuda}, which needs "
        "{floor}",
        "update the host's driver to {floor} or newer, reboot it and start the container anew"),
    "driver-mismatch": Finding(
        "driver", "the driver's libraries and its kernel module are of different versions: the "
        "driver was updated and the host not rebooted",
        "reboot the host, then start the container anew"),
    "nvml-failed": Finding(
        "driver", "NVML does not start: {message}",
        "run nvidia-smi on the host; if that fails too, reboot it or reinstall its driver", WARN),
    # libcuda.
    "toolkit-missing": Finding(
        "libcuda", "the GPU's device nodes are here, but the driver's libraries are not: NVIDIA's "
        "container toolkit did not start this container",
        "install the NVIDIA Container Toolkit on the host, then " + RESTART),
    "no-compute": Finding(
        "libcuda", "nvidia-smi works but libcuda.so.1 is missing: the container was started "
        "without the driver capability compute",
        "start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility (or take that variable away)"),
    "libcuda-missing": Finding(
        "libcuda", "nvidia-smi works but libcuda.so.1 is missing: the host's driver was installed "
        "without its compute part",
        "install the driver's compute libraries on the host (Debian: libcuda1, Ubuntu: "
        "libnvidia-compute-VERSION), then start the container anew"),
    "libcuda-broken": Finding(
        "libcuda", "libcuda.so.1 is here and does not load: {message}",
        "remove what covers it (a copy in the image, LD_LIBRARY_PATH, LD_PRELOAD), then "
        + RESTART),
    "libcuda-hangs": Finding(
        "libcuda", "the CUDA driver does not answer: {message}",
        "run it again: without the service nvidia-persistenced on the host the driver starts each "
        "GPU anew, which takes seconds; else look at the host's kernel log for NVRM or Xid "
        "(sudo dmesg), then reboot it"),
    "cuda-stub": Finding(
        "libcuda", "libcuda.so.1 is the toolkit's stub and no driver",
        "take the toolkit's folder stubs out of LD_LIBRARY_PATH"),
    "cuda-object": Finding(
        "libcuda", "the CUDA driver could not load its own libraries (cuInit says {code})",
        RESTART + "; do not mount libcuda.so.1 alone"),
    "cuda-no-device": Finding(
        "libcuda", "the CUDA driver finds no GPU (cuInit says {code})",
        RESTART + "; nvidia-smi on the host must list the GPU"),
    "cuda-invalid-device": Finding(
        "libcuda", "the CUDA driver says that the GPU is no valid one (cuInit says {code})",
        "run nvidia-smi on the host: a GPU may be lost or in a mode that CUDA cannot use"),
    "cuda-system": Finding(
        "libcuda", "the kernel refused what the CUDA driver asked for (cuInit says {code})",
        "look at the host's kernel log (sudo dmesg); a seccomp profile or a missing "
        "/dev/nvidia-uvm does this too"),
    "cuda-compat": Finding(
        "libcuda", "a CUDA compatibility package covers the driver, and this GPU does not support "
        "that (cuInit says {code})",
        "take the folder compat out of LD_LIBRARY_PATH, or update the driver on the host"),
    "fabric": Finding(
        "libcuda", "the GPUs' NVSwitch is not ready (cuInit says {code})",
        "start the service nvidia-fabricmanager on the host, of the very version of the driver"),
    "mps": Finding(
        "libcuda", "CUDA's multi-process service does not answer (cuInit says {code})",
        "start it on the host (nvidia-cuda-mps-control -d), or unset CUDA_MPS_PIPE_DIRECTORY"),
    "cuda-unknown": Finding(
        "libcuda", "the CUDA driver does not start and does not say why (cuInit says {code})",
        "on the host run sudo nvidia-modprobe -u -c 0, then " + RESTART + "; else reboot the host"),
    "cuda-other": Finding(
        "libcuda", "the CUDA driver does not start (cuInit says {code})",
        "look the number up in NVIDIA's CUresult, and look at the host's kernel log (sudo dmesg)"),
    # Device nodes.
    "node-cgroup": Finding(
        "device nodes", "the container may not open {node}: the engine's device rules (cgroup) "
        "forbid it, as after systemctl daemon-reload on the host",
        "start the container anew; to keep it from coming back use CDI "
        "(docker run --device nvidia.com/gpu=all)"),
    "node-mode": Finding(
        "device nodes", "uid {uid} may not open {node}: its mode is {mode}, its owner {owner}",
        "start the container with --group-add {gid}, or make the node readable and writable for "
        "all on the host (NVreg_DeviceFileMode=0666)"),
    "node-other": Finding(
        "device nodes", "{node} cannot be opened: {message}",
        "run nvidia-smi on the host; the GPU may be lost, or its kernel module not loaded"),
    "node-missing": Finding(
        "device nodes", "the driver's libraries are here, but the device node {node} is not",
        "on the host run sudo nvidia-modprobe -u -c 0 (it makes the nodes), then " + RESTART),
    # Visibility.
    "hidden": Finding(
        "visibility", "{variable}={value} hides every GPU, so the CPU computes",
        "unset {variable}, or name a GPU: {variable}=0", WARN),
    "visible-nonsense": Finding(
        "visibility", "CUDA_VISIBLE_DEVICES={value}: {word!r} is no index, GPU-… or MIG-… name",
        "unset CUDA_VISIBLE_DEVICES, or set it to indexes such as 0 or 0,1"),
    "visible-twice": Finding(
        "visibility", "CUDA_VISIBLE_DEVICES={value} names {word} twice, and CUDA then sees no GPU",
        "name each GPU once in CUDA_VISIBLE_DEVICES"),
    "visible-mig": Finding(
        "visibility", "CUDA uses one MIG slice for each process; {word} is not used",
        "name one slice in CUDA_VISIBLE_DEVICES, and start a process for each", WARN),
    "visible-absent": Finding(
        "visibility", "CUDA_VISIBLE_DEVICES={value}: there is no GPU {word}; this container has "
        "{count}",
        "unset CUDA_VISIBLE_DEVICES, or choose among {choice}"),
    # CUDA's libraries and tools in the image.
    "library": Finding(
        "CUDA libraries", "{library} does not load: {message}",
        "use an unchanged image, and unset LD_LIBRARY_PATH and LD_PRELOAD where they are set"),
    "tool": Finding(
        "ptxas, libdevice", "{tool} is missing, so XLA cannot compile for the GPU",
        "use an unchanged image: {tool} is part of the package nvidia-cuda-nvcc-cu12"),
    "tool-broken": Finding(
        "ptxas, libdevice", "{tool} does not run, so XLA cannot compile for the GPU: {message}",
        "use an unchanged image; a file system mounted noexec does this too"),
    # The GPUs.
    "capability-old": Finding(
        "GPU {index}", "the GPU {name} has compute capability {capability}, and this build begins "
        "at {first}",
        "use a newer GPU, or build TensorFlow from source for {capability}"),
    "capability-mixed": Finding(
        "GPU {index}", "some of the build's kernels for compute capability {capability} are PTX: "
        "the driver compiles them at their first use, which takes seconds, once",
        "nothing; a cache on a volume keeps them (CUDA_CACHE_PATH, now {cache})", INFO),
    "capability-ptx": Finding(
        "GPU {index}", "the build has no kernels for compute capability {capability}, only PTX: "
        "the first start compiles them, which takes minutes",
        "wait once; keep the cache on a volume (CUDA_CACHE_PATH, now {cache})", INFO),
    "driver-ptx": Finding(
        "GPU {index}", "the NVIDIA driver {driver} knows CUDA up to {cuda}, and TensorFlow's "
        "kernels for compute capability {capability} are PTX of CUDA {built}, which it cannot "
        "compile",
        "update the host's driver to {floor} or newer, reboot it and start the container anew"),
    "capability-unknown": Finding(
        "GPU {index}", "the driver does not tell the compute capability of the GPU {name}",
        "run nvidia-smi on the host; update its driver", WARN),
    "device-busy": Finding(
        "GPU {index}", "the GPU {name} is taken: another process has it exclusively, or it is not "
        "available (it says {code})",
        "end the other process (nvidia-smi lists it), or on the host: sudo nvidia-smi -c 0"),
    "device-memory": Finding(
        "GPU {index}", "the memory of the GPU {name} is full (it says {code})",
        "end the processes that hold it (nvidia-smi lists them)"),
    "device-context": Finding(
        "GPU {index}", "no program can be run on the GPU {name} (it says {code})",
        "look at the host's kernel log for lines with Xid (sudo dmesg), then reset or reboot"),
    "mig-no-slice": Finding(
        "MIG", "MIG mode is on, but this container was given no slice of the GPU",
        "make slices on the host (sudo nvidia-smi mig -cgi … -C) and give one: "
        "docker run --gpus device=MIG-…"),
    # The container.
    "shm": Finding(
        "/dev/shm", "/dev/shm has only {size} (Docker's default is 64 MB): data loaders with "
        "several processes, and NCCL with several GPUs, run out of it",
        "docker run --shm-size 1g (compose: shm_size: 1gb)", WARN),
    "memory": Finding(
        "memory", "the memory limit of {size} is low: TensorFlow's import alone takes 400 MB",
        "give the container at least 1 GiB (docker run --memory 2g, HOTHOUSE_MEMORY=2g in .env)",
        WARN),
    "disk": Finding(
        "disk", "the home folder {home} has only {size} left",
        "delete files in its volume, or make room on the host", WARN),
    "home": Finding(
        "disk", "the home folder {home} is not writable for uid {uid}",
        "run with --user {uid}:0, or mount a volume that this user owns", WARN),
    "threads": Finding(
        "CPU", "{variable}={value} is more than the {threads} CPUs that this container may use",
        "unset {variable}: the image sets it from the CPU quota", WARN),
    # Measuring.
    "work-failed": Finding(
        "{device} {work}", "TensorFlow could not compute on the {device}: {message}",
        "TensorFlow's own words are above; where they name PTX or CUDA_ERROR, update the host's "
        "driver"),
    "work-wrong": Finding(
        "{device} {work}", "TensorFlow computed a wrong result on the {device}: {message}",
        "run it again; if it stays, the {device} or its driver is broken: update or replace it"),
    "work-slow": Finding(
        "{device} {work}", "TensorFlow did not end on the {device} within {limit:.0f} s",
        "run it again with --limit {more:.0f}; a first start on a new GPU compiles for minutes"),
    "work-killed": Finding(
        "{device} {work}", "the process that computes on the {device} was ended by {signal}",
        "give the container more memory (SIGKILL), or show the lines above to Hothouse's issues"),
    "work-no-gpu": Finding(
        "GPU {work}", "the CUDA driver works, but TensorFlow registers no GPU",
        "TensorFlow's own lines above name the library that it misses; use an unchanged image"),
    "no-gpu-computes": Finding(
        "GPU expected", "a GPU was expected (--expect-gpu) and none computes",
        "mend what the lines above name; without --expect-gpu the CPU is enough"),
}


def row(
    key: str, found: str, among: Mapping[str, Finding] = FINDINGS, **fields: object
) -> Row:
    """Make the row of a finding.

    :param key: its name among the findings.
    :param found: the table's text.
    :param fields: the values of its templates.
    """
    finding = among[key]
    name, cause, fix = (
        " ".join(text.format(**fields).split())
        for text in (finding.row, finding.cause, finding.fix)
    )
    return Row(name, finding.status, found, cause, fix, key)
