"""Which files the locked packages bring, before any of them is installed: from the .deb and .whl
files of the store, whose hashes are in the locks."""

from __future__ import annotations

import ast
import configparser
import fnmatch
import hashlib
import io
import os
import re
import stat
import tarfile
import textwrap
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts import context, fetch
from scripts.locks import Package
from scripts.oci import CHUNK
from scripts.packages import record_digest, record_rows

INFO = "var/lib/dpkg/info/"
SHEBANG = b"#!/usr/bin/python3\n"
SCHEMES = {"purelib": "", "platlib": "", "scripts": "../../../bin", "data": "../../.."}
LINE = re.compile(r"--dpkgopt='path-(exclude|include)=([^']+)'")


@dataclass(frozen=True)
class Want:
    """What a locked package brings at a path. ``package``: NAME VERSION; ``stripped``: the reason
    of the rule by which the build strips it; ``removed``: of that by which it removes it;
    ``exact``: the content is known before; ``optional``: it may be missing."""

    package: str
    kind: str
    mode: int
    owner: str = "0:0"
    sha256: str = ""
    target: str = ""
    stripped: str = ""
    removed: str = ""
    archive: Path | None = None
    member: str = ""
    exact: bool = True
    optional: bool = False


@dataclass
class Wants:
    """All that the locked packages bring, by path; ``lists``: each Debian package's own names."""

    files: dict[str, list[Want]] = field(default_factory=dict)
    lists: dict[str, set[str]] = field(default_factory=dict)

    def add(self, path: str, want: Want) -> None:
        """Note one; several packages may bring the same path."""
        self.files.setdefault(path, []).append(want)


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


# --- Debian ----------------------------------------------------------------------------------


def path_rules(build_base: str) -> list[tuple[bool, str]]:
    """Read dpkg's path filters out of the text of images/builder/build-base, in their order."""
    return [(kind == "exclude", pattern) for kind, pattern in LINE.findall(build_base)]


def excluded(path: str, rules: list[tuple[bool, str]]) -> bool:
    """Whether dpkg leaves a path out: the last rule that fits decides (dpkg(1))."""
    out = False
    for exclude, pattern in rules:
        if fnmatch.fnmatchcase("/" + path, pattern):
            out = exclude
    return out


def debian(package: Package, rules: list[tuple[bool, str]], wants: Wants) -> None:
    """Add what a .deb brings: its files, and its control files as dpkg keeps them."""
    deb, title = fetch.path_of(package.sha256), f"{package.name} {package.version}"
    names, first = {"/."}, {}
    with context.unpacked(deb) as tree:
        for member in tree:
            path = os.path.normpath(member.name).strip("/")
            if path == ".":
                continue
            names.add(f"/{path}")
            if excluded(path, rules):
                # dpkg keeps links below which an included path may lie.
                if member.issym():
                    wants.add(path, replace(deb_want(member, tree, title, first), optional=True))
                continue
            want = deb_want(member, tree, title, first)
            first[path] = want
            wants.add(path, want)
    control = {}
    with open_control(deb) as tree:
        for member in tree:
            if member.isreg() and member.name.strip("./") != "control":
                control[os.path.basename(member.name)] = (tree.extractfile(member).read(),
                                                          member.mode & 0o777)
    # dpkg names the files of a package that may be installed for two architectures after both.
    prefix = f"{package.name}:amd64" if b"Multi-Arch: same" in context_control(deb) \
        else package.name
    wants.lists[prefix] = names
    for name, (data, mode) in control.items():
        executable = 0o755 if mode & 0o100 else 0o644
        wants.add(f"{INFO}{prefix}.{name}", Want(title, "file", executable, sha256=sha256(data)))


def deb_want(member: tarfile.TarInfo, tree: tarfile.TarFile, title: str, first: dict) -> Want:
    """What one member of a .deb's file tree becomes: the build takes setuid and setgid away."""
    owner = f"{member.uid}:{member.gid}"
    mode = member.mode & 0o1777
    if member.isdir():
        return Want(title, "folder", mode, owner)
    if member.issym():
        return Want(title, "link", 0o777, owner, target=member.linkname)
    if member.islnk():
        return first[os.path.normpath(member.linkname).strip("/")]
    digest = hashlib.sha256()
    content = tree.extractfile(member)
    while data := content.read(CHUNK):
        digest.update(data)
    return Want(title, "file", mode, owner, sha256=digest.hexdigest())


def open_control(deb: Path) -> tarfile.TarFile:
    """Open the control files of a .deb."""
    _, data = context.ar_member(deb, "control.tar")
    return tarfile.open(fileobj=io.BytesIO(data))


def context_control(deb: Path) -> bytes:
    """The control file of a .deb itself."""
    with open_control(deb) as tree:
        for member in tree:
            if member.name.strip("./") == "control":
                return tree.extractfile(member).read()
    return b""


# --- wheels ----------------------------------------------------------------------------------


def glob_pattern(pattern: str) -> re.Pattern:
    """Translate pathlib's glob pattern: ``**`` is any number of folders, ``*`` stays in one."""
    parts = []
    for part in pattern.split("/"):
        parts.append("(?:[^/]+/)*" if part == "**" else
                     "".join("[^/]*" if c == "*" else "[^/]" if c == "?" else re.escape(c)
                             for c in part) + "/")
    return re.compile("".join(parts).removesuffix("/"))


