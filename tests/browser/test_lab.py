"""What a learner does: open the address, run the first notebook, come back tomorrow."""

import json
import re
import time
import urllib.error
import urllib.request

import pytest
from lab import SCREENSHOTS, Lab
from playwright.sync_api import Locator, Page, expect
from watch import Watch

CELL_LIMIT_MS = 60_000
NOTEBOOK = "examples/digits.ipynb"


def _lab(page: Page, lab: Lab, token: str | None = None) -> None:
    """Open JupyterLab as at the first time: without the tabs of an earlier test."""
    page.goto(lab.url(token=token) + "&reset")
    expect(page.locator("#jp-main-dock-panel")).to_be_visible(timeout=60_000)


def _open(page: Page, lab: Lab) -> None:
    """Open JupyterLab and, by the file browser, the example notebook."""
    _lab(page, lab)
    names = page.locator(".jp-DirListing-itemText")
    names.filter(has_text=re.compile(r"^examples$")).dblclick()
    names.filter(has_text=re.compile(r"^digits\.ipynb$")).dblclick()
    _wait_for_kernel(page)


def _wait_for_kernel(page: Page) -> None:
    """Wait until the status bar says so: what is run before may get lost without a word."""
    expect(page.locator(".jp-NotebookPanel .jp-Notebook")).to_be_visible()
    expect(page.locator("#jp-main-statusbar")).to_contain_text(
        "Python 3 (ipykernel) | Idle", timeout=60_000
    )


def _cell(page: Page, index: int) -> Locator:
    return page.locator(f".jp-NotebookPanel .jp-Cell[data-windowed-list-index='{index}']")


def _run_all(page: Page, cells: list[dict]) -> int:
    """Run the notebook cell by cell with Shift+Enter; the number of code cells."""
    _cell(page, 0).locator(".jp-RenderedMarkdown").click(position={"x": 5, "y": 5})
    page.keyboard.press("Escape")
    count = 0
    for index, cell in enumerate(cells):
        expect(_cell(page, index)).to_have_class(re.compile("jp-mod-selected"))
        page.keyboard.press("Shift+Enter")
        if cell["cell_type"] == "code":
            count += 1
            prompt = _cell(page, index).locator(".jp-InputArea-prompt")
            expect(prompt).to_have_text(f"[{count}]:", timeout=CELL_LIMIT_MS)
    return count


def _read(lab: Lab, path: str = NOTEBOOK) -> dict:
    return json.loads((lab.work / path).read_text())


def _wait_for(condition, limit_s: float = 20) -> None:
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, "nothing changed in time"
        time.sleep(0.2)


def _api(lab: Lab, method: str, path: str, token: str, body: dict | None = None) -> int:
    """The status that the server's API answers."""
    request = urllib.request.Request(
        f"{lab.base}/api/{path}",
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"token {token}"} if token else {},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.timeout(300)
def test_the_first_notebook_runs_in_the_browser(lab: Lab, page: Page):
    watch = Watch(page)
    _open(page, lab)
    cells = _read(lab)["cells"]
    count = _run_all(page, cells)
    notebook = page.locator(".jp-NotebookPanel")
    expect(notebook.locator("[data-mime-type='application/vnd.jupyter.error']")).to_have_count(0)

    outputs = " ".join(notebook.locator(".jp-OutputArea-output").all_text_contents())
    found = [float(n) for n in re.findall(r"test accuracy[^:]*: ([01]\.\d+)", outputs)]
    assert len(found) == 2, outputs
    assert min(found) >= 0.95

    plots = notebook.locator(".jp-OutputArea-output img")
    expect(plots).to_have_count(4)
    for plot in plots.all():
        plot.scroll_into_view_if_needed()
        assert plot.evaluate("image => image.complete && image.naturalWidth") > 200

    page.keyboard.press("Control+s")
    _wait_for(lambda: sum(bool(c.get("execution_count")) for c in _read(lab)["cells"]) == count)
    for name in ("data", "curves", "confusion"):
        index = next(i for i, cell in enumerate(cells) if cell["id"] == name)
        plot = _cell(page, index).locator("img")
        plot.scroll_into_view_if_needed()
        expect(plot).to_be_in_viewport(ratio=1)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    assert watch.hosts == {"127.0.0.1"}
    assert watch.failed == []
    assert watch.errors == []


def test_the_token_and_the_files_stay_when_the_container_is_replaced(lab: Lab, page: Page):
    before = lab.token
    body = {"type": "file", "format": "text", "content": "kept\n"}
    assert _api(lab, "PUT", "contents/work/kept.txt", before, body) == 201
    first = lab.run("docker", "compose", "ps", "--quiet", "notebook")
    lab.replace()
    second = lab.run("docker", "compose", "ps", "--quiet", "notebook")
    assert second != first, "the container was not replaced"
    assert lab.token == before
    _lab(page, lab, before)
    kept = page.locator(".jp-DirListing-itemText").filter(has_text=re.compile(r"^kept\.txt$"))
    kept.dblclick()
    expect(page.locator(".jp-FileEditor .cm-content")).to_have_text("kept")
    assert (lab.work / "kept.txt").read_text() == "kept\n"


def test_nothing_is_asked_before_the_first_click(lab: Lab, page: Page):
    _lab(page, lab)
    expect(page.locator(".jp-LauncherCard").first).to_be_visible()
    # The bell at the bottom right counts what waits for an answer, such as "Jupyter news?".
    bell = page.locator(".jp-Notification-Status")
    expect(bell).to_be_visible()
    expect(bell).to_have_text("0")
    expect(page.locator(".Toastify__toast")).to_have_count(0)


def test_a_notebook_kernel_is_the_images_python(lab: Lab, page: Page):
    _lab(page, lab)
    page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    _wait_for_kernel(page)
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.type("import sys; print(sys.executable, sys.version_info[:2])")
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text(re.compile(r"^/usr/bin/python3? \(3, 13\)"))


@pytest.mark.parametrize("token", ("", "wrong"), ids=("no_token", "wrong_token"))
def test_without_the_token_there_is_only_the_login_page(token: str, lab: Lab, page: Page):
    page.goto(lab.url(token=token) if token else f"{lab.base}/lab")
    expect(page.locator("#password_input")).to_be_visible()
    assert "/login" in page.url
    expect(page.locator("#hothouse-token-help")).to_contain_text("missing or wrong. Fix: paste it")
    expect(page.locator("#jupyter-config-data")).to_have_count(0)
    assert _api(lab, "GET", "contents", token) == 403


def test_the_login_page_takes_the_token(lab: Lab, page: Page):
    page.goto(f"{lab.base}/lab")
    page.locator("#password_input").fill(lab.token)
    page.keyboard.press("Enter")
    expect(page.locator("#jp-main-dock-panel")).to_be_visible()
