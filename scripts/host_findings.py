"""Every cause that `inv doctor` names for GPU containers, with its fix; docs/gpu.md quotes them.

They are warnings, and failures under ``--gpu``. The causes inside a container are in the image's
package, hothouse/findings.py.
"""

from scripts.shared import findings, rows

Finding, WARN = findings.Finding, rows.WARN

TOOLKIT = (
    "install the NVIDIA Container Toolkit (package nvidia-container-toolkit of NVIDIA's "
    "repository), then sudo nvidia-ctk runtime configure --runtime=docker and restart the engine"
)

FINDINGS = {
    "host-no-gpu": Finding(
        "driver", "there is no NVIDIA GPU in this machine",
        "use the CPU images: scripts/inv up", rows.INFO),
    "host-no-driver": Finding(
        "driver", "there is an NVIDIA GPU in this machine, but its driver is not loaded{extra}",
        "install NVIDIA's driver {floor} or newer (Debian: nvidia-driver, Ubuntu: "
        "ubuntu-drivers install), reboot, and check that nvidia-smi lists the GPU", WARN),
    "host-driver-old": Finding(
        "driver", "the host's NVIDIA driver {driver} is too old for CUDA {cuda}, which needs "
        "{floor}",
        "update the driver to {floor} or newer and reboot", WARN),
    "host-driver-ptx": Finding(
        "driver", "the host's NVIDIA driver {driver} is too old for the GPU {name}: TensorFlow's "
        "kernels for compute capability {capability} are PTX of CUDA {cuda}, which needs {floor}",
        "update the driver to {floor} or newer and reboot", WARN),
    "host-smi-failed": Finding(
        "driver", "nvidia-smi fails: {message}",
        "reboot after a driver update; else reinstall the driver of the running kernel; where it "
        "is only slow, start the service nvidia-persistenced", WARN),
    "host-wsl": Finding(
        "driver", "this is WSL2 and no GPU is passed through (/dev/dxg is missing)",
        "install NVIDIA's driver in Windows, none in Linux, then wsl --update and wsl --shutdown",
        WARN),
    "host-nodes": Finding(
        "device nodes", "the driver is loaded, but {node} is missing",
        "sudo nvidia-modprobe -u -c 0, or start the service nvidia-persistenced", WARN),
    "toolkit-absent": Finding(
        "container toolkit", "the engine has no way to give a GPU to a container: the NVIDIA "
        "Container Toolkit is not installed", TOOLKIT, WARN),
    "toolkit-hook": Finding(
        "container toolkit", "nvidia-ctk is installed, but nvidia-container-runtime-hook is not on "
        "the PATH, and the engine starts it for --gpus", TOOLKIT, WARN),
    "cdi-off": Finding(
        "CDI", "there are CDI specifications for the GPU, but the engine does not use CDI",
        'put {{"features": {{"cdi": true}}}} into /etc/docker/daemon.json and restart the engine',
        WARN),
    "cdi-stale": Finding(
        "CDI", "the CDI specification {file} is for the driver {old}, and {driver} is loaded",
        "sudo nvidia-ctk cdi generate --output={file}", WARN),
    "host-elsewhere": Finding(
        "driver", "the Docker engine is on another machine ({where}), so this one's GPU does not "
        "count",
        "run scripts/inv doctor on the engine's machine", WARN),
    "host-space": Finding(
        "disk", "{path} has {left} left, and packages, build cache and images need {need}",
        "make room there, or docker buildx prune", WARN),
    "host-full": Finding(
        "disk", "{path} has only {left} left",
        "make room there, or docker buildx prune"),
}
