"""Reads the machine: files, device nodes, limits. Tests give it a folder of their own as root."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit
NODES = ("nvidiactl", "nvidia-uvm")  # what every CUDA program opens beside the GPU's own


class Machine:
    """This machine, or a folder that looks like one.

    :param root: where its ``/proc``, ``/sys``, ``/dev`` and ``/etc`` lie.
    :param environ: its environment variables.
    """

    def __init__(self, root: str | Path = "/", environ: Mapping[str, str] | None = None) -> None:
        self.root = Path(root)
        self.environ = os.environ if environ is None else environ

    def path(self, name: str) -> Path:
        """Return where a file of the machine lies."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str:
        """Return a file's text, "" where it cannot be read."""
        try:
            return self.path(name).read_text(errors="replace")
        except OSError:
            return ""

    def gpu_nodes(self) -> list[str]:
        """Return the GPUs' device nodes, such as ``/dev/nvidia0``, by number."""
        try:
            names = os.listdir(self.path("/dev"))
        except OSError:
            return []
        numbers = sorted(int(n[6:]) for n in names if re.fullmatch(r"nvidia\d+", n))
        return [f"/dev/nvidia{number}" for number in numbers]

    def has(self, name: str) -> bool:
        """Whether there is a file or a node of that name."""
        return self.path(name).exists()

    def open_error(self, name: str) -> OSError | None:
        """Open a device node for reading and writing, as CUDA does; None where that works."""
        try:
            os.close(os.open(self.path(name), os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            return error
        return None

    def memory_limit(self) -> int | None:
        """Return the memory limit of this control group in bytes (v2, else v1), or None."""
        for name in ("memory.max", "memory/memory.limit_in_bytes"):
            text = self.read(f"/sys/fs/cgroup/{name}").strip()
            if text.isdigit():
                return int(text) if int(text) < UNLIMITED else None
        return None

    def memory(self) -> int | None:
        """Return the machine's memory in bytes, or None."""
        found = re.search(r"^MemTotal:\s+(\d+) kB", self.read("/proc/meminfo"), re.MULTILINE)
        return int(found.group(1)) << 10 if found else None

    def space(self, name: str) -> tuple[int, int] | None:
        """Return the size and the free bytes of the file system that holds a folder, or None."""
        try:
            info = os.statvfs(self.path(name))
        except OSError:
            return None
        return info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize


def size(count: int) -> str:
    """Write a number of bytes as people do: ``64 MiB``, ``7.8 GiB``."""
    if count < 1 << 30:
        return f"{count / (1 << 20):.0f} MiB"
    return f"{count / (1 << 30):.1f}".removesuffix(".0") + " GiB"
