"""Resolve images/base/packages.in to .deb files, with this machine's apt in a state of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

from scripts import mirrors
from scripts.locks import Package, shown
from scripts.paths import ARTIFACTS, IMAGES
from scripts.problem import Problem

INPUT = IMAGES / "base" / "packages.in"
STATE = ARTIFACTS / "apt"
# Debian's word for each platform.
ARCHITECTURES = {"linux/amd64": "amd64"}
_URI = re.compile(r"'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})")


def read_input(path: Path) -> tuple[str, dict[str, list[str]]]:
    """The suite and, by layer in the file's order, the names that a person asked for.

    :raises Problem: a line is neither a comment nor one package name.
    """
    suite, layers, current = "", {}, None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if header := re.match(r"#\s*(suite|layer):\s*([a-z0-9.-]+)", line):
            if header[1] == "suite":
                suite = header[2]
            else:
                current = layers.setdefault(header[2], [])
        elif name := line.partition("#")[0].strip():
            if current is None or not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
                raise Problem(
                    f"{shown(path)} line {number} isn't a package name under a layer",
                    "write one name a line below '# layer: NAME'",
                )
            current.append(name)
    if not suite or not layers:
        raise Problem(
            f"{shown(path)} names no suite or no layer", "add '# suite: NAME' and '# layer: NAME'"
        )
    return suite, layers


def resolve(platform: str = "linux/amd64", path: Path | None = None) -> list[Package]:
    """What the layers of ``path`` (packages.in) need now, essential packages and apt included.

    Each layer is a closure of its own. A file of several closures belongs to the last one:
    what the image holds counts more than what the build needs.

    :raises Problem: no apt here, the mirror doesn't answer, or a name isn't in the suite.
    """
    path = path or INPUT
    suite, layers = read_input(path)
    archives = mirrors.debian_archives()
    apt = _Apt(suite, archives, ARCHITECTURES[platform])
    apt.update()
    found: dict[str, Package] = {}
    for layer, names in layers.items():
        for uri, deb, size, digest in apt.closure(names, path):
            file = _archive_path(uri, archives)
            # The epoch stands only in the name that apt would save it under.
            name, version, architecture = unquote(deb).removesuffix(".deb").split("_")
            where = "any" if architecture == "all" else platform
            found[name] = Package(digest, size, where, "any", layer, name, version, file)
    return list(found.values())


def newest(name: str) -> str:
    """The version of ``name`` in the mirror now; ``""`` where that can't be found out."""
    try:
        suite, _ = read_input(INPUT)
        apt = _Apt(suite, mirrors.debian_archives(), "amd64")
        apt.update()
        shown_versions = apt.run("apt-cache", "madison", name).stdout
    except Problem:
        return ""
    return shown_versions.split("|")[1].strip() if "|" in shown_versions else ""


def _archive_path(uri: str, archives: dict[str, mirrors.Archive]) -> str:
    # The longest first: one archive's address may be the beginning of the other's.
    for archive, where in sorted(archives.items(), key=lambda item: -len(item[1].url)):
        if uri.startswith(f"{where.url}/pool/"):
            return f"{archive}:{unquote(uri.removeprefix(where.url + '/'))}"
    raise Problem(
        f"apt answers with {mirrors.shown(uri)}, outside its archives", mirrors.SET_MIRROR
    )


class _Apt:
    """apt with its own lists and an empty dpkg status: this machine's packages play no part."""

    def __init__(self, suite: str, archives: dict[str, mirrors.Archive], architecture: str) -> None:
        if not shutil.which("apt-get"):
            raise Problem("scripts/inv lock needs apt-get", "run it on Debian or Ubuntu")
        self.suite = suite
        self.root = STATE / f"{suite}-{architecture}"
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        main, security = archives["debian"], archives["debian-security"]
        stanzas = [
            self._stanza(main, f"{suite} {suite}-updates"),
            self._stanza(security, f"{suite}-security"),
        ]
        (self.root / "etc/debian.sources").write_text("\n".join(stanzas))
        (self.root / "apt.conf").write_text(self._configuration(architecture))

    @staticmethod
    def _stanza(archive: mirrors.Archive, suites: str) -> str:
        signed = f"Signed-By: {archive.signed_by}\n" if archive.signed_by else ""
        return f"Types: deb\nURIs: {archive.url}\nSuites: {suites}\nComponents: main\n{signed}"

    def _configuration(self, architecture: str) -> str:
        # Of the machine's own settings only how to reach a mirror: its hooks and pins must not
        # run or count here.
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
        wanted = r"Acquire::(http|https|Retries|ForceIPv|Check-|Proxy|Max-)"
        kept = [line for line in done.stdout.splitlines() if re.match(wanted, line, re.IGNORECASE)]
        settings = {
            "Dir::State": f"{self.root}/",
            "Dir::State::lists": "lists/",
            "Dir::State::status": f"{self.root}/status",
            "Dir::Cache": f"{self.root}/cache/",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": f"{self.root}/etc/",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Install-Recommends": "false",
            "APT::Update::Error-Mode": "any",
            # The state lies in the checkout, where apt's own user may not write.
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "sha256",
            "Acquire::Languages": "none",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        lines.append(f'APT::Architectures {{ "{architecture}"; }};')
        return "\n".join([*kept, *lines, ""])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run an apt command in the private state, its messages in English."""
        environment = {**os.environ, "APT_CONFIG": f"{self.root}/apt.conf", "LC_ALL": "C.UTF-8"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def update(self) -> None:
        """Bring the lists up to date; quick where nothing has changed."""
        done = self.run("apt-get", "update")
        if done.returncode:
            self._fail(done.stderr)

    def closure(self, names: list[str], path: Path) -> list[tuple[str, str, int, str]]:
        """Address, file name, size in bytes and SHA-256 of all that ``names`` need."""
        command = ("apt-get", "--print-uris", "-qq", "-y", "install", "?essential", "apt", *names)
        done = self.run(*command)
        if done.returncode:
            missing = re.search(r"E: Unable to locate package (\S+)", done.stderr)
            missing = missing or re.search(r"E: Package '(\S+)' has no", done.stderr)
            if missing:
                raise Problem(f"{self.suite} has no package {missing[1]}", f"correct {shown(path)}")
            self._fail(done.stderr)
        found = []
        for line in done.stdout.splitlines():
            match = _URI.fullmatch(line.strip())
            if not match:
                raise Problem(f"apt answers with an unexpected line: {line[:80]}", "report this")
            found.append((match[1], match[2], int(match[3]), match[4]))
        return found

    def _fail(self, stderr: str) -> None:
        if re.search(r"NO_PUBKEY|isn't signed|is not signed|no public key|EXPKEYSIG", stderr, re.I):
            raise Problem(
                f"this machine holds no valid key of Debian {self.suite}",
                "install a newer debian-archive-keyring",
            )
        errors = re.findall(r"^E: (.*)$", stderr, re.MULTILINE) or ["apt-get failed in silence"]
        raise Problem(
            f"apt: {errors[0][:200].rstrip('.')}", "check the Debian mirror and the network"
        )
