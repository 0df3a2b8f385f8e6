"""The local notebook: docker compose, wrapped so that what goes wrong is said in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scripts import build, engine, gpus
from scripts.paths import ROOT
from scripts.problem import Problem

#: The services of compose.yaml, of which one runs at a time.
CPU, CUDA = "notebook", "notebook-cuda"
#: Longest time from the start of the container to the first answer, in seconds.
START_LIMIT = 120
#: The image's own user, for callers who are root: a notebook never runs as root.
DEFAULT_USER = (1000, 100)
ENV = ROOT / ".env"


@dataclass(frozen=True)
class Gpu:
    """The GPUs that the notebook is to have: ``driver`` is nvidia or cdi, ``devices`` its names."""

    driver: str
    devices: str


@dataclass(frozen=True)
class Settings:
    """What compose.yaml, .env and the environment come to."""

    service: str
    project: str
    image: str
    user: str
    port: int
    work: Path
    gpu: Gpu | None = None

    @property
    def uid(self) -> int:
        """The user that the notebook runs as."""
        return int(self.user.split(":")[0])


def compose(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run docker compose on the project in the checkout, with both services in its sight."""
    command = ["docker", "compose", "--profile", "*", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, **options)


def answer(*arguments: str) -> subprocess.CompletedProcess:
    """Run docker compose and keep what it prints."""
    return compose(*arguments, capture_output=True, text=True)


def settings(service: str = CPU) -> Settings:
    """Return the settings in force.

    :param service: of the two.
    :raises Problem: compose.yaml or .env is not valid.
    """
    result = answer("config", "--format", "json")
    if result.returncode:
        cause = (result.stderr.strip().splitlines() or ["docker compose config failed"])[-1]
        raise Problem(f"the settings are not valid: {cause}", "mend .env or compose.yaml")
    config = json.loads(result.stdout)
    found = config["services"][service]
    if not re.fullmatch(r"\d+:\d+", found["user"]):
        raise Problem(f"the user {found['user']} is not two numbers",
                      "set HOTHOUSE_UID and HOTHOUSE_GID in .env to those of id -u and id -g")
    work = next(v for v in found["volumes"] if v["type"] == "bind")
    gpu = None
    if service == CUDA:
        device = found["deploy"]["resources"]["reservations"]["devices"][0]
        gpu = Gpu(device["driver"], device["device_ids"][0])
    return Settings(
        service, config["name"], found["image"], found["user"],
        int(found["ports"][0]["published"]), Path(work["source"]), gpu,
    )


def caller() -> tuple[int, int]:
    """Return the user and group that files in the work folder should belong to."""
    uid = int(os.environ.get("SUDO_UID", os.getuid()))
    gid = int(os.environ.get("SUDO_GID", os.getgid()))
    return (uid, gid) if uid else DEFAULT_USER


def write_env() -> None:
    """Write .env with the caller's user when there is none."""
    if ENV.exists():
        return
    uid, gid = caller()
    ENV.write_text(
        "# Written by `scripts/inv up`; .env.example explains what else can be set.\n"
        f"HOTHOUSE_UID={uid}\nHOTHOUSE_GID={gid}\n"
    )


def prepare_work(now: Settings) -> None:
    """See to it that the notebook's user can save in the work folder.

    Root's own checkout is given to that user; a folder that somebody chose is only looked at.

    :raises Problem: it is missing, no folder, or not writable.
    """
    work, uid = now.work, now.uid
    if uid == 0:
        raise Problem("HOTHOUSE_UID is 0 and a notebook never runs as root",
                      "set HOTHOUSE_UID in .env to the user who owns the work folder")
    if not work.exists():
        raise Problem(f"the work folder {work} does not exist",
                      f"mkdir -p {work}, or set HOTHOUSE_WORK in .env")
    if not work.is_dir():
        raise Problem(f"the work folder {work} is no folder", "set HOTHOUSE_WORK in .env")
    owner = work.stat().st_uid
    if owner == 0 and os.getuid() == 0 and work == ROOT / "work":
        print(f"+ chown {now.user} work", file=sys.stderr)
        os.chown(work, *(int(part) for part in now.user.split(":")))


def state(service: str = CPU) -> tuple[str, str]:
    """Return state and health of a service's container, ("", "") when there is none."""
    container = answer("ps", "--all", "--quiet", service).stdout.strip()
    if not container:
        return "", ""
    form = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
    result = subprocess.run(
        ["docker", "inspect", "--format", form, container],
        capture_output=True, text=True, check=False,
    )
    status, _, health = result.stdout.strip().partition(" ")
    return status, health


def present() -> str:
    """Return the service that has a container: the CUDA one, else the CPU one, be it there or not.
    """
    return CUDA if state(CUDA)[0] else CPU


