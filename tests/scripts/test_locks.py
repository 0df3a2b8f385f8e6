"""Lock files: what is read, what is refused, and what the committed ones hold."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from scripts import locks, resolve_wheels
from scripts.locks import Package
from scripts.problem import Problem

A = Package("a" * 64, 10, "linux/amd64", "any", "base", "a", "1.0", "debian:pool/main/a/a_1.0.deb")
B = Package("b" * 64, 20, "any", "any", "base", "b", "2:2.0+x~1", "debian:pool/main/b/b_2.deb")
CPU = Package("c" * 64, 5, "any", "cpu", "tf", "tf-cpu", "1", "tf_cpu-1-py3-none-any.whl")
CUDA = Package("d" * 64, 6, "linux/amd64", "cuda", "tf", "tf", "1", "tf-1-py3-none-any.whl")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "packages.lock"


def rewritten(path: Path, body: str) -> None:
    """Replace the lines of a lock and make its digest fit, as a careful forger would."""
    head = path.read_text().splitlines()[:3]
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text("\n".join([*head, f"# digest: sha256:{digest}", body]))


def refused(path: Path) -> bool:
    with pytest.raises(Problem) as caught:
        locks.read(path)
    assert caught.value.fix == "git checkout it or run scripts/inv lock"
    return f"{path} was edited by hand or damaged" == caught.value.cause


def test_what_is_written_is_what_is_read(path):
    assert locks.write(path, "deb", "2026-11-21", [B, A])
    lock = locks.read(path)
    assert (lock.kind, lock.date, lock.packages) == ("deb", "2026-11-21", (A, B))
    assert path.stat().st_mode & 0o777 == 0o644
    assert lock.digest in path.read_text()


def test_a_lock_with_equal_packages_keeps_its_bytes_and_its_date(path):
    locks.write(path, "deb", "2026-11-21", [A, B])
    before = path.read_bytes()
    assert not locks.write(path, "deb", "2027-01-01", [B, A])
    assert path.read_bytes() == before
    assert locks.write(path, "deb", "2027-01-01", [A])
    assert locks.read(path).date == "2027-01-01"


def test_a_selection_holds_what_fits_the_platform_and_the_variant(path):
    locks.write(path, "wheel", "2026-11-21", [CPU, CUDA])
    lock = locks.read(path)
    assert lock.select("linux/amd64", "cpu") == (CPU,)
    assert lock.select("linux/amd64", "cuda") == (CUDA,)
    assert lock.select("linux/arm64", "cuda") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a 1.0 ", "a 1.1 "),
        ("# kind: deb", "# kind: cake"),
        ("# date: 2026-11-21", "# date: soon"),
        ("# digest: sha256:", "# digest: sha256:0"),
        ("# Written by", "# written by"),
        ("# date: 2026-11-21\n", ""),
        ("_1.0.deb\n", "_1.0.deb"),
        ("_2.deb\n", "_2.deb"),
        ("\n", "\r\n"),
        ("aaaa", "\xff\xff\xff\xff"),
    ],
)
def test_an_edited_lock_is_refused(path, old, new):
    locks.write(path, "deb", "2026-11-21", [A, B])
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode("latin-1")))
    assert refused(path)


@pytest.mark.parametrize("length", [0, 1, 40, 120, 200, 300])
def test_a_lock_that_was_cut_off_is_refused(path, length):
    locks.write(path, "deb", "2026-11-21", [A, B])
    assert path.stat().st_size > 300
    path.write_bytes(path.read_bytes()[:length])
    assert refused(path)


@pytest.mark.parametrize(
    "body",
    [
        f"{B.line}\n{A.line}\n",
        f"{A.line}\n{A.line}\n",
        f"{A.line}\n{dataclasses.replace(A, sha256='e' * 64, version='1.1').line}\n",
        f"{A.line} more\n",
        f"{A.line.replace(' ', '  ', 1)}\n",
        f"{dataclasses.replace(A, sha256='A' * 64).line}\n",
        f"{dataclasses.replace(A, size=0).line}\n",
        f"{A.line.replace(' 10 ', ' ten ')}\n",
        f"{dataclasses.replace(A, variant='rocm').line}\n",
        f"{dataclasses.replace(A, platform='windows').line}\n",
        f"{dataclasses.replace(A, file='https://host/pool/a.deb').line}\n",
        f"{dataclasses.replace(A, file='debian:pool/../../etc/a.deb').line}\n",
        f"{dataclasses.replace(A, file='a-1.0-py3-none-any.whl').line}\n",
    ],
    ids=[
        *("not sorted", "the same line twice", "a name twice", "a field too many"),
        *("two spaces", "capital digits", "no size", "size in words", "unknown variant"),
        *("unknown platform", "an address", "a path that climbs", "a wheel among the debs"),
    ],
)
def test_lines_that_no_resolver_writes_are_refused_though_the_digest_fits(path, body):
    locks.write(path, "deb", "2026-11-21", [A, B])
    rewritten(path, f"{A.line}\n{B.line}\n")
    assert locks.read(path).packages == (A, B)
    rewritten(path, body)
    assert refused(path)


def test_two_packages_of_one_name_may_differ_in_their_variant_but_not_overlap(path):
    other = dataclasses.replace(CPU, variant="cuda", version="2", file="tf_cpu-2-py3-none-any.whl")
    locks.write(path, "wheel", "2026-11-21", [CPU, other])
    with pytest.raises(ValueError, match="tf_cpu"):
        locks.write(path, "wheel", "2026-11-21", [CPU, dataclasses.replace(other, variant="any")])


def test_a_missing_lock_names_the_way_out(path):
    with pytest.raises(Problem) as caught:
        locks.read(path)
    assert caught.value.cause == f"{path} is missing"


def test_the_epoch_is_the_newest_date_at_midnight_utc(tmp_path):
    path = tmp_path / "epoch.lock"
    assert locks.write_epoch(["2026-11-20", "2026-11-21"], path) == 1795219200
    assert locks.epoch(path) == 1795219200
    path.write_text("yesterday\n")
    with pytest.raises(Problem, match="damaged"):
        locks.epoch(path)


@pytest.mark.parametrize("path", locks.ALL, ids=locks.shown)
def test_a_committed_lock_is_whole_and_holds_no_address(path):
    assert locks.read(path).packages
    assert not re.search(r"://|www\.", path.read_text())
    assert locks.epoch() >= 1795219200


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_no_variant_installs_tensorflow_twice(variant):
    names = [
        package.name
        for path in locks.WHEELS
        for package in locks.read(path).select("linux/amd64", variant)
    ]
    assert len(names) == len(set(names))
    expected = {"cpu": "tensorflow-cpu", "cuda": "tensorflow"}[variant]
    assert [name for name in names if name in ("tensorflow", "tensorflow-cpu")] == [expected]


def test_both_variants_share_their_versions():
    packages = [package for path in locks.WHEELS for package in locks.read(path).packages]
    versions = {(p.variant, p.name): p.version for p in packages}
    assert versions["cpu", "tensorflow-cpu"] == versions["cuda", "tensorflow"]
    apart = {name for variant, name in versions if variant != "any"}
    assert apart.isdisjoint(name for variant, name in versions if variant == "any")
    assert {name for variant, name in versions if variant == "cpu"} == {"tensorflow-cpu"}


def test_every_input_name_is_locked_in_its_own_layer():
    for image in resolve_wheels.IMAGES_IN_ORDER:
        lock = locks.read(locks.IMAGES / image / "requirements.lock")
        place = {package.name: package.layer for package in lock.packages}
        for layer in resolve_wheels.read_input(image):
            for name in layer.names:
                assert place.get(name) == layer.name, name


def test_every_wheel_fits_the_images_python():
    ranks = resolve_wheels.tags("linux/amd64")
    for path in locks.WHEELS:
        for package in locks.read(path).packages:
            tags = resolve_wheels.parse_wheel_filename(package.file)[3]
            assert tags & ranks.keys(), package.file
