"""What the locked packages bring, predicted without installing them; ELF files and their like."""

import base64
import hashlib
import io
import struct
import zipfile
from types import SimpleNamespace

import pytest
from oci_images import ar, layer

from scripts import elf, fetch, locked, state
from scripts.contents import Contents, Entry

PACKAGES = "usr/local/lib/python3.13/dist-packages"
TEMPLATE = "import sys\nfrom %(module)s import %(import_name)s\nsys.exit(%(func)s())\n"
RULES = {
    "remove": [{"files": "thing/tests/**/*", "reason": "tests"}],
    "strip": [{"files": "thing/**/*.so*", "reason": "symbols"}],
    "link": [{"files": "thing/lib/*.so", "folder": "/usr/lib", "reason": "found"}],
}


@pytest.mark.parametrize(("pattern", "name", "fits"), [
    ("a/**/*", "a/b", True), ("a/**/*", "a/b/c/d", True), ("a/**/*", "a", False),
    ("*/tests/**/*", "a/tests/x.py", True), ("*/tests/**/*", "a/b/tests/x.py", False),
    ("a/**/tests/**/*", "a/tests/x", True), ("a/**/tests/**/*", "a/b/c/tests/x/y", True),
    ("a/**/*.so*", "a/libx.so.2", True), ("a/**/*.so*", "ab/libx.so", False),
    ("a/?.py", "a/b.py", True), ("a/?.py", "a/bb.py", False), ("a.b/*", "axb/c", False),
])
def test_patterns_are_those_of_pathlib(tmp_path, pattern, name, fits):
    assert bool(locked.glob_pattern(pattern).fullmatch(name)) is fits
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    assert (path in tmp_path.glob(pattern)) is fits


def test_dpkgs_filters_are_read_from_the_builder_and_the_last_one_decides():
    rules = locked.path_rules("mmdebstrap --dpkgopt='path-exclude=/usr/share/doc/*' \\\n"
                              "  --dpkgopt='path-include=/usr/share/doc/*/copyright'")
    assert locked.excluded("usr/share/doc/a/changelog.gz", rules)
    assert not locked.excluded("usr/share/doc/a/copyright", rules)
    assert not locked.excluded("usr/bin/a", rules)


def stored(tmp_path, monkeypatch, data: bytes):
    path = tmp_path / "package"
    path.write_bytes(data)
    monkeypatch.setattr(fetch, "path_of", lambda sha256: path)
    return SimpleNamespace(sha256="", name="thing", version="1.0")


def wheel(files: dict[str, tuple[bytes, int]], record: str = "") -> bytes:
    buffer = io.BytesIO()
    info = "thing-1.0.dist-info"
    record = record or "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},\n"
        for name, (data, _) in files.items())
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (data, mode) in {**files, f"{info}/RECORD": (record.encode(), 0o644)}.items():
            item = zipfile.ZipInfo(name)
            item.external_attr = (0o100000 | mode) << 16
            archive.writestr(item, data)
    return buffer.getvalue()


def test_a_wheel_lies_as_pip_and_the_build_lay_it(tmp_path, monkeypatch):
    script = b"#!python\nprint()\n"
    points = b"[console_scripts]\nthing = thing.cli:Main.run [extra]\n\n[other]\nx = y:z\n"
    package = stored(tmp_path, monkeypatch, wheel({
        "thing/__init__.py": (b"1", 0o644), "thing/tool": (b"2", 0o755),
        "thing/tests/t.py": (b"3", 0o644), "thing/lib/a.so": (b"4", 0o644),
        "thing/old.pyc": (b"5", 0o644),
        "thing-1.0.data/scripts/run": (script, 0o644),
        "thing-1.0.data/data/share/d": (b"6", 0o644),
        "thing-1.0.dist-info/METADATA": (b"Name: thing\n", 0o644),
        "thing-1.0.dist-info/entry_points.txt": (points, 0o644),
    }))
    wants = locked.Wants()
    locked.wheel(package, PACKAGES, RULES, TEMPLATE, wants)
    found = {path: each[0] for path, each in wants.files.items()}
    assert f"{PACKAGES}/thing/old.pyc" not in found
    assert found[f"{PACKAGES}/thing/__init__.py"].sha256 == locked.sha256(b"1")
    assert found[f"{PACKAGES}/thing/tool"].mode == 0o755
    assert found[f"{PACKAGES}/thing/tests/t.py"].removed == "tests"
    assert found[f"{PACKAGES}/thing/lib/a.so"].stripped == "symbols"
    link = found["usr/lib/a.so"]
    assert (link.kind, link.target) == ("link", f"../local/{PACKAGES[10:]}/thing/lib/a.so")
    assert found["usr/local/share/d"].sha256 == locked.sha256(b"6")
    run = found["usr/local/bin/run"]
    assert (run.mode, run.sha256) == (0o755, locked.sha256(b"#!/usr/bin/python3\nprint()\n"))
    text = "#!/usr/bin/python3\nimport sys\nfrom thing.cli import Main\nsys.exit(Main.run())\n"
    assert found["usr/local/bin/thing"].sha256 == locked.sha256(text.encode())
    assert not found[f"{PACKAGES}/thing-1.0.dist-info/RECORD"].exact
    assert found[f"{PACKAGES}/thing-1.0.dist-info/INSTALLER"].sha256 == locked.sha256(b"pip\n")


