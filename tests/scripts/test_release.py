"""Debian's chain of signatures, against a mirror that lies: each lie is refused in one line."""

from __future__ import annotations

import datetime
import lzma
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from worlds import HOUR, Keys, World, at, keyring_deb, new_key

from scripts import fetch, lock, locks, release, signatures
from scripts.problem import Problem

pytestmark = pytest.mark.skipif(
    not shutil.which("apt-get"), reason="not run: no apt-get here, and inv lock needs it"
)
NOW = datetime.datetime.now(datetime.timezone.utc)
TRIXIE = "/debian/dists/trixie/InRelease"
INDEX = "/debian/dists/trixie/main/binary-amd64/Packages.xz"


def unsigned(world: World) -> None:
    text = world.server.files[TRIXIE].decode()
    world.server.files[TRIXIE] = text.split("\n\n", 1)[1].split("-----BEGIN")[0].encode()


def changed_after_signing(world: World) -> None:
    """Another index, whose hash stands in the Release file: only the signature tells."""
    content = lzma.compress(world.packages_file("debian", "trixie").replace(b"libx", b"liby"))
    old = re.search(r"^ (\w{64}) \d+ main/binary-amd64/Packages.xz$", world.rows["trixie"], re.M)
    new = world.server.add(INDEX, content)
    text = world.server.files[TRIXIE].replace(old[1].encode(), new.encode())
    world.server.files[TRIXIE] = text


def something_before_it(world: World) -> None:
    world.server.files[TRIXIE] = b"Codename: trixie\n" + world.server.files[TRIXIE]


def something_after_it(world: World) -> None:
    world.server.files[TRIXIE] += b"Codename: trixie\n"


def twice(world: World) -> None:
    world.server.files[TRIXIE] = world.server.files[TRIXIE] * 2


def another_index(world: World) -> None:
    content = world.packages_file("debian", "trixie").replace(b"libx", b"liby")
    world.server.files[INDEX] = lzma.compress(content)


def index_of_equal_size(world: World) -> None:
    world.server.lie(INDEX, "wrong bytes")


LIES = {
    "unsigned": (unsigned, "trixie's Release file isn't signed"),
    "no InRelease": (
        lambda w: w.server.files.pop(TRIXIE), "the mirror has no signed Release file of trixie",
    ),
    "changed after signing": (changed_after_signing, "was changed after it was signed"),
    "something before it": (something_before_it, "isn't signed"),
    "something after it": (something_after_it, "isn't signed"),
    "twice": (twice, "isn't signed"),
    "empty": (lambda w: w.server.add(TRIXIE, b""), "isn't signed"),
    "another index": (another_index, "isn't the one that its signed Release file names"),
    "index of equal size": (
        index_of_equal_size, "isn't the one that its signed Release file names",
    ),
    "no index": (lambda w: w.server.files.pop(INDEX), "is on no server any more"),
    "index without a hash": (
        lambda w: w.sign("debian", "trixie", rows=" 00 5 main/binary-amd64/Packages\n"),
        "names no Packages index with a SHA-256",
    ),
    "another suite": (
        lambda w: w.sign("debian", "trixie", Codename="bookworm"),
        "the mirror gives the Release file of bookworm for trixie",
    ),
    "security for main": (
        lambda w: w.server.add(
            TRIXIE, w.server.files["/debian-security/dists/trixie-security/InRelease"]
        ),
        "the mirror gives the Release file of",
    ),
    "another distribution": (
        lambda w: w.sign("debian", "trixie", Origin="Elsewhere"), "(Origin isn't Debian)",
    ),
    "expired": (
        lambda w: w.sign("debian", "trixie", Date=at(NOW - 9 * HOUR), Valid_Until=at(NOW - HOUR)),
        "trixie's Release file expired on ",
    ),
    "from the future": (
        lambda w: w.sign("debian", "trixie", Date=at(NOW + 9 * HOUR)), "is from the future",
    ),
    "without a date": (lambda w: w.sign("debian", "trixie", Date=""), "has no valid date"),
}


@pytest.mark.parametrize("trusting", [False, True], ids=["", "a machine that trusts all"])
@pytest.mark.parametrize(("lie", "says"), LIES.values(), ids=LIES)
def test_what_debian_did_not_sign_is_refused(world, tmp_path, lie, says, trusting):
    if trusting:
        sources = tmp_path / "apt/sources.list"
        sources.write_text(sources.read_text().replace("[", "[trusted=yes allow-insecure=yes "))
        with (tmp_path / "apt.conf").open("a") as conf:
            conf.write(
                'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n'
                'Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "1";\n'
            )
    lie(world)
    assert says in world.problem()
    assert world.bytes() == {}


def test_a_strangers_signature_is_refused_though_the_machine_knows_the_key(
    world, stranger, monkeypatch
):
    world.sign("debian", "trixie", by=stranger)
    assert "holds no valid signature of a key that this machine knows" in world.problem()
    both = world.keys.public.with_name("debian-archive-both.gpg")
    both.write_bytes(world.keys.public.read_bytes() + stranger.public.read_bytes())
    monkeypatch.setattr(release.mirrors, "DEBIAN_KEYRING", both)
    message = world.problem()
    assert f"is signed by {stranger.fingerprint}" in message
    assert "not by a key of Debian's that images/base/keys.in names" in message


