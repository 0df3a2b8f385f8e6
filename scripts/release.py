"""Debian's chain of signatures: a signed Release file names the hash of a Packages index, and that
index the hash of every .deb. Here it is fetched, checked, kept beside the lock, and checked again.
"""

from __future__ import annotations

import datetime
import gzip
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from scripts import context, download, fetch, locks, mirrors, signatures
from scripts.locks import Lock, Package, shown
from scripts.paths import IMAGES
from scripts.paths import STORE as _STORE
from scripts.problem import Problem

STORE = _STORE
BASE = IMAGES / "base"
LABELS = {"debian": "Debian", "debian-security": "Debian-Security"}
KEYRING_PACKAGE = "debian-archive-keyring"
_KEYRING = "./usr/share/keyrings/debian-archive-keyring."
#: The smallest first; Python reads all of them.
_KINDS = {".xz": lzma.decompress, ".gz": gzip.decompress, "": bytes}
_LIMIT = 16 * 2**20  # bytes of a Release file; today's largest has 0.14 MB
_MINUTE = datetime.timedelta(minutes=1)
_TODAY_CHANGED = "run scripts/inv lock to take the present state, or git checkout the file"


@dataclass(frozen=True)
class Release:
    """A Release file whose signature was checked, and the Packages index that it names."""

    archive: str
    suite: str
    content: bytes
    date: datetime.datetime
    valid_until: datetime.datetime | None
    index: Package
    signers: tuple[str, ...]

    @property
    def what(self) -> str:
        """How messages call it."""
        return f"{self.suite}'s Release file"


def suites(suite: str) -> list[tuple[str, str]]:
    """The archives and their suites that make up a Debian release."""
    main, security = LABELS
    return [(main, suite), (main, f"{suite}-updates"), (security, f"{suite}-security")]


def kept_at(base: Path, suite: str) -> Path:
    """Where the checked Release file of a suite is kept, beside the lock in ``base``. Compressed:
    231 kB that no person reads become 51 kB."""
    return base / "release" / f"{suite}.InRelease.xz"


def read_kept(path: Path) -> bytes:
    """Return a kept Release file as it was served; empty where it is damaged.

    :raises OSError: it cannot be read.
    """
    try:
        return lzma.decompress(path.read_bytes())
    except lzma.LZMAError:
        return b""


def keyrings(base: Path, store: Path) -> list[Path]:
    """Files with Debian's public keys: this machine's, and that of the locked keyring package.

    Which of their keys count says keys.in, so neither has to be trusted.
    """
    found = [mirrors.DEBIAN_KEYRING] if mirrors.DEBIAN_KEYRING.exists() else []
    try:
        lock = locks.read(base / "packages.lock")
    except Problem:
        return found
    for package in lock.packages:
        if package.name == KEYRING_PACKAGE and download.is_there(package, store):
            path = store.parent / "keyrings" / f"{package.sha256}.gpg"
            deb = download.path_of(package.sha256, store)
            if download.sha256_of(deb) != package.sha256:
                continue  # damaged; whoever needs the package fetches it again
            if content := _keyring_in(deb):
                locks.replace(path, content)
                found.append(path)
    return found


def _keyring_in(deb: Path) -> bytes:
    with context.unpacked(deb) as tree:
        for member in tree:
            # The name of a file is .gpg or .pgp, that of a link to it the other one.
            if member.isreg() and member.name[:-3] == _KEYRING and (
                file := tree.extractfile(member)
            ):
                return file.read()
    return b""


# --- one Release file --------------------------------------------------------------------------


def read(
    content: bytes, archive: str, suite: str, architecture: str, base: Path, store: Path
) -> Release:
    """Check a Release file's signature, and that it is Debian's and this suite's.

    :param content: the file as the mirror gives it (InRelease).
    :param base: the folder of packages.in, with keys.in.
    :raises Problem: it isn't; one line says why.
    """
    keys = signatures.read_keys(base / "keys.in")
    what = f"{suite}'s Release file"
    signed = signatures.check(content, what, keys, keyrings(base, store))
    text = signed.text.decode("utf-8", "replace")
    head = dict(re.findall(r"^([A-Za-z-]+): *(.*?) *\r?$", text, re.MULTILINE))
    wanted = {"Origin": "Debian", "Label": LABELS[archive], "Codename": suite}
    for name, value in wanted.items():
        if head.get(name) != value:
            raise Problem(
                f"the mirror gives the Release file of {head.get(name, 'nothing')} for {suite} "
                f"({name} isn't {value})",
                "use another Debian mirror",
            )
    try:
        date = parsedate_to_datetime(head["Date"])
        until = parsedate_to_datetime(head["Valid-Until"]) if "Valid-Until" in head else None
    except (KeyError, ValueError):
        raise Problem(f"{what} has no valid date", "use another Debian mirror") from None
    index = _index(text, archive, suite, architecture, head.get("Acquire-By-Hash") == "yes")
    return Release(archive, suite, content, date, until, index, signed.signers)


