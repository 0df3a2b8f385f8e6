"""`inv doctor`: what this host has for building, for the notebook and for GPUs. It only looks."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from invoke.exceptions import Exit

from scripts import engine, host_gpu, notebook
from scripts.host_findings import FINDINGS
from scripts.paths import ROOT
from scripts.problem import Problem
from scripts.shared import findings, machine, rows

Row, OK, INFO, WARN, FAIL = rows.Row, rows.OK, rows.INFO, rows.WARN, rows.FAIL
SPACE_LEFT = 1 << 30
#: Bytes for packages, build cache and images where they are not built yet, as README.md says.
SPACE_NEEDED = 8 * 10**9
SPACE_NEEDED_CUDA = 30 * 10**9


@dataclass
class Report:
    """All rows, and what `docker info` said."""

    found: list[Row] = field(default_factory=list)
    info: dict = field(default_factory=dict)


def problem_row(name: str, found: str, problem: Problem) -> Row:
    """Turn an error of another module into a row."""
    return Row(name, FAIL, found, problem.cause, problem.fix)


def engine_rows(answer: engine.Answer) -> list[Row]:
    """Compare the engine and its plugins with the minimums, each by itself.

    :param answer: what `docker info` said.
    """
    info = answer.info
    if info is None:
        problem = Problem(f"no Docker engine answers: {answer.error}",
                          "scripts/inv up starts it, or installs it on Debian and Ubuntu")
        return [problem_row("engine", "does not answer", problem)]
    plugins = {p.get("Name"): p.get("Version")
               for p in (info.get("ClientInfo") or {}).get("Plugins") or []}
    real = {"engine": info["ServerVersion"], "buildx": plugins.get("buildx"),
            "compose": plugins.get("compose")}
    minimum = {"engine": engine.ENGINE_MINIMUM, "buildx": engine.BUILDX_MINIMUM,
               "compose": engine.COMPOSE_MINIMUM}
    store = [["driver-type", "io.containerd.snapshotter.v1"]]
    found = []
    for name in (*real, "image store"):
        # All but this one as they should be: engine.check names the first that is not.
        now = {key: engine.show(version) for key, version in minimum.items()}
        if name in real:
            now[name] = real[name]
        one = {
            "ServerVersion": now["engine"],
            "ClientInfo": {"Plugins": [{"Name": key, "Version": now[key]}
                                       for key in ("buildx", "compose")]},
            "Architecture": info.get("Architecture", "x86_64") if name == "engine" else "x86_64",
            "DriverStatus": info.get("DriverStatus") if name == "image store" else store,
        }
        said = str(real.get(name) or "missing")
        if name == "image store":
            said = "containerd" if store[0] in (info.get("DriverStatus") or []) else (
                info.get("Driver") or "not known")
        else:
            said += f"; {engine.show(minimum[name])} or newer is needed"
        try:
            engine.check(one)
            found.append(Row(name, OK, said))
        except Problem as problem:
            found.append(problem_row(name, said, problem))
    return found


def needed(names: list[str], gpu: bool) -> int:
    """Return how many bytes are still needed.

    :param names: the images that are there.
    :param gpu: the CUDA images are wanted.
    """
    tag = ":cuda" if gpu else ":cpu"
    if any(name.endswith(tag) for name in names):
        return SPACE_LEFT
    return SPACE_NEEDED_CUDA if gpu else SPACE_NEEDED


def disk(info: dict, need: int) -> Row:
    """Look at the space where packages and images lie.

    :param info: `docker info`.
    :param need: bytes.
    """
    places = {str(ROOT): ROOT}
    if info.get("DockerRootDir"):
        places[info["DockerRootDir"]] = Path(info["DockerRootDir"])
    said, least = [], None
    for name, path in places.items():
        while not path.exists() and path != path.parent:
            path = path.parent
        left = machine.Machine().space(str(path))
        if left:
            said.append(f"{machine.size(left[1])} free in {name}")
            least = min(least or (left[1], name), (left[1], name))
    text = ", ".join(said) or "not known"
    if least is None:
        return Row("disk", INFO, text)
    left, path = least
    shown = {"path": path, "left": machine.size(left)}
    if left < SPACE_LEFT:
        return findings.row("host-full", text, FINDINGS, **shown)
    if left < need:
        return findings.row("host-space", text, FINDINGS, need=machine.size(need), **shown)
    return Row("disk", OK, text)


def port() -> Row:
    """Look whether the notebook's port is free, or the notebook's own."""
    try:
        now = notebook.settings()
    except Problem as problem:
        return problem_row("port", "the settings are not valid", problem)
    name = f"127.0.0.1:{now.port}"
    if notebook.state(notebook.present())[0] == "running":
        return Row("port", OK, f"{name}, the notebook runs")
    try:
        notebook.check_port(now)
    except Problem as problem:
        return problem_row("port", name, problem)
    return Row("port", OK, f"{name} is free")


def images(names: list[str]) -> Row:
    """List the images that are there.

    :param names: of `docker image ls`, with tags.
    """
    ours = sorted(name for name in names if not name.endswith(":<none>"))
    return Row("images", INFO, ", ".join(ours) or "none yet; scripts/inv build makes them")


def image_names() -> list[str]:
    """Ask the engine for the images of this project."""
    form = "{{.Repository}}:{{.Tag}}"
    done = host_gpu.output("docker", "image", "ls", "--filter", "reference=hothouse/*",
                           "--format", form)
    return done.stdout.split() if done and not done.returncode else []


def look(gpu: bool) -> Report:
    """Look at everything; nothing is installed or started.

    :param gpu: containers with a GPU must work.
    """
    report = Report()
    try:
        answer = engine.ask()
    except Problem as problem:  # the docker command is not Docker's
        report.found.append(problem_row("engine", "is not Docker's", problem))
        answer = None
    if answer:
        report.found += engine_rows(answer)
        report.info = answer.info or {}
    names = image_names() if report.info else []
    if report.info:
        report.found += [port(), images(names)]
    report.found.append(disk(report.info, needed(names, gpu)))
    elsewhere = ""
    if os.environ.get("DOCKER_HOST", "").partition("://")[0] in ("tcp", "ssh", "http", "https"):
        elsewhere = os.environ["DOCKER_HOST"]
    report.found += host_gpu.rows_of(host_gpu.here(), report.info, elsewhere)
    if gpu:
        own = set(FINDINGS) - {"host-space"}
        report.found = [replace(row, status=FAIL) if row.key in own else row
                        for row in report.found]
    return report


def run(as_json: bool, gpu: bool) -> None:
    """Print the report.

    :param as_json: one JSON document instead of the table.
    :param gpu: containers with a GPU must work.
    :raises Exit: with 1 where something failed.
    """
    report = look(gpu)
    if as_json:
        print(json.dumps(rows.document(report.found), indent=1))
    else:
        text = rows.speech(report.found)
        print(rows.table(report.found) + (f"\n\n{text}" if text else ""))
    if rows.code(report.found):
        raise Exit(code=1)
