"""What a build leaves behind is true of the image in the engine."""

import containers

from scripts import build, locks, manifests, oci

IMAGE = "hothouse/base:latest"


def test_the_record_holds_the_digests_of_the_image():
    record = build.record_of("base")
    with oci.open_image(IMAGE) as image:
        assert record["manifest"] == image.digest
        assert record["config"] == image.config_digest
        assert record["layers"] == [
            {"digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id}
            for layer in image.layers
        ]
    assert record["size"] == sum(layer["size"] for layer in record["layers"])


def test_the_record_holds_what_the_image_was_made_from_and_by():
    record = build.record_of("base")
    labels = containers.inspect(IMAGE)["Config"]["Labels"]
    assert record["source"]["revision"] == labels["org.opencontainers.image.revision"]
    assert record["source"]["epoch"] == locks.epoch()
    assert [each["file"] for each in record["source"]["locks"]] == [
        locks.shown(path) for path in locks.ALL]
    engine = containers.docker("version", "--format", "{{.Server.Version}}").stdout.strip()
    assert record["builder"]["engine"] == engine
    assert all(record["builder"].values())


def test_a_manifest_is_had_in_both_ways_and_no_tag_is_left():
    digest = build.record_of("base")["manifest"]
    pushed = manifests.by_push(IMAGE)
    assert pushed[digest] == manifests.by_save(IMAGE)[digest]
    shown = containers.docker("image", "ls", "--format", "{{.Repository}}").stdout
    assert "hothouse/record" not in shown
    assert manifests.by_push("hothouse-nothing/base") == {}
    assert manifests.by_save("hothouse-nothing/base") == {}
