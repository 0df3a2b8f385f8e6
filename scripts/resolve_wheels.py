"""Resolve the images' requirements.in to wheels: uv for the versions, the index for the files."""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import requests
import uv
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from pypi_simple import DistributionPackage, NoSuchProjectError, PyPISimple
from rich.console import Console
from rich.progress import Progress

from scripts import mirrors
from scripts.locks import Package, shown
from scripts.paths import IMAGES
from scripts.problem import Problem

# A child image's lock leaves out what its parent's has, so parents come first.
IMAGES_IN_ORDER = ("tensorflow", "jupyter")
OVERRIDES = Path("tensorflow", "overrides.in")
PYTHON = (3, 13)
GLIBC = (2, 41)
# By platform: uv's name for it, with the newest glibc that uv knows, and the wheels' own.
PLATFORMS = {"linux/amd64": ("x86_64-manylinux_2_40", "x86_64")}
# The same software under two names: the variants must not differ in its version.
TWINS = {"tensorflow": "tensorflow-cpu", "tensorflow-cpu": "tensorflow"}
TIMEOUT = (20.0, 60.0)
# Settings of a person's own uv that would change what is chosen.
UV_SETTINGS = {
    *("UV_BUILD_CONSTRAINT", "UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_EXCLUDE_NEWER"),
    *("UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_FORK_STRATEGY", "UV_INDEX", "UV_INDEX_STRATEGY"),
    *("UV_INDEX_URL", "UV_NO_INDEX", "UV_OVERRIDE", "UV_PRERELEASE", "UV_PYTHON", "UV_RESOLUTION"),
    *("UV_TORCH_BACKEND",),
}
_HEADER = re.compile(r"#\s*layer:\s*([a-z0-9-]+)(?:\s+(cpu|cuda))?\s*")


@dataclass(frozen=True)
class Layer:
    """A section of a requirements.in. ``variant``: ``any``, ``cpu`` or ``cuda``."""

    image: str
    name: str
    variant: str
    requirements: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        """The requirements' normalised project names, without extras and bounds."""
        found = (re.match(r"[A-Za-z0-9._-]+", line) for line in self.requirements)
        return {canonicalize_name(match[0]) for match in found if match}


