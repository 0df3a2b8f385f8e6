"""`inv bundle` on a small git checkout with locks of its own: the same bytes, and what is in it.

The commands run as a user runs them, in a process of their own, with this environment's Python.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from worlds import INPUTS, World, keyring_deb

from scripts import bundle, locks, tools
from scripts.paths import ROOT
from scripts.problem import Problem

pytestmark = pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("git")),
    reason="not run: no apt-get or git here, and this needs a lock and a checkout",
)
WHO = {
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@hothouse.invalid",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@hothouse.invalid",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass
class Checkout:
    """A git checkout whose commands are run."""

    root: Path

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env={**os.environ, **WHO}, check=True,
            capture_output=True, text=True,
        ).stdout.strip()

    def inv(self, *words: str, umask: int = -1, **settings: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "scripts.cli", *words], cwd=self.root, text=True, umask=umask,
            env={**os.environ, "HOTHOUSE_CWD": str(self.root), **settings},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        )
        return done.returncode, done.stdout

    def bundle(self, *words: str, umask: int = -1, **settings: str) -> Path:
        status, said = self.inv("bundle", *words, umask=umask, **settings)
        assert status == 0, said
        line = next(line for line in said.splitlines() if " sha256:" in line)
        path = self.root / line.split("  ")[0]
        assert line.endswith(f" sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
        return path

    def refused(self, *words: str) -> str:
        status, said = self.inv(*words)
        assert status == 1, said
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert errors == said.splitlines()[-1:], said
        return errors[0]


@pytest.fixture
def checkout(world: World, tmp_path: Path) -> Checkout:
    """A commit of this source with the tiny archive's locks."""
    # The machine's keyring does not know the test's key: the locked package brings it.
    world.deb("debian-archive-keyring", "2025.1", "Essential: yes\n",
              content=keyring_deb(world.keys.public))
    world.lock()
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copytree(ROOT / "scripts", root / "scripts",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks.py", "docker-bake.hcl", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(world.images, root / "images")
    wanted = []
    for name in ("tiny-tool", "other-tool"):
        _, _, content = world.server.add_wheel(name, "1.0")
        wanted.append(f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    (root / "scripts/requirements.txt").write_text("".join(wanted))
    made = Checkout(root)
    made.git("init", "--quiet")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "a commit")
    (root / "README.md").write_text("changes no image\n")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "another")
    return made


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name.partition("/")[2]: member for member in tar}


def test_two_bundles_of_a_commit_are_the_same_file(checkout, tmp_path):
    first = checkout.bundle()
    other = tmp_path / "elsewhere" / "with a space"
    other.parent.mkdir()
    checkout.git("clone", "--quiet", str(checkout.root), str(other))
    for file in other.rglob("*"):
        os.utime(file, (1, 1))
    # Nothing in its store: all is fetched anew.
    second = Checkout(other).bundle(
        "--output", "a bundle.tar", umask=0o077, TZ="Asia/Tokyo", LC_ALL="C", LANG="tr_TR.UTF-8",
        PYTHONHASHSEED="7", HOME=str(tmp_path),
    )
    assert second == other / "a bundle.tar"
    assert second.read_bytes() == first.read_bytes()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members(first).values()} == {
        (0, 0, "", "", locks.epoch(checkout.root / "images/epoch.lock"))
    }


def test_a_bundles_bytes_depend_on_no_version_of_python(tmp_path):
    files = [
        bundle.of_bytes("a", b"1"),
        bundle.of_bytes(".artifacts/store/sha256/00/" + "0" * 64, b"2" * 1000),
        bundle.of_bytes("scripts/inv", b"3", executable=True),
    ]
    top = "hothouse-cpu-0123456789ab"
    digest = bundle.write_tar(tmp_path / "tar", top, files, 1795219200)
    assert digest == hashlib.sha256((tmp_path / "tar").read_bytes()).hexdigest()
    # Of Python 3.10 to 3.13. Where another one writes other bytes, two machines would differ.
    assert digest == GOLDEN


GOLDEN = "348caf9105b7ee36da7d2dab549fb6ac3293b2b80bd52c2de8c1520625491925"


