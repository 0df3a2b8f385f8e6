"""How a GPU gets from compose to the doctor, by an engine of the test's own and stand-ins.

The stand-ins are a /dev/null in place of the device and small libraries in place of the driver.
They test the plumbing and our reading of it; they never count as evidence that a GPU works.
"""

import json
import os
import shutil
from types import SimpleNamespace

import containers
import engines
import pytest
import standin
import trees

IMAGE = "hothouse/jupyter:cpu"
GPU = "NVIDIA A100-SXM4-40GB"
NODES = ("nvidia0", "nvidiactl", "nvidia-uvm")

pytestmark = [engines.needs_root, engines.needs_dockerd]
standin.import_shared()


def pairs(stand: standin.StandIns) -> list[tuple[str, str]]:
    """What a driver's container gets, and what makes a CPU image look like a CUDA one."""
    options = [*stand.cuda(), *stand.nvml(), *stand.cuda_image(IMAGE)]
    return [tuple(word.split(":")[:2]) for word in options if word != "--volume"]


def specification(stand: standin.StandIns) -> dict:
    """A specification as of the Container Device Interface, version 0.5.0."""
    edits = {
        "deviceNodes": [{"path": f"/dev/{name}", "hostPath": "/dev/null"} for name in NODES],
        "mounts": [{"hostPath": source, "containerPath": target, "options": ["ro", "bind"]}
                   for source, target in pairs(stand)],
        "env": ["NVIDIA_VISIBLE_DEVICES=void", f"STANDIN_GPUS={GPU}|8.0"],
    }
    return {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
            "devices": [{"name": name, "containerEdits": edits} for name in ("all", "0")]}


def hook(stand: standin.StandIns) -> str:
    """A stand-in for NVIDIA's hook: the engine runs it for `driver: nvidia`, with the container's
    state on standard input (OCI runtime specification), before the container's root is final."""
    lines = [f'give {source} {target}' for source, target in pairs(stand)]
    lines += [f"give /dev/null /dev/{name}" for name in NODES]
    return "\n".join([
        "#!/bin/bash", "set -eu", "state=$(cat)",
        r"""pid=$(sed -E 's/.*"pid": ?([0-9]+).*/\1/' <<<"$state")""",
        r"""bundle=$(sed -E 's/.*"bundle": ?"([^"]*)".*/\1/' <<<"$state")""",
        r"""root=$(sed -E 's/.*"root":\{[^}]*"path":"([^"]*)".*/\1/' "$bundle/config.json")""",
        r"""devices=$(sed -E 's/.*"NVIDIA_VISIBLE_DEVICES=([^"]*)".*/\1/' "$bundle/config.json")""",
        'if [ "$devices" != all ] && [ "$devices" != 0 ]; then',
        '    echo "nvidia-container-cli: device error: $devices: unknown device" >&2; exit 1', "fi",
        "inside() { nsenter --target \"$pid\" --mount -- \"$@\"; }",
        "give() {", '    mkdir -p "$(dirname "$root$2")"',
        '    if [ -d "$1" ]; then mkdir -p "$root$2"',
        '    else inside touch "$root$2"; fi',
        '    inside mount --bind "$1" "$root$2"', "}", *lines, "",
    ])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An engine with CDI and a hook, the image, ``ask(*arguments, **settings)`` of compose, and
    the variables of a project of it."""
    folder = tmp_path_factory.mktemp("standins")
    stand = standin.StandIns(folder)
    work = tmp_path_factory.mktemp("work")
    os.chown(work, 1000, 100)
    work.parent.chmod(0o755)
    with engines.engine_folder() as place:
        place.chmod(0o755)
        for name in ("cdi", "programs"):
            (place / name).mkdir()
        (place / "cdi" / "nvidia.json").write_text(json.dumps(specification(stand)))
        program = place / "programs" / "nvidia-container-runtime-hook"
        program.write_text(hook(stand))
        program.chmod(0o755)
        settings = {"features": {"cdi": True}, "cdi-spec-dirs": [str(place / "cdi")]}
        with engines.engine(place, settings=settings, path=str(place / "programs")):
            engines.give(place, IMAGE)
            # Under a name that docker-bake.hcl does not know, so that `up` builds nothing.
            containers.docker("tag", IMAGE, "stand-in", env=engines.talk_to(place))
            project = {
                "DOCKER_HOST": engines.talk_to(place)["DOCKER_HOST"],
                "HOTHOUSE_CUDA_IMAGE": "stand-in", "HOTHOUSE_WORK": str(work),
                "COMPOSE_PROJECT_NAME": "hothouse-test-gpu",
                "HOTHOUSE_PORT": str(containers.free_port()),
            }

            def compose(*arguments: str, **variables: str):
                return containers.docker(
                    "compose", "--profile", "cuda", *arguments, check=False, cwd=containers.ROOT,
                    env={**os.environ, **project, **variables})

            def ask(*arguments: str, **variables: str):
                return compose("run", "--rm", "-T", "notebook-cuda", *arguments, **variables)

            try:
                yield SimpleNamespace(ask=ask, project=project, place=place)
            finally:
                compose("down", "--volumes", "--timeout", "1")


WAYS = {
    "cdi": {"HOTHOUSE_GPU_DRIVER": "cdi", "HOTHOUSE_GPU": "nvidia.com/gpu=all"},
    "cdi, the first": {"HOTHOUSE_GPU_DRIVER": "cdi", "HOTHOUSE_GPU": "nvidia.com/gpu=0"},
    "nvidia": {},
    "nvidia, the first": {"HOTHOUSE_GPU": "0"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_container_that_compose_starts_has_the_gpu(world, way):
    names = " ".join(f"/dev/{name}" for name in NODES)
    look = f"ls {names} && nvidia-smi && df -k /dev/shm | tail -1"
    done = world.ask("sh", "-c", look, **WAYS[way])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == sorted(names.split())
    assert int(done.stdout.split()[-5]) == 1 << 20  # shm_size, in KiB


@pytest.mark.parametrize("way", ["cdi", "nvidia"])
def test_the_doctor_reads_the_gpu_that_compose_reserved(world, way):
    done = world.ask("env", f"STANDIN_GPUS={GPU}|8.0", "hothouse", "doctor", "--quick", "--json",
                 "--expect-gpu", **WAYS[way])
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["gpu"]["line"].startswith(f"GPU: {GPU}, driver "), done.stdout
    failed = [row["key"] for row in report["rows"] if row["status"] == "fail"]
    assert (done.returncode, failed) == (0, [])


@pytest.mark.parametrize(("variables", "cause"), [
    ({"HOTHOUSE_GPU": "7"}, "there is no GPU 7"),
    ({"HOTHOUSE_GPU_DRIVER": "cdi", "HOTHOUSE_GPU": "nvidia.com/gpu=7"},
     "no CDI specification names the device nvidia.com/gpu=7"),
    ({"HOTHOUSE_GPU_DRIVER": "nonsense"}, "no way to give a GPU"),
])
def test_a_gpu_that_does_not_exist_is_refused_in_words_that_we_know(world, variables, cause):
    from scripts import gpus

    done = world.ask("true", **variables)
    assert done.returncode != 0
    problem = gpus.complaint(done.stderr)
    assert problem, done.stderr
    assert cause in problem.cause


#: Gives a command a /dev of its own, in which the device nodes are there.
NODES_FOR = """
dev=$1; shift
mount -t tmpfs none "$dev"
for name in null zero full random urandom tty; do
    touch "$dev/$name"; mount --bind "/dev/$name" "$dev/$name"
