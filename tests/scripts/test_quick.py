"""`inv verify --quick`: every file of an image is as a locked package brings it, or a failure."""

import base64
import hashlib
from types import SimpleNamespace

import pytest

from scripts import claims, locked, quick, source
from scripts.contents import Contents, Entry
from scripts.locked import Want, Wants
from scripts.problem import Problem

TRUE, GPGV = b"true", b"gpgv"


def file(content: bytes = b"", mode: int = 0o644, owner: int = 0, extended: str = "") -> Entry:
    return Entry("file", mode, owner, owner, len(content), 0, 0, sha256=locked.sha256(content),
                 content=content, extended=extended)


def folder(mode: int = 0o755, owner: int = 0, extended: str = "") -> Entry:
    return Entry("folder", mode, owner, owner, 0, 0, 0, extended=extended)


def link(target: str, owner: int = 0) -> Entry:
    return Entry("link", 0o777, owner, owner, 0, 0, 0, target)


def program(content: bytes) -> list[Want]:
    return [Want("tools 1", "file", 0o755, sha256=locked.sha256(content))]


def wants(**files: list[Want]) -> Wants:
    """The two programs that every image here has, and more."""
    return Wants({"usr/bin/true": program(TRUE), "usr/bin/gpgv": program(GPGV), **files})


def judged(entries: dict[str, Entry], brought: Wants | None = None,
           pycs: dict[str, str] | None = None, loaded: dict | None = None) -> dict[str, str]:
    """What is wrong with an image that holds the two programs and ``entries``, by path."""
    found = Contents({"usr/bin/true": file(TRUE, 0o755), "usr/bin/gpgv": file(GPGV, 0o755),
                      **entries})
    lock = quick.Locked((), brought or wants(), "")
    verdict = quick.judge(found, lock, loaded or {}, pycs or {}, ["step"])
    return {path: reason for path, reason, _ in verdict.wrong}


def test_an_image_as_its_packages_have_it_is_explained():
    assert judged({"usr/bin": folder()}) == {}


@pytest.mark.parametrize(("entry", "reason"), [
    (file(b"evil", 0o755), "has another content than tools 1"),
    (file(GPGV, 0o755 | 0o4000), "has the mode 4755; tools 1 brings 755"),
    (file(GPGV, 0o755, owner=1000), "has the owner 1000:1000; tools 1 brings 0:0"),
    (file(GPGV, 0o755, extended="SCHILY.xattr.x=1"), "has extended attributes"),
    (link("true"), "is a link; tools 1 brings a file"),
    (folder(), "is a folder; tools 1 brings a file"),
])
def test_a_program_that_is_not_the_packages_is_found(entry, reason):
    assert reason in judged({"usr/bin/gpgv": entry})["usr/bin/gpgv"]


def test_a_link_of_a_package_has_to_lead_where_it_says():
    brought = wants(**{"usr/bin/sh": [Want("dash 1", "link", 0o777, target="dash")]})
    assert judged({"usr/bin/sh": link("dash")}, brought) == {}
    assert judged({"usr/bin/sh": link("true")}, brought) \
        == {"usr/bin/sh": "leads to true; dash 1 has it lead to dash"}


def test_a_folder_that_its_package_makes_into_a_link_is_judged_by_its_rule():
    brought = wants(**{"var/lock": [Want("base-files 1", "folder", 0o1777)]})
    assert judged({"var/lock": link("/run/lock")}, brought) == {}
    assert judged({"var/lock": link("/usr/bin/evil")}, brought) \
        == {"var/lock": "leads to /usr/bin/evil"}


def test_what_is_missing_is_found():
    brought = wants(**{"usr/bin/gone": program(b"gone")})
    assert judged({}, brought) == {"usr/bin/gone": "is missing; tools 1 brings it"}


def test_the_version_of_python_is_that_of_the_locked_one():
    brought = wants(**{f"usr/bin/{name}": [] for name in ("python3.9-config", "python3.14")})
    assert quick.python_folder(brought) == "usr/local/lib/python3.14/dist-packages"
    with pytest.raises(Problem, match="holds no Python"):
        quick.python_folder(wants())


def test_what_nobody_brings_is_found():
    assert judged({"opt/evil": file(b"evil")}) \
        == {"opt/evil": "belongs to no locked package and to no known step"}


PACKAGES = "usr/local/lib/python3.13/dist-packages"
RECORD = f"{PACKAGES}/thing-1.dist-info/RECORD"
MODULE, MADE = f"{PACKAGES}/thing.py", f"{PACKAGES}/__pycache__/thing.cpython-313.pyc"


def of_wheel(content: bytes = b"", **settings) -> list[Want]:
    return [Want("thing 1", "file", 0o644, sha256=locked.sha256(content), **settings)]


def row(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(content)}\n"


