"""Mirrors, index, proxies and certificates, from real configuration files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import mirrors
from scripts.problem import Problem

needs_apt = pytest.mark.skipif(not shutil.which("apt-config"), reason="no apt on this machine")
KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
CLEAN = (
    *("HOTHOUSE_DEBIAN_MIRROR", "HOTHOUSE_DEBIAN_MIRROR_SECURITY", "HOTHOUSE_SNAPSHOT"),
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"),
)


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An apt configuration of the test's own; write sources to ``…/sources.list(.d)``."""
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
    etc = tmp_path / "apt"
    (etc / "sources.list.d").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc "{etc}/";\nDir::State "{tmp_path}/state/";\n'
        f'Dir::State::status "/dev/null";\nDir::Cache "{tmp_path}/";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setattr(mirrors, "PYTHON_APT_TEMPLATE", tmp_path / "Debian.info")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home/.config"))
    mirrors.pip_config.cache_clear()
    yield etc
    mirrors.pip_config.cache_clear()


def urls() -> dict[str, str]:
    return {name: archive.url for name, archive in mirrors.debian_archives().items()}


@needs_apt
def test_deb822_sources_of_another_suite_give_the_mirror_and_its_key(apt):
    (apt / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian/\n"
        f"Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: {KEY}\n"
        "\n\n"
        "Types: deb\nURIs: http://safe.test/debian-security\nSuites: bookworm-security\n"
        f"Components: main contrib\nSigned-By: {KEY}\n"
    )
    found = mirrors.debian_archives()
    assert found["debian"] == mirrors.Archive("http://mirror.test/debian", KEY)
    assert found["debian-security"] == mirrors.Archive("http://safe.test/debian-security", KEY)


@needs_apt
def test_one_line_sources_work_and_security_lies_beside(apt):
    (apt / "sources.list").write_text(
        "# deb http://old.test/debian bookworm main\n"
        "deb-src http://src.test/debian bookworm main\n"
        f"deb [arch=amd64 signed-by={KEY}] http://mirror.test/x/debian bookworm main # mine\n"
    )
    assert urls() == {
        "debian": "http://mirror.test/x/debian",
        "debian-security": "http://mirror.test/x/debian-security",
    }


@needs_apt
def test_sources_that_are_not_debians_do_not_count(apt):
    (apt / "sources.list").write_text(
        "deb http://engine.test/linux/debian bookworm stable\n"
        "deb [signed-by=/etc/other.gpg] http://shop.test/debian bookworm main\n"
        "deb http://php.test/php bookworm main\n"
        "deb cdrom:[Debian]/debian bookworm main\n"
        "deb http://right.test/debian bookworm main\n"
    )
    (apt / "sources.list.d/off.sources").write_text(
        "Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: trixie\nComponents: main\n"
    )
    (apt / "sources.list.d/backup.sources.save").write_text(
        "Types: deb\nURIs: http://save.test/debian\nSuites: trixie\nComponents: main\n"
    )
    assert urls()["debian"] == "http://right.test/debian"
    assert [source.uri for source in mirrors.machine_sources()][-1] == "http://right.test/debian"


@needs_apt
@pytest.mark.parametrize("word", ["no", "false", "without", "off", "disable", "0", "Off"])
def test_a_source_that_is_switched_off_does_not_count(apt, word):
    (apt / "sources.list.d/off.sources").write_text(
        f"Types: deb\nEnabled: {word}\nURIs: http://off.test/debian\nSuites: trixie\n"
        "Components: main\n"
    )
    assert mirrors.machine_sources() == []


@needs_apt
def test_a_key_written_into_the_source_is_kept_whole(apt):
    (apt / "sources.list.d/a.sources").write_text(
        "Types: deb\nURIs: http://mirror.test/other\nSuites: trixie\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n -----END PGP\n"
    )
    (source,) = mirrors.machine_sources()
    assert source.signed_by.splitlines()[1:3] == [" .", " mQ"]


