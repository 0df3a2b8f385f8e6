"""A compose project of its own for each test of faults."""

import os

import containers
import pytest
import trees


@pytest.fixture
def project(tree, tmp_path) -> trees.Tree:
    """The copy with a compose project of its own: a free port, a work folder, no container yet."""
    work = tmp_path / "work"
    work.mkdir()
    tmp_path.chmod(0o755)
    if os.getuid() == 0:
        os.chown(work, 1000, 100)
    settings = {
        "COMPOSE_PROJECT_NAME": containers.unique("fault"),
        "HOTHOUSE_PORT": str(containers.free_port()),
        "HOTHOUSE_WORK": str(work),
    }
    image = containers.unique("image")
    # Under a name that docker-bake.hcl does not know, so that `up` builds nothing.
    containers.docker("tag", "hothouse/jupyter:cpu", image)
    settings["HOTHOUSE_IMAGE"] = image
    try:
        yield trees.Tree(tree.root, tree.tag, settings)
    finally:
        containers.docker(
            "compose", "down", "--volumes", "--timeout", "1", check=False, cwd=tree.root,
            env={**os.environ, **settings},
        )
        containers.docker("image", "rm", image, check=False)
        (tree.root / ".env").unlink(missing_ok=True)
