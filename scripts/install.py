"""Install a Docker engine from the packages of Debian or Ubuntu, as root.

Where the release's own packages are too old, those of the next release are taken, pinned alone:
its source is derived from the machine's own, so that a mirror stays the mirror.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts import apt_sources, engine
from scripts.problem import Problem

APT = Path("/etc/apt")
SOURCE = "sources.list.d/hothouse-engine.sources"
PREFERENCES = "preferences.d/hothouse-engine"
DAEMON_JSON = Path("/etc/docker/daemon.json")
LOG = Path("/var/log/hothouse-engine.log")
# Tried: these alone come from the newer release, runc, tini and libc stay.
PINNED = ("docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd")
ASKED = (*PINNED, "docker-compose-v2", "iptables")
NEXT = {"bookworm": "trixie"}
BY_HAND = (
    "install a Docker engine {}, buildx {} and compose {} or newer with your package manager "
    "(packages docker, docker-buildx, docker-compose) and start it"
).format(*map(engine.show, (engine.ENGINE_MINIMUM, engine.BUILDX_MINIMUM, engine.COMPOSE_MINIMUM)))


def read_release(text: str) -> dict[str, str]:
    """Read the fields of an os-release file."""
    pairs = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in pairs}


def check_distribution() -> dict[str, str]:
    """Return the fields of this machine's os-release.

    :raises Problem: it is neither Debian nor Ubuntu nor made from them.
    """
    try:
        release = read_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    except OSError:
        release = {}
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if not family & {"debian", "ubuntu"} or not shutil.which("apt-get"):
        name = release.get("PRETTY_NAME", "this system")
        raise Problem(f"no Docker engine answers, and {name} is not Debian or Ubuntu", BY_HAND)
    return release


def read_policy(text: str) -> dict[str, str]:
    """Read which version of each package apt would install from `apt-cache policy`."""
    pairs = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)$", text, re.MULTILINE)
    return {name: version for name, version in pairs if version != "(none)"}


def choose(candidates: dict[str, str]) -> list[str]:
    """Name the packages to install.

    :param candidates: versions by package name, as from `read_policy`.
    :returns: an empty list where something is missing or older than the minimums.
    """

    def enough(name: str, minimum: engine.Version) -> bool:
        return (engine.parse_version(candidates.get(name, "")) or (0, 0, 0)) >= minimum

    compose = [
        name
        for name in ("docker-compose-v2", "docker-compose")
        if enough(name, engine.COMPOSE_MINIMUM)
    ]
    if not (
        compose
        and enough("docker.io", engine.ENGINE_MINIMUM)
        and enough("docker-buildx", engine.BUILDX_MINIMUM)
    ):
        return []
    # Newer releases have the command in a package of its own.
    client = ["docker-cli"] if enough("docker-cli", engine.ENGINE_MINIMUM) else []
    return ["docker.io", *client, "docker-buildx", compose[0], "containerd", "iptables"]


def read_sources(apt: Path) -> list[dict[str, str]]:
    """Read all package sources of a machine.

    :param apt: the folder /etc/apt.
    """
    parts = apt / "sources.list.d"
    own = apt / SOURCE
    files = [path for path in sorted(parts.glob("*.sources")) if path != own]
    files += [apt / "sources.list", *sorted(parts.glob("*.list"))]
    return [entry for path in files if path.exists() for entry in apt_sources.read(path)]


def derive_source(entries: Iterable[dict[str, str]], suite: str, newer: str) -> str | None:
    """Write the source of a newer release as the machine's own source of its release.

    :param entries: from `read_sources`.
    :returns: a deb822 stanza, or None where no source names the suite.
    """
    for entry in entries:
        if (
            "deb" in entry["Types"].split()
            and suite in entry["Suites"].split()
            and "main" in entry["Components"].split()
            and not entry["Uris"].startswith("cdrom:")
        ):
            fields = {"Types": "deb", "URIs": entry["Uris"], "Suites": newer, "Components": "main"}
            fields |= {name: entry[name] for name in apt_sources.OPTIONS.values() if name in entry}
            # A key that is written out begins on the line after its field's name.
            return "".join(
                f"{name}:{'' if value.startswith(chr(10)) else ' '}{value}\n"
                for name, value in fields.items()
            )
    return None


def preferences(newer: str, alone: bool) -> str:
    """Write the apt pins: the engine's packages from the newer release, nothing else of it.

    :param alone: False where the machine already uses that release for other packages.
    """
    pin = "Package: {}\nPin: release n={}\nPin-Priority: {}\n"
    rest = pin.format("*", newer, -10) + "\n" if alone else ""
    return rest + pin.format(" ".join(PINNED), newer, 990)


def run(step: str, *command: str) -> bool:
    """Run a command with its output in LOG, its newest line on a terminal.

    :returns: whether it succeeded.
    """
    print(f"{step} …", flush=True)
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        "NEEDRESTART_SUSPEND": "1",
    }
    live = sys.stdout.isatty()
    with LOG.open("a", encoding="utf-8", buffering=1) as log:
        log.write(f"+ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                log.write(line)
                if live:
                    print(f"\r\033[K  {line.strip()[:76]}", end="", flush=True)
    if live:
        print("\r\033[K", end="", flush=True)
    return process.returncode == 0


def apt_get(step: str, *arguments: str) -> bool:
    """Run apt-get by the machine's own configuration; waits for another apt's lock."""
    return run(step, "apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments)


def program(names: Iterable[str], packages: Sequence[str], why: str) -> str | None:
    """Return the path of the first of these programs; installs packages where there is none.

    :param packages: of Debian and Ubuntu; the first holds a program of its own name.
    :param why: what they are for, for the progress line.
    :returns: None where there is none and this user or system cannot install it.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    if os.getuid() or not shutil.which("apt-get"):
        return None
    apt_get("reading the package lists", "update")
    apt_get(f"installing {packages[0]} for {why}", "install", "--yes", "--no-install-recommends",
            *packages)
    return shutil.which(packages[0])


