"""The files of an image: its layers laid over each other, by the rules of the OCI image format."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from scripts.oci import CHUNK, Image

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
KINDS = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link", tarfile.CHRTYPE: "device", tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
#: Called with a path and its entry; returns a file to write the content into, or None. The file is
#: closed after the last byte.
Watch = Callable[[str, "Entry"], "BinaryIO | None"]


@dataclass
class Entry:
    """A file, folder or link. ``size`` in bytes, ``layer`` counted from 0, the lowest.

    ``sha256`` (hex) is empty where hashes were not asked for, ``content`` None where it was not
    kept. A second name of a file (a hard link) is a file with the same hash and ``same`` set.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    layer: int
    target: str = ""
    sha256: str = ""
    same: str = ""
    extended: str = ""
    content: bytes | None = field(default=None, repr=False)

    @property
    def owner(self) -> str:
        """``UID:GID``."""
        return f"{self.uid}:{self.gid}"


@dataclass
class Contents:
    """What an image holds. ``layers``: bytes of the files that each layer brings, hidden or not;
    ``dropped``: paths that an upper layer removes, with that layer's number."""

    entries: dict[str, Entry] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    def text(self, path: str) -> str | None:
        """A kept file as text, or None."""
        entry = self.entries.get(path)
        return None if entry is None or entry.content is None else \
            entry.content.decode("utf-8", "replace")

    def remove(self, path: str, layer: int, only_below: bool = False) -> None:
        """Take away a path and what is below it, as a whiteout in ``layer`` does."""
        below = path + "/" if path else ""
        for name in [n for n, e in self.entries.items() if e.layer < layer and (
                (n == path and not only_below) or n.startswith(below))]:
            del self.entries[name]
            self.dropped[name] = layer


def keep_nothing(path: str, entry: Entry) -> bool:
    """Keep no content."""
    return False


def read(
    image: Image,
    keep: Callable[[str, Entry], bool] = keep_nothing,
    *,
    hashes: bool = False,
    watch: Watch | None = None,
) -> Contents:
    """Read all layers of an image.

    :param keep: whose contents to hold in memory; asked for files only.
    :param hashes: whether to hash each file.
    :raises Problem: a layer is damaged.
    """
    contents = Contents()
    for number, layer in enumerate(image.layers):
        print(f"reading layer {number + 1} of {len(image.layers)} ({layer.size / 1e6:.1f} MB) …",
              file=sys.stderr, flush=True)
        brought = 0
        # What this layer has laid in, for its hard links.
        for member, file in image.members(layer):
            path = normal(member.name)
            folder, name = os.path.split(path)
            if name == OPAQUE:
                contents.remove(folder, number, only_below=True)
            elif name.startswith(WHITEOUT):
                contents.remove(os.path.join(folder, name[len(WHITEOUT):]), number)
            elif path:
                entry = entry_of(member, number, contents)
                if file is not None:
                    brought += member.size
                    take(path, entry, file, keep, hashes, watch)
                before = contents.entries.get(path)
                if before and before.kind == "folder" and entry.kind != "folder":
                    contents.remove(path, number, only_below=True)
                contents.dropped.pop(path, None)
                contents.entries[path] = entry
        contents.layers.append(brought)
    return contents


def normal(name: str) -> str:
    """A member's path without ``./`` and slashes at its ends; empty for the root."""
    path = os.path.normpath("/" + name).strip("/")
    return "" if path == "." else path


def entry_of(member: tarfile.TarInfo, layer: int, contents: Contents) -> Entry:
    """Make the entry of a tar's member."""
    extended = ";".join(
        f"{key}={value}" for key, value in sorted(member.pax_headers.items())
        if key.startswith(("SCHILY.xattr.", "LIBARCHIVE.xattr."))
    )
    entry = Entry(KINDS.get(member.type, "other"), member.mode & 0o7777, member.uid, member.gid,
                  member.size if member.isreg() else 0, int(member.mtime), layer,
                  extended=extended)
    if member.issym():
        entry.target = member.linkname
    elif member.isdev():
        entry.target = f"{member.devmajor}:{member.devminor}"
    elif member.islnk():
        entry.kind, entry.same = "file", normal(member.linkname)
        first = contents.entries.get(entry.same)
        if first:
            entry.size, entry.sha256, entry.content = first.size, first.sha256, first.content
            entry.kind, entry.target = first.kind, first.target
    return entry


def take(path: str, entry: Entry, file, keep, hashes: bool, watch: Watch | None) -> None:
    """Read one file's content for those who asked for it."""
    sink = watch(path, entry) if watch else None
    kept = [] if keep(path, entry) else None
    if not (hashes or sink or kept is not None):
        return
    total = hashlib.sha256()
    try:
        while data := file.read(CHUNK):
            total.update(data)
            if sink:
                sink.write(data)
            if kept is not None:
                kept.append(data)
    finally:
        if sink:
            sink.close()
    entry.sha256 = total.hexdigest()
    if kept is not None:
        entry.content = b"".join(kept)
