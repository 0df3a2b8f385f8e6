"""The server of the notebook image: what it serves, in which start, and what it prints."""

import time

import containers
import pytest
import servers

WAYS = {
    "default": [],
    "jupyter lab": ["jupyter", "lab"],
    "start-jupyter server": ["start-jupyter", "server"],
    "login shell": ["bash", "-lc", "exec jupyter lab"],
}
RESTRICTED = {
    "read-only": ["--read-only", "--tmpfs", "/tmp"],
    "read-only, no capability": ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
                                 "--security-opt", "no-new-privileges"],
    "tmpfs over the home folder": ["--tmpfs", "/home/jovyan"],
    "a user of group 0": ["--user", "4242:0"],
    "a user without an entry": ["--user", "31337:31337"],
}
SAME = "import sys, os; print(os.path.realpath(sys.executable), sys.prefix, sys.version_info[:3])"


@pytest.fixture(scope="module")
def server():
    """One server for the tests that only look."""
    with servers.server() as it:
        yield it


@pytest.mark.parametrize("way", WAYS)
def test_every_start_serves(way):
    with servers.server(*WAYS[way]) as it:
        assert it.get("api/status").status_code == 200


@pytest.mark.parametrize("how", RESTRICTED)
def test_a_restricted_container_serves_and_runs_kernels(how):
    with servers.server(options=RESTRICTED[how]) as it:
        assert it.in_new_kernel() == "42\n"


def test_a_hub_can_give_its_own_command_port_and_path():
    command = ["jupyter", "server", "--ServerApp.port=9999",
               "--ServerApp.base_url=/user/somebody/", "--IdentityProvider.token=hubtoken"]
    with servers.server(*command, base="/user/somebody/", port=9999, token="hubtoken") as it:
        assert it.get("api/status").status_code == 200
        assert it.get("api/status", token="").status_code == 403
        containers.until(lambda: health(it) == "healthy", "health")


def test_a_server_ends_quickly_when_it_is_told_to():
    with servers.server() as it:
        it.in_new_kernel()
        begin = time.monotonic()
        containers.docker("stop", "--time", "20", it.container)
        assert time.monotonic() - begin < 8
        assert containers.inspect(it.container)["State"]["ExitCode"] in (0, 143)
        assert servers.complaints(containers.logs(it.container)) == []


def test_the_log_has_no_warning_and_no_error(server):
    server.in_new_kernel()
    assert server.get("lab").status_code == 200
    assert server.ask("POST", "api/terminals").status_code == 200
    assert servers.complaints(containers.logs(server.container)) == []


def test_the_lab_is_served_with_its_work_folder(server):
    page = server.get("lab")
    assert page.status_code == 200
    assert '"preferredPath": "work"' in page.text
    names = [entry["name"] for entry in server.get("api/contents/work").json()["content"]]
    assert names == ["examples"]


def test_a_kernel_is_the_same_python(server):
    kernel = server.in_new_kernel(SAME)
    assert kernel == containers.execute(server.container, "python", "-c", SAME).stdout


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("1.5", 2), (None, None)])
def test_threads_in_a_kernel_follow_the_cpu_quota(limit, count):
    names = ["OMP_NUM_THREADS", "PYTHON_CPU_COUNT", "TF_NUM_INTRAOP_THREADS"]
    code = f"import os; print(*[os.environ.get(n) for n in {names}], os.process_cpu_count())"
    with servers.server(options=["--cpus", limit] if limit else []) as it:
        usable = int(containers.execute(it.container, "nproc").stdout)
        assert it.in_new_kernel(code).split() == [str(min(count or usable, usable))] * 4


def test_a_terminals_shell_is_bash(server):
    assert server.ask("POST", "api/terminals").status_code == 200
    find = "for p in /proc/[0-9]*; do readlink $p/exe; tr '\\0' ' ' <$p/cmdline; echo; done; true"
    containers.until(
        lambda: "/usr/bin/bash" in containers.execute(
            server.container, "sh", "-c", find).stdout.splitlines(),
        "bash of the terminal",
    )


def test_every_server_extension_is_found_valid(server):
    done = containers.execute(server.container, "jupyter", "server", "extension", "list")
    lines = (done.stdout + done.stderr).splitlines()
    checks = [line for line in lines if line.lstrip().startswith("- Validating")]
    assert len(checks) >= 4
    assert len([line for line in lines if "OK" in line]) == len(checks), lines


def test_every_lab_extension_is_enabled_and_valid(server):
    done = containers.execute(server.container, "jupyter", "labextension", "list")
    shown = [line for line in (done.stdout + done.stderr).splitlines() if "(python, " in line]
    assert len(shown) >= 2
    assert [line for line in shown if "enabled" not in line or "OK" not in line] == []


def test_only_the_images_own_kernel_is_offered(server):
    assert list(server.get("api/kernelspecs").json()["kernelspecs"]) == ["python3"]


def health(it: servers.Server) -> str:
    """Return what the engine says of the server's health."""
    return containers.inspect(it.container)["State"]["Health"]["Status"]


def test_health_follows_the_server():
    options = ["--health-interval", "1s", "--health-timeout", "1s", "--health-retries", "2",
               "--health-start-period", "1s"]
    with servers.server(options=options) as it:
        containers.until(lambda: health(it) == "healthy", "health")
        pid = containers.execute(
            it.container, "sh", "-c", "ls $JUPYTER_RUNTIME_DIR").stdout
        pid = pid.split("jpserver-")[1].split("-")[0].split(".")[0]
        containers.execute(it.container, "sh", "-c", f"kill -STOP {pid}")
        containers.until(lambda: health(it) == "unhealthy", "illness")
        containers.execute(it.container, "sh", "-c", f"kill -CONT {pid}")
        containers.until(lambda: health(it) == "healthy", "recovery")


def test_a_new_server_is_healthy_within_seconds_of_its_answer():
    with servers.server() as it:
        containers.until(lambda: health(it) == "healthy", "health", 5)


def test_a_taken_port_inside_is_an_error():
    script = "python -m http.server 8888 >/tmp/log 2>&1 & until grep -q Serving /tmp/log; " \
             "do sleep 0.1; done; start-jupyter"
    done = containers.run(
        servers.IMAGE, "sh", "-c", script, options=["--env", "PYTHONUNBUFFERED=1"], check=False)
    assert done.returncode != 0
    assert servers.complaints(done.stdout + done.stderr)[-1].endswith(
        "ERROR: the Jupyter server could not be started because port 8888 is not available.")


def test_kernels_start_in_a_home_folder_that_filled_up():
    options = "o=size=24m,uid=1000,gid=0,mode=0775"
    with (
        containers.volume("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", options) as name,
        servers.server(options=["--volume", f"{name}:/home/jovyan"]) as it,
    ):
        fill = "head -c 30M /dev/zero > ~/big"
        done = containers.execute(it.container, "sh", "-c", fill, check=False)
        assert "No space left" in done.stderr
        assert it.in_new_kernel() == "42\n"
