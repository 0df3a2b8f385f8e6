"""Stand-ins for a GPU's driver in a container: they test how the doctor reads a machine, and never
count as evidence that a GPU works."""

import subprocess
import sys
from pathlib import Path

from containers import ROOT

SOURCES = ROOT / "tests" / "standins"
LINKER = "/usr/lib/x86_64-linux-gnu"  # the dynamic linker looks there without ldconfig
PACKAGES = "/usr/local/lib/python3.13/dist-packages"
SHARED = ROOT / "images/tensorflow/rootfs" / PACKAGES.lstrip("/")
#: What the doctor looks for in TensorFlow's CUDA build, as that build has it.
BUILD_INFO = (
    "import collections\n"
    "build_info = collections.OrderedDict([('cuda_compute_capabilities', "
    "['sm_60', 'sm_70', 'sm_80', 'sm_89', 'compute_90']), ('cuda_version', '12.5.1'), "
    "('is_cuda_build', True)])\n"
)
DISTRIBUTIONS = ("tensorflow-2.21.0", "nvidia_cuda_runtime_cu12-12.9.79")
TOOLS = ("bin/ptxas", "nvvm/libdevice/libdevice.10.bc")


def import_shared() -> None:
    """Let a test import the image's package, whose facts the tests compare with."""
    if str(SHARED) not in sys.path:
        sys.path.append(str(SHARED))
        sys.dont_write_bytecode = True  # the folder is part of an image


def compiler() -> str:
    """Return the path of a C compiler; installs Debian's gcc where that is possible.

    :raises AssertionError: there is none and it cannot be installed here.
    """
    from scripts import install

    path = install.program(("cc", "gcc", "clang"), ("gcc", "libc6-dev"), "the stand-ins")
    if path:
        return path
    raise AssertionError("the stand-ins need a C compiler: install the packages gcc and libc6-dev")


class StandIns:
    """The compiled stand-ins in a folder, as options of ``docker run``."""

    def __init__(self, folder: Path) -> None:
        from hothouse import nvidia

        self.folder = folder
        for name, file in (("cuda", "libcuda.so.1"), ("nvml", "libnvidia-ml.so.1"),
                           ("library", "library.so")):
            command = [compiler(), "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1",
                       f"-Wl,-soname,{file}", "-o", str(folder / file),
                       str(SOURCES / f"{name}.c")]
            subprocess.run(command, check=True)
        self.libraries = [name for name, *_ in nvidia.LIBRARIES]
        (folder / "empty").write_text("")
        (folder / "build_info.py").write_text(BUILD_INFO)
        for name in DISTRIBUTIONS:
            (folder / f"{name}.dist-info").mkdir()
        for tool in TOOLS:
            path = folder / "cuda_nvcc" / tool
            path.parent.mkdir(parents=True)
            path.write_text("#!/bin/sh\necho stand-in, V12.9.86\n")
            path.chmod(0o755)
        folder.chmod(0o755)

    def mount(self, file: str, target: str) -> list[str]:
        """Return the options that put one of the files somewhere in the container."""
        return ["--volume", f"{self.folder / file}:{target}:ro"]

    def cuda(self) -> list[str]:
        """Return the options that put libcuda there."""
        return self.mount("libcuda.so.1", f"{LINKER}/libcuda.so.1")

    def nvml(self) -> list[str]:
        """Return the options that put NVML and nvidia-smi there."""
        return [*self.mount("libnvidia-ml.so.1", f"{LINKER}/libnvidia-ml.so.1"),
                "--volume", f"{SOURCES / 'nvidia-smi'}:/usr/bin/nvidia-smi:ro"]

    @staticmethod
    def nodes(*names: str) -> list[str]:
        """Return the options that put device nodes there; each is a /dev/null."""
        chosen = names or ("nvidia0", "nvidiactl", "nvidia-uvm")
        return [word for name in chosen for word in ("--device", f"/dev/null:/dev/{name}")]

    def gpu(self, gpus: str = "NVIDIA A100-SXM4-40GB|8.0") -> list[str]:
        """Return the options of a container that was given GPUs in the right way."""
        return [*self.cuda(), *self.nvml(), *self.nodes(), "--env", f"STANDIN_GPUS={gpus}"]

    def cuda_image(self, image: str) -> list[str]:
        """Return the options that make a CPU image look like a CUDA image: what is installed in
        it, to the eye. A CUDA image needs none."""
        if not image.endswith("cpu"):
            return []
        folder = f"{PACKAGES}/tensorflow/python/platform"
        options = self.mount("build_info.py", f"{folder}/build_info.py")
        for name in DISTRIBUTIONS:
            options += self.mount(f"{name}.dist-info", f"{PACKAGES}/{name}.dist-info")
        for name in self.libraries:
            options += self.mount("library.so", f"{LINKER}/{name}")
        return options + self.mount("cuda_nvcc", f"{PACKAGES}/nvidia/cuda_nvcc")
