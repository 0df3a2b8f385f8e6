"""Each layer of an image is whole by itself, and none carries a date."""

import datetime
import os
import posixpath
import re
from dataclasses import dataclass, field

import layers
import pytest

from scripts import contents, digests, locks, oci
from scripts.paths import IMAGES


@dataclass
class Held:
    """What a layer holds, by path: everything but folders, where its links lead, all times."""

    name: str
    files: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    times: set[float] = field(default_factory=set)


@pytest.fixture(scope="module")
def held(tags) -> list[Held]:
    """The layers of hothouse/jupyter:cpu, lowest first."""
    found = []
    with oci.open_image(tags["jupyter-cpu"]) as image:
        names = digests.layer_names("jupyter-cpu")
        for name, layer in zip(names, image.layers, strict=True):
            it = Held(name)
            for member, _ in image.members(layer):
                path = contents.normal(member.name)
                if member.issym():
                    it.links[path] = posixpath.normpath(
                        posixpath.join("/", posixpath.dirname(path), member.linkname)).lstrip("/")
                elif member.islnk():
                    it.links[path] = contents.normal(member.linkname)
                it.times.add(member.mtime)
                if not member.isdir():
                    it.files.add(path)
            found.append(it)
    return found


def test_no_path_is_in_two_layers(held):
    owner: dict[str, str] = {}
    twice = [f"{path}: {owner[path]} and {layer.name}" for layer in held
             for path in sorted(layer.files) if owner.setdefault(path, layer.name) != layer.name]
    assert not twice


def test_compiled_python_lies_in_the_layer_of_its_source(held):
    alone, compiled = [], 0
    for layer in held:
        for path in layer.files:
            folder, name = os.path.split(path)
            if folder.endswith("/__pycache__"):
                compiled += 1
                source = f"{folder.removesuffix('__pycache__')}{name.split('.')[0]}.py"
                if source not in layer.files:
                    alone.append(f"{layer.name}: {path}")
    assert not alone
    assert compiled > 5000


def test_links_lead_into_their_own_layer_or_the_base(held):
    base = set().union(*(layer.files for layer in held if layer.name.startswith("base/")))
    for layer in held:
        for path, target in layer.links.items() if not layer.name.startswith("base/") else ():
            there = target in layer.files | base or any(
                each.startswith(f"{target}/") for each in layer.files)
            assert there, f"{layer.name}: {path} leads to {target}, which another layer holds"


def test_no_file_carries_a_date(held):
    script = (IMAGES / "builder" / "build-layer").read_text()
    constant = int(re.search(r"^LAYER_TIME = (\d+)$", script, re.MULTILINE)[1])
    assert {layer.name: layer.times for layer in held} == {
        layer.name: {constant} for layer in held}


@pytest.mark.parametrize("target", ["base", "tensorflow-cpu", "jupyter-cpu"])
def test_the_only_date_of_an_image_is_that_of_the_locks(tags, target):
    config = layers.small(tags[target]).config
    moments = {config["created"], *(step["created"] for step in config["history"])}
    seconds = {datetime.datetime.fromisoformat(each.replace("Z", "+00:00")).timestamp()
               for each in moments}
    assert seconds == {locks.epoch()}
