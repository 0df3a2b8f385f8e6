"""Bundles that are damaged, cut off or lie: each is refused in one line that names the member."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import bundle, gittree, unbundle
from scripts.bundle import Member
from scripts.problem import Problem

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="not run: no git here")
TOP = "hothouse-cpu-0123456789ab"
FILES = {
    "README.md": b"words\n",
    "docker-bake.hcl": b"target\n",
    "images/base/Dockerfile": b"FROM scratch\n",
    # Git sorts a folder as "base/", after these two.
    "images/base-2": b"",
    "images/base.x": b"x" * 5000,
    "images/z\u00e4h": b"a name that is no ASCII",
    "scripts/inv": b"#!/bin/sh\n",
}
STORED = random.Random(0).randbytes(100_000)


def git(root: Path, *arguments: str) -> bytes:
    who = ("-c", "user.name=test", "-c", "user.email=test@hothouse.invalid")
    return subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True,
                          env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}).stdout


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        (root / name).chmod(0o755 if name == "scripts/inv" else 0o644)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "one")
    return root


@pytest.fixture(scope="session")
def whole(repository: Path) -> list[Member]:
    """The members of a good bundle of the repository, without the manifest."""
    commit = git(repository, "rev-parse", "HEAD").decode().strip()
    about = {"format": 1, "commit": commit, "revision": commit, "variant": "cpu"}
    digest = hashlib.sha256(STORED).hexdigest()
    members = [bundle.of_bytes(name, content, name == "scripts/inv")
               for name, content in FILES.items()]
    members += [
        bundle.of_bytes(f"{bundle.RECORD}/bundle.json", json.dumps(about).encode()),
        bundle.of_bytes(f"{bundle.RECORD}/commit", git(repository, "cat-file", "commit", commit)),
        bundle.of_bytes(f"{bundle.RECORD}/revision.commit",
                        git(repository, "cat-file", "commit", commit)),
        bundle.of_bytes(f"{bundle.RECORD}/revision.tree",
                        git(repository, "cat-file", "tree", f"{commit}^{{tree}}")),
        bundle.of_bytes(f".artifacts/store/sha256/{digest[:2]}/{digest}", STORED),
    ]
    return sorted(members, key=lambda member: member.path)


def write(path: Path, members: list[Member], manifest: bytes | None = None) -> Path:
    manifest = bundle.manifest_of(members) if manifest is None else manifest
    bundle.write_tar(path, TOP, [bundle.of_bytes(bundle.MANIFEST, manifest), *members], 0)
    return path


@pytest.fixture
def good(tmp_path: Path, whole: list[Member]) -> Path:
    return write(tmp_path / "bundle.tar", whole)


def refused(path: Path, folder: Path) -> str:
    target = folder / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    with pytest.raises(Problem) as caught:
        unbundle.about(unbundle.unpack(path, target))
    assert "\n" not in caught.value.message
    return caught.value.cause


def place_of(path: Path, member: str) -> tarfile.TarInfo:
    with tarfile.open(path) as tar:
        return tar.getmember(f"{TOP}/{member}")


def test_a_good_bundle_is_unpacked_as_git_has_it(good, tmp_path, repository, whole):
    old = os.umask(0o077)
    try:
        root = unbundle.unpack(good, tmp_path / "out")
    finally:
        os.umask(old)
    it = unbundle.about(root)
    assert it.commit == it.revision == git(repository, "rev-parse", "HEAD").decode().strip()
    for member in whole:
        path = root / member.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == member.sha256
        assert path.stat().st_mode & 0o777 == (0o755 if member.executable else 0o644)


def test_trees_have_the_ids_that_git_gives(repository):
    tree = git(repository, "rev-parse", "HEAD^{tree}").decode().strip()
    inner = git(repository, "rev-parse", "HEAD:images").decode().strip()
    assert gittree.entry_of(repository / "images") == ("40000", inner)
    files = {}
    for line in git(repository, "ls-tree", "-rz", "HEAD").decode().split("\0")[:-1]:
        head, _, path = line.partition("\t")
        files[path] = (head.split()[0], head.split()[2])
    assert gittree.tree_id(files) == tree


def test_a_damaged_member_is_named_whichever_it_is(good, tmp_path, whole):
    content = good.read_bytes()
    for member in whole:
        if not member.size:
            continue
        info = place_of(good, member.path)
        for at in (info.offset_data, info.offset_data + info.size - 1):
            good.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert f"is damaged: {member.path} is not what" in refused(good, tmp_path)


def test_a_damaged_header_is_named_by_its_member(good, tmp_path, whole):
    content = good.read_bytes()
    places = [place_of(good, member.path).offset_data for member in whole]
    for member, place in zip(whole, places, strict=True):
        at = place - 500  # in the field of its name
        good.write_bytes(content[:at] + b"\x7f" + content[at + 1 :])
        assert f"is cut off or damaged at {member.path}" in refused(good, tmp_path)


def test_a_damaged_manifest_is_told_from_a_damaged_member(good, tmp_path):
    content = good.read_bytes()
    info = place_of(good, bundle.MANIFEST)
    for at in range(info.offset_data, info.offset_data + info.size, 61):
        good.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert refused(good, tmp_path) == "the bundle has a damaged manifest"


def test_a_bundle_that_is_cut_off_is_named_wherever_that_is(good, tmp_path, whole):
    content = good.read_bytes()
    places = [place_of(good, member.path) for member in whole]
    for member, info in zip(whole, places, strict=True):
        for size in {info.offset_data + info.size // 2, info.offset_data - 100}:
            if not member.size:
                continue
            good.write_bytes(content[:size])
            cause = refused(good, tmp_path)
            assert "cut off" in cause
            assert member.path in cause
    good.write_bytes(content[:700])
    assert "manifest" in refused(good, tmp_path)
    good.write_bytes(b"")
    assert "is no Hothouse bundle" in refused(good, tmp_path)
    good.write_bytes(content[:-bundle.BLOCK])  # zeros at its end say nothing
    unbundle.unpack(good, tmp_path / "fine")


@pytest.mark.parametrize("position", [0, 3, -1])
def test_a_missing_member_is_named(tmp_path, whole, position):
    manifest = bundle.manifest_of(whole)
    gone = whole[position]
    rest = [member for member in whole if member is not gone]
    cause = refused(write(tmp_path / "b.tar", rest, manifest), tmp_path)
    assert cause in (f"the bundle lacks {gone.path}",
                     f"the bundle is cut off or damaged at {gone.path}")


@pytest.mark.parametrize("name", ["images/extra", "zzz", "README.md", "../outside", "/etc/outside"])
def test_an_extra_member_is_named(tmp_path, whole, name):
    extra = bundle.of_bytes(name, b"more")
    manifest = bundle.manifest_of(whole)
    for members in ([*whole, extra], [extra, *whole], [*whole[:4], extra, *whole[4:]]):
        path = write(tmp_path / "b.tar", members, manifest)
        cause = refused(path, tmp_path)
        # README.md twice: the second one is where another should be.
        assert f"holds {name}" in cause or (name == "README.md" and "the bundle lacks " in cause)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", [
    "../outside", "/etc/outside", "a/../../outside", "a//b", "./a", "README.md/a", "images",
])
def test_a_manifest_that_leads_outside_is_refused(tmp_path, whole, name):
    members = [*whole, bundle.of_bytes(name, b"more")]
    assert "has a manifest of no known form" in (
        refused(write(tmp_path / "b.tar", members), tmp_path)
    )
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", [
    ".artifacts/context/base/bootstrap.tar", ".artifacts/context/base/bootstrap.key",
    ".artifacts/build/base.json", ".artifacts/drift/packages.lock", ".artifacts/tools/deep/a.whl",
    f".artifacts/store/sha256/11/{'0' * 64}", ".artifacts/bundle/more",
    ".artifacts", ".artifacts/bundle", bundle.MANIFEST, f"{bundle.MANIFEST}/x",
])
def test_what_no_build_reads_is_refused_below_artifacts(tmp_path, whole, name):
    """Most of all a builder's root: the next build would take it for its own."""
    members = sorted([*whole, bundle.of_bytes(name, b"evil")], key=lambda member: member.path)
    assert refused(write(tmp_path / "b.tar", members), tmp_path) == (
        f"the bundle holds {name}, which no build needs"
    )


