"""Layers are laid over each other as engines do it; what engines do in two ways is refused."""

import tarfile

import oci_images
import pytest

from scripts import compare, contents, oci
from scripts.problem import Problem

BASE = {"bin": "usr/bin", "usr": None, "usr/bin": None, "usr/bin/sh": b"sh"}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644,
           owner: int = 0, **attributes: str) -> tarfile.TarInfo:
    it = tarfile.TarInfo(name)
    it.type, it.linkname, it.mode, it.uid = kind, target, mode, owner
    it.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in attributes.items()}
    return it


def hard(name: str, target: str, **settings) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, target, **settings)


def read(tmp_path, *layers: dict) -> contents.Contents:
    path = oci_images.make(*map(oci_images.layer, layers)).archive(tmp_path / "image.tar")
    with oci.open_image(str(path)) as image:
        return contents.read(image, hashes=True)


FOLDER, LINK = member("opt", tarfile.DIRTYPE, mode=0o755), member("opt", tarfile.SYMTYPE, "tmp")


@pytest.mark.parametrize(("upper", "words"), [
    ({"bin/.wh.sh": b""}, "has something below /bin, which is a link"),
    ({"bin/.wh..wh..opq": b""}, "has something below /bin, which is a link"),
    ({"bin/sh": b"evil"}, "has something below /bin, which is a link"),
    ({"bin/a/b": b"evil"}, "has something below /bin, which is a link"),
    ({"usr/bin/sh/x": b""}, "has something below /usr/bin/sh, which is a file"),
    ([FOLDER, member("opt/evil"), LINK], "brings /opt twice"),
    ([FOLDER, member("opt/evil"), LINK, FOLDER], "brings /opt twice"),
    ([member("opt/evil"), LINK], "brings /opt twice"),
    ([LINK, FOLDER], "brings /opt twice"),
    ([member("x"), member("./x")], "brings /x twice"),
    ({"usr/bin/.wh.sh": b"", "usr/bin/sh": b"evil"}, "brings and removes /usr/bin/sh"),
    ({"usr/bin/sh": b"evil", "usr/bin/.wh.sh": b""}, "brings and removes /usr/bin/sh"),
    ({".wh.usr": b"", "usr/x": b""}, "brings and removes /usr"),
    ({"usr/x": b"", ".wh.usr": b""}, "brings and removes /usr"),
    ({".wh.usr": b"", "usr/.wh..wh..opq": b""}, "brings and removes /usr"),
    ({"usr/.wh.": b""}, "has a whiteout of no name in /usr"),
    ({"usr/.wh..": b""}, "has a whiteout of no name in /usr"),
    ({"usr/.wh...": b""}, "has a whiteout of no name in /usr"),
    ([hard("x", "bin/sh")], "has a hard link to /bin/sh, which is not there"),
    ([hard("x", "usr/bin/sh", mode=0o4755)], "of a lower layer with another status"),
    ([hard("x", "usr/bin/sh"), hard("y", "x", owner=1)], "of a lower layer with another status"),
])
def test_what_engines_do_in_two_ways_is_refused(tmp_path, upper, words):
    if isinstance(upper, list):
        upper = dict(enumerate(upper))
    with pytest.raises(Problem) as caught:
        read(tmp_path, BASE, upper)
    assert "is damaged: the layer sha256:" in caught.value.message
    assert words in caught.value.message


def test_a_folder_may_be_there_twice_and_be_emptied(tmp_path):
    found = read(tmp_path, BASE, {"usr/bin/new": b"", "usr/bin/.wh..wh..opq": b"", "usr": None,
                                  "usr/": member("usr", tarfile.DIRTYPE, mode=0o700)})
    assert sorted(found.entries) == ["bin", "usr", "usr/bin", "usr/bin/new"]
    assert found.entries["usr"].mode == 0o700
    assert found.dropped == {"usr/bin/sh": 1}


def test_a_folder_that_an_upper_layer_makes_a_link_is_empty(tmp_path):
    found = read(tmp_path, {"opt": None, "opt/x": b""}, {"opt": "tmp"}, {"opt": None})
    assert sorted(found.entries) == ["opt"]


def test_an_odd_root_is_an_entry_and_a_plain_one_is_none(tmp_path):
    plain = member("./", tarfile.DIRTYPE, mode=0o755)
    odd = member("./", tarfile.DIRTYPE, mode=0o777, owner=1000)
    for number, (layers, wanted) in enumerate([
        ([plain], []), ([odd], [""]), ([plain, odd], [""]), ([odd, plain], []),
        ([odd, {".wh..wh..opq": b""}], [""]),
        ([member("./", tarfile.DIRTYPE, mode=0o755, a="1")], [""]),
    ]):
        (tmp_path / str(number)).mkdir()
        found = read(tmp_path / str(number),
                     *(each if isinstance(each, dict) else {"./": each} for each in layers))
        assert list(found.entries) == wanted
    assert compare.difference(
        read(tmp_path, {"./": odd}).entries[""], None).startswith("is a folder ")


def test_the_names_of_one_file_share_what_the_last_header_says(tmp_path):
    found = read(tmp_path, {
        "1": member("a", a="1"), "2": hard("b", "a", a="1"),
        "3": hard("c", "b", mode=0o4755, owner=1000, b="2"), "4": hard("d", "a", mode=0o4755,
                                                                       owner=1000),
        "5": member("other"),
    })
    for name in "abcd":
        entry = found.entries[name]
        assert (entry.mode, entry.owner, entry.kind) == (0o4755, "1000:0", "file")
        assert entry.extended == "SCHILY.xattr.a='1';SCHILY.xattr.b='2'"
    assert found.entries["other"].mode == 0o644


def test_a_name_that_an_upper_layer_replaces_is_another_file(tmp_path):
    found = read(tmp_path, {"1": member("a"), "2": hard("b", "a")},
                 {"1": member("a", mode=0o600), "2": hard("c", "a", mode=0o600),
                  "3": hard("d", "a", mode=0o755)})
    assert {name: entry.mode for name, entry in found.entries.items()} == {
        "a": 0o755, "b": 0o644, "c": 0o755, "d": 0o755}


def test_a_second_name_has_the_kind_and_the_content_of_the_first(tmp_path):
    found = read(tmp_path, {"1": member("link", tarfile.SYMTYPE, "to"), "2": hard("x", "link"),
                            "file": b"content", "3": hard("y", "file")}).entries
    assert (found["x"].kind, found["x"].target) == ("link", "to")
    assert (found["y"].kind, found["y"].size, found["y"].sha256) == (
        "file", 7, found["file"].sha256)


def test_extended_attributes_are_told_apart(tmp_path):
    found = read(tmp_path, {
        "1": member("a", a="1;SCHILY.xattr.b=2"), "2": member("b", a="1", b="2"),
        "3": member("c"), "4": member("d", a="\udcff"),
    }).entries
    assert len({entry.extended for entry in found.values()}) == 4
    assert found["c"].extended == ""
    assert compare.difference(found["b"], found["c"]) == (
        "attributes SCHILY.xattr.a='1';SCHILY.xattr.b='2', not none")
