"""Machines that a folder and a few scripts stand for: they test our reading of a machine, and never
count as evidence that a GPU works."""

import shutil
from pathlib import Path

import pytest

from scripts import engine, host_gpu
from scripts.paths import ROOT
from scripts.shared import machine, rows

SMI = ROOT / "tests/standins/nvidia-smi"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
#: The part that counts of `docker info` on an engine of version 26, and of 28.
OLD = {"ServerVersion": "26.1.5", "Runtimes": {"runc": {"path": "runc"}}}
NEW = {
    **OLD, "ServerVersion": "28.3.2", "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"},
                          {"Source": "cdi", "ID": "nvidia.com/gpu=all"}],
}
SPEC = "kind: nvidia.com/gpu\ncontainerEdits:\n- hostPath: /usr/lib/libcuda.so.550.54.15\n"


class Stage:
    """A machine in a folder: files below ``root``, programs in ``bin``."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "root", folder / "bin"
        self.bin.mkdir()
        (self.root / "dev").mkdir(parents=True)

    def write(self, name: str, text: str = "") -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def program(self, name: str) -> None:
        shutil.copy(SMI, self.bin / name)

    def driver(self, kernel: str = CLOSED) -> None:
        """A machine with a driver that works."""
        self.write("/proc/driver/nvidia/version", kernel)
        self.program("nvidia-smi")
        for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
            self.write(f"/dev/{name}")

    def pci(self) -> None:
        self.write("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
        self.write("/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")

    @property
    def host(self) -> host_gpu.Host:
        return host_gpu.Host(machine.Machine(self.root), f"{self.bin}:/usr/bin:/bin")

    def look(self, info: dict, elsewhere: str = "") -> dict[str, rows.Row]:
        return {row.name: row for row in host_gpu.rows_of(self.host, info, elsewhere)}

    def become_this_host(self, monkeypatch: pytest.MonkeyPatch, info: dict) -> None:
        """Let the scripts take it for the machine that they run on."""
        monkeypatch.setattr(host_gpu, "here", lambda: self.host)
        monkeypatch.setattr(engine, "ask", lambda: engine.Answer(info))
        monkeypatch.delenv("DOCKER_HOST", raising=False)
