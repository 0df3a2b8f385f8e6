"""A notebook of the tests' own, started with the checkout's compose.yaml."""

import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".artifacts" / "screenshots"
START_LIMIT_S = 120


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass
class Lab:
    """A running notebook: its compose project, port and work folder on the host."""

    project: str
    port: int
    work: Path
    token: str = ""

    @property
    def base(self) -> str:
        """The server's address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str = "/lab", token: str | None = None) -> str:
        """An address with a token: the server's own unless another is given."""
        return f"{self.base}{path}?{urlencode({'token': self.token if token is None else token})}"

    def compose(self, *arguments: str) -> str:
        """Run ``docker compose`` on this project; its stdout.

        :raises AssertionError: with compose's own words when it fails.
        """
        owner = {"HOTHOUSE_UID": str(os.getuid()), "HOTHOUSE_GID": "0"} if os.getuid() else {}
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, "--env-file", os.devnull, *arguments],
            cwd=ROOT,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("COMPOSE_")},
                "HOTHOUSE_PORT": str(self.port),
                "HOTHOUSE_WORK": str(self.work),
                **owner,
            },
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def start(self, *options: str) -> None:
        """Start the notebook, or start it again, and read its token once it is healthy."""
        self.compose("up", "--detach", *options)
        limit = time.monotonic() + START_LIMIT_S
        while (shown := self._state()) != ("running", "healthy"):
            assert time.monotonic() < limit, f"{shown}: {self.compose('logs', 'notebook')}"
            assert shown[0] in ("running", "created"), self.compose("logs", "notebook")
            time.sleep(0.3)
        listed = self.compose("exec", "-T", "notebook", "jupyter", "server", "list", "--json")
        servers = [json.loads(line) for line in listed.splitlines() if line.startswith("{")]
        assert len(servers) == 1, listed
        self.token = servers[0]["token"]

    def _state(self) -> tuple[str, str]:
        shown = self.compose("ps", "--all", "--format", "json", "notebook").strip()
        one = json.loads(shown.splitlines()[0]) if shown else {}
        return one.get("State", "created"), one.get("Health", "")
