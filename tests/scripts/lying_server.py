"""A real HTTP server for tests: a tiny Debian archive and package index that lies on command."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import threading
import zipfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

# What a server can do wrong with a file.
LIES = {
    "wrong bytes",  # right size, other content
    "truncated",  # half of the file, and says that this is all
    "too long",  # one byte more than the lock says
    "broken off",  # says the right size, closes half-way
    "stalls",  # sends half, then nothing more; nothing at all when it is asked for a range
    "slow",  # a little at a time
    "ignores range",
    "redirect",
    "403",
    "404",
    "407",
    "500",
}


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    path: str
    range: str


class LyingServer:
    """Serves ``files`` on 127.0.0.1 at a free port; ``with LyingServer() as server:``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.projects: dict[str, dict[str, dict]] = {}
        self.asked: list[Asked] = []
        self.index_is_json = True
        self._lies: dict[str, list[str]] = {}
        self._guard = threading.Lock()
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        # A client that goes away is what half of the tests are about.
        self._http.handle_error = lambda *_: None
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.index = f"{self.url}/simple/"
        self.archives = {
            "debian": f"{self.url}/debian",
            "debian-security": f"{self.url}/debian-security",
        }

    def __enter__(self) -> LyingServer:
        # A short poll: shutdown() waits for one.
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def lie(self, path: str, lie: str, times: int = 10_000) -> None:
        """Tell ``lie`` to the next ``times`` requests of ``path``."""
        assert lie in LIES, lie
        self._lies.setdefault(path, []).extend([lie] * times)

    def ranges(self, path: str) -> list[str]:
        """The Range headers of all requests of ``path``, ``""`` where there was none."""
        return [asked.range for asked in self.asked if asked.path == path]

    def add(self, path: str, content: bytes) -> str:
        """Serve ``content`` at ``path``; returns its SHA-256."""
        self.files[path] = content
        return hashlib.sha256(content).hexdigest()

    def add_wheel(
        self,
        project: str,
        version: str,
        requires: tuple[str, ...] = (),
        tag: str = "py3-none-any",
        content: bytes | None = None,
        yanked: bool = False,
    ) -> tuple[str, str, bytes]:
        """Serve a wheel, a real one unless given; returns its path, file name and content."""
        name = re.sub(r"[-.]", "_", project)
        file = f"{name}-{version}-{tag}.whl"
        content = wheel(name, version, requires, tag) if content is None else content
        digest = self.add(f"/files/{file}", content)
        entry = {
            "filename": file,
            "url": f"../../files/{file}",
            "hashes": {"sha256": digest},
            "size": len(content),
            "yanked": yanked,
        }
        self.projects.setdefault(project, {})[file] = entry
        return f"/files/{file}", file, content

    def _page(self, project: str) -> tuple[str, bytes]:
        files = list(self.projects[project].values())
        if self.index_is_json:
            page = {"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": []}
            return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        links = [
            f'<a href="{f["url"]}#sha256={f["hashes"]["sha256"]}"'
            f"{' data-yanked' if f['yanked'] else ''}>{html.escape(f['filename'])}</a>"
            for f in files
        ]
        return "text/html", f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>".encode()

    def _next_lie(self, path: str) -> str:
        with self._guard:
            left = self._lies.get(path)
            return left.pop(0) if left else ""

    def _handler(server: LyingServer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_CONNECT(self) -> None:
                self._say(int(server._next_lie("CONNECT") or 403))

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                wanted = self.headers.get("Range", "")
                server.asked.append(Asked(self.command, path, wanted))
                lie = server._next_lie(path)
                if lie.isdigit():
                    self._say(int(lie))
                    return
                if lie == "redirect":
                    self._say(302, Location=f"{server.url}{quote(path)}")
                    return
                project = path.strip("/").removeprefix("simple/")
                if path.startswith("/simple/") and project in server.projects:
                    kind, content = server._page(project)
                    self._send(content, lie, wanted, kind)
                    return
                if path not in server.files:
                    self._folder(path)
                    return
                self._send(server.files[path], lie, wanted, "application/octet-stream")

            do_HEAD = do_GET

            def _folder(self, path: str) -> None:
                names = {p.removeprefix(path) for p in server.files if p.startswith(path)}
                names = {name for name in names if "/" not in name}
                if not path.endswith("/") or not names:
                    self._say(404)
                    return
                links = "".join(f'<a href="{quote(n)}">{html.escape(n)}</a>\n' for n in names)
                self._send(links.encode(), "", "", "text/html")

            def _say(self, status: int, **headers: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def _send(self, content: bytes, lie: str, wanted: str, kind: str) -> None:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                start = int(match[1]) if match and lie != "ignores range" else 0
                total = len(content)
                if start >= total and start:
                    self._say(416)
                    return
                if lie == "wrong bytes":
                    content = bytes(byte ^ 1 for byte in content)
                content = content[start:] + (b"!" if lie == "too long" else b"")
                if lie == "truncated":
                    content = content[: len(content) // 2]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                self._body(content, lie)

            def _body(self, content: bytes, lie: str) -> None:
                half = len(content) // 2
                try:
                    if lie in ("broken off", "stalls"):
                        stuck = lie == "stalls" and "Range" in self.headers
                        self.wfile.write(b"" if stuck else content[:half])
                        self.wfile.flush()
                        if lie == "stalls":
                            server.closing.wait(60)
                        self.close_connection = True
                    elif lie == "slow":
                        for begin in range(0, len(content), 64 * 1024):
                            self.wfile.write(content[begin : begin + 64 * 1024])
                            if server.closing.wait(0.05):
                                return
                    else:
                        self.wfile.write(content)
                except OSError:
                    self.close_connection = True

        return Handler


def wheel(
    name: str, version: str, requires: tuple[str, ...] = (), tag: str = "py3-none-any"
) -> bytes:
    """The bytes of a tiny, valid wheel."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    extras = sorted(
        {match[1] for r in requires if (match := re.search(r"extra == '(\w[\w-]*)'", r))}
    )
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in (
            (f"{name}.py", ""),
            (f"{info}/METADATA", "\n".join([*lines, ""])),
            (f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"),
            (f"{info}/RECORD", ""),
        ):
            # A fixed date: equal wheels have equal bytes.
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()
