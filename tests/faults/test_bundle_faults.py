"""A rebuild from a bundle in a place with no network at all; and what can be wrong with a bundle.

The network is cut by a network namespace of the command's own, in which there is not even a
loopback address. The engine's socket is a file, so it is reached; its build steps have no network.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import containers
import pytest
import trees

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="not run: only root can cut the network off"),
    pytest.mark.skipif(not shutil.which("unshare"), reason="not run: no unshare here"),
]
WHO = ("-c", "user.name=test", "-c", "user.email=test@hothouse.invalid")


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *WHO, *arguments], cwd=root, check=True, capture_output=True)


def cut_off(root: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    """Start a command where there is no network, in a folder."""
    return subprocess.Popen(
        ["unshare", "--net", *words], cwd=root, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        env={**os.environ, **settings},
    )


def digests(said: str) -> list[str]:
    """The lines with an image's name and its digests."""
    return [line for line in said.splitlines() if "  manifest sha256:" in line]


@pytest.fixture(scope="module")
def repository(tmp_path_factory, locked_bytes) -> trees.Tree:
    """A git checkout of this source, whose images have names of their own."""
    it = trees.copy(tmp_path_factory.mktemp("repository"))
    git(it.root, "init", "--quiet")
    git(it.root, "add", "--all")
    git(it.root, "commit", "--quiet", "--message", "as it is here")
    try:
        yield it
    finally:
        containers.docker("image", "rm", "--force", f"{it.tag}/base:latest", check=False)


@pytest.fixture(scope="module")
def built(repository) -> list[str]:
    """What the normal build of the base image says of it."""
    said = digests(repository.works("build", "base", limit=400))
    assert len(said) == 1
    return said


@pytest.fixture(scope="module")
def bundle(repository, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "the bundle.tar"
    said = repository.works("bundle", "--output", str(path), limit=400)
    assert "writing the bundle: " in said
    return path


def test_the_network_is_cut_off_here(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        subprocess.run([sys.executable, "-c", code], check=True)
        status, said = trees.finish(cut_off(tmp_path, sys.executable, "-c", code))
    assert status != 0
    assert "Network is unreachable" in said


def test_an_unpacked_bundle_builds_the_same_image_without_any_network(built, bundle, tmp_path):
    """The steps of docs/reproducibility.md, in an empty folder."""
    subprocess.run(["tar", "xf", bundle], cwd=tmp_path, check=True, umask=0o077)
    [root] = tmp_path.iterdir()
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict",
                    ".artifacts/bundle/manifest.sha256"], cwd=root, check=True)
    settings = {"TZ": "Asia/Tokyo", "LC_ALL": "C"}
    status, said = trees.finish(cut_off(root, "scripts/inv", "lock", "--check", **settings))
    assert status == 0, said
    assert "Debian packages of the lock are those that Debian signed." in said
    status, said = trees.finish(
        cut_off(root, "scripts/inv", "build", "base", "--no-cache", **settings), limit=600
    )
    assert status == 0, said
    assert digests(said) == built


def test_build_takes_a_bundle_whatever_the_checkout_holds(repository, built, bundle, tmp_path):
    other = tmp_path / "a clone"
    git(tmp_path, "clone", "--quiet", str(repository.root), str(other))
    with (other / "images/base/Dockerfile").open("a") as file:
        file.write("# of a later day\n")
    git(other, "commit", "--quiet", "--all", "--message", "later")
    # The tools of the checkout itself: made where there is a network. Its store stays empty.
    trees.Tree(other, repository.tag).works("--list")
    before = sorted((other / ".artifacts").iterdir())
    assert not (other / ".artifacts/store").exists()
    process = cut_off(other, "scripts/inv", "build", "base", "--bundle", str(bundle))
    status, said = trees.finish(process, limit=600)
    assert status == 0, said
    assert digests(said) == built
    assert "The bundle is whole: commit " in said
    assert "note: this checkout's images are of revision" in said
    assert sorted((other / ".artifacts").iterdir()) == before


def test_a_damaged_bundle_is_refused_before_anything_is_built(repository, bundle, tmp_path):
    copy = tmp_path / "damaged.tar"
    shutil.copy(bundle, copy)
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    said = repository.fails("build", "base", "--bundle", str(copy))
    assert "the bundle is damaged: .artifacts/store/sha256/" in said
    os.truncate(copy, size // 3)
    assert "the bundle is cut off in .artifacts/store/sha256/" in (
        repository.fails("build", "--bundle", str(copy))
    )
    assert not list((repository.root / ".artifacts").glob("unbundled-*"))


def test_what_a_bundle_cannot_build_is_named(repository, bundle):
    assert "there is no bundle" in repository.fails("build", "--bundle", "nowhere.tar")
    said = repository.fails("build", "tensorflow-cuda", "--bundle", str(bundle))
    assert "the bundle holds the variant cpu, not what tensorflow-cuda needs" in said
    assert 'no target "jupiter"' in repository.fails("build", "jupiter", "--bundle", str(bundle))


def test_ctrl_c_while_a_bundle_is_built_is_one_line_and_leaves_nothing(repository, bundle):
    process = repository.start("build", "base", "--no-cache", "--bundle", str(bundle))
    said = ""
    try:
        said = trees.read_until(process, "build-base /mnt/debs")
        os.killpg(process.pid, signal.SIGINT)
    finally:
        status, said = trees.finish(process, said, limit=90)
    assert status == 130, said
    assert "interrupted" in trees.the_error(said)
    assert not list((repository.root / ".artifacts").glob("unbundled-*"))
