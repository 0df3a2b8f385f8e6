"""How programs start and end in a container, and which Python they find."""

import time

import containers
import pytest

WHICH = (
    "import sys, os; print(os.path.realpath(sys.executable), sys.prefix, sys.version_info[:3],"
    " [p for p in sys.path if 'dist-packages' in p], sys.flags.safe_path)"
)
CRON = ["env", "-i", "HOME=/home/jovyan", "LOGNAME=jovyan", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"]
#: Every way to come to a Python without Jupyter: name → what stands before `-c CODE`.
WAYS = {
    "python": ["python"],
    "python3": ["python3"],
    "absolute path": ["/usr/bin/python"],
    "shell": ["sh", "-c", 'exec python "$@"', "sh"],
    "login shell": ["bash", "-lc", 'exec python "$@"', "bash"],
    "interactive shell": ["bash", "-ic", 'exec python "$@"', "bash"],
    "no environment": ["env", "-i", "/usr/bin/python"],
    "cron": [*CRON, "/bin/sh", "-c", 'exec python "$@"', "sh"],
}
#: As who: a user with an entry, one of group 0, one that the image knows nothing of, and root.
USERS = ["1000:100", "4242:0", "31337:31337", "0:0"]
NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHON_CPU_COUNT",
         "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS")
THREADS = f"import os; print([os.environ.get(n) for n in {NAMES}])"


@pytest.fixture(scope="session")
def own_python(idle) -> str:
    return containers.execute(idle, "python", "-c", WHICH).stdout


@pytest.mark.parametrize("way", WAYS)
def test_every_start_finds_the_same_python(idle, own_python, way):
    assert containers.execute(idle, *WAYS[way], "-c", WHICH).stdout == own_python
    assert own_python.startswith("/usr/bin/python3.13 /usr ")


@pytest.mark.parametrize("user", USERS)
def test_every_user_finds_the_same_python(idle, own_python, user):
    done = containers.execute(idle, "python", "-c", WHICH, options=["--user", user])
    assert done.stdout == own_python


@pytest.mark.parametrize("way", WAYS)
def test_every_start_speaks_utf_8(idle, way):
    code = "import sys, os; print(sys.stdout.encoding, sys.getfilesystemencoding(), 'Größe 漢')"
    assert containers.execute(idle, *WAYS[way], "-c", code).stdout == "utf-8 utf-8 Größe 漢\n"


def test_the_time_zone_can_be_chosen(image):
    code = "date +%z; python -c \"import time, zoneinfo; print(time.strftime('%z'))\""
    done = containers.run(image, "sh", "-c", code, options=["--env", "TZ=Asia/Tokyo"])
    assert done.stdout.split() == ["+0900", "+0900"]


def test_tini_is_the_first_process(idle):
    assert containers.execute(idle, "cat", "/proc/1/comm").stdout == "tini\n"


@pytest.mark.parametrize("status", [0, 7])
def test_a_commands_exit_status_is_the_containers(image, status):
    assert containers.run(image, "sh", "-c", f"exit {status}", check=False).returncode == status


def test_an_unknown_command_ends_with_127(image):
    done = containers.run(image, "no-such-command", check=False)
    assert done.returncode == 127
    assert "no-such-command" in done.stderr


def test_a_command_reads_its_input(image):
    done = containers.run(image, "python", "-", options=["--interactive"], check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", [
    ["sleep", "infinity"],
    ["sh", "-c", "sleep infinity & wait"],
    ["python", "-c", "import time; time.sleep(999)"],
], ids=["program", "shell", "python"])
def test_a_container_ends_when_it_is_told_to(image, command):
    with containers.container(image, *command, options=["--network", "none"]) as container_id:
        # A signal that comes before tini has started the program is lost.
        names = "sh", "-c", "cat /proc/[0-9]*/comm"
        containers.until(
            lambda: {"sleep", "python", "python3"}
            & set(containers.execute(container_id, *names, check=False).stdout.split()),
            "start of the program")
        begin = time.monotonic()
        containers.docker("stop", "--time", "20", container_id)
        assert time.monotonic() - begin < 5
        assert containers.inspect(container_id)["State"]["ExitCode"] == 143


def test_orphans_are_reaped(idle):
    # Its parent ends first, so tini inherits it; unreaped it would stay as a zombie.
    start = "sleep infinity >/dev/null 2>&1 & echo $!"
    pid = containers.execute(idle, "sh", "-c", start).stdout.strip()
    status = containers.execute(idle, "cat", f"/proc/{pid}/status").stdout
    assert "\nPPid:\t1\n" in status
    containers.execute(idle, "sh", "-c", f"kill {pid}")
    containers.until(
        lambda: containers.execute(idle, "test", "-e", f"/proc/{pid}", check=False).returncode,
        "end of the orphan", 10,
    )


@pytest.mark.parametrize(("limit", "count"), [("1", 1), ("1.5", 2), (None, None)])
def test_threads_follow_the_cpu_quota_in_every_start(image, limit, count):
    options = ["--network", "none", *(["--cpus", limit] if limit else [])]
    with containers.container(image, "sleep", "infinity", options=options) as container_id:
        usable = int(containers.execute(container_id, "nproc").stdout)
        expected = f"{[str(min(count or usable, usable))] * len(NAMES)}\n"
        for way, command in WAYS.items():
            assert containers.execute(container_id, *command, "-c", THREADS).stdout == expected, way


def test_thread_counts_that_the_user_set_stay(image):
    options = ["--cpus", "1", "--env", "OMP_NUM_THREADS=7", "--env", "PYTHON_CPU_COUNT=5"]
    done = containers.run(image, "python", "-c", THREADS, options=options)
    assert done.stdout == "['7', '1', '5', '1', '1']\n"
