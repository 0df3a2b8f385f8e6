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


BAD_MANIFESTS = [
    {"config": []}, {"config": None}, {"layers": None}, {"layers": {}}, {"layers": ["x"]},
    *({"layers": [{"digest": "sha256:" + "0" * 64, "size": 1, **change}]} for change in (
        {"digest": 5}, {"digest": "sha256:0"}, {"digest": None}, {"size": "1"}, {"size": -1},
        {"size": 1.5}, {"size": True}, {"mediaType": 7})),
]


@pytest.mark.parametrize("change", BAD_MANIFESTS)
def test_a_manifest_with_a_value_of_a_wrong_type_is_refused(tmp_path, made, change):
    made.edit("manifest", lambda manifest: manifest.update(change))
    assert f"{made.manifest} has no layers or no configuration" in refused(tmp_path, made)


@pytest.mark.parametrize("change", [
    {"config": ["a"]}, {"config": {"Labels": ["a"]}}, {"config": {"Labels": {"a": 1}}},
    {"rootfs": "a"}, {"rootfs": {"diff_ids": "a"}}, {"rootfs": {"diff_ids": [1]}},
    {"rootfs": {"diff_ids": ["a"]}}, {"history": "a"}, {"history": ["a"]},
    {"history": [{"created_by": 1}]},
])
def test_a_configuration_with_a_value_of_a_wrong_type_is_refused(tmp_path, made, change):
    made.edit("config", lambda config: config.update(change))
    assert f"{made.config} has a value of a wrong type" in refused(tmp_path, made)


@pytest.mark.parametrize(("change", "labels", "step"), [
    ({"history": [{"created_by": None}]}, {"a": "b"}, ""), ({"history": None}, {"a": "b"}, ""),
    ({"config": None}, {}, "step 0"), ({"config": {"Labels": None}}, {}, "step 0"),
])
def test_what_is_null_is_as_if_it_were_missing(tmp_path, made, change, labels, step):
    made.edit("config", lambda config: config.update(change))
    image = read(tmp_path, made)
    assert (image.labels, image.layers[0].step) == (labels, step)


@pytest.mark.parametrize(("change", "words"), [
    ({"platform": "linux"}, "an entry whose platform is none"),
    ({"digest": 5}, "an entry without a digest"),
    ({"digest": "sha512:00"}, "an entry without a digest"),
])
def test_an_index_with_a_value_of_a_wrong_type_is_refused(tmp_path, made, change, words):
    made.index["manifests"][0].update(change)
    assert words in refused(tmp_path, made)


def test_a_layer_of_another_size_than_the_manifest_says_is_refused(tmp_path, made):
    size = len(made.blobs[made.layers[0]])
    made.edit("manifest", lambda manifest: manifest["layers"][0].update(size=size + 1))
    assert f"{made.layers[0]} has {size} bytes, not {size + 1}" in refused(tmp_path, made)
