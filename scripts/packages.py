"""What packages an image holds, and which file belongs to which: Debian's by dpkg, Python's by
their dist-info folders."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from scripts.contents import Contents, Entry
from scripts.printable import printable
from scripts.problem import Problem

STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info/"
COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
DIST_INFO = re.compile(r"(.*/(?:dist|site)-packages)/([^/]+)\.dist-info/(METADATA|RECORD)")
COMPILED = re.compile(r"(.*?)/?__pycache__/([^/]+?)\.cpython-\d+(?:\.opt-\d)?\.pyc")
COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9])")
CLASSIFIER = re.compile(r"^Classifier: License :: (?:OSI Approved :: )?(.+?)\s*$", re.MULTILINE)
#: A licence field that is longer holds the licence's text.
SHORT = 60


@dataclass
class Package:
    """A package. ``size``: bytes of its files as they lie in the image, ``compiled``: those of
    them that are .pyc; ``layer``: the one that holds most of it; ``place``: the folder that a
    Python package was installed into."""

    ecosystem: str
    name: str
    version: str
    licence: str
    place: str = ""
    size: int = 0
    compiled: int = 0
    files: int = 0
    layer: int = 0
    bytes_in: dict[int, int] = field(default_factory=dict, repr=False)

    def add(self, entry: Entry, compiled: bool) -> None:
        """Count a file of it; a second name of a file takes no room."""
        size = 0 if entry.same else entry.size
        self.size += size
        self.compiled += size if compiled else 0
        self.files += 1
        self.bytes_in[entry.layer] = self.bytes_in.get(entry.layer, 0) + size
        self.layer = max(self.bytes_in, key=lambda layer: self.bytes_in[layer])


def wanted(path: str, entry: Entry) -> bool:
    """Whether :func:`find` needs the content of this file."""
    return (
        path == STATUS
        or (path.startswith(INFO) and path.endswith(".list"))
        or bool(COPYRIGHT.fullmatch(path) or DIST_INFO.fullmatch(path))
    )


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read the stanzas of dpkg's status: field names in lower case, continuation lines joined."""
    for block in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE)
        if fields:
            yield {key.lower(): value for key, value in fields}


