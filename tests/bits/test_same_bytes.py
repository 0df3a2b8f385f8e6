"""Two builds under different conditions give the same bytes; when they do not, the file is named.

One build is that of this checkout, as `inv build` left it in the engine, with all its cores and a
warm cache. The other one is made here.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import containers
import engines
import layers
import pytest
import trees

from scripts import compare, digests

TARGET = "tensorflow-cpu"
#: A shell's settings that have changed other builds: sorting, dates, hashes, temporary files.
STRANGE = {
    "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "TZ": "XYZ-13:45", "PYTHONHASHSEED": "7",
    "COLUMNS": "40",
}
#: Bytes that the second engine's layers and cache take, with some room.
ROOM = 7e9


@dataclass
class Elsewhere:
    """A build under other conditions: its tree, and the engine that has its images."""

    tree: trees.Tree
    prefix: str
    host: str | None
    not_rootless: str | None = "the engine is this machine's own"

    def inv(self, *arguments: str) -> str:
        """Run ``scripts/inv`` there."""
        return self.command("scripts/inv", *arguments)

    def command(self, *command: str) -> str:
        """Run a command there, which has to succeed; return what it prints."""
        environment = {**os.environ, **STRANGE}
        if self.host:
            environment["DOCKER_HOST"] = self.host
        done = subprocess.run(
            command, cwd=self.tree.root, env=environment, umask=0o077, text=True, timeout=800,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def build(self, target: str) -> None:
        """Build a target and its parents without a cache, below names of its own."""
        self.inv("--list")
        self.command(
            ".venv/bin/python", "-c", "import runpy, sys; runpy.run_path(sys.argv[1])",
            "scripts/rebuild.py", "build", target, self.prefix,
        )


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, locked_bytes) -> Elsewhere:
    """The target built without a cache in another folder, with another umask, other file times,
    locale and time zone; where root can start one, in a new engine on one core, which is rootless
    where users may have one."""
    it = Elsewhere(trees.Tree(trees.strange_copy(tmp_path_factory.mktemp("strange")), ""),
                   containers.unique("again"), None)
    if os.getuid() or not shutil.which("dockerd") or not shutil.which("taskset"):
        try:
            it.build(TARGET)
            yield it
        finally:
            containers.remove_images(it.prefix)
        return
    # Not pytest's folder: the path of a socket may not be long.
    folder = Path(tempfile.mkdtemp(prefix="hothouse-test-", dir="/tmp"))
    it.host = engines.socket_of(folder)
    try:
        if shutil.disk_usage(folder).free < ROOM:
            pytest.skip(f"a second engine's images need {ROOM / 1e9:.0f} GB at /tmp")
        core = str(min(os.sched_getaffinity(0)))
        it.not_rootless = engines.why_not_rootless()
        with engines.engine(folder, "taskset", "-c", core, rootless=not it.not_rootless):
            it.build(TARGET)
            yield it
    finally:
        shutil.rmtree(folder)


def the_same(one: str, two: str, target: str, host: str | None) -> None:
    """Fail unless two images are the same manifest; say which file in which layer differs."""
    if layers.small(one).digest != layers.small(two, host).digest:
        found = layers.explain(one, two, digests.layer_names(target), host)
        pytest.fail(f"{one} and {two} differ:\n" + "\n".join(found), pytrace=False)


@pytest.mark.parametrize("target", ["base", TARGET])
def test_other_conditions_give_the_same_manifest(elsewhere, tags, target):
    again = f"{elsewhere.prefix}/{target}:rebuilt"
    the_same(tags[target], again, target, elsewhere.host)


def test_a_rootless_engine_gives_the_same_manifest(elsewhere, tags):
    if elsewhere.not_rootless:
        pytest.skip(elsewhere.not_rootless)
    options = containers.docker("info", "--format", "{{.SecurityOptions}}",
                                env={**os.environ, "DOCKER_HOST": elsewhere.host}).stdout
    assert "name=rootless" in options
    the_same(tags[TARGET], f"{elsewhere.prefix}/{TARGET}:rebuilt", TARGET, elsewhere.host)


def test_a_warm_cache_gives_the_same_manifest(elsewhere, tags):
    if elsewhere.host is None:
        pytest.skip("only in an engine of its own may a test take the names of the images")
    said = elsewhere.inv("build", TARGET)
    assert "[internal] load" in said
    assert layers.made(said, TARGET) == []
    the_same(tags[TARGET], tags[TARGET], TARGET, elsewhere.host)


def test_without_git_only_the_revision_differs(tree, tags, locked_bytes):
    tree.works("build", "base", limit=400)
    one, two = layers.small(tags["base"]), layers.small(f"{tree.tag}/base:latest")
    assert [layer.digest for layer in one.layers] == [layer.digest for layer in two.layers]
    harmless, harmful = compare.configurations(one.config, two.config)
    assert not harmful
    assert [each.path for each in harmless] == ["label org.opencontainers.image.revision"]


def test_a_file_that_depends_on_time_and_umask_is_named(tree, locked_bytes):
    recipe = tree.root / "images/base/Dockerfile"
    step = "build-layer files /mnt/rootfs"

    def build_once(umask: str) -> str:
        # After the normalising, as a careless step would leave it.
        late = f"{step} && umask {umask} && date +%s%N >/out/made"
        with trees.edited(recipe, lambda text: text.replace(step, late)):
            tree.works("build", "base", limit=400)
        tag = f"{tree.tag}/careless:{umask}"
        containers.docker("tag", f"{tree.tag}/base:latest", tag)
        return tag

    one, two = build_once("022"), build_once("077")
    with pytest.raises(pytest.fail.Exception) as caught:
        the_same(one, two, "base", None)
    lines = [line for line in str(caught.value).splitlines() if line.startswith("layer ")]
    # The bootstrapped layer is alike: it is not listed; nor is a file that build-layer made.
    assert [line for line in lines if not line.startswith("layer base/files: /")] == []
    shown = [line for line in lines if line.startswith("layer base/files: /made: ")]
    assert len(shown) == 1, lines
    for what in ("mode 644, not 600", "sha256 ", "mtime "):
        assert what in shown[0]
