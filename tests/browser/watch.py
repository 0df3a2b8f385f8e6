"""Notes what a page asks for and complains of."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page

# Complaints of JupyterLab's own that mean nothing for the user, each with its reason.
HARMLESS: dict[str, str] = {}


@dataclass
class Watch:
    """Everything that ``page`` requested, what failed, and its console's errors."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda r: self._host(r.url))
        self.page.on("websocket", lambda s: self._host(s.url))
        self.page.on("requestfailed", lambda r: self.failed.append(f"{r.url}: {r.failure}"))
        self.page.on("response", lambda r: self._answer(r.status, r.url))
        self.page.on("console", lambda m: self._said(m.type, m.text))
        self.page.on("pageerror", lambda e: self._said("error", str(e)))

    def _host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob"):
            self.hosts.add(parts.hostname or url)

    def _answer(self, status: int, url: str) -> None:
        if status >= 400:
            self.failed.append(f"{url}: {status}")

    def _said(self, kind: str, text: str) -> None:
        if kind == "error" and not any(known in text for known in HARMLESS):
            self.errors.append(text)
