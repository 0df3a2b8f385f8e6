"""The host's side of a GPU: driver, device nodes, container toolkit, CDI. It only looks."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scripts import locks
from scripts.host_findings import FINDINGS
from scripts.shared import findings, machine, nvidia, rows

Row, OK, INFO = rows.Row, rows.OK, rows.INFO
NVIDIA_VENDOR = "0x10de"  # of PCI
#: Where specifications lie when the engine does not say (CNCF's Container Device Interface).
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
#: For old drivers, whose nvidia-smi doesn't know compute_cap.
SMI_OLD = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
#: Seconds: without nvidia-persistenced it starts each GPU anew.
SMI_LIMIT = 60
SMI_LINE = re.compile(r"(?P<name>.+?), *(?P<driver>\d+\.[\d.]+)(?:, *(?P<capability>.*))?")
#: The toolkit's programs: the engine starts the first for `--gpus`, a person uses the second.
HOOK, CTK = "nvidia-container-runtime-hook", "nvidia-ctk"


@dataclass
class Host:
    """A machine and its programs.

    :param path: where programs are looked for, as PATH.
    """

    machine: machine.Machine
    path: str
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def which(self, name: str) -> str | None:
        """Return where a program is, or None."""
        return shutil.which(name, path=self.path)


def here() -> Host:
    """Return this host. Root's folders count too: the engine finds programs there."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/usr/bin:/usr/lib/wsl/lib"
    return Host(machine.Machine(), path)


def output(*command: str, limit: float = 20) -> subprocess.CompletedProcess[str] | None:
    """Run a command and keep what it prints; None where it cannot be run or does not end.

    :param limit: seconds.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit,
                              stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def cuda_major() -> int:
    """Return the major version of the CUDA that the lock names for the images."""
    for path in locks.WHEELS:
        for package in locks.read(path).packages:
            if package.name.startswith("nvidia-cuda-runtime"):
                return int(package.version.split(".")[0])
    return max(nvidia.DRIVER_FLOORS)


def pci_gpus(host: Host) -> int:
    """Count NVIDIA's display controllers on the PCI bus, driver or not."""
    count = 0
    folder = host.machine.path("/sys/bus/pci/devices")
    for device in folder.iterdir() if folder.is_dir() else ():
        name = f"/sys/bus/pci/devices/{device.name}"
        vendor = host.machine.read(f"{name}/vendor").strip()
        # PCI's class 03: VGA (0300) and 3D controllers (0302).
        count += vendor == NVIDIA_VENDOR and host.machine.read(f"{name}/class").startswith("0x03")
    return count


def is_wsl(host: Host) -> bool:
    """Whether this is Windows' Linux."""
    return "microsoft" in host.machine.read("/proc/version").lower()


class Smi(NamedTuple):
    """What nvidia-smi says.

    :param failed: why it failed, "" where it did not.
    :param capabilities: the GPUs' compute capabilities, (0, 0) where it does not tell one.
    """

    names: list[str]
    driver: str = ""
    failed: str = ""
    capabilities: list[tuple[int, ...]] = []


def smi(host: Host) -> Smi:
    """Ask nvidia-smi."""
    program = host.which(SMI[0])
    if not program:
        return Smi([])
    done = output(program, *SMI[1:], limit=SMI_LIMIT)
    if done and done.returncode and "compute_cap" in done.stdout + done.stderr:
        done = output(program, *SMI_OLD[1:], limit=SMI_LIMIT)
    if done is None:
        return Smi([], failed=f"no answer within {SMI_LIMIT} s")
    lines = [found for line in done.stdout.splitlines() if (found := SMI_LINE.fullmatch(line))]
    if done.returncode or not lines:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"status {done.returncode}"]
        return Smi([], failed=said[0].strip().rstrip("."))
    capabilities = [nvidia.parse(line["capability"] or "") or (0, 0) for line in lines]
    return Smi([line["name"] for line in lines], lines[0]["driver"], "", capabilities)


