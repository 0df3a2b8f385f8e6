"""The page that `inv report --html` writes, in a browser: whole, quiet, and for the keyboard."""

import subprocess
from pathlib import Path

from containers import ROOT
from playwright.sync_api import Page, expect
from watch import Watch


def test_the_page_shows_a_treemap_that_leads_to_its_table(page: Page, tmp_path: Path):
    path = tmp_path / "report.html"
    subprocess.run(["scripts/inv", "report", "hothouse/base", "--html", str(path)], cwd=ROOT,
                   capture_output=True, check=True)
    watch = Watch(page)
    page.goto(path.as_uri())
    cells = page.locator("svg a")
    assert cells.count() > 50
    expect(page.locator("svg a text").first).to_be_visible()
    # The largest package first; Enter on its box leads to its row.
    first = cells.first
    name = first.locator("text").first.text_content()
    first.focus()
    page.keyboard.press("Enter")
    row = page.locator("tr:target")
    expect(row).to_contain_text(name)
    expect(row).to_be_in_viewport()
    rows = page.locator("#packages tbody tr")
    page.get_by_label("Show those with").fill("libc6")
    expect(rows.locator("visible=true")).to_have_count(1)
    # No cell lies outside of the drawing.
    frame = page.locator("svg").bounding_box()
    for box in (cells.nth(number).bounding_box() for number in range(0, cells.count(), 10)):
        assert box["x"] >= frame["x"] - 1
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
        assert box["y"] + box["height"] <= frame["y"] + frame["height"] + 1
    assert watch.errors == []
    assert watch.failed == []
    assert {host for host in watch.hosts if not host.startswith("file:")} <= {""}
