"""The .pyc files below a folder: there, unchecked, and of the source beside them.

An unchecked .pyc is never compared with its source by Python, so a stale one would run.
"""

from importlib.util import cache_from_source, source_hash
from pathlib import Path

# PEP 552: bit 0 says "by hash, not by time", bit 1 "compare with the source".
UNCHECKED_HASH = 0b01


def _compiles(source: Path) -> bool:
    try:
        compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def missing(folder: Path) -> list[str]:
    """Sources that Python can compile but that have no .pyc (templates for it cannot)."""
    return [
        str(source)
        for source in folder.rglob("*.py")
        if not Path(cache_from_source(source)).exists() and _compiles(source)
    ]


def wrong(folder: Path) -> list[str]:
    """What is wrong with .pyc files, one line each; empty when all are right."""
    found = []
    for compiled in folder.rglob("*.pyc"):
        with compiled.open("rb") as file:
            head = file.read(16)
        flags = int.from_bytes(head[4:8], "little")
        source = compiled.parent.parent / (compiled.name.split(".")[0] + ".py")
        if flags != UNCHECKED_HASH:
            found.append(f"{compiled}: flags {flags:#b}")
        elif not source.exists():
            found.append(f"{compiled}: without its source")
        elif source_hash(source.read_bytes()) != head[8:16]:
            found.append(f"{compiled}: of another source")
    return found
