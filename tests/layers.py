"""Two images layer by layer: which file in which layer differs, and what differs in it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from scripts import compare, contents, digests, oci

#: How many files of a layer are listed.
SHOWN = 20


@contextmanager
def engine_at(host: str | None) -> Iterator[None]:
    """Have the modules of scripts/ talk to the engine at this address; None for the usual one."""
    before = os.environ.get("DOCKER_HOST")
    if host:
        os.environ["DOCKER_HOST"] = host
    try:
        yield
    finally:
        if host:
            os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before


def small(tag: str, host: str | None = None) -> oci.Image:
    """An image of an engine: its manifest and configuration, not the layers' contents."""
    with engine_at(host):
        image = digests.image_of(tag)
        assert image.config
        return image


def entries(image: oci.Image, layer: oci.Layer) -> dict[str, contents.Entry]:
    """All that one layer holds, in its order, with hashes."""
    found = contents.Contents()
    for member, file in image.members(layer):
        entry = contents.entry_of(member, 0, found)
        if file is not None:
            entry = replace(entry, sha256=digest_of(file))
        found.entries[contents.normal(member.name)] = entry
    return found.entries


def digest_of(file) -> str:
    """The SHA-256 of a stream (hex)."""
    total = hashlib.sha256()
    while data := file.read(oci.CHUNK):
        total.update(data)
    return total.hexdigest()


def files_that_differ(
    one: dict[str, contents.Entry], two: dict[str, contents.Entry]
) -> Iterator[str]:
    """A line for each path that two layers do not have alike, ``PATH: WHAT``."""
    for path in sorted(one.keys() | two.keys()):
        left, right = one.get(path), two.get(path)
        if left is None or right is None:
            yield f"/{path}: only in the {'first' if right is None else 'second'}"
            continue
        parts = [compare.difference(left, right)]
        if left.mtime != right.mtime:
            parts.append(f"mtime {left.mtime}, not {right.mtime}")
        if what := "; ".join(part for part in parts if part):
            yield f"/{path}: {what}"


def differences(one: oci.Image, two: oci.Image, names: list[str]) -> list[str]:
    """Say what makes two images differ, layer by layer; empty where their layers are equal.

    :param one: open, with the layers' contents; so is ``two``.
    :param names: of the layers, lowest first.
    """
    lines = []
    if len(one.layers) != len(two.layers):
        return [f"{len(one.layers)} layers, not {len(two.layers)}"]
    for name, left, right in zip(names, one.layers, two.layers, strict=True):
        if left.diff_id == right.diff_id:
            if left.digest != right.digest:
                lines.append(f"layer {name}: same content, other compression")
            continue
        before, after = entries(one, left), entries(two, right)
        found = list(files_that_differ(before, after))
        if not found:
            found = ["the same files in another order" if list(before) != list(after)
                     else "the same files with other tar headers"]
        lines += [f"layer {name}: {line}" for line in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"layer {name}: and {len(found) - SHOWN} more files")
    return lines


def explain(tag: str, again: str, names: list[str], host: str | None = None) -> list[str]:
    """Read two images whole and say what makes them differ, in their layers and configurations.

    :param tag: of an image in this engine.
    :param again: of an image in the engine at ``host``.
    """
    with oci.open_image(tag) as one, engine_at(host), oci.open_image(again) as two:
        lines = differences(one, two, names)
        for found in compare.configurations(one.config, two.config):
            lines += [f"configuration: {each.path}: {each.what}" for each in found]
    return lines


def made(said: str, target: str) -> list[str]:
    """Return the layers of a target whose step a build ran, by buildx's plain progress.

    A step that several targets share stands below the name of any of them; one that the cache
    holds is marked, or is not shown at all.
    """
    def ran(stage: str) -> bool:
        steps = re.findall(rf"^(#\d+) \[\S+ {stage} \d", said, re.MULTILINE)
        return any(f"\n{step} CACHED" not in said for step in steps)

    return [name for name in digests.layer_names(target) if ran(name.rpartition("/")[2])]
