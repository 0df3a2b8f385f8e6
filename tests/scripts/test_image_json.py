"""Manifests, indexes and configurations that are not what they should be, or that others read in
another way, are refused on one line."""


import oci_images
import pytest

from scripts import blobs, contents, oci
from scripts.problem import Problem

FILES = {"etc": None, "etc/one": b"1\n"}


@pytest.fixture
def made() -> oci_images.Made:
    return oci_images.make(oci_images.layer(FILES), labels={"a": "b"})


def read(tmp_path, made: oci_images.Made) -> oci.Image:
    """All that is ever read of an image."""
    with oci.open_image(str(made.folder(tmp_path / "image"))) as image:
        assert image.labels is not None
        contents.read(image, hashes=True)
    return image


def refused(tmp_path, made: oci_images.Made) -> str:
    with pytest.raises(Problem) as caught:
        read(tmp_path, made)
    assert "\n" not in caught.value.message
    return caught.value.message


def added(data: bytes, text: str) -> bytes:
    """A JSON object with something more at its end."""
    return data.rstrip()[:-1] + b", " + text.encode() + b"}"


@pytest.mark.parametrize(("which", "text"), [
    ("manifest", '"config": {}'), ("manifest", '"Config": {}'), ("manifest", '"Layers": []'),
    ("manifest", '"layer\u017f": []'), ("manifest", '"x": [{"digest": "", "Digest": ""}]'),
    ("config", '"config": {"Cmd": ["evil"]}'), ("config", '"Config": {"Cmd": ["evil"]}'),
    ("config", '"x": {"Labels": {"a": "1", "a": "2"}}'),
])
def test_a_key_that_is_there_twice_is_refused(tmp_path, made, which, text):
    made.replace(which, added(made.blobs[getattr(made, which)], text))
    assert f"{getattr(made, which)} has a key twice" in refused(tmp_path, made)


def test_labels_may_differ_in_case_only(tmp_path):
    labels = {"name": "1", "Name": "2"}
    assert read(tmp_path, oci_images.make(oci_images.layer(FILES), labels=labels)).labels == labels


@pytest.mark.parametrize("field", ["manifests", "Manifests"])
def test_what_is_an_index_and_a_manifest_at_once_is_refused(tmp_path, made, field):
    made.edit("manifest", lambda manifest: manifest.update({field: made.index["manifests"]}))
    assert f"{made.manifest} is an index and a manifest at once" in refused(tmp_path, made)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"[]", b""])
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(Problem, match="it is damaged: this is no JSON object"):
        blobs.read_json(data, "it", "this")
