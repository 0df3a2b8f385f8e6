"""What holds for each test on a GPU; helpers/gpu_rules.py has the rules for a run without one."""

import gpus
import pytest


def pytest_collection_modifyitems(items):
    """Give a GPU that is newer than the build's kernels the time to compile them, once."""
    for item in items:
        if "/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(gpus.LIMIT_S))


@pytest.fixture(autouse=True)
def gpu():
    """Fail with the cause where there is no GPU; return the name of the first one's device."""
    if not gpus.visible():
        pytest.fail(gpus.why_none(), pytrace=False)
    return gpus.DEVICE


@pytest.fixture
def strict():
    """Let an operation that has no kernel for the GPU fail instead of moving to the CPU."""
    import tensorflow as tf

    before = tf.config.get_soft_device_placement()
    tf.config.set_soft_device_placement(False)
    yield
    tf.config.set_soft_device_placement(before)
