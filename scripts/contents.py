"""The files of an image: its layers laid over each other, by the rules of the OCI image format."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from scripts.blobs import damaged
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
    kept. A second name of a file (a hard link) is a file with the same hash and ``inode``, and
    ``same`` set.
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
    inode: object = field(default_factory=object, repr=False, compare=False)

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
                not only_below if n == path else n.startswith(below))]:
            del self.entries[name]
            self.dropped[name] = layer

    def put(self, path: str, entry: Entry) -> None:
        """Lay in a member of a layer over what was there."""
        before = self.entries.get(path)
        if before and before.kind == "folder" and entry.kind != "folder":
            self.remove(path, entry.layer, only_below=True)
        self.dropped.pop(path, None)
        if path or not plain_root(entry):
            self.entries[path] = entry
        else:
            self.entries.pop(path, None)

    def share(self, entry: Entry) -> str:
        """Give all names of a file what the header of the last one says, as engines do.

        :returns: what is wrong with it, empty for nothing.
        """
        first = self.entries.get(entry.same)
        if first is None:
            return f"has a hard link to /{entry.same}, which is not there"
        if status(first) != status(entry):
            names = [each for each in self.entries.values() if each.inode is entry.inode]
            if any(each.layer != entry.layer for each in names):
                # Some engines change the lower layer's name too, some do not.
                return f"has a hard link to /{entry.same} of a lower layer with another status"
            for each in names:
                each.mode, each.uid, each.gid, each.extended = status(entry)
        return ""


@dataclass
class Laid:
    """What one layer has brought and removed so far. Engines differ in what they make of a path
    that is there twice, or below a link; no builder writes that."""

    contents: Contents
    folders: dict[str, bool] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def bring(self, path: str, folder: bool) -> str:
        """Note a member; return what is wrong with it, empty for nothing."""
        wrong = self.parents(path)
        if path in self.gone:
            wrong = f"brings and removes /{path}"
        elif path in self.folders and not (folder and self.folders[path]):
            wrong = f"brings /{path} twice"
        self.folders[path] = folder
        return wrong

    def drop(self, folder: str, name: str) -> str:
        """Note the whiteout of a name; return what is wrong with it, empty for nothing."""
        path = os.path.join(folder, name)
        if name in ("", ".", ".."):
            return f"has a whiteout of no name in /{folder}"
        wrong = self.parents(path)
        if path in self.folders:
            wrong = f"brings and removes /{path}"
        self.gone.add(path)
        return wrong

    def parents(self, path: str) -> str:
        """Look at the folders above a path."""
        while path:
            path = os.path.dirname(path)
            if path in self.gone:
                return f"brings and removes /{path}"
            entry = self.contents.entries.get(path)
            if entry and entry.kind != "folder":
                return f"has something below /{path}, which is a {entry.kind}"
            self.folders.setdefault(path, True)
        return ""


def status(entry: Entry) -> tuple[int, int, int, str]:
    """What the names of one file share beside its content."""
    return entry.mode, entry.uid, entry.gid, entry.extended


def plain_root(entry: Entry) -> bool:
    """Whether this is how engines make the root folder that no layer names."""
    return entry.kind == "folder" and status(entry) == (0o755, 0, 0, "")


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
    :raises Problem: a layer is damaged, or engines may unpack it in two ways.
    """
    contents = Contents()
    for number, layer in enumerate(image.layers):
        print(f"reading layer {number + 1} of {len(image.layers)} ({layer.size / 1e6:.1f} MB) …",
              file=sys.stderr, flush=True)
        brought, laid = 0, Laid(contents)
        for member, file in image.members(layer):
            path = normal(member.name)
            folder, name = os.path.split(path)
            if name == OPAQUE:
                wrong = laid.parents(path)
                contents.remove(folder, number, only_below=True)
            elif name.startswith(WHITEOUT):
                removed = name[len(WHITEOUT):]
                wrong = laid.drop(folder, removed)
                contents.remove(os.path.join(folder, removed), number)
            else:
                wrong = laid.bring(path, member.isdir())
                entry = entry_of(member, number, contents)
                if file is not None:
                    brought += member.size
                    take(path, entry, file, keep, hashes, watch)
                if member.islnk():
                    wrong = wrong or contents.share(entry)
                contents.put(path, entry)
            if wrong:
                raise damaged(image.place.shown, f"the layer {layer.digest} {wrong}")
        contents.layers.append(brought)
    return contents


def normal(name: str) -> str:
    """A member's path without ``./`` and slashes at its ends; empty for the root."""
    path = os.path.normpath("/" + name).strip("/")
    return "" if path == "." else path


def entry_of(member: tarfile.TarInfo, layer: int, contents: Contents) -> Entry:
    """Make the entry of a tar's member."""
    extended = ";".join(
        f"{key}={value!r}" for key, value in sorted(member.pax_headers.items())
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
            entry.kind, entry.target, entry.inode = first.kind, first.target, first.inode
            if first.extended != entry.extended:
                # Those of this header are added to the file's.
                entry.extended = ";".join(filter(None, (first.extended, entry.extended)))
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
