"""Are the .pyc files of an image what the locked Python compiles from the sources beside them?

Python runs them without a look at the source (``unchecked-hash``), so this is where tampering
would be seen last. The Python comes from the locked .deb files, unpacked into a folder and started
by its own loader: neither the host's nor the image's Python has a say, and no engine is needed.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from scripts import context, fetch
from scripts.contents import Contents, Entry
from scripts.locks import Package
from scripts.packages import follow, source_of
from scripts.paths import ROOT
from scripts.printable import printable
from scripts.problem import Problem

#: The Debian packages that make up a Python which can compile.
PARTS = ("libpython", "python3", "libc6", "zlib1g", "libexpat1", "libffi", "libssl", "libbz2",
         "liblzma", "libuuid", "libzstd")
#: Where the build compiles all of a layer at once; see images/builder.
FOLDERS = ("usr/lib/python3*", "usr/local/lib/python3*/dist-packages")


class Compiler:
    """A Python unpacked from locked packages.

    :param folder: an empty folder for it.
    :raises Problem: the packages hold no Python that runs here.
    """

    def __init__(self, packages: Iterable[Package], folder: Path) -> None:
        for package in packages:
            if package.name.startswith(PARTS):
                unpack(fetch.path_of(package.sha256), folder)
        loader = sorted(folder.glob("usr/lib*/ld-linux*"))
        python = sorted(path for path in folder.glob("usr/bin/python3.*")
                        if path.name[8:].isdigit())
        if not loader or not python:
            raise Problem("the lock of the base holds no Python to compile with",
                          "run inv verify without --quick")
        libraries = ":".join(map(str, sorted(folder.glob("usr/lib/*-linux-gnu"))))
        self.command = [str(loader[0]), "--library-path", libraries, str(python[0])]
        # Nothing of the caller's environment: it would change what Python loads.
        self.environment = {"PYTHONHOME": str(folder / "usr"), "PYTHONHASHSEED": "0",
                            "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        done = self.run("-c", "import json, marshal, compileall")
        if done.returncode:
            raise Problem(f"the locked Python does not run here: {done.stderr.strip()[-200:]}",
                          "run inv verify without --quick")

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run([*self.command, *arguments], env=self.environment, input=stdin,
                              capture_output=True, text=True, errors="replace", check=False)

    def compile(self, top: Path) -> None:
        """Compile what lies below one layer's folder as the build does, in one process."""
        folders = [str(path) for pattern in FOLDERS for path in sorted(top.glob(pattern))]
        if folders:
            # Files that do not compile leave no .pyc, which is seen afterwards.
            self.run("-m", "compileall", "-q", "-j1", "--invalidation-mode", "unchecked-hash",
                     "-s", str(top), "-p", "/", *folders)

    def judge(self, questions: list[tuple[str, str, str]]) -> list[str]:
        """Compare code where bytes differ; see scripts/compiled_inside.py."""
        inside = str(ROOT / "scripts" / "compiled_inside.py")
        done = self.run(inside, stdin=json.dumps(questions))
        if done.returncode == 0:
            return json.loads(done.stdout)
        if len(questions) == 1:  # a .pyc can be made so that reading it ends Python
            return ["can't be read"]
        return [answer for each in questions for answer in self.judge([each])]


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a .deb's files below a folder; links to absolute paths stay inside it."""
    with context.unpacked(deb) as tree:
        for member in tree:
            member.name = os.path.normpath(member.name)
            if member.name == "." or not (member.isreg() or member.issym() or member.isdir()
                                          or member.islnk()):
                continue
            if member.issym() and member.linkname.startswith("/"):
                member.linkname = os.path.relpath(
                    member.linkname.lstrip("/"), os.path.dirname(member.name))
            elif member.islnk():
                member.linkname = os.path.normpath(member.linkname)
            member.uid, member.gid = os.getuid(), os.getgid()
            tree.extract(member, folder, **(
                {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))


class Sources:
    """Collects the .py and .pyc files of an image while it is read; a watch for contents.read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, path: str, layer: int) -> Path:
        """Where the file of a layer lies: sources and compiled ones apart."""
        kind = "pyc" if path.endswith(".pyc") else "py"
        return self.folder / kind / str(layer) / path

    def __call__(self, path: str, entry: Entry):
        """See :data:`scripts.contents.Watch`."""
        if not path.endswith((".py", ".pyc")):
            return None
        return self.create(path, entry.layer)

    def create(self, path: str, layer: int) -> BinaryIO:
        """Open the place of a file to write.

        :raises Problem: there can be none, as where a layer has a file and a folder of one name.
        """
        place = self.path(path, layer)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            return place.open("wb")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise Problem(f"the image's /{printable(path)} can't be laid out to be compiled: {why}",
                          "do not trust this image; where the disk is full, free some space"
                          ) from None


def check(found: Contents, sources: Sources, compiler: Compiler) -> dict[str, str]:
    """Compile every source anew and compare.

    :returns: each .pyc of the image with what is wrong with it, empty for nothing.
    :raises Problem: its sources can't be laid out.
    """
    lay_out_links(found, sources)
    tops = sorted((sources.folder / "py").glob("*"))
    print(f"compiling the Python sources of {len(tops)} layers with the locked Python …",
          file=sys.stderr, flush=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(compiler.compile, tops))
    verdicts, open_questions = {}, {}
    for path, entry in found.entries.items():
        if not path.endswith(".pyc") or entry.kind != "file":
            continue
        if entry.same:  # what lies there is known by its first name only, and compileall makes none
            verdicts[path] = f"is a second name of /{entry.same}"
            continue
        source = source_of(path)
        beside = found.entries.get(source or "")
        if beside is None:
            verdicts[path] = "has no source beside it"
            continue
        mine = sources.path(path, entry.layer)
        theirs = sources.folder / "py" / str(entry.layer) / path
        if theirs.exists() and filecmp.cmp(mine, theirs, shallow=False):
            verdicts[path] = ""
            # The bytes fit the source in the same layer; an upper one may have replaced that.
            if beside.layer == entry.layer:
                continue
        text = sources.path(follow(source, found), found.entries[follow(source, found)].layer) \
            if follow(source, found) in found.entries else None
        if text is None or not text.exists():
            verdicts[path] = "has no source beside it"
        else:
            open_questions[path] = (str(mine), str(text), f"/{source}")
    verdicts |= zip(open_questions, compiler.judge(list(open_questions.values())), strict=True) \
        if open_questions else {}
    return verdicts


def lay_out_links(found: Contents, sources: Sources) -> None:
    """Put the content behind a .py that is a link where the build's Python saw it."""
    for path, entry in found.entries.items():
        if entry.kind == "link" and path.endswith(".py"):
            target = follow(path, found)
            behind = found.entries.get(target)
            if behind and behind.kind == "file" and not behind.same and target.endswith(".py"):
                with sources.create(path, entry.layer) as file:
                    file.write(sources.path(target, behind.layer).read_bytes())
