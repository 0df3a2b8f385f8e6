"""Tests that run inside a container, as any user, on a read-only mount.

A child image runs its parents' folders too::

    hothouse/base        python -B -m pytest /opt/tests/base
    hothouse/tensorflow  python -B -m pytest /opt/tests/base /opt/tests/tensorflow
    hothouse/jupyter     the same and /opt/tests/jupyter
    the CUDA images      the same and /opt/tests/cuda /opt/tests/gpu
    on a GPU             the same with HOTHOUSE_EXPECT_GPU=1 and HOTHOUSE_GPU_COUNT=N

``HOTHOUSE_LOCKS`` names the mounted lock files of the image and its parents (``os.pathsep``
between them), ``HOTHOUSE_VARIANT`` is ``cpu`` (the default) or ``cuda``,
``HOTHOUSE_DRIFTED`` is not empty when Debian's packages are newer than the lock.
``HOTHOUSE_EXPECT_GPU=1``: helpers/gpu_rules.py then lets no test pass by skipping.
"""

import os
import platform
import sys

import gpus
import pytest
from locks import Package, read

pytest_plugins = ("gpu_rules", "record")

# TensorFlow takes all of a GPU's memory at its first use; the children of these tests need some.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


@pytest.fixture(scope="session", autouse=True)
def no_tf32():
    """Let float32 be float32 on a GPU: results are compared with NumPy's and the CPU's.

    Where no test has imported TensorFlow by now, none of this process does: it stays unimported.
    """
    if "tensorflow" in sys.modules and gpus.visible():
        gpus.tensorflow().config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def locked() -> tuple[Package, ...]:
    """The packages that the image's locks promise for this platform and variant."""
    paths = [p for p in os.environ.get("HOTHOUSE_LOCKS", "").split(os.pathsep) if p]
    assert paths, "HOTHOUSE_LOCKS is empty: mount the image's lock files and name them in it"
    machine = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]
    variant = os.environ.get("HOTHOUSE_VARIANT", "cpu")
    return tuple(
        package
        for path in paths
        for package in read(path)
        if package.platform in (machine, "any") and package.variant in (variant, "any")
    )
