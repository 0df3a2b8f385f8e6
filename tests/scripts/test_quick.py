"""`inv verify --quick`: every file of an image is as a locked package brings it, or a failure."""

import pytest

from scripts import locked, quick
from scripts.contents import Contents, Entry
from scripts.locked import Want, Wants

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
           pycs: dict[str, str] | None = None) -> dict[str, str]:
    """What is wrong with an image that holds the two programs and ``entries``, by path."""
    found = Contents({"usr/bin/true": file(TRUE, 0o755), "usr/bin/gpgv": file(GPGV, 0o755),
                      **entries})
    lock = quick.Locked((), brought or wants(), "")
    verdict = quick.judge(found, lock, {}, pycs or {}, ["step"])
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


def test_a_folder_that_its_package_makes_into_a_link_is_judged_by_its_rule():
    brought = wants(**{"var/lock": [Want("base-files 1", "folder", 0o1777)]})
    assert judged({"var/lock": link("/run/lock")}, brought) == {}
    assert judged({"var/lock": link("/usr/bin/evil")}, brought) \
        == {"var/lock": "leads to /usr/bin/evil"}


def test_what_is_missing_is_found():
    brought = wants(**{"usr/bin/gone": program(b"gone")})
    assert judged({}, brought) == {"usr/bin/gone": "is missing; tools 1 brings it"}


def test_what_nobody_brings_is_found():
    assert judged({"opt/evil": file(b"evil")}) \
        == {"opt/evil": "belongs to no locked package and to no known step"}


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