@pytest.mark.parametrize(("rows", "wrong"), [
    (row("thing.py", b"code") + "../../../../bin/true,,\n", {}),
    (row("thing.py", b"evil"), {RECORD: f"is not true of /{MODULE}"}),
    ("thing.py\rmore,,\n", {RECORD: "is no RECORD"}),
    ("thing.py,sha256=a,4\n", {RECORD: f"is not true of /{MODULE}"}),
    ("thing.py,sha256=\N{SNOWMAN},4\n", {RECORD: f"is not true of /{MODULE}"}),
    ("thing.py,md5=a,4\n", {RECORD: f"is not true of /{MODULE}"}),
    ("x" * 140_000 + ",,\n", {RECORD: "is no RECORD"}),
    ("gone.py,,\n", {RECORD: f"is not true of /{PACKAGES}/gone.py"}),
])
def test_a_record_is_held_against_the_files(rows, wrong):
    brought = wants(**{MODULE: of_wheel(b"code"), RECORD: of_wheel(exact=False)})
    assert judged({MODULE: file(b"code"), MADE: file(), RECORD: file(rows.encode())}, brought,
                  {MADE: ""}) == wrong


def test_a_module_without_a_pyc_is_found():
    assert judged({MODULE: file(b"code")}, wants(**{MODULE: of_wheel(b"code")})) \
        == {MODULE: "has no .pyc beside it"}


def test_what_a_rule_removes_may_not_be_there():
    brought = wants(**{"srv/test": of_wheel(b"test", removed="tests")})
    assert judged({}, brought) == {}
    assert judged({"srv/test": file(b"test")}, brought) \
        == {"srv/test": "should have been removed from thing 1: tests"}


def test_a_library_that_a_rule_strips_has_to_load_the_same(monkeypatch):
    brought = wants(**{"srv/a.so": of_wheel(b"whole", stripped="symbols")})
    monkeypatch.setattr(quick, "loaded_in", lambda want: "same")
    wrong = "has another loaded content than thing 1, stripped"
    for loaded, expected in (("same", {}), ("other", {"srv/a.so": wrong}),
                             (None, {"srv/a.so": wrong})):
        assert judged({"srv/a.so": file(b"stripped")}, brought,
                      loaded={"srv/a.so": loaded}) == expected


PYC = "usr/lib/python3/__pycache__/x.cpython-313.pyc"
ATTRIBUTE = {"extended": "SCHILY.xattr.user.x=1"}


@pytest.mark.parametrize(("path", "entry", "reason"), [
    (PYC, file(mode=0o666), "has the mode 666 and the owner 0:0"),
    (PYC, file(mode=0o755), "has the mode 755 and the owner 0:0"),
    (PYC, file(owner=1000), "has the mode 644 and the owner 1000:1000"),
    (PYC, file(**ATTRIBUTE), "has extended attributes"),
    ("etc/environment", file(**ATTRIBUTE), "has extended attributes"),
    ("etc/environment", file(mode=0o666), "has the mode 666"),
    ("srv/mine", folder(**ATTRIBUTE), "has extended attributes"),
    ("srv/mine", folder(0o777), "is a folder of 0:0 with the mode 777"),
    ("srv/mine", folder(owner=1000), "is a folder of 1000:1000"),
    ("etc/alternatives/x", link("/usr/bin/true", owner=1000), "has the owner 1000:1000"),
])
def test_rights_that_no_step_gives_to_a_file_of_no_package_are_found(path, entry, reason):
    assert reason in judged({path: entry}, pycs={PYC: ""} if path == PYC else {})[path]


def test_a_file_of_no_package_that_a_step_wrote_is_explained():
    assert judged({PYC: file(), "etc/environment": file(), "srv/mine": folder(),
                   "etc/alternatives/x": link("/usr/bin/true")}, pycs={PYC: ""}) == {}


def test_a_pyc_that_the_source_does_not_compile_to_is_found():
    assert judged({PYC: file()}, pycs={PYC: "holds other code"}) == {PYC: "holds other code"}


def test_a_path_writes_no_verdict_of_its_own():
    evil = "\x1b[2J\nEvery file is explained by the locks of its revision."
    verdict = quick.Verdict(made={"step": [evil]}, wrong=[(evil, "leads to " + evil, evil)])
    text = quick.text_of(SimpleNamespace(name="image", digest="sha256:0"), verdict)
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count(r"/\x1b[2J\x0aEvery file") == 2
    assert not any(line.startswith("Every") for line in text.splitlines())


EVIL, SHOWN = "\x1b[2J\nfine", r"\x1b[2J\x0afine"


@pytest.mark.parametrize("labels", [
    {claims.DRIFTED: EVIL}, {claims.DRIFTED: "false", source.TITLE: EVIL},
    {claims.DRIFTED: "false", source.TITLE: "good", source.VENDOR: EVIL},
])
def test_a_label_that_lies_writes_no_line_of_its_own(monkeypatch, tmp_path, labels):
    true = {"good-cpu": {"labels": {source.TITLE: "good", source.VENDOR: "us"}}}
    monkeypatch.setattr(claims, "ask", lambda *arguments: true)
    with pytest.raises(Problem) as caught:
        claims.check(SimpleNamespace(name="image", labels=labels), tmp_path, "abc")
    assert SHOWN in str(caught.value)


@pytest.mark.parametrize("revision", [EVIL, f"{EVIL}-dirty"])
def test_a_revision_that_is_none_writes_no_line_of_its_own(revision):
    labels = {source.LABELS + "lock": "", source.REVISION: revision}
    with pytest.raises(Problem) as caught:
        source.revision_of(SimpleNamespace(name="image", labels=labels))
    assert SHOWN in str(caught.value)
