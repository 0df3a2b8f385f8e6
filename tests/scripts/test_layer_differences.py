"""What two images' layers have different is named: the layer, the path, and what of it."""

import tarfile

import layers
import oci_images
import pytest

from scripts import oci

NAMES = ["base/one", "base/two"]
SAME = oci_images.layer({"etc": None, "etc/same": b"same"})


def member(name: str, **settings: object) -> tarfile.TarInfo:
    it = tarfile.TarInfo(name)
    it.mode = 0o644
    for key, value in settings.items():
        setattr(it, key, value)
    return it


def said(tmp_path, one: bytes, two: bytes, second: str = "zstd") -> list[str]:
    paths = [
        oci_images.make(SAME, one).archive(tmp_path / "one.tar"),
        oci_images.make(SAME, two, compression=second).archive(tmp_path / "two.tar"),
    ]
    with oci.open_image(str(paths[0])) as left, oci.open_image(str(paths[1])) as right:
        return layers.differences(left, right, NAMES)


@pytest.mark.parametrize(("one", "two", "line"), [
    ({"f": b"1"}, {"f": b"2"}, "/f: sha256 "),
    ({"f": b"1"}, {"f": b"12"}, "/f: size 1, not 2"),
    ({"f": b"1"}, {}, "/f: only in the first"),
    ({}, {"f": b"1"}, "/f: only in the second"),
    ({"f": "a"}, {"f": "b"}, "/f: target a, not b"),
    ({"f": b""}, {"f": None}, "/f: kind file, not folder"),
    ({"f": member("f", mode=0o600)}, {"f": b""}, "/f: mode 600, not 644"),
    ({"f": member("f", uid=1000)}, {"f": b""}, "/f: owner 1000:0, not 0:0"),
    ({"f": member("f", mtime=5)}, {"f": b""}, "/f: mtime 5, not 0"),
    ({"a": b"", "b": b""}, {"b": b"", "a": b""}, "the same files in another order"),
    ({"f": member("f", uname="root")}, {"f": b""}, "the same files with other tar headers"),
])
def test_what_differs_is_named(tmp_path, one, two, line):
    lines = said(tmp_path, oci_images.layer(one), oci_images.layer(two))
    assert len(lines) == 1
    assert lines[0].startswith(f"layer base/two: {line}")


def test_equal_layers_are_not_listed(tmp_path):
    assert said(tmp_path, SAME, SAME) == []


def test_another_compression_is_told_from_another_content(tmp_path):
    assert said(tmp_path, SAME, SAME, "gzip") == [
        "layer base/one: same content, other compression",
        "layer base/two: same content, other compression",
    ]


def test_a_long_list_ends(tmp_path):
    many = oci_images.layer({f"f{number:02}": b"" for number in range(30)})
    lines = said(tmp_path, many, oci_images.layer({}))
    assert len(lines) == layers.SHOWN + 1
    assert lines[-1] == "layer base/two: and 10 more files"
