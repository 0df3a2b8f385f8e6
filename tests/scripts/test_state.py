"""The functions by which scripts/state.toml judges what Debian's packages wrote: each finds a wrong
content."""

import struct
from types import SimpleNamespace

import pytest
from oci_images import ar, layer

from scripts import fetch, locked, state
from scripts.contents import Contents, Entry

CERTIFICATES = [f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
                for text in ("one", "two", "evil")]
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
MASTER = "root:*:0:0:root:/root:/bin/bash\n"
SOURCES = "Types: deb\nComponents: main contrib\nSuites: stable\n"
BUILD_BASE = """mmdebstrap --dpkgopt='path-exclude=/usr/share/man/*' \\
    --dpkgopt='path-include=/usr/share/man/man1/*'
echo 'me:*:1000:100::/home/me:/bin/bash' >>etc/passwd"""
LIBRARY, LOADED = "usr/lib/libgood.so.1", "libgood.so.1"


def file(content: bytes) -> Entry:
    return Entry("file", 0o644, 0, 0, len(content), 0, 0, sha256=locked.sha256(content),
                 content=content)


def judged(path: str, content: str | bytes, *, sound: bool = True) -> str:
    """What is wrong with a file of an image of one package.

    :param sound: whether the package's own files are as it brings them.
    """
    shares = {f"usr/share/ca-certificates/{number}.crt": file(text.encode())
              for number, text in enumerate(CERTIFICATES[:2])}
    brought = {**shares, state.MASTER: file(MASTER.encode()), LIBRARY: file(b"library")}
    data = content if isinstance(content, bytes) else content.encode()
    entry = file(data)
    found = Contents({**brought, "usr/lib/libevil.so.1": file(b"evil"), path: entry})
    apt = SimpleNamespace(name="apt", version="3.0", sha256="")
    by, wrong = state.judge(path, entry, state.State(
        found, locked.Wants(lists={"apt": {"/.", "/usr"}}), set(brought) if sound else set(),
        (apt,), BUILD_BASE))
    assert by
    return wrong


def cache(*libraries: tuple[str, str], count: int | None = None) -> bytes:
    """The loader's cache: names, and the paths that they lead to."""
    strings = b"".join(text.encode() + b"\0" for pair in libraries for text in pair)
    at, entries = 48 + 24 * len(libraries), b""
    for name, path in libraries:
        entries += struct.pack("<iIIIQ", 0, at, at + len(name) + 1, 0, 0)
        at += len(name) + len(path) + 2
    head = state.CACHE_MAGIC + struct.pack("<II", len(libraries) if count is None else count,
                                           len(strings))
    return head.ljust(48, b"\0") + entries + strings


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A .deb of apt in the store, with its example of sources."""
    path = tmp_path / "apt.deb"
    path.write_bytes(ar({"debian-binary": b"2.0\n",
                         "data.tar": layer({f"./{state.EXAMPLE}": SOURCES.encode()})}))
    monkeypatch.setattr(fetch, "path_of", lambda sha256: path)


STATUS = "Package: apt\nStatus: install ok installed\nVersion: 3.0\n"
SAME_SOURCES = SOURCES.replace(" contrib", "")
FILTERS = "path-exclude=/usr/share/man/*\npath-include=/usr/share/man/man1/*\n"
GOOD = [
    ("var/lib/dpkg/status", STATUS), ("var/lib/dpkg/info/apt.list", "/.\n/usr\n"),
    (BUNDLE, "".join(CERTIFICATES[:2])), ("etc/ld.so.cache", cache((LOADED, f"/{LIBRARY}"))),
    ("etc/passwd", MASTER + "me:*:1000:100::/home/me:/bin/bash\n"),
    ("etc/apt/sources.list.d/debian.sources", SAME_SOURCES),
    ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", FILTERS),
]


@pytest.mark.parametrize(("path", "content"), GOOD)
def test_what_follows_from_the_locked_packages_is_explained(apt, path, content):
    assert judged(path, content) == ""


def test_every_check_is_tried_with_a_good_content():
    assert {state.rule_of(path)["check"] for path, _ in GOOD} == set(state.CHECKS)


@pytest.mark.parametrize(("path", "content", "reason"), [
    ("var/lib/dpkg/status", STATUS.replace("3.0", "2.9"), "names apt 2.9, which is not locked"),
    ("var/lib/dpkg/status", STATUS + "\nPackage: x\n\nPackage: x\nVersion: 1\n",
     "names x 1, which"),
    ("var/lib/dpkg/status", STATUS + "\nVersion: 1\n", "names ? 1, which is not locked"),
    ("var/lib/dpkg/status", "", "does not name apt 3.0"),
    ("var/lib/dpkg/status", STATUS.replace("install ok", "hold ok"), "apt is not installed"),
    ("var/lib/dpkg/info/apt.list", "/.\n/usr\n/evil\n", "differs from the package at /evil"),
    ("var/lib/dpkg/info/evil.list", "/.\n/usr\n", "belongs to no locked package"),
    (BUNDLE, "".join(CERTIFICATES), "holds a certificate that no locked package brings"),
    (BUNDLE, CERTIFICATES[0], "lacks a certificate"),
    (BUNDLE, "".join(CERTIFICATES[:2]) + "# more\n", "holds more than certificates"),
    ("etc/ld.so.cache", b"glibc-ld.so.cache2.0" + bytes(28), "is not in the format"),
    ("etc/ld.so.cache", cache((LOADED, "/usr/lib/libevil.so.1")), "leads libgood.so.1 to /usr/lib"),
    ("etc/ld.so.cache", cache(("libc.so.6", f"/{LIBRARY}")), "leads libc.so.6 to"),
    ("etc/ld.so.cache", cache((LOADED, "/usr/lib/gone/" + LOADED)), "leads libgood.so.1 to"),
    ("etc/ld.so.cache", cache((LOADED, f"/{LIBRARY}"), count=9), "is damaged"),
    ("etc/passwd", MASTER.replace("*", ""), "holds the account 'root::0"),
    ("etc/passwd", "_evil:*:0:0::/:/usr/sbin/nologin\n", "holds the account '_evil"),
    ("etc/passwd", "_evil:*:5:0::/:/bin/sh\n", "holds the account '_evil"),
    ("etc/apt/sources.list.d/debian.sources", SOURCES, "differs from apt's example"),
    ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", FILTERS + "path-exclude=/usr/share/doc/*\n",
     "differs from build-base"),
])
def test_what_does_not_follow_from_them_is_found(apt, path, content, reason):
    assert reason in judged(path, content)


@pytest.mark.parametrize(("path", "content", "reason"), [
    (BUNDLE, CERTIFICATES[0], "holds a certificate"), ("etc/passwd", MASTER, "holds the account"),
    ("etc/ld.so.cache", cache((LOADED, f"/{LIBRARY}")), "leads libgood.so.1 to"),
])
def test_files_that_are_not_a_packages_own_explain_nothing(path, content, reason):
    assert reason in judged(path, content, sound=False)
