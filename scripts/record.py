"""What a build leaves behind for people and machines: from what, by what, and what came out.

One file for each target, .artifacts/build/TARGET.json. `inv build` compares it with the engine to
see whether anything changed; `inv report` shows it.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from scripts import blobs, locks, manifests
from scripts.locks import Lock


def write(path: Path, basics: dict, used: Iterable[Lock]) -> None:
    """Write the record of a target.

    :param basics: what the build knows: ``tags``, ``id``, ``variables``, ``manifest`` and so on.
    :param used: the locks that it was built from.
    :raises Problem: the engine does not hand out the image.
    """
    variables = basics["variables"]
    record = {
        **basics,
        "source": {
            "revision": variables["REVISION"], "epoch": int(variables["SOURCE_DATE_EPOCH"]),
            "scripts": variables["BUILDER"], "drifted": variables["DRIFTED"] == "true",
            "locks": [{"file": locks.shown(lock.path), "date": lock.date, "digest": lock.digest}
                      for lock in used],
        },
        "builder": versions(),
        **layers(basics["tags"][0], basics["manifest"]),
    }
    locks.replace(path, (json.dumps(record, indent=2) + "\n").encode())


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what builds: the engine, buildx and BuildKit, which is a part of the engine
    where it tells no version of its own."""
    engine = output("docker", "version", "--format", "{{.Server.Version}}")
    buildx = output("docker", "buildx", "version").split()
    inspected = output("docker", "buildx", "inspect")
    kit = next((line.partition(":")[2].strip() for line in inspected.splitlines()
                if line.lower().startswith("buildkit")), "")
    known = kit and not kit.startswith("v0.0.0")
    return {"engine": engine, "buildx": buildx[1] if len(buildx) > 1 else "",
            "buildkit": kit if known else f"of engine {engine}"}


def output(*command: str) -> str:
    """What a command prints, empty where it fails: a version more or less stops no build."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def layers(image: str, digest: str) -> dict:
    """The layers of an image in the engine.

    :param digest: of its manifest.
    :returns: ``layers``: digest and size in bytes, compressed, and the digest unpacked (diff_id);
        ``size``: the sum of the sizes.
    :raises Problem: the engine does not hand them out.
    """
    manifest = manifests.find(image, digest)
    known = blobs.inspect(image) or {}
    diff_ids = (known.get("RootFS") or {}).get("Layers") or []
    rows = [{"digest": layer["digest"], "size": layer["size"], "diff_id": diff_id}
            for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True)]
    return {"layers": rows, "size": sum(row["size"] for row in rows)}


def find(folder: Path, manifest: str) -> dict | None:
    """The record of an image that was built here, by its manifest's digest."""
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("manifest") == manifest:
            return record
    return None