def test_a_bundle_holds_all_that_a_build_needs_and_tar_unpacks_it(checkout, tmp_path, world):
    path = checkout.bundle()
    found = members(path)
    # What git has, and nothing else of the folder.
    tracked = set(checkout.git("ls-files").splitlines())
    assert tracked == {name for name in found if not name.startswith(".artifacts/")}
    stored = {name.rpartition("/")[2] for name in found if "/store/" in name}
    assert {p.sha256 for p in world.packages("base").values()} < stored
    wheels = {n: p for i in ("tensorflow", "jupyter") for n, p in world.packages(i).items()}
    assert {n for n, p in wheels.items() if p.sha256 not in stored} == {
        "tensorflow", "nvidia-cudnn-cu12"
    }
    indexes = {row.split()[0] for rows in world.rows.values() for row in rows.splitlines()
               if row.endswith(".xz")}
    assert indexes < stored
    assert {name for name in found if name.startswith(".artifacts/tools/")} == {
        ".artifacts/tools/tiny_tool-1.0-py3-none-any.whl",
        ".artifacts/tools/other_tool-1.0-py3-none-any.whl",
    }
    subprocess.run(["tar", "xf", path], cwd=tmp_path, check=True)
    [root] = tmp_path.glob("hothouse-cpu-*")
    check = ["sha256sum", "--check", "--quiet", "--strict", bundle.MANIFEST]
    subprocess.run(check, cwd=root, check=True)
    listed = {line.split("  ", 1)[1] for line in
              (root / bundle.MANIFEST).read_text().splitlines()[1:]}
    assert listed == set(found) - {bundle.MANIFEST}
    about = json.loads((root / bundle.RECORD / "bundle.json").read_text())
    assert about["commit"] == checkout.git("rev-parse", "HEAD")
    # The last commit changed no image.
    assert about["revision"] == checkout.git("rev-parse", "HEAD^")
    assert os.access(root / "scripts/inv", os.X_OK)
    # An index or a mirror is not asked any more.
    world.server.files.clear()
    world.server.projects.clear()
    status, said = Checkout(root).inv("lock", "--check")
    assert status == 0, said
    assert "All 8 Debian packages of the lock are those that Debian signed." in said
    # Neither are packages that are gone from there: a .deb replaced, a wheel withdrawn.
    shutil.rmtree(checkout.root / ".artifacts/store")
    assert "gone" in checkout.refused("fetch")
    world.server.asked.clear()
    status, said = Checkout(root).inv("fetch")
    assert status == 0, said
    assert world.server.asked == []


def test_the_revision_of_an_unpacked_bundle_is_proved_not_believed(checkout, tmp_path):
    subprocess.run(["tar", "xf", checkout.bundle()], cwd=tmp_path, check=True)
    [root] = tmp_path.glob("hothouse-cpu-*")

    def revision() -> str:
        code = "from scripts import build; print(build.revision())"
        return subprocess.run([sys.executable, "-c", code], cwd=root, check=True,
                              capture_output=True, text=True).stdout.strip()

    true = checkout.git("rev-parse", "HEAD^")
    assert revision() == true
    (root / "README.md").write_text("no image is made from it\n")
    assert revision() == true
    file = root / "docker-bake.hcl"
    file.chmod(0o755)
    assert revision() == f"{true}-dirty"
    file.chmod(0o600)
    assert revision() == true
    extra = root / "images/base/more"
    extra.write_text("")
    assert revision() == f"{true}-dirty"
    extra.unlink()
    extra.mkdir()
    assert revision() == f"{true}-dirty"
    extra.rmdir()
    assert revision() == true
    commit = root / bundle.RECORD / "revision.commit"
    commit.write_bytes(commit.read_bytes().replace(b"a commit", b"a c0mmit"))
    assert revision() != true
    commit.write_bytes(b"tree " + b"0" * 40 + b"\n")
    assert revision() == "unknown"


def test_a_variant_holds_its_own_wheels(checkout, world):
    both = members(checkout.bundle("--variant", "all"))
    cuda = members(checkout.bundle("--variant", "cuda"))
    wheels = world.packages("tensorflow")

    def holds(found: dict, name: str) -> bool:
        digest = wheels[name].sha256
        return f".artifacts/store/sha256/{digest[:2]}/{digest}" in found

    assert [holds(both, name) for name in ("tensorflow", "tensorflow-cpu")] == [True, True]
    assert [holds(cuda, name) for name in ("tensorflow", "tensorflow-cpu")] == [True, False]
    assert 'no variant "gpu"' in checkout.refused("bundle", "--variant", "gpu")


def test_a_dirty_tree_is_refused(checkout):
    file = checkout.root / "images/base/packages.in"
    file.write_text(INPUTS["base/packages.in"] + "tini\n")
    assert "the working tree differs from its commit: images/base/packages.in" in (
        checkout.refused("bundle")
    )
    file.write_text(INPUTS["base/packages.in"])
    (checkout.root / "images/new").write_text("")
    assert "the working tree differs from its commit: images/new" in checkout.refused("bundle")
    (checkout.root / "images/new").unlink()
    checkout.bundle()


def test_what_git_ignores_in_the_folder_does_not_matter(checkout):
    path = checkout.bundle()
    content = path.read_bytes()
    (checkout.root / "images/base/__pycache__").mkdir()
    (checkout.root / "images/base/__pycache__/x.pyc").write_text("no part of the commit")
    assert checkout.bundle().read_bytes() == content


