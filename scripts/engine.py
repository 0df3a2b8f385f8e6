"""The Docker engine of this machine: is it there, is it new enough, start or install it.

An engine that answers is used as it is and never configured anew. ``python -m scripts.engine
install`` and ``… start`` are the parts that need root; ``ensure`` calls them through sudo.
"""

from __future__ import annotations

import fcntl
import getpass
import grp
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from invoke.exceptions import Exit

from scripts.paths import ROOT
from scripts.problem import Problem

Version = tuple[int, int, int]

ENGINE_MINIMUM: Version = (26, 0, 0)  # 26.1.5 is the oldest that was tried
BUILDX_MINIMUM: Version = (0, 12, 0)  # 0.13.1 is the oldest that was tried
COMPOSE_MINIMUM: Version = (2, 24, 4)  # 2.26.1 is the oldest that was tried
ARCHITECTURES = ("x86_64", "amd64")  # how engines write linux/amd64
PACKAGES = {  # what to install: the distribution's name and that of Docker's own repository
    "buildx": "docker-buildx (or docker-buildx-plugin)",
    "compose": "docker-compose or docker-compose-v2 (or docker-compose-plugin)",
}
START_LIMIT = 60.0  # seconds that an engine has to answer in
MARKER = Path("/etc/docker/hothouse-installing")  # an installation began and did not end
LOCK = Path("/run/hothouse-engine.lock")
DAEMON_LOG = Path("/var/log/hothouse-dockerd.log")
AGAIN = "HOTHOUSE_IN_DOCKER_GROUP"


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, with its client's plugins."""

    version: Version
    buildx: Version
    compose: Version
    containerd_store: bool


@dataclass(frozen=True)
class Answer:
    """What `docker info` said: ``info`` is None where no engine answered, ``error`` says why."""

    info: dict | None
    error: str = ""
    context: str = "default"

    @property
    def denied(self) -> bool:
        """Whether there is a socket that this user may not open."""
        return "permission denied" in self.error.lower()


def parse_version(text: str) -> Version | None:
    """Read the three numbers of an upstream version.

    :param text: such as ``v0.13.1+ds1``, ``2.26.1-4`` or ``5:27.0.3-1~debian.12``.
    :returns: None where the text does not begin with a number.
    """
    found = re.match(r"(?:\d+:)?v?(\d+)(?:\.(\d+))?(?:\.(\d+))?", text.strip())
    return tuple(int(part or 0) for part in found.groups()) if found else None  # type: ignore


def show(version: Version) -> str:
    """Write a version as people do: ``26.1.5``."""
    return ".".join(map(str, version))


