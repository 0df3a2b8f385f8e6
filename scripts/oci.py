"""Read an image wherever it lies: in the engine, in an OCI archive or layout, in a registry.

Every byte that is read is checked: a blob against its digest, a layer's tar against its diff_id.
No layer is ever held in memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from scripts import blobs, strict_tar
from scripts.blobs import Place, damaged
from scripts.problem import Problem
from scripts.strict_tar import Content

PLATFORM = {"os": "linux", "architecture": "amd64"}
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One layer. ``size``: compressed bytes; ``step``: the build step that made it."""

    digest: str
    diff_id: str
    size: int
    media_type: str
    step: str = ""


class Checked(io.RawIOBase):
    """Hashes what is read through it.

    :param refuse: makes the error where the file can't be decompressed.
    """

    def __init__(self, file: BinaryIO, refuse: strict_tar.Refuse) -> None:
        self.file, self.total, self.hash, self.refuse = file, 0, hashlib.sha256(), refuse

    def readable(self) -> bool:
        """A stream to read."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``; 0 at the end."""
        try:
            data = self.file.read(len(buffer))
        except (zstandard.ZstdError, zlib.error, EOFError, gzip.BadGzipFile):
            raise self.refuse("can't be decompressed") from None
        buffer[: len(data)] = data
        self.hash.update(data)
        self.total += len(data)
        return len(data)

    def drain(self) -> str:
        """Read to the end and return the digest of all."""
        rest = bytearray(CHUNK)
        while self.readinto(rest):
            pass
        return f"sha256:{self.hash.hexdigest()}"


def decompressed(file: io.BufferedReader) -> IO[bytes]:
    """The content of a stream of zstd, gzip or neither, told by its first bytes."""
    head = file.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if head == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return file


@dataclass
class Image:
    """An image of one platform. ``digest`` is that of its manifest.

    Close it, or use it as a context: a place may hold files or connections.
    """

    name: str
    place: Place
    digest: str
    manifest: dict = field(repr=False)

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *exception: object) -> None:
        self.place.close()

    @property
    def config_digest(self) -> str:
        """The digest of the configuration: equal for equal content, however compressed."""
        return self.manifest["config"]["digest"]

    @cached_property
    def config(self) -> dict:
        """The image's configuration: platform, environment, command, labels, history."""
        data = whole(self.place, self.config_digest)
        config = blobs.read_json(data, self.place.shown, f"the configuration {self.config_digest}")
        if not is_config(config):
            raise damaged(self.place.shown,
                          f"the configuration {self.config_digest} has a value of a wrong type")
        found = (config.get("os"), config.get("architecture"))
        if found != tuple(PLATFORM.values()):
            raise Problem(f"{self.name} is for {'/'.join(map(str, found))}",
                          "name an image for linux/amd64")
        return config

    @property
    def labels(self) -> dict[str, str]:
        """The labels; empty where there are none."""
        return (self.config.get("config") or {}).get("Labels") or {}

    @cached_property
    def layers(self) -> list[Layer]:
        """The layers, lowest first, each with the step of the history that made it."""
        diff_ids = (self.config.get("rootfs") or {}).get("diff_ids") or []
        found = self.manifest["layers"]
        if len(diff_ids) != len(found):
            raise damaged(self.place.shown, f"{len(found)} layers, but {len(diff_ids)} diff_ids")
        steps = [entry.get("created_by") or "" for entry in self.config.get("history") or ()
                 if not entry.get("empty_layer")]
        steps += [""] * (len(found) - len(steps))
        return [
            Layer(each["digest"], diff_id, each["size"], each.get("mediaType") or "", step)
            for each, diff_id, step in zip(found, diff_ids, steps, strict=False)
        ]

    def members(self, layer: Layer) -> Iterator[tuple[tarfile.TarInfo, Content | None]]:
        """Read a layer: its tar's members in order, each with its content where it has one.

        A content can be read until the next member is asked for. After the last one the layer's
        bytes are compared with both of its digests.

        :raises Problem: the layer is damaged; says which.
        """
        def refuse(why: str) -> Problem:
            return damaged(self.place.shown, f"the layer {layer.digest} {why}")

        blob = self.place.open(layer.digest)
        try:
            outer = Checked(blob, refuse)
            inner = Checked(decompressed(io.BufferedReader(outer, CHUNK)), refuse)
            yield from strict_tar.members(io.BufferedReader(inner, CHUNK), refuse)
            diff_id = inner.drain()
            digest = outer.drain()
        finally:
            blob.close()
        if digest != layer.digest:
            raise refuse(f"has the digest {digest}")
        if outer.total != layer.size:
            raise refuse(f"has {outer.total} bytes, not {layer.size}")
        if diff_id != layer.diff_id:
            raise refuse(f"unpacks to {diff_id}, not {layer.diff_id}")


def whole(place: Place, digest: str) -> bytes:
    """Read a small blob whole and check it.

    :raises Problem: it is missing, damaged or too large.
    """
    with place.open(digest) as blob:
        data = b""
        while len(data) <= blobs.SMALL and (more := blob.read(CHUNK)):
            data += more
    if len(data) > blobs.SMALL or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise damaged(place.shown, f"the blob {digest}")
    return data