def test_a_stored_file_whose_name_is_not_its_hash_is_refused(tmp_path, whole):
    name = f".artifacts/store/sha256/00/{'0' * 64}"
    members = [*whole, bundle.of_bytes(name, b"evil")]
    assert refused(write(tmp_path / "b.tar", members), tmp_path) == (
        f"the bundle holds {name}, which has another hash"
    )


def test_a_link_in_the_place_of_a_file_is_refused(good, tmp_path):
    out = io.BytesIO()
    with tarfile.open(good) as tar, tarfile.open(fileobj=out, mode="w") as changed:
        for member in tar:
            content = tar.extractfile(member)
            if member.name.endswith("/README.md"):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
                content = None
            changed.addfile(member, content)
    good.write_bytes(out.getvalue())
    assert refused(good, tmp_path) == "the bundle holds README.md, which is no plain file"


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "deep/" * 2000 + "a"], ids=["", "nul", "deep"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, whole, name):
    path = write(tmp_path / "b.tar", [*whole, bundle.of_bytes(name, b"more")])
    cause = refused(path, tmp_path)
    assert "which no file here can be called" in cause or "which its manifest does not" in cause


def test_a_sparse_file_is_refused_before_it_is_unpacked(good, tmp_path, whole):
    """It takes no room in the bundle, and as much on the disk as it likes."""
    content, size = good.read_bytes(), 200_000_000
    info = tarfile.TarInfo(f"{TOP}/{whole[0].path}")
    info.size, info.type = 0, tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (size, 0)  # its one piece: empty, at the end
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    at = place_of(good, whole[0].path).offset
    good.write_bytes(content[:at] + bytes(header) + content[at:])
    assert refused(good, tmp_path) == f"the bundle holds {whole[0].path}, which is no plain file"
    assert sum(path.stat().st_size for path in (tmp_path / "unpacked").rglob("*")) < size


