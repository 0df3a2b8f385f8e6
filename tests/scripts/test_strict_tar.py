"""Tar files that Python's reader and the engine's would read in two ways are refused."""

import io
import tarfile
from tarfile import TarInfo

import oci_images
import pytest

from scripts import oci
from scripts.problem import Problem

END = bytes(1024)


def header(name: str = "file", kind: bytes = tarfile.REGTYPE, size: int = 0,
           patch: tuple[int, bytes] = (0, b"")) -> bytes:
    """A header; the patch is put at its offset, and the checksum made true again."""
    member = TarInfo(name)
    member.type, member.size = kind, size
    return patched(member.tobuf(tarfile.USTAR_FORMAT), patch)


def patched(block: bytes, *patches: tuple[int, bytes]) -> bytes:
    """Write over bytes of a header."""
    changed = bytearray(block)
    for offset, data in patches:
        changed[offset:offset + len(data)] = data
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def extended(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header, or what else of a kind has a content before the next header."""
    data = b"".join(records)
    return header("x", kind, len(data)) + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header."""
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


def members(tmp_path, tar: bytes) -> dict[str, tuple[TarInfo, bytes]]:
    path = oci_images.make(tar).archive(tmp_path / "image.tar")
    with oci.open_image(str(path)) as image:
        return {member.name: (member, file.read(1 << 20) if file else b"")
                for member, file in image.members(image.layers[0])}


def by_tarfile(tar: bytes) -> dict[str, int]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name: member.uid for member in archive}


def test_the_helpers_of_this_file_make_what_tarfile_reads(tmp_path):
    tar = extended(record(b"path", b"name"), record(b"uid", b"1000")) + header() + END
    assert by_tarfile(tar) == {"name": 1000}
    assert {name: it.uid for name, (it, _) in members(tmp_path, tar).items()} == {"name": 1000}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_honest_archive_is_read_as_tarfile_reads_it(tmp_path, format):
    long = "d" * 60 + "/" + "f" * (90 if format == tarfile.USTAR_FORMAT else 200)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, kind, target in [
            ("etc", tarfile.DIRTYPE, ""), ("etc/a b", tarfile.REGTYPE, ""),
            (long, tarfile.REGTYPE, ""), ("link", tarfile.SYMTYPE, long[:99]),
            ("hard", tarfile.LNKTYPE, "etc/a b"), ("null", tarfile.CHRTYPE, ""),
            ("etc/é", tarfile.REGTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""),
        ]:
            member = TarInfo(name)
            member.type, member.linkname, member.mtime = kind, target, 1_700_000_000
            member.uid, member.mode, member.devmajor, member.devminor = 1000, 0o4755, 1, 3
            if kind == tarfile.REGTYPE:
                member.size = 700
                if format == tarfile.PAX_FORMAT:
                    member.pax_headers = {"SCHILY.xattr.user.a": "1\n2", "mtime": "1700000000.25"}
            archive.addfile(member, io.BytesIO(b"x" * 700))
    buffer.seek(0)
    found = members(tmp_path, buffer.getvalue())
    with tarfile.open(fileobj=buffer) as archive:
        for wanted in archive:
            member, content = found.pop(wanted.name)
            for name in ("type", "mode", "uid", "gid", "size", "linkname", "uname", "gname"):
                assert getattr(member, name) == getattr(wanted, name), (wanted.name, name)
            assert member.mtime == int(wanted.mtime)
            assert member.pax_headers == wanted.pax_headers
            assert content == b"x" * wanted.size
            if wanted.isdev():
                assert (member.devmajor, member.devminor) == (wanted.devmajor, wanted.devminor)
    assert not found


@pytest.mark.parametrize(("first", "words"), [
    (patched(header(), (257, bytes(8)), (329, b"garbage\0")), "has an unusual tar header"),
    (header(patch=(329, b"garbage\0")), "a number that is none"),
    (patched(header(), (257, bytes(8))), "has an unusual tar header"),
    (patched(header(), (508, b"tar\0")), "has an unusual tar header"),
    (patched(header(), (257, b"ustar  \0"), (345, b"usr/bin")), "has an unusual tar header"),
    (header(patch=(108, b"\0001750\0\0")), "a number that is none"),
    (header(patch=(124, b"0000\0" + b"0000017")), "a number that is none"),
    (header()[:148] + b"000000\0 " + header()[156:], "has a damaged tar header"),
    (extended(record(b"path", b"a"), kind=tarfile.XGLTYPE) + header(), "of the type b'g'"),
    (header(kind=tarfile.AREGTYPE), r"of the type b'\x00'"),
    (header(kind=tarfile.GNUTYPE_SPARSE), "of the type b'S'"),
    (header(kind=tarfile.CONTTYPE), "of the type b'7'"),
    (extended(record(b"GNU.sparse.name", b"a")) + header(), "holds a sparse file"),
    (extended(record(b"GNU.sparse.map", b"abc")) + header(), "holds a sparse file"),
    (extended(record(b"path", b"a")) + extended(record(b"uid", b"1")) + header(),
     "several extended headers"),
    (extended(b"a\0", kind=b"L") + extended(b"b\0", kind=b"L") + header(),
     "several extended headers"),
    (extended(record(b"path", b"a")) + extended(b"b\0", kind=b"L") + header(),
     "several extended headers"),
    (extended(b"b\0", kind=b"L") + extended(record(b"path", b"a")) + header(),
     "several extended headers"),
    (extended(record(b"path", b"a"), record(b"path", b"b")) + header(), "damaged extended header"),
    (extended(b"99 path=a\n") + header(), "damaged extended header"),
    (extended(b"9999999999999999999999") + header(), "damaged extended header"),
    (extended(b"11 path=abc") + header(), "damaged extended header"),
    (extended(b"0 path=a\n") + header(), "damaged extended header"),
    (extended(record(b"mtime", b"inf")) + header(), "whose mtime is 'inf'"),
    (extended(record(b"size", b"-1")) + header(), "whose size is '-1'"),
    (extended(record(b"uid", b"9" * 5000)) + header(), "whose uid is '999"),
    (extended(record(b"path", b"")) + header(), "whose path is ''"),
    (extended(record(b"path", b"a\0b")) + header(), "whose path is 'a"),
    (header("x", tarfile.XHDTYPE, 2 << 20), "too long an extended header"),
    (header(patch=(124, b"\x80" + b"\xff" * 11)), "is cut short"),
    (header(size=5000), "is cut short"),
    (header()[:100], "is cut short"),
    (extended(record(b"path", b"a")), "ends in an extended header"),
    (bytes(512) + header(), "something behind the end of its tar"),
    (bytes(1024) + b"x", "something behind the end of its tar"),
])
def test_what_may_be_read_in_two_ways_is_refused(tmp_path, first, words):
    with pytest.raises(Problem) as caught:
        members(tmp_path, header("before") + first + (b"" if "short" in words else END))
    assert caught.value.message.startswith("error: ")
    assert "the layer sha256:" in caught.value.message
    assert words in caught.value.message


def test_a_file_behind_a_header_that_tarfile_cannot_read_is_not_lost(tmp_path):
    evil = header("a") + header("b", patch=(329, b"garbage\0")) + header("evil") + END
    assert list(by_tarfile(evil)) == ["a"]
    with pytest.raises(Problem):
        members(tmp_path, evil)


def test_an_archive_without_an_end_and_one_without_anything_are_read(tmp_path):
    (tmp_path / "1").mkdir()
    assert list(members(tmp_path / "1", header("a"))) == ["a"]
    assert members(tmp_path, b"") == {}