done
ln -s /proc/self/fd "$dev/fd"
touch "$dev/nvidia0" "$dev/nvidiactl" "$dev/nvidia-uvm"
mount --rbind "$dev" /dev
exec "$@"
"""


@pytest.fixture
def inv(world, tree, tmp_path):
    """Returns ``inv(*arguments)`` → (status, output) on a host with a stand-in for the GPU."""
    programs = tmp_path / "programs"
    programs.mkdir()
    shutil.copy(standin.SOURCES / "nvidia-smi", programs)
    dev = tmp_path / "dev"
    dev.mkdir()
    # Without the hook: by CDI, whose specification tells the stand-in which GPU it is.
    path = f"{programs}:{os.environ['PATH']}"
    copy = trees.Tree(tree.root, tree.tag, {**world.project, "PATH": path})

    def run(*arguments: str) -> tuple[int, str]:
        return copy.inv(*arguments, before=(
            "unshare", "--mount", "sh", "-euc", NODES_FOR, "sh", str(dev)))

    yield run
    copy.inv("down")
    (tree.root / ".env").unlink(missing_ok=True)


def test_up_with_a_gpu_starts_the_cuda_notebook_and_its_log_names_the_gpu(inv):
    status, said = inv("up", "--gpu")
    assert status == 0, said
    assert "docker compose up --detach notebook-cuda" in said
    assert "/lab?token=" in said
    status, log = inv("logs")
    assert f"GPU: {GPU}" in log, log
    assert "no GPU" not in log
    status, said = inv("url")
    assert (status, "/lab?token=" in said) == (0, True), said
    status, said = inv("down")
    assert status == 0, said
    assert inv("url")[0] == 1


def test_up_with_a_gpu_that_does_not_exist_names_those_that_do(inv):
    status, said = inv("up", "--gpu=3")
    assert status == 1
    assert "there is no GPU 3" in trees.the_error(said)
    assert f"0 ({GPU})" in said