def test_a_key_that_only_this_machine_knows_is_enough_for_apt_too(world, stranger):
    """A new key is in keys.in and on the machine before it is in the locked keyring package."""
    world.deb("debian-archive-keyring", "1", "Essential: yes\n",
              content=keyring_deb(stranger.public))
    world.lock()
    package = world.packages("base")["debian-archive-keyring"]
    fetch.fetch([package], store=release.STORE, archives=world.server.archives)
    assert len(release.keyrings(world.images / "base", release.STORE)) == 2
    world.deb("libx", "1:3.0")
    assert world.lock()


@pytest.mark.parametrize("damage", [
    lambda content: b"x" * len(content), lambda content: content[:-9] + b"x" * 9,
], ids=["no archive", "its compressed part"])
def test_a_damaged_keyring_package_is_left_alone(world, damage):
    """Of the right size, so that the store takes it for whole."""
    world.deb("debian-archive-keyring", "1", "Essential: yes\n",
              content=keyring_deb(world.keys.public))
    world.lock()
    package = world.packages("base")["debian-archive-keyring"]
    fetch.fetch([package], store=release.STORE, archives=world.server.archives)
    path = fetch.path_of(package.sha256, release.STORE)
    path.write_bytes(damage(path.read_bytes()))
    lock.check(images=world.images)
    assert release.keyrings(world.images / "base", release.STORE) == [world.keys.public]


def test_the_machines_own_key_for_a_mirror_does_not_count(world, stranger, tmp_path):
    sources = tmp_path / "apt/sources.list"
    sources.write_text(
        sources.read_text().replace(str(world.keys.public), str(stranger.public))
    )
    for suite in ("trixie", "trixie-updates"):
        world.sign("debian", suite, by=stranger)
    assert "holds no valid signature" in world.problem()


def test_a_replayed_older_release_is_refused(world):
    old = dict(world.server.files)
    assert world.lock()
    world.server.files.update(old)
    assert not world.lock()  # the same one is fine
    world.sign("debian", "trixie", Date=at(NOW - 48 * HOUR), Valid_Until="")
    assert "is older than the one that proves the lock" in world.problem()


def test_a_package_other_than_the_signed_one_is_not_fetched(world, tmp_path):
    world.lock()
    package = world.packages("base")["libx"]
    world.server.lie(f"/{package.file.replace(':', '/')}", "wrong bytes")
    with pytest.raises(Problem, match="another SHA-256 than the lock's"):
        fetch.fetch([package], store=tmp_path / "store", archives=world.server.archives)


def test_what_was_checked_is_kept_and_checked_again_without_a_mirror(world, capsys):
    world.lock()
    kept = {path.name: release.read_kept(path)
            for path in (world.images / "base/release").iterdir()}
    served = {
        path.split("/")[3] + ".InRelease.xz": content
        for path, content in world.server.files.items() if path.endswith("/InRelease")
    }
    assert kept == served
    assert len(kept) == 3
    world.server.files.clear()
    world.server.asked.clear()
    capsys.readouterr()
    lock.check(images=world.images)
    assert world.server.asked == []
    out = capsys.readouterr().out
    assert world.keys.fingerprint in out
    assert "All 7 Debian packages of the lock are those that Debian signed." in out


def test_an_unchanged_lock_keeps_its_proof(world):
    world.lock()
    path = release.kept_at(world.images / "base", "trixie")
    before = path.read_bytes()
    world.sign("debian", "trixie")
    assert not world.lock()
    assert path.read_bytes() == before
    path.unlink()
    assert world.lock()
    assert path.exists()


def refused(world: World) -> str:
    with pytest.raises(Problem) as caught:
        lock.check(images=world.images)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_lock_that_does_not_follow_from_the_signature_is_refused(world):
    world.lock()
    path = world.images / "base/packages.lock"
    good = locks.read(path)
    libx = world.packages("base")["libx"]
    others = [p for p in good.packages if p != libx]
    # By the resolver's own means: the lock's digest is right.
    locks.write(path, "deb", good.date, [*others, replace(libx, sha256="0" * 64)])
    assert "libx 1:2.0+b1~x: the lock has other bytes than the index that Debian signed" in (
        refused(world)
    )
    elsewhere = replace(libx, file="debian:pool/main/e/else_1_amd64.deb")
    locks.write(path, "deb", good.date, [*others, elsewhere])
    assert "libx 1:2.0+b1~x is in no index that Debian signed" in refused(world)
    locks.write(path, "deb", good.date, good.packages)
    lock.check(images=world.images)


def test_a_kept_release_file_that_is_changed_or_missing_is_named(world):
    world.lock()
    path = release.kept_at(world.images / "base", "trixie-security")
    content = path.read_bytes()
    path.write_bytes(lzma.compress(lzma.decompress(content).replace(b"amd64", b"arm64")))
    assert "trixie-security's Release file was changed after it was signed" in refused(world)
    path.unlink()
    assert "trixie-security.InRelease.xz is missing" in refused(world)
    path.write_bytes(content)
    (world.images / "base/keys.in").write_text("not a fingerprint\n")
    assert "keys.in: not a fingerprint is no fingerprint" in refused(world)


