"""A notebook of the tests' own, started with the checkout's compose.yaml."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".artifacts" / "screenshots"
START_LIMIT_S = 120


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

    def run(self, *command: str) -> str:
        """Run a command on this project; its stdout.

        :raises AssertionError: with the command's own words when it fails.
        """
        uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (1000, 100)
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={
                **os.environ,
                "COMPOSE_PROJECT_NAME": self.project,
                "HOTHOUSE_IMAGE": "hothouse/jupyter:cpu",
                "HOTHOUSE_PORT": str(self.port),
                "HOTHOUSE_WORK": str(self.work),
                "HOTHOUSE_UID": str(uid),
                "HOTHOUSE_GID": str(gid),
            },
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start the notebook as a user does, and keep the address that is printed."""
        printed = re.findall(r"http://\S+", self.run("scripts/inv", "up"))
        assert len(printed) == 1, printed
        assert printed[0].startswith(f"{self.base}/lab?token=")
        self.token = parse_qs(urlsplit(printed[0]).query)["token"][0]

    def replace(self) -> None:
        """Put a new container in the place of the running one."""
        self.run("docker", "compose", "up", "--detach", "--force-recreate")
        self.start()