def driver(host: Host) -> tuple[Row, str]:
    """Look at the driver.

    :returns: its row, and its version ("" where there is none that works).
    """
    names, version, failed, capabilities = smi(host)
    kernel = nvidia.driver_of_kernel(host.machine.read("/proc/driver/nvidia/version"))
    major = cuda_major()
    floor = nvidia.show(nvidia.DRIVER_FLOORS[major])
    said = ", ".join(filter(None, [version or kernel, *names])) or "none"

    def finding(key: str, **values: object) -> tuple[Row, str]:
        return findings.row(key, said, FINDINGS, **{"floor": floor, **values}), ""

    if not kernel and not version:
        if is_wsl(host) and not host.machine.has("/dev/dxg"):
            return finding("host-wsl")
        if failed:
            return finding("host-smi-failed", message=failed)
        if pci_gpus(host):
            nouveau = host.machine.has("/sys/module/nouveau")
            return finding("host-no-driver", extra=" (nouveau is, which cannot compute)"
                           if nouveau else "")
        return finding("host-no-gpu")
    if failed:
        return finding("host-smi-failed", message=failed)
    if nvidia.below_floor(version or kernel, major):
        return finding("host-driver-old", driver=version or kernel, cuda=major)
    new = [pair for pair in zip(names, capabilities, strict=True) if pair[1] >= nvidia.PTX_FROM]
    cuda, ptx_floor = max(nvidia.PTX_FLOORS.items())
    if new and (nvidia.parse(version) or ptx_floor) < ptx_floor:
        shown = ".".join(map(str, new[0][1]))
        return finding("host-driver-ptx", driver=version, name=new[0][0], capability=shown,
                       cuda=nvidia.show_cuda(cuda), floor=nvidia.show(ptx_floor))
    return Row("driver", OK, f"{said}; CUDA {major} needs {floor} or newer"), version or kernel


def nodes(host: Host) -> Row:
    """Look at the device nodes that a container is given."""
    found = host.machine.gpu_nodes()
    found += [f"/dev/{n}" for n in (*machine.NODES, "dxg") if host.machine.has(f"/dev/{n}")]
    said = ", ".join(found) or "none"
    if "/dev/dxg" in found:
        return Row("device nodes", OK, said)
    wanted = [f"/dev/{name}" for name in machine.NODES]
    # A pod or a machine in a machine may have /dev/nvidia3 alone.
    for node in wanted if host.machine.gpu_nodes() else ("/dev/nvidia0", *wanted):
        if node not in found:
            return findings.row("host-nodes", said, FINDINGS, node=node)
    return Row("device nodes", OK, said)


def specifications(host: Host, info: dict) -> dict[str, str]:
    """Return the CDI specifications that name NVIDIA's GPUs: file → text."""
    found = {}
    for folder in info.get("CDISpecDirs") or CDI_FOLDERS:
        place = host.machine.path(folder)
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            name = str(Path(folder) / path.name)
            if path.suffix in (".yaml", ".json") and (
                "nvidia.com/gpu" in (text := host.machine.read(name))
            ):
                found[name] = text
    return found


def cdi(host: Host, info: dict, version: str) -> tuple[Row, bool]:
    """Look at the Container Device Interface.

    :param info: `docker info`.
    :param version: the driver's.
    :returns: its row, and whether it can give a GPU.
    """
    # Engines that use CDI name the folders that they read.
    used = bool(info.get("CDISpecDirs"))
    files = specifications(host, info)
    devices = [device.get("ID", "") for device in info.get("DiscoveredDevices") or []
               if device.get("Source") == "cdi"]
    named = ", ".join(devices) or ", ".join(files) or "no specification"
    said = f"{'on' if used else 'off'}; {named}"
    for file, text in files.items():
        old = re.search(r"libcuda\.so\.(\d+\.\d+[\d.]*)", text)
        if old and version and old.group(1) != version:
            values = {"file": file, "old": old.group(1), "driver": version}
            return findings.row("cdi-stale", said, FINDINGS, **values), False
    works = used and bool(files or any(name.startswith("nvidia.com/gpu") for name in devices))
    return Row("CDI", OK if works else INFO, said), works


def toolkit(host: Host, info: dict) -> tuple[Row, bool]:
    """Look at NVIDIA's container toolkit.

    :returns: its row, and whether it can give a GPU by ``--gpus``.
    """
    programs = [name for name in (HOOK, CTK) if host.which(name)]
    runtime = "nvidia" in (info.get("Runtimes") or {})
    said = ", ".join([*programs, *(["the engine has the runtime nvidia"] if runtime else [])])
    works = HOOK in programs
    return Row("container toolkit", OK if works else INFO, said or "not installed"), works


def rows_of(host: Host, info: dict, elsewhere: str = "") -> Iterator[Row]:
    """Look at everything that a container with a GPU needs, in the order in which to mend it.

    :param info: `docker info`, empty where no engine answers.
    :param elsewhere: the engine's address where it is on another machine.
    """
    if elsewhere:
        yield findings.row("host-elsewhere", elsewhere, FINDINGS, where=elsewhere)
        return
    row, version = driver(host)
    yield row
    if not version and row.key == "host-no-gpu":
        return
    if version:
        yield nodes(host)
    tool, hook_works = toolkit(host, info)
    other, cdi_works = cdi(host, info, version)
    if not hook_works and not cdi_works and other.status != rows.WARN:
        if specifications(host, info) and info:
            other = findings.row("cdi-off", other.found, FINDINGS)
        else:
            key = "toolkit-hook" if host.which(CTK) else "toolkit-absent"
            tool = findings.row(key, tool.found, FINDINGS)
    yield tool
    yield other
