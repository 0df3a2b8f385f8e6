"""Where a locked file is to be had: the Debian mirror, its snapshots, the package index."""

from __future__ import annotations

import collections
import re
import threading
from urllib.parse import quote, unquote, urlsplit

import requests
from pypi_simple import NoSuchProjectError, PyPISimple

from scripts import download, locks, mirrors
from scripts.download import Downloader, NotThere, Stopped
from scripts.locks import Package
from scripts.problem import Problem


class Gone(Problem):
    """A locked .deb that no server has any more: Debian keeps only the newest version."""


class Sources:
    """Where each package's file is to be had."""

    def __init__(
        self,
        wanted: list[Package],
        archives: dict[str, str] | None,
        index: str | None,
        date: str | None,
    ) -> None:
        self.own_mirror = archives is None
        if archives is None and any(package.file.endswith(".deb") for package in wanted):
            archives = {name: archive.url for name, archive in mirrors.debian_archives().items()}
        self.archives = archives or {}
        self.index = index or mirrors.index_url()
        self.date = date
        self.apt_proxies = mirrors.apt_proxies() if self.archives else {}
        self.notes: set[str] = set()
        self._pages: dict[str, list] = {}
        self._guards: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def get(self, package: Package, downloader: Downloader) -> None:
        """Fetch one package, from wherever it is.

        :raises Problem: as of ``fetch``.
        """
        if package.file.endswith(".whl"):
            url = self._wheel(package, downloader)
            try:
                downloader.get(package, url)
            except NotThere:
                raise self._lost(package, "isn't on the index's server (404)") from None
            return None
        archive, path = package.file.split(":", 1)
        base = self.archives[archive]
        for address in (base, mirrors.snapshot(base, archive, self.date or _lock_date())):
            if address:
                url = f"{address.rstrip('/')}/{quote(path)}"
                try:
                    return downloader.get(package, url, self.apt_proxies or None)
                except NotThere:
                    continue
                except download.LocalProblem:
                    raise
                except Problem:
                    # A snapshot that can't be reached changes nothing: the mirror hasn't the file.
                    if address == base:
                        raise
        raise self._gone(package, f"{base.rstrip('/')}/{quote(path)}", downloader)

    def _gone(self, package: Package, url: str, downloader: Downloader) -> Gone:
        if self.own_mirror:
            # Only here: a fetch needs no resolver. It knows the suite, a folder shows all suites.
            from scripts import resolve_debs

            with self._guard:
                now = resolve_debs.newest(package.name)
        else:
            now = _now_in_folder(package, url, downloader, self.apt_proxies)
        has = f"; the mirror has {now} now" if now else ""
        return Gone(
            f"{package.name} {package.version} is gone from the Debian mirror{has}",
            "run scripts/inv lock to take the present versions",
        )

    def _wheel(self, package: Package, downloader: Downloader) -> str:
        with self._guard:
            guard = self._guards[package.name]
        with guard:
            if package.name not in self._pages:
                self._pages[package.name] = self._page(package, downloader)
            files = self._pages[package.name]
        same_name = [file for file in files if file.filename == package.file]
        same_bytes = [file for file in files if file.digests.get("sha256") == package.sha256]
        # An index without hashes can only be asked by name; the bytes are checked anyway.
        found = same_bytes or [file for file in same_name if not file.digests.get("sha256")]
        if not found:
            why = "has other bytes on the index now" if same_name else "is gone from the index"
            raise self._lost(package, why)
        if found[0].is_yanked:
            # Its bytes are the locked ones, so an old build can still be repeated.
            self.notes.add(
                f"note: {package.name} {package.version} was withdrawn by its authors; "
                f"scripts/inv lock --upgrade {package.name} takes another"
            )
        return self._with_password(found[0].url)

    def _page(self, package: Package, downloader: Downloader) -> list:
        client = PyPISimple(self.index, session=downloader.session)
        tries = download.TRIES
        for attempt in range(1, tries + 1):
            try:
                return client.get_project_page(package.name, timeout=downloader.timeout).packages
            except NoSuchProjectError:
                raise self._lost(package, "has no project on the index") from None
            except requests.HTTPError as error:
                status = error.response.status_code
                if (status < 500 and status != 429) or attempt == tries:
                    raise mirrors.refused(status, self.index) from None
            except requests.RequestException as error:
                if attempt == tries or isinstance(error, requests.exceptions.SSLError):
                    raise mirrors.trouble(error, self.index) from None
            if downloader.stop.wait(min(0.5 * 2**attempt, downloader.timeout)):
                raise Stopped
        raise AssertionError("unreachable")

    def _with_password(self, url: str) -> str:
        """``url`` with the index's own user and password where it lies on the index's host."""
        index, file = urlsplit(self.index), urlsplit(url)
        userinfo = index.netloc.rpartition("@")[0]
        if userinfo and file.netloc == index.netloc.rpartition("@")[2]:
            return file._replace(netloc=index.netloc).geturl()
        return url

    @staticmethod
    def _lost(package: Package, why: str) -> Problem:
        return Problem(
            f"{package.name} {package.version}: {package.file} {why}",
            f"run scripts/inv lock --upgrade {package.name}",
        )


def _lock_date() -> str:
    return locks.read(locks.DEBS).date


def _now_in_folder(package: Package, url: str, downloader: Downloader, proxies: dict) -> str:
    """The versions of ``package`` that the mirror's folder lists; ``""`` if it lists none."""
    folder, _, file = url.rpartition("/")
    architecture = file.rpartition("_")[2]
    try:
        page = downloader.session.get(
            f"{folder}/", timeout=downloader.timeout, proxies=proxies or None
        )
    except requests.RequestException:
        return ""
    if not page.ok:
        return ""
    pattern = (
        rf'href="(?:[^"]*/)?{re.escape(quote(package.name))}_([^"_/]+)_{re.escape(architecture)}"'
    )
    versions = sorted({unquote(version) for version in re.findall(pattern, page.text)})
    return ", ".join(versions)
