"""Lay out the build contexts: folders of hard links into the store, one for each image.

Nothing is copied and nothing is resolved here: the locks say what, the store holds the bytes.
"""

import hashlib
import io
import lzma
import os
import shutil
import tarfile
from pathlib import Path

from scripts import fetch
from scripts.locks import Package
from scripts.paths import ARTIFACTS
from scripts.problem import Problem

CONTEXTS = ARTIFACTS / "context"


def ar_member(archive: Path, prefix: str) -> tuple[str, bytes]:
    """Return name and bytes of the first member of an ar archive whose name starts with
    ``prefix``. The format is deb(5)'s: a global header of 8 bytes, then members behind headers
    of 60 bytes, padded to even lengths.

    :raises ValueError: the file is no ar archive or holds no such member.
    """
    with archive.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise ValueError(f"{archive.name} is no ar archive")
        while header := file.read(60):
            name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
            if name.startswith(prefix):
                return name, file.read(size)
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"{archive.name} holds no {prefix}")


def unpacked(deb: Path) -> tarfile.TarFile:
    """Open the file tree of a .deb.

    :raises ValueError: its compression is one that Debian stable does not use.
    """
    name, data = ar_member(deb, "data.tar")
    if name.endswith(".xz"):
        data = lzma.decompress(data)
    elif not name.endswith(".tar"):
        raise ValueError(f"{deb.name} holds {name}, not data.tar.xz")
    return tarfile.open(fileobj=io.BytesIO(data))


def write_bootstrap(debs: list[Path], target: Path) -> None:
    """Write one tar with the trees of the .deb files, unpacked and not configured.

    :param debs: base-files among them; it brings the links /bin, /lib and so on.
    """
    debs = sorted(debs, key=lambda deb: (not deb.name.startswith("base-files_"), deb.name))
    seen: set[str] = set()
    partial = target.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as out:
        for deb in debs:
            with unpacked(deb) as tree:
                for member in tree:
                    name = os.path.normpath(member.name)
                    if name == "." or name in seen:
                        continue
                    seen.add(name)
                    member.name = name
                    if member.islnk():
                        member.linkname = os.path.normpath(member.linkname)
                    out.addfile(member, tree.extractfile(member) if member.isreg() else None)
    partial.replace(target)


def link(folder: Path, files: dict[str, Path]) -> None:
    """Make ``folder`` hold exactly these names as hard links to these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in files:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    for name, source in files.items():
        target = folder / name
        if target.exists() and target.samefile(source):
            continue
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise Problem(f"{name} is not in the store", "scripts/inv fetch") from None


def lay_out_debs(packages: tuple[Package, ...], wanted: list[str]) -> Path:
    """Lay out the context of the builder and the base image.

    :param wanted: the names of the base image's packages, as a person wrote them.
    :returns: a folder with ``bootstrap.tar``, ``debs/`` and ``wanted``.
    """
    folder = CONTEXTS / "base"
    link(folder / "debs", {Path(p.file).name: fetch.path_of(p.sha256) for p in packages})
    (folder / "wanted").write_text("".join(f"{name}\n" for name in wanted))
    # This file's own hash too: written otherwise, the same packages give another tar.
    made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    key = "\n".join([made_by, *sorted(p.sha256 for p in packages)])
    stamp = folder / "bootstrap.key"
    if not (folder / "bootstrap.tar").exists() or not stamp.exists() or stamp.read_text() != key:
        stamp.unlink(missing_ok=True)
        write_bootstrap(
            [folder / "debs" / Path(p.file).name for p in packages], folder / "bootstrap.tar"
        )
        stamp.write_text(key)
    return folder


def lay_out_wheels(image: str, variant: str, packages: tuple[Package, ...]) -> Path:
    """Lay out the context of one image: a folder of wheels for each layer.

    :returns: the folder, ``.artifacts/context/IMAGE-VARIANT``.
    """
    folder = CONTEXTS / f"{image}-{variant}"
    layers: dict[str, dict[str, Path]] = {}
    for package in packages:
        layers.setdefault(package.layer, {})[package.file] = fetch.path_of(package.sha256)
    for layer, files in layers.items():
        link(folder / layer, files)
    for stale in folder.iterdir():
        if stale.name not in layers:
            shutil.rmtree(stale)
    # In a folder of its own, so that a layer depends on pip and not on all that lies beside it.
    if pip := [package for package in packages if package.name == "pip"]:
        link(CONTEXTS / "pip", {package.file: fetch.path_of(package.sha256) for package in pip})
    return folder
