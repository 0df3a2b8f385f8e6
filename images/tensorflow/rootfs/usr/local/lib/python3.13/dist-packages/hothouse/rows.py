"""A doctor's report: rows, their table, their lines of cause and fix, their exit status."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

OK, INFO, WARN, FAIL = "ok", "info", "warn", "fail"
WIDTH = 100  # columns of the table
SPEAKING = {FAIL: "error", WARN: "warning"}


@dataclass(frozen=True)
class Row:
    """One thing that was looked at.

    ``key`` is the finding's name in findings.py, for programs; empty where all is well.
    """

    name: str
    status: str
    found: str
    cause: str = ""
    fix: str = ""
    key: str = ""


def table(rows: Sequence[Row], width: int = WIDTH) -> str:
    """Write one aligned table, at most ``width`` columns; what was found may take more lines."""
    first = max(len(row.name) for row in rows)
    indent = first + 2 + len(INFO) + 2
    lines = []
    for row in rows:
        head = f"{row.name:<{first}}  {row.status:<{len(INFO)}}  "
        body = textwrap.wrap(row.found, width - indent, break_on_hyphens=False) or [""]
        lines += [head + body[0], *(" " * indent + more for more in body[1:])]
    return "\n".join(line.rstrip() for line in lines)


def speech(rows: Iterable[Row]) -> str:
    """Write a line of cause and a line of fix for each failure, then for each warning."""
    ordered = sorted((r for r in rows if r.cause), key=lambda row: row.status != FAIL)
    return "\n".join(
        f"{SPEAKING.get(row.status, 'note')}: {row.cause}\n  fix: {row.fix}" for row in ordered
    )


def code(rows: Iterable[Row]) -> int:
    """Return the exit status: 1 where something failed."""
    return int(any(row.status == FAIL for row in rows))


def document(rows: Sequence[Row], **more: object) -> dict[str, object]:
    """Return all of a report as one JSON object.

    :param more: what the table has no room for.
    """
    return {"ok": code(rows) == 0, "rows": [asdict(row) for row in rows], **more}