def test_pips_own_scripts_bear_the_version_of_the_images_python(tmp_path, monkeypatch):
    package = stored(tmp_path, monkeypatch, wheel({
        "thing-1.0.dist-info/METADATA": (b"Name: pip\n", 0o644),
        "thing-1.0.dist-info/entry_points.txt": (
            b"[console_scripts]\npip = pip:main\npip3 = pip:main\n", 0o644),
    }))
    package.name = "pip"
    wants = locked.Wants()
    locked.wheel(package, PACKAGES.replace("3.13", "3.14"), {}, TEMPLATE, wants)
    assert sorted(path for path in wants.files if "/bin/" in path) \
        == [f"usr/local/bin/{name}" for name in ("pip", "pip3", "pip3.14")]


@pytest.mark.parametrize("record", ["thing.py\rmore,,\n", "thing.py,sha256=a,1\n", "a,,\n"])
def test_a_wheel_whose_record_tells_nothing_is_hashed_itself(tmp_path, monkeypatch, record):
    package = stored(tmp_path, monkeypatch, wheel({
        "thing.py": (b"1", 0o644), "thing-1.0.dist-info/METADATA": (b"Name: thing\n", 0o644),
    }, record))
    wants = locked.Wants()
    locked.wheel(package, PACKAGES, {}, TEMPLATE, wants)
    assert wants.files[f"{PACKAGES}/thing.py"][0].sha256 == locked.sha256(b"1")


def test_a_deb_lies_as_dpkg_and_the_build_lay_it(tmp_path, monkeypatch):
    package = stored(tmp_path, monkeypatch, ar({
        "debian-binary": b"2.0\n",
        "control.tar": layer({"./control": b"Package: thing\nMulti-Arch: same\n",
                              "./postinst": b"#!/bin/sh\n"}, {"./postinst": 0o755}),
        "data.tar": layer({"./usr": None, "./usr/bin/su": b"su", "./tmp": None,
                           "./usr/share/doc/thing/changelog.gz": b"c",
                           "./usr/share/doc/thing-x": "thing"},
                          {"./usr/bin/su": 0o4755, "./tmp": 0o1777}),
    }))
    wants = locked.Wants()
    locked.debian(package, [(True, "/usr/share/doc/*")], wants)
    found = {path: each[0] for path, each in wants.files.items()}
    assert (found["usr/bin/su"].mode, found["usr/bin/su"].sha256) == (0o755, locked.sha256(b"su"))
    assert (found["tmp"].kind, found["tmp"].mode) == ("folder", 0o1777)
    assert "usr/share/doc/thing/changelog.gz" not in found
    assert found["usr/share/doc/thing-x"].optional
    assert found["var/lib/dpkg/info/thing:amd64.postinst"].mode == 0o755
    assert "/usr/share/doc/thing/changelog.gz" in wants.lists["thing:amd64"]


# --- ELF -------------------------------------------------------------------------------------


def library(code: bytes = b"code" * 16, comment: bytes = b"GCC", symbols: bytes | None = b"s" * 99,
            tail: bytes = b"", start_at: int = 0, rights: int = 5, place: int = 0) -> io.BytesIO:
    """A 64-bit ELF file with one segment and some sections; without ``symbols`` it is stripped."""
    start = 64 + 56
    parts = [(b".text", 1, 2, code), (b".comment", 1, 0, comment)]
    parts += [(b".symtab", 2, 0, symbols)] if symbols is not None else []
    names = b"\0" + b"\0".join(name for name, *_ in parts) + b"\0.shstrtab\0"
    parts.append((b".shstrtab", 3, 0, names))
    body, rows = b"", [bytes(64)]
    for name, kind, flags, data in parts:
        rows.append(elf.SECTION.pack(names.index(name + b"\0"), kind, flags, 0,
                                     start + len(body), len(data), 0, 0, 1, 0))
        body += data
    head = elf.HEADER.pack(b"\x7fELF\x02\x01\x01" + bytes(9), 3, 62, 1, start_at, 64,
                           start + len(body), 0, 64, 56, 1, 64, len(rows), len(rows) - 1)
    segment = elf.SEGMENT.pack(1, rights, 0, place, 0, start + len(code), start + len(code), 4096)
    return io.BytesIO(head + segment + body + b"".join(rows) + tail)


