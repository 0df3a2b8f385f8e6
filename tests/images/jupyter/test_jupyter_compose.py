"""compose.yaml: what it keeps in, what it keeps out, and whose files are written."""

import os
import socket

import containers
import pytest
import servers

OWNER = (4321, 4321)
needs_root = pytest.mark.skipif(
    os.getuid() != 0, reason="only root can give a folder to another user"
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A running project whose work folder belongs to another user, and its container."""
    work = tmp_path_factory.mktemp("compose") / "work"
    work.mkdir()
    if os.getuid() == 0:
        os.chown(work, *OWNER)
    uid, gid = work.stat().st_uid, work.stat().st_gid
    with containers.project(
        servers.IMAGE, work, HOTHOUSE_UID=uid, HOTHOUSE_GID=gid, HOTHOUSE_MEMORY="3g",
        HOTHOUSE_PIDS=700,
    ) as compose:
        compose.server = started(compose)
        yield compose


def started(compose) -> servers.Server:
    """Start a project and return its server when it answers."""
    compose("up", "--detach")
    container_id = compose("ps", "--quiet")
    it = servers.Server(container_id, compose.settings["HOTHOUSE_PORT"]).wait()
    containers.until(lambda: servers.token_in(containers.logs(container_id)), "token in the log")
    it.token = servers.token_in(containers.logs(container_id))
    return it


def status_of_tini(it: servers.Server) -> dict[str, str]:
    """Return /proc/1/status: names and values."""
    text = containers.execute(it.container, "cat", "/proc/1/status").stdout
    return {name: value.strip() for name, _, value in
            (line.partition(":") for line in text.splitlines())}


def test_only_this_machine_can_connect(notebook):
    port = notebook.settings["HOTHOUSE_PORT"]
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    bridge = containers.docker("network", "inspect", "bridge", "--format",
                               "{{range .IPAM.Config}}{{.Gateway}} {{end}}").stdout.split()
    names = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    addresses = {*bridge, *(entry[4][0] for entry in names)}
    others = {address for address in addresses if not address.startswith("127.")}
    assert others, "this machine has no other address to try"
    for address in others:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=5).close()


def test_the_container_has_no_capability_and_gets_none(notebook):
    status = status_of_tini(notebook.server)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_the_limits_are_those_that_were_set(notebook):
    limits = containers.inspect(notebook.server.container)["HostConfig"]
    assert (limits["Memory"], limits["PidsLimit"]) == (3 << 30, 700)
    read = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes" \
           " 2>/dev/null || cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max"
    done = containers.execute(notebook.server.container, "sh", "-c", read)
    assert done.stdout.split() == ["700", str(3 << 30)]


@needs_root
def test_the_notebook_runs_as_the_owner_of_the_work_folder(notebook):
    done = containers.execute(notebook.server.container, "sh", "-c", "id -u; id -g")
    assert done.stdout.split() == [str(part) for part in OWNER]


def test_a_saved_notebook_belongs_to_the_owner_of_the_work_folder(notebook):
    cell = {"cell_type": "code", "id": "only", "source": "1", "metadata": {}, "outputs": [],
            "execution_count": None}
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    body = {"type": "notebook", "content": content}
    answer = notebook.server.ask("PUT", "api/contents/work/mine.ipynb", json=body)
    assert answer.status_code in (200, 201), answer.text
    work = notebook.settings["HOTHOUSE_WORK"]
    saved = work / "mine.ipynb"
    assert saved.stat().st_uid == work.stat().st_uid
    assert saved.stat().st_gid == work.stat().st_gid
    assert (work / "examples").stat().st_uid == work.stat().st_uid


def test_a_kernel_runs_in_the_project(notebook):
    assert notebook.server.in_new_kernel() == "42\n"


def test_the_log_of_the_project_has_no_warning(notebook):
    assert servers.complaints(containers.logs(notebook.server.container)) == []


def test_settings_outlive_down_and_up(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    if os.getuid() == 0:
        os.chown(work, *OWNER)
    uid, gid = work.stat().st_uid, work.stat().st_gid
    with containers.project(servers.IMAGE, work, HOTHOUSE_UID=uid, HOTHOUSE_GID=gid) as compose:
        first = started(compose)
        theme = "lab/api/settings/@jupyterlab/apputils-extension:themes"
        saved = first.ask("PUT", theme, json={"raw": '{"theme": "JupyterLab Dark"}'})
        assert saved.status_code == 204, saved.text
        compose("down")
        second = started(compose)
        assert second.container != first.container
        assert "JupyterLab Dark" in second.get(theme).json()["raw"]
        assert second.token == first.token
