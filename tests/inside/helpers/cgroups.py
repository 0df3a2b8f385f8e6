"""The CPU quota of this container, worked out apart from the image's own code."""

import math
import os
from pathlib import Path


def _mounts() -> list[tuple[str, Path, str, set[str]]]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        found.append((root, Path(point), kind, set(options.split(","))))
    return found


def _own_folders() -> list[tuple[int, Path]]:
    """Every visible cgroup folder that limits this process's CPU time, with its version."""
    groups = dict(
        line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()
    )
    folders = []
    for root, point, kind, options in _mounts():
        if kind == "cgroup2" and "" in groups:
            version, path = 2, groups[""]
        elif kind == "cgroup" and "cpu" in options:
            version = 1
            path = next((p for names, p in groups.items() if "cpu" in names.split(",")), "/")
        else:
            continue
        inside = os.path.relpath(path, root) if path.startswith(root) else "."
        folder = point / inside if not inside.startswith("..") else point
        while folder != point and point in folder.parents:
            folders.append((version, folder))
            folder = folder.parent
        folders.append((version, point))
    return folders


def quota() -> float | None:
    """CPU time per wall time that the kernel grants, in CPUs; None without a limit."""
    limits = []
    for version, folder in _own_folders():
        try:
            if version == 2:
                granted, period = (folder / "cpu.max").read_text().split()
            else:
                granted = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text()
        except FileNotFoundError:
            continue
        if granted not in ("max", "-1"):
            limits.append(int(granted) / int(period))
    return min(limits, default=None)


def expected_threads() -> int:
    """The threads that a pool should have: the quota rounded up, within the CPUs allowed."""
    allowed = len(os.sched_getaffinity(0))
    limit = quota()
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))
