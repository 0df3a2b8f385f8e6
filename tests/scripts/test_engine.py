"""How scripts/engine.py and scripts/install.py read what Docker, apt and the system say.

No engine is touched: the texts here and in apt/ were printed by real ones, and the `docker`
commands of the last part are stand-ins that print such texts, so they test our reading alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import engine, install
from scripts.paths import ROOT
from scripts.problem import Problem


def policy(name: str) -> dict[str, str]:
    """What is read from an `apt-cache policy` that a real machine printed."""
    text = (Path(__file__).parent / "apt" / f"{name}.txt").read_text(encoding="utf-8")
    return install.read_policy(text)


def answer(**changes: object) -> dict:
    """What `docker info` of Debian's engine answers, as far as it is read, with changes."""
    plugins = [
        {"Name": "buildx", "Version": "0.13.1+ds1", "SchemaVersion": "0.1.0"},
        {"Name": "compose", "Version": "2.26.1-4", "SchemaVersion": "0.1.0"},
    ]
    info = {
        "ServerVersion": "26.1.5+dfsg1",
        "Architecture": "x86_64",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "ClientInfo": {"Context": "default", "Plugins": plugins},
    }
    return info | changes


def plugins(buildx: str | None, compose: str | None) -> dict:
    """The client's part of `docker info` with these versions of the plugins, None for missing."""
    pairs = {"buildx": buildx, "compose": compose}.items()
    return {"Plugins": [{"Name": name, "Version": value} for name, value in pairs if value]}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("26.1.5+dfsg1", (26, 1, 5)),
        ("v0.12.1", (0, 12, 1)),
        ("2.26.1-4", (2, 26, 1)),
        ("v2.24.6-desktop.1", (2, 24, 6)),
        ("5:27.0.3-1~debian.12~bookworm", (27, 0, 3)),
        ("28.2.2-0ubuntu1~24.04.1", (28, 2, 2)),
        ("29", (29, 0, 0)),
        ("dev", None),
        ("", None),
    ],
)
def test_versions_of_all_packagers_are_read(text: str, version: engine.Version | None) -> None:
    assert engine.parse_version(text) == version


def test_an_engine_that_is_new_enough_is_used() -> None:
    assert engine.check(answer()) == engine.Engine((26, 1, 5), (0, 13, 1), (2, 26, 1), True)


@pytest.mark.parametrize(
    ("changes", "cause", "fix"),
    [
        (
            {"ServerVersion": "20.10.24+dfsg1"},
            "the Docker engine is 20.10.24+dfsg1",
            "upgrade Docker",
        ),
        ({"ServerVersion": "25.0.13"}, "the Docker engine is 25.0.13", "upgrade Docker"),
        ({"ClientInfo": plugins("v0.11.2", "2.26.1")}, "docker buildx is v0.11.2", "docker-buildx"),
        (
            {"ClientInfo": plugins("0.13.1", "v2.24.3")},
            "docker compose is v2.24.3",
            "docker-compose",
        ),
        ({"ClientInfo": plugins(None, "2.26.1")}, "docker buildx is missing", "docker-buildx"),
        ({"ClientInfo": plugins("0.13.1", None)}, "docker compose is missing", "docker-compose"),
        ({"ClientInfo": {"Plugins": None}}, "docker buildx is missing", "docker-buildx"),
        (
            {"DriverStatus": [["Backing Filesystem", "extfs"]]},
            "containerd image store",
            "daemon.json",
        ),
        ({"DriverStatus": None}, "containerd image store", "daemon.json"),
        ({"Architecture": "aarch64"}, "runs on aarch64, and the images are for x86_64", "x86_64"),
        ({"Architecture": ""}, "runs on an unknown machine", "x86_64"),
    ],
)
def test_what_is_too_old_or_missing_is_named(changes: dict, cause: str, fix: str) -> None:
    with pytest.raises(Problem) as caught:
        engine.check(answer(**changes))
    assert cause in caught.value.cause
    assert fix in caught.value.fix


def test_an_engine_that_does_not_answer_gives_the_clients_words() -> None:
    silent = json.dumps({"ServerVersion": "", "ClientInfo": {"Context": "remote"}})
    read = engine.read_info(silent, "Cannot connect to the Docker daemon.\n")
    assert (read.info, read.context, read.denied) == (None, "remote", False)
    assert read.error == "Cannot connect to the Docker daemon."


