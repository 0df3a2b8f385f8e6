"""`inv lock`: resolve the inputs once and write the lock files."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name
from rich.console import Console

from scripts import locks, release, resolve_debs, resolve_wheels
from scripts.locks import Lock, Package
from scripts.paths import IMAGES
from scripts.problem import Problem


def run(upgrade: str | bool | None = None, *, images: Path = IMAGES) -> bool:
    """Resolve again and write what changed; prints it package by package.

    A wheel keeps its version while the requirements allow it. A .deb always becomes what the
    archive has now, because Debian keeps only the newest.

    :param upgrade: True for the newest versions of all wheels, a project's name for that one.
    :returns: whether a lock changed.
    :raises Problem: the name is in no lock, or the inputs can't be resolved.
    """
    debs, *wheels = paths = [images / path.relative_to(IMAGES) for path in locks.ALL]
    old = {path: _present(path) for path in paths}
    if isinstance(upgrade, str):
        upgrade = _known(upgrade, old.values())
    # Whole lines, however narrow the terminal: a log or a test reads them too.
    say = functools.partial(Console(highlight=False).print, soft_wrap=True)
    say("checking Debian's signatures and resolving its packages")
    resolved, releases = resolve_debs.resolve(path=images / "base" / "packages.in")
    new: dict[Path, list[Package]] = {debs: resolved}
    present = [p for path in wheels if (lock := old[path]) for p in lock.packages]
    found = resolve_wheels.resolve(present, upgrade, say=say, images=images)
    new |= {path: found[path.parent.name] for path in wheels}

    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    changed = False
    for path, packages in new.items():
        lock = old[path]
        lines = changes(lock.packages if lock else (), packages)
        if locks.write(path, "deb" if path == debs else "wheel", today, packages):
            changed = True
            say(f"{locks.shown(path)}:")
            # A rewritten line may differ in its layer or its file alone.
            for line in lines or ["same packages and versions, other files or layers"]:
                say(f"  {line}")
    if not _proved(debs):
        release.keep(releases, debs.parent)
        say(f"kept the signed Release files in {locks.shown(debs.parent / 'release')}")
        changed = True
    locks.write_epoch((locks.read(path).date for path in paths), images / locks.EPOCH.name)
    say("next: scripts/inv build, and commit; then scripts/inv digests, and commit digests.lock"
        if changed else "nothing changed")
    return changed


def check(*, images: Path = IMAGES) -> None:
    """Check the chain from Debian's signatures to the committed lock, from what is kept.

    Needs a network only for an index that isn't in the store.

    :raises Problem: a link of the chain doesn't hold.
    """
    base = images / "base"
    lock = locks.read(base / "packages.lock")
    suite, _ = resolve_debs.read_input(base / "packages.in")
    for proof in release.audit(lock, suite, base):
        signed = f"of {proof.date:%Y-%m-%d %H:%M} UTC, signed by {', '.join(proof.signers)}"
        print(f"{proof.suite}: Release {signed}; Packages sha256:{proof.index.sha256}")
    print(f"All {len(lock.packages)} Debian packages of the lock are those that Debian signed.")
    wheels = sum(len(locks.read(images / p.relative_to(IMAGES)).packages) for p in locks.WHEELS)
    print(f"The {wheels} wheels are signed by nobody: their hashes are those that the package "
          "index gave over TLS.")


def _proved(debs: Path) -> bool:
    """Whether the Release files beside the lock prove it: then there is no need for newer ones."""
    try:
        suite, _ = resolve_debs.read_input(debs.parent / "packages.in")
        release.audit(locks.read(debs), suite, debs.parent)
    except Problem:
        return False
    return True


def changes(old: Iterable[Package], new: Iterable[Package]) -> list[str]:
    """What differs between two sets of packages, one line for each package, sorted by name."""
    before = {(p.name, p.variant, p.platform): p.version for p in old}
    after = {(p.name, p.variant, p.platform): p.version for p in new}
    # A package whose variant or platform alone moved is no news.
    lines = {}
    for name in {key[0] for key in before.keys() ^ after.keys()} | {
        key[0] for key in before if before[key] != after.get(key)
    }:
        was = sorted({v for key, v in before.items() if key[0] == name})
        now = sorted({v for key, v in after.items() if key[0] == name})
        if was != now:
            lines[name] = _change(name, ", ".join(was), ", ".join(now))
    return [lines[name] for name in sorted(lines)]


def resolve_debs_to(path: Path) -> Lock:
    """Resolve the Debian packages as of now into the lock ``path``, beside the committed one.

    :raises Problem: the mirror can't be asked.
    """
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    locks.write(path, "deb", today, resolve_debs.resolve()[0])
    return locks.read(path)


def _change(name: str, was: str, now: str) -> str:
    if not was:
        return f"{name} {now} (added)"
    return f"{name} {was} → {now}" if now else f"{name} {was} (removed)"


def _present(path: Path) -> Lock | None:
    """The lock as it is; None for one that is missing or damaged: it is about to be rewritten."""
    try:
        return locks.read(path)
    except Problem:
        return None


def _known(name: str, present: Iterable[Lock | None]) -> str:
    names = {package.name for lock in present if lock for package in lock.packages}
    if name in names:
        return name
    normal = canonicalize_name(re.sub(r"\[.*", "", name))
    if normal not in names:
        raise Problem(
            f"no lock holds a package {name}", "give a name as it stands in images/*/*.lock"
        )
    return normal