def check_port(now: Settings) -> None:
    """See that the port is free.

    :raises Problem: another program listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", now.port))
        except PermissionError:
            raise Problem(f"port {now.port} is for root alone",
                          "set HOTHOUSE_PORT in .env to a number above 1023") from None
        except OSError:
            raise Problem(
                f"port {now.port} is taken by another program",
                f"set another one in .env (HOTHOUSE_PORT={now.port + 1}) and run it again",
            ) from None


def complaint(log: str) -> Problem:
    """Turn the log of a notebook that did not start into one line."""
    for line in reversed(log.splitlines()):
        if "error: " in line and ". Fix: " in line:
            cause, fix = line.split("error: ", 1)[1].split(". Fix: ", 1)
            return Problem(cause, fix)
    return Problem("the notebook did not start", "scripts/inv logs shows why")


def wait_until_healthy(now: Settings) -> None:
    """Wait for the first answer of the server.

    :raises Problem: the container ended or does not answer; it is stopped then, so that it does
        not try again for ever.
    """
    limit = time.monotonic() + START_LIMIT
    print(f"Waiting for JupyterLab on port {now.port} …", file=sys.stderr, flush=True)
    while time.monotonic() < limit:
        status, health = state(now.service)
        if health == "healthy":
            return
        if status in ("exited", "dead", "restarting"):
            break
        time.sleep(0.1)
    log = answer("logs", "--no-log-prefix", "--tail", "50", now.service)
    compose("stop", now.service, capture_output=True)
    raise complaint(log.stdout + log.stderr)


def up(gpu: str | bool | None = None) -> None:
    """Build what is missing, start the notebook and print its address.

    :param gpu: None for the CPU image, True for the GPUs of the settings, else which.
    :raises Problem: see the functions above.
    """
    # --gpu= is no word for the CPU: a variable that is empty by mistake.
    wants = gpu is not None and gpu is not False
    engine.ensure()
    write_env()
    now = settings(CUDA if wants else CPU)
    chosen = dict(os.environ)
    if now.gpu:
        # Before a long build.
        chosen |= gpus.variables(now.gpu.driver, now.gpu.devices if gpu is True else str(gpu))
    prepare_work(now)
    other = CPU if wants else CUDA
    if state(other)[0]:
        print(f"+ docker compose rm --stop {other}", file=sys.stderr, flush=True)
        compose("rm", "--stop", "--force", other, capture_output=True)
    if state(now.service)[0] != "running":
        check_port(now)
    tags = {d["tags"][0]: name for name, d in build.targets().items()}
    if now.image in tags:
        build.build([tags[now.image]], allow_drift=True)
    print(f"+ docker compose up --detach {now.service}", file=sys.stderr, flush=True)
    result = compose("up", "--detach", "--quiet-pull", now.service, capture_output=True, text=True,
                     env=chosen)
    if result.returncode:
        cause = (result.stderr.strip().splitlines() or ["docker compose up failed"])[-1]
        if problem := gpus.complaint(result.stderr):
            raise problem
        if "No such image" in cause:
            raise Problem(f"the engine has no image {now.image}",
                          f"docker pull {now.image}, or mend "
                          f"{'HOTHOUSE_CUDA_IMAGE' if wants else 'HOTHOUSE_IMAGE'} in .env")
        raise Problem(cause, "mend that and run scripts/inv up again")
    wait_until_healthy(now)
    print(f"JupyterLab is ready; {now.work} is its folder work:\n\n    {address(now)}\n")
    print("Next: open that address; scripts/inv down stops it and keeps your files")


def address(now: Settings) -> str:
    """Return the notebook's address with its token.

    :raises Problem: it is not running.
    """
    result = answer("exec", "-T", now.service, "jupyter", "server", "list", "--json")
    servers = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode or not servers:
        raise Problem("the notebook is not running", "scripts/inv up")
    return f"http://127.0.0.1:{now.port}/lab?token={servers[0]['token']}"


def need_client() -> None:
    """See that there is a docker command, without starting or installing anything.

    :raises Problem: there is none.
    """
    if not shutil.which("docker") or engine.ask().info is None:
        raise Problem("no Docker engine is running here", "scripts/inv up starts one")


def url() -> None:
    """Print the address of the running notebook."""
    need_client()
    print(address(settings(present())))


def down() -> None:
    """Stop the notebook; the home volume and the work folder stay."""
    need_client()
    settings()
    if compose("down", "--remove-orphans").returncode:
        raise Problem("docker compose down failed", "docker compose ps shows what is left")
    print("Your files are kept: the folder work, and the volume of the home folder")
    print("Next: scripts/inv up starts it again")


def logs(follow: bool) -> None:
    """Print the notebook's log."""
    need_client()
    settings()
    compose("logs", "--no-log-prefix", *(["--follow"] if follow else []), present())
