"""Rules that the source keeps: no mirror, no machine, no network in a build."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_lint import DOCKERFILES, ROOT, texts

from scripts import build, locks, mirrors, suite

IMAGES = [path for path in DOCKERFILES if path.parent.name != "builder"]


def steps(path: Path) -> list[str]:
    """The instructions of a Dockerfile, continuation lines joined, comments gone."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [s for s in "\n".join(lines).replace("\\\n", " ").splitlines() if s.strip()]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.parent.name)
def test_every_run_of_a_dockerfile_has_no_network(path):
    runs = [step for step in steps(path) if step.startswith("RUN ")]
    assert all("--network=none" in step for step in runs), runs


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.parent.name)
def test_the_last_stage_only_lays_in_layers_that_stand_alone(path):
    last = "\n".join(steps(path)).rsplit("\nFROM ", 1)[1].splitlines()[1:]
    assert not [step for step in last if step.startswith(("RUN", "ADD", "WORKDIR"))]
    copies = [step for step in last if step.startswith("COPY")]
    assert copies
    assert all(step.startswith("COPY --link --from=") and step.endswith(" /out /")
               for step in copies), copies


def test_dockerfiles_pull_nothing():
    stages = {"scratch"}
    for path in DOCKERFILES:
        bake = (ROOT / "docker-bake.hcl").read_text()
        for step in steps(path):
            if step.startswith("FROM "):
                words = step.split()
                source = words[1]
                if "${ACCELERATOR}" in source:
                    for accelerator in ("cpu", "cuda"):
                        assert source.replace("${ACCELERATOR}", accelerator) in stages, step
                    continue
                assert source in stages or re.search(rf"\b{source}\s*=\s*\"target:", bake), step
                stages.update(words[3:4])


def test_no_file_names_a_package_registry():
    # The names come from the machine's configuration, so that this file holds none either.
    addresses = [archive.url for archive in mirrors.debian_archives().values()]
    hosts = {urlsplit(url).hostname or "" for url in [*addresses, mirrors.index_url()]}
    # A mirror on this machine or in its network has a name that may stand anywhere.
    hosts = {host for host in hosts if host.count(".") > 1 or host.endswith(".org")}
    hosts = {host for host in hosts if not re.fullmatch(r"[\d.]+", host)}
    found = [(str(path), host) for path, text in texts() for host in hosts if host in text]
    assert found == []


def test_no_file_names_a_folder_of_this_machine():
    found = [str(path) for path, text in texts() if str(ROOT) in text]
    assert found == []


def test_locks_are_well_formed_and_hold_all_fields():
    for path in locks.ALL:
        lock = locks.read(path)
        assert lock.packages
        assert all(re.fullmatch(r"[0-9a-f]{64}", p.sha256) and p.size > 0 for p in lock.packages)
        assert not re.search(r"https?://", path.read_text())


def test_the_epoch_is_the_newest_lock_date():
    import datetime

    newest = max(locks.read(path).date for path in locks.ALL)
    day = datetime.datetime.fromtimestamp(locks.epoch(), datetime.timezone.utc)
    assert day.date().isoformat() == newest


def test_what_is_asked_for_is_what_is_locked():
    for lock_path in locks.ALL:
        lock = locks.read(lock_path)
        asked = lock_path.with_suffix(".in").read_text()
        names = re.findall(r"^([A-Za-z0-9][\w.-]*)", asked, re.MULTILINE)
        missing = set(names) - {package.name for package in lock.packages}
        assert missing == set(), f"{lock_path.name}: run scripts/inv lock"


def test_bake_can_build_what_the_images_folder_names():
    shown = subprocess.run(
        ["docker", "buildx", "bake", "--file", "docker-bake.hcl", "--print", "all"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert shown.returncode == 0, shown.stderr
    bake = json.loads(shown.stdout)
    targets = [name for name in bake["target"] if not name.startswith("_")]
    assert sorted(build.chosen(["all"])) == sorted(targets)
    assert build.chosen(["cpu"]) == ["base", "tensorflow-cpu", "jupyter-cpu"]
    assert {name.split("-")[0] for name in targets} == {p.parent.name for p in IMAGES}
    assert {name: bake["target"][name]["tags"][0] for name in targets} == suite.IMAGES


def test_a_target_is_built_together_with_those_that_it_stands_on():
    known = build.targets()
    chain = ["base", "tensorflow-cpu", "jupyter-cpu"]
    assert build.with_parents(["jupyter-cpu"], known) == chain
    assert build.with_parents(["jupyter-cpu", "base"], known) == chain
    assert build.with_parents(["base"], known) == ["base"]


def test_every_variable_of_compose_is_explained():
    used = set(re.findall(r"\$\{(HOTHOUSE_\w+)", (ROOT / "compose.yaml").read_text()))
    assert used == set(re.findall(r"^#?(HOTHOUSE_\w+)=", (ROOT / ".env.example").read_text(), re.M))


def compose_config(*arguments: str, **settings: str) -> dict:
    """What compose makes of compose.yaml without .env."""
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/nonexistent", **settings}
    shown = subprocess.run(
        ["docker", "compose", "--env-file", "/dev/null", *arguments, "config", "--format", "json"],
        cwd=ROOT, capture_output=True, text=True, check=False, env=environment,
    )
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)["services"]


@pytest.mark.parametrize(("arguments", "service"), [
    ((), "notebook"), (("--profile", "cpu"), "notebook"), (("--profile", "cuda"), "notebook-cuda"),
])
def test_one_service_runs_and_it_is_safe_by_default(arguments, service):
    services = compose_config(*arguments)
    assert list(services) == [service]
    found = services[service]
    assert [port["host_ip"] for port in found["ports"]] == ["127.0.0.1"]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["user"] == "1000:100"
    assert int(found["mem_limit"]) > 0
    assert found["pids_limit"] > 0
    assert int(found["shm_size"]) == 1 << 30
    assert "privileged" not in found
    assert not any("token" in key.lower() for key in found["environment"])


def test_the_profile_cuda_reserves_the_gpus_that_the_variables_name():
    def devices(**settings: str) -> list[dict]:
        service = compose_config("--profile", "cuda", **settings)["notebook-cuda"]
        return service["deploy"]["resources"]["reservations"]["devices"]

    assert devices() == [
        {"capabilities": ["gpu"], "driver": "nvidia", "device_ids": ["all"]}]
    assert devices(HOTHOUSE_GPU_DRIVER="cdi", HOTHOUSE_GPU="nvidia.com/gpu=0") == [
        {"capabilities": ["gpu"], "driver": "cdi", "device_ids": ["nvidia.com/gpu=0"]}]
