"""Make the next version of a locked package: what an update is, where no newer one can be had.

The new file is a real wheel or .deb: the same files but one, a new version in its name and in its
metadata, hashes that are true. The lock of a copy of the checkout names it afterwards.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import lzma
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import trees

from scripts import context, fetch, locks
from scripts.locks import Package

#: Another one in each run: what an earlier run left in the engine's cache must not count.
ADDED = f"\n# The next version, {uuid.uuid4().hex}.\n".encode()


@contextmanager
def bumped(tree: trees.Tree, lock_path: Path, name: str) -> Iterator[Package]:
    """Have a lock of the copy name the next version of a package; afterwards the old one again.

    :param lock_path: one of ``locks.ALL``.
    """
    path = tree.root / lock_path.relative_to(locks.ROOT)
    store = tree.root / ".artifacts" / "store"
    lock, before = locks.read(path), path.read_bytes()
    old = next(package for package in lock.packages if package.name == name)
    data, version, file = (next_deb if lock.kind == "deb" else next_wheel)(
        fetch.path_of(old.sha256, store), old
    )
    digest = hashlib.sha256(data).hexdigest()
    new = replace(old, sha256=digest, size=len(data), version=version, file=file)
    place = fetch.path_of(digest, store)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    others = [package for package in lock.packages if package != old]
    assert locks.write(path, lock.kind, lock.date, [*others, new])
    try:
        yield new
    finally:
        path.write_bytes(before)
        place.unlink()


def next_wheel(path: Path, old: Package) -> tuple[bytes, str, str]:
    """Return a wheel's next version: its bytes, version and file name.

    One module has one more line. PyPA's binary distribution format names the folders by project
    and version, and RECORD holds the hash of each file.
    """
    version = f"{old.version}.post1"
    project = old.file.split("-")[0]
    rows, buffer = [], io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(
        buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as target:
        changed = next(
            each for each in sorted(source.namelist(), key=lambda each: (each.count("/"), each))
            if each.endswith(".py") and ".data/" not in each
        )
        for member in source.infolist():
            data, name = source.read(member), member.filename
            if name == changed:
                data += ADDED
            for kind in ("dist-info", "data"):
                name = name.replace(f"{project}-{old.version}.{kind}/",
                                    f"{project}-{version}.{kind}/", 1)
            if name.endswith(".dist-info/METADATA"):
                was = f"\nVersion: {old.version}\n".encode()
                assert was in data
                data = data.replace(was, f"\nVersion: {version}\n".encode(), 1)
            if name.endswith(".dist-info/RECORD"):
                record = zipfile.ZipInfo(name, member.date_time)
                record.external_attr = member.external_attr
                continue
            again = zipfile.ZipInfo(name, member.date_time)
            again.external_attr, again.compress_type = member.external_attr, zipfile.ZIP_DEFLATED
            target.writestr(again, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append((name, f"sha256={digest}", len(data)))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record.filename, "", "")])
        target.writestr(record, text.getvalue())
    return buffer.getvalue(), version, old.file.replace(f"-{old.version}-", f"-{version}-", 1)


def next_deb(path: Path, old: Package) -> tuple[bytes, str, str]:
    """Return a .deb's next version: its bytes, version and place in the pool.

    Its copyright file, which the base image keeps, has one more line.
    """
    version = f"{old.version}+next1"
    name, control = context.ar_member(path, "control.tar")
    assert name == "control.tar.xz"
    _, tree = context.ar_member(path, "data.tar")
    copyright_file = f"usr/share/doc/{old.name}/copyright"
    sums = {}

    def more(member: str, data: bytes) -> bytes:
        if member == copyright_file:
            data += ADDED
            sums[member] = hashlib.md5(data).hexdigest()
        return data

    def describe(member: str, data: bytes) -> bytes:
        if member == "control":
            return data.replace(f"\nVersion: {old.version}\n".encode(),
                                f"\nVersion: {version}\n".encode(), 1)
        if member == "md5sums":
            lines = (line.split("  ", 1) for line in data.decode().splitlines())
            return "".join(f"{sums.get(file, total)}  {file}\n" for total, file in lines).encode()
        return data

    new_tree = rewritten(tree, more)
    assert sums, f"{old.name} has no copyright file of its own"
    members = (("debian-binary", b"2.0\n"), ("control.tar.xz", rewritten(control, describe)),
               ("data.tar.xz", new_tree))
    file = old.file.replace(f"_{old.version.split(':')[-1]}_", f"_{version.split(':')[-1]}_", 1)
    assert file != old.file
    return ar(members), version, file


def rewritten(archive: bytes, edit) -> bytes:
    """Return a .tar.xz with the contents of its files edited: ``edit(path, data)``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(archive))) as source, tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT
    ) as target:
        for member in source:
            data = None
            if member.isreg():
                data = edit(member.name.removeprefix("./"), source.extractfile(member).read())
                member.size = len(data)
            target.addfile(member, io.BytesIO(data) if data is not None else None)
    return lzma.compress(buffer.getvalue(), preset=1)


def ar(members: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return an ar archive, in the form that deb(5) describes."""
    out = b"!<arch>\n"
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out
