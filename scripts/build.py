"""Build the images with docker buildx bake, from the store alone, and record what came out."""

import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts import context, engine, fetch, locks, resolve_debs, worktree
from scripts import record as record_file
from scripts.paths import ARTIFACTS, IMAGES, ROOT
from scripts.problem import Problem

PLATFORM = "linux/amd64"
RECORDS = ARTIFACTS / "build"
LOCK = ARTIFACTS / "build.lock"
#: Named, for bake would read compose.yaml too.
BAKE = ("docker", "buildx", "bake", "--file", "docker-bake.hcl")
#: What of the tree an image is made from: a change elsewhere changes no image.
SOURCES = (IMAGES, ROOT / "docker-bake.hcl")
#: How a builder says what a user can mend, and the mend.
CAUSES = {
    "no space left on device": (
        "the disk is full",
        "free some space (docker system df; docker builder prune) and run it again",
    ),
    "permission denied while trying to connect": (
        "this user may not talk to the Docker engine",
        "sudo usermod -aG docker $USER, then log in again",
    ),
}


@functools.cache
def index() -> dict[str, dict]:
    """Return what docker-bake.hcl can build, as bake reads it: ``group`` and ``target``.

    :raises Problem: bake cannot read the file.
    """
    result = subprocess.run(
        [*BAKE, "--print", "all"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    if result.returncode:
        raise Problem(f"docker-bake.hcl is not valid: {result.stderr.strip()}", "mend the file")
    return json.loads(result.stdout)


def targets() -> dict[str, dict]:
    """Return the targets that are images, and their definitions.

    :raises Problem: see :func:`index`.
    """
    return {name: it for name, it in index()["target"].items() if not name.startswith("_")}


def chosen(names: list[str]) -> list[str]:
    """Return the targets that these targets and groups stand for.

    :raises Problem: there is no such target or group.
    """
    known, groups = targets(), index()["group"]
    out: list[str] = []
    for name in names:
        if name not in known and name not in groups or name == "default":
            words = [*known, *(group for group in groups if group != "default")]
            raise Problem(f'no target "{name}"', f"choose from: {', '.join(words)}")
        found = [name] if name in known else chosen(groups[name]["targets"])
        out += [each for each in found if each not in out]
    return out


def variants_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the variants of the locks that these targets need: none for the base image."""
    return tuple(sorted({name.rsplit("-", 1)[1] for name in names if "-" in name}))


def with_parents(names: list[str], known: dict[str, dict]) -> list[str]:
    """Return the targets and those that they stand on, parents first.

    Bake builds a parent that is not named too, but exports it without its own output settings:
    with another compression, and so another manifest.
    """
    ordered: list[str] = []
    for name in names:
        links = [link.removeprefix("target:") for link in known[name]["contexts"].values()]
        parents = with_parents([link for link in links if link in known], known)
        ordered += [each for each in (*parents, name) if each not in ordered]
    return ordered


def revision() -> str:
    """Return the commit of what images are made from; see :func:`worktree.revision`."""
    return worktree.revision(SOURCES)


def digest_of_files(top: Path) -> str:
    """Return one SHA-256 (hex) over the names, contents and executable bits below a path."""
    total = hashlib.sha256()
    files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
    for path in files:
        executable = bool(path.stat().st_mode & 0o100)
        total.update(f"{path.relative_to(ROOT)}\0{executable}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def lock_digest(used: list[locks.Lock]) -> str:
    """Return one digest for the locks that an image is made from."""
    return "sha256:" + hashlib.sha256("\n".join(lock.digest for lock in used).encode()).hexdigest()


def variables_of(used: list[locks.Lock]) -> dict[str, str]:
    """Return bake's variables for the locks of base, tensorflow and jupyter."""
    return {
        "SOURCE_DATE_EPOCH": str(locks.epoch()),
        "REVISION": revision(),
        "DRIFTED": "true" if used[0].drifted else "false",
        "BUILDER": "sha256:" + digest_of_files(IMAGES / "builder"),
        "LOCK_BASE": lock_digest(used[:1]),
        "LOCK_TENSORFLOW": lock_digest(used[:2]),
        "LOCK_JUPYTER": lock_digest(used),
    }


def digest_of_inputs(variables: dict[str, str]) -> str:
    """Return one digest of everything that the images are made from."""
    parts = [*variables.values(), *(digest_of_files(path) for path in SOURCES)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def wanted() -> list[str]:
    """Return the packages that the base image is asked to hold.

    :raises Problem: packages.in has a line of no known form, or no layer for them.
    """
    _, layers = resolve_debs.read_input(resolve_debs.INPUT)
    if not layers.get("base"):
        raise Problem(f"{locks.shown(resolve_debs.INPUT)} names nothing for the layer base",
                      "write one name a line below '# layer: base'")
    return layers["base"]


def lay_out(used: list[locks.Lock], variants: Iterable[str]) -> None:
    """Check what lies in the store once more and lay out the contexts from it.

    :param variants: of the wheels: ``cpu``, ``cuda``, both or none.
    :raises Problem: a file was damaged in the store and cannot be fetched again.
    """
    debs, *wheels = used
    packages = debs.select(PLATFORM, "any")
    folders = {
        (lock.path.parent.name, variant): lock.select(PLATFORM, variant)
        for variant in variants for lock in wheels
    }
    fetch.fetch(fetch.verify({*packages, *itertools.chain(*folders.values())}))
    context.lay_out_debs(packages, wanted())
    for (image, variant), chosen_wheels in folders.items():
        context.lay_out_wheels(image, variant, chosen_wheels)


def engine_id(tag: str) -> str | None:
    """Return the engine's ID of an image, or None when it has no image of that name."""
    result = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", tag],
        capture_output=True, text=True, check=False,
    )
    return result.stdout.strip() if result.returncode == 0 else None


def record_of(target: str) -> dict:
    """Return what the last build of a target recorded, empty when there is none."""
    try:
        return json.loads((RECORDS / f"{target}.json").read_text())
    except (OSError, ValueError):
        return {}


def unchanged(target: str, definition: dict, inputs: str) -> bool:
    """Tell whether the engine still has the image that these inputs gave."""
    record = record_of(target)
    if record.get("inputs") != inputs:
        return False
    return all(engine_id(tag) == record["id"] for tag in definition["tags"])


def bake(names: list[str], variables: dict[str, str], no_cache: bool, metadata: Path) -> None:
    """Run docker buildx bake, its progress shown.

    :raises Problem: the build failed; the cause is named where the output tells it.
    """
    terminal = sys.stderr.isatty()
    # The builder is named too: else bake would export it as an image that nobody wants.
    command = [*BAKE, "--metadata-file", str(metadata),
               "--progress", "tty" if terminal else "plain",
               *(["--no-cache"] if no_cache else []), "_builder", *names]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    output = ""
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **variables}, text=True,
        stderr=None if terminal else subprocess.PIPE,
    ) as process:
        try:
            for line in process.stderr or ():
                sys.stderr.write(line)
                output = (output + line)[-20000:]
            process.wait()
        except KeyboardInterrupt:
            # buildx had the same signal: let it cancel the build in the engine.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            raise
    if process.returncode == 0:
        return
    # The client may break off before the engine's socket is gone: ask with some patience.
    if engine.ask().info is None:
        raise Problem("the Docker engine stopped during the build",
                      "run the same command again; finished steps are kept")
    for sign, (cause, fix) in CAUSES.items():
        if sign in output:
            raise Problem(f"the build failed: {cause}", fix)
    raise Problem(f"the build of {', '.join(names)} failed; its last lines above say why",
                  "mend that and run the same command again; finished steps are kept")


