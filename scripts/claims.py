"""What an image's labels claim, held against the revision that they name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts import source
from scripts.oci import Image
from scripts.paths import ROOT
from scripts.printable import printable
from scripts.problem import Problem

DRIFTED = source.LABELS + "drifted"


@dataclass(frozen=True)
class Target:
    """What of a revision an image is: its bake target, e.g. ``jupyter-cpu``, the folders below
    images/ from the base up to its own, and its variant, ``cpu`` or ``cuda``."""

    name: str
    folders: tuple[str, ...]
    variant: str


def ask(checkout: Path, *arguments: str, quiet: bool = True) -> dict:
    """Have the modules of a checked-out revision do something; see scripts/rebuild.py.

    :raises Problem: they failed, with their own words.
    """
    # Not the launcher: it would make another environment, by the network.
    command = [sys.executable, "-c", "import runpy, sys; runpy.run_path(sys.argv[1])",
               str(ROOT / "scripts" / "rebuild.py"), *arguments]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=False,
                          stderr=subprocess.PIPE if quiet else None,
                          env={**os.environ, "HOTHOUSE_CWD": str(checkout)})
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    words = (done.stderr or "").strip().splitlines()
    last = words[-1] if words else "see its output above"
    raise Problem(f"the scripts of that revision failed: {last.removeprefix('error: ')}",
                  "check that commit out and run scripts/inv build there to see more")


def check(image: Image, checkout: Path, revision: str) -> Target:
    """Hold an image's labels against what its revision would write.

    :returns: what the image is in that revision.
    :raises Problem: the labels lie, or say that the image can't be rebuilt.
    """
    labels = image.labels
    if labels.get(DRIFTED) != "false":
        raise Problem(f"{image.name} can't be rebuilt from its locks: it was built with Debian's "
                      f"present packages ({DRIFTED}={printable(str(labels.get(DRIFTED)))})",
                      "scripts/inv lock, commit the locks and build it again")
    targets = ask(checkout, "labels")
    title = labels.get(source.TITLE, "")
    fitting = {name: each for name, each in targets.items()
               if (each.get("labels") or {}).get(source.TITLE) == title}
    if not fitting:
        raise Problem(f'{image.name} calls itself "{printable(title)}", which the commit '
                      f"{revision} does not build", "do not trust its labels")
    lies = {name: wrong(labels, each["labels"]) for name, each in fitting.items()}
    honest = [name for name in fitting if not lies[name]]
    if not honest:
        name, (expected, said) = next(iter(min(lies.values(), key=len).items()))
        raise Problem(f"the labels of {image.name} lie: {name} is {printable(said)}, but the "
                      f"commit {revision} gives {expected}", "do not trust this image")
    name = choose(image, honest)
    return Target(name, tuple(folders(name, targets)), name.rpartition("-")[2])


def wrong(labels: dict[str, str], expected: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The labels that are not as the revision writes them: the expected value and that found."""
    return {name: (value, labels.get(name, "missing")) for name, value in expected.items()
            if labels.get(name) != value}


def choose(image: Image, honest: list[str]) -> str:
    """Tell variants apart whose labels are alike: by the number of layers, else by the tag."""
    number = len(image.layers)
    fitting = [name for name in honest
               if len(source.stages(image, name.rpartition("-")[2])) == number] or honest
    if len(fitting) > 1:
        tag = image.name.partition("@")[0].rpartition(":")[2]
        fitting = [name for name in fitting if name.rpartition("-")[2] in tag]
    if len(fitting) == 1:
        return fitting[0]
    raise Problem(f"{image.name} may be {' or '.join(sorted(honest))}",
                  "give it a tag that ends in cpu or cuda")


def folders(name: str, targets: dict) -> list[str]:
    """The folders below images/ that a target and its parents are made from, the base first."""
    below = [link.removeprefix("target:") for key, link in targets[name]["contexts"].items()
             if link.startswith("target:") and not link.startswith("target:_")]
    found: list[str] = []
    for parent in below:
        found += [each for each in folders(parent, targets) if each not in found]
    return [*found, Path(targets[name]["context"]).name]
