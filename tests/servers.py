"""A Jupyter server in a container of a test, and how to speak with it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import containers
import requests

IMAGE = "hothouse/jupyter:cpu"
#: What a server prints with a level above "information" and is right to print.
EXPECTED = (
    # The address with the token; Jupyter calls that critical to have it seen at any level.
    re.compile(r"\[C .* ServerApp\] *$"),
    # The reason of an end that a test asked for.
    re.compile(r"\[C .* ServerApp\] received signal 15, stopping$"),
)
#: Speaks with the kernel whose ID is the first argument; the second is the code.
CLIENT = """
import os, sys, jupyter_client
kernel = jupyter_client.BlockingKernelClient(connection_file=os.path.join(
    os.environ["JUPYTER_RUNTIME_DIR"], f"kernel-{sys.argv[1]}.json"))
kernel.load_connection_file()
kernel.start_channels()
kernel.wait_for_ready(timeout=40)
kernel.execute_interactive(sys.argv[2], timeout=40)
kernel.stop_channels()
"""


@dataclass
class Server:
    """A server and the token that opens it."""

    container: str
    port: int
    token: str = ""
    base: str = "/"

    def ask(self, method: str, path: str, *, token: str | None = None, **options):
        """Send a request and return the answer, whatever its status; no redirection is followed.

        :param token: None for the right one, "" for none.
        """
        token = self.token if token is None else token
        headers = {"Authorization": f"token {token}"} if token else {}
        # Not by a proxy that the environment names.
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, f"http://127.0.0.1:{self.port}{self.base}{path}", headers=headers,
                timeout=20, allow_redirects=False, **options,
            )

    def get(self, path: str, **options):
        """GET; see :meth:`ask`."""
        return self.ask("GET", path, **options)

    def answers(self) -> bool:
        """Tell whether the server answers at all."""
        try:
            return self.get("api").status_code == 200
        except requests.RequestException:
            return False

    def wait(self) -> "Server":
        """Wait for the first answer; fails at once, with the log, when the container ended."""

        def ready() -> bool:
            if containers.inspect(self.container)["State"]["Status"] == "exited":
                raise AssertionError(f"the server ended:\n{containers.logs(self.container)}")
            return self.answers()

        containers.until(ready, "answer of the server", 60)
        return self

    def in_new_kernel(self, code: str = "print(6 * 7)") -> str:
        """Start a kernel through the server, run code in it, and return what it prints."""
        answer = self.ask("POST", "api/kernels", json={"name": "python3"})
        assert answer.status_code == 201, answer.text
        return containers.execute(
            self.container, "python", "-c", CLIENT, answer.json()["id"], code,
        ).stdout


def token_in(log: str) -> str:
    """Return the token of the address that a server printed."""
    found = re.search(r"lab\?token=(\w+)|/\?token=(\w+)|tree\?token=(\w+)", log)
    return next((group for group in found.groups() if group), "") if found else ""


def complaints(log: str) -> list[str]:
    """Return the lines of a log that warn, complain or belong to a traceback."""
    bad = re.compile(r"\[[WEC] |warning|error|traceback|exception", re.IGNORECASE)
    return [line for line in log.splitlines()
            if bad.search(line) and not any(known.match(line) for known in EXPECTED)]


@contextmanager
def server(
    *command: str, options: Sequence[str] = (), token: str = "", base: str = "/", port: int = 8888
) -> Iterator[Server]:
    """Start a server, wait for its first answer and yield it.

    :param command: instead of the image's own.
    :param token: the one that ``options`` set; by default the one in the log.
    :param base: where it serves, with a slash at both ends.
    :param port: inside the container.
    """
    outside = containers.free_port()
    published = ["--publish", f"127.0.0.1:{outside}:{port}"]
    with containers.container(IMAGE, *command, options=[*published, *options]) as container_id:
        it = Server(container_id, outside, token, base).wait()
        if not token:
            containers.until(lambda: token_in(containers.logs(container_id)), "token in the log")
            it.token = token_in(containers.logs(container_id))
        yield it