def build(
    names: list[str] | None = None, *, no_cache: bool = False, allow_drift: bool = False
) -> None:
    """Build images, or say that nothing changed.

    :param names: targets or groups of docker-bake.hcl; None for the CPU images.
    :param no_cache: run every step again.
    :param allow_drift: go on with the mirror's present .deb files when the locked ones are
        gone; the images' labels say so.
    :raises Problem: an unknown target, no engine, a failed fetch or build.
    """
    engine.ensure()
    with alone():
        _build(names, no_cache, allow_drift)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Build once at a time in this folder: builds share its contexts and records.

    The lock is the kernel's, so that it falls with its process.
    """
    ARTIFACTS.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another build in this folder …", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(names: list[str] | None, no_cache: bool, allow_drift: bool) -> None:
    worktree.sweep(IMAGES)
    known = targets()
    names = with_parents(chosen(names or ["cpu"]), known)
    variants = variants_of(names)
    used = fetch.run(variants, PLATFORM, allow_drift=allow_drift)
    variables = variables_of(used)
    inputs = digest_of_inputs(variables)
    if not no_cache:
        unbuilt = [name for name in names if not unchanged(name, known[name], inputs)]
        names = with_parents(unbuilt, known)
    if not names:
        print("Nothing changed: the engine has these images.")
        return
    lay_out(used, variants)
    RECORDS.mkdir(parents=True, exist_ok=True)
    metadata = RECORDS / "metadata.json"
    bake(names, variables, no_cache, metadata)
    results = json.loads(metadata.read_text())
    for name in names:
        tags = known[name]["tags"]
        record = {
            "inputs": inputs,
            "tags": tags,
            "id": engine_id(tags[0]),
            "manifest": results[name].get("containerimage.digest"),
            "config": results[name].get("containerimage.config.digest"),
            "variables": variables,
        }
        record_file.write(RECORDS / f"{name}.json", record, used)
        print(f"{tags[0]}  manifest {record['manifest']}  config {record['config']}")
    print("Next: scripts/inv test, or scripts/inv up")
