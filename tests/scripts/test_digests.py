"""The file of expected digests: layers' names, what is compared and what a difference is called."""

import copy
import hashlib
import json

import pytest

from scripts import digests
from scripts.problem import Problem


def layer(name: str, content: str, packed: str = "zstd") -> dict:
    return {"name": name, "diff_id": f"sha256:{content}", "digest": f"sha256:{content}-{packed}",
            "size": 7}


FILE = {
    "note": "", "engine": "26.1.5", "revision": "a" * 40, "source": "s",
    "images": {
        "base": {"manifest": "m1", "config": "c1", "layers": [layer("base/files", "1")]},
        "tensorflow-cpu": {"manifest": "m2", "config": "c2", "layers": [
            layer("base/files", "1"), layer("tensorflow/keras", "2")]},
    },
}


@pytest.fixture
def found() -> dict:
    return copy.deepcopy(FILE)


def test_layers_are_named_by_the_dockerfiles():
    cpu, cuda = digests.layer_names("jupyter-cpu"), digests.layer_names("jupyter-cuda")
    assert cpu[:3] == ["base/bootstrapped", "base/files", "tensorflow/framework"]
    assert cpu[-2:] == ["jupyter/lab", "jupyter/files"]
    assert "tensorflow/cudnn" not in cpu
    assert [name for name in cuda if name in cpu] == cpu
    assert cuda.index("base/files") < cuda.index("tensorflow/cudnn") < cuda.index(
        "tensorflow/framework")
    assert digests.layer_names("base") == cpu[:2]


def test_equal_images_have_no_difference(found):
    assert digests.compare(FILE, found) == ([], [])


def test_a_layer_that_differs_is_named_in_each_image(found):
    found["images"]["tensorflow-cpu"] = {"manifest": "other", "config": "other", "layers": [
        layer("base/files", "1"), layer("tensorflow/keras", "3")]}
    assert digests.compare(FILE, found)[0] == ["tensorflow-cpu's tensorflow/keras"]


def test_another_compression_is_told_from_another_content(found):
    found["images"]["base"] = {"manifest": "other", "config": "c1", "layers": [
        layer("base/files", "1", "gzip")]}
    assert digests.compare(FILE, found)[0] == ["base's base/files (its compression alone)"]


def test_compression_is_not_compared_across_engines(found):
    found["engine"] = "28.0.0"
    found["images"]["base"] = {"manifest": "other", "config": "c1", "layers": [
        layer("base/files", "1", "gzip")]}
    differences, notes = digests.compare(FILE, found)
    assert not differences
    assert notes == ["compressed digests not compared: engine 28.0.0, recorded with 26.1.5"]


def test_a_configuration_of_the_same_revision_has_to_be_equal(found):
    found["images"]["base"] |= {"manifest": "other", "config": "other"}
    assert digests.compare(FILE, found)[0] == ["base's config", "base's manifest"]


@pytest.mark.parametrize("revision", ["b" * 40, "a" * 40 + "-dirty", "unknown"])
def test_a_configuration_of_another_revision_is_not_compared(found, revision):
    found["revision"] = revision
    found["images"]["base"] |= {"manifest": "other", "config": "other"}
    differences, notes = digests.compare(FILE, found)
    assert not differences
    assert revision in notes[0]


def test_an_image_with_another_row_of_layers_is_named(found):
    found["images"]["base"] = {"manifest": "other", "config": "c1", "layers": []}
    assert digests.compare(FILE, found)[0] == ["base has other layers"]


def test_what_was_not_read_is_not_compared_and_said(found):
    found["images"]["base"] = {"manifest": "other", "layers": [
        {"name": "base/files", "diff_id": "sha256:1"}]}
    found["revision"] = "b" * 40
    differences, notes = digests.compare(FILE, found)
    assert not differences
    assert notes[-1] == "compressed digests of base not compared: it was not read whole"


