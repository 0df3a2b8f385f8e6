"""The source that an image's labels name: read a revision without checking it out, or check it out
in a folder of its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.oci import Image
from scripts.paths import ARTIFACTS, ROOT
from scripts.printable import printable
from scripts.problem import Problem

REVISION = "org.opencontainers.image.revision"
TITLE = "org.opencontainers.image.title"
VENDOR = "org.opencontainers.image.vendor"
LABELS = "io.hothouse."
VARIANTS = ("cpu", "cuda")
FOLDER = re.compile(r"[a-z0-9-]+")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in this checkout.

    :raises Problem: there is no git, or this folder is no checkout.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True,
                              check=False)
    except OSError as error:
        raise Problem(f"git does not run: {error.strerror}", "install the package git") from None
    if done.returncode and "not a git repository" in done.stderr:
        raise Problem("this folder is no git checkout, so it has no earlier revisions",
                      "git clone the source and run it there")
    return done


def text_at(revision: str, path: str) -> str | None:
    """A file of a revision, or None where that has none."""
    if not COMMIT.fullmatch(revision):
        return None
    with contextlib.suppress(Problem):
        done = git("show", f"{revision}:{path}")
        if done.returncode == 0:
            return done.stdout
    return None


def revision_of(image: Image) -> str:
    """The commit that an image says it is made from, of which this repository has the files.

    :raises Problem: it says none, says that it can't be rebuilt, or the commit is not here.
    """
    labels = image.labels
    revision = labels.get(REVISION, "")
    if not any(name.startswith(LABELS) for name in labels):
        raise Problem(f"{image.name} is no image of Hothouse: it has no {LABELS}* labels",
                      "name an image that scripts/inv build made")
    if revision.endswith("-dirty"):
        raise Problem(
            f"{image.name} was built from a working tree with changes that are in no commit "
            f"({printable(revision)})", "commit them, build again, and verify that image")
    if not COMMIT.fullmatch(revision):
        raise Problem(f"{image.name} does not say which commit it is made from: its revision is "
                      f'"{printable(revision) or "missing"}"', "build it in a git checkout")
    if git("cat-file", "-e", f"{revision}^{{commit}}").returncode:
        raise Problem(f"{image.name} is made from the commit {revision}, which is not in this "
                      "repository", "git fetch the branch that holds it, then try again")
    return revision


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check a commit out into a folder of its own, removed afterwards.

    :raises Problem: git can't do it.
    """
    ARTIFACTS.mkdir(exist_ok=True)
    # In .artifacts: a hard link into the store works only on its file system.
    top = Path(tempfile.mkdtemp(prefix="verify-", dir=ARTIFACTS))
    folder = top / "source"
    try:
        done = git("worktree", "add", "--detach", "--quiet", str(folder), revision)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise Problem(f"git can't check out {revision}: {said}", "mend that and try again")
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))
        shutil.rmtree(top, ignore_errors=True)


def steps_of(image: Image) -> list[str]:
    """Name the build step of each layer, ``IMAGE/STAGE`` as in the Dockerfiles of the image's
    revision; where that is not known, the history's own words."""
    steps = [layer.step for layer in image.layers]
    names = max((found for variant in VARIANTS if len(found := stages(image, variant))
                 <= len(steps)), key=len, default=[])
    return [*names, *steps[len(names):]]


def stages(image: Image, variant: str) -> list[str]:
    """The build stages whose trees are the layers of an image of its title and revision, the
    lowest first; empty where the revision's Dockerfiles do not tell."""
    revision = image.labels.get(REVISION, "").removesuffix("-dirty")
    name = image.labels.get(TITLE, "").rpartition("/")[2]
    if not FOLDER.fullmatch(name):
        return []
    return stages_in(lambda it: text_at(revision, f"images/{it}/Dockerfile"), name, variant)


def stages_in(
    read: Callable[[str], str | None], name: str, variant: str, above: tuple[str, ...] = ()
) -> list[str]:
    """Name the layers of an image, lowest first, by the Dockerfiles that it is made from.

    :param read: returns the Dockerfile of a folder of images/, or None.
    :param above: the images that are made from this one.
    :returns: ``IMAGE/STAGE`` for each layer; empty where the Dockerfiles do not tell.
    """
    text = re.sub(r"\$\{\w+\}", variant, (read(name) if name else None) or "")
    found: dict[str, tuple[str, list[str]]] = {}
    stage = ""
    for word, parent, alias, laid in re.findall(
        r"^(FROM) (\S+)(?: AS (\S+))?|^COPY --link --from=(\S+)", text, re.MULTILINE
    ):
        if word:
            stage = alias
            found[stage] = parent, []
        elif stage in found:
            found[stage][1].append(f"{name}/{laid}")
    names: list[str] = []
    while stage in found:
        # Each stage once: `FROM base AS base` is made from another image of its own name.
        stage, own = found.pop(stage)
        names = [*own, *names]
    if stage == "scratch":
        return names
    # A parent is another image's folder; else nothing is known.
    above = (*above, name)
    below = stages_in(read, stage, variant, above) if stage and stage not in above else []
    return [*below, *names] if below else []
