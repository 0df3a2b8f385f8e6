"""What all tests on images share. A plain file beside it, containers.py, does the work."""

import os
import signal

import containers
import pytest
import trees


def pytest_configure():
    """Let a test run that is told to end clean up as one that is interrupted does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def locked_bytes():
    """Ask for it in a test that needs the very packages of the locks."""
    if os.environ.get("HOTHOUSE_DRIFTED"):
        pytest.skip("the image holds Debian's present packages: the mirror dropped the locked ones")


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> trees.Tree:
    """A copy of the checkout without git, at a path with a space; its images are removed."""
    it = trees.copy(tmp_path_factory.mktemp("tree"))
    try:
        yield it
    finally:
        containers.remove_images(it.tag)