@pytest.mark.parametrize(("source", "says"), [
    ("s", "the recorded source gives other bytes here: base's base/files"),
    ("t", "digests.lock was written for another source: base's base/files"),
])
def test_a_difference_is_one_line(found, tmp_path, monkeypatch, source, says):
    path = tmp_path / "digests.lock"
    path.write_text(json.dumps(FILE))
    found["source"] = source
    found["images"]["base"] = {"manifest": "other", "layers": [layer("base/files", "9")]}
    monkeypatch.setattr(digests, "gather", lambda targets, read: found)
    with pytest.raises(Problem) as caught:
        digests.check({}, (), path)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_an_image_that_is_not_there_is_named(found):
    assert digests.compare(FILE, {**found, "images": {}}) == ([], [
        "base is not built here and not compared",
        "tensorflow-cpu is not built here and not compared",
    ])


def test_a_configuration_that_nobody_recorded_is_said_not_to_be_compared(found):
    del found["images"]["base"]["config"]
    assert digests.compare(FILE, found) == ([], [])  # the manifest stands for it
    found["engine"] = "28.0.0"
    assert digests.compare(FILE, found)[1][1:] == [
        "the configuration of base was not compared: there is no record of its build here"
    ]


@pytest.mark.parametrize("recorded", ["b" * 40, "b" * 40 + "-dirty", "unknown"])
def test_a_recorded_revision_that_can_never_match_is_an_error(
    found, tmp_path, monkeypatch, recorded
):
    path = tmp_path / "digests.lock"
    path.write_text(json.dumps({**FILE, "revision": recorded}))
    monkeypatch.setattr(digests, "gather", lambda targets, read: found)
    with pytest.raises(Problem, match=f"was recorded at the revision {recorded}, .*inv digests"):
        digests.check({}, (), path)
    # Where nobody can know the revision, that is no error.
    found["revision"] = "a" * 40 + "-dirty"
    assert found["revision"] in digests.check({}, (), path)[0]
    found["revision"] = "unknown"
    digests.check({}, (), path)
    found |= {"revision": "a" * 40, "source": "t"}
    assert recorded in digests.check({}, (), path)[0]


@pytest.mark.parametrize("revision", ["a" * 40 + "-dirty", "unknown"])
def test_digests_of_no_commit_are_not_written_down(monkeypatch, revision):
    monkeypatch.setattr(digests.build, "revision", lambda: revision)
    monkeypatch.setattr(digests.build, "build", lambda *_: pytest.fail("built in vain"))
    with pytest.raises(Problem, match=f"revision is {revision}.*commit images/ and docker-bake"):
        digests.run()


def test_an_image_is_read_from_what_the_engine_saves(monkeypatch):
    packed, content = (f"sha256:{digit * 64}" for digit in "12")
    config = json.dumps({"os": "linux", "architecture": "amd64",
                         "rootfs": {"diff_ids": [content]}}).encode()
    inner = {"digest": f"sha256:{hashlib.sha256(config).hexdigest()}", "size": len(config)}
    manifest = json.dumps({"config": inner, "layers": [{"digest": packed, "size": 5}]}).encode()
    saved = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (config, manifest)}
    top = list(saved)[1]
    monkeypatch.setattr(digests.blobs, "inspect", lambda _: {"Id": top})
    monkeypatch.setattr(digests.manifests, "by_save", lambda _: saved)
    image = digests.image_of("a/b:c")
    assert (image.digest, image.config_digest) == (top, inner["digest"])
    [layer] = image.layers
    assert (layer.digest, layer.diff_id, layer.size) == (packed, content, 5)
    monkeypatch.setattr(digests.manifests, "by_save", lambda _: {})
    with pytest.raises(Problem, match="the engine has no image a/b:c"):
        digests.image_of("a/b:c")


def without(key: str) -> str:
    """The file without a key of its first layer, of its first image or of its own."""
    data = copy.deepcopy(FILE)
    image = data["images"]["base"]
    for place in (image["layers"][0], image, data):
        if key in place:
            del place[key]
            break
    return json.dumps(data)


@pytest.mark.parametrize("content", [
    None, "", "[]", "{}", '{"engine": ""}', json.dumps({**FILE, "images": {}}),
    *map(without, ("name", "diff_id", "digest", "size", "manifest", "config", "layers", "source")),
])
def test_a_missing_or_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "digests.lock"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Problem, match="missing or damaged.*scripts/inv digests"):
        digests.load(path)


def test_a_whole_file_is_taken(tmp_path):
    path = tmp_path / "digests.lock"
    path.write_text(json.dumps(FILE))
    assert digests.load(path) == FILE
    assert digests.load()