def test_a_damaged_index_in_the_store_is_fetched_again(world):
    world.lock()
    [found] = [r for r in release.kept("trixie", base=world.images / "base")
               if r.suite == "trixie"]
    path = fetch.path_of(found.index.sha256, release.STORE)
    path.write_bytes(b"x" * found.index.size)
    lock.check(images=world.images)
    assert path.read_bytes() != b"x" * found.index.size
    path.unlink()
    world.server.files.clear()
    assert "the Packages index of trixie of" in refused(world)


def test_a_signature_outlives_its_key(keys):
    with new_key("1y", "--faked-system-time", "20200101T000000") as old:
        content = old.sign("a text\n", "--faked-system-time", "20200601T000000")
        signed = signatures.check(content, "it", frozenset([old.fingerprint]), [old.public])
    assert signed.text == b"a text\n"


def checked(content: bytes, key: Keys, keyring: Path) -> bytes:
    return signatures.check(content, "it", frozenset([key.fingerprint]), [keyring]).text


def revoked(key: Keys) -> Path:
    """The keyring after the owner has revoked the primary key."""
    [written] = (key.folder / "openpgp-revocs.d").iterdir()
    # A colon keeps it from being used by mistake.
    text = written.read_text().replace("\n:-----", "\n-----")
    subprocess.run([*key.gpg, "--import"], input=text.encode(), check=True, capture_output=True)
    keyring = key.folder / "revoked.gpg"
    subprocess.run([*key.gpg, "-o", str(keyring), "--export"], check=True)
    return keyring


def test_a_revoked_keys_signature_is_refused(keys):
    with new_key() as key:
        content = key.sign("a text\n")
        assert checked(content, key, key.public) == b"a text\n"
        keyring = revoked(key)
        with pytest.raises(signatures.BadSignature, match="no valid signature"):
            checked(content, key, keyring)


def test_a_revoked_key_that_has_expired_too_is_refused(keys):
    """Of a subkey, such as Debian signs with, gpgv's status then tells the expiry alone."""
    then = ("--faked-system-time", "20200101T000000")
    with new_key("never", *then) as key:
        add = ["--passphrase", "", "--quick-add-key", key.fingerprint, "rsa2048", "sign", "1y"]
        subprocess.run([*key.gpg, *then, *add], check=True, capture_output=True)
        keyring = key.folder / "with-subkey.gpg"
        subprocess.run([*key.gpg, "-o", str(keyring), "--export"], check=True)
        content = key.sign("a text\n", "--faked-system-time", "20200601T000000")
        assert checked(content, key, keyring) == b"a text\n"
        keyring = revoked(key)
        with pytest.raises(signatures.BadSignature, match="no valid signature"):
            checked(content, key, keyring)


def test_an_older_subkey_that_has_expired_does_no_harm(keys):
    then = ("--faked-system-time", "20200101T000000")
    with new_key("never", *then) as key:
        for options, expires in ((then, "1y"), ((), "never")):
            add = ["--passphrase", "", "--quick-add-key", key.fingerprint, "rsa2048", "sign",
                   expires]
            subprocess.run([*key.gpg, *options, *add], check=True, capture_output=True)
        keyring = key.folder / "with-subkeys.gpg"
        subprocess.run([*key.gpg, "-o", str(keyring), "--export"], check=True)
        assert checked(key.sign("a text\n"), key, keyring) == b"a text\n"


def test_what_was_signed_after_the_key_had_expired_is_refused(keys):
    then = ("--faked-system-time", "20200101T000000")
    with new_key("1y", *then) as key:
        longer = ["--passphrase", "", "--quick-set-expire", key.fingerprint, "20y"]
        subprocess.run([*key.gpg, *then, *longer], check=True, capture_output=True)
        content = key.sign("a text\n", "--faked-system-time", "20220601T000000")
        with pytest.raises(signatures.BadSignature, match="no valid signature"):
            checked(content, key, key.public)  # as it was before


def test_a_weak_hash_is_refused(keys):
    content = keys.sign("a text\n", "--digest-algo", "SHA1")
    assert b"Hash: SHA1" in content
    with pytest.raises(signatures.BadSignature):
        signatures.check(content, "it", frozenset([keys.fingerprint]), [keys.public])


def test_an_apt_that_says_other_than_the_index_is_not_believed(world, monkeypatch, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    real, edit = shutil.which("apt-get"), "s/SHA256:[0-9a-f]{4}/SHA256:0000/"
    (programs / "apt-get").write_text(f"#!/bin/sh\n{real} \"$@\" | sed -E '{edit}'\n")
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    assert "has other bytes than the index that Debian signed" in world.problem()


def test_without_gpgv_and_sqv_the_package_to_install_is_named(world, monkeypatch, tmp_path):
    world.lock()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no gpgv or sqv here" in refused(world)
