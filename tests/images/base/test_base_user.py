"""Who a container runs as, and that any other user works too."""

import containers
import pytest

HOME = "/home/jovyan"
WRITE = "touch ~/own && mkdir -p ~/.config/x ~/work/x && python -c 'import tempfile, json'"


def test_the_user_is_jovyan(host):
    user = host.user("jovyan")
    assert (user.uid, user.gid, user.home, user.shell) == (1000, 100, HOME, "/bin/bash")


def test_a_container_runs_as_jovyan(host):
    assert host.check_output("id -u; id -g; whoami").split() == ["1000", "100", "jovyan"]


@pytest.mark.parametrize("path", [HOME, f"{HOME}/work"])
def test_the_home_folder_is_open_to_group_0(host, path):
    folder = host.file(path)
    assert (folder.uid, folder.gid, folder.mode) == (1000, 0, 0o775)


def test_nobody_has_a_password(host):
    fields = [line.split(":")[1] for line in host.file("/etc/passwd").content_string.splitlines()]
    assert set(fields) == {"*"}
    assert not host.file("/etc/shadow").exists


def test_there_is_no_sudo(host):
    assert not host.exists("sudo")
    assert host.run("su -c true").rc != 0


@pytest.mark.parametrize("user", ["4242:0", "1000:100", "0:0"])
def test_a_user_of_group_0_can_write_to_the_home_folder(image, user):
    containers.run(image, "sh", "-c", WRITE, options=["--user", user])


def test_a_user_without_any_entry_can_run_programs(image):
    done = containers.run(
        image, "bash", "-lc", "id -u; id -g; echo $HOME; python -c 'print(6*7)'",
        options=["--user", "31337:31337"],
    )
    assert done.stdout.split() == ["31337", "31337", HOME, "42"]
    assert done.stderr == ""


def test_a_new_volume_over_the_home_folder_belongs_to_the_user(image):
    with containers.volume() as volume:
        options = ["--volume", f"{volume}:{HOME}"]
        containers.run(image, "sh", "-c", WRITE, options=options)
        done = containers.run(image, "ls", HOME, options=options)
        assert done.stdout.split() == ["own", "work"]


def test_a_new_volume_is_open_to_group_0(image):
    with containers.volume() as volume:
        options = ["--volume", f"{volume}:{HOME}", "--user", "4242:0"]
        containers.run(image, "sh", "-c", WRITE, options=options)


def test_nothing_that_python_needs_lies_in_the_home_folder(image):
    modules = "import json, ssl, sqlite3, pathlib; print(pathlib.Path.home().exists())"
    done = containers.run(image, "python", "-c", modules, options=["--tmpfs", HOME])
    assert done.stdout == "True\n"


def test_a_read_only_container_works(image):
    done = containers.run(
        image, "bash", "-lc", "python -c 'import tempfile; print(tempfile.gettempdir())'",
        options=["--read-only", "--tmpfs", "/tmp"],
    )
    assert done.stdout == "/tmp\n"


def test_a_container_without_any_capability_works(image):
    options = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    done = containers.run(image, "grep", "-E", "^(CapEff|NoNewPrivs)", "/proc/self/status",
                          options=options)
    assert done.stdout.split() == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]
