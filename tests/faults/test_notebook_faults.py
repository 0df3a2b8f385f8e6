"""The local notebook where something is in its way: one line, and the next try works.

Every command runs in a copy of the checkout without git, at a path with a space and without a
terminal.
"""

import os
import socket
import urllib.request
from pathlib import Path

import containers
import pytest

needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can give a folder to another user"
)
ANY_IMAGE = "hothouse/base:latest"


def work_of(project) -> Path:
    return Path(project.environment["HOTHOUSE_WORK"])


def test_a_taken_port_is_named(project):
    port = int(project.environment["HOTHOUSE_PORT"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert f"port {port} is taken" in project.fails("up")
    assert f"http://127.0.0.1:{port}/lab?token=" in project.works("up")


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize("gpu", ["--gpu", "--gpu=0", "--gpu=nonsense"])
def test_a_gpu_that_the_machine_lacks_is_named_before_anything_is_built(project, gpu):
    assert "there is no NVIDIA GPU in this machine" in project.fails("up", gpu)


@needs_root
def test_a_work_folder_of_root_is_named(project):
    work = work_of(project)
    os.chown(work, 0, 0)
    said = project.fails("up")
    assert "the work folder belongs to uid 0 and is not writable for uid 1000" in said
    os.chown(work, 1000, 100)
    project.works("up")


@needs_root
def test_roots_own_checkout_is_given_to_the_notebooks_user(project):
    work = project.root / "work"
    work.mkdir(exist_ok=True)
    os.chown(work, 0, 0)
    project.works("up", HOTHOUSE_WORK="./work")
    assert work.stat().st_uid == 1000


def test_a_work_folder_that_cannot_be_written_is_named(project):
    work = work_of(project)
    work.chmod(0o555)
    try:
        assert "is not writable for uid" in project.fails("up")
    finally:
        work.chmod(0o755)
    project.works("up")


def test_a_missing_work_folder_is_named(project):
    work = work_of(project)
    missing = work / "missing"
    assert f"{missing} does not exist" in project.fails("up", HOTHOUSE_WORK=missing)
    file = work / "file"
    file.touch()
    assert f"{file} is no folder" in project.fails("up", HOTHOUSE_WORK=file)


def test_too_little_memory_is_named(project):
    said = project.fails("up", HOTHOUSE_MEMORY="256m")
    assert "the memory limit of 256 MiB is too low for TensorFlow" in said
    project.works("up", HOTHOUSE_MEMORY="2g")


@needs_root
def test_a_full_home_folder_is_named_and_nothing_in_it_is_lost(project):
    name = f"{project.environment['COMPOSE_PROJECT_NAME']}_home"
    options = "o=size=24m,uid=1000,gid=0,mode=0775"
    containers.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs",
                      "--opt", options, name)
    # It holds the volume: a tmpfs is empty again when its last container ends.
    mount = ["--volume", f"{name}:/home/jovyan", "--network", "none"]
    with containers.container(ANY_IMAGE, "sleep", "600", options=mount) as holder:
        containers.execute(holder, "sh", "-c", "echo mine > ~/kept; head -c 20M /dev/zero > ~/big")
        assert "the home folder /home/jovyan is full" in project.fails("up")
        assert containers.execute(holder, "cat", "/home/jovyan/kept").stdout == "mine\n"
        containers.execute(holder, "rm", "/home/jovyan/big")
        project.works("up")
        project.works("down")


def test_a_user_that_no_passwd_file_knows_gets_a_notebook(project):
    work = work_of(project)
    if os.getuid() == 0:
        os.chown(work, 54321, 54321)
        said = project.works("up", HOTHOUSE_UID=54321, HOTHOUSE_GID=54321)
    else:
        said = project.works("up", HOTHOUSE_UID=os.getuid(), HOTHOUSE_GID=os.getgid())
    address = next(word for word in said.split() if word.startswith("http://"))
    with urllib.request.urlopen(address, timeout=20) as answer:
        assert answer.status == 200
    # A second `up` leaves the running one alone and prints the same address.
    uid = work.stat().st_uid
    assert address in project.works("up", HOTHOUSE_UID=uid, HOTHOUSE_GID=work.stat().st_gid)


def test_root_is_refused_as_the_notebooks_user(project):
    assert "a notebook never runs as root" in project.fails("up", HOTHOUSE_UID=0)


def test_a_setting_that_is_no_setting_is_named(project):
    assert "the settings are not valid" in project.fails("up", HOTHOUSE_PORT="abc")


def test_an_image_that_is_not_there_is_named(project):
    said = project.fails("up", HOTHOUSE_IMAGE="hothouse-test/nowhere:1")
    assert "hothouse-test/nowhere:1" in said
    assert "HOTHOUSE_IMAGE" in said


def test_the_address_of_a_notebook_that_does_not_run_is_refused(project):
    assert "the notebook is not running" in project.fails("url")


def test_down_keeps_the_files(project):
    project.works("up")
    name = f"{project.environment['COMPOSE_PROJECT_NAME']}_home"
    first = project.works("url")
    project.works("down")
    assert containers.docker("volume", "inspect", name, check=False).returncode == 0
    assert (work_of(project) / "examples" / "digits.ipynb").is_file()
    project.works("up")
    assert project.works("url") == first
