"""Runs probe.py and reads its answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

SCRIPT = str(Path(__file__).with_name("probe.py"))
#: Seconds. Without a persistence daemon the driver takes a second or two for each GPU, and each of
#: a context's start as many again.
LIMIT = 120.0


class Probe:
    """One run of probe.py, from its start to its answer."""

    def __init__(self, *words: str, environ: Mapping[str, str] | None = None) -> None:
        """Start it.

        :param words: its arguments.
        :param environ: its environment, this process's own by default.
        """
        self.began = time.monotonic()
        # Its own session: what hangs in the driver is ended with all its threads.
        self.process = subprocess.Popen(
            [sys.executable or "/usr/bin/python3", "-I", "-S", SCRIPT, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=dict(os.environ if environ is None else environ), text=True,
            start_new_session=True,
        )

    def age(self) -> float:
        """Return the seconds since its start."""
        return time.monotonic() - self.began

    def lines(self, limit: float = LIMIT) -> tuple[list[dict], str]:
        """Wait for its end.

        :param limit: seconds from its start on, so that probes side by side share one limit.
        :returns: its lines, and what went wrong ("" where nothing did).
        """
        try:
            out, _ = self.process.communicate(timeout=max(0.1, limit - self.age()))
            status = self.process.returncode
            wrong = ""
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            try:  # a process that hangs in the kernel does not end even so
                out, _ = self.process.communicate(timeout=2)
            except subprocess.TimeoutExpired:
                out = ""
            status, wrong = 0, f"no answer within {limit:.0f} s"
        if status:
            wrong = f"ended by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        found = []
        for line in out.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # a library that prints to the standard output
        return [line for line in found if isinstance(line, dict)], wrong

    def answer(self, limit: float = LIMIT) -> dict:
        """Wait for its end and return its one line; ``wrong`` is in it where it did not end well.

        :param limit: seconds from its start on.
        """
        found, wrong = self.lines(limit)
        answer = found[-1] if found else {}
        return {**answer, "wrong": wrong} if wrong or not found else answer


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def libraries(wanted: tuple[tuple[str, str, str, str], ...], limit: float = LIMIT) -> list[dict]:
    """Load each library and return what is known of it, in the same order.

    :param wanted: rows of nvidia.LIBRARIES.
    :param limit: seconds for each round; a library that crashes starts a new one.
    """
    found: list[dict] = []
    while len(found) < len(wanted):
        rest = wanted[len(found):]
        words = ["=".join((name, function, kind)) for name, _, function, kind in rest]
        lines, wrong = Probe("libraries", *words).lines(limit)
        found += lines
        if len(lines) < len(rest):
            found.append({"library": rest[len(lines)][0], "loads": False,
                          "error": wrong or "no answer"})
    return found
