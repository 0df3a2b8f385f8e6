"""`inv fetch`: bring every locked file into the store. The only step with a network."""

from __future__ import annotations

import dataclasses
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

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
from scripts.download import Downloader
from scripts.locks import Lock, Package
from scripts.paths import ARTIFACTS, STORE
from scripts.problem import Problem
from scripts.sources import Gone, Sources

THREADS = 8
DRIFT = ARTIFACTS / "drift" / "packages.lock"


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


def variants(name: str) -> tuple[str, ...]:
    """The variants of the locks that ``cpu``, ``cuda`` or ``all`` stands for.

    :raises Problem: another name.
    """
    known = {"cpu": ("cpu",), "cuda": ("cuda",), "all": ("cpu", "cuda")}
    if name not in known:
        raise Problem(f'no variant "{name}"', f"choose from: {', '.join(known)}")
    return known[name]


def run(
    variants: Iterable[str] = ("cpu",), platform: str = "linux/amd64", *, allow_drift: bool = False
) -> list[Lock]:
    """Fetch all that the images of a platform need.

    :param variants: ``cpu``, ``cuda``, both, or none for the base image alone.
    :returns: the locks to build from: packages of Debian, then wheels in the images' order.
    :raises Problem: as of ``fetch``.
    """
    debs = locked_or_drifted(locks.read(locks.DEBS), platform, allow_drift=allow_drift)
    wheels = [locks.read(path) for path in locks.WHEELS]
    fetch(
        package
        for lock in wheels for variant in variants for package in lock.select(platform, variant)
    )
    return [debs, *wheels]


def locked_or_drifted(
    lock: Lock, platform: str, *, allow_drift: bool, store: Path = STORE
) -> Lock:
    """Fetch a lock's files; where some are gone and that is allowed, those of today instead.

    :returns: ``lock``, or one resolved anew with ``drifted`` set: its image must say so.
    :raises Gone: a file is gone and ``allow_drift`` is false.
    """
    try:
        fetch(lock.select(platform, "any"), store=store, date=lock.date)
        return lock
    except Gone as gone:
        if not allow_drift:
            raise
        Console(highlight=False).print(
            f"note: {gone.cause}; Debian's present packages are used instead",
            soft_wrap=True,
        )
    # Only here: a fetch needs no resolver, and so no uv and no apt.
    from scripts import lock as resolver

    drifted = resolver.resolve_debs_to(DRIFT)
    fetch(drifted.select(platform, "any"), store=store, date=drifted.date)
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
    _room_for(wanted, store)
    sources = Sources(wanted, archives, index, date)
    console = Console(highlight=False)
    with _Report(console, wanted, store) as (report, done):
        _work(wanted, store, sources, report, done)
    for note in sorted(sources.notes):
        console.print(note, soft_wrap=True)


def _room_for(wanted: list[Package], store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            f"{locks.shown(store)} can't be made: {error.strerror}", "make it writable"
        ) from None
    partials = [download.partial_of(p.sha256, store) for p in wanted]
    need = sum(p.size for p in wanted) - sum(p.stat().st_size for p in partials if p.exists())
    enough_space(store, need, "fetching the packages")


def enough_space(folder: Path, need: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    :param need: bytes.
    :param what: the subject of the sentence that says so.
    :raises Problem: there is less.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise Problem(
            f"the disk under {locks.shown(folder)} is full: {what} needs {amount(need)}, "
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
        self.console, self.wanted, self.left = console, wanted, len(wanted)
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
            self._print(f"fetching {self._files()}, {amount(left)}")
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
        # The reads were ended; only a thread that is still connecting is left behind.
        deadline = time.monotonic() + 1
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        session.close()


def _next(results: queue.SimpleQueue) -> tuple[Package, BaseException | None]:
    while True:
        try:
            # With a limit, so that Ctrl-C comes through on every platform.
            return results.get(timeout=0.2)
        except queue.Empty:
            continue