def record_rows(text: str) -> list[tuple[str, str]]:
    """Read a RECORD (PyPA's binary distribution format).

    :returns: each name with its hash as it is written, which may be empty.
    :raises ValueError: it is no RECORD.
    """
    try:
        return [(row[0], row[1] if len(row) == 3 else "")
                for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error:
        raise ValueError("is no RECORD") from None


def record_digest(written: str) -> str:
    """The SHA-256 in hex of a hash as a RECORD has it, empty where it is none."""
    kind, _, value = written.partition("=")
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex() \
            if kind == "sha256" else ""
    except ValueError:
        return ""


def normal_path(folder: str, name: str) -> str:
    """A path that a RECORD in ``folder`` names, which may begin with ``../``."""
    return os.path.normpath(os.path.join(folder, name))


def resolve(path: str, contents: Contents) -> str:
    """Follow the links that folders of a path are, as /bin, at most eight."""
    for _ in range(8):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            entry = contents.entries.get("/".join(parts[:depth]))
            if entry and entry.kind == "link":
                base = "" if entry.target.startswith("/") else "/".join(parts[: depth - 1])
                path = os.path.normpath(os.path.join(base, entry.target.lstrip("/"),
                                                     *parts[depth:]))
                break
        else:
            return path
    return path


def follow(path: str, contents: Contents) -> str:
    """Follow the links of a path and what it is itself a link to."""
    for _ in range(8):
        path = resolve(path, contents)
        entry = contents.entries.get(path)
        if entry is None or entry.kind != "link":
            break
        path = os.path.normpath(os.path.join(
            "" if entry.target.startswith("/") else os.path.dirname(path),
            entry.target.lstrip("/")))
    return path


def debian_licence(name: str, contents: Contents) -> str:
    """The licences that a Debian package's copyright file names."""
    path = follow(f"usr/share/doc/{name}/copyright", contents)
    text = contents.text(path)
    if text is None:
        return "no copyright file"
    found = re.findall(r"^License: *([^\s].*?)\s*$", text, re.MULTILINE) \
        if "Format:" in text[:2000] else []
    found = found or COMMON.findall(text)
    return ", ".join(sorted(set(found), key=str.lower)) or f"see /{path}"


def python_licence(metadata: str) -> str:
    """The licence that a wheel's METADATA states: as SPDX, as free text, or by classifiers."""
    head = metadata.split("\n\n", 1)[0]

    def one(name: str) -> str:
        found = re.search(rf"^{name}: *(.*(?:\n[ \t].*)*)", head, re.MULTILINE)
        return found[1].strip() if found else ""

    text = one("License")
    short = text if len(text) <= SHORT and "\n" not in text and text.upper() != "UNKNOWN" else ""
    return (one("License-Expression") or short or ", ".join(CLASSIFIER.findall(head))
            or (text.splitlines()[0].strip()[:SHORT] if text else "not stated"))


def debian(contents: Contents) -> Iterator[tuple[Package, list[str]]]:
    """The installed packages of dpkg, each with its paths."""
    for fields in stanzas(contents.text(STATUS) or ""):
        if not fields.get("status", "").endswith(" installed"):
            continue
        name = fields.get("package", "?")
        lists = [f"{INFO}{name}.list", f"{INFO}{name}:{fields.get('architecture', '')}.list"]
        text = next((found for found in map(contents.text, lists) if found is not None), "")
        paths = [resolve(line.strip("/"), contents) for line in text.splitlines()]
        info = [path for path in contents.entries if path.startswith(INFO)
                and re.fullmatch(rf"{re.escape(name)}(:\w+)?\.\w+", path[len(INFO):])]
        yield (Package("debian", name, fields.get("version", "?"), debian_licence(name, contents)),
               [*paths, *info])


def python(contents: Contents) -> Iterator[tuple[Package, list[str]]]:
    """The installed Python distributions, each with its paths.

    :raises Problem: a RECORD can't be read.
    """
    for path in list(contents.entries):
        found = DIST_INFO.fullmatch(path)
        if not found or found[3] != "METADATA":
            continue
        metadata = contents.text(path) or ""
        fields = dict(re.findall(r"^(Name|Version): *(\S+)", metadata, re.MULTILINE))
        record = f"{found[1]}/{found[2]}.dist-info/RECORD"
        try:
            paths = [normal_path(found[1], name)
                     for name, _ in record_rows(contents.text(record) or "")]
        except ValueError as error:
            raise Problem(f"the image's /{printable(record)} {error}, so what belongs to that "
                          "package is not known", "name another image") from None
        yield (Package("python", fields.get("Name", found[2].split("-")[0]),
                       fields.get("Version", "?"), python_licence(metadata), found[1]), paths)


def source_of(path: str) -> str | None:
    """The .py that a .pyc in __pycache__ is compiled from, or None for another file."""
    found = COMPILED.fullmatch(path)
    return os.path.join(found[1], f"{found[2]}.py") if found else None


def find(contents: Contents) -> tuple[list[Package], dict[str, Package]]:
    """Find the packages of an image.

    :param contents: read with :func:`wanted` as what to keep.
    :returns: the packages with their sizes, and which one each file belongs to.
    """
    packages: list[Package] = []
    owners: dict[str, Package] = {}
    for package, paths in (*debian(contents), *python(contents)):
        packages.append(package)
        for path in paths:
            entry = contents.entries.get(path)
            if entry and entry.kind != "folder" and path not in owners:
                owners[path] = package
                package.add(entry, compiled=False)
    for path, entry in contents.entries.items():
        source = source_of(path)
        if source and path not in owners and (package := owners.get(source)):
            owners[path] = package
            package.add(entry, compiled=True)
    return sorted(packages, key=lambda each: (each.ecosystem, -each.size, each.name)), owners