def read_input(image: str, images: Path = IMAGES) -> list[Layer]:
    """The layers of ``images/IMAGE/requirements.in`` in the file's order.

    :raises Problem: a requirement stands above the first layer, or is an option or an address.
    """
    path = images / image / "requirements.in"
    layers: list[tuple[str, str, list[str]]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if header := _HEADER.fullmatch(line.strip()):
            layers.append((header[1], header[2] or "any", []))
        elif requirement := re.sub(r"(^|\s)#.*", "", line).strip():
            if not layers or requirement.startswith("-") or re.search(r"://|\s@\s", requirement):
                raise Problem(
                    f"{shown(path)} line {number} isn't a requirement under a layer",
                    "write one project a line below '# layer: NAME [cpu|cuda]'",
                )
            layers[-1][2].append(requirement)
    return [Layer(image, name, variant, tuple(lines)) for name, variant, lines in layers]


def compile_versions(
    requirements: Iterable[str],
    *,
    platform: str = "linux/amd64",
    constraints: Iterable[str] = (),
    overrides: Path | None = None,
    preferred: Iterable[str] = (),
    upgrade: bool | Iterable[str] = False,
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Ask uv for versions that go together on ``platform``; only wheels count.

    :param preferred: pins (``name==version``) to keep unless a requirement forbids them.
    :param upgrade: True forgets all ``preferred``, names forget those.
    :returns: the version of each project, and the projects that need it.
    :raises Problem: no such versions, or the index doesn't answer.
    """
    index = mirrors.index_url()
    environment = {k: v for k, v in os.environ.items() if k not in UV_SETTINGS}
    environment |= {"UV_DEFAULT_INDEX": index, "UV_PYTHON_DOWNLOADS": "never"}
    if certificates := mirrors.certificates():
        environment["SSL_CERT_FILE"] = certificates
    with tempfile.TemporaryDirectory(prefix="hothouse-lock-") as folder:
        root = Path(folder)
        for name, lines in (("in", requirements), ("con", constraints), ("out", preferred)):
            (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        command = [uv.find_uv_bin(), "pip", "compile", "in.txt", "-o", "out.txt", "-c", "con.txt"]
        command += ["--no-config", "--no-header", "--quiet", "--color", "never", "--only-binary"]
        command += [":all:", "--annotation-style", "line", "--no-strip-extras"]
        # Any Python does to resolve for another; this one is surely there.
        command += ["--python", sys.executable]
        command += ["--python-version", ".".join(map(str, PYTHON))]
        command += ["--python-platform", PLATFORMS[platform][0]]
        command += ["--overrides", str(overrides)] if overrides else []
        if upgrade is True:
            command += ["--upgrade"]
        else:
            command += [f"--upgrade-package={name}" for name in upgrade or ()]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=root, env=environment
        )
        if done.returncode:
            raise _unresolved(done.stderr, index)
        output = (root / "out.txt").read_text()
    versions, needed_by = {}, {}
    for line in output.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(?:\s+# via (.*))?$", line):
            name = canonicalize_name(match[1])
            versions[name] = match[2]
            via = [item.strip() for item in (match[3] or "").split(",")]
            # "-r FILE" and "-c FILE" are the inputs, not projects.
            needed_by[name] = {
                canonicalize_name(v.partition("[")[0]) for v in via if v[:1].isalnum()
            }
    return versions, needed_by


def _unresolved(stderr: str, index: str) -> Problem:
    text = " ".join(re.sub(r"[^\x20-\x7e]", " ", stderr).split())
    unreachable = r"Failed to fetch|error sending request|Could not connect|dns error"
    if "No solution found" not in text and re.search(unreachable, text):
        if status := re.search(r"HTTP status \w+ error \((\d{3})", text):
            return mirrors.refused(int(status[1]), index)
        return mirrors.trouble(requests.ConnectionError(text), index)
    return Problem(
        f"the requirements don't go together: {text[:400].rstrip('.')}",
        "loosen a bound in images/*/requirements.in",
    )


def layer_of(
    layers: list[Layer], versions: dict[str, str], needed_by: dict[str, set[str]]
) -> dict[str, Layer]:
    """The layer of each project: the one that lists it, else the first that needs it."""
    found = {name: layer for layer in layers for name in layer.names if name in versions}
    listed = set(found)
    for layer in layers:
        queue, seen = list(layer.names), set(layer.names)
        while queue:
            current = queue.pop()
            for name, parents in needed_by.items():
                if current in parents and name not in seen:
                    seen.add(name)
                    queue.append(name)
        for name in seen - listed:
            if name in versions:
                found.setdefault(name, layer)
    return found


def tags(platform: str) -> dict[Tag, int]:
    """The wheel tags that the images' Python installs, each with its rank: 0 is the best."""
    machine = PLATFORMS[platform][1]
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC[1], 4, -1)]
    for legacy, minor in (("manylinux2014", 17), ("manylinux2010", 12), ("manylinux1", 5)):
        names.insert(names.index(f"manylinux_2_{minor}_{machine}") + 1, f"{legacy}_{machine}")
    names.append(f"linux_{machine}")
    interpreter = f"cp{PYTHON[0]}{PYTHON[1]}"
    ranked = [
        *cpython_tags(PYTHON, [interpreter], names),
        *compatible_tags(PYTHON, interpreter, names),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(ranked)))}


def best_wheel(
    files: Iterable[DistributionPackage], version: str, ranks: dict[Tag, int]
) -> DistributionPackage | None:
    """The wheel of ``version`` that a machine with ``ranks`` would install, or None."""
    best: tuple[tuple[int, str], DistributionPackage] | None = None
    for file in files:
        if file.package_type != "wheel" or not file.digests.get("sha256"):
            continue
        try:
            _, found, build, wheel_tags = parse_wheel_filename(file.filename)
        except ValueError:
            continue
        rank = min((ranks[tag] for tag in wheel_tags if tag in ranks), default=None)
        if rank is None or str(found) != version:
            continue
        # Of two builds of one wheel pip takes the higher.
        key = (rank, -(build[0] if build else 0), file.filename)
        if best is None or key < best[0]:
            best = (key, file)
    return best[1] if best else None


