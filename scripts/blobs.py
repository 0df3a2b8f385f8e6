"""Where the blobs of an image lie: an OCI archive, an OCI layout, or the engine.

A place answers two questions: which descriptors it offers (`descriptors`), and the bytes behind
one (`open`). scripts/registry.py is the third kind. Nothing here checks a hash; oci.py does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

from scripts.paths import ARTIFACTS
from scripts.problem import Problem

#: A blob that is read whole; manifests and configurations are far below it.
SMALL = 32 << 20
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: Fields that map words of the image's author.
MAPS = ("Labels", "annotations", "ExposedPorts", "Volumes")
DAMAGED = "get the image again"


class Place(Protocol):
    """What oci.py asks of a place. ``shown`` is its name in messages, ``kind`` what it is."""

    shown: str
    kind: str

    def descriptors(self) -> list[dict]:
        """The entries of the place's index: dicts with ``mediaType``, ``digest``, ``size``."""

    def open(self, digest: str) -> BinaryIO:
        """The bytes of a blob, from their beginning.

        :raises Problem: the place has no such blob.
        """

    def close(self) -> None:
        """Let go of files and connections."""


def damaged(shown: str, what: str) -> Problem:
    """The error for a blob that is not what its digest says."""
    return Problem(f"{shown} is damaged: {what}", DAMAGED)


def is_digest(value: object) -> bool:
    """Whether a value is a digest as this project knows them."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def read_json(data: bytes, shown: str, what: str) -> dict:
    """Parse a JSON object of an image.

    :raises Problem: it is none, or one that the engines read in another way: Go takes "Layers" for
        "layers", and joins objects that are there twice.
    """
    twice = damaged(shown, f"{what} has a key twice, of which readers take one or the other")

    def once(pairs: list[tuple[str, object]]) -> dict:
        if len(dict(pairs)) < len(pairs):
            raise twice
        return dict(pairs)

    try:
        value = json.loads(data, object_pairs_hook=once)
        if alike(value):
            raise twice
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise damaged(shown, f"{what} is no JSON object")
    return value


def alike(value: object, free: bool = False) -> bool:
    """Whether an object has keys that differ in case only.

    :param free: its keys are no fields but anybody's words, which may.
    """
    if isinstance(value, list):
        return any(map(alike, value))
    return isinstance(value, dict) and (
        (not free and len({key.casefold() for key in value}) < len(value))
        or any(alike(each, key in MAPS) for key, each in value.items()))


def entries(index: dict, shown: str, what: str) -> list[dict]:
    """The descriptors that an index lists.

    :raises Problem: it lists none, or one without a digest.
    """
    found = index.get("manifests")
    if not isinstance(found, list) or not found:
        raise damaged(shown, f"{what} lists no manifest")
    if not all(isinstance(each, dict) and is_digest(each.get("digest")) for each in found):
        raise damaged(shown, f"{what} has an entry without a digest")
    if not all(isinstance(each.get("platform") or {}, dict) for each in found):
        raise damaged(shown, f"{what} has an entry whose platform is none")
    return found


class Layout:
    """A folder in the OCI image layout: index.json, and blobs/sha256/HEX."""

    kind = "an OCI layout"

    def __init__(self, path: Path) -> None:
        self.path, self.shown = path, str(path)
        if not (path / "index.json").is_file():
            raise Problem(f"{path} is no OCI layout: it has no index.json",
                          "name a folder or a tar file in the OCI image layout")

    def descriptors(self) -> list[dict]:
        """See :class:`Place`."""
        data = (self.path / "index.json").read_bytes()
        return entries(read_json(data, self.shown, "index.json"), self.shown, "index.json")

    def open(self, digest: str) -> BinaryIO:
        """See :class:`Place`."""
        try:
            return (self.path / blob_name(digest, self.shown)).open("rb")
        except OSError as error:
            raise damaged(self.shown, f"the blob {digest} can't be read: {error.strerror}"
                          ) from None

    def close(self) -> None:
        """See :class:`Place`."""


class Archive:
    """A tar file in the OCI image layout, as ``docker image save`` writes since engine 25."""

    def __init__(self, file: BinaryIO, shown: str, kind: str = "an OCI archive") -> None:
        self.file, self.shown, self.kind = file, shown, kind
        self.members: dict[str, tarfile.TarInfo] = {}
        last = "its beginning"
        try:
            # Not tarfile's "r:*": the whole of a compressed archive would be read for each blob.
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    last = self.blob_of(member)
                    self.members[os.path.normpath(member.name)] = member
        except tarfile.ReadError as error:
            if not self.members:
                raise Problem(f"{shown} is neither a tar file nor an OCI layout",
                              "name an OCI archive that is not compressed as a whole") from None
            raise damaged(shown, f"it ends in {last} ({error})") from None
        end = os.fstat(file.fileno()).st_size
        for member in self.members.values():
            if member.offset_data + member.size > end:
                raise damaged(shown, f"it ends in {self.blob_of(member)}") from None
        if "index.json" not in self.members:
            kind = "is an archive of an engine older than 25" if "manifest.json" in self.members \
                else "has no index.json"
            raise Problem(f"{shown} {kind}, not an OCI archive",
                          "docker image save of a newer engine writes one")

    @staticmethod
    def blob_of(member: tarfile.TarInfo) -> str:
        """The name of a member as messages have it: a blob's is its digest."""
        parts = os.path.normpath(member.name).split("/")
        return f"the blob {parts[1]}:{parts[2]}" if parts[0] == "blobs" and len(parts) == 3 \
            else member.name

    def descriptors(self) -> list[dict]:
        """See :class:`Place`."""
        with self.part("index.json") as file:
            index = read_json(file.read(SMALL), self.shown, "index.json")
        return entries(index, self.shown, "index.json")

    def part(self, name: str) -> BinaryIO:
        """Open a member of the archive."""
        member = self.members[name]
        return Slice(self.file, member.offset_data, member.size)

    def open(self, digest: str) -> BinaryIO:
        """See :class:`Place`."""
        name = blob_name(digest, self.shown)
        if name not in self.members:
            raise damaged(self.shown, f"the blob {digest} is missing")
        return self.part(name)

    def close(self) -> None:
        """See :class:`Place`."""
        self.file.close()


