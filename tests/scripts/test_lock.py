"""`inv lock` with the real apt and uv, against a tiny signed archive and a tiny index."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import requests
from worlds import INPUTS

from scripts import fetch, locks, mirrors, resolve_debs, resolve_wheels
from scripts.problem import Problem

needs_apt = pytest.mark.skipif(
    not shutil.which("apt-get"), reason="not run: no apt-get here, and inv lock needs it"
)
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
        f"kept the signed Release files in {world.images}/base/release",
        "next: scripts/inv build, and commit; then scripts/inv digests, and commit digests.lock",
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
    private = resolve_debs._Apt("trixie", "amd64", world.images / "base")
    monkeypatch.delenv("APT_CONFIG")
    machine = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    if "-Invoke" not in machine.stdout:
        pytest.skip("this machine's apt has no hooks")
    own = private.run("apt-config", "dump").stdout
    assert "Dir::State::status" in own
    assert "-Invoke" not in own


@needs_apt
def test_a_mirror_or_an_index_that_is_away_is_named(world, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    assert "127.0.0.1 refuses connections" in world.problem()
    monkeypatch.setenv("HOTHOUSE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    assert "127.0.0.1 refuses connections" in world.problem()


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
            present, "linux/amd64", allow_drift=allow_drift, store=store
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
