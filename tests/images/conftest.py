"""The images, parents first. What holds for an image is tested on each image that stands on it:
a test that asks for ``image`` runs on all of these, one in tests/images/tensorflow on the last two.
"""

import json
from pathlib import Path

import containers
import pytest
import testinfra

IMAGES = {
    "base": "hothouse/base:latest",
    "tensorflow": "hothouse/tensorflow:cpu",
    "jupyter": "hothouse/jupyter:cpu",
}
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
    """Run a test on every image that its folder's image is a parent of."""
    if "image_name" in metafunc.fixturenames:
        names = list(IMAGES)
        own = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0]
        metafunc.parametrize("image_name", names[names.index(own):], scope="session")


@pytest.fixture(scope="session")
def image(image_name) -> str:
    """The image's name with its tag."""
    return IMAGES[image_name]


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
