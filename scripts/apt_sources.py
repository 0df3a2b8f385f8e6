"""Read the package sources of apt, of both formats (sources.list(5)), into the same fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

#: The options of a one-line source that a stanza has as fields.
OPTIONS = {
    "arch": "Architectures",
    "signed-by": "Signed-By",
    "trusted": "Trusted",
    "check-valid-until": "Check-Valid-Until",
}
#: How apt writes that something is not so.
NO = ("no", "false", "without", "off", "disable", "0")


def read(path: Path) -> Iterator[dict[str, str]]:
    """The enabled sources of a file, each with at least ``Types``, ``Uris``, ``Suites`` and
    ``Components``. A value keeps its line breaks and leading spaces.

    :param path: ``….list`` or ``….sources``.
    :raises OSError: it can't be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    for fields in stanzas(text) if path.suffix == ".sources" else lines(text):
        if fields.get("Uris") and fields.get("Enabled", "yes").strip().lower() not in NO:
            yield {"Types": "", "Suites": "", "Components": "", **fields}


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read the stanzas of a deb822 file."""
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", rest):
        fields = re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.MULTILINE)
        yield {key.title(): value for key, value in fields}


def lines(text: str) -> Iterator[dict[str, str]]:
    """Read a one-line-style file into the fields that a stanza would have."""
    for line in text.splitlines():
        found = re.match(r"\s*(deb)\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if found:
            kind, options, uri, suite, components = found.groups()
            entry = {"Types": kind, "Uris": uri, "Suites": suite, "Components": components.strip()}
            for option in (options or "").split():
                key, _, value = option.partition("=")
                if key.lower() in OPTIONS:
                    entry[OPTIONS[key.lower()]] = value.replace(",", " ")
            yield entry
