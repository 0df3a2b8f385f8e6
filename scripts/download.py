"""Download one file into the content-addressed store: resumed, checked, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3

from scripts import mirrors
from scripts.locks import Package, shown
from scripts.problem import Problem

CHUNK = 256 * 1024
# How often in a row a connection may break before it brings a single byte.
TRIES = 4
# How often in all, for one that always brings a little.
BREAKS = 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotThere(Exception):
    """The server says that it hasn't the file (404, 410)."""


class LocalProblem(Problem):
    """This machine can't take the file; no other server would help."""


class Stopped(Exception):
    """Another file failed, or the user pressed Ctrl-C: leave the partial file as it is."""


def path_of(sha256: str, store: Path) -> Path:
    """Where ``store`` keeps the file with this hash, be it there or not."""
    return store / "sha256" / sha256[:2] / sha256


def partial_of(sha256: str, store: Path) -> Path:
    """Where the file lies until all of it has come and was checked."""
    return store / "partial" / sha256


def is_there(package: Package, store: Path) -> bool:
    """Whether the store has the package's file, whole. The hash was checked when it came."""
    path = path_of(package.sha256, store)
    return path.is_file() and path.stat().st_size == package.size


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def timeout() -> float:
    """Seconds without a byte after which a connection counts as stalled."""
    try:
        return float(os.environ.get("HOTHOUSE_FETCH_TIMEOUT", "30"))
    except ValueError:
        raise Problem(
            "HOTHOUSE_FETCH_TIMEOUT isn't a number", "set it to seconds or unset it"
        ) from None


