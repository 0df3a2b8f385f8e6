"""Lock files: read, check and write. No network, nothing resolved here."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path

from scripts.paths import IMAGES, ROOT
from scripts.problem import Problem

HEADER = "# Written by `inv lock`. Do not edit: `inv lock` resolves again."
EPOCH = IMAGES / "epoch.lock"
DEBS = IMAGES / "base" / "packages.lock"
WHEELS = (IMAGES / "tensorflow" / "requirements.lock", IMAGES / "jupyter" / "requirements.lock")
ALL = (DEBS, *WHEELS)

KINDS = ("deb", "wheel")
VARIANTS = ("any", "cpu", "cuda")
ARCHIVES = ("debian", "debian-security")
FIELDS = 8

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEB = re.compile(rf"(?:{'|'.join(ARCHIVES)}):pool/[^:]+\.deb")
_WHEEL = re.compile(r"[^/:]+\.whl")


@dataclass(frozen=True)
class Package:
    """One file to fetch. ``size`` in bytes; the other fields as in the lock's own line."""

    sha256: str
    size: int
    platform: str
    variant: str
    layer: str
    name: str
    version: str
    file: str

    @property
    def line(self) -> str:
        """The package as a line of a lock, without the newline."""
        return " ".join(map(str, astuple(self)))


@dataclass(frozen=True)
class Lock:
    """A lock file's content. ``drifted``: resolved anew because the locked files are gone."""

    path: Path
    kind: str
    date: str
    packages: tuple[Package, ...]
    drifted: bool = field(default=False, compare=False)

    @property
    def digest(self) -> str:
        """``sha256:`` and the hex digest of the package lines: equal for equal content."""
        return digest_of(self.packages)

    def select(self, platform: str, variant: str) -> tuple[Package, ...]:
        """The packages for ``platform`` (``linux/amd64``) and ``variant`` (``cpu``, ``cuda``)."""
        return tuple(
            package
            for package in self.packages
            if package.platform in (platform, "any") and package.variant in (variant, "any")
        )


def order(package: Package) -> tuple[str, ...]:
    """The order of the lines of a lock: by name, so that a diff shows what moved."""
    return (package.name, package.variant, package.platform, package.version, package.file)


def body_of(packages: Iterable[Package]) -> bytes:
    """The package lines, sorted, each ended by a newline: what the digest is taken over."""
    return "".join(f"{package.line}\n" for package in sorted(packages, key=order)).encode()


def digest_of(packages: Iterable[Package]) -> str:
    """``sha256:`` and the hex digest of ``body_of(packages)``."""
    return "sha256:" + hashlib.sha256(body_of(packages)).hexdigest()


def shown(path: Path) -> str:
    """``path`` as a user of this checkout writes it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def read(path: Path) -> Lock:
    """Read a lock and check all of it.

    :raises Problem: the file is missing, was edited by hand, or is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Problem(
            f"{shown(path)} is missing", "git checkout it or run scripts/inv lock"
        ) from None
    except OSError as error:
        raise Problem(
            f"{shown(path)} can't be read: {error.strerror}", "make it readable"
        ) from None
    head, rows = content.split(b"\n")[:4], content.split(b"\n", 4)[4:]
    body = rows[0] if rows else b""
    lines = [line.decode("utf-8", "replace") for line in head]
    fields = dict(line[2:].split(": ", 1) for line in lines[1:] if ": " in line)
    try:
        if lines[0] != HEADER or list(fields) != ["kind", "date", "digest"]:
            raise ValueError
        if fields["digest"] != "sha256:" + hashlib.sha256(body).hexdigest():
            raise ValueError
        datetime.date.fromisoformat(fields["date"])
        packages = tuple(_package(line) for line in body.decode().splitlines())
        _check(fields["kind"], packages)
        if body != body_of(packages):
            raise ValueError
    except ValueError:
        raise Problem(
            f"{shown(path)} was edited by hand or damaged",
            "git checkout it or run scripts/inv lock",
        ) from None
    return Lock(path, fields["kind"], fields["date"], packages)


def write(path: Path, kind: str, date: str, packages: Iterable[Package]) -> bool:
    """Write a lock, whole or not at all; an equal lock stays as it is, with its old date.

    :param kind: ``deb`` or ``wheel``.
    :param date: ``YYYY-MM-DD``, the day of the resolution.
    :returns: whether the file changed.
    :raises ValueError: a package can't stand in such a lock (a bug of the resolver).
    """
    packages = tuple(sorted(packages, key=order))
    _check(kind, packages)
    datetime.date.fromisoformat(date)
    body = body_of(packages)
    try:
        if read(path).digest == digest_of(packages):
            return False
    except Problem:
        pass
    head = f"{HEADER}\n# kind: {kind}\n# date: {date}\n# digest: {digest_of(packages)}\n"
    replace(path, head.encode() + body)
    return True


def replace(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, mode 0644: nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def epoch(path: Path = EPOCH) -> int:
    """SOURCE_DATE_EPOCH, in seconds: the newest lock's date at 00:00 UTC.

    :raises Problem: the file is missing or holds no number.
    """
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        raise Problem(
            f"{shown(path)} is missing or damaged", "git checkout it or run scripts/inv lock"
        ) from None


def write_epoch(dates: Iterable[str], path: Path = EPOCH) -> int:
    """Write the newest of ``dates`` (``YYYY-MM-DD``) as seconds; returns them."""
    newest = datetime.date.fromisoformat(max(dates))
    midnight = datetime.datetime.combine(newest, datetime.time(), datetime.timezone.utc)
    seconds = int(midnight.timestamp())
    content = f"{seconds}\n".encode()
    if not path.exists() or path.read_bytes() != content:
        replace(path, content)
    return seconds


def _package(line: str) -> Package:
    values = line.split(" ")
    if len(values) != FIELDS or not all(values):
        raise ValueError(line)
    return Package(values[0], int(values[1]), *values[2:])


def _check(kind: str, packages: tuple[Package, ...]) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind}")
    file = _DEB if kind == "deb" else _WHEEL
    seen: set[tuple[str, str, str]] = set()
    for package in packages:
        texts = astuple(package)
        good = (
            _SHA256.fullmatch(package.sha256)
            and package.size > 0
            and re.fullmatch(r"any|linux/[a-z0-9]+", package.platform)
            and package.variant in VARIANTS
            and file.fullmatch(package.file)
            and ".." not in package.file.split("/")
            and not any(re.search(r"\s", str(text)) or not str(text) for text in texts)
        )
        # Two lines that one build would both install: the later would win in silence.
        keys = [
            (package.name, platform, variant)
            for platform in _spread(package.platform, {p.platform for p in packages} - {"any"})
            for variant in _spread(package.variant, {"cpu", "cuda"})
        ]
        if not good or seen.intersection(keys):
            raise ValueError(package.line)
        seen.update(keys)


def _spread(value: str, all_values: set[str]) -> set[str]:
    return (all_values | {"any"}) if value == "any" else {value}
