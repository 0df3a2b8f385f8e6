"""Fixtures of the tests of `inv fetch`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetch_helpers import LIMIT
from lying_server import LyingServer
from worlds import keys, stranger, world  # noqa: F401 - fixtures


@pytest.fixture
def quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short timeouts, no proxy, and no thread of a fetch left behind."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "HOTHOUSE_SNAPSHOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # apt's own proxy must not come between these tests and their server.
    monkeypatch.setenv("APT_CONFIG", os.devnull)
    monkeypatch.setenv("HOTHOUSE_FETCH_TIMEOUT", "0.5")
    yield
    deadline = time.monotonic() + LIMIT
    while alive := [t for t in threading.enumerate() if t.name.startswith("fetch-")]:
        assert time.monotonic() < deadline, f"threads still hang: {alive}"
        alive[0].join(0.1)


@pytest.fixture
def server(quick_and_direct: None) -> Iterator[LyingServer]:
    """A server of the test's own, that lies on command."""
    with LyingServer() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store."""
    return tmp_path / "store"
