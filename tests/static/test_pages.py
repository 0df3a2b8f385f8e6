"""The pages tell the truth: each command that they name exists and takes those words."""

import re
import shlex
import subprocess

import pytest
from test_lint import ROOT, tracked

PAGES = [path for path in tracked() if path.suffix == ".md"]
#: Programs that a page may tell a reader to run.
PROGRAMS = {"cd", "cp", "docker", "git", "scripts/inv", "sha256sum", "sudo", "tar"}


def commands() -> list[tuple[str, str]]:
    """The command lines of the pages' sh blocks, with the page that holds each."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            joined = block.replace("\\\n", " ")
            lines = [line.split("  #")[0].strip() for line in joined.splitlines()]
            found += [(page.name, line) for line in lines if line and not line.startswith("#")]
    return found


def test_the_readme_names_the_two_commands():
    lines = [line for page, line in commands() if page == "README.md"]
    assert "scripts/inv up" in lines
    assert "scripts/inv test" in lines


def test_ci_runs_the_test_command_of_the_readme():
    assert re.search(r"^(exec )?scripts/inv test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_in_a_page_exists(page, line):
    words = shlex.split(line)
    assert words[0] in PROGRAMS, f"{page}: {line}"
    if words[0] == "scripts/inv":
        task, *rest = words[1:]
        shown = subprocess.run(
            ["scripts/inv", "--help", task], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, f"{page}: {line}: {shown.stderr}"
        for flag in [word for word in rest if word.startswith("--")]:
            assert flag.split("=")[0] in shown.stdout, f"{page}: {line}"
    if words[:2] == ["docker", "compose"]:
        shown = subprocess.run(["docker", "compose", words[2], "--help"], capture_output=True,
                               text=True, check=False)
        assert shown.returncode == 0, f"{page}: {line}: {shown.stderr}"
        for flag in [word for word in words[3:] if word.startswith("--")]:
            assert flag in shown.stdout, f"{page}: {line}"


def test_every_task_is_in_the_readme():
    shown = subprocess.run(["scripts/inv", "--list"], cwd=ROOT, capture_output=True, text=True,
                           check=True)
    tasks = re.findall(r"^  (\w[\w-]*) ", shown.stdout, re.MULTILINE)
    assert len(tasks) >= 9
    readme = (ROOT / "README.md").read_text()
    assert [task for task in tasks if not re.search(rf"inv {task}\b|`{task}\b", readme)] == []


def test_the_minimum_versions_in_the_readme_are_those_that_are_checked():
    from scripts import engine

    readme = (ROOT / "README.md").read_text()
    minimum = {
        "Docker engine": engine.ENGINE_MINIMUM,
        "buildx": engine.BUILDX_MINIMUM,
        "compose": engine.COMPOSE_MINIMUM,
    }
    for name, version in minimum.items():
        shown = ".".join(map(str, version[:2]))
        assert re.search(rf"{name} {re.escape(shown)}\b", readme), f"{name} {shown}"
