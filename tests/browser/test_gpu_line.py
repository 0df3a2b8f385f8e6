"""The Lab's status bar says which GPU is used, or why none; each GPU here is a stand-in.

They test what the Lab shows, not that a GPU computes.
"""

import json
from pathlib import Path

import pytest
import servers
from playwright.sync_api import Locator, Page, expect
from watch import Watch

#: A device node is all that the CPU image needs to be asked for a GPU.
NODE = ["--device", "/dev/null:/dev/nvidia0"]


def _open(page: Page, it: servers.Server) -> None:
    page.goto(f"http://127.0.0.1:{it.port}/lab?token={it.token}")
    expect(page.locator("#jp-main-statusbar")).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-LauncherCard").first).to_be_visible(timeout=60_000)


def _item(page: Page) -> Locator:
    return page.locator("#jp-main-statusbar #hothouse-gpu")


def _stand_in(folder: Path, text: str) -> list[str]:
    """Mount a command `hothouse` that prints a text, in the place of the image's own."""
    program = folder / "hothouse"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    return ["--volume", f"{program}:/usr/local/bin/hothouse:ro"]


def test_the_cpu_image_without_a_gpu_shows_nothing(page: Page):
    watch = Watch(page)
    with servers.server() as it:
        _open(page, it)
        expect(_item(page)).to_have_count(0)
    assert (watch.hosts, watch.failed, watch.errors) == ({"127.0.0.1"}, [], [])


def test_the_cpu_image_with_a_gpu_names_the_cause_and_in_the_tooltip_the_fix(page: Page):
    watch = Watch(page)
    with servers.server(options=NODE) as it:
        _open(page, it)
        expect(_item(page)).to_be_visible()
        expect(_item(page)).to_have_text("no GPU: this is the CPU image, and a GPU was asked for: "
                                         "/dev/nvidia0 is here")
        title = _item(page).get_attribute("title")
        assert title.startswith("Fix: use the tag :cuda instead of :cpu")
        assert _item(page).get_attribute("aria-label").endswith(f". {title}")
    assert (watch.hosts, watch.failed, watch.errors) == ({"127.0.0.1"}, [], [])


def test_a_gpu_that_works_is_named(page: Page, tmp_path: Path):
    line = "GPU: NVIDIA <b>Stand-in</b>, driver 550.54.15, compute capability 9.0"
    said = json.dumps({"ok": True, "line": line, "cause": "", "fix": ""})
    with servers.server(options=_stand_in(tmp_path, said)) as it:
        _open(page, it)
        expect(_item(page)).to_have_text("GPU: NVIDIA <b>Stand-in</b>")
        assert _item(page).get_attribute("title") == line


@pytest.mark.parametrize("said", ("", "{}", "not JSON"), ids=("nothing", "no_answer", "no_json"))
def test_a_doctor_that_fails_is_said_with_its_fix(said: str, page: Page, tmp_path: Path):
    with servers.server(options=_stand_in(tmp_path, said)) as it:
        _open(page, it)
        expect(_item(page)).to_have_text("no GPU: hothouse gpu gave no answer")
        assert _item(page).get_attribute("title") == "Fix: run hothouse doctor in a terminal"