def _index(text: str, archive: str, suite: str, architecture: str, by_hash: bool) -> Package:
    """What is named under ``SHA256:``, as a package that ``fetch`` can bring into the store."""
    section = re.search(r"^SHA256:[^\n]*\n((?: [^\n]*\n?)+)", text, re.MULTILINE)
    rows = [line.split() for line in (section[1] if section else "").splitlines()]
    named = {row[2]: row for row in rows if len(row) == 3}
    for kind in _KINDS:
        path = f"main/binary-{architecture}/Packages{kind}"
        digest, size, _ = named.get(path, ("", "", ""))
        if re.fullmatch(r"[0-9a-f]{64}", digest) and size.isdigit():
            folder = f"{archive}:dists/{suite}"
            # By hash: a mirror that is updated meanwhile still has it under that name.
            at = f"main/binary-{architecture}/by-hash/SHA256/{digest}" if by_hash else path
            return Package(digest, int(size), "any", "any", "index", f"{suite}/{path}",
                           "index", f"{folder}/{at}")
    raise Problem(
        f"{suite}'s Release file names no Packages index with a SHA-256",
        "use another Debian mirror",
    )


def fresh(release: Release, kept: Release | None, now: datetime.datetime) -> None:
    """Refuse a Release file of the past that somebody replays.

    The machine's own apt may have this switched off; here it can't be.

    :param kept: the one beside the lock that it proves. A newer one that changed no package was
        checked too, but is not remembered.
    :raises Problem: it has expired, is from the future, or is older than ``kept``.
    """
    if release.valid_until and release.valid_until < now:
        raise Problem(
            f"{release.what} expired on {release.valid_until:%Y-%m-%d %H:%M} UTC",
            "use a Debian mirror that is up to date, or correct this machine's clock",
        )
    if release.date > now + _MINUTE:
        raise Problem(
            f"{release.what} is from the future ({release.date:%Y-%m-%d %H:%M} UTC)",
            "correct this machine's clock",
        )
    if kept and release.date < kept.date:
        raise Problem(
            f"{release.what} of {release.date:%Y-%m-%d} is older than the one that proves the "
            f"lock ({kept.date:%Y-%m-%d})",
            "use a Debian mirror that is up to date",
        )


# --- from the mirror ---------------------------------------------------------------------------


def fetch_all(
    suite: str, architecture: str, archives: dict[str, mirrors.Archive], base: Path = BASE
) -> list[Release]:
    """Fetch and check the Release files of a Debian release, and the indexes that they name.

    :param archives: where this machine gets Debian from.
    :returns: main suite, updates, security; their indexes are in the store.
    :raises Problem: a file can't be had, or isn't what Debian signed.
    """
    found = []
    now = datetime.datetime.now(datetime.timezone.utc)
    for archive, name in suites(suite):
        url = archives[archive].url
        content = _download(f"{url}/dists/{name}/InRelease", name)
        release = read(content, archive, name, architecture, base, STORE)
        fresh(release, _kept(base, archive, name, architecture), now)
        found.append(release)
    addresses = {name: archive.url for name, archive in archives.items()}
    fetch_indexes(found, addresses, now.date().isoformat())
    return found


def _kept(base: Path, archive: str, suite: str, architecture: str) -> Release | None:
    try:
        content = read_kept(kept_at(base, suite))
        return read(content, archive, suite, architecture, base, STORE)
    except (OSError, Problem):
        return None  # about to be replaced


def _download(url: str, suite: str) -> bytes:
    session = mirrors.session()
    try:
        answer = session.get(
            url, timeout=download.timeout(), stream=True, proxies=mirrors.apt_proxies() or None
        )
        if answer.status_code in (404, 410):
            raise Problem(
                f"the mirror has no signed Release file of {suite}", "use another Debian mirror"
            )
        if not answer.ok:
            raise mirrors.refused(answer.status_code, url)
        content = b""
        for chunk in answer.iter_content(2**16):
            content += chunk
            if len(content) > _LIMIT:
                raise Problem(f"{suite}'s Release file has no end", "use another Debian mirror")
        return content
    except requests.RequestException as error:
        raise mirrors.trouble(error, url) from None
    finally:
        session.close()


