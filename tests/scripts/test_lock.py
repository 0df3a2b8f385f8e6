"""`inv lock` with the real apt and uv, against a tiny signed archive and a tiny index."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from lying_server import LyingServer

from scripts import fetch, lock, locks, mirrors, resolve_debs, resolve_wheels
from scripts.problem import Problem

needs_apt = pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("gpg")), reason="no apt-get or gpg here"
)
SUITES = {"debian": ("trixie", "trixie-updates"), "debian-security": ("trixie-security",)}
INPUTS = {
    "base/packages.in": "# suite: trixie\n# layer: bootstrap\nbuilder\n# layer: base\npython3\n",
    "tensorflow/overrides.in": "tensorflow ; python_version < '3'\n",
    "tensorflow/requirements.in": (
        "# layer: runtime\nnumpy\n# layer: keras\nkeras\n# layer: cudnn cuda\nnvidia-cudnn-cu12\n"
        "# layer: tensorflow cpu\ntensorflow-cpu>=2  # a reason\n"
        "# layer: tensorflow cuda\ntensorflow[and-cuda]>=2\n"
    ),
    "jupyter/requirements.in": "# layer: science\nscipy\n# layer: jupyter\njupyterlab\n",
}


@pytest.fixture(scope="session")
def keys() -> Iterator[Path]:
    """A folder with a new signing key; its public half in ``debian-archive-test.gpg``."""
    # Short, because gpg's socket lies in it.
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        gpg = ["gpg", "--homedir", folder, "--batch", "--quiet"]
        make = ["--passphrase", "", "--quick-gen-key", "test@hothouse.invalid", "rsa2048", "sign"]
        subprocess.run([*gpg, *make], check=True, capture_output=True)
        subprocess.run([*gpg, "-o", f"{folder}/debian-archive-test.gpg", "--export"], check=True)
        os.chmod(folder, 0o755)
        yield Path(folder)
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


@dataclass
class World:
    """A mirror, an index and a checkout's images folder."""

    server: LyingServer
    keys: Path
    images: Path
    debs: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    def deb(self, name: str, version: str, more: str = "", archive: str = "debian") -> str:
        """Publish a package in place of its older version; returns its path on the server."""
        path = f"/{archive}/pool/main/{name[0]}/{name}/{name}_{version.split(':')[-1]}_amd64.deb"
        if name in self.debs:
            del self.server.files[self.debs[name][1]]
        content = f"{name} {version}".encode()
        digest = self.server.add(path, content)
        file = path.removeprefix(f"/{archive}/")
        stanza = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n{more}Filename: {file}\n"
            f"Size: {len(content)}\nSHA256: {digest}\n\n"
        )
        self.debs[name] = (archive, path, stanza)
        self.publish()
        return path

    def publish(self) -> None:
        for archive, suites in SUITES.items():
            for suite in suites:
                # All packages of an archive stand in its first suite.
                rows = [s for a, _, s in self.debs.values() if a == archive and suite == suites[0]]
                packages = "".join(rows).encode()
                digest = hashlib.sha256(packages).hexdigest()
                listed = "main/binary-amd64/Packages"
                release = (
                    f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\n"
                    "Date: Sat, 21 Nov 2026 00:00:00 UTC\nArchitectures: amd64\n"
                    f"Components: main\nSHA256:\n {digest} {len(packages)} {listed}\n"
                )
                sign = ["gpg", "--homedir", str(self.keys), "--batch", "--quiet", "--clearsign"]
                signed = subprocess.run(
                    sign, input=release.encode(), capture_output=True, check=True
                )
                self.server.add(f"/{archive}/dists/{suite}/{listed}", packages)
                self.server.add(f"/{archive}/dists/{suite}/InRelease", signed.stdout)

    def lock(self, upgrade: str | bool | None = None) -> bool:
        return lock.run(upgrade, images=self.images)

    def problem(self, upgrade: str | bool | None = None) -> str:
        with pytest.raises(Problem) as caught:
            self.lock(upgrade)
        assert "\n" not in caught.value.message
        return caught.value.message

    def packages(self, image: str) -> dict[str, locks.Package]:
        file = "packages.lock" if image == "base" else "requirements.lock"
        return {p.name: p for p in locks.read(self.images / image / file).packages}

    def versions(self) -> dict[str, str]:
        return {
            name: package.version
            for image in ("tensorflow", "jupyter")
            for name, package in self.packages(image).items()
        }

    def bytes(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.images.rglob("*.lock")}


