"""Git's own hashes, computed from files without git: they prove that a tree is a commit's.

A bundle carries the commits that it speaks of (``RECORD``). An ID that a person got by another way
proves its commit, and so the source. The ID of the revision is only what the bundle names: some
commit with the same files of the images; that it is in the history takes the history to see.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from scripts.paths import ARTIFACTS

#: Where an unpacked bundle keeps what it says of itself.
RECORD = ARTIFACTS / "bundle"
FILE, EXECUTABLE, LINK, TREE = "100644", "100755", "120000", "40000"


def object_id(kind: str, content: bytes) -> str:
    """The hex ID that git gives to an object of this kind (``blob``, ``tree``, ``commit``)."""
    head = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def tree_id(files: Mapping[str, tuple[str, str]]) -> str:
    """The ID of the tree with these files.

    :param files: by path with slashes: git's mode and the blob's ID.
    """
    entries: dict[str, tuple[str, str]] = {}
    below: dict[str, dict[str, tuple[str, str]]] = {}
    for path, entry in files.items():
        first, slash, rest = path.partition("/")
        if slash:
            below.setdefault(first, {})[rest] = entry
        else:
            entries[first] = entry
    for name, inner in below.items():
        entries[name] = (TREE, tree_id(inner))
    # Git sorts a folder as if its name ended in a slash.
    ordered = sorted(entries, key=lambda name: f"{name}/" if name in below else name)
    return object_id("tree", b"".join(
        f"{entries[name][0]} {name}\0".encode() + bytes.fromhex(entries[name][1])
        for name in ordered
    ))


def entries_of(tree: bytes) -> dict[str, tuple[str, str]]:
    """What a tree object names: git's mode and the ID, by name.

    :raises ValueError: the bytes are no tree object.
    """
    found = {}
    while tree:
        head, _, rest = tree.partition(b"\0")
        mode, _, name = head.decode().partition(" ")
        if not name or len(rest) < 20:
            raise ValueError("no tree object")
        found[name], tree = (mode, rest[:20].hex()), rest[20:]
    return found


def entry_of(path: Path) -> tuple[str, str] | None:
    """How a tree would name a file or a folder as it lies there; None where there is nothing."""
    if path.is_dir() and not path.is_symlink():
        found = below(path)
        return (TREE, tree_id(found)) if found else None
    return _blob(path) if os.path.lexists(path) else None


def below(top: Path) -> dict[str, tuple[str, str]]:
    """What lies below a folder, by path: each file and link, and each folder that holds nothing,
    which no commit can name but an image would hold."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_dir():
                found[path.relative_to(top).as_posix()] = _blob(path)
            elif not any(path.iterdir()):
                found[path.relative_to(top).as_posix()] = (TREE, object_id("tree", b""))
    return found


def _blob(path: Path) -> tuple[str, str]:
    if path.is_symlink():
        return LINK, object_id("blob", os.fsencode(os.readlink(path)))
    if not path.is_file():
        return "0", object_id("blob", b"")  # a pipe or a device: in no commit
    mode = EXECUTABLE if path.stat().st_mode & 0o100 else FILE
    return mode, object_id("blob", path.read_bytes())


def tree_of_commit(commit: bytes) -> str:
    """The ID of the tree that a commit object names."""
    return commit[:45].decode("ascii", "replace").removeprefix("tree ")


def revision(sources: Iterable[Path], record: Path = RECORD) -> str:
    """The revision that an unpacked bundle brought along for these files: a commit that has them,
    of the history if the bundle's maker was honest.

    :param sources: files and folders beside ``.artifacts``, which the images are made from.
    :returns: the commit's ID, ``-dirty`` at its end when a file differs from that commit;
        ``unknown`` in a tree that is no unpacked bundle.
    """
    try:
        commit = (record / "revision.commit").read_bytes()
        tree = (record / "revision.tree").read_bytes()
        named = entries_of(tree)
    except (OSError, ValueError):
        return "unknown"
    if tree_of_commit(commit) != object_id("tree", tree):
        return "unknown"
    same = all(named.get(path.name) == entry_of(path) for path in sources)
    return object_id("commit", commit) + ("" if same else "-dirty")