def is_blob(value: object) -> bool:
    """Whether a value describes a blob, as a manifest does."""
    if not isinstance(value, dict) or not blobs.is_digest(value.get("digest")):
        return False
    size = value.get("size")
    return type(size) is int and size >= 0 and isinstance(value.get("mediaType") or "", str)


def is_config(config: dict) -> bool:
    """Whether the parts of a configuration that are read here have the types that they should."""
    settings, rootfs = config.get("config") or {}, config.get("rootfs") or {}
    history = config.get("history") or []
    if not (isinstance(settings, dict) and isinstance(rootfs, dict) and isinstance(history, list)):
        return False
    labels, diff_ids = settings.get("Labels") or {}, rootfs.get("diff_ids") or []
    return (isinstance(labels, dict) and isinstance(diff_ids, list)
            and all(isinstance(value, str) for value in labels.values())
            and all(map(blobs.is_digest, diff_ids))
            and all(isinstance(each, dict) and isinstance(each.get("created_by") or "", str)
                    for each in history))


def fits(entry: dict) -> bool:
    """Whether an index's entry may be for linux/amd64. One without a platform may; a later level of
    the processor, as v3, is not what every linux/amd64 engine takes."""
    platform = entry.get("platform") or PLATFORM
    return all(platform.get(key) == value for key, value in PLATFORM.items()) \
        and (platform.get("variant") or "v1") == "v1"


def choose(place: Place, wanted: str | None) -> tuple[str, dict]:
    """Find the manifest for linux/amd64.

    :param wanted: the digest of a manifest or of an index that leads to it.
    :returns: its digest and content.
    :raises Problem: there is none or more than one, or the content has another digest.
    """
    found: dict[str, dict] = {}
    # Each with whether it is the wanted one or below it; grows on the way.
    queue = [(entry, wanted is None) for entry in place.descriptors()]
    seen: dict[tuple[str, bool], None] = {}
    for entry, free in queue:
        digest = entry["digest"]
        key = digest, free or digest == wanted
        if key in seen or not fits(entry):
            continue
        seen[key] = None
        data = blobs.read_json(whole(place, digest), place.shown, f"the blob {digest}")
        fields = {name.casefold() for name in data}
        if "manifests" in fields and fields & {"layers", "config"}:
            raise damaged(place.shown, f"the blob {digest} is an index and a manifest at once")
        # A descriptor's type may be missing, and the content's own too.
        if data.get("mediaType", entry.get("mediaType")) in INDEXES or "manifests" in data:
            inner = blobs.entries(data, place.shown, f"the index {digest}")
            queue += [(each, key[1]) for each in inner]
        elif key[1]:
            found[digest] = data
    if len(found) > 1:
        raise Problem(f"{place.shown} holds {len(found)} images for linux/amd64: "
                      f"{', '.join(found)}", "name one with @sha256:… behind its name")
    if not found and wanted and seen:
        raise Problem(f"{place.shown} has the digest {next(iter(seen))[0]}, not {wanted}",
                      "name the digest that you want to check, or pull that image")
    if not found:
        raise Problem(f"{place.shown} holds no image for linux/amd64", "name another image")
    digest, manifest = found.popitem()
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(map(is_blob, (*layers, manifest.get("config")))):
        raise damaged(place.shown, f"the manifest {digest} has no layers or no configuration")
    return digest, manifest


def find(name: str) -> tuple[Place, str | None]:
    """Find the place that a user means: a file or folder, the engine's image, a registry's.

    :returns: the place, and the digest that the name asks for.
    :raises Problem: there is no such image.
    """
    bare, mark, value = name.partition("@sha256:")
    digest = f"sha256:{value}" if mark else None
    if digest and not blobs.is_digest(digest):
        raise Problem(f'"{digest[:80]}" is no digest', "write it as sha256: and 64 hex digits")
    path = Path(os.environ.get("HOTHOUSE_CWD", ".")) / bare
    if bare.startswith((".", "/")) or (path.exists() and not registry_host(bare)):
        if path.is_dir():
            return blobs.Layout(path), digest
        try:
            return blobs.Archive(path.open("rb"), bare), digest
        except OSError as error:
            raise Problem(f"{bare} can't be read: {error.strerror}", "name a file that is there"
                          ) from None
    host = registry_host(bare)
    try:
        known = blobs.inspect(bare)
    except Problem:
        if not host:
            raise
        known = None
    # The engine may have another image of that name, as an older one.
    if known and not (host and digest and digest not in blobs.digests(known)):
        return blobs.from_engine(bare, known["Size"]), digest
    if host:
        from scripts import registry

        return registry.Registry(bare, digest), digest
    raise Problem(f"no image {bare}: the engine has none, no file has that name, and it names no "
                  "registry", "scripts/inv build, or write HOST/NAME:TAG")


def registry_host(name: str) -> str | None:
    """The registry that an image's name begins with, by Docker's rule: it has a dot or a port."""
    first, slash, _ = name.partition("/")
    if not slash or first.startswith("."):
        return None
    return first if "." in first or ":" in first or first == "localhost" else None


def open_image(name: str) -> Image:
    """Open an image; see :func:`find` for what the name may be.

    :raises Problem: there is no such image, or it is damaged.
    """
    place, wanted = find(name)
    try:
        digest, manifest = choose(place, wanted)
    except BaseException:
        place.close()
        raise
    return Image(name, place, digest, manifest)
