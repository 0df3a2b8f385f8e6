"""`inv digests`: the digests that every image is expected to have, in one committed file.

Written from a build of all images, compared by tests/bits on every machine that builds them. It
lies beside docker-bake.hcl and not in images/, because it is made from the images: there it would
change the revision that they are labelled with.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

from scripts import blobs, build, locks, manifests, oci, worktree
from scripts import source as layer_source
from scripts.oci import Image
from scripts.paths import IMAGES, ROOT
from scripts.problem import Problem

FILE = ROOT / "digests.lock"
RENEW = "scripts/inv digests, look at what changed, and commit digests.lock"
CLEAN = re.compile(r"[0-9a-f]{40,64}")
LAYER = {"name": str, "diff_id": str, "digest": str, "size": int}


class SmallBlobs:
    """The manifest and configuration of an image in the engine; a place as oci.py knows it.

    The engine hands an image out only as a whole. The layers pass by and are not kept, so this
    needs no disk.

    :raises Problem: the engine has no such image.
    """

    def __init__(self, name: str) -> None:
        known = blobs.inspect(name)
        self.shown, self.kept = name, manifests.by_save(name) if known else {}
        if not known or not self.kept:
            raise Problem(f"the engine has no image {name}", "scripts/inv build all")
        self.id = known["Id"]

    def descriptors(self) -> list[dict]:
        """The one entry: the containerd store calls an image by its manifest's digest."""
        return [{"digest": self.id}]

    def open(self, digest: str) -> io.BytesIO:
        """A small blob.

        :raises Problem: there is none with this digest.
        """
        if digest not in self.kept:
            raise blobs.damaged(self.shown, f"the blob {digest} is missing")
        return io.BytesIO(self.kept[digest])

    def close(self) -> None:
        """Nothing to do: nothing is open."""


def image_of(tag: str) -> Image:
    """An image of the engine, without the contents of its layers.

    :raises Problem: the engine has no such image.
    """
    place = SmallBlobs(tag)
    return Image(tag, place, *oci.choose(place, None))


def engine_version() -> str:
    """The engine's version, which stands for the compressor in it; empty where none answers."""
    done = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def source() -> str:
    """One digest of what the images are made from, as it lies here."""
    return ",".join(build.digest_of_files(path) for path in build.SOURCES)


def layer_names(target: str, images: Path = IMAGES) -> list[str]:
    """Name the layers of a bake target, lowest first: ``IMAGE/STAGE`` as in the Dockerfiles."""
    folder, _, variant = target.partition("-")
    return layer_source.stages_in(
        lambda name: (images / name / "Dockerfile").read_text(), folder, variant)


def named(target: str, layers: list[dict]) -> list[dict]:
    """Put the layers' names before what is known of them.

    :raises Problem: the Dockerfiles name other layers, so the image is of another source.
    """
    names = layer_names(target)
    if len(names) != len(layers):
        raise Problem(f"the image {target} has {len(layers)} layers, its Dockerfiles name "
                      f"{len(names)}", f"scripts/inv build {target}")
    return [{"name": name, **layer} for name, layer in zip(names, layers, strict=True)]


def seen(target: str, tag: str) -> dict:
    """What the engine tells of an image at once: all but the layers' compressed digests.

    :returns: ``manifest``, ``layers`` with ``name`` and ``diff_id``, and ``config`` where the
        record of its build is here.
    :raises Problem: the engine has no such image.
    """
    known = blobs.inspect(tag)
    if known is None:
        raise Problem(f"the engine has no image {tag}", f"scripts/inv build {target}")
    record = build.record_of(target)
    layers = [{"diff_id": diff_id} for diff_id in known["RootFS"]["Layers"]]
    return {
        "manifest": known["Id"],
        **({"config": record["config"]} if record.get("id") == known["Id"] else {}),
        "layers": named(target, layers),
    }


def whole(target: str, tag: str) -> dict:
    """As :func:`seen`, with ``digest`` and ``size`` (bytes) of each compressed layer: the engine
    hands out the whole image for that, at some 50 MB a second.

    :raises Problem: the engine has no such image.
    """
    print(f"reading {tag} …", file=sys.stderr, flush=True)
    image = image_of(tag)
    layers = [{"diff_id": each.diff_id, "digest": each.digest, "size": each.size}
              for each in image.layers]
    return {"manifest": image.digest, "config": image.config_digest,
            "layers": named(target, layers)}


def gather(targets: dict[str, str], read: tuple[str, ...]) -> dict:
    """Look at images of the engine.

    :param targets: bake targets, and the tag of each one's image.
    :param read: those of them to read whole; their parents' layers are theirs too.
    :raises Problem: an image is missing.
    """
    images = {each: whole(each, targets[each]) for each in read}
    known = {layer["diff_id"]: layer for image in images.values() for layer in image["layers"]}
    for target in targets.keys() - images.keys():
        images[target] = seen(target, targets[target])
        images[target]["layers"] = [{**known.get(layer["diff_id"], {}), **layer}
                                    for layer in images[target]["layers"]]
    return {
        "note": "Written by `inv digests`. Do not edit.",
        "engine": engine_version(),
        "revision": build.revision(),
        "source": source(),
        "images": {target: images[target] for target in targets},
    }


