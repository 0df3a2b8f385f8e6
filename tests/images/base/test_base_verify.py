"""The base image is what its source gives, by a rebuild and file by file; a changed one is not."""

import re
import subprocess

import containers
import pytest
import verifying
from containers import ROOT

IMAGE = "hothouse/base:latest"


@pytest.fixture(scope="module", autouse=True)
def revision(locked_bytes) -> str:
    return verifying.needs_a_commit(IMAGE)


def test_a_rebuild_gives_the_same_manifest(revision):
    status, said, progress = verifying.verify(IMAGE)
    assert status == 0, said + progress
    assert f"source   {revision}" in said
    assert "Grade: same manifest" in said
    prefix = re.search(r"hothouse-verify-\w+/", progress)[0]
    assert not [name for name in verifying.images() if name.startswith(prefix)]
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    assert "/verify-" not in listed


def test_a_changed_image_is_not_what_its_source_gives(tmp_path):
    with verifying.child(IMAGE, tmp_path, "echo evil >> /etc/motd", "rm /usr/bin/tini-static",
                         "chmod 777 /usr/bin/env") as name:
        status, said, error = verifying.verify(name)
    assert status == 4, said + error
    assert "/etc/motd size 291, not 286; sha256 " in said
    assert "/usr/bin/tini-static is missing; its source gives a file" in said
    assert "/usr/bin/env mode 777, not 755" in said
    assert error.splitlines()[-1].startswith(f"error: {name} is not what its source gives")


def test_every_file_is_explained_by_the_locks():
    status, said, error = verifying.verify(IMAGE, "--quick")
    assert status == 0, said + error
    assert "Not explained" not in said
    assert "base/bootstrapped: dpkg: /var/lib/dpkg/" in said
    assert "Every file is explained" in said


def test_an_archive_is_checked_without_an_engine(tmp_path, monkeypatch):
    archive = tmp_path / "base.tar"
    containers.docker("save", "--output", str(archive), IMAGE)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    status, said, error = verifying.verify("--quick", str(archive))
    assert status == 0, said + error
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    status, said, error = verifying.verify("--quick", str(archive))
    assert status == 1
    assert "is damaged: the layer sha256:" in error.splitlines()[-1]


def test_a_label_that_lies_is_one_line(tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL io.hothouse.lock=sha256:0\n")
    name = containers.unique("lie")
    try:
        containers.docker("build", "--quiet", "--tag", name, str(tmp_path))
        status, said, error = verifying.verify(name)
    finally:
        containers.docker("image", "rm", "--force", name, check=False)
    assert (status, said) == (1, f"{name} is read from the engine\n")
    assert f"the labels of {name} lie: io.hothouse.lock is sha256:0, but the commit" in error


def test_an_image_that_is_not_there_is_one_line():
    status, said, error = verifying.verify("hothouse-nothing/base")
    assert (status, said) == (1, "")
    assert error.startswith("error: no image hothouse-nothing/base: the engine has none")
    assert len(error.splitlines()) == 1