def digest(data: io.BytesIO, tmp_path) -> str | None:
    path = tmp_path / "library"
    path.write_bytes(data.getvalue())
    with path.open("rb") as file:
        return elf.loaded_digest(file)


def test_a_stripped_library_loads_the_same(tmp_path):
    whole = digest(library(), tmp_path)
    assert whole
    assert digest(library(symbols=None), tmp_path) == whole


@pytest.mark.parametrize("change", [
    {"code": b"Code" + b"code" * 15}, {"comment": b"gcc"}, {"tail": b"hidden" * 10},
    {"code": b"code" * 17}, {"start_at": 4096}, {"rights": 7}, {"place": 1 << 20},
])
def test_another_library_is_told_though_stripped(tmp_path, change):
    assert digest(library(symbols=None, **change), tmp_path) != digest(library(), tmp_path)


def test_what_is_no_library_has_no_digest(tmp_path):
    assert digest(io.BytesIO(b"text"), tmp_path) is None
    assert digest(io.BytesIO(library().getvalue()[:150]), tmp_path) is None
    broken = bytearray(library().getvalue())
    struct.pack_into("<Q", broken, 0x20, 1 << 40)
    assert digest(io.BytesIO(bytes(broken)), tmp_path) is None


# --- state that packages wrote ---------------------------------------------------------------


def judged(path: str, content: bytes | None = None, target: str = "", mode: int = 0o644):
    kind, data = "link" if target else "file", content or b""
    entry = Entry(kind, mode, 0, 0, len(data), 0, 0, target, locked.sha256(data), content=content)
    good = Entry("file", 0o755, 0, 0, 4, 0, 0, "", locked.sha256(b"good"), content=b"good")
    found = Contents({path: entry, "usr/bin/good": good})
    return state.judge(path, entry, state.State(
        found, locked.Wants(lists={"tool": {"/.", "/bin"}}), {"usr/bin/good"}, (),
        "echo 'me:*:1000:100::/home/me:/bin/bash'"))


@pytest.mark.parametrize(("path", "settings"), [
    ("etc/alternatives/x", {"target": "/usr/bin/good"}), ("etc/motd", {"content": b"good"}),
    ("etc/environment", {"content": b""}), ("etc/fstab", {"content": b"# nothing\n"}),
    ("etc/shells", {"content": b"/bin/sh\n# other\n"}),
    ("etc/passwd", {"content": b"me:*:1000:100::/home/me:/bin/bash\n"
                               b"_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n"}),
    ("var/lib/dpkg/info/tool.list", {"content": b"/.\n/bin\n"}),
])
def test_what_a_step_writes_is_explained(path, settings):
    by, wrong = judged(path, **settings)
    assert by
    assert wrong == ""


@pytest.mark.parametrize(("path", "settings", "reason"), [
    ("etc/alternatives/x", {"target": "/tmp/evil"}, "leads to /tmp/evil"),
    ("etc/alternatives/x", {"content": b"good"}, "is a file, not a link"),
    ("etc/motd", {"content": b"evil"}, "equals no file of a locked package"),
    ("etc/motd", {"content": b"good", "mode": 0o666}, "has the mode 666"),
    ("etc/environment", {"content": b"LD_PRELOAD=x"}, "is not empty"),
    ("etc/fstab", {"content": b"/dev/x / ext4\n"}, "holds the line"),
    ("etc/passwd", {"content": b"evil:*:0:0::/:/bin/sh\n"}, "holds the account 'evil"),
    ("var/lib/dpkg/info/tool.list", {"content": b"/.\n"}, "differs from the package at /bin"),
    ("var/lib/dpkg/info/evil.list", {"content": b"/.\n"}, "belongs to no locked package"),
    ("etc/ld.so.cache", {"content": b"glibc-ld.so.cache1.1" + b"\xff" * 40}, "is damaged"),
    ("var/lib/dpkg/status", {"content": b"Package: evil\nVersion: 1\n"}, "evil 1, which is not"),
])
def test_what_a_step_would_not_write_is_not(path, settings, reason):
    assert reason in judged(path, **settings)[1]


def test_a_path_that_no_step_writes_has_no_explanation():
    assert judged("opt/evil", b"good") is None