def candidates() -> dict[str, str]:
    """Ask apt which versions it would install."""
    done = subprocess.run(
        ["apt-cache", "policy", *ASKED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return read_policy(done.stdout)


def last_error() -> str:
    """Return the last error that apt or dpkg wrote into LOG, or an empty text."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(("E: ", "W: Failed to fetch", "dpkg: e"))]
    return errors[-1].rstrip(".") if errors else ""


def refresh(step: str) -> list[str]:
    """Read the package lists anew and choose from them, as `choose` does.

    apt-get's status does not count: it is 0 without a network, and a failure where only some
    third party's source is broken.
    """
    apt_get(step, "update")
    return choose(candidates())


def too_old(release: str) -> Problem:
    """Say why there is nothing to choose: a network that fails, or old packages."""
    reason = last_error()
    if reason:
        fix = "check the network and apt's sources, then run the same command again"
        return Problem(f"apt cannot read the package lists: {reason}", fix)
    return Problem(f"the Docker packages of {release} are missing or too old", BY_HAND)


def packages(release: dict[str, str]) -> list[str]:
    """Return the packages to install; adds the next release's source where it takes that.

    :raises Problem: no release has packages that are new enough, or they cannot be listed.
    """
    chosen = refresh("reading the package lists")
    suite = release.get("VERSION_CODENAME", "")
    newer = NEXT.get(suite)
    if chosen:
        return chosen
    if not newer:
        raise too_old("this release")
    entries = read_sources(APT)
    known = any(newer in entry["Suites"].split() for entry in entries)
    source = None if known else derive_source(entries, suite, newer)
    if source:
        (APT / SOURCE).write_text(source, encoding="utf-8")
    elif not known:
        raise Problem(f"apt has no source for {suite} to derive that of {newer} from", BY_HAND)
    (APT / PREFERENCES).write_text(preferences(newer, alone=not known), encoding="utf-8")
    chosen = refresh(f"reading the package lists of {newer}")
    if not chosen:
        raise too_old(newer)
    return chosen


def install(marker: Path) -> None:
    """Install the engine; what was written is taken back where that fails.

    :param marker: a file that is there as long as the installation is not complete.
    :raises Problem: it cannot be installed.
    """
    release = check_distribution()
    LOG.write_text("", encoding="utf-8")
    written = [path for path in (APT / SOURCE, APT / PREFERENCES) if not path.exists()]
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    if not DAEMON_JSON.exists():
        # Before the packages: the engine starts while they are installed.
        DAEMON_JSON.write_text('{"features": {"containerd-snapshotter": true}}\n')
        written.append(DAEMON_JSON)
    try:
        if subprocess.run(["dpkg", "--audit"], capture_output=True, check=False).stdout:
            run("completing what dpkg left half done", "dpkg", "--configure", "-a")
        chosen = packages(release)
        arguments = [
            "install",
            "-y",
            "--no-install-recommends",
            "-o",
            "Dpkg::Options::=--force-confold",
            *chosen,
        ]
        if not apt_get(f"installing {' '.join(chosen)}", *arguments):
            raise Problem(
                f"the Docker engine could not be installed: {last_error() or 'apt-get failed'}",
                f"see {LOG}, then run the same command again",
            )
    except BaseException:
        for path in (*written, marker):
            path.unlink(missing_ok=True)
        raise
    marker.unlink()
