"""Containers, volumes and images for one test each: whatever happens, they are gone afterwards."""

import json
import os
import shlex
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
#: Every name of an engine's object that a test makes begins with it.
PREFIX = "hothouse-test"
T = TypeVar("T")


def unique(what: str) -> str:
    """Return a name that no other container, volume, image or project has."""
    return f"{PREFIX}-{what}-{uuid.uuid4().hex[:8]}"


def docker(
    *arguments: str, check: bool = True, timeout: float = 120, **options
) -> subprocess.CompletedProcess[str]:
    """Run a docker command and keep what it prints.

    :param timeout: seconds.
    :raises AssertionError: it failed and ``check`` is true; with its output.
    """
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False,
        **{"stdin": subprocess.DEVNULL, **options},
    )
    if check:
        assert done.returncode == 0, f"{shlex.join(done.args)}\n{done.stdout}{done.stderr}"
    return done


def remove_images(prefix: str) -> None:
    """Remove the images whose names begin with ``prefix/``."""
    shown = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout
    for name in shown.splitlines():
        if name.startswith(f"{prefix}/"):
            docker("image", "rm", "--force", name, check=False)


def inspect(what: str) -> dict:
    """Return what the engine knows of a container or an image."""
    return json.loads(docker("inspect", what).stdout)[0]


def until(check: Callable[[], T], what: str, limit: float = 30) -> T:
    """Ask until the answer is true, and return it.

    :param what: what is waited for, as in "no … within 30 s".
    :param limit: seconds.
    :raises AssertionError: the limit passed.
    """
    end = time.monotonic() + limit
    while not (answer := check()):
        assert time.monotonic() < end, f"no {what} within {limit:.0f} s"
        time.sleep(0.05)
    return answer


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(
    image: str, *command: str, options: Sequence[str] = (), check: bool = True,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """``docker run --rm``; the container goes even where the command does not end in time."""
    name = unique("run")
    try:
        return docker(
            "run", "--rm", "--network", "none", "--name", name, *options, image, *command,
            check=check, timeout=timeout,
        )
    except BaseException:
        docker("rm", "--force", "--volumes", name, check=False)
        raise


@contextmanager
def container(image: str, *command: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Start a container in the background and yield its ID."""
    name = unique("run")
    try:
        yield docker("run", "--detach", "--name", name, *options, image, *command).stdout.strip()
    finally:
        docker("rm", "--force", "--volumes", name, check=False)


@contextmanager
def volume(*options: str) -> Iterator[str]:
    """Make a volume and yield its name."""
    name = unique("volume")
    try:
        docker("volume", "create", *options, name)
        yield name
    finally:
        docker("volume", "rm", "--force", name, check=False)


def execute(
    container_id: str, *command: str, options: Sequence[str] = (), check: bool = True,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """``docker exec``."""
    return docker("exec", *options, container_id, *command, check=check, timeout=timeout)


def logs(container_id: str) -> str:
    """Return both streams of a container's log."""
    done = docker("logs", container_id)
    return done.stdout + done.stderr


def ended(container_id: str, limit: float = 30) -> int:
    """Wait for a container's end and return its exit status."""
    return int(docker("wait", container_id, timeout=limit).stdout)


@contextmanager
def project(image: str, work: Path, **settings: str | int) -> Iterator[Callable]:
    """A project of compose.yaml of its own, on a free port; yields ``compose(*arguments)``.

    :param settings: more of .env.example's variables.
    """
    name = unique("compose")
    values = {
        "COMPOSE_PROJECT_NAME": name, "HOTHOUSE_IMAGE": image, "HOTHOUSE_WORK": work,
        "HOTHOUSE_PORT": free_port(), **settings,
    }
    environment = {**os.environ, **{key: str(value) for key, value in values.items()}}

    def compose(*arguments: str, check: bool = True) -> str:
        done = docker("compose", *arguments, check=check, cwd=ROOT, env=environment)
        return done.stdout.strip()

    compose.settings = values
    try:
        yield compose
    finally:
        compose("down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
