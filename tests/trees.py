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


def strange_copy(folder: Path) -> Path:
    """Copy the checkout with its history: another path, no rights for others, other times.

    Its files are those that lie here, committed or not, so that its revision is the same.
    """
    root = folder / "another folder"
    options = {"check": True, "umask": 0o077, "capture_output": True, "text": True}
    if (ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], **options)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, **options,
        ).stdout
        for name in filter(None, listed.split("\0")):
            (root / name).unlink(missing_ok=True)
            if (ROOT / name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, root / name, follow_symlinks=False)
                if os.access(ROOT / name, os.X_OK):
                    (root / name).chmod(0o700)
    else:
        shutil.copytree(ROOT, root, ignore=LEFT_OUT, symlinks=True)
    store = Path(".artifacts", "store")
    shutil.copytree(ROOT / store, root / store, copy_function=private_copy)
    for path in sorted(root.rglob("*")):
        if ".git" not in path.parts and ".artifacts" not in path.parts:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
    return root


def private_copy(source: str, target: str) -> None:
    """Copy a small file of the store for its owner alone; link a large one."""
    if os.path.getsize(source) > 2_000_000:
        link_or_copy(source, target)
    else:
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