@pytest.fixture
def world(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        *resolve_wheels.UV_SETTINGS,
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOTHOUSE_DEBIAN_MIRROR", "HOTHOUSE_DEBIAN_MIRROR_SECURITY", "HOTHOUSE_SNAPSHOT"):
        monkeypatch.delenv(name, raising=False)
    etc = tmp_path / "apt"
    etc.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("HOTHOUSE_FETCH_TIMEOUT", "5")
    monkeypatch.setattr(resolve_debs, "STATE", tmp_path / "state")
    # An apt of another suite, with hooks of its own that must not run.
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc "{etc}/";\nDir::State "{tmp_path}/none/";\nDir::Etc::parts "/dev/null";\n'
        f'APT::Update::Pre-Invoke {{ "touch {tmp_path}/hook"; }};\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    images = tmp_path / "images"
    for name, text in INPUTS.items():
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_text(text)
    with LyingServer() as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.index)
        signed = f"signed-by={keys}/debian-archive-test.gpg"
        (etc / "sources.list").write_text(
            f"deb [{signed}] {server.url}/debian bookworm main\n"
            f"deb [{signed}] {server.url}/debian-security bookworm-security main\n"
        )
        # Not heeded: no Release file of the old suite was ever fetched.
        monkeypatch.setattr(mirrors, "PYTHON_APT_TEMPLATE", tmp_path / "none")
        monkeypatch.setattr(mirrors, "DEBIAN_KEYRING", keys / "debian-archive-test.gpg")
        made = World(server, keys, images)
        made.deb("base-files", "13+b1", "Essential: yes\n")
        made.deb("apt", "3.0", "Depends: libx\n", archive="debian-security")
        made.deb("libx", "1:2.0+b1~x")
        made.deb("python3", "3.13", "Depends: libpy\nRecommends: extra\n")
        made.deb("libpy", "3.13")
        made.deb("builder", "1", "Depends: libpy, tool\n")
        made.deb("tool", "1")
        made.deb("extra", "1")
        for project, requires in (
            ("numpy", ()),
            ("keras", ("numpy", "rich")),
            ("rich", ()),
            ("tensorflow-cpu", ("numpy", "keras", "rich", "protobuf")),
            (
                "tensorflow",
                ("numpy", "keras", "protobuf", "nvidia-cudnn-cu12 ; extra == 'and-cuda'"),
            ),
            ("protobuf", ()),
            ("nvidia-cudnn-cu12", ()),
            ("scipy", ("numpy",)),
            ("jupyterlab", ("tornado", "rich")),
            ("tornado", ()),
        ):
            server.add_wheel(project, "2.0", requires)
        yield made
    assert not (tmp_path / "hook").exists()


@needs_apt
def test_a_lock_holds_each_package_in_its_layer_and_variant(world):
    assert world.lock()
    base = world.packages("base")
    assert {name: package.layer for name, package in base.items()} == {
        **dict.fromkeys(("apt", "base-files", "libpy", "libx", "python3"), "base"),
        **dict.fromkeys(("builder", "tool"), "bootstrap"),
    }
    assert base["libx"].version == "1:2.0+b1~x"
    assert base["libx"].file == "debian:pool/main/l/libx/libx_2.0+b1~x_amd64.deb"
    assert base["apt"].file == "debian-security:pool/main/a/apt/apt_3.0_amd64.deb"
    assert {n: (p.layer, p.variant) for n, p in world.packages("tensorflow").items()} == {
        "numpy": ("runtime", "any"),
        "keras": ("keras", "any"),
        "rich": ("keras", "any"),
        "nvidia-cudnn-cu12": ("cudnn", "cuda"),
        "protobuf": ("tensorflow", "any"),
        "tensorflow": ("tensorflow", "cuda"),
        "tensorflow-cpu": ("tensorflow", "cpu"),
    }
    assert {name: p.layer for name, p in world.packages("jupyter").items()} == {
        "scipy": "science",
        "jupyterlab": "jupyter",
        "tornado": "jupyter",
    }