class Slice:
    """A part of a file as a stream of its own; several may be read in turns."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.number, self.position, self.end = file.fileno(), start, start + size

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left for -1."""
        left = self.end - self.position
        data = os.pread(self.number, left if size < 0 else min(size, left), self.position)
        self.position += len(data)
        return data

    def close(self) -> None:
        """Nothing to do: the file is another's."""

    def __enter__(self) -> Slice:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def blob_name(digest: str, shown: str) -> str:
    """The name of a blob below an OCI layout.

    :raises Problem: the digest is none, or of an algorithm other than SHA-256.
    """
    if not is_digest(digest):
        raise damaged(shown, f"{str(digest)[:80]!r} is no SHA-256 digest")
    return f"blobs/{digest.replace(':', '/')}"


def inspect(name: str) -> dict | None:
    """What the engine knows of an image; None where it has none of that name.

    :raises Problem: no engine answers.
    """
    try:
        done = subprocess.run(["docker", "image", "inspect", name], capture_output=True, text=True,
                              check=False)
    except OSError as error:
        raise Problem(f"the docker command does not run: {error.strerror}",
                      "scripts/inv up installs Docker") from None
    if done.returncode == 0:
        return json.loads(done.stdout)[0]
    said = " ".join(done.stderr.split())
    if "no such image" in said.lower() or "invalid reference" in said.lower():
        return None
    raise Problem(f"the Docker engine does not answer: {said}", "start it, then try again")


def digests(known: dict) -> set[str]:
    """The digests by which the engine knows an image that it has.

    :param known: see :func:`inspect`.
    """
    names = known.get("RepoDigests") or ()
    return {known.get("Id"), *(name.rpartition("@")[2] for name in names)}


def from_engine(name: str, size: int) -> Archive:
    """Have the engine write an image into a temporary file, which has no name.

    :param size: bytes that the engine says the image takes, at most what is needed.
    :raises Problem: there is no room for it, or the engine fails.
    """
    ARTIFACTS.mkdir(exist_ok=True)
    free = shutil.disk_usage(ARTIFACTS).free
    if free < size:
        raise Problem(f"reading {name} from the engine needs {size / 1e6:.0f} MB of disk; "
                      f"{free / 1e6:.0f} MB are free", f"free some space at {ARTIFACTS}")
    print(f"reading {name} from the engine …", file=sys.stderr, flush=True)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile(dir=ARTIFACTS))
        done = subprocess.run(["docker", "image", "save", name], stdout=file,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise Problem(f"the engine can't hand out {name}: {said}", "pull or build it again")
        file.seek(0)
        archive = Archive(file, name, "the engine")
        stack.pop_all()
    return archive