@needs_apt
def test_a_list_of_mirrors_gives_the_first(apt, tmp_path):
    (tmp_path / "mirrors.list").write_text(
        "# comment\nhttps://first.test/debian\nhttps://b.test/\n"
    )
    (apt / "sources.list").write_text(f"deb mirror+file:{tmp_path}/mirrors.list bookworm main\n")
    assert urls()["debian"] == "https://first.test/debian"


@needs_apt
def test_the_template_of_python_apt_helps_on_ubuntu_and_the_variable_beats_all(
    apt, tmp_path, monkeypatch
):
    (apt / "sources.list").write_text("deb http://ubuntu.test/ubuntu noble main universe\n")
    with pytest.raises(Problem, match="HOTHOUSE_DEBIAN_MIRROR"):
        mirrors.debian_archives()
    (tmp_path / "Debian.info").write_text("Suite: x\nBaseURI: https://deb.test/debian/\n")
    assert urls()["debian-security"] == "https://deb.test/debian-security"
    monkeypatch.setenv("HOTHOUSE_DEBIAN_MIRROR", "http://mine.test/debian/")
    assert urls()["debian"] == "http://mine.test/debian"
    assert urls()["debian-security"] == "http://mine.test/debian-security"
    monkeypatch.setenv("HOTHOUSE_DEBIAN_MIRROR_SECURITY", "http://mine.test/sec/")
    assert urls()["debian-security"] == "http://mine.test/sec"


def test_the_snapshot_server_is_the_neighbour_of_a_host_named_deb(monkeypatch):
    found = mirrors.snapshot("https://deb.test/debian", "debian-security", "2026-11-21")
    assert found == "https://snapshot.test/archive/debian-security/20261121T235959Z"
    assert mirrors.snapshot("https://mirror.test/debian", "debian", "2026-11-21") is None
    monkeypatch.setenv("HOTHOUSE_SNAPSHOT", "http://old.test/")
    found = mirrors.snapshot("https://mirror.test/debian", "debian", "2026-11-21")
    assert found == "http://old.test/archive/debian/20261121T235959Z"


@needs_apt
def test_apts_proxies_are_read_with_their_exceptions(tmp_path):
    with open(tmp_path / "apt.conf", "a") as file:
        file.write(
            'Acquire::http::Proxy "http://proxy.test:3128";\n'
            'Acquire::HTTP::Proxy::near.test "DIRECT";\n'
        )
    assert mirrors.apt_proxies() == {
        "http": "http://proxy.test:3128",
        "https": "http://proxy.test:3128",
        "http://near.test": "",
    }


def test_the_index_comes_from_pips_files_and_variables_in_their_order(tmp_path, monkeypatch):
    configuration = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))

    def index(text: str) -> str:
        configuration.write_text(text)
        mirrors.pip_config.cache_clear()
        return mirrors.index_url()

    assert index("[global]\nindex-url = http://a.test/simple\n") == "http://a.test/simple/"
    both = "[install]\nindex_url=http://b.test/s/\n[global]\nindex-url=http://a.test/s/\n"
    assert index(both) == "http://b.test/s/"
    monkeypatch.setenv("PIP_INDEX_URL", "http://pip.test/simple")
    assert index(both) == "http://pip.test/simple/"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "mine=http://uv.test/simple")
    assert index(both) == "http://uv.test/simple/"
    with pytest.raises(Problem, match="no valid pip configuration"):
        index("not an ini file")
        mirrors.pip_config()


def test_the_certificates_of_the_machine_are_used_where_they_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "pip.conf").write_text(f"[global]\ncert = {tmp_path}/ca.pem\n")
    assert mirrors.certificates() == f"{tmp_path}/ca.pem"
    assert mirrors.session().verify == f"{tmp_path}/ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "not-there.pem"))
    assert mirrors.certificates() == f"{tmp_path}/ca.pem"
