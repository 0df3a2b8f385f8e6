"""Give numerical libraries as many threads as the container may use.

They count the host's cores and know nothing of ``docker run --cpus``: too many threads for the
quota then wait for each other. hothouse_threads.pth runs this at every start of Python, so that it
holds in a kernel, ``docker exec``, cron and under ``env -i`` alike. What the user set stays.
"""

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHON_CPU_COUNT",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


def _numbers(path):
    """Return the words of a one-line file as whole numbers ("max" as -1), or None."""
    try:
        with open(path) as file:
            return [-1 if word == "max" else int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return None


def quota():
    """Return the container's CPU quota in whole CPUs, rounded up, or None without one.

    Reads cgroup v2's cpu.max ("quota period" in microseconds), else v1's two files
    (Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst).
    """
    pair = _numbers("/sys/fs/cgroup/cpu.max")
    if pair is None:
        for folder in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
            limit = _numbers(folder + "/cpu.cfs_quota_us")
            period = _numbers(folder + "/cpu.cfs_period_us")
            if limit and period:
                pair = limit + period
                break
    if pair is None or len(pair) != 2 or pair[0] <= 0 or pair[1] <= 0:
        return None
    return -(-pair[0] // pair[1])


def threads():
    """Return the number of CPUs that this process may use: affinity and quota, at least 1."""
    usable = len(os.sched_getaffinity(0))
    return max(1, min(usable, quota() or usable))


def apply():
    """Set the variables that are not set yet."""
    count = str(threads())
    for name in VARIABLES:
        os.environ.setdefault(name, count)
