"""Reads a lock file without the project's own reader, so that both must agree on the format."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """One line of a lock; ``kind`` comes from the lock's header."""

    kind: str
    sha256: str
    size: int
    platform: str
    variant: str
    layer: str
    name: str
    version: str
    file: str


def read(path: str | Path) -> list[Package]:
    """Return the packages of one lock file.

    :raises ValueError: for a line without its eight fields or a lock without a kind.
    """
    packages, kind = [], ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            kind = line.removeprefix("# kind: ") if line.startswith("# kind: ") else kind
            continue
        sha256, size, platform, variant, layer, name, version, file = line.split(" ")
        if kind not in ("deb", "wheel"):
            raise ValueError(f"{path}: no kind before the first package")
        packages.append(
            Package(kind, sha256, int(size), platform, variant, layer, name, version, file)
        )
    return packages
