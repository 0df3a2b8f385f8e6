"""docs/gpu.md quotes the doctors' own lines: each that it quotes exists, and none is left out."""

import re

import pytest
from test_lint import ROOT

from scripts import host_findings
from scripts.shared import findings, nvidia

PAGE = (ROOT / "docs/gpu.md").read_text()
QUOTES = re.findall(r"^\| `(.+?)` \|", PAGE.split("## What you see")[1], re.MULTILINE)
#: Not about a GPU: said and explained by the doctor alone.
OTHERS = {"no-tensorflow", "memory", "disk", "home", "threads", "host-space", "host-full"}
ALL = {**findings.FINDINGS, **host_findings.FINDINGS}


def is_of(quote: str, cause: str) -> bool:
    """Whether a quote is a cause with "…" for its values, or also for all after a colon."""
    shown = re.sub(r"\{[\w!:.]+\}", "…", cause)
    head = quote.removesuffix(": …")
    return quote == shown or (head != quote and shown.startswith(head + ": "))


def test_the_page_quotes_many_lines():
    assert len(QUOTES) > 40
    assert len(QUOTES) == len(set(QUOTES))


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_line_is_one_that_a_doctor_says(quote):
    assert [key for key, finding in ALL.items() if is_of(quote, finding.cause)]


@pytest.mark.parametrize("key", sorted(set(ALL) - OTHERS))
def test_each_finding_about_gpus_is_on_the_page(key):
    assert [quote for quote in QUOTES if is_of(quote, ALL[key].cause)]


def test_the_page_names_the_floor_that_is_checked():
    checked = [*nvidia.DRIVER_FLOORS.values(), *nvidia.PTX_FLOORS.values()]
    floors = {nvidia.show(version) for version in checked}
    assert floors == set(re.findall(r"\b\d{3}\.\d{2,3}\.\d{2}\b", PAGE))
