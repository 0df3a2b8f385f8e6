"""`inv fetch` against a server that lies. Everything is real but the server's honesty."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fetch_helpers import (
    DEB,
    LIMIT,
    content,
    deb,
    fetch,
    noise,
    partial,
    problem,
    whl,
)

from scripts import fetch as fetching
from scripts import mirrors
from scripts.problem import Problem


def test_a_fetched_file_lies_under_its_hash_and_everybody_may_read_it(server, store):
    package = deb(server, noise(1000))
    fetch(server, store, package)
    path = fetching.path_of(package.sha256, store)
    assert path == store / "sha256" / package.sha256[:2] / package.sha256
    assert path.read_bytes() == noise(1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not partial(store, package).exists()


def test_what_is_there_is_not_asked_for_again_and_nothing_is_printed(server, store, capsys):
    package, _ = whl(server, noise(1000))
    fetch(server, store, package)
    first = capsys.readouterr().out.splitlines()
    assert first == ["fetching 1 file, 1 kB", "fetched tiny-wheel 1.0 (1 kB)"]
    server.asked.clear()
    fetch(server, store, package)
    assert server.asked == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "html"])
def test_a_wheel_is_found_by_its_hash_on_both_kinds_of_index(server, store, as_json):
    server.index_is_json = as_json
    package, _ = whl(server, noise(1000))
    fetch(server, store, package)
    assert content(store, package) == noise(1000)


@pytest.mark.parametrize("lie", ["wrong bytes", "truncated", "too long"])
def test_wrong_content_is_thrown_away_and_fetched_again_once(server, store, lie):
    package = deb(server, noise(100_000))
    server.lie(DEB, lie, times=1)
    fetch(server, store, package)
    assert content(store, package) == noise(100_000)
    assert server.ranges(DEB) == ["", ""]


@pytest.mark.parametrize(
    ("lie", "fault"),
    [
        ("wrong bytes", "another SHA-256"),
        ("truncated", "500 bytes instead of 1000"),
        ("too long", "1001 bytes instead of 1000"),
    ],
)
def test_content_that_stays_wrong_names_the_package_the_file_and_the_fault(
    server, store, lie, fault
):
    package = deb(server, noise(1000))
    server.lie(DEB, lie)
    message = problem(server, store, package).message
    assert f"tiny 1.0+b1~x: {package.file} came with {fault}" in message
    assert not fetching.path_of(package.sha256, store).exists()
    assert len(server.ranges(DEB)) == 2


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, store):
    package = deb(server, noise(100_000))
    server.lie(DEB, "broken off", times=2)
    fetch(server, store, package)
    assert content(store, package) == noise(100_000)
    assert server.ranges(DEB) == ["", "bytes=50000-", "bytes=75000-"]


def test_a_server_without_ranges_does_not_spoil_the_file(server, store):
    package = deb(server, noise(100_000))
    server.lie(DEB, "broken off", times=1)
    server.lie(DEB, "ignores range", times=1)
    fetch(server, store, package)
    assert content(store, package) == noise(100_000)
    assert server.ranges(DEB) == ["", "bytes=50000-"]


def test_a_spoilt_partial_file_is_thrown_away(server, store):
    package = deb(server, noise(1000))
    partial(store, package).parent.mkdir(parents=True)
    partial(store, package).write_bytes(b"x" * 400)
    fetch(server, store, package)
    assert content(store, package) == noise(1000)
    assert server.ranges(DEB) == ["bytes=400-", ""]


def test_a_server_that_stalls_is_tried_again_and_then_named(server, store):
    package = deb(server, noise(1000))
    server.lie(DEB, "stalls", times=1)
    fetch(server, store, package)
    other = deb(server, noise(1000, seed=1))
    server.lie(DEB, "stalls")
    begin = time.monotonic()
    message = problem(server, store, other).message
    assert "127.0.0.1 doesn't answer in time" in message
    assert time.monotonic() - begin < LIMIT


def test_a_redirect_is_followed(server, store):
    package = deb(server, noise(1000))
    server.lie(DEB, "redirect", times=1)
    fetch(server, store, package)
    assert content(store, package) == noise(1000)


def test_an_error_of_the_server_is_tried_again_and_then_told(server, store):
    package = deb(server, noise(1000))
    server.lie(DEB, "500", times=1)
    fetch(server, store, package)
    other, path = whl(server, noise(1000, seed=1))
    server.lie("/simple/tiny-wheel/", "500", times=1)
    server.lie(path, "500")
    assert "127.0.0.1 answers with an error (500)" in problem(server, store, other).message


def test_a_deb_that_is_gone_names_the_present_version_and_the_way_out(server, store):
    package = deb(server, noise(1000))
    deb(server, b"newer", DEB.replace("1.0+b1~x", "1.1+b2"))
    del server.files[DEB]
    gone = problem(server, store, package)
    assert isinstance(gone, fetching.Gone)
    assert "tiny 1.0+b1~x is gone from the Debian mirror; the mirror has 1.1+b2 now" in gone.cause
    assert "scripts/inv lock" in gone.fix


def test_a_deb_that_is_gone_comes_from_the_snapshot_of_the_locks_day(server, store, monkeypatch):
    monkeypatch.setenv("HOTHOUSE_SNAPSHOT", server.url)
    package = deb(server, noise(1000))
    old = "/archive/debian/20261121T235959Z" + DEB.removeprefix("/debian")
    server.add(old, server.files.pop(DEB))
    fetch(server, store, package)
    assert content(store, package) == noise(1000)
    assert server.ranges(old) == [""]


def test_a_snapshot_that_cannot_be_reached_changes_nothing(server, store, monkeypatch):
    monkeypatch.setenv("HOTHOUSE_SNAPSHOT", "http://127.0.0.1:9")
    package = deb(server, noise(1000))
    del server.files[DEB]
    assert isinstance(problem(server, store, package), fetching.Gone)


def test_a_wheel_that_is_gone_names_the_way_out(server, store):
    package, path = whl(server, noise(1000))
    server.lie(path, "404", times=1)
    assert "isn't on the index's server" in problem(server, store, package).message
    server.projects["tiny-wheel"].clear()
    gone = problem(server, store, package)
    assert f"tiny-wheel 1.0: {package.file} is gone from the index" in gone.cause
    assert "scripts/inv lock --upgrade tiny-wheel" in gone.fix
    del server.projects["tiny-wheel"]
    assert "has no project on the index" in problem(server, store, package).message


def test_other_bytes_under_the_locked_name_are_refused_before_the_download(server, store):
    package, path = whl(server, noise(1000))
    whl(server, noise(1000, seed=1))
    assert "has other bytes on the index now" in problem(server, store, package).message
    assert server.ranges(path) == []


def test_a_withdrawn_wheel_still_comes_but_is_named(server, store, capsys):
    package, _ = whl(server, noise(1000), yanked=True)
    fetch(server, store, package)
    assert content(store, package) == noise(1000)
    assert "tiny-wheel 1.0 was withdrawn by its authors" in capsys.readouterr().out


@pytest.mark.parametrize(("status", "words"), [("403", "refuses"), ("407", "wants a password")])
def test_a_refusal_is_told_at_once(server, store, status, words):
    package = deb(server, noise(1000))
    server.lie(DEB, status)
    message = problem(server, store, package).message
    assert words in message
    assert status in message
    assert len(server.ranges(DEB)) == 1


def test_a_proxy_that_wants_a_password_is_named(server, store, monkeypatch):
    package, _ = whl(server, noise(1000))
    monkeypatch.setenv("https_proxy", server.url)
    server.lie("CONNECT", "407")
    with pytest.raises(Problem, match=r"the proxy wants a password for nosuch\.invalid"):
        fetching.fetch([package], store=store, index="https://nosuch.invalid/simple/")


def test_a_proxy_of_apt_is_used_for_debs_alone(server, store, monkeypatch, tmp_path):
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Acquire::http::Proxy "{server.url}";\n')
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    monkeypatch.setenv("NO_PROXY", "")
    package = deb(server, noise(1000))
    # A host that only the proxy can reach.
    archives = {"debian": "http://nosuch.invalid/debian"}
    fetching.fetch([package], store=store, archives=archives, date="2026-11-21")
    assert content(store, package) == noise(1000)
    wheel, _ = whl(server, noise(1000, seed=1))
    with pytest.raises(Problem, match=r"nosuch\.invalid can't be resolved"):
        fetching.fetch([wheel], store=store, index="http://nosuch.invalid/simple/")


def test_a_closed_port_and_an_unknown_name_are_told_apart(server, store):
    package = deb(server, noise(1000))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/debian"
        with pytest.raises(Problem, match=r"127\.0\.0\.1 refuses connections"):
            fetching.fetch([package], store=store, archives={"debian": closed})
    with pytest.raises(Problem, match=r"the name nosuch\.invalid can't be resolved"):
        fetching.fetch([package], store=store, archives={"debian": "http://nosuch.invalid/debian"})


def test_a_certificate_that_is_not_trusted_names_the_setting(server, store, tmp_path):
    key = tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout KEY -out KEY.crt"
    done = subprocess.run(make.replace("KEY", str(key)).split(), capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no openssl here to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{key}.crt", key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as https:
        https.socket = context.wrap_socket(https.socket, server_side=True)
        https.handle_error = lambda *_: None
        threading.Thread(target=https.serve_forever, daemon=True).start()
        package = deb(server, noise(1000))
        archives = {"debian": f"https://127.0.0.1:{https.server_address[1]}/debian"}
        with pytest.raises(
            Problem, match=r"certificate of 127\.0\.0\.1 isn't trusted.*SSL_CERT_FILE"
        ):
            fetching.fetch([package], store=store, archives=archives)
        https.shutdown()


def test_a_damaged_file_in_the_store_is_found_and_thrown_away(server, store):
    good, bad = deb(server, noise(1000)), deb(server, noise(9, 1), DEB.replace("tiny_", "bad_"))
    fetch(server, store, good, bad)
    fetching.path_of(bad.sha256, store).write_bytes(bytes(9))
    assert fetching.verify([good, bad], store) == [bad]
    fetch(server, store, good, bad)
    assert fetching.verify([good, bad], store) == []


def test_a_store_that_cannot_be_written_is_told_in_one_line(server, tmp_path):
    (tmp_path / "store").write_text("a file where a folder should be")
    assert "can't be made" in problem(server, tmp_path / "store", deb(server, noise(10))).message


def test_passwords_of_addresses_are_not_shown():
    assert mirrors.shown("https://user:secret@host/simple/") == "https://host/simple/"
