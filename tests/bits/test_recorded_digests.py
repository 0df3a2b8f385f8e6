"""The images have the digests that digests.lock names, on whatever machine they were built."""

import pytest

from scripts import blobs, digests


def test_the_images_are_the_recorded_ones(tags, locked_bytes, note):
    there = {target: tag for target, tag in tags.items() if blobs.inspect(tag)}
    if not there:
        pytest.fail("no image is built: scripts/inv build all", pytrace=False)
    # The CUDA image is too large to be read for the compressed digests alone; where the revision
    # is the recorded one, its manifest is compared.
    read = tuple(target for target in ("jupyter-cpu",) if target in there)
    for line in digests.check(there, read):
        note(line)


def test_an_image_of_other_bytes_is_refused(tags, tmp_path, locked_bytes):
    text = digests.FILE.read_text()
    layer = digests.load()["images"]["base"]["layers"][1]["diff_id"]
    path = tmp_path / "digests.lock"
    path.write_text(text.replace(layer, "sha256:" + "0" * 64))
    with pytest.raises(digests.Problem, match="base's base/files"):
        digests.check({"base": tags["base"]}, ("base",), path)
