"""What holds for an image is tested on each image that stands on it, CPU and CUDA: a test that asks
for ``image`` runs on all of them, one in tests/images/jupyter on the two of Jupyter.
"""

import json
from pathlib import Path

import containers
import pytest
import testinfra

from scripts.suite import CHAIN, IMAGES

#: Prints one JSON list for each file of the image: type and mode, owner, path, capabilities.
SCAN = """
import json, os, stat
for folder, folders, files in os.walk("/"):
    if folder == "/":
        for name in ("proc", "sys", "dev"):
            folders.remove(name)
    for name in folders + files:
        path = os.path.join(folder, name)
        info = os.lstat(path)
        print(json.dumps([path, info.st_mode, info.st_uid, info.st_gid, info.st_size,
                          os.listxattr(path, follow_symlinks=False)]))
"""


def pytest_generate_tests(metafunc):
    """Run a test on every image that its folder's image is a parent of; where its module names a
    VARIANT, on those of that variant."""
    if "target" in metafunc.fixturenames:
        own = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0]
        kinds = CHAIN[CHAIN.index(own):]
        variant = getattr(metafunc.module, "VARIANT", "")
        names = [name for name in IMAGES
                 if name.split("-")[0] in kinds and name.endswith(variant)]
        metafunc.parametrize("target", names, scope="session")


@pytest.fixture(scope="session")
def image(target) -> str:
    """The image's name with its tag."""
    return IMAGES[target]


@pytest.fixture(scope="session")
def image_name(target) -> str:
    """The folder that the image is made from: base, tensorflow or jupyter."""
    return target.split("-")[0]


@pytest.fixture(scope="session")
def variant(target) -> str:
    """The variant of the locks: cpu or cuda; any for the base image."""
    return target.partition("-")[2] or "any"


@pytest.fixture(scope="session")
def idle(image) -> str:
    """The ID of a container of the image that does nothing; for tests that only look."""
    with containers.container(
        image, "sleep", "infinity", options=["--network", "none"]
    ) as container_id:
        yield container_id


@pytest.fixture(scope="session")
def host(idle):
    """The same container as testinfra sees it."""
    return testinfra.get_host(f"docker://{idle}")


@pytest.fixture(scope="session")
def files(image) -> dict[str, tuple]:
    """Every file of the image: path → (mode with type, uid, gid, size, extended attributes)."""
    done = containers.run(
        image, "-I", "-S", "-B", "-c", SCAN,
        options=["--user", "0:0", "--entrypoint", "/usr/bin/python3"],
    )
    rows = (json.loads(line) for line in done.stdout.splitlines())
    return {path: tuple(rest) for path, *rest in rows}
