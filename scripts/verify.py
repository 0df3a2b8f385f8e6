"""`inv verify`: build an image again from the source that its labels name, and compare.

The exit status is the grade: 0 for the same manifest, 2 for the same content in another
compression, 3 for the same files with other metadata, 4 where they differ. 1 is an error: the image
can't be checked at all, or its labels lie. With --quick, 0 or 4.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke.exceptions import Exit

from scripts import claims, compare, engine, fetch, locks, oci, source
from scripts.build import PLATFORM
from scripts.oci import Image
from scripts.paths import STORE
from scripts.printable import printable
from scripts.problem import Problem

SAME, RECOMPRESSED, METADATA, DIFFERENT = 0, 2, 3, 4
GRADES = {
    SAME: "same manifest: bit for bit what its source gives",
    RECOMPRESSED: "same content, other compression: configuration and layers are equal, unpacked",
    METADATA: "same files, other metadata",
    DIFFERENT: "different",
}
#: Bytes of disk that the engine takes for each byte of locked packages that it builds from: 0.54 GB
#: of packages of jupyter-cpu became 4.8 GB of build cache and 0.4 GB of image (BuildKit 0.13).
ROOM = 10


def run(name: str, *, quick: bool = False) -> None:
    """Verify an image and print the grade.

    :param name: see :func:`scripts.oci.find`.
    :param quick: hold its files against the locked packages instead of building again.
    :raises Problem: it can't be verified, or is another than its source gives.
    :raises Exit: the grade is not the best; the status says which.
    """
    with oci.open_image(name) as image:
        print(printable(f"{name} is read from {image.place.kind}"), flush=True)
        if quick:
            from scripts import quick as module

            verdict = module.run(image)
            print(module.text_of(image, verdict))
            module.end(image, verdict, DIFFERENT)
            return
        revision = source.revision_of(image)
        with source.checkout(revision) as checkout:
            target = claims.check(image, checkout, revision)
            check_room(checkout, target)
            with rebuilt(checkout, target, revision) as again_name, \
                    oci.open_image(again_name) as again:
                code, lines = grade(image, again)
    print("\n".join(map(printable, [name, f"  manifest {image.digest}", f"  source   {revision}",
                                    *lines])))
    if code == DIFFERENT:
        raise Problem(f"{name} is not what its source gives (see above)",
                      "do not trust this image, or build it again", DIFFERENT)
    print(f"Grade: {GRADES[code]}.")
    if code:
        raise Exit(code=code)


def check_room(checkout: Path, target: claims.Target) -> None:
    """See that there is enough disk before anything is fetched or built.

    :raises Problem: there is not, with the bytes that are needed.
    """
    images = checkout / "images"
    names = [images / "base" / "packages.lock",
             *(images / name / "requirements.lock" for name in target.folders[1:])]
    chosen = [package for path in names
              for package in locks.read(path).select(PLATFORM, target.variant)]
    missing = sum(package.size for package in fetch.missing(chosen))
    needs = {STORE.parent: missing}
    if root := engine_folder():
        needs[root] = needs.get(root, 0) + ROOM * sum(package.size for package in chosen)
    devices: dict[int, tuple[Path, int]] = {}
    for path, size in needs.items():
        device = path.stat().st_dev
        first, sum_so_far = devices.get(device, (path, 0))
        devices[device] = first, sum_so_far + size
    for path, size in devices.values():
        free = shutil.disk_usage(path).free
        if free < size:
            raise Problem(f"building {target.name} again needs {size / 1e9:.1f} GB of disk at "
                          f"{path}; {free / 1e9:.1f} GB are free",
                          "free some space (docker builder prune), or use --quick")


def engine_folder() -> Path | None:
    """Where the engine keeps its data, if that is on this machine and can be looked at."""
    answer = engine.ask()
    root = Path((answer.info or {}).get("DockerRootDir") or "/nonexistent")
    while not root.exists() and root != root.parent:
        root = root.parent
    return root if answer.info and root != root.parent else None


@contextmanager
def rebuilt(checkout: Path, target: claims.Target, revision: str) -> Iterator[str]:
    """Build a target in a checkout, under a name of its own; the image is gone afterwards.

    :raises Problem: the revision can't be built.
    """
    engine.ensure()
    (checkout / ".artifacts").mkdir(exist_ok=True)
    # What is fetched stays for the next time; contexts are hard links into it.
    STORE.mkdir(parents=True, exist_ok=True)
    (checkout / ".artifacts" / "store").symlink_to(STORE)
    prefix = f"hothouse-verify-{uuid.uuid4().hex[:8]}"
    print(f"building {target.name} of {revision[:12]} again, without a cache …", file=sys.stderr,
          flush=True)
    try:
        yield claims.ask(checkout, "build", target.name, prefix, quiet=False)["image"]
    finally:
        shown = subprocess.run(
            ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"],
            capture_output=True, text=True, check=False,
        ).stdout.split()
        mine = [tag for tag in shown if tag.startswith(f"{prefix}/")]
        if mine:
            subprocess.run(["docker", "image", "rm", "--force", *mine], capture_output=True,
                           check=False)


def recompressed(image: Image, again: Image) -> list[str]:
    """Lines about the layers that hold the same in another compression."""
    return [
        f"  layer {number} is {one.digest}, {one.size} bytes ({one.media_type}); rebuilt "
        f"{two.digest}, {two.size} bytes ({two.media_type})"
        for number, (one, two) in enumerate(zip(image.layers, again.layers, strict=True), 1)
        if one.digest != two.digest
    ]


def read(image: Image) -> None:
    """Read all layers, which checks them: a manifest may name what is not there.

    :raises Problem: a layer is damaged or missing.
    """
    for layer in image.layers:
        for _ in image.members(layer):
            pass


def grade(image: Image, again: Image) -> tuple[int, list[str]]:
    """Compare an image with its rebuild.

    :returns: the grade, and lines that say what differs.
    :raises Problem: a layer of the image is damaged or missing.
    """
    if image.digest == again.digest:
        read(image)
        return SAME, []
    lines = [f"  rebuilt  {again.digest}"]
    if image.config_digest == again.config_digest:
        read(image)
        return RECOMPRESSED, [*lines, *recompressed(image, again)]
    harmless, harmful = compare.configurations(image.config, again.config)
    lines += compare.described(harmless + harmful)
    if [each.diff_id for each in image.layers] == [each.diff_id for each in again.layers]:
        read(image)
        return (DIFFERENT if harmful else METADATA), lines
    shared = len({each.diff_id for each in image.layers}
                 & {each.diff_id for each in again.layers})
    lines.append(f"  {shared} of {len(image.layers)} layers are equal")
    files = compare.files(image, again)
    lines += compare.listed(files)
    return (DIFFERENT if harmful or files else METADATA), lines
