"""What the tests of `inv fetch` share: packages, a server, a store, a process of its own."""

from __future__ import annotations

import hashlib
import random
import sys
import textwrap
import time
from pathlib import Path

import pytest
from lying_server import LyingServer

from scripts import fetch as fetching
from scripts.locks import Package
from scripts.problem import Problem

DEB = "/debian/pool/main/t/tiny/tiny_1.0+b1~x_amd64.deb"
LIMIT = 20  # seconds


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def deb(server: LyingServer, content: bytes, path: str = DEB) -> Package:
    """Serve a .deb; returns what a lock says of it."""
    digest = server.add(path, content)
    archive, _, file = path[1:].partition("/")
    name, version, _ = path.rpartition("/")[2].split("_")
    size, file = len(content), f"{archive}:{file}"
    return Package(digest, size, "linux/amd64", "any", "base", name, version, file)


def whl(server: LyingServer, content: bytes, **more: object) -> tuple[Package, str]:
    """Serve a wheel; returns what a lock says of it, and its path."""
    path, file, content = server.add_wheel("tiny-wheel", "1.0", content=content, **more)
    digest = hashlib.sha256(content).hexdigest()
    package = Package(digest, len(content), "any", "any", "runtime", "tiny-wheel", "1.0", file)
    return package, path


def fetch(server: LyingServer, store: Path, *packages: Package) -> None:
    fetching.fetch(
        packages, store=store, archives=server.archives, index=server.index, date="2026-11-21"
    )


def problem(server: LyingServer, store: Path, *packages: Package) -> Problem:
    with pytest.raises(Problem) as caught:
        fetch(server, store, *packages)
    assert "\n" not in caught.value.message
    return caught.value


def content(store: Path, package: Package) -> bytes:
    return fetching.path_of(package.sha256, store).read_bytes()


def partial(store: Path, package: Package) -> Path:
    return store / "partial" / package.sha256


def program(server: LyingServer, store: Path, *packages: Package) -> list[str]:
    """A command that fetches the packages in a process of its own."""
    text = f"""
        import sys
        from pathlib import Path
        from scripts.fetch import fetch
        from scripts.locks import Package
        from scripts.problem import Problem
        try:
            fetch({packages!r}, store=Path({str(store)!r}), archives={server.archives!r},
                  index={server.index!r}, date="2026-11-21")
        except Problem as problem:
            sys.exit(problem.message)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    return [sys.executable, "-c", textwrap.dedent(text)]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_until(true: object) -> None:
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