def test_something_after_the_end_is_refused(good, tmp_path, whole):
    with good.open("ab") as file:
        file.write(b"\0" * 4096 + b"more")
    assert refused(good, tmp_path) == "the bundle holds something after its last member"


def changed(whole: list[Member], path: str, change: Callable[[bytes], bytes]) -> list[Member]:
    """The members with other bytes in one, and with a manifest to fit: not an accident, a lie."""
    return [bundle.of_bytes(m.path, change(m.source), m.executable) if m.path == path else m
            for m in whole]


def test_other_source_than_the_commits_is_refused(tmp_path, whole, repository):
    members = changed(whole, "images/base/Dockerfile", lambda text: text + b"RUN evil\n")
    commit = git(repository, "rev-parse", "HEAD").decode().strip()
    assert refused(write(tmp_path / "b.tar", members), tmp_path) == (
        f"the bundle holds other source than commit {commit}"
    )
    # The same bytes, but one may be run.
    members = [bundle.of_bytes(m.path, m.source, True) if m.path == "README.md" else m
               for m in whole]
    assert "holds other source than commit" in refused(write(tmp_path / "b.tar", members), tmp_path)


def test_a_revision_that_lies_is_refused(tmp_path, whole):
    name = f"{bundle.RECORD}/bundle.json"

    def says_of(key: str) -> Callable[[bytes], bytes]:
        return lambda text: json.dumps({**json.loads(text), key: "0" * 40}).encode()

    for key, says in (("commit", "names a commit that it is not of"),
                      ("revision", "names a revision that its images are not of")):
        members = changed(whole, name, says_of(key))
        assert says in refused(write(tmp_path / "b.tar", members), tmp_path)
    members = changed(whole, name, lambda _: b"{}")
    assert "says nothing of itself" in refused(write(tmp_path / "b.tar", members), tmp_path)
    members = changed(whole, name, lambda text: text.replace(b'"format": 1', b'"format": 2'))
    assert "is of format 2" in refused(write(tmp_path / "b.tar", members), tmp_path)
    name = f"{bundle.RECORD}/commit"
    path = write(tmp_path / "b.tar", changed(whole, name, lambda _: _.replace(b"one", b"two")))
    assert "names a commit that it is not of" in refused(path, tmp_path)


@pytest.mark.parametrize("variant", ["gpu", ["cpu"], {}, None, 7])
def test_a_variant_that_there_is_not_is_named(tmp_path, whole, variant):
    name = f"{bundle.RECORD}/bundle.json"
    members = changed(whole, name, lambda text: json.dumps(
        {**json.loads(text), "variant": variant}).encode())
    cause = refused(write(tmp_path / "b.tar", members), tmp_path)
    assert cause.startswith("the bundle is of no known variant: ")


@pytest.mark.parametrize(("target", "variant"), [
    ("cuda", "cuda"), ("all", "all"), ("jupyter-cuda", "cuda"),
])
def test_a_target_that_the_bundle_lacks_packages_for_is_refused(
    good, tmp_path, monkeypatch, target, variant
):
    monkeypatch.setattr(unbundle, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(unbundle, "inside", lambda *_: pytest.fail("built"))
    with pytest.raises(Problem) as caught:
        unbundle.run(str(good), target)
    assert caught.value.cause == f"the bundle holds the variant cpu, not what {target} needs"
    assert caught.value.fix == f"make one with scripts/inv bundle --variant {variant}"


@pytest.mark.parametrize(("target", "built"), [
    (None, "jupyter-cpu"), ("base", "base"), ("cpu", "cpu"), ("tensorflow-cpu", "tensorflow-cpu"),
    ("jupiter", "jupiter"),  # the bundle's own docker-bake.hcl says that there is none
])
def test_a_target_that_the_bundle_has_all_for_is_built(good, tmp_path, monkeypatch, target, built):
    monkeypatch.setattr(unbundle, "ARTIFACTS", tmp_path / "artifacts")
    said = []
    monkeypatch.setattr(unbundle, "inside", lambda _, *words: said.append(words))
    unbundle.run(str(good), target)
    assert said[-1] == ("build", built)
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_file_that_is_no_bundle_is_named(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(random.Random(1).randbytes(5000))
    assert f"{path} is no Hothouse bundle" in refused(path, tmp_path)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("a/b"))
    assert f"{path} is no Hothouse bundle" in refused(path, tmp_path)
    with pytest.raises(Problem, match="there is no bundle .*missing"):
        unbundle.run(str(tmp_path / "missing"))
