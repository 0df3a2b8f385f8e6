"""A build that something ends early: one line, nothing lost, and the next try works."""

import os
import signal

import containers
import engines
import pytest
import trees


def layers(image: str) -> list[str]:
    return containers.inspect(image)["RootFS"]["Layers"]


def test_an_unknown_task_is_named(tree):
    assert 'no task "bild"' in tree.fails("bild")


def test_an_unknown_target_is_named(tree):
    said = tree.fails("build", "jupiter")
    assert 'no target "jupiter"' in said
    assert "jupyter-cpu" in said


def test_unknown_tests_are_named(tree):
    assert 'no tests "unit"' in tree.fails("test", "unit")


@pytest.mark.parametrize("name", ["base/packages.lock", "jupyter/requirements.lock"])
def test_an_edited_lock_is_refused(tree, name):
    with trees.edited(tree.root / "images" / name, lambda text: text.replace(" any ", " cpu ", 1)):
        said = tree.fails("build", "base")
    assert f"images/{name} was edited by hand or damaged" in said


def test_a_copy_without_git_builds_the_same_layers(tree, locked_bytes):
    said = tree.works("build", "base", limit=400)
    image = f"{tree.tag}/base:latest"
    assert image in said
    assert layers(image) == layers("hothouse/base:latest")
    labels = containers.inspect(image)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == "unknown"
    assert "Nothing changed" in tree.works("build", "base")


def test_a_damaged_file_of_the_store_is_fetched_again(tree, locked_bytes):
    tree.works("build", "base", limit=400)
    name, sha256 = next(
        (line.split()[5], line.split()[0])
        for line in (tree.root / "images/base/packages.lock").read_text().splitlines()
        if " hostname " in line
    )
    stored = tree.root / ".artifacts/store/sha256" / sha256[:2] / sha256
    size = stored.stat().st_size
    # A file of its own: the store of the checkout has the same bytes under another name.
    stored.unlink()
    stored.write_bytes(b"x" * size)
    said = tree.works("build", "base", "--no-cache", limit=400)
    assert f"fetched {name}" in said
    assert layers(f"{tree.tag}/base:latest") == layers("hothouse/base:latest")


def test_ctrl_c_in_a_build_is_one_line_and_the_next_build_works(tree, locked_bytes):
    process = tree.start("build", "base", "--no-cache")
    try:
        said = trees.read_until(process, "build-base /mnt/debs")
        os.killpg(process.pid, signal.SIGINT)
    finally:
        status, said = trees.finish(process, limit=60)
    assert status == 130
    assert "interrupted" in trees.the_error(said)
    tree.works("build", "base", limit=400)


@engines.needs_root
@engines.needs_dockerd
def test_an_engine_that_stops_in_a_build_is_named_and_the_next_build_works(tree, locked_bytes):
    with engines.engine_folder() as folder:
        host = engines.socket_of(folder)
        with engines.engine(folder) as daemon:
            process = tree.start("build", "base", DOCKER_HOST=host)
            try:
                trees.read_until(process, "build-base /mnt/debs")
                daemon.terminate()
            finally:
                status, said = trees.finish(process, limit=90)
        assert status == 1
        assert "the Docker engine stopped during the build" in trees.the_error(said)
        with engines.engine(folder):
            tree.works("build", "base", limit=400, DOCKER_HOST=host)
