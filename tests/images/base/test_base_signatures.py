"""Debian 13 has sqv where older ones have gpgv: the check with it, by the sqv of our own base."""

import shutil

import containers
import pytest

from scripts import fetch, locks, release, resolve_debs, signatures


@pytest.fixture
def only_sqv(tmp_path, monkeypatch):
    """A PATH that holds nothing but sqv, which runs in a container of the base image."""
    with containers.container(
        "hothouse/base:latest", "sleep", "infinity", options=["--network", "none", "--user", "0"]
    ) as container_id:
        docker, tar, shell = (shutil.which(name) for name in ("docker", "tar", "sh"))
        script = f"""#!{shell}
for word in "$@"; do case $word in
    --keyring=*) keyring=${{word#*=}} ;; --output=*) text=${{word#*=}} ;; esac; done
for file in "$keyring" "$word"; do
    {tar} --create --file - --dereference --absolute-names "$file" |
        {docker} exec --interactive {container_id} tar --extract --file - --absolute-names
done
{docker} exec {container_id} sqv "$@"; status=$?
[ $status = 0 ] && {docker} exec {container_id} cat "$text" >"$text"
exit $status
"""
        program = tmp_path / "sqv"
        program.write_text(script)
        program.chmod(0o755)
        with monkeypatch.context() as only_here:
            only_here.setenv("PATH", str(tmp_path))
            yield


def test_sqv_checks_the_committed_release_files(only_sqv, locked_bytes):
    suite, _ = resolve_debs.read_input(resolve_debs.INPUT)
    assert [r.suite for r in release.kept(suite)] == [name for _, name in release.suites(suite)]
    keys = signatures.read_keys(release.BASE / "keys.in")
    keyrings = release.keyrings(release.BASE, release.STORE)
    locked = [p for p in locks.read(locks.DEBS).packages if p.name == release.KEYRING_PACKAGE]
    assert fetch.missing(locked) == []
    assert keyrings[-1].name == f"{locked[0].sha256}.gpg"
    for _, name in release.suites(suite):
        content = release.read_kept(release.kept_at(release.BASE, name))
        # By the keyring of the locked package alone, as on a machine that has none.
        signed = signatures.check(content, name, keys, keyrings[-1:])
        assert f"\nCodename: {name}\n" in signed.text.decode()
        assert b"PGP" not in signed.text
        changed = content.replace(b"amd64", b"arm64")
        assert changed != content
        with pytest.raises(signatures.BadSignature):
            signatures.check(changed, name, keys, keyrings[-1:])
