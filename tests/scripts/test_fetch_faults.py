"""`inv fetch` when the disk, the user or another process gets in its way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

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
    program,
    size,
    wait_until,
)

from scripts.paths import ROOT
from scripts.problem import Problem


def test_a_small_disk_is_told_before_the_download(server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes root's right to mount")
    try:
        package = deb(server, noise(1_000_000))
        message = problem(server, disk / "store", package).message
        assert "is full: fetching the packages needs 1.0 MB, " in message
        assert server.asked == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_fills_up_on_the_way_keeps_what_came(server, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk takes root's right to mount")
    try:
        small = deb(server, noise(1000), DEB.replace("tiny_", "small_"))
        large = deb(server, noise(3_000_000))
        server.lie(DEB, "slow")
        failed: list[Problem] = []
        thread = threading.Thread(
            target=lambda: failed.append(problem(server, disk / "store", small, large))
        )
        thread.start()
        wait_until(lambda: size(partial(disk / "store", large)) > 100_000)
        # Somebody else takes the rest, but for what the file system rounds up.
        with open(disk / "other", "wb", buffering=0) as other, contextlib.suppress(OSError):
            while True:
                other.write(bytes(4096))
        thread.join(LIMIT)
        assert "is full. Fix: free some space" in failed[0].message
        assert content(disk / "store", small) == noise(1000)
        kept = size(partial(disk / "store", large))
        assert kept > 100_000
        (disk / "other").unlink()
        server._lies.clear()
        fetch(server, disk / "store", small, large)
        assert server.ranges(DEB)[-1] == f"bytes={kept}-"
        assert content(disk / "store", large) == noise(3_000_000)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_file_size_limit_is_told_as_a_full_disk(server, store):
    package = deb(server, noise(1_000_000))
    # 256 blocks of 1 KiB; Python ignores SIGXFSZ, so the write itself fails.
    command = ["bash", "-c", 'ulimit -f 256; exec "$@"', "-", *program(server, store, package)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert "is full. Fix: free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert size(partial(store, package)) == 256 * 1024


def test_the_first_fatal_error_ends_the_others_soon(server, store, monkeypatch):
    monkeypatch.setenv("HOTHOUSE_FETCH_TIMEOUT", "60")
    packages = [
        deb(server, noise(200_000, seed=n), DEB.replace("tiny_", f"tiny{n}_")) for n in range(6)
    ]
    for n in range(5):
        server.lie(DEB.replace("tiny_", f"tiny{n}_"), "stalls")
    server.lie(DEB.replace("tiny_", "tiny5_"), "403")
    begin = time.monotonic()
    problem(server, store, *packages)
    assert time.monotonic() - begin < 3
    # The server still stalls: nobody waits for it any more.
    assert [t for t in threading.enumerate() if t.name.startswith("fetch-")] == []


def test_ctrl_c_ends_it_at_once_and_the_next_run_resumes(server, store, monkeypatch):
    monkeypatch.setenv("HOTHOUSE_FETCH_TIMEOUT", "60")
    package = deb(server, noise(3_000_000))
    stuck = deb(server, noise(1000, seed=1), DEB.replace("tiny_", "stuck_"))
    server.lie(DEB, "slow", times=1)
    server.lie(DEB.replace("tiny_", "stuck_"), "stalls", times=1)
    running = subprocess.Popen(
        program(server, store, package, stuck),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: size(partial(store, package)) > 100_000)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=LIMIT)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130, errors
    assert errors == ""
    kept = size(partial(store, package))
    assert 100_000 < kept < 3_000_000
    fetch(server, store, package, stuck)
    assert server.ranges(DEB)[-1] == f"bytes={kept}-"
    assert content(store, package) == noise(3_000_000)


def test_two_fetches_at_once_share_the_work(server, store):
    package = deb(server, noise(2_000_000))
    server.lie(DEB, "slow")
    command = program(server, store, package)
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(LIMIT) for process in both] == [0, 0]
    assert content(store, package) == noise(2_000_000)
    assert server.ranges(DEB) == [""]


def test_on_a_terminal_a_bar_shows_bytes_and_speed(server, store):
    package = deb(server, noise(2_000_000))
    server.lie(DEB, "slow")
    import pty

    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = program(server, store, package)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=slave, stderr=slave, env=environment
    ) as running:
        os.close(slave)
        output = b""
        with contextlib.suppress(OSError):
            while part := os.read(master, 4096):
                output += part
        os.close(master)
    assert running.returncode == 0
    shown = output.decode()
    assert "fetching 1 file" in shown
    assert "2.0 MB" in shown
    assert "MB/s" in shown
    assert "fetched" not in shown
