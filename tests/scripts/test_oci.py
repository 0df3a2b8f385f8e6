"""Reading images from archives, folders and a registry; what is damaged is named."""

import json
import os
import tarfile

import oci_images
import pytest

from scripts import blobs, contents, oci
from scripts import registry as registry_module
from scripts.problem import Problem

FILES = {"etc": None, "etc/one": b"1\n", "bin": "usr/bin", "usr/bin/tool": b"\x7fELF" + b"x" * 5000}


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    """The engine of this machine must not matter, nor a proxy."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


def files_of(name) -> dict[str, str]:
    with oci.open_image(str(name)) as image:
        found = contents.read(image, hashes=True)
    return {path: entry.kind for path, entry in found.entries.items()}


def refused(name) -> str:
    with pytest.raises(Problem) as caught:
        files_of(name)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("place", ["archive", "folder"])
def test_an_image_is_read_from_a_file_and_from_a_folder(tmp_path, place, compression):
    made = oci_images.make(oci_images.layer(FILES), compression=compression, labels={"a": "b"})
    path = getattr(made, place)(tmp_path / "image")
    with oci.open_image(str(path)) as image:
        assert (image.digest, image.config_digest) == (made.manifest, made.config)
        assert image.labels == {"a": "b"}
        assert [layer.digest for layer in image.layers] == made.layers
        assert image.layers[0].step == "step 0"
        found = contents.read(image, lambda path, entry: path == "etc/one", hashes=True)
    assert found.entries["etc/one"].content == b"1\n"
    assert found.entries["etc/one"].sha256 == oci_images.digest_of(b"1\n")[7:]
    assert found.entries["bin"].target == "usr/bin"
    assert found.layers == [5006]


def test_the_platform_is_chosen_from_an_index_in_an_index(tmp_path):
    ours = oci_images.make(oci_images.layer(FILES))
    arm = oci_images.make(oci_images.layer({"arm": b""}), architecture="arm64")
    both = oci_images.several(ours, arm)
    both.index["manifests"] = [both.index["manifests"][0]]
    path = both.archive(tmp_path / "image.tar")
    assert "arm" not in files_of(path)
    top = both.index["manifests"][0]["digest"]
    assert "etc/one" in files_of(f"{path}@{top}")
    assert "etc/one" in files_of(f"{path}@{ours.manifest}")


def test_an_image_for_another_platform_alone_is_refused(tmp_path):
    made = oci_images.make(oci_images.layer(FILES), architecture="arm64")
    assert "no image for linux/amd64" in refused(made.archive(tmp_path / "image.tar"))


def both(first: dict | None, second: dict | None) -> tuple[oci_images.Made, str, str]:
    """Two images in one index, each with this platform or none, and their digests."""
    images = [oci_images.make(oci_images.layer({name: b""})) for name in ("one", "two")]
    entries = [{**each.index["manifests"][0], "platform": platform}
               for each, platform in zip(images, (first, second), strict=True)]
    made = images[0]
    made.blobs |= images[1].blobs
    made.index["manifests"] = [{key: value for key, value in each.items() if value is not None}
                               for each in entries]
    return made, images[0].manifest, images[1].manifest


AMD64 = {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize(("first", "second"), [(AMD64, AMD64), (None, AMD64), (AMD64, None),
                                               (AMD64, {**AMD64, "variant": "v1"})])
def test_of_several_images_one_has_to_be_named(tmp_path, first, second):
    made, one, two = both(first, second)
    path = made.archive(tmp_path / "image.tar")
    said = refused(path)
    assert f"holds 2 images for linux/amd64: {one}, {two}. Fix: name one with @sha256:" in said
    assert list(files_of(f"{path}@{one}")) == ["one"]
    assert list(files_of(f"{path}@{two}")) == ["two"]


@pytest.mark.parametrize("other", [{**AMD64, "variant": "v3"},
                                   {"os": "unknown", "architecture": "unknown"}])
def test_another_level_of_the_processor_and_an_attestation_are_passed_over(tmp_path, other):
    made, *_ = both(other, AMD64)
    assert list(files_of(made.archive(tmp_path / "image.tar"))) == ["two"]


def test_one_image_under_several_names_is_one_image(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    made.index["manifests"] *= 3
    made.index["manifests"][1] = {**made.index["manifests"][1], "annotations": {"name": "other"}}
    assert "etc/one" in files_of(made.archive(tmp_path / "image.tar"))


def test_an_index_in_an_index_a_thousand_times_is_read(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    for _ in range(1200):
        data = json.dumps(made.index).encode()
        made.blobs[oci_images.digest_of(data)] = data
        made.index = {"manifests": [{"digest": oci_images.digest_of(data), "size": len(data)}]}
    assert "etc/one" in files_of(made.archive(tmp_path / "image.tar"))


def test_upper_layers_replace_and_remove(tmp_path):
    hard = tarfile.TarInfo("etc/same")
    hard.type, hard.linkname = tarfile.LNKTYPE, "etc/new"
    made = oci_images.make(
        oci_images.layer({"etc": None, "etc/one": b"1", "etc/two": b"2", "var": None,
                          "var/old": b"", "opt": None, "opt/x": b""}),
        oci_images.layer({"etc/.wh.one": b"", "etc/two": b"22", "var/.wh..wh..opq": b"",
                          "var/young": b"", "opt": b"a file", "etc/new": b"new", "x": hard}),
    )
    with oci.open_image(str(made.folder(tmp_path / "image"))) as image:
        found = contents.read(image, hashes=True)
    assert sorted(found.entries) == ["etc", "etc/new", "etc/same", "etc/two", "opt", "var",
                                     "var/young"]
    assert (found.entries["etc/two"].layer, found.entries["etc/two"].size) == (1, 2)
    assert found.entries["etc/same"].sha256 == found.entries["etc/new"].sha256
    assert found.dropped == {"etc/one": 1, "var/old": 1, "opt/x": 1}


def test_a_wrong_digest_is_refused(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    path = made.archive(tmp_path / "image.tar")
    other = "sha256:" + "0" * 64
    assert f"has the digest {made.manifest}, not {other}" in refused(f"{path}@{other}")
    assert '"sha256:12" is no digest' in refused(f"{path}@sha256:12")


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_a_changed_byte_names_the_layer(tmp_path, compression):
    made = oci_images.make(oci_images.layer(FILES), compression=compression)
    data = bytearray(made.blobs[made.layers[0]])
    data[len(data) // 2] ^= 1
    made.blobs[made.layers[0]] = bytes(data)
    assert made.layers[0] in refused(made.archive(tmp_path / "image.tar"))


def test_a_changed_byte_far_inside_a_file_is_named_too(tmp_path):
    made = oci_images.make(oci_images.layer({"big": os.urandom(8 << 20)}), compression="gzip")
    data = bytearray(made.blobs[made.layers[0]])
    data[5 << 20:] = bytes(len(data) - (5 << 20))
    made.blobs[made.layers[0]] = bytes(data)
    assert made.layers[0] in refused(made.archive(tmp_path / "image.tar"))


def test_a_layer_that_is_cut_short_is_named(tmp_path):
    made = oci_images.make(oci_images.layer({"big": os.urandom(5000)}))
    made.blobs[made.layers[0]] = made.blobs[made.layers[0]][:1000]
    assert made.layers[0] in refused(made.folder(tmp_path / "image"))


def test_a_layer_that_was_compressed_again_is_named(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    made.blobs[made.layers[0]] = oci_images.COMPRESS["gzip"](oci_images.layer(FILES))
    said = refused(made.folder(tmp_path / "image"))
    assert f"the layer {made.layers[0]} has the digest sha256:" in said


def test_a_layer_that_unpacks_to_something_else_is_named(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    other = oci_images.make(oci_images.layer({"etc/one": b"2\n"}))
    made.name(other)
    assert f"the layer {other.layers[0]} unpacks to" in refused(made.folder(tmp_path / "image"))


def test_a_changed_configuration_or_manifest_is_named(tmp_path):
    for number, which in enumerate(("config", "manifest")):
        made = oci_images.make(oci_images.layer(FILES))
        made.blobs[getattr(made, which)] += b" "
        assert getattr(made, which) in refused(made.folder(tmp_path / str(number)))


def test_a_missing_blob_is_named(tmp_path):
    made = oci_images.make(oci_images.layer(FILES))
    del made.blobs[made.layers[0]]
    assert f"the blob {made.layers[0]} is missing" in refused(made.archive(tmp_path / "image.tar"))


def test_an_archive_that_is_cut_short_names_where(tmp_path):
    made = oci_images.make(oci_images.layer({"big": os.urandom(30000)}))
    path = made.archive(tmp_path / "image.tar")
    path.write_bytes(path.read_bytes()[:20000])
    assert f"it ends in the blob {made.layers[0]}" in refused(path)


def test_what_is_no_image_is_said(tmp_path):
    (tmp_path / "text").write_text("hello")
    assert "neither a tar file nor an OCI layout" in refused(tmp_path / "text")
    assert "no OCI layout" in refused(tmp_path)
    assert "can't be read: No such file" in refused(tmp_path / "nothing")
    old = tmp_path / "old.tar"
    with tarfile.open(old, "w") as archive:
        (tmp_path / "manifest.json").write_text("[]")
        archive.add(tmp_path / "manifest.json", "manifest.json")
    assert "an engine older than 25" in refused(old)
    made = oci_images.make(oci_images.layer({}))
    made.index = {"manifests": []}
    assert "index.json lists no manifest" in refused(made.folder(tmp_path / "empty"))


def test_a_registry_is_read_by_tag_and_by_digest():
    made = oci_images.several(oci_images.make(oci_images.layer(FILES)),
                              oci_images.make(oci_images.layer({}), architecture="arm64"))
    with oci_images.Registry(made) as registry:
        name = f"{registry.host}/test/image"
        assert "etc/one" in files_of(f"{name}:1")
        assert "etc/one" in files_of(f"{name}@{made.manifest}")
        assert "has no manifest 2 of test/image" in refused(f"{name}:2")
        assert "is no reference" in refused(f"{registry.host}/Test")


def test_a_registry_that_sends_other_bytes_is_refused():
    made = oci_images.make(oci_images.layer(FILES))
    other = oci_images.make(oci_images.layer({"etc/one": b"evil"}))
    made.blobs[made.layers[0]] = other.blobs[other.layers[0]]
    with oci_images.Registry(made) as registry:
        assert made.layers[0] in refused(f"{registry.host}/test/image:1")
        made.blobs[made.manifest] = other.blobs[other.manifest]
        assert made.manifest in refused(f"{registry.host}/test/image@{made.manifest}")


@pytest.fixture
def login(tmp_path, monkeypatch):
    """What ``docker login`` keeps, for a host."""
    def kept(host: str) -> None:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        (tmp_path / "config.json").write_text(json.dumps(
            {"auths": {host: {"auth": "dXNlcjpzZWNyZXQ="}}}))
    return kept


def test_a_registry_that_wants_a_token_gets_it_with_the_kept_login(login):
    with oci_images.Registry(oci_images.make(oci_images.layer(FILES)), token="t0ken") as registry:
        name = f"{registry.host}/test/image:1"
        assert f"docker login {registry.host}" in refused(name)
        login(registry.host)
        assert "etc/one" in files_of(name)


@pytest.mark.parametrize("token", [["a"], 5, "a\nb", "\u20ac"])
def test_a_registry_whose_token_is_none_is_refused(login, token):
    with oci_images.Registry(oci_images.make(), token=token) as registry:
        login(registry.host)
        assert f"docker login {registry.host}" in refused(f"{registry.host}/test/image:1")


@pytest.mark.parametrize("realm", ["http://HOST/token", "http://[", "nothing"])
def test_a_login_is_sent_encrypted_or_over_the_loopback_address_only(login, realm):
    with oci_images.Registry(oci_images.make()) as other, \
            oci_images.Registry(oci_images.make(), token="t0ken") as registry:
        # Any name of this machine that is no loopback address in itself.
        registry.realm = realm.replace("HOST", other.host.replace("127.0.0.1", "0.0.0.0"))
        login(registry.host)
        assert f"docker login {registry.host}" in refused(f"{registry.host}/test/image:1")
    assert other.asked == []
    assert not any("Basic" in given for given in registry.logins)


def test_a_digest_that_the_engine_lacks_is_asked_of_the_registry(tmp_path, monkeypatch):
    old = oci_images.make(oci_images.layer({"old": b""}))
    new = oci_images.make(oci_images.layer({"new": b""}))
    archive = old.archive(tmp_path / "old.tar")
    with oci_images.Registry(new) as registry:
        name = f"{registry.host}/test/image:1"
        index = "sha256:" + "1" * 64
        known = {"Id": old.manifest, "Size": 1, "RepoDigests": [f"{registry.host}/test@{index}"]}
        monkeypatch.setattr(blobs, "inspect", {name: known}.get)
        monkeypatch.setattr(blobs, "from_engine", lambda name, size: blobs.Archive(
            archive.open("rb"), name, "the engine"))
        for asked, path, kind in [
            (name, "old", "the engine"), (f"{name}@{old.manifest}", "old", "the engine"),
            (f"{name}@{new.manifest}", "new", f"the registry {registry.host}"),
        ]:
            assert list(files_of(asked)) == [path]
            with oci.open_image(asked) as image:
                assert image.place.kind == kind
        assert oci.find(f"{name}@{index}")[0].kind == "the engine"


def test_http_is_spoken_with_the_loopback_address_only():
    for host, scheme in [("127.0.0.1:5000", "http"), ("localhost", "http"), ("[::1]:5", "http"),
                         ("registry.example.org", "https"), ("10.0.0.1:5000", "https"),
                         ("127.0.0.1.example.org", "https"), ("localhost.example.org", "https")]:
        place = registry_module.Registry(f"{host}/test/image", None)
        assert place.base == f"{scheme}://{host}/v2/test/image"
        place.close()


def test_a_registry_that_does_not_answer_is_named():
    with oci_images.Registry(oci_images.make()) as registry:
        host = registry.host
    assert f"check that {host} is a registry that runs" in refused(f"{host}/test/image:1")


def test_a_name_of_nothing_is_one_line():
    assert "the Docker engine does not answer" in refused("hothouse/nothing")