def find_files(wanted: Iterable[tuple[str, str]], platform: str, sizes: dict[str, int]) -> dict:
    """Look up the wheel of each (project, version) at once, with a progress line.

    :param sizes: known sizes in bytes by SHA-256; others come from the index or the file's server.
    :returns: by (project, version): (sha256, size, platform or ``any``, file name).
    :raises Problem: no wheel fits, or the index doesn't answer.
    """
    wanted, ranks = sorted(set(wanted)), tags(platform)
    session = mirrors.session(pool=16)
    client = PyPISimple(mirrors.index_url(), session=session)

    def look_up(item: tuple[str, str]) -> tuple[str, int, str, str]:
        project, version = item
        try:
            page = client.get_project_page(project, timeout=TIMEOUT)
        except NoSuchProjectError:
            raise Problem(
                f"the index has no project {project}", "check the index setting"
            ) from None
        except requests.HTTPError as error:
            raise mirrors.refused(error.response.status_code, client.endpoint) from None
        except requests.RequestException as error:
            raise mirrors.trouble(error, client.endpoint) from None
        file = best_wheel(page.packages, version, ranks)
        if file is None:
            raise Problem(
                f"{project} {version} has no wheel for {platform} and Python 3.{PYTHON[1]}",
                f"bound {project} in images/*/requirements.in",
            )
        digest = file.digests["sha256"]
        size = sizes.get(digest) or file.size or _size(session, file.url)
        pure = {tag.platform for tag in parse_wheel_filename(file.filename)[3]} == {"any"}
        return digest, size, "any" if pure else platform, file.filename

    found = {}
    console = Console()
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    with progress, concurrent.futures.ThreadPoolExecutor(8) as pool:
        task = progress.add_task("asking the index", total=len(wanted))
        jobs = {pool.submit(look_up, item): item for item in wanted}
        try:
            for job in concurrent.futures.as_completed(jobs):
                found[jobs[job]] = job.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _size(session: requests.Session, url: str) -> int:
    # An index of the old kind (HTML) tells no sizes.
    try:
        answer = session.head(url, allow_redirects=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise mirrors.trouble(error, url) from None
    if not answer.ok:
        raise mirrors.refused(answer.status_code, url)
    size = int(answer.headers.get("Content-Length", 0))
    if not size:
        raise Problem(f"{mirrors.shown(url)} tells no size", "use an index that does")
    return size


def resolve(
    old: Iterable[Package],
    upgrade: str | bool | None = None,
    platform: str = "linux/amd64",
    say: Callable[[str], None] = lambda line: None,
    images: Path = IMAGES,
) -> dict[str, list[Package]]:
    """Resolve all images and both variants; what the variants share has one version.

    :param old: the wheels of the present locks, kept where the requirements allow it.
    :returns: by image the packages of its lock.
    :raises Problem: as of ``compile_versions`` and ``find_files``.
    """
    old = list(old)
    forgotten: bool | set[str] = upgrade is True
    if isinstance(upgrade, str):
        forgotten = {upgrade, TWINS.get(upgrade, upgrade)}
    layers = [layer for image in IMAGES_IN_ORDER for layer in read_input(image, images)]
    pins: list[str] = []
    placed: dict[str, dict[tuple[str, str], Layer]] = {}
    for variant in ("cpu", "cuda"):
        say(f"resolving the {variant} variant")
        mine = [layer for layer in layers if layer.variant in ("any", variant)]
        versions, needed_by = compile_versions(
            [line for layer in mine for line in layer.requirements],
            platform=platform,
            constraints=pins,
            overrides=images / OVERRIDES if variant == "cpu" else None,
            preferred=[f"{p.name}=={p.version}" for p in old if p.variant in ("any", variant)],
            upgrade=forgotten,
        )
        for name, version in versions.items() if not pins else ():
            pins += [f"{name}=={version}"]
            pins += [f"{TWINS[name]}=={version}"] if name in TWINS else []
        home = layer_of(mine, versions, needed_by)
        placed[variant] = {(name, versions[name]): home[name] for name in versions}
    both = placed["cpu"].keys() & placed["cuda"].keys()
    rows = {
        (p.name, p.version): (p.sha256, p.size, p.platform, p.file)
        for p in old
        if p.platform in ("any", platform)
        and forgotten is not True
        and (not forgotten or p.name not in forgotten)
    }
    wanted = placed["cpu"].keys() | placed["cuda"].keys()
    rows |= find_files(wanted - rows.keys(), platform, {p.sha256: p.size for p in old})
    result: dict[str, list[Package]] = {image: [] for image in IMAGES_IN_ORDER}
    for key in sorted(wanted):
        variant = "any" if key in both else "cpu" if key in placed["cpu"] else "cuda"
        layer = placed["cuda" if variant == "cuda" else "cpu"][key]
        digest, size, where, file = rows[key]
        package = Package(digest, size, where, variant, layer.name, *key, file)
        result[layer.image].append(package)
    return result