def test_podman_in_the_place_of_docker_is_named() -> None:
    with pytest.raises(Problem, match="Podman"):
        engine.read_info('{"host": {"arch": "amd64"}, "version": {}}', "")


def test_bookworms_own_packages_are_too_old() -> None:
    read = policy("bookworm")
    assert read == {"docker.io": "20.10.24+dfsg1-1+deb12u1+b6", "docker-compose": "1.29.2-3"}
    assert install.choose(read) == []


def test_trixies_packages_are_chosen_when_pinned() -> None:
    assert install.choose(policy("bookworm-pinned")) == [
        "docker.io",
        "docker-cli",
        "docker-buildx",
        "docker-compose",
        "containerd",
        "iptables",
    ]


def test_ubuntus_packages_are_chosen_by_their_own_names() -> None:
    assert install.choose(policy("ubuntu-24.04")) == [
        "docker.io",
        "docker-buildx",
        "docker-compose-v2",
        "containerd",
        "iptables",
    ]


def test_one_package_that_is_too_old_makes_the_release_too_old() -> None:
    chosen = policy("bookworm-pinned")
    assert install.choose(chosen | {"docker-buildx": "0.10.5-1"}) == []


def write(apt: Path, name: str, text: str) -> None:
    """Put a file into a stand-in of /etc/apt."""
    path = apt / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_newer_source_is_the_machines_own_mirror(tmp_path: Path) -> None:
    write(
        tmp_path,
        "sources.list.d/debian.sources",
        """\
Types: deb
# a comment between the fields
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
""",
    )
    source = install.derive_source(install.read_sources(tmp_path), "bookworm", "trixie")
    assert (
        source
        == """\
Types: deb
URIs: https://mirror.example/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
    )


def test_a_key_written_into_the_source_is_kept(tmp_path: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END-----\n"
    head = "Types: deb\nURIs: http://mirror.example/debian\nSuites: {}\nComponents: main\n"
    write(tmp_path, "sources.list.d/own.sources", head.format("bookworm") + key)
    source = install.derive_source(install.read_sources(tmp_path), "bookworm", "trixie")
    assert source == head.format("trixie") + key


def test_one_line_sources_are_read_with_their_options(tmp_path: Path) -> None:
    write(
        tmp_path,
        "sources.list",
        """\
# deb http://off.example/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # own
""",
    )
    source = install.derive_source(install.read_sources(tmp_path), "bookworm", "trixie")
    assert (
        source
        == """\
Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
Architectures: amd64 arm64
Signed-By: /k.gpg
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        "Types: deb\nURIs: http://m.example/\nSuites: trixie\nComponents: main\n",
        "Types: deb\nURIs: http://m.example/\nSuites: bookworm\nComponents: main\nEnabled: no\n",
        "Types: deb\nURIs: http://m.example/\nSuites: bookworm\nComponents: main\nEnabled: off\n",
        "Types: deb\nSuites: bookworm\nComponents: main\n",
        "Types: deb-src\nURIs: http://m.example/\nSuites: bookworm\nComponents: main\n",
        "",
    ],
)
def test_nothing_is_derived_from_a_source_of_something_else(tmp_path: Path, text: str) -> None:
    write(tmp_path, "sources.list.d/other.sources", text)
    assert install.derive_source(install.read_sources(tmp_path), "bookworm", "trixie") is None


def test_all_but_the_engine_of_the_newer_release_stays_out() -> None:
    alone = install.preferences("trixie", alone=True)
    assert alone.startswith("Package: *\nPin: release n=trixie\nPin-Priority: -10\n\n")
    assert "docker.io docker-cli docker-buildx docker-compose containerd\n" in alone
    assert "Package: *" not in install.preferences("trixie", alone=False)


def test_os_release_is_read_with_and_without_quotes() -> None:
    read = install.read_release('NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n')
    assert (read["ID"], read["ID_LIKE"]) == ("linuxmint", "ubuntu debian")


