"""The command line: invoke's own, but every error that a user sees is one line.

The launcher starts this with Ctrl-C ignored; it is answered from the first lines on.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Container
from typing import NoReturn

from scripts.paths import ARTIFACTS, ROOT

ONCE = "HOTHOUSE_REMADE"
INTERRUPTED = "error: interrupted. Fix: run the same command again; what was finished is kept"
OUTPUT = "see its output above"
#: Tasks that take words without their flags, in this order.
OPTIONAL_WORDS = {
    "bench": ("--variant",), "build": ("--target",), "evidence": ("--image",),
    "fetch": ("--variant",), "report": ("--image", "--other"), "test": ("--part",),
    "verify": ("--image",),
}
remade = os.environ.pop(ONCE, None) is not None


def remake_environment() -> None:
    """Start again through the launcher, which makes .venv anew, unless that was just done."""
    if not remade:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        (ROOT / ".venv" / "requirements.txt").unlink(missing_ok=True)
        launcher = str(ROOT / "scripts" / "inv")
        os.execve(launcher, [launcher, *sys.argv[1:]], {**os.environ, ONCE: "1"})  # noqa: S606


def give_up(*_: object) -> NoReturn:
    """Answer Ctrl-C while the modules are still being imported."""
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, give_up)
try:
    from invoke.config import Config
    from invoke.exceptions import Exit, Failure, ParseError
    from invoke.program import Program

    from scripts.problem import Problem
except ImportError:  # a file of the environment was deleted or damaged
    remake_environment()
    raise


class OwnConfig(Config):
    """invoke's configuration without /etc/invoke.* and ~/.invoke.*, which are about other tools."""

    def load_system(self, merge: bool = True) -> None:
        """Read nothing."""

    def load_user(self, merge: bool = True) -> None:
        """Read nothing."""


def with_flags(
    argv: list[str], task: str, flags: tuple[str, ...], tasks: Container[str],
    takes_value: Container[str] = (),
) -> list[str]:
    """Let a task take optional words, which invoke's own positional arguments cannot be.

    :param argv: such as ``inv build base``.
    :param takes_value: the task's flags that are followed by a value.
    :returns: ``inv build --target base`` for the task ``build`` and the flag ``--target``.
    """
    if task not in argv:
        return argv
    start = argv.index(task) + 1
    out, left, value = argv[:start], list(flags), False
    for index, word in enumerate(argv[start:], start):
        if not word.startswith("-") and not value:
            if not left or word in tasks:
                return out + argv[index:]
            out.append(left.pop(0))
        elif word in left:
            left.remove(word)
        value = word in takes_value
        out.append(word)
    return out


class Hothouse(Program):
    """invoke's program over tasks.py; without arguments it lists the tasks."""

    #: Whether tasks are being run: not yet, where a list or a help text is printed.
    running = False

    def no_tasks_given(self) -> None:
        """List the tasks where invoke would print the flags of its own."""
        self.list_tasks()
        raise Exit(code=0)

    def steps(self, argv: list[str]) -> None:
        """Parse ``argv`` and run its tasks.

        The steps of ``Program.run`` without its handling of errors.

        :param argv: the program's name and the user's arguments.
        :raises ParseError: an unknown task or flag, or a bad value.
        """
        self.create_config()
        self.parse_core(argv)
        sys.dont_write_bytecode = False  # invoke turns it off; a start is quicker with it
        try:
            self.parse_collection()
        except ModuleNotFoundError as error:
            if str(error.name).split(".")[0] not in ("scripts", "tasks", "tests"):
                remake_environment()
            raise
        for context in self.collection.to_contexts():
            self.core.unparsed = with_flags(
                self.core.unparsed, context.name, OPTIONAL_WORDS.get(context.name, ()),
                self.collection.task_names,
                [flag for flag, argument in context.flags.items() if argument.takes_value],
            )
        try:
            self.parse_tasks()
        except ValueError as error:  # --port=abc where a number belongs
            raise ParseError(str(error)) from error
        self.parse_cleanup()
        self.update_config()
        self.running = True
        self.execute()

    def explain(self, error: ParseError) -> Problem:
        """Say which word of the command line is wrong, and which word is like it.

        :param error: what invoke's parser raised.
        """
        message = str(error).strip().rstrip("!.")
        message = re.sub(r"<Argument: ([\w-]+).*?>", r"--\1", message)
        context = error.context
        found = re.fullmatch(r"No idea what '(.*)' is", message, re.DOTALL)
        if not found:
            task = context.name if context and context.name else "TASK"
            return Problem(message[:1].lower() + message[1:], f"see scripts/inv --help {task}")
        word = found[1]
        if word.startswith("-"):
            task = context.name if context and context.name else None
            known = [str(flag) for flag in context.flags] if context else []
            cause = f'{task} has no flag "{word}"' if task else f'no flag "{word}"'
            fix = f"scripts/inv --help {task or ''}".strip() + " shows the flags"
        else:
            known = list(self.collection.task_names)
            cause = f'no task "{word}"'
            fix = "scripts/inv --list shows them"
        near = difflib.get_close_matches(word, known, n=1)
        return Problem(cause, fix + (f" (did you mean {near[0]}?)" if near else ""))


