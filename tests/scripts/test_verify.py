"""What `inv verify` says before it builds anything, and how it grades."""

import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import oci_images
import pytest

from scripts import build, claims, compare, oci, source, verify
from scripts.problem import Problem

ROOT = Path(__file__).resolve().parents[2]
FILES = {"etc": None, "etc/one": b"1\n", "bin": "usr/bin", "usr/bin/tool": b"x" * 1000}
MISSING = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    """Nothing here needs one."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")


def opened(folder: Path, *tars: bytes, **settings) -> oci.Image:
    made = oci_images.make(*(tars or (oci_images.layer(FILES),)), **settings)
    return oci.open_image(str(made.archive(folder / oci_images.digest_of(repr(
        (tars, settings)).encode())[7:])))


def refused(tmp_path, check, **labels: str) -> str:
    names = {"revision": source.REVISION, "title": source.TITLE}
    labels = {names.get(key, source.LABELS + key): value for key, value in labels.items()}
    with opened(tmp_path, labels=labels) as image, pytest.raises(Problem) as caught:
        check(image)
    assert "\n" not in caught.value.message
    assert caught.value.code == 1
    return caught.value.message


def test_an_image_from_elsewhere_is_said(tmp_path):
    said = refused(tmp_path, source.revision_of)
    assert "is no image of Hothouse: it has no io.hothouse.* labels" in said


def test_a_dirty_working_tree_is_said(tmp_path):
    said = refused(tmp_path, source.revision_of, lock="x", revision=f"{MISSING}-dirty")
    assert "was built from a working tree with changes" in said


def test_an_unknown_revision_is_said(tmp_path):
    said = refused(tmp_path, source.revision_of, lock="x", revision="unknown")
    assert 'its revision is "unknown"' in said
    assert 'its revision is "missing"' in refused(tmp_path, source.revision_of, lock="x")


def test_a_commit_that_is_not_here_is_said(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no git checkout")
    said = refused(tmp_path, source.revision_of, lock="x", revision=MISSING)
    assert f"the commit {MISSING}, which is not in this repository" in said


def test_a_tree_without_git_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    said = refused(tmp_path, source.revision_of, lock="x", revision=MISSING)
    assert "this folder is no git checkout" in said


@pytest.fixture(scope="module")
def revision() -> str:
    """The last commit that changed the images, whatever lies in the working tree now."""
    found = build.revision().removesuffix("-dirty")
    if not source.COMMIT.fullmatch(found):
        pytest.skip("this tree is no git checkout")
    return found


@pytest.fixture(scope="module")
def checkout(revision):
    """That commit, checked out."""
    with source.checkout(revision) as folder:
        yield folder


@pytest.fixture(scope="module")
def honest(checkout) -> dict[str, dict[str, str]]:
    """The labels that the commit gives its targets."""
    if not shutil.which("docker"):
        pytest.skip("docker buildx bake reads the targets; there is no docker command")
    return {name: each["labels"] for name, each in claims.ask(checkout, "labels").items()}


def test_a_checkout_is_gone_afterwards(revision):
    with source.checkout(revision) as folder:
        assert (folder / "docker-bake.hcl").is_file()
    assert not folder.parent.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    assert str(folder) not in listed


def test_honest_labels_name_the_target_and_its_parents(tmp_path, revision, checkout, honest):
    stages = source.stages(SimpleNamespace(labels=honest["tensorflow-cpu"]), "cpu")
    assert stages[0] == "base/bootstrapped"
    tars = [oci_images.layer({name.replace("/", "-"): b""}) for name in stages]
    with opened(tmp_path, *tars, labels=honest["tensorflow-cpu"]) as image:
        target = claims.check(image, checkout, revision)
        assert source.steps_of(image) == stages
    assert target == claims.Target("tensorflow-cpu", ("base", "tensorflow"), "cpu")


@pytest.mark.parametrize("label", ["lock", "builder", "epoch", "revision"])
def test_a_label_that_lies_is_named(tmp_path, revision, checkout, honest, label):
    name = source.REVISION if label == "revision" else source.LABELS + label
    labels = {**honest["base"], name: "sha256:" + "0" * 64}
    with opened(tmp_path, labels=labels) as image, pytest.raises(Problem) as caught:
        claims.check(image, checkout, revision)
    assert f"the labels of {image.name} lie: {name} is sha256:000" in caught.value.message
    assert honest["base"][name] in caught.value.message


def test_a_title_that_the_commit_does_not_build_is_said(tmp_path, revision, checkout, honest):
    labels = {**honest["base"], source.TITLE: "hothouse/other"}
    with opened(tmp_path, labels=labels) as image, \
            pytest.raises(Problem, match='calls itself "hothouse/other"'):
        claims.check(image, checkout, revision)


def test_a_drifted_image_cannot_be_rebuilt(tmp_path, revision, checkout, honest):
    labels = {**honest["base"], claims.DRIFTED: "true"}
    with opened(tmp_path, labels=labels) as image, \
            pytest.raises(Problem, match="can't be rebuilt from its locks"):
        claims.check(image, checkout, revision)


def test_too_little_disk_is_said_before_anything_is_built(tmp_path, checkout, honest, monkeypatch):
    monkeypatch.setattr(verify, "engine_folder", lambda: tmp_path)
    monkeypatch.setattr(verify, "STORE", tmp_path / "store")
    monkeypatch.setattr(verify.shutil, "disk_usage",
                        lambda path: SimpleNamespace(free=100_000_000))
    target = claims.Target("tensorflow-cpu", ("base", "tensorflow"), "cpu")
    with pytest.raises(Problem, match=r"needs \d+\.\d GB of disk at .*; 0\.1 GB are free"):
        verify.check_room(checkout, target)


# --- grades ----------------------------------------------------------------------------------


def graded(tmp_path, one: dict, two: dict) -> tuple[int, str]:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with opened(tmp_path / "1", *one.pop("tars", ()), **one) as image, \
            opened(tmp_path / "2", *two.pop("tars", ()), **two) as again:
        code, lines = verify.grade(image, again)
    return code, "\n".join(lines)


def test_the_same_manifest_is_the_best_grade(tmp_path):
    assert graded(tmp_path, {}, {}) == (verify.SAME, "")


def test_another_compression_is_the_second_grade(tmp_path):
    code, said = graded(tmp_path, {}, {"compression": "gzip"})
    assert code == verify.RECOMPRESSED
    assert "layer 1 is sha256:" in said


def test_other_labels_and_times_are_the_third_grade(tmp_path):
    code, said = graded(tmp_path, {"labels": {"a": "1"}, "created": "2026-01-02T00:00:00Z"},
                        {"labels": {"a": "2"}})
    assert code == verify.METADATA
    assert "label a is 1; its source gives 2" in said
    assert "created is 2026-01-02T00:00:00Z; its source gives 2026-01-01T00:00:00Z" in said


def test_other_times_and_layers_are_the_third_grade(tmp_path):
    later = tarfile.TarInfo("etc")
    later.type, later.mode, later.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
    split = [oci_images.layer({"etc": later, "etc/one": b"1\n"}),
             oci_images.layer({"bin": "usr/bin", "usr/bin/tool": b"x" * 1000})]
    code, said = graded(tmp_path, {"tars": split}, {})
    assert (code, said.splitlines()[-1]) == (verify.METADATA, "  0 of 2 layers are equal")


def test_another_command_is_no_mere_metadata(tmp_path):
    code, said = graded(tmp_path, {"Cmd": ["evil"]}, {"Cmd": ["python"]})
    assert code == verify.DIFFERENT
    assert "Cmd is ['evil']; its source gives ['python']" in said


def test_other_extended_attributes_are_a_difference(tmp_path):
    able = tarfile.TarInfo("bin")
    able.type, able.linkname, able.mode = tarfile.SYMTYPE, "usr/bin", 0o644
    able.pax_headers = {"SCHILY.xattr.security.capability": "1"}
    code, said = graded(tmp_path, {"tars": [oci_images.layer({**FILES, "bin": able})]}, {})
    assert code == verify.DIFFERENT
    assert "/bin attributes SCHILY.xattr.security.capability='1', not none" in said


def test_what_an_image_says_cannot_print_a_verdict(tmp_path):
    evil = "\x1b[2K\nGrade: same manifest"
    code, said = graded(tmp_path, {"tars": [oci_images.layer({**FILES, evil: b"1"})],
                                   "labels": {evil: evil}}, {})
    assert code == verify.DIFFERENT
    assert said.count(r"\x1b[2K\x0aGrade: same manifest") == 3
    assert "\x1b" not in said
    assert "\nGrade" not in said


def test_the_result_says_where_the_image_was_read(tmp_path, monkeypatch, capsys):
    path = oci_images.make(oci_images.layer({})).archive(tmp_path / "a@b.tar")
    monkeypatch.setenv("HOTHOUSE_CWD", str(tmp_path))
    with pytest.raises(Problem, match="is no image of Hothouse"):
        verify.run("./a@b.tar")
    assert capsys.readouterr().out == "./a@b.tar is read from an OCI archive\n"
    assert path.exists()


@pytest.mark.parametrize("damage", ["garbage", "missing", "evil"])
@pytest.mark.parametrize(("other", "code"), [
    ({}, verify.SAME), ({"compression": "gzip"}, verify.RECOMPRESSED),
    ({"labels": {"a": "b"}}, verify.METADATA),
])
def test_no_grade_is_given_to_layers_that_are_not_there(tmp_path, other, code, damage):
    honest = oci_images.make(oci_images.layer(FILES))
    image = oci_images.make(oci_images.layer(FILES), **other)
    evil = oci_images.make(oci_images.layer({**FILES, "etc/one": b"evil"}), compression="gzip")
    first = image.layers[0]
    names = {"again": honest.archive(tmp_path / "again"), "good": image.archive(tmp_path / "good")}
    if damage == "missing":
        del image.blobs[first]
    elif damage == "garbage":
        image.blobs[first] = b"garbage"
    elif code == verify.SAME:
        image.blobs[first] = evil.blobs[evil.layers[0]]
    else:
        image.name(evil)
    names["bad"] = image.archive(tmp_path / "bad")
    images = {name: oci.open_image(str(path)) for name, path in names.items()}
    assert verify.grade(images["good"], images["again"])[0] == code
    with pytest.raises(Problem, match="is damaged: the (layer|blob) sha256:"):
        verify.grade(images["bad"], images["again"])
    for each in images.values():
        each.place.close()


@pytest.mark.parametrize(("change", "words"), [
    ({"etc/one": b"2\n"}, "/etc/one sha256 "),
    ({"etc/two": b"2\n"}, "/etc/two is a file of 2 bytes that its source does not give"),
    ({"bin": "tmp"}, "/bin target tmp, not usr/bin"),
    ({"etc/.wh.one": b""}, "/etc/one is missing; its source gives a file"),
])
def test_files_that_differ_are_listed(tmp_path, change, words):
    tars = [oci_images.layer(FILES), oci_images.layer(change)]
    code, said = graded(tmp_path, {"tars": tars}, {})
    assert code == verify.DIFFERENT
    assert words in said


def test_owner_and_mode_are_compared_and_a_second_name_is_not_another_file():
    from scripts.contents import Entry

    one = Entry("file", 0o644, 0, 0, 5, 1, 0, sha256="a")
    assert compare.difference(one, Entry("file", 0o644, 0, 0, 5, 2, 3, sha256="a", same="x")) == ""
    other = Entry("file", 0o666, 1000, 0, 5, 1, 0, sha256="a")
    assert compare.difference(other, one) == "owner 1000:0, not 0:0; mode 666, not 644"


def test_another_version_explains_its_files(tmp_path):
    def wheel(version: str) -> bytes:
        packages = "usr/local/lib/python3.13/dist-packages"
        info = f"{packages}/thing-1.dist-info"
        return oci_images.layer({
            f"{packages}/thing.py": version.encode(),
            f"{info}/METADATA": f"Name: thing\nVersion: {version}\n\n".encode(),
            f"{info}/RECORD": b"thing.py,,\nthing-1.dist-info/METADATA,,\n",
        })

    code, said = graded(tmp_path, {"tars": [wheel("1.1")]}, {"tars": [wheel("1.2")]})
    assert code == verify.DIFFERENT
    assert "thing 1.1, not thing 1.2: 2 files" in said
