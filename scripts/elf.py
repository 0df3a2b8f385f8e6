"""What of an ELF file is ever loaded, so that a stripped library can be compared with the wheel's.

``strip --strip-unneeded`` drops symbol tables and debug sections and writes the section headers
anew; it may move segments within the file, but not in memory, and does not touch what they load,
nor other sections (elf(5)).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from typing import BinaryIO

#: e_shoff, e_shnum and e_shstrndx of a 64-bit header: where the section headers lie.
SECTION_FIELDS = ((0x28, 0x30), (0x3C, 0x40))
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOBITS, LOADED = 8, 0x2
#: What strip drops or writes anew.
DROPPED = (".symtab", ".strtab", ".shstrtab", ".symtab_shndx", ".debug", ".zdebug", ".gdb_index",
           ".gnu_debug", ".stab")


def loaded_digest(file: BinaryIO) -> str | None:
    """Hash an ELF file without what strip takes away: its segments and its other sections.

    :param file: a real file, opened to read.
    :returns: SHA-256 in hex, or None where it is no 64-bit little-endian ELF file or damaged.
    """
    file.seek(0, 2)
    if file.tell() < HEADER.size:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            return None
        try:
            return _digest(data)
        except (struct.error, ValueError, IndexError, UnicodeDecodeError):
            return None


def _digest(data: mmap.mmap) -> str:
    head = HEADER.unpack_from(data)
    segments_at, sections_at = head[5], head[6]
    segments, sections, names_in = head[10], head[12], head[13]
    first = bytearray(data[: HEADER.size])
    for start, end in SECTION_FIELDS:
        first[start:end] = bytes(end - start)
    total = hashlib.sha256(first)
    # The program headers are themselves loaded; they are compared without their offsets.
    start = HEADER.size
    if segments_at == start:
        start += segments * SEGMENT.size
    for number in range(segments):
        segment = SEGMENT.unpack_from(data, segments_at + number * SEGMENT.size)
        offset, size = segment[2], segment[5]
        total.update(struct.pack("<7Q", *segment[:2], *segment[3:]))
        begin = max(offset, start)
        _add(total, data, begin, offset + size - begin)
    rows = [SECTION.unpack_from(data, sections_at + number * SECTION.size)
            for number in range(sections)]
    names = data[rows[names_in][4]: rows[names_in][4] + rows[names_in][5]] if rows else b""
    others = []
    for row in rows:
        name = names[row[0]: names.index(b"\0", row[0])].decode()
        if row[1] and not row[2] & LOADED and not name.startswith(DROPPED):
            others.append((name, row[4], 0 if row[1] == NOBITS else row[5]))
    end = max([HEADER.size, sections_at + sections * SECTION.size,
               *(row[4] + row[5] for row in rows if row[1] != NOBITS)])
    if len(data) - end >= 16:  # more than alignment: something was appended
        others.append(("after the end", end, len(data) - end))
    for name, offset, size in sorted(others):
        total.update(f"{name}\0{size}\0".encode())
        _add(total, data, offset, size)
    return total.hexdigest()


def _add(total, data: mmap.mmap, offset: int, size: int) -> None:
    if size > 0 and offset + size > len(data):
        raise ValueError("cut short")
    for start in range(offset, offset + size, 1 << 24):
        total.update(data[start: min(start + (1 << 24), offset + size)])