class Downloader:
    """Downloads with one session for several threads.

    :param report: called with a package and the bytes of it that are here now; may fall.
    :param stop: set by somebody else to make every thread give up soon.
    """

    def __init__(
        self,
        store: Path,
        session: requests.Session,
        stop: threading.Event,
        report: Callable[[Package, int], None],
    ) -> None:
        self.store, self.session, self.stop, self.report = store, session, stop, report
        self.timeout = timeout()
        self._open: set[requests.Response] = set()
        self._guard = threading.Lock()

    def abort(self) -> None:
        """End all reads that wait for a server; ``stop`` must be set before."""
        with self._guard:
            for response in self._open:
                with contextlib.suppress(Exception):
                    response.raw.shutdown()

    def get(self, package: Package, url: str, proxies: dict[str, str] | None = None) -> None:
        """Bring the package's file from ``url`` into the store.

        A broken connection is taken up again where it broke. Content that isn't what the lock
        says is thrown away and fetched once more.

        :raises NotThere: the server hasn't got it.
        :raises Problem: it can't be had, or comes wrong twice.
        """
        try:
            with self._claim(package) as file:
                if file is not None:
                    self._fill(package, url, proxies, file)
        except requests.RequestException:
            raise
        except OSError as error:
            if error.errno in FULL:
                raise LocalProblem(
                    f"the disk under {shown(self.store)} is full",
                    "free some space and run it again; what came is kept",
                ) from None
            raise LocalProblem(
                f"{shown(self.store)} can't be written: {error.strerror or error}",
                "make it writable for you",
            ) from None
        self.report(package, package.size)

    @contextlib.contextmanager
    def _claim(self, package: Package) -> Iterator[BinaryIO | None]:
        """The partial file, ours alone; None when meanwhile another process has finished it."""
        partial = partial_of(package.sha256, self.store)
        partial.parent.mkdir(parents=True, exist_ok=True)
        path_of(package.sha256, self.store).parent.mkdir(parents=True, exist_ok=True)
        while True:
            # Unbuffered: whatever ends this process, what came is in the file.
            with open(partial, "a+b", buffering=0) as file:
                while True:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if self.stop.wait(0.1):
                            raise Stopped from None
                try:
                    ours = os.stat(partial).st_ino == os.fstat(file.fileno()).st_ino
                except FileNotFoundError:
                    ours = False
                if is_there(package, self.store):
                    if ours:
                        partial.unlink()
                    yield None
                    return
                # While we waited the other process renamed or removed the file: open it anew.
                if ours:
                    yield file
                    return

    def _fill(self, package: Package, url: str, proxies: dict | None, file: BinaryIO) -> None:
        failures = breaks = wrong = 0
        while True:
            before = os.fstat(file.fileno()).st_size
            try:
                fault = self._stream(package, url, proxies, file)
            except requests.RequestException as error:
                if self.stop.is_set():
                    raise Stopped from None
                grown = os.fstat(file.fileno()).st_size > before
                failures = 0 if grown else failures + 1
                breaks += 1
                status = getattr(error.response, "status_code", None)
                # Some errors don't pass by waiting: a name, a certificate, a password.
                lasting = isinstance(
                    error, requests.exceptions.SSLError | requests.exceptions.ProxyError
                )
                if lasting or failures >= TRIES or breaks > BREAKS:
                    raise (
                        mirrors.refused(status, url) if status else mirrors.trouble(error, url)
                    ) from None
                if self.stop.wait(min(0.5 * 2**failures, self.timeout)):
                    raise Stopped from None
                continue
            if fault is None:
                os.fchmod(file.fileno(), 0o644)
                # A crash after the rename must not leave a file of the right size full of zeros.
                os.fsync(file.fileno())
                os.replace(
                    partial_of(package.sha256, self.store), path_of(package.sha256, self.store)
                )
                return
            file.truncate(0)
            self.report(package, 0)
            wrong += 1
            if wrong > 1:
                raise Problem(
                    f"{package.name} {package.version}: {package.file} came with {fault}",
                    "try another mirror or index; if the lock is wrong, scripts/inv lock",
                )

    def _stream(
        self, package: Package, url: str, proxies: dict | None, file: BinaryIO
    ) -> str | None:
        """Read the rest of the file; returns what is wrong with the whole, None if it is right."""
        have = os.fstat(file.fileno()).st_size
        if have > package.size:
            have = 0
            file.truncate(0)
        digest = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        if have < package.size:
            headers = {"Range": f"bytes={have}-"} if have else {}
            response = self.session.get(
                url, headers=headers, stream=True, proxies=proxies, timeout=self.timeout
            )
            with response, self._watched(response):
                if response.status_code in (404, 410):
                    raise NotThere(url)
                if response.status_code == 416:
                    return "other bytes than the lock's size says"
                if response.status_code == 429 or response.status_code >= 500:
                    raise requests.HTTPError(response=response)
                if not response.ok:
                    raise mirrors.refused(response.status_code, url)
                start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
                if response.status_code != 206 or not start or int(start[1]) != have:
                    # The server doesn't resume: from the start, not appended to what is here.
                    if response.status_code == 206:
                        return "a range that nobody asked for"
                    have, digest = 0, hashlib.sha256()
                    file.truncate(0)
                length = response.headers.get("Content-Length", "")
                if length.isdigit() and have + int(length) != package.size:
                    return f"{have + int(length)} bytes instead of {package.size}"
                have = self._copy(response, package, file, digest, have)
        if have != package.size:
            return f"{have} bytes instead of {package.size}"
        return None if digest.hexdigest() == package.sha256 else "another SHA-256 than the lock's"

    def _copy(
        self, response: requests.Response, package: Package, file: BinaryIO, digest, have: int
    ) -> int:
        while chunk := self._read(response):
            if self.stop.is_set():
                raise Stopped
            view = memoryview(chunk)
            while view:
                # An unbuffered write may take less than it was given.
                view = view[file.write(view) :]
            digest.update(chunk)
            have += len(chunk)
            self.report(package, have)
            if have > package.size:
                break
        return have

    @staticmethod
    def _read(response: requests.Response) -> bytes:
        # Not iter_content: it waits for a full chunk, and loses what it has when the connection
        # breaks before.
        try:
            return response.raw.read1(CHUNK, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.exceptions.ReadTimeout(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise requests.exceptions.ConnectionError(error) from None

    @contextlib.contextmanager
    def _watched(self, response: requests.Response) -> Iterator[None]:
        with self._guard:
            self._open.add(response)
        try:
            yield
        finally:
            with self._guard:
                self._open.discard(response)
