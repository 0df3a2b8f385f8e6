"""A copy of this checkout in a folder with a space, and its `scripts/inv` as a user runs it."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import containers
from containers import ROOT

LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".env", ".artifacts", "work", "__pycache__", ".*_cache"
)
ERROR = re.compile(r"error: \S.*\. Fix: \S.*")


def link_or_copy(source: str, target: str) -> None:
    """Give a stored file a second name, or copy it where that is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@dataclass
class Tree:
    """The copy, and the environment that its commands run in."""

    root: Path
    tag: str
    environment: dict[str, str] = field(default_factory=dict)

    def start(
        self, *arguments: str, before: Sequence[str] = (), **settings: str | int | Path
    ) -> subprocess.Popen[str]:
        """Start ``scripts/inv`` without a terminal, in a session of its own.

        :param before: a command that starts it.
        :param settings: environment variables.
        """
        environment = {**os.environ, **self.environment}
        environment.update({name: str(value) for name, value in settings.items()})
        return subprocess.Popen(
            [*before, "scripts/inv", *arguments], cwd=self.root, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def inv(
        self, *arguments: str, limit: float = 120, before: Sequence[str] = (),
        **settings: str | int | Path
    ) -> tuple[int, str]:
        """Run ``scripts/inv`` to its end and return its status and what it prints.

        :param limit: seconds.
        :param before: see :meth:`start`.
        """
        return finish(self.start(*arguments, before=before, **settings), limit=limit)

    def works(self, *arguments: str, **settings: str | int | Path) -> str:
        """Run ``scripts/inv``, which has to succeed, and return what it prints."""
        status, said = self.inv(*arguments, **settings)
        assert status == 0, said
        return said

    def fails(self, *arguments: str, **settings: str | int | Path) -> str:
        """Run ``scripts/inv``, which has to fail with one line, and return that line."""
        status, said = self.inv(*arguments, **settings)
        assert status == 1, said
        return the_error(said)


def finish(process: subprocess.Popen[str], said: str = "", limit: float = 120) -> tuple[int, str]:
    """Wait for the end of a command; one that does not end in time is killed with its children.

    :param said: what was read of its output before.
    :param limit: seconds.
    :returns: its exit status and all of its output.
    """
    try:
        rest, _ = process.communicate(timeout=limit)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, said + rest


def read_until(process: subprocess.Popen[str], sign: str) -> str:
    """Read a command's output up to the line with ``sign``.

    :raises AssertionError: it ended before.
    """
    said = ""
    for line in process.stdout:
        said += line
        if sign in line:
            return said
    raise AssertionError(f"ended without {sign!r}:\n{said}")


def the_error(said: str) -> str:
    """Return the one line of an error; there is no second one, no traceback, and nothing after."""
    lines = said.rstrip("\n").splitlines()
    assert "Traceback" not in said, said
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], said
    assert ERROR.fullmatch(lines[-1]), said
    return lines[-1]


def copy(folder: Path) -> Tree:
    """Copy the checkout without its history; its images get names of their own."""
    root = folder / "a copy"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT, symlinks=True)
    (root / ".artifacts").mkdir()
    shutil.copytree(ROOT / ".artifacts" / "store", root / ".artifacts" / "store",
                    copy_function=link_or_copy)
    tag = containers.unique("built")
    bake = root / "docker-bake.hcl"
    bake.write_text(re.sub(r'(tags += \[")[^"/]+/', rf"\g<1>{tag}/", bake.read_text()))
    return Tree(root, tag)


def edited(path: Path, edit: Callable[[str], str]):
    """Return a context in which a file of the copy is changed."""
    from contextlib import contextmanager

    @contextmanager
    def change():
        content = path.read_text()
        path.write_text(edit(content))
        try:
            yield
        finally:
            path.write_text(content)

    return change()