def ask_stand_in(folder: Path, script: str | None, **environment: str) -> str:
    """Run `ensure` without a terminal where `docker` is a stand-in; return what it printed.

    :param script: the stand-in, in sh; None for no docker command at all.
    """
    if script is not None:
        docker = folder / "docker"
        docker.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        docker.chmod(0o755)
    code = (
        "import sys\nfrom scripts import engine\nfrom scripts.problem import Problem\n"
        "engine.as_root = lambda verb: sys.exit(f'as root: {verb}')\n"
        "engine.daemon = lambda: None\n"
        "try: print(engine.ensure())\nexcept Problem as problem: print(problem.message)\n"
    )
    own = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        env=own | {"PATH": f"{folder}:/usr/bin:/bin" if script else str(folder)} | environment,
        capture_output=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return (done.stdout + done.stderr).strip()


def says(info: dict) -> str:
    """A stand-in's body that answers with this `docker info`."""
    return f"cat <<'END'\n{json.dumps(info)}\nEND"


def test_a_stand_in_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    assert ask_stand_in(tmp_path, says(answer())).startswith("Engine(version=(26, 1, 5)")


def test_a_stand_in_that_is_old_gives_one_line(tmp_path: Path) -> None:
    line = ask_stand_in(tmp_path, says(answer(ServerVersion="20.10.24+dfsg1")))
    assert line == (
        "error: the Docker engine is 20.10.24+dfsg1; at least 26.0.0 is needed. Fix: "
        "upgrade Docker by the way that it was installed, or use a newer release"
    )


def test_a_stand_in_that_refuses_the_socket_gives_the_group_to_join(tmp_path: Path) -> None:
    refuse = (
        'echo \'{"ServerVersion": ""}\'; echo \'permission denied while trying to connect to the '
        "Docker daemon socket at unix:///var/run/docker.sock' >&2; exit 1"
    )
    line = ask_stand_in(tmp_path, refuse, HOTHOUSE_IN_DOCKER_GROUP="1", LOGNAME="nobody")
    assert "nobody may not use the Docker engine's socket" in line
    assert "sudo usermod -aG docker nobody, then newgrp docker" in line
    assert "\n" not in line


SILENT = "echo '{}'; echo 'Cannot connect to the Docker daemon.' >&2; exit 1"


@pytest.mark.parametrize(
    ("environment", "context", "cause"),
    [
        ({"DOCKER_HOST": "tcp://10.0.0.9:1"}, "default", "DOCKER_HOST=tcp://10.0.0.9:1 is set"),
        ({}, "lab", "the docker context lab is set"),
    ],
)
def test_an_engine_elsewhere_that_is_silent_is_not_replaced(
    tmp_path: Path, environment: dict, context: str, cause: str
) -> None:
    info = json.dumps({"ServerVersion": "", "ClientInfo": {"Context": context}})
    line = ask_stand_in(tmp_path, SILENT.format(info), **environment)
    assert line.startswith(f"error: {cause} and does not answer: Cannot connect")
    assert "as root" not in line


def test_a_client_without_an_engine_leads_to_an_installation(tmp_path: Path) -> None:
    line = ask_stand_in(tmp_path, SILENT.format(json.dumps({"ServerVersion": ""})))
    assert line == "as root: install" or "is not Debian or Ubuntu" in line


def test_no_apt_means_that_the_packages_are_named(tmp_path: Path) -> None:
    line = ask_stand_in(tmp_path, None)
    assert line.startswith("error: no Docker engine answers, and ")
    assert "Fix: install a Docker engine 26.0.0, buildx 0.12.0 and compose 2.24.4 or newer" in line
    assert "http" not in line


@pytest.mark.parametrize("error", [
    PermissionError(13, "Permission denied", "/run/hothouse-engine.lock"),
    subprocess.CalledProcessError(6, ["usermod"]),
])
def test_what_root_cannot_do_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(verb: str) -> None:
        raise error

    monkeypatch.setattr(engine, "act", fails)
    with pytest.raises(SystemExit) as caught:
        engine.main("install")
    assert str(caught.value).startswith("error: the Docker engine could not be set up: ")
    assert "\n" not in str(caught.value)


def test_a_user_that_usermod_does_not_know_does_not_end_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    usermod = tmp_path / "usermod"
    usermod.write_text("#!/bin/sh\nexit 6\n", encoding="utf-8")
    usermod.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SUDO_USER", "of-ldap")
    monkeypatch.setattr(engine, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(engine, "ask", lambda *_: engine.Answer(None))
    monkeypatch.setattr(install, "install", lambda marker: None)
    started = []
    monkeypatch.setattr(engine, "start", lambda: started.append(True))
    engine.act("install")
    assert started
    assert "note: usermod could not do it" in capfd.readouterr().err