@needs_apt
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "html"])
def test_locking_twice_changes_nothing(world, capsys, as_json):
    world.server.index_is_json = as_json
    world.lock()
    before = world.bytes()
    assert len(before) == 4
    capsys.readouterr()
    assert not world.lock()
    assert capsys.readouterr().out.splitlines()[-1] == "nothing changed"
    assert not world.lock(True)
    assert world.bytes() == before


@needs_apt
def test_an_upgrade_moves_what_was_asked_for_and_says_so(world, capsys):
    world.lock()
    for project in ("numpy", "scipy", "tornado"):
        world.server.add_wheel(project, "2.1")
    capsys.readouterr()
    assert not world.lock()
    assert world.lock("numpy")
    assert "  numpy 2.0 → 2.1" in capsys.readouterr().out.splitlines()
    assert [n for n, v in world.versions().items() if v == "2.1"] == ["numpy"]
    world.lock(True)
    moved = [n for n, v in world.versions().items() if v == "2.1"]
    assert moved == ["numpy", "scipy", "tornado"]


@needs_apt
@pytest.mark.parametrize("name", ["tensorflow", "tensorflow-cpu"])
def test_both_variants_get_the_same_tensorflow(world, name):
    world.lock()
    world.server.add_wheel("tensorflow-cpu", "2.1", ("numpy", "keras"))
    world.server.add_wheel("tensorflow", "2.1", ("numpy", "keras"))
    world.server.add_wheel("tensorflow", "2.2", ("numpy", "keras"))
    world.lock(name)
    versions = world.versions()
    assert (versions["tensorflow"], versions["tensorflow-cpu"]) == ("2.1", "2.1")


@needs_apt
def test_the_archives_present_version_is_taken_and_each_change_is_printed(world, capsys):
    world.lock()
    world.deb("libx", "1:2.0+b2")
    world.deb("python3", "3.13", "Depends: libpy, newcomer\n")
    world.deb("builder", "1", "Depends: libpy\n")
    world.deb("newcomer", "7")
    capsys.readouterr()
    world.lock()
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith("packages.lock:"))
    assert lines[at + 1 :] == [
        "  libx 1:2.0+b1~x → 1:2.0+b2",
        "  newcomer 7 (added)",
        "  tool 1 (removed)",
        "next: scripts/inv build",
    ]


@needs_apt
def test_what_cannot_be_locked_is_told_in_one_line(world):
    assert "no lock holds a package numby" in world.problem("numby")
    inputs = world.images / "base/packages.in"
    inputs.write_text(INPUTS["base/packages.in"] + "pyhton3\n")
    assert "trixie has no package pyhton3. Fix: correct" in world.problem()
    inputs.write_text(INPUTS["base/packages.in"])
    wheels = world.images / "jupyter/requirements.in"
    wheels.write_text("# layer: science\nnumpy<1\n")
    message = world.problem()
    assert "the requirements don't go together" in message
    assert "numpy" in message
    assert world.bytes() == {}


@needs_apt
def test_a_project_without_a_fitting_wheel_is_not_built_from_source(world):
    world.server.add_wheel("onlymac", "2.0", tag="cp313-cp313-macosx_12_0_arm64")
    world.server.add("/files/onlymac-1.0.tar.gz", b"source")
    (world.images / "jupyter/requirements.in").write_text("# layer: science\nonlymac\n")
    assert "onlymac" in world.problem()
    assert world.server.ranges("/files/onlymac-1.0.tar.gz") == []


