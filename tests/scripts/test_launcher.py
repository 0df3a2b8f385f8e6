"""scripts/inv in copies of the tree: where it is called, what is broken, what it prints.

Every copy stands on its own, in a folder with spaces, without git and without a terminal. The
tool environment is really made once (by pip, from the machine's index); most tests copy it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.paths import ROOT

TASKS = '''\
"""Tasks that only show what the launcher does."""
import os
import subprocess
from invoke import task
from scripts.problem import Problem

@task
def where(c):
    """Print the folders."""
    print(os.getcwd(), os.environ["HOTHOUSE_CWD"], sep="\\n")

@task
def build(c, target="all", jobs=1):
    """Build."""
    print("built", target, jobs)

@task
def broken(c):
    raise KeyError("lost")

@task
def problem(c):
    raise Problem("the port is taken", "stop it", 7)

@task
def command(c, hide=False):
    c.run("echo seen; echo 'no such thing' >&2; exit 3", hide=hide)

@task
def program(c):
    subprocess.run(["false", "with words"], check=True)

@task
def wait(c):
    c.run("sleep 1; echo waiting; sleep 60")
'''
MODULES = ("__init__.py", "inv", "cli.py", "paths.py", "printable.py", "problem.py",
           "requirements.txt")
MAKING = "making the tool environment (once) …\n"


def copy(folder: Path) -> Path:
    """Copy what the launcher needs, and these tasks, into a folder."""
    (folder / "scripts").mkdir(parents=True)
    for name in MODULES:
        shutil.copy2(ROOT / "scripts" / name, folder / "scripts" / name)
    (folder / "tasks.py").write_text(TASKS, encoding="utf-8")
    return folder


def inv(
    root: Path, *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call the launcher of a copy without a terminal."""
    return subprocess.run(
        [root / "scripts" / "inv", *arguments],
        cwd=cwd or root,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its tool environment, made by the launcher itself."""
    root = copy(tmp_path_factory.mktemp("made") / "a tree with spaces")
    done = inv(root, "build")
    assert (done.returncode, done.stdout, done.stderr) == (0, "built all 1\n", MAKING)
    return root


@pytest.fixture
def tree(made: Path) -> Iterator[Path]:
    """The made copy itself, put back as it was after a test that breaks something in it."""
    kept = {path: path.read_bytes() for path in made.glob("scripts/*") if path.is_file()}
    yield made
    for path, content in kept.items():
        path.write_bytes(content)


def quick_pip(tree: Path) -> None:
    """Let a remake install only invoke, which the command line needs."""
    lock = tree / "scripts" / "requirements.txt"
    entry = re.search(r"^invoke==.*(\n .*)*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    assert entry and "--hash=sha256:" in entry[0]
    lock.write_text(entry[0] + "\n", encoding="utf-8")


def test_it_runs_in_the_root_and_names_the_callers_folder(made: Path, tmp_path: Path) -> None:
    done = inv(made, "where", cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{made}\n{tmp_path}\n", "")


def test_it_is_found_through_symbolic_links(made: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(made / "scripts" / "inv")
    (tmp_path / "second link").symlink_to("first")
    done = subprocess.run(
        ["./second link", "where"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{made}\n{tmp_path}\n"


def test_it_runs_as_a_script_of_sh_from_its_own_folder(made: Path) -> None:
    done = subprocess.run(
        ["sh", "inv", "where"], cwd=made / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{made}\n{made / 'scripts'}\n"


def test_without_arguments_it_lists_the_tasks(made: Path) -> None:
    done = inv(made)
    assert done.returncode == 0
    assert "  build     Build.\n" in done.stdout


def test_a_second_call_takes_less_than_a_third_of_a_second(made: Path) -> None:
    def seconds() -> float:
        began = time.monotonic()
        assert inv(made, "build").stderr == ""
        return time.monotonic() - began

    # One quick call is enough: this machine may be busy with other tests.
    assert any(seconds() < 0.33 for _ in range(20))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bild"], 'no task "bild". Fix: scripts/inv --list shows them (did you mean build?)'),
        (["xyzzy"], 'no task "xyzzy". Fix: scripts/inv --list shows them'),
        (
            ["build", "--tragt=x"],
            'build has no flag "--tragt". Fix: scripts/inv --help build shows '
            "the flags (did you mean --target?)",
        ),
        (
            ["build", "--jobs=abc"],
            "invalid literal for int() with base 10: 'abc'. Fix: see scripts/inv --help TASK",
        ),
        (
            ["build", "--target"],
            "flag --target needed value and was not given one. Fix: see scripts/inv --help build",
        ),
        (["problem"], "the port is taken. Fix: stop it"),
        (["broken"], "unexpected KeyError: 'lost'. Fix: report it with .artifacts/traceback.log"),
        (["program"], "`false 'with words'` ended with code 1. Fix: see its output above"),
        (
            ["command", "--hide"],
            "`echo seen; echo 'no such thing' >&2; exit 3` ended with code 3: "
            "no such thing. Fix: mend what it names, then try again",
        ),
    ],
)
def test_a_mistake_gives_one_line(made: Path, arguments: list[str], line: str) -> None:
    done = inv(made, *arguments)
    assert done.stderr == f"error: {line}\n"
    assert done.stdout == ""
    assert done.returncode == {"problem": 7, "command": 3}.get(arguments[0], 1)


def test_the_output_of_a_command_that_failed_stands_above_its_line(made: Path) -> None:
    done = inv(made, "command")
    assert done.stdout == "seen\n"
    assert done.stderr.startswith("no such thing\nerror: `echo seen;")


def test_the_traceback_of_a_bug_is_kept(made: Path) -> None:
    inv(made, "broken")
    log = (made / ".artifacts" / "traceback.log").read_text(encoding="utf-8")
    assert 'raise KeyError("lost")' in log


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE], ids=["closed", "open"])
def test_ctrl_c_gives_one_line(made: Path, stdin: int) -> None:
    with subprocess.Popen(
        [made / "scripts" / "inv", "wait"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout and process.stdout.readline() == "waiting\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert errors == (
        "error: interrupted. Fix: run the same command again; what was finished is kept\n"
    )
    assert process.returncode == 130


def remade(tree: Path) -> bool:
    """Whether the next call makes the environment anew, and then works."""
    quick_pip(tree)
    stamp = tree / ".venv" / "requirements.txt"
    if stamp.exists():  # the shorter lock alone must not be the reason
        shutil.copy(tree / "scripts" / "requirements.txt", stamp)
    done = inv(tree, "build")
    assert (done.returncode, done.stdout) == (0, "built all 1\n"), done.stderr
    return done.stderr == MAKING


def cut_interpreter(tree: Path) -> None:
    (tree / ".venv" / "bin" / "python3").unlink()
    (tree / ".venv" / "bin" / "python3").write_text("not a program", encoding="utf-8")


def delete_invoke(tree: Path) -> None:
    for package in (tree / ".venv").glob("lib/python3*/site-packages/invoke"):
        shutil.rmtree(package)


def be_interrupted(tree: Path) -> None:
    (tree / ".venv" / "requirements.txt").unlink()


def be_of_another_python(tree: Path) -> None:
    stamp = tree / ".venv" / "made-for"
    was = stamp.read_text(encoding="utf-8")
    now = was.replace(f"({sys.version_info[0]}, ", "(2, ")
    assert now != was
    stamp.write_text(now, encoding="utf-8")


def be_a_file(tree: Path) -> None:
    shutil.rmtree(tree / ".venv")
    (tree / ".venv").write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    "damage", [cut_interpreter, delete_invoke, be_interrupted, be_of_another_python, be_a_file]
)
def test_a_damaged_environment_is_made_anew(tree: Path, damage: Callable[[Path], None]) -> None:
    damage(tree)
    assert remade(tree)
    assert not remade(tree)


def test_a_moved_folder_gets_its_own_environment(tree: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tree, moved, symlinks=True)
    assert remade(moved)
    assert not remade(moved)


def test_two_calls_at_once_make_one_environment(tree: Path, tmp_path: Path) -> None:
    root = copy(tmp_path / "both")
    quick_pip(root)
    calls = [
        subprocess.Popen(
            [root / "scripts" / "inv", "build"],
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    ends = [call.communicate(timeout=300) for call in calls]
    assert [out for out, _ in ends] == ["built all 1\n"] * 2
    assert sorted(err for _, err in ends) == ["", MAKING]


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {
                "HTTPS_PROXY": "http://127.0.0.1:9",
                "HTTP_PROXY": "http://127.0.0.1:9",
                "PIP_RETRIES": "1",
                "ALL_PROXY": "http://127.0.0.1:9",
                "NO_PROXY": "",
                "no_proxy": "",
                "https_proxy": "http://127.0.0.1:9",
                "http_proxy": "http://127.0.0.1:9",
            },
            "the package index does not answer (see .artifacts/inv.log)",
        ),
        (
            {
                "PIP_INDEX_URL": "file:///nonexistent",
                "PIP_EXTRA_INDEX_URL": "",
                "PIP_FIND_LINKS": "",
            },
            "the tool environment could not be made: No matching distribution found for invoke",
        ),
    ],
)
def test_a_failing_pip_gives_one_line_and_the_next_call_works(
    tmp_path: Path, environment: dict[str, str], line: str
) -> None:
    root = copy(tmp_path / "fails")
    quick_pip(root)
    alone = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_NO_CACHE_DIR": "1",
    }
    done = inv(root, "build", **(alone | environment))
    assert done.stderr.startswith(f"{MAKING}error: {line}")
    assert done.stderr.count("\n") == 2
    assert done.returncode == 1
    assert (root / ".artifacts" / "inv.log").stat().st_size > 0
    assert inv(root, "build").stdout == "built all 1\n"


def test_a_file_that_is_not_the_locked_one_is_refused(tmp_path: Path) -> None:
    root = copy(tmp_path / "lies")
    quick_pip(root)
    lock = root / "scripts" / "requirements.txt"
    text = lock.read_text(encoding="utf-8")
    head = text[: text.index("sha256:") + len("sha256:")]
    lock.write_text(f"{head}{'0' * 64}\n", encoding="utf-8")
    done = inv(root, "build")
    assert "a downloaded file is not the one that scripts/requirements.txt names" in done.stderr
    assert not (root / ".venv" / "requirements.txt").exists()


def test_an_old_python_gives_one_line_with_the_packages(tmp_path: Path) -> None:
    root = copy(tmp_path / "old")
    programs = tmp_path / "bin"
    programs.mkdir()
    # Every Python says that it is too old; the absolute path is reached through a copy's text.
    launcher = (root / "scripts" / "inv").read_text(encoding="utf-8")
    assert launcher.count(" /usr/bin/python3 ") == 1
    (root / "scripts" / "inv").write_text(
        launcher.replace(" /usr/bin/python3 ", " "), encoding="utf-8"
    )
    for name in ("sh", "readlink", "cmp", "cat", "mkdir", "id"):
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    old = programs / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = inv(root, "build", PATH=str(programs))
    assert done.stderr == (
        "error: Python 3.10 or newer with venv is missing. Fix: install Python 3.10 or newer\n"
    )
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["scripts", "tests", "tests/inside"])
def test_a_lock_of_tools_holds_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name / "requirements.txt").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert entries and all("==" in line and line.endswith("\\") for line in entries)
    assert "://" not in text and "--index" not in text and " @ " not in text


def test_the_launcher_passes_shellcheck() -> None:
    program = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    done = subprocess.run(
        [program, ROOT / "scripts" / "inv"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
