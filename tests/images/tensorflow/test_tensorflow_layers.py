"""What stands on the base: its layers, what was pruned, and that each layer is its own."""

import containers
import pytest
import rules


@pytest.fixture
def parent_image(image_name, variant) -> str:
    """The image that the image stands on."""
    return {"tensorflow": "hothouse/base:latest",
            "jupyter": f"hothouse/tensorflow:{variant}"}[image_name]


def test_an_image_stands_on_its_parents_layers(image, parent_image):
    parent = containers.inspect(parent_image)["RootFS"]["Layers"]
    own = containers.inspect(image)["RootFS"]["Layers"]
    assert own[: len(parent)] == parent
    assert len(own) > len(parent)


def test_an_image_keeps_its_parents_entrypoint_and_user(image, parent_image):
    parent, own = (containers.inspect(name)["Config"] for name in (parent_image, image))
    for key in ("Entrypoint", "User"):
        assert own[key] == parent[key]
    assert set(parent["Env"]) <= set(own["Env"])


def test_every_rule_of_pruning_matches_a_locked_wheel(image_name, locked_bytes, tmp_path):
    assert rules.idle_rules(image_name, tmp_path) == []


def test_what_is_pruned_is_gone_and_in_no_record(host, image_name):
    patterns = " ".join(f"'{rule['files']}'" for rule in rules.read(image_name)["remove"])
    assert host.check_output(f"python -c '{rules.CHECK}' {patterns}") == ""


def test_symbol_tables_are_stripped_and_the_libraries_load(host):
    # .symtab is section type 2 (elf(5)); the first 64 bytes are the ELF header.
    code = """
import struct, glob
for name in glob.glob("/usr/local/lib/python3.13/dist-packages/tensorflow/*.so*"):
    data = open(name, "rb").read()
    at, = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    kinds = {struct.unpack_from("<I", data, at + i * size + 4)[0] for i in range(count)}
    print(name.rsplit("/", 1)[1], 2 in kinds)
"""
    rows = host.check_output(f"python -c '{code}'").splitlines()
    assert rows
    assert [row for row in rows if row.endswith("True")] == []
