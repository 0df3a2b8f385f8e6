"""`inv fetch`: bring every locked file into the store. The only step with a network."""

from __future__ import annotations

import collections
import dataclasses
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import requests
from pypi_simple import NoSuchProjectError, PyPISimple
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from scripts import download, locks, mirrors
from scripts.download import Downloader, NotThere, Stopped
from scripts.locks import Lock, Package
from scripts.paths import ARTIFACTS, STORE
from scripts.problem import Problem

THREADS = 8
DRIFT = ARTIFACTS / "drift" / "packages.lock"


class Gone(Problem):
    """A locked .deb that no server has any more: Debian keeps only the newest version."""


def path_of(sha256: str, store: Path = STORE) -> Path:
    """Where the store keeps the file with this hash, be it there or not."""
    return download.path_of(sha256, store)


def missing(packages: Iterable[Package], store: Path = STORE) -> list[Package]:
    """Those of ``packages`` whose files the store hasn't got, the largest first."""
    found = {p.sha256: p for p in packages if not download.is_there(p, store)}
    return sorted(found.values(), key=lambda p: (-p.size, p.file))


def verify(packages: Iterable[Package], store: Path = STORE) -> list[Package]:
    """Read the packages' files again; throws away those that are damaged.

    :returns: the packages whose file is missing or was thrown away, to be fetched again.
    """
    packages = list(packages)
    bad = missing(packages, store)
    for package in {p.sha256: p for p in packages if p not in bad}.values():
        path = path_of(package.sha256, store)
        if download.sha256_of(path) != package.sha256:
            path.unlink()
            bad.append(package)
    return bad


def run(
    platform: str = "linux/amd64", variant: str = "cpu", *, allow_drift: bool = False
) -> list[Lock]:
    """Fetch all that the images of ``platform`` and ``variant`` need.

    :returns: the locks to build from: packages of Debian, then wheels in the images' order.
    :raises Problem: as of ``fetch``.
    """
    debs = locked_or_drifted(locks.read(locks.DEBS), platform, variant, allow_drift=allow_drift)
    wheels = [locks.read(path) for path in locks.WHEELS]
    fetch(package for lock in wheels for package in lock.select(platform, variant))
    return [debs, *wheels]


def locked_or_drifted(
    lock: Lock, platform: str, variant: str, *, allow_drift: bool, store: Path = STORE
) -> Lock:
    """Fetch a lock's files; where some are gone and that is allowed, those of today instead.

    :returns: ``lock``, or one resolved anew with ``drifted`` set: its image must say so.
    :raises Gone: a file is gone and ``allow_drift`` is false.
    """
    try:
        fetch(lock.select(platform, variant), store=store, date=lock.date)
        return lock
    except Gone as gone:
        if not allow_drift:
            raise
        Console(highlight=False).print(
            f"note: {gone.cause}; Debian's present packages are used instead of the lock"
        )
    # Only here: a fetch needs no resolver, and so no uv and no apt.
    from scripts import lock as resolver

    drifted = resolver.resolve_debs_to(DRIFT)
    fetch(drifted.select(platform, variant), store=store, date=drifted.date)
    return dataclasses.replace(drifted, drifted=True)


def fetch(
    packages: Iterable[Package],
    *,
    store: Path = STORE,
    archives: dict[str, str] | None = None,
    index: str | None = None,
    date: str | None = None,
) -> None:
    """Bring the packages' files into ``store``; silent when all are there.

    :param archives: base address of ``debian`` and ``debian-security``; default: this machine's.
    :param index: address of the package index; default: this machine's.
    :param date: ``YYYY-MM-DD`` for the snapshot of a .deb that the mirror has dropped; default:
        that of the committed lock.
    :raises Gone: a .deb is on no server.
    :raises Problem: any other reason why a file can't be had; what has come stays.
    """
    wanted = missing(packages, store)
    if not wanted:
        return
    _enough_space(wanted, store)
    sources = _Sources(wanted, archives, index, date)
    console = Console(highlight=False)
    with _Report(console, wanted, store) as (report, done):
        _work(wanted, store, sources, report, done)
    for note in sorted(sources.notes):
        console.print(note, soft_wrap=True)


