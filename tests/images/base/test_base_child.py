"""An image of one's own: FROM hothouse/base and apt-get install."""

import hashlib
import io
import lzma
import tarfile
from pathlib import Path

import containers
import pytest

from scripts import build, context, fetch, locks

PACKAGE = "apt-utils"
DOCKERFILE = f"""
FROM hothouse/base:latest
USER 0:0
RUN --network=none --mount=type=bind,from=repository,target=/mnt/repository \\
    echo 'deb [trusted=yes] copy:/mnt/repository ./' > /etc/apt/sources.list.d/test.list && \\
    apt-get -o Dir::Etc::sourceparts=- -o Dir::Etc::sourcelist=sources.list.d/test.list update && \\
    apt-get install --yes --no-install-recommends {PACKAGE} && \\
    rm /etc/apt/sources.list.d/test.list
USER 1000:100
"""


def paragraph(deb: Path) -> str:
    """Return what a repository's index says of a .deb: its control file and where it is."""
    name, data = context.ar_member(deb, "control.tar")
    if name.endswith(".xz"):
        data = lzma.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tree:
        control = tree.extractfile("./control").read().decode().rstrip("\n")
    content = deb.read_bytes()
    return (f"{control}\nFilename: ./{deb.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n")


@pytest.fixture(scope="module")
def child(tmp_path_factory, locked_bytes) -> str:
    """The name of an image built on the base, with one more Debian package."""
    folder = tmp_path_factory.mktemp("child")
    index = ""
    for package in locks.read(locks.DEBS).select(build.PLATFORM, "any"):
        deb = folder / Path(package.file).name
        deb.symlink_to(fetch.path_of(package.sha256))
        index += paragraph(deb)
        deb.unlink()
        if package.layer == "bootstrap":
            deb.write_bytes(fetch.path_of(package.sha256).read_bytes())
    (folder / "Packages").write_text(index)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    tag = containers.unique("child")
    try:
        containers.docker(
            "buildx", "build", "--load", "--provenance=false", "--tag", tag,
            "--build-context", f"repository={folder}", str(folder),
        )
        yield tag
    finally:
        containers.docker("image", "rm", "--force", tag, check=False)


def test_a_child_image_can_install_debian_packages(child, locked_bytes):
    done = containers.run(child, "sh", "-c", "apt-ftparchive --version; id -u")
    assert done.stdout.startswith("apt ")
    assert done.stdout.endswith("\n1000\n")


def test_a_child_image_keeps_the_base_layers(child, locked_bytes):
    base = containers.inspect("hothouse/base:latest")["RootFS"]["Layers"]
    assert containers.inspect(child)["RootFS"]["Layers"][:-1] == base
