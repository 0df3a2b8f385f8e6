"""The wheels of the tool environment (scripts/requirements.txt), for a place without an index."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import requests
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from pypi_simple import DistributionPackage, NoSuchProjectError, PyPISimple

from scripts import fetch, mirrors
from scripts.locks import Package, replace
from scripts.paths import ARTIFACTS, ROOT
from scripts.problem import Problem

REQUIREMENTS = ROOT / "scripts" / "requirements.txt"
#: A bundle serves each of these, whatever Python made it: else two machines' bundles would differ.
PYTHONS = tuple((3, minor) for minor in range(10, 15))
#: That of the oldest host that the README names, Ubuntu 22.04.
GLIBC = 35
CACHE = ARTIFACTS / "tools.json"
TIMEOUT = (20.0, 60.0)


def locked(text: str) -> list[tuple[str, str, frozenset[str]]]:
    """Project, version and SHA-256 digests of each entry of a hash-locked requirements file."""
    return [
        (name, version, frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)))
        for name, version, rest in re.findall(
            r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(.*(?:\n[ \t].*)*)", text, re.MULTILINE
        )
    ]


def tags(python: tuple[int, int]) -> dict[Tag, int]:
    """The wheel tags that this CPython installs on Linux on x86-64, each with its rank."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    for legacy, minor in (("manylinux2014", 17), ("manylinux2010", 12), ("manylinux1", 5)):
        platforms.insert(platforms.index(f"manylinux_2_{minor}_x86_64") + 1, f"{legacy}_x86_64")
    interpreter = f"cp{python[0]}{python[1]}"
    ranked = [
        *cpython_tags(python, [interpreter], platforms),
        *compatible_tags(python, interpreter, platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(ranked)))}


def choose(files: list[DistributionPackage], digests: frozenset[str]) -> set[str]:
    """The digests of the wheels that any of ``PYTHONS`` would take."""
    wheels = {
        file.digests["sha256"]: parse_wheel_filename(file.filename)[3]
        for file in files
        if file.package_type == "wheel" and file.digests.get("sha256") in digests
    }
    chosen = set()
    for python in PYTHONS:
        ranks = tags(python)
        rated = [
            (min(ranks[tag] for tag in own if tag in ranks), digest)
            for digest, own in wheels.items()
            if any(tag in ranks for tag in own)
        ]
        chosen |= {min(rated)[1]} if rated else set()
    return chosen


def wheels(session: requests.Session | None = None) -> list[Package]:
    """The wheels of the tools for every Python that a bundle serves; asks the index once.

    :raises Problem: the index doesn't answer or hasn't the locked files.
    """
    text = REQUIREMENTS.read_text()
    key = hashlib.sha256(f"{PYTHONS} {GLIBC}\n{text}".encode()).hexdigest()
    try:
        known = json.loads(CACHE.read_text())
        if known["key"] == key:
            return [Package(**row) for row in known["wheels"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    session = session or mirrors.session()
    client = PyPISimple(mirrors.index_url(), session=session)
    entries = locked(text)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda entry: _look_up(client, session, *entry), entries))
    packages = [package for each in found for package in each]
    rows = [asdict(package) for package in packages]
    replace(CACHE, json.dumps({"key": key, "wheels": rows}, indent=1).encode())
    return packages


def _look_up(
    client: PyPISimple, session: requests.Session, project: str, version: str,
    digests: frozenset[str],
) -> list[Package]:
    try:
        files = client.get_project_page(project, timeout=TIMEOUT).packages
    except NoSuchProjectError:
        files = []
    except requests.HTTPError as error:
        raise mirrors.refused(error.response.status_code, client.endpoint) from None
    except requests.RequestException as error:
        raise mirrors.trouble(error, client.endpoint) from None
    chosen = choose(files, digests)
    if not chosen:
        raise Problem(
            f"the index has no locked wheel of {project} {version} for the tool environment",
            "check the index setting in pip's configuration",
        )
    by_digest = {file.digests.get("sha256"): file for file in files}
    return [
        Package(
            digest, by_digest[digest].size or _size(session, by_digest[digest].url),
            "any", "any", "tools", project, version, by_digest[digest].filename,
        )
        for digest in sorted(chosen)
    ]


def _size(session: requests.Session, url: str) -> int:
    try:
        answer = session.head(url, allow_redirects=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise mirrors.trouble(error, url) from None
    size = int(answer.headers.get("Content-Length", 0)) if answer.ok else 0
    if not size:
        raise Problem(f"{mirrors.shown(url)} tells no size", "use an index that does")
    return size


def fetch_all(store: Path) -> list[Package]:
    """Bring the tools' wheels into the store.

    :raises Problem: as of ``wheels`` and ``fetch``.
    """
    packages = wheels()
    fetch.fetch(packages, store=store)
    return packages
