"""Debian's packages are those of the lock, no more and no others."""

import os
import subprocess

import pytest


def _installed() -> dict[str, str]:
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split() for line in shown.splitlines()]
    assert {row[2] for row in rows} == {"ii"}, "a package is half installed or half removed"
    return {row[0]: row[1] for row in rows}


@pytest.mark.skipif(
    bool(os.environ.get("HOTHOUSE_DRIFTED")),
    reason="the image holds Debian's present packages: the mirror dropped the locked ones",
)
def test_debian_packages_are_those_of_the_lock(locked):
    wanted = {p.name: p.version for p in locked if p.kind == "deb" and p.layer != "bootstrap"}
    assert _installed() == wanted


def test_no_package_file_differs_from_what_debian_shipped():
    done = subprocess.run(["dpkg", "--verify"], capture_output=True, text=True, timeout=100)
    # A file that was left out on purpose is "missing"; a changed one has a 5 in its third place.
    changed = [line for line in done.stdout.splitlines() if line[2:3] == "5"]
    assert changed == []