def shorten(command: str) -> str:
    """Bring a command onto one line that a terminal holds."""
    line = " ".join(command.split())
    return line if len(line) <= 160 else line[:159] + "…"


def failed_command(error: Failure) -> Problem:
    """Name the command that failed, its exit status and, if it was hidden, its last words."""
    result = error.result
    command = shorten(result.command)
    if error.reason is not None:
        return Problem(f"`{command}` failed: {error.reason}", "run it by hand to see more")
    cause = f"`{command}` ended with code {result.exited}"
    words = (result.stderr.strip() or result.stdout.strip()).splitlines()
    code = result.exited if result.exited > 0 else 128 - result.exited
    if "stderr" in result.hide and words:
        return Problem(f"{cause}: {words[-1]}", "mend what it names, then try again", code)
    return Problem(cause, OUTPUT, code)


def from_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to this error: invoke stumbles where it comes while a command starts."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def unexpected(error: BaseException) -> Problem:
    """Keep the traceback in a file, and name that file."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem("the disk is full", "free some space (docker system df shows Docker's part)")
    name = type(error).__name__
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    log = ARTIFACTS / "traceback.log"
    try:
        log.parent.mkdir(exist_ok=True)
        log.write_text(text, encoding="utf-8")
        where = f"report it with {log.relative_to(ROOT)}"
    except OSError:
        where = f"make {ROOT} writable and run again to get the traceback"
    return Problem(f"unexpected {name}: {error}", where)


def main(argv: list[str]) -> NoReturn:
    """Run the tasks that ``argv`` names and exit; each error is one line on stderr.

    :param argv: the program's name and the user's arguments.
    :raises SystemExit: always.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a locale without … must not be an error
    program = Hothouse(name="Hothouse", binary="scripts/inv", config_class=OwnConfig)
    interrupted = Exit(INTERRUPTED, 130)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        program.steps(argv)
        sys.stdout.flush()
        sys.exit(0)
    except BrokenPipeError:  # `inv --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A list was read as far as somebody wanted; a task that was cut off is not done.
        sys.exit(128 + signal.SIGPIPE if program.running else 0)
    except KeyboardInterrupt:
        end = interrupted
    except ParseError as error:
        end = program.explain(error)
    except subprocess.CalledProcessError as error:
        command = error.cmd if isinstance(error.cmd, str) else shlex.join(map(str, error.cmd))
        end = Problem(f"`{shorten(command)}` ended with code {error.returncode}", OUTPUT)
    except Failure as error:
        # invoke passes Ctrl-C on to the command, which then ends by the signal.
        end = interrupted if error.result.exited in (-2, 130) else failed_command(error)
    except Exit as error:
        end = error
    except Exception as error:  # the last resort, which keeps the traceback
        end = interrupted if from_interrupt(error) else unexpected(error)
    if end.message:
        print(end.message, file=sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # else Python says so at its end, and with a code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(end.code)


if __name__ == "__main__":
    main(sys.argv)
