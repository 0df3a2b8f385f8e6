"""The GPUs of `inv up --gpu`: are they there, and how does the engine hand them over."""

import os
import re

from scripts import engine, host_gpu
from scripts.problem import Problem
from scripts.shared import rows

#: How CDI names NVIDIA's GPUs (CNCF's Container Device Interface: vendor/class=name).
CDI_KIND = "nvidia.com/gpu="
#: How engines and toolkits say what a user can mend, and the mend.
CAUSES = {
    r"could not select device driver": (
        "the engine has no way to give a GPU to a container",
        "scripts/inv doctor --gpu says what is missing",
    ),
    r"unresolvable CDI devices (?P<name>\S+)": (
        "no CDI specification names the device {name}",
        "nvidia-ctk cdi list shows the devices; set HOTHOUSE_GPU in .env to one of them",
    ),
    r"device error: (?P<name>\S+): unknown device": (
        "there is no GPU {name}",
        "nvidia-smi -L lists the GPUs; set HOTHOUSE_GPU in .env to one of them",
    ),
    r"nvidia-container-cli: (?P<name>.+)": (
        "NVIDIA's container toolkit failed: {name}",
        "scripts/inv doctor --gpu looks at the driver and the toolkit",
    ),
}


def complaint(said: str) -> Problem | None:
    """Turn what an engine says about a GPU into one line; None where it says nothing of the kind.

    :param said: the error of `docker compose up`.
    """
    for sign, (cause, fix) in CAUSES.items():
        if found := re.search(sign, said):
            return Problem(cause.format(**found.groupdict()), fix)
    return None


def check_names(wanted: str, names: list[str]) -> None:
    """See that the GPUs that somebody names exist.

    :param wanted: ``all``, or indices and UUIDs (GPU-…, MIG-…) with commas between them.
    :param names: of the GPUs, by index; none where nothing tells them.
    :raises Problem: an index that no GPU has, or something else.
    """
    shown = ", ".join(["all", *(f"{index} ({name})" for index, name in enumerate(names))])
    fix = f"choose from {shown}, or a UUID of nvidia-smi -L"
    for word in [] if wanted == "all" else wanted.split(","):
        if word.isdecimal():
            if names and int(word) >= len(names):
                raise Problem(f"there is no GPU {word}", fix)
        elif not re.fullmatch(r"(GPU|MIG)-[0-9a-fA-F/-]+", word):
            raise Problem(f'"{word}" names no GPU', fix)


def names(host: host_gpu.Host) -> list[str]:
    """Return the GPUs' names, or their device nodes where there is no nvidia-smi; none if neither
    tells them."""
    return host_gpu.smi(host).names or host.machine.gpu_nodes()


def way(driver: str, wanted: str) -> str:
    """Return how this host gives a container these GPUs, after a look at it.

    :param driver: ``nvidia`` (by NVIDIA's toolkit; CDI is taken where that alone works) or ``cdi``.
    :param wanted: as of :func:`check_names`, or a device of CDI.
    :raises Problem: this host cannot give a container a GPU, or not these.
    """
    host, info = host_gpu.here(), engine.ask().info or {}
    if not wanted:  # compose would take an empty variable for its default, which is all
        check_names(wanted, [])
    remote = os.environ.get("DOCKER_HOST", "")
    if remote.partition("://")[0] not in ("tcp", "ssh", "http", "https"):
        for row in host_gpu.rows_of(host, info):
            if row.cause and (row.status != rows.INFO or row.key == "host-no-gpu"):
                raise Problem(row.cause, row.fix)
        if not wanted.startswith(CDI_KIND):
            check_names(wanted, names(host))
        if not host_gpu.toolkit(host, info)[1]:
            driver = "cdi"
    return driver


def variables(driver: str, wanted: str) -> dict[str, str]:
    """Return compose.yaml's variables for these GPUs; the parameters are those of :func:`way`.

    :raises Problem: as :func:`way`, or compose cannot reserve just these.
    """
    driver = way(driver, wanted)
    if driver == "cdi" and not wanted.startswith(CDI_KIND):
        if "," in wanted:
            raise Problem("with CDI compose gives one GPU or all",
                          "scripts/inv up --gpu=all, and CUDA_VISIBLE_DEVICES in the notebook")
        wanted = CDI_KIND + wanted
    return {"HOTHOUSE_GPU_DRIVER": driver, "HOTHOUSE_GPU": wanted}
