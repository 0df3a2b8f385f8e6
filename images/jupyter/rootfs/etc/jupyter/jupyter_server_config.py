"""Jupyter's configuration in a Hothouse image, in force however the server is started.

It also looks at the container before the server starts: what would fail later with a traceback is
said here, in one line with its fix.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from jupyter_server.auth.identity import PasswordIdentityProvider

HOME = Path.home()
WORK = HOME / "work"
TOKEN = HOME / ".jupyter" / "hothouse-token"
EXAMPLES = Path("/opt/hothouse/examples")
# TensorFlow's import alone takes 400 MB; a small training and JupyterLab need the rest.
MEMORY_MIN = 1 << 30
# Room for a kernel's connection file, its history and a saved notebook.
DISK_MIN = 8 << 20
# A driver that was asleep takes seconds to answer; one that hangs should not be waited for.
GPU_LIMIT = 60


def stop(cause, fix):
    """End the start with one line."""
    print(f"error: {cause}. Fix: {fix}", file=sys.stderr, flush=True)
    # Not SystemExit: Jupyter's loader of configuration files would go on without this file.
    os._exit(1)


def memory_limit():
    """Return the container's memory limit in bytes (cgroup v2, else v1), or None."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            continue
    return None


def check_memory():
    """Refuse a limit under which the first `import tensorflow` is killed without a word."""
    limit = memory_limit()
    if limit is not None and limit < MEMORY_MIN:
        stop(
            f"the memory limit of {limit >> 20} MiB is too low for TensorFlow",
            f"give the container at least {MEMORY_MIN >> 20} MiB "
            "(HOTHOUSE_MEMORY=2g in .env, or docker run --memory 2g)",
        )


def check_home():
    """Refuse a full home folder: new kernels and saved notebooks would fail one by one."""
    if os.access(HOME, os.W_OK) and shutil.disk_usage(HOME).free < DISK_MIN:
        stop(
            f"the home folder {HOME} is full",
            "delete files in its volume: docker compose run --rm --no-deps notebook bash",
        )


def make_profile():
    """Make IPython's profile while there is room: every kernel writes its README when it is
    missing, and would not start once the home folder is full."""
    readme = HOME / ".ipython" / "profile_default" / "startup" / "README"
    with contextlib.suppress(OSError):
        readme.parent.mkdir(parents=True, exist_ok=True)
        if not readme.exists():
            readme.write_text("Python files in this folder run at the start of each kernel.\n")


def check_work():
    """Refuse a work folder that cannot keep what is saved in it."""
    if WORK.is_dir() and not os.access(WORK, os.W_OK | os.X_OK):
        owner = WORK.stat().st_uid
        stop(
            f"the work folder belongs to uid {owner} and is not writable for uid {os.getuid()}",
            f"on the host: sudo chown -R {os.getuid()} FOLDER (compose: HOTHOUSE_WORK, ./work), "
            f"or run as its owner (HOTHOUSE_UID={owner} in .env)",
        )


def token():
    """Return the token: the user's own, else one that is made once and kept in the home folder.

    Empty values count as not set, so that an unset shell variable never opens the server. To run
    without a token one has to say so: --IdentityProvider.token=''.
    """
    if given := os.environ.pop("JUPYTER_TOKEN", "").strip():
        return given
    if file := os.environ.pop("JUPYTER_TOKEN_FILE", ""):
        try:
            # Stripped: with the newline that editors leave at the end every login fails.
            given = Path(file).read_text().strip()
        except OSError as error:
            stop(f"JUPYTER_TOKEN_FILE cannot be read: {error.strerror}",
                 "mount it readable for this user")
        if not given:
            stop(f"JUPYTER_TOKEN_FILE {file} is empty", "write a token into it")
        return given
    try:
        return TOKEN.read_text().strip() or make_token()
    except OSError:
        return make_token()


def make_token():
    """Return a new token, kept for the next start where the home folder allows it."""
    new = secrets.token_hex(24)
    try:
        TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
        with open(os.open(TOKEN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(new + "\n")
    except OSError as error:
        print(f"warning: the token will change at each start: {error}", file=sys.stderr)
    return new


def lay_out_examples():
    """Give a new, empty work folder the example notebooks, as copies that can be edited."""
    if os.access(WORK, os.W_OK) and not any(p for p in WORK.iterdir() if p.name[0] != "."):
        shutil.copytree(EXAMPLES, WORK / EXAMPLES.name, copy_function=shutil.copyfile)


class Gpu:
    """Which GPU is used, or why none: one line in the log, the same in the Lab's status bar.

    `hothouse gpu` runs beside the server's start, which never waits for it. Nothing is said where
    nothing was asked for: in the CPU image without a GPU.
    """

    def __init__(self):
        self.line = self.fix = ""
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self):
        """Run the command and print its line."""
        if not (program := shutil.which("hothouse")):
            return
        # The token is nobody else's business.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER_TOKEN")}
        try:
            said = json.loads(subprocess.run(
                [program, "gpu", "--json"], env=kept, stdin=subprocess.DEVNULL,
                capture_output=True, timeout=GPU_LIMIT, check=False).stdout)
            ok, line, fix = said["ok"], str(said["line"]), str(said["fix"])
        except subprocess.TimeoutExpired:
            ok, fix = False, "restart the host's driver, then run hothouse doctor in a terminal"
            line = f"no GPU: its driver did not answer in {GPU_LIMIT} s. Fix: {fix}"
        except (OSError, ValueError, KeyError, TypeError):
            ok, fix = False, "run hothouse doctor in a terminal"
            line = f"no GPU: hothouse gpu gave no answer. Fix: {fix}"
        if not ok or line.startswith("GPU:"):
            self.line, self.fix = line, "" if ok else fix
            print(line, file=sys.stderr, flush=True)

    def into_page(self, page_config):
        """Return the Lab's page configuration with what its extension hothouse-gpu shows."""
        # The first page comes about a second after the start; by then most drivers have answered.
        self.thread.join(timeout=1)
        line = "GPU: not known yet, reload the page" if self.thread.is_alive() else self.line
        return {**page_config, "hothouseGpuLine": line, "hothouseGpuFix": self.fix}


class IdentityProvider(PasswordIdentityProvider):
    """Jupyter's own, which shows in its start line only the tokens that it made itself. Ours is
    made at the first start, so the line may show it: it is the only way in for most people."""

    token_generated = True


check_memory()
check_home()
make_profile()
check_work()
lay_out_examples()
gpu = Gpu()

c = get_config()  # noqa: F821
# A plain function: traitlets makes deep copies of the configuration, of a method its thread too.
c.ServerApp.tornado_settings = {"page_config_hook": lambda _, page: gpu.into_page(page)}
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
# A taken port is an error, not a silent move to another one that nothing forwards.
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.root_dir = str(HOME)
if WORK.is_dir():
    c.FileContentsManager.preferred_dir = str(WORK)
c.ServerApp.identity_provider_class = IdentityProvider
c.IdentityProvider.token = token()
c.ServerApp.extra_template_paths = ["/etc/jupyter/templates"]
# What a kernel says stays between it and the server, also from other users of the same network.
c.KernelManager.transport_encryption = "auto"
# The address as seen from outside the container; compose.yaml sets it.
c.ServerApp.custom_display_url = os.environ.get("HOTHOUSE_URL", "")
# No look-up for newer versions: the image's are locked. The Lab's overrides.json says no to news.
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