def fetch_indexes(
    releases: Iterable[Release], archives: dict[str, str] | None, date: str
) -> None:
    """Bring the indexes into the store, each checked against the hash that was signed.

    :param archives: base addresses; None for this machine's.
    :param date: ``YYYY-MM-DD`` for the snapshot archive where the mirror has newer ones.
    :raises Problem: an index is gone, or its bytes aren't those that the Release file names.
    """
    for release in releases:
        if fetch.verify([release.index], STORE):
            if archives is None:
                found = mirrors.debian_archives()
                archives = {name: archive.url for name, archive in found.items()}
            _fetch_index(release, archives, date)


def _fetch_index(release: Release, archives: dict[str, str], date: str) -> None:
    index, path = release.index, release.index.name.partition("/")[2]
    named = f"{release.archive}:dists/{release.suite}/{path}"
    # The snapshot archive keeps them under their own names.
    for file in dict.fromkeys((index.file, named)):
        try:
            wanted = Package(**{**index.__dict__, "file": file})
            fetch.fetch([wanted], store=STORE, archives=archives, date=date)
            return
        except fetch.Gone:
            continue
        except Problem as problem:
            if " came with " not in problem.cause:
                raise
            raise Problem(
                f"the mirror's Packages index of {release.suite} isn't the one that its signed "
                "Release file names",
                "try again in a few minutes, or use another Debian mirror",
            ) from None
    raise Problem(
        f"the Packages index of {release.suite} of {release.date:%Y-%m-%d} is on no server any "
        "more",
        "take it from a bundle, name a snapshot server in HOTHOUSE_SNAPSHOT, or scripts/inv lock",
    )


# --- the packages ------------------------------------------------------------------------------


def stanzas(release: Release) -> dict[str, tuple[str, str, int, str]]:
    """What a checked index in the store says of each file of its archive's pool.

    :returns: by ``debian:pool/…``: name, version, size in bytes, SHA-256.
    :raises Problem: the index isn't in the store or was damaged there.
    """
    if fetch.verify([release.index], STORE):
        raise Problem(
            f"the Packages index of {release.suite} isn't in the store",
            "scripts/inv lock --check fetches it",
        )
    path = download.path_of(release.index.sha256, STORE)
    kind = next(k for k in _KINDS if release.index.name.endswith(f"Packages{k}"))
    found = {}
    for stanza in _KINDS[kind](path.read_bytes()).decode("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines()
                      if ": " in line and line[0] not in " \t")
        if "Filename" in fields:
            size = fields.get("Size", "")
            found[f"{release.archive}:{fields['Filename']}"] = (
                fields.get("Package", ""), fields.get("Version", ""),
                int(size) if size.isdigit() else 0, fields.get("SHA256", ""),
            )
    return found


def prove(packages: Iterable[Package], releases: Iterable[Release]) -> None:
    """Check that signed indexes name every one of ``packages`` with its size and hash.

    :raises Problem: one is in none of them, or with other bytes.
    """
    signed: dict[str, set[tuple[str, str, int, str]]] = {}
    for release in releases:
        for file, row in stanzas(release).items():
            signed.setdefault(file, set()).add(row)
    for package in packages:
        rows = signed.get(package.file, set())
        if not rows:
            raise Problem(
                f"{package.name} {package.version} is in no index that Debian signed",
                _TODAY_CHANGED,
            )
        if (package.name, package.version, package.size, package.sha256) not in rows:
            raise Problem(
                f"{package.name} {package.version}: the lock has other bytes than the index that "
                "Debian signed",
                _TODAY_CHANGED,
            )


# --- kept beside the lock ----------------------------------------------------------------------


def keep(releases: Iterable[Release], base: Path = BASE) -> None:
    """Write what was checked beside the lock that it proves; throw away what is of no suite."""
    releases = list(releases)
    for release in releases:
        locks.replace(kept_at(base, release.suite), lzma.compress(release.content, preset=9))
    paths = {kept_at(base, release.suite) for release in releases}
    for stale in set((base / "release").iterdir()) - paths:
        stale.unlink()


def kept(suite: str, architecture: str = "amd64", base: Path = BASE) -> list[Release]:
    """The Release files beside the lock, their signatures checked again; no network.

    :raises Problem: one is missing, or isn't what Debian signed.
    """
    found = []
    for archive, name in suites(suite):
        path = kept_at(base, name)
        try:
            content = read_kept(path)
        except OSError:
            raise Problem(
                f"{shown(path)} is missing", "git checkout it or run scripts/inv lock"
            ) from None
        found.append(read(content, archive, name, architecture, base, STORE))
    return found


def audit(lock: Lock, suite: str, base: Path = BASE) -> list[Release]:
    """Check the chain from what is kept: signature, index, the hash of each .deb of the lock.

    :returns: what proves the lock.
    :raises Problem: a link of the chain doesn't hold.
    """
    releases = kept(suite, base=base)
    fetch_indexes(releases, None, lock.date)
    prove(lock.packages, releases)
    return releases