@needs_apt
def test_the_machines_own_hooks_of_apt_do_not_run(world, monkeypatch):
    archives = mirrors.debian_archives()
    monkeypatch.delenv("APT_CONFIG")
    machine = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    if "-Invoke" not in machine.stdout:
        pytest.skip("this machine's apt has no hooks")
    private = resolve_debs._Apt("trixie", archives, "amd64").run("apt-config", "dump")
    assert "Dir::State::status" in private.stdout
    assert "-Invoke" not in private.stdout


@needs_apt
def test_an_archive_signed_by_a_stranger_is_refused(world, tmp_path):
    stranger = tmp_path / "debian-archive-stranger.gpg"
    stranger.write_bytes(b"")
    sources = tmp_path / "apt/sources.list"
    sources.write_text(
        sources.read_text().replace(f"{world.keys}/debian-archive-test.gpg", str(stranger))
    )
    assert "holds no valid key of Debian trixie" in world.problem()


@needs_apt
def test_a_mirror_or_an_index_that_is_away_is_named(world, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    assert "127.0.0.1 refuses connections" in world.problem()
    monkeypatch.setenv("HOTHOUSE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    message = world.problem()
    assert message.startswith("error: apt: ")
    assert "Fix: check the Debian mirror and the network" in message


@needs_apt
def test_a_damaged_lock_is_written_anew(world):
    world.lock()
    before = world.bytes()
    path = world.images / "tensorflow/requirements.lock"
    path.write_text("damaged\n")
    world.lock()
    assert world.bytes() == before


@needs_apt
def test_a_notebook_may_drift_where_a_build_may_not(world, tmp_path, monkeypatch, capsys):
    world.lock()
    present = locks.read(world.images / "base/packages.lock")
    world.deb("libx", "1:2.0+b2")
    monkeypatch.setattr(fetch, "DRIFT", tmp_path / "drift/packages.lock")
    monkeypatch.setattr(resolve_debs, "INPUT", world.images / "base/packages.in")
    store = tmp_path / "store"

    def get(allow_drift: bool) -> locks.Lock:
        return fetch.locked_or_drifted(
            present, "linux/amd64", "cpu", allow_drift=allow_drift, store=store
        )

    with pytest.raises(fetch.Gone, match=r"libx 1:2.0\+b1~x is gone.* has 1:2\.0\+b2 now"):
        get(False)
    capsys.readouterr()
    drifted = get(True)
    assert "note: libx 1:2.0+b1~x is gone" in capsys.readouterr().out
    assert drifted.drifted
    assert fetch.missing(drifted.select("linux/amd64", "cpu"), store) == []
    assert {p.name: p.version for p in drifted.packages}["libx"] == "1:2.0+b2"
    assert not present.drifted
    assert locks.read(world.images / "base/packages.lock") == present


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("numpy\n", 1),
        ("# layer: a\n-r other.txt\n", 2),
        ("# layer: a\nx @ https://host/x.whl\n", 2),
        ("# layer: a\nhttps://host/x.whl\n", 2),
    ],
)
def test_an_input_line_that_is_no_requirement_is_named(tmp_path, text, line):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/requirements.in").write_text(text)
    with pytest.raises(Problem, match=f"line {line} isn't a requirement under a layer"):
        resolve_wheels.read_input("tensorflow", tmp_path)


def test_tf_keras_is_met_by_tensorflow_cpu():
    try:
        mirrors.session().head(mirrors.index_url(), timeout=20)
    except requests.RequestException as error:
        pytest.skip(f"not run: the package index can't be reached ({type(error).__name__})")
    overrides = locks.IMAGES / resolve_wheels.OVERRIDES
    wanted = ["tf-keras", "tensorflow-cpu>=2.21"]
    versions, _ = resolve_wheels.compile_versions(wanted, overrides=overrides)
    assert {"tf-keras", "tensorflow-cpu"} <= versions.keys()
    assert "tensorflow" not in versions
    # Without the overrides both would come: else this test proves nothing.
    both, _ = resolve_wheels.compile_versions(wanted)
    assert {"tensorflow", "tensorflow-cpu"} <= both.keys()
