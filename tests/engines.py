"""A Docker engine of a test's own, apart from the one of this machine."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import containers
import pytest

#: Marks of a test that starts an engine.
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can start a second engine")
needs_dockerd = pytest.mark.skipif(
    not shutil.which("dockerd"), reason="no dockerd here: the engine is remote")


def socket_of(folder: Path) -> str:
    """Return the address of the engine of this folder, for DOCKER_HOST."""
    return f"unix://{folder}/socket"


def talk_to(folder: Path) -> dict[str, str]:
    """Return the environment in which docker talks to the engine of this folder."""
    return {**os.environ, "DOCKER_HOST": socket_of(folder)}


#: Turns on the loopback interface, which is off in a new network, and runs the arguments.
#: 0x8914 is SIOCSIFFLAGS, 1 is IFF_UP (netdevice(7)).
WITH_LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
    fcntl.ioctl(it, 0x8914, struct.pack("16sH14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def engine_folder() -> Iterator[Path]:
    """Make a folder for an engine. Not pytest's: the path of a socket may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="hothouse-test-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def engine(
    folder: Path, *prefix: str, settings: dict | None = None, path: str = ""
) -> Iterator[subprocess.Popen]:
    """Run an engine; yields its process. All that it keeps stays in ``folder``.

    In a network of its own: an engine without a bridge removes the one that it finds, docker0, and
    with it the network of all containers of the engine that runs here.

    :param prefix: a command to run it under, such as ``taskset -c 0``.
    :param settings: more of daemon.json; its features are added to the containerd image store.
    :param path: a folder of programs that come before those of PATH.
    """
    settings = dict(settings or {})
    settings["features"] = {"containerd-snapshotter": True, **settings.get("features", {})}
    (folder / "daemon.json").write_text(json.dumps(settings))
    command = [
        *prefix, "unshare", "--net", sys.executable, "-c", WITH_LOOPBACK, "dockerd",
        "--config-file", str(folder / "daemon.json"),
        "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "pid"), "--host", socket_of(folder),
        "--bridge", "none", "--iptables=false", "--ip6tables=false",
    ]
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else
                   os.environ["PATH"]}
    with (folder / "log").open("w") as log, subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        start_new_session=True, env=environment,
    ) as process:
        try:
            containers.until(
                lambda: containers.docker("info", check=False, env=talk_to(folder)).returncode == 0,
                "answer of the second engine", 60,
            )
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def give(folder: Path, image: str) -> None:
    """Copy an image of this machine's engine into that of the folder."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        containers.docker("load", stdin=saved.stdout, env=talk_to(folder), timeout=300)
    assert saved.returncode == 0