def _enough_space(wanted: list[Package], store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            f"{locks.shown(store)} can't be made: {error.strerror}", "make it writable"
        ) from None
    partials = [download.partial_of(p.sha256, store) for p in wanted]
    need = sum(p.size for p in wanted) - sum(p.stat().st_size for p in partials if p.exists())
    free = shutil.disk_usage(store).free
    if need > free:
        raise Problem(
            f"the disk under {locks.shown(store)} is full: {amount(need)} to fetch, "
            f"{amount(free)} free",
            "free some space and run it again",
        )


def amount(size: int) -> str:
    """A size in bytes, for people."""
    if size >= 1e6:
        return f"{size / 1e6:.{0 if size >= 10e6 else 1}f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size} bytes"


class _Report:
    """A bar on a terminal, else one plain line for each file."""

    def __init__(self, console: Console, wanted: list[Package], store: Path) -> None:
        self.console, self.wanted = console, wanted
        self.here: dict[str, int] = {}
        for package in wanted:
            partial = download.partial_of(package.sha256, store)
            self.here[package.sha256] = partial.stat().st_size if partial.exists() else 0
        self.bar = Progress(
            TextColumn("fetching {task.fields[files]}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> tuple[Callable[[Package, int], None], Callable[[Package], None]]:
        total = sum(package.size for package in self.wanted)
        left = total - sum(self.here.values())
        if not self.console.is_terminal:
            self._print(f"fetching {len(self.wanted)} files, {amount(left)}")
        self.left = len(self.wanted)
        self.task = self.bar.add_task("", total=total, completed=total - left, files=self._files())
        self.bar.start()
        return self.report, self.done

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def _files(self) -> str:
        return f"{self.left} file" + "s" * (self.left != 1)

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)
        self.console.file.flush()

    def report(self, package: Package, here: int) -> None:
        """Called by the threads; rich takes its own lock."""
        gain = here - self.here[package.sha256]
        self.here[package.sha256] = here
        self.bar.advance(self.task, gain)

    def done(self, package: Package) -> None:
        """Called by the main thread, once for each file."""
        self.left -= 1
        self.bar.update(self.task, files=self._files())
        if not self.console.is_terminal:
            self._print(f"fetched {package.name} {package.version} ({amount(package.size)})")


def _work(wanted, store, sources, report, done) -> None:
    """Download in threads; the first fatal error ends all of them."""
    stop = threading.Event()
    todo: queue.SimpleQueue[Package] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Package, BaseException | None]] = queue.SimpleQueue()
    for package in wanted:
        todo.put(package)
    session = mirrors.session(pool=THREADS)
    downloader = Downloader(store, session, stop, report)

    def worker() -> None:
        while not stop.is_set():
            try:
                package = todo.get_nowait()
            except queue.Empty:
                return
            try:
                sources.get(package, downloader)
            except BaseException as error:  # handed to the main thread, which raises it
                results.put((package, error))
            else:
                results.put((package, None))

    # Daemons: a thread that waits for a dead server must not hold up the exit.
    threads = [
        threading.Thread(target=worker, name=f"fetch-{number}", daemon=True)
        for number in range(min(THREADS, len(wanted)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in wanted:
            package, error = _next(results)
            if error is not None:
                raise error
            done(package)
    finally:
        stop.set()
        downloader.abort()
        for thread in threads:
            thread.join(0.5)
        session.close()


def _next(results: queue.SimpleQueue) -> tuple[Package, BaseException | None]:
    while True:
        try:
            # With a limit, so that Ctrl-C comes through on every platform.
            return results.get(timeout=0.2)
        except queue.Empty:
            continue


class _Sources:
    """Where each package's file is to be had."""

    def __init__(
        self,
        wanted: list[Package],
        archives: dict[str, str] | None,
        index: str | None,
        date: str | None,
    ) -> None:
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
            return
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
