"""The browser and the notebook that it looks at."""

import os
import shutil
from collections.abc import Iterator

import pytest
from containers import free_port, unique
from lab import SCREENSHOTS, Lab
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

# Chromium must ask nothing of anybody but the notebook.
CHROMIUM = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A healthy notebook with an empty work folder, gone with its volume afterwards."""
    work = tmp_path_factory.mktemp("work")
    if os.getuid() == 0:
        # The way to it is closed to others (pytest's own folders), the mount does not mind.
        os.chown(work, 1000, 100)
    lab = Lab(unique("browser"), free_port(), work)
    try:
        lab.start()
        yield lab
    finally:
        lab.run("docker", "compose", "down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    program = os.environ.get("HOTHOUSE_BROWSER") or shutil.which("chromium")
    assert program, "no Chromium here: apt-get install --no-install-recommends chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile that knows no cookie."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty tab; what it shows at the end of the test is kept as a picture."""
    page = context.new_page()
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png")
