"""What differs between two images: file by file, and in their configurations."""

from __future__ import annotations

from dataclasses import dataclass

from scripts import contents, packages
from scripts.contents import Entry
from scripts.oci import Image
from scripts.printable import printable

#: What of a configuration changes no container: when and of what it was made.
METADATA = ("created", "author", "moby.buildkit.buildinfo.v1")
#: What follows from the layers, which are compared themselves.
LAYERS = ("history", "rootfs")
#: How many files of a package in another version are listed.
SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """How a path differs: ``what`` for people, ``package`` where two versions explain it."""

    path: str
    what: str
    package: str = ""


def configurations(one: dict, two: dict) -> tuple[list[Difference], list[Difference]]:
    """Compare two configurations.

    :returns: what a container does not see, as labels and dates, and what it runs by.
    """
    harmless, harmful = [], []
    for key in sorted(one.keys() | two.keys()):
        if key not in ("config", *LAYERS) and one.get(key) != two.get(key):
            (harmless if key in METADATA else harmful).append(
                Difference(key, arrow(one.get(key), two.get(key))))
    left, right = one.get("config") or {}, two.get("config") or {}
    for key in sorted(left.keys() | right.keys()):
        if key == "Labels":
            old, new = left.get(key) or {}, right.get(key) or {}
            harmless += [Difference(f"label {name}", arrow(old.get(name), new.get(name)))
                         for name in sorted(old.keys() | new.keys())
                         if old.get(name) != new.get(name)]
        elif left.get(key) != right.get(key):
            harmful.append(Difference(key, arrow(left.get(key), right.get(key))))
    return harmless, harmful


def arrow(found: object, wanted: object) -> str:
    """What the image has, and what its source gives."""
    return f"{'nothing' if found is None else found}; its source gives " \
           f"{'nothing' if wanted is None else wanted}"


def described(differences: list[Difference]) -> list[str]:
    """Lines about configurations."""
    return [printable(f"  configuration: {each.path} is {each.what}") for each in differences]


def files(image: Image, again: Image) -> list[Difference]:
    """Compare all files of two images; times, order and layers do not count.

    :raises Problem: a layer is damaged.
    """
    one = contents.read(image, packages.wanted, hashes=True)
    two = contents.read(again, packages.wanted, hashes=True)
    owners = packages.find(one)[1], packages.find(two)[1]
    found = []
    for path in sorted(one.entries.keys() | two.entries.keys()):
        what = difference(one.entries.get(path), two.entries.get(path))
        if what:
            found.append(Difference(path, what, explained(path, owners)))
    return found


def difference(one: Entry | None, two: Entry | None) -> str:
    """How an entry of the image differs from that of its rebuild, empty for not at all."""
    if one is None and two is not None:
        return f"is missing; its source gives a {two.kind}"
    if two is None and one is not None:
        return f"is a {one.kind} of {one.size} bytes that its source does not give"
    parts = []
    for name, left, right in (
        ("kind", one.kind, two.kind), ("owner", one.owner, two.owner),
        ("mode", f"{one.mode:o}", f"{two.mode:o}"), ("target", one.target, two.target),
        ("size", one.size, two.size), ("sha256", one.sha256, two.sha256),
        ("attributes", one.extended, two.extended),
    ):
        # A link's own mode means nothing.
        if left != right and not (name == "mode" and one.kind == two.kind == "link"):
            parts.append(f"{name} {left or 'none'}, not {right or 'none'}")
    return "; ".join(parts)


def explained(path: str, owners: tuple[dict, dict]) -> str:
    """Name the two versions of the package that a path belongs to, where they differ."""
    left, right = (each.get(path) for each in owners)
    if left is None and right is None:
        return ""
    titles = [f"{each.name} {each.version}" if each else "no package" for each in (left, right)]
    return "" if titles[0] == titles[1] else f"{titles[0]}, not {titles[1]}"


def listed(differences: list[Difference]) -> list[str]:
    """Lines about files: those that another version explains together, then each other one."""
    groups: dict[str, list[Difference]] = {}
    for each in differences:
        groups.setdefault(each.package, []).append(each)
    lines = []
    for package, members in sorted(groups.items()):
        if package:
            lines.append(f"  {package}: {len(members)} "
                         f"{'file' if len(members) == 1 else 'files'}")
            lines += [f"    /{each.path} {each.what}" for each in members[:SHOWN]]
            if len(members) > SHOWN:
                lines.append(f"    and {len(members) - SHOWN} more")
    lines += [f"  /{each.path} {each.what}" for each in groups.get("", ())]
    return [printable(line) for line in lines]