def test_a_shallow_clone_is_refused(checkout, tmp_path):
    clone = Checkout(tmp_path / "clone")
    checkout.git("clone", "--quiet", "--depth", "1", f"file://{checkout.root}", str(clone.root))
    said = clone.refused("bundle")
    assert "this clone is shallow" in said
    assert said.endswith("Fix: git fetch --unshallow")


def test_a_link_in_the_source_is_refused(checkout):
    (checkout.root / "link").symlink_to("README.md")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "a link")
    assert "link is no plain file" in checkout.refused("bundle")


def test_a_folder_without_git_is_refused(checkout):
    shutil.rmtree(checkout.root / ".git")
    assert "git" in checkout.refused("bundle")


def test_a_file_that_was_damaged_in_the_store_is_fetched_again(checkout, world):
    path = checkout.bundle()
    name = next(name for name in members(path) if "/store/" in name)
    kept = path.read_bytes()
    for package in (world.packages("base")["libx"], world.packages("jupyter")["scipy"]):
        stored = checkout.root / f".artifacts/store/sha256/{package.sha256[:2]}/{package.sha256}"
        stored.write_bytes(b"x" * package.size)
    stored = checkout.root / name
    stored.write_bytes(b"x" * stored.stat().st_size)
    assert checkout.bundle().read_bytes() == kept


def test_a_file_that_changes_while_the_bundle_is_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"one")
    good = hashlib.sha256(b"two").hexdigest()
    member = bundle.Member("a", 3, good, False, tmp_path / "file")
    with pytest.raises(Problem, match="file is damaged in the store"):
        bundle.write_tar(tmp_path / "tar", "top", [member], 0)


def test_a_lock_that_debian_did_not_sign_is_not_bundled(checkout):
    path = checkout.root / "images/base/release/trixie.InRelease.xz"
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()).replace(b"amd64", b"arm64")))
    checkout.git("commit", "--quiet", "--all", "--message", "a lie")
    assert "was changed after it was signed" in checkout.refused("bundle")


@pytest.mark.skipif(os.getuid() != 0, reason="not run: only root can mount a small disk")
def test_a_disk_that_is_too_small_is_named_before_anything_is_written(checkout, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {small} && "
        f"{sys.executable} -m scripts.cli bundle --output {small}/x.tar; "
        f"status=$?; ls -A {small}; exit $status"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=checkout.root, capture_output=True,
        text=True, check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is full: the bundle needs " in done.stderr
    assert " free. Fix: free some space" in done.stderr
    assert "x.tar" not in done.stdout


def test_a_file_that_is_too_large_for_its_disk_is_one_line(checkout):
    """As on a USB stick, whose file system ends at 4 GiB; here a limit of the process does."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from scripts import cli; cli.main(['inv', 'bundle', '--output', 'small.tar'])"
    )
    checkout.bundle()  # all is fetched, so that the bundle alone is written
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout.root, capture_output=True,
                          text=True, env={**os.environ, "HOTHOUSE_CWD": str(checkout.root)},
                          check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == (f"error: {checkout.root}/small.tar can't be written: File too large. "
                           "Fix: name another file or disk\n")
    assert not list(checkout.root.glob("*small.tar*"))


def test_a_name_that_is_too_long_is_one_line(checkout):
    for length in (300, 250):  # the second one only with what is added to it for a while
        said = checkout.refused("bundle", "--output", "n" * length)
        assert "can't be written: File name too long" in said


def test_no_half_file_is_left_after_an_interruption(checkout):
    code = (
        "import os, signal\nfrom scripts import bundle, cli\n"
        "real = bundle._Reader.read\n"
        "def read(self, size=-1):\n"
        "    if self.member.path == 'tasks.py': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(self, size)\n"
        "bundle._Reader.read = read\n"
        "cli.main(['inv', 'bundle', '--output', 'half.tar'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout.root, text=True,
                          capture_output=True, check=False,
                          env={**os.environ, "HOTHOUSE_CWD": str(checkout.root)})
    assert done.returncode == 130, done.stdout + done.stderr
    assert "interrupted" in done.stderr
    assert not list(checkout.root.glob("*half.tar*"))
    assert not list(checkout.root.glob(".*half.tar*"))


def test_the_tools_of_every_python_are_chosen_by_hash():
    text = (ROOT / "scripts/requirements.txt").read_text()
    entries = tools.locked(text)
    assert {name for name, *_ in entries} >= {"invoke", "rich", "requests", "uv", "pydantic-core"}
    assert len(entries) == sum("==" in line and line[0].isalnum() for line in text.splitlines())
    assert all(digests for *_, digests in entries)
    assert sum(len(digests) for *_, digests in entries) == text.count("--hash=sha256:")
    for python in tools.PYTHONS:
        ranks = {str(tag): rank for tag, rank in tools.tags(python).items()}
        own = f"cp3{python[1]}"
        assert ranks[f"{own}-{own}-manylinux_2_17_x86_64"] < ranks["py3-none-any"]
        assert f"{own}-{own}-manylinux_2_41_x86_64" not in ranks
