"""A Docker engine of a test's own, apart from the one of this machine."""

import json
import os
import shutil
import stat
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


#: Debian's own place of the script, which others put on PATH.
ROOTLESS_SCRIPT = "/usr/share/docker.io/contrib/dockerd-rootless.sh"
#: As root in a mount namespace: gives `nobody` what a host with rootless engines gives its users,
#: a range of IDs and the node of tap devices, and starts the engine as that user.
#: Arguments: the engine's folder, the script, dockerd's options.
AS_NOBODY = """
set -e
for file in subuid subgid; do mount --bind "$1/subids" "/etc/$file"; done
mount --bind "$1/tun" /dev/net/tun
export HOME="$1/home" XDG_RUNTIME_DIR="$1/run" DOCKERD="$(command -v dockerd)"
script=$2
shift 2
cd /
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$script" "$@"
"""


def why_not_rootless() -> str | None:
    """Return why no engine can run without root's rights here; None where one can.

    Installs Debian's packages for it where that is possible.
    """
    from scripts import install

    if os.getuid():
        return "only root can start an engine for another user here"
    if not (shutil.which("dockerd-rootless.sh") or Path(ROOTLESS_SCRIPT).exists()):
        return "the engine's packages hold no dockerd-rootless.sh"
    needed = ("rootlesskit", "slirp4netns", "uidmap")
    for program, package in zip(("rootlesskit", "slirp4netns", "newuidmap"), needed, strict=True):
        if not install.program((program,), (package,), "a rootless engine"):
            return f"the package {package} is not installed"
    for path in ("/etc/subuid", "/etc/subgid", "/dev/net/tun"):
        if not Path(path).exists():
            return f"there is no {path}"
    tried = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         "unshare", "--user", "--map-root-user", "true"], capture_output=True, check=False,
    )
    return "users may not make user namespaces here" if tried.returncode else None


def without_root(folder: Path) -> list[str]:
    """Lay out a folder for a rootless engine, and return the command that starts it there."""
    (folder / "subids").write_text("nobody:100000:65536\n")
    os.mknod(folder / "tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
    (folder / "tun").chmod(0o666)
    for path in (folder / "home", folder / "run"):
        path.mkdir(mode=0o700)
        shutil.chown(path, "nobody", "nogroup")
    shutil.chown(folder, "nobody", "nogroup")
    script = shutil.which("dockerd-rootless.sh") or ROOTLESS_SCRIPT
    return ["sh", "-c", AS_NOBODY, "sh", str(folder), script, "--rootless"]


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
    folder: Path, *prefix: str, settings: dict | None = None, path: str = "",
    rootless: bool = False,
) -> Iterator[subprocess.Popen]:
    """Run an engine; yields its process. All that it keeps stays in ``folder``.

    In a network of its own: an engine without a bridge removes the one that it finds, docker0, and
    with it the network of all containers of the engine that runs here.

    :param prefix: a command to run it under, such as ``taskset -c 0``.
    :param settings: more of daemon.json; its features are added to the containerd image store.
    :param path: a folder of programs that come before those of PATH.
    :param rootless: run it as a user without rights; see :func:`why_not_rootless`.
    """
    settings = dict(settings or {})
    settings["features"] = {"containerd-snapshotter": True, **settings.get("features", {})}
    (folder / "daemon.json").write_text(json.dumps(settings))
    command = [
        *prefix, "unshare", "--net", *(["--mount"] if rootless else []),
        sys.executable, "-c", WITH_LOOPBACK, *(without_root(folder) if rootless else ["dockerd"]),
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