def rule_for(name: str, rules: Iterable[dict]) -> str:
    """The reason of the first rule of prune.toml that fits a name in dist-packages, or empty."""
    for rule in rules:
        if glob_pattern(rule["files"]).fullmatch(name):
            return rule["reason"]
    return ""


def script_template(pip: Path) -> str:
    """The text of the scripts that a pip writes for entry points, read from its own source.

    :param pip: its wheel.
    :raises ValueError: this pip has none where it is looked for.
    """
    with zipfile.ZipFile(pip) as wheel:
        tree = ast.parse(wheel.read("pip/_internal/operations/install/wheel.py"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and any(
            isinstance(each, ast.Name) and each.id == "script_template" for each in node.targets
        ):
            return textwrap.dedent(ast.literal_eval(node.value.args[0]))
    raise ValueError("the locked pip has no script_template")


def entry_points(wheel: zipfile.ZipFile, info: str) -> Iterator[tuple[str, str, str]]:
    """The scripts that a wheel has pip write: name, module, function."""
    try:
        text = wheel.read(f"{info}/entry_points.txt").decode()
    except KeyError:
        return
    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            module, _, function = value.split("[")[0].strip().partition(":")
            yield name, module.strip(), function.strip()


def wheel(package: Package, packages: str, rules: dict, template: str, wants: Wants) -> None:
    """Add what a wheel brings as pip lays it out and the build prunes it.

    :param packages: the folder dist-packages in the image.
    :param rules: the content of the image's prune.toml.
    """
    path, title = fetch.path_of(package.sha256), f"{package.name} {package.version}"

    def place(name: str) -> str:
        return os.path.normpath(os.path.join(packages, name))

    def add(name: str, mode: int, digest: str, member: str = "", exact: bool = True) -> None:
        removed = rule_for(name, rules.get("remove", ()))
        stripped = rule_for(name, rules.get("strip", ()))
        wants.add(place(name), Want(title, "file", mode, sha256=digest, stripped=stripped,
                                    removed=removed, archive=path, member=member, exact=exact))
        for rule in [] if removed else rules.get("link", ()):
            if glob_pattern(rule["files"]).fullmatch(name):
                link = f"{rule['folder'].strip('/')}/{os.path.basename(name)}"
                wants.add(link, Want(title, "link", 0o777, target=os.path.relpath(
                    place(name), os.path.dirname(link)), archive=path))

    with zipfile.ZipFile(path) as archive:
        info = next(name.split("/")[0] for name in archive.namelist()
                    if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        data = f"{info.removesuffix('.dist-info')}.data/"
        try:
            hashes = {name: record_digest(written) for name, written
                      in record_rows(archive.read(f"{info}/RECORD").decode())}
        except ValueError:
            hashes = {}  # only a short cut: each member is hashed
        for item in archive.infolist():
            name = item.filename
            if item.is_dir() or name.endswith(".pyc") or name == f"{info}/RECORD":
                continue
            where, script = name, False
            if name.startswith(data):
                scheme, _, rest = name[len(data):].partition("/")
                script = scheme == "scripts"
                where = os.path.join(SCHEMES.get(scheme, "../../../include"), rest)
            digest = hashes.get(name) or sha256(archive.read(item))
            if script:
                content = archive.read(item)
                if content.startswith(b"#!python"):
                    content = SHEBANG + content.partition(b"\n")[2]
                digest = sha256(content)
            mode = item.external_attr >> 16
            runs = script or (stat.S_ISREG(mode) and mode & 0o111)
            add(where, 0o755 if runs else 0o644, digest, name)
        python = os.path.basename(os.path.dirname(packages))
        for name, module, function in names_of_scripts(archive, info, package, python):
            text = SHEBANG + (template % {
                "module": module, "import_name": function.split(".")[0], "func": function,
            }).encode()
            add(f"../../../bin/{name}", 0o755, sha256(text))
    add(f"{info}/INSTALLER", 0o644, sha256(b"pip\n"))
    add(f"{info}/REQUESTED", 0o644, sha256(b""))
    # Written anew by the build; its rows are held against the image's files.
    add(f"{info}/RECORD", 0o644, "", exact=False)


def names_of_scripts(
    archive: zipfile.ZipFile, info: str, package: Package, python: str
) -> Iterator[tuple[str, str, str]]:
    """The scripts that pip writes; its own bear the version of ``python`` too, as python3.13."""
    for name, module, function in entry_points(archive, info):
        if package.name == "pip":
            if name == "pip":
                for each in ("pip", "pip3", python.replace("python", "pip")):
                    yield each, module, function
        else:
            yield name, module, function


# --- the source's own files ------------------------------------------------------------------


def rootfs(folder: Path, name: str, wants: Wants) -> None:
    """Add the files that a revision lays in as they are.

    :param folder: the checkout's images/NAME/rootfs.
    """
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            wants.add(str(path.relative_to(folder)),
                      Want(f"images/{name}/rootfs", "file", mode, sha256=sha256(path.read_bytes())))
