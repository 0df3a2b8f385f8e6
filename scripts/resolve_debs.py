"""Resolve images/base/packages.in to .deb files, with this machine's apt in a state of its own.

apt reads no mirror here: it is given the signed files that scripts/release.py fetched and checked,
so that what is resolved is what was checked, and no setting of the machine's apt has a say.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote

from scripts import download, mirrors, release
from scripts.locks import Package, shown
from scripts.paths import IMAGES
from scripts.problem import Problem
from scripts.release import Release

INPUT = IMAGES / "base" / "packages.in"
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


def resolve(
    platform: str = "linux/amd64", path: Path | None = None
) -> tuple[list[Package], list[Release]]:
    """What the layers of ``path`` (packages.in) need now, essential packages and apt included.

    Each layer is a closure of its own. A file of several closures belongs to the last one:
    what the image holds counts more than what the build needs.

    :returns: the packages, and Debian's signed Release files that prove their hashes.
    :raises Problem: no apt here, the mirror doesn't answer, what it gives isn't what Debian
        signed, or a name isn't in the suite.
    """
    path = path or INPUT
    suite, layers = read_input(path)
    apt = _Apt(suite, ARCHITECTURES[platform], path.parent)
    found: dict[str, Package] = {}
    for layer, names in layers.items():
        for uri, deb, size, digest in apt.closure(names, path):
            file = apt.archive_path(uri)
            # The epoch stands only in the name that apt would save it under.
            name, version, architecture = unquote(deb).removesuffix(".deb").split("_")
            where = "any" if architecture == "all" else platform
            found[name] = Package(digest, size, where, "any", layer, name, version, file)
    packages = list(found.values())
    # Not by what apt says of it: read once more from the index whose hash was signed.
    release.prove(packages, apt.releases)
    return packages, apt.releases


def newest(name: str) -> str:
    """The version of ``name`` in the mirror now; ``""`` where that can't be found out."""
    try:
        suite, _ = read_input(INPUT)
        apt = _Apt(suite, "amd64", INPUT.parent)
        shown_versions = apt.run("apt-cache", "madison", name).stdout
    except Problem:
        return ""
    return shown_versions.split("|")[1].strip() if "|" in shown_versions else ""


class _Apt:
    """apt with its own lists and an empty dpkg status: this machine's packages play no part.

    :param base: the folder of packages.in, of the trusted keys and of what was checked before.
    """

    def __init__(self, suite: str, architecture: str, base: Path) -> None:
        if not shutil.which("apt-get"):
            raise Problem("scripts/inv lock needs apt-get", "run it on Debian or Ubuntu")
        self.suite = suite
        # Not in the checkout, whose path may hold a space or be too long for apt. It goes with
        # this object.
        self._folder = tempfile.TemporaryDirectory(prefix="hothouse-apt-")
        self.root = Path(self._folder.name)
        self.releases = release.fetch_all(suite, architecture, mirrors.debian_archives(), base)
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        keyring = self.root / "debian-archive-keyring.gpg"
        # All of them, as in the check before: a new key may be in one alone. Which key counts was
        # said there.
        known = release.keyrings(base, release.STORE)
        keyring.write_bytes(b"".join(path.read_bytes() for path in known))
        stanzas = [self._stanza(checked, keyring) for checked in self.releases]
        (self.root / "etc/debian.sources").write_text("\n".join(stanzas))
        (self.root / "apt.conf").write_text(self._configuration(architecture))
        done = self.run("apt-get", "update")
        if done.returncode:
            self._fail(done.stderr)

    def _url(self, archive: str) -> str:
        return f"file:{quote(str(self.root / 'mirror' / archive))}"

    def _stanza(self, checked: Release, keyring: Path) -> str:
        """Lay out one suite as a mirror has it; returns the apt source for it."""
        folder = self.root / "mirror" / checked.archive / "dists" / checked.suite
        index = folder / checked.index.name.partition("/")[2]
        index.parent.mkdir(parents=True)
        index.symlink_to(download.path_of(checked.index.sha256, release.STORE).absolute())
        (folder / "InRelease").write_bytes(checked.content)
        return (
            f"Types: deb\nURIs: {self._url(checked.archive)}\nSuites: {checked.suite}\n"
            f"Components: main\nSigned-By: {keyring}\n"
        )

    def archive_path(self, uri: str) -> str:
        """A package's file as the lock names it: ``debian:pool/…``."""
        for archive in release.LABELS:
            prefix = f"{self._url(archive)}/pool/"
            if uri.startswith(prefix):
                return f"{archive}:pool/{unquote(uri.removeprefix(prefix))}"
        raise Problem(f"apt answers with {uri}, outside its archives", "report this")

    def _configuration(self, architecture: str) -> str:
        # Nothing of the machine's own settings: its hooks, pins and trust don't count here.
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
            # The state is this user's, where apt's own user may not read.
            "APT::Sandbox::User": "root",
            "Acquire::ForceHash": "sha256",
            "Acquire::Languages": "none",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        lines.append(f'APT::Architectures {{ "{architecture}"; }};')
        return "\n".join([*lines, ""])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run an apt command in the private state, its messages in English."""
        environment = {**os.environ, "APT_CONFIG": f"{self.root}/apt.conf", "LC_ALL": "C.UTF-8"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

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
        errors = re.findall(r"^E: (.*)$", stderr, re.MULTILINE) or ["apt-get failed in silence"]
        raise Problem(
            f"apt: {errors[0][:200].rstrip('.')}", "check the Debian mirror and the network"
        )