def read_info(stdout: str, stderr: str) -> Answer:
    """Judge the two outputs of ``docker info --format '{{json .}}'``.

    :raises Problem: the command is not Docker's.
    """
    error = " ".join(stderr.split())
    try:
        info = json.loads(stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Answer(None, error or "docker info printed nothing")
    if "ServerVersion" not in info:
        raise Problem(
            "the docker command of this machine is not Docker's (Podman's?)",
            "remove its package (podman-docker), then run the same command again",
        )
    context = (info.get("ClientInfo") or {}).get("Context") or "default"
    if not info["ServerVersion"]:
        return Answer(None, error or " ".join(info.get("ServerErrors") or []), context)
    return Answer(info, "", context)


def ask(limit: float = 30) -> Answer:
    """Ask the engine that the user's environment points at.

    :param limit: seconds to wait for it.
    """
    command = ["docker", "info", "--format", "{{json .}}"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, f"no answer within {limit:.0f} s")
    except FileNotFoundError:
        return Answer(None, "there is no docker command")
    except OSError as error:
        return Answer(None, f"the docker command does not run: {error.strerror}")
    return read_info(done.stdout, done.stderr)


def check(info: dict) -> Engine:
    """Compare an engine's answer with the minimums.

    :param info: the JSON of ``docker info``.
    :raises Problem: the engine, buildx or compose is missing or too old, the engine is of another
        architecture, or does not keep its images in containerd.
    """

    def at_least(what: str, text: str | None, minimum: Version, fix: str) -> Version:
        version = parse_version(text or "")
        if version is None:
            cause = f"says the version {text!r}, which cannot be read" if text else "is missing"
            raise Problem(f"{what} {cause}; at least {show(minimum)} is needed", fix)
        if version < minimum:
            raise Problem(f"{what} is {text}; at least {show(minimum)} is needed", fix)
        return version

    plugins = (info.get("ClientInfo") or {}).get("Plugins") or []
    versions = {plugin.get("Name"): plugin.get("Version") for plugin in plugins}
    upgrade = "upgrade Docker by the way that it was installed, or use a newer release"
    engine = at_least("the Docker engine", info["ServerVersion"], ENGINE_MINIMUM, upgrade)
    fix = "install a newer package {}, then run the same command again"
    buildx, compose = (
        at_least(f"docker {name}", versions.get(name), minimum, fix.format(PACKAGES[name]))
        for name, minimum in (("buildx", BUILDX_MINIMUM), ("compose", COMPOSE_MINIMUM))
    )
    machine = info.get("Architecture", ARCHITECTURES[0])
    if machine not in ARCHITECTURES:
        raise Problem(
            f"the Docker engine runs on {machine or 'an unknown machine'}, and the images are for "
            "x86_64",
            "run it on an x86_64 machine, or point DOCKER_HOST or docker context at such an engine",
        )
    if ["driver-type", "io.containerd.snapshotter.v1"] not in (info.get("DriverStatus") or []):
        raise Problem(
            "the Docker engine does not use the containerd image store",
            'put {"features": {"containerd-snapshotter": true}} into /etc/docker/daemon.json and '
            "restart the engine (images that it holds must be pulled or built again)",
        )
    return Engine(engine, buildx, compose, True)


def daemon() -> str | None:
    """Where the engine's program is, though root's folders may not be on the user's PATH."""
    return shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def ensure() -> Engine:
    """Return an engine that answers and is new enough; start or install one where none is.

    Asks on a terminal before it uses sudo. May replace this process by the same command in the
    group ``docker``, when it has just put the user into it.

    :raises Problem: there is no usable engine, with what to do about it.
    """
    answer = ask()
    if answer.info and not os.path.exists(MARKER):
        return check(answer.info)
    elsewhere = (
        f"DOCKER_HOST={os.environ['DOCKER_HOST']}"
        if os.environ.get("DOCKER_HOST")
        else f"the docker context {answer.context}"
        if answer.context != "default"
        else ""
    )
    if elsewhere:
        fix = "start that engine, or unset DOCKER_HOST and run docker context use default"
        raise Problem(f"{elsewhere} is set and does not answer: {answer.error}", fix)
    if answer.denied:
        enter_group()
    verb = "start" if daemon() and not os.path.exists(MARKER) else "install"
    if verb == "install":
        from scripts import install

        install.check_distribution()
    as_root(verb)
    answer = ask()
    if answer.denied:
        enter_group()
    if not answer.info:
        raise Problem(f"the Docker engine does not answer: {answer.error}", f"see {DAEMON_LOG}")
    return check(answer.info)


def enter_group() -> None:
    """Start this command again in the group ``docker``, which a session gets only at its login.

    :raises Problem: the user is not in the group, or that did not help.
    """
    user = getpass.getuser()
    try:
        member = user in grp.getgrnam("docker").gr_mem
    except KeyError:
        member = False
    if member and AGAIN not in os.environ and shutil.which("sg"):
        command = shlex.join([str(ROOT / "scripts" / "inv"), *sys.argv[1:]])
        os.execvpe("sg", ["sg", "docker", "-c", command], {**os.environ, AGAIN: "1"})  # noqa: S606
    fix = "newgrp docker (or log in again), then run the same command again"
    if not member:
        fix = f"sudo usermod -aG docker {user}, then {fix}"
    raise Problem(f"{user} may not use the Docker engine's socket", fix)


def as_root(verb: str) -> None:
    """Run ``install`` or ``start`` as root: at once, or by sudo after asking on a terminal.

    :raises Problem: it failed, or there is no way to be root.
    """
    if os.geteuid() == 0:
        act(verb)
        return
    cause = {
        "install": "no Docker engine is installed, and to install one takes root",
        "start": "the Docker engine is not running, and to start it takes root",
    }[verb]
    fix = "run the same command once as root or, with sudo, on a terminal"
    if not (shutil.which("sudo") and sys.stdin.isatty() and sys.stderr.isatty()):
        raise Problem(cause, fix)
    print(f"{cause}. May sudo do it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Problem(cause, fix)
    # -B: root must leave no files in the user's folder.
    command = ["sudo", sys.executable, "-B", "-m", "scripts.engine", verb]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        raise Exit(code=code)  # sudo, or this module as root, has said why


def act(verb: str) -> None:
    """Do root's part, once at a time on this machine.

    :param verb: ``install`` (which also starts) or ``start``.
    :raises Problem: it cannot be done.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ask().info and not os.path.exists(MARKER):
            return  # another process did it meanwhile
        if verb == "install":
            from scripts import install

            install.install(MARKER)
            user = os.environ.get("SUDO_USER")
            if user and user != "root":
                print(f"putting {user} into the group docker …", flush=True)
                done = subprocess.run(["usermod", "-aG", "docker", user], check=False)
                if done.returncode:
                    # The engine is there; a user of a directory service is in no local file.
                    print(f"note: usermod could not do it; let your administrator put {user} into "
                          "the group docker", file=sys.stderr, flush=True)
        start()


def start() -> None:
    """Start an installed engine as this system starts its services, and wait for its answer.

    :raises Problem: it ended, or did not answer within START_LIMIT seconds.
    """
    if ask().info:
        return
    process = None
    print("starting the Docker engine …", flush=True)
    if not start_service():
        program = daemon()
        if not program:
            raise Problem("dockerd is missing", "install the package docker.io")
        # A session of its own: it goes on when this command ends.
        with DAEMON_LOG.open("w") as log:
            process = subprocess.Popen(
                [program, "--pidfile", "/var/run/docker.pid"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    began = said = time.monotonic()
    while not (answer := ask(10)).info:
        now = time.monotonic()
        if process and process.poll() is not None:
            words = DAEMON_LOG.read_text(errors="replace").strip().splitlines() or ["no words"]
            raise Problem(f"dockerd ended: {words[-1]}", f"see {DAEMON_LOG}")
        if now - began > START_LIMIT:
            log = DAEMON_LOG if process else "journalctl -u docker or /var/log/docker.log"
            raise Problem(f"dockerd does not answer: {answer.error}", f"see {log}")
        if now - said >= 5:
            print(f"waiting for the Docker engine … {now - began:.0f} s", flush=True)
            said = now
        time.sleep(0.3)


def start_service() -> bool:
    """Try systemd where it runs, else the init script; False where neither could start it."""
    if Path("/run/systemd/system").is_dir():
        command = ["systemctl", "start", "docker"]
    elif Path("/etc/init.d/docker").exists() and shutil.which("service"):
        command = ["service", "docker", "start"]
    else:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main(verb: str) -> None:
    """Do root's part; whatever goes wrong is one line.

    :raises SystemExit: it cannot be done.
    """
    try:
        act(verb)
    except Problem as problem:
        sys.exit(problem.message)
    except (OSError, subprocess.CalledProcessError) as error:
        fix = f"see {DAEMON_LOG} and the lines above, then run the same command again"
        sys.exit(Problem(f"the Docker engine could not be set up: {error}", fix).message)


if __name__ == "__main__":
    main(sys.argv[1])
