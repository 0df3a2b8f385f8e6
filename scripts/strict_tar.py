"""Read a layer's tar as the engines' reader does, and refuse what the two could read in two ways.

Python's tarfile takes a header that it can't read for the end of the archive, and knows extensions
that Go's archive/tar does not, and the other way round: it could be shown other files than the
engine unpacks. Builders write a small part of what tar can be; only that is taken here.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from tarfile import (
    BLKTYPE,
    BLOCKSIZE,
    CHRTYPE,
    DIRTYPE,
    FIFOTYPE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    LNKTYPE,
    REGTYPE,
    SYMTYPE,
    XHDTYPE,
    TarInfo,
)
from typing import BinaryIO

from scripts.problem import Problem

CHUNK = 1 << 20
#: The longest extended header that Go reads.
LONGEST = 1 << 20
USTAR, GNU = b"ustar\x0000", b"ustar  \x00"
#: The fields of a header that are numbers: mode, uid, gid, size, mtime, checksum, device.
NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (148, 156), (329, 337),
           (337, 345))
#: Octal digits, or the first byte of a positive number in base 256.
NUMBER = re.compile(rb" *[0-7]*[ \0]*|\x80.*", re.DOTALL)
LONG = {GNUTYPE_LONGNAME: "name", GNUTYPE_LONGLINK: "linkname"}
TYPES = {REGTYPE, DIRTYPE, SYMTYPE, LNKTYPE, CHRTYPE, BLKTYPE, FIFOTYPE}
WORDS = {"path": "name", "linkpath": "linkname", "uname": "uname", "gname": "gname"}
COUNTS = ("size", "uid", "gid")
Refuse = Callable[[str], Problem]


class Content:
    """The content of one member, to read until the next one is asked for."""

    def __init__(self, stream: BinaryIO, size: int, refuse: Refuse) -> None:
        self.stream, self.left, self.refuse = stream, size, refuse

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes.

        :raises Problem: the archive ends before.
        """
        data = self.stream.read(min(size, self.left))
        if not data and self.left:
            raise self.refuse("is cut short")
        self.left -= len(data)
        return data


def members(stream: BinaryIO, refuse: Refuse) -> Iterator[tuple[TarInfo, Content | None]]:
    """Read an archive: its members in order, each with its content where it is a file.

    :param stream: whose ``read`` returns less than asked for at the end only.
    :param refuse: makes the error of what is wrong.
    :raises Problem: the archive is damaged, or can be read in two ways.
    """
    extensions: dict[bytes, bytes] = {}
    while any(block := stream.read(BLOCKSIZE)):
        member = header(block, refuse)
        if member.type in (XHDTYPE, *LONG):
            # Which of the two counts depends on who reads.
            if member.type in extensions or XHDTYPE in (*extensions, member.type) and extensions:
                raise refuse("has several extended headers for one file")
            if member.size > LONGEST:
                raise refuse("has too long an extended header")
            extensions[member.type] = exactly(stream, padded(member.size), refuse)[:member.size]
            continue
        if member.type not in TYPES:
            raise refuse(f"has a tar header of the type {member.type!r}")
        extend(member, extensions, refuse)
        extensions = {}
        if not member.isreg():
            member.size = 0
            yield member, None
            continue
        content = Content(stream, member.size, refuse)
        yield member, content
        while content.read(CHUNK):
            pass
        exactly(stream, padded(member.size) - member.size, refuse)
    if extensions:
        raise refuse("ends in an extended header")
    while data := stream.read(CHUNK):
        if data.strip(b"\0"):
            raise refuse("has something behind the end of its tar")


def exactly(stream: BinaryIO, size: int, refuse: Refuse) -> bytes:
    """Read so many bytes.

    :raises Problem: there are fewer.
    """
    data = stream.read(size)
    if len(data) != size:
        raise refuse("is cut short")
    return data


def padded(size: int) -> int:
    """The bytes that a content takes in whole blocks."""
    return -(-size // BLOCKSIZE) * BLOCKSIZE


def header(block: bytes, refuse: Refuse) -> TarInfo:
    """Read one header.

    :raises Problem: it is none, or none that every reader reads alike.
    """
    if len(block) != BLOCKSIZE:
        raise refuse("is cut short")
    magic = block[257:265]
    # The prefix of a name: GNU's format has times there, star's is shorter.
    if magic not in (USTAR, GNU) or (magic == GNU and any(block[345:500])) or any(block[500:]):
        raise refuse("has an unusual tar header")
    if not all(NUMBER.fullmatch(block[start:end]) for start, end in NUMBERS):
        raise refuse("has a tar header with a number that is none")
    try:
        return TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        raise refuse("has a damaged tar header") from None


def extend(member: TarInfo, extensions: dict[bytes, bytes], refuse: Refuse) -> None:
    """Give a member what its extended headers say.

    :raises Problem: they say something that is no such value.
    """
    for kind, name in LONG.items():
        if kind in extensions:
            value = extensions[kind].partition(b"\0")[0]
            setattr(member, name, value.decode("utf-8", "surrogateescape"))
    member.pax_headers = records(extensions.get(XHDTYPE, b""), refuse)
    for key, value in member.pax_headers.items():
        if key.startswith("GNU.sparse."):
            raise refuse("holds a sparse file")
        if key in WORDS and value and "\0" not in value:
            setattr(member, WORDS[key], value)
        elif key in COUNTS and re.fullmatch(r"[0-9]{1,18}", value):
            setattr(member, key, int(value))
        elif key == "mtime" and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]*)?", value):
            member.mtime = int(value.partition(".")[0])
        elif key in (*WORDS, *COUNTS, "mtime"):
            raise refuse(f"has an extended header whose {key} is {value[:80]!r}")


def records(data: bytes, refuse: Refuse) -> dict[str, str]:
    """The records ``LENGTH KEY=VALUE`` of an extended header.

    :raises Problem: there is something else, or a key twice.
    """
    found: dict[str, str] = {}
    while data:
        length, _, _ = data[:20].partition(b" ")
        end = int(length) if length.isdigit() else 0
        key, equals, value = data[len(length) + 1:end].partition(b"=")
        name = key.decode("utf-8", "surrogateescape")
        if not (key and equals and value.endswith(b"\n") and end <= len(data)) or name in found:
            raise refuse("has a damaged extended header")
        found[name] = value[:-1].decode("utf-8", "surrogateescape")
        data = data[end:]
    return found