def load(path: Path = FILE) -> dict:
    """The committed file.

    :raises Problem: it is missing or damaged.
    """
    try:
        data = json.loads(path.read_text())
        whole = all(isinstance(data[key], str) for key in ("engine", "revision", "source")) and all(
            isinstance(image["manifest"], str) and isinstance(image["config"], str)
            and image["layers"]
            and all(isinstance(layer[key], kind) for layer in image["layers"]
                    for key, kind in LAYER.items())
            for image in data["images"].values()
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        whole = False
    if not whole or not data["images"]:
        raise Problem(f"{locks.shown(path)} is missing or damaged", RENEW)
    return data


def differing(one: dict, two: dict, keys: tuple[str, ...]) -> list[str]:
    """Those of the keys that both have, with other values."""
    return [key for key in keys if key in one and key in two and one[key] != two[key]]


def compare(expected: dict, found: dict) -> tuple[list[str], list[str]]:
    """Compare images with the committed file.

    :returns: what differs, and what could not be compared and why, each a line.
    """
    differences, notes = [], []
    packed = expected["engine"] == found["engine"]
    if not packed:
        notes.append(f"compressed digests not compared: engine {found['engine'] or 'unknown'}, "
                     f"recorded with {expected['engine']}")
    labelled = expected["revision"] == found["revision"] and "-dirty" not in found["revision"]
    if not labelled:
        notes.append(f"configurations not compared: they carry the revision {found['revision']}, "
                     f"recorded with {expected['revision']}")
    for target, ours in found["images"].items():
        theirs = expected["images"].get(target, {"layers": []})
        if [it["name"] for it in ours["layers"]] != [it["name"] for it in theirs["layers"]]:
            differences.append(f"{target} has other layers")
            continue
        changed = [
            f"{target}'s {one['name']}" + ("" if "diff_id" in keys else " (its compression alone)")
            for one, two in zip(ours["layers"], theirs["layers"], strict=True)
            if (keys := differing(one, two, ("diff_id", "digest") if packed else ("diff_id",)))
        ]
        if not changed and labelled:
            keys = ("config", "manifest") if packed else ("config",)
            changed = [f"{target}'s {key}" for key in differing(ours, theirs, keys)]
        differences += changed
        unread = any("digest" not in layer for layer in ours["layers"])
        if packed and unread and ours["manifest"] != theirs.get("manifest"):
            notes.append(f"compressed digests of {target} not compared: it was not read whole")
        # A manifest that was compared names its configuration.
        if labelled and not packed and "config" not in ours:
            notes.append(f"the configuration of {target} was not compared: there is no record of "
                         "its build here")
    notes += [f"{target} is not built here and not compared"
              for target in expected["images"] if target not in found["images"]]
    return differences, notes


def check(targets: dict[str, str], read: tuple[str, ...] = (), path: Path = FILE) -> list[str]:
    """Compare images of the engine with the committed file.

    :param read: as of :func:`gather`.
    :returns: what could not be compared, and why.
    :raises Problem: they differ; says where.
    """
    expected = load(path)
    found = gather(targets, read)
    differences, notes = compare(expected, found)
    if differences:
        shown = "; ".join(differences[:4]) + (" …" if len(differences) > 4 else "")
        if expected["source"] == found["source"]:
            raise Problem(f"the recorded source gives other bytes here: {shown}",
                          "pytest tests/bits names the files; look for what is not locked")
        raise Problem(f"{locks.shown(path)} was written for another source: {shown}", RENEW)
    # Not so where nobody can know it: `unknown` without the history, or with changes in the tree.
    if (expected["source"] == found["source"] and expected["revision"] != found["revision"]
            and CLEAN.fullmatch(found["revision"])):
        raise Problem(
            f"{locks.shown(path)} was recorded at the revision {expected['revision']}, and the "
            f"same source is of revision {found['revision']} here: configurations and manifests "
            "were never compared", RENEW)
    return notes


def run(only_check: bool = False) -> None:
    """Build all images, then write the file, or compare with it.

    :raises Problem: the images differ from the file, or do not build; or they are to be written
        down and are of no commit, so that no other machine could ever have their labels.
    """
    worktree.sweep(IMAGES)
    if not only_check and not CLEAN.fullmatch(revision := build.revision()):
        raise Problem(
            f"the images' revision is {revision}, and only that of a commit can be compared "
            "elsewhere", "commit images/ and docker-bake.hcl first, in a clone with its history")
    build.build(["all"])
    known = build.targets()
    targets = {name: it["tags"][0] for name, it in known.items()}
    parents = {link.removeprefix("target:") for it in known.values()
               for link in it["contexts"].values()}
    tops = tuple(name for name in known if name not in parents)
    if only_check:
        for note in check(targets, tops):
            print(f"note: {note}")
        print(f"The images are those that {locks.shown(FILE)} names.")
        return
    content = json.dumps(gather(targets, tops), indent=1) + "\n"
    if FILE.exists() and FILE.read_text() == content:
        print("nothing changed")
        return
    locks.replace(FILE, content.encode())
    print(f"next: git diff {locks.shown(FILE)}, and commit it")
