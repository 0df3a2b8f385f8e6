"""What `inv up` reads and refuses before a container is made. No engine needed."""

import json
from subprocess import CompletedProcess

import pytest
from stages import NEW, Stage

from scripts import engine, notebook
from scripts.problem import Problem


def config(user: str = "1000:100") -> str:
    """What `docker compose config` says of compose.yaml."""
    service = {"image": "x", "user": user, "ports": [{"published": "8888"}],
               "volumes": [{"type": "bind", "source": "/work"}]}
    device = {"driver": "nvidia", "device_ids": ["all"]}
    cuda = {**service, "deploy": {"resources": {"reservations": {"devices": [device]}}}}
    return json.dumps({"name": "hothouse", "services": {"notebook": service,
                                                        "notebook-cuda": cuda}})


@pytest.fixture
def compose(monkeypatch):
    """Returns ``compose(status, out, said)``: what docker compose answers from now on."""
    def answers(status: int = 0, out: str = "", said: str = "") -> None:
        done = CompletedProcess([], status, out, said)
        monkeypatch.setattr(notebook, "answer", lambda *_: done)

    return answers


@pytest.mark.parametrize("remote", ["", "tcp://gpu.example:2376"])
def test_an_empty_choice_of_gpus_is_refused_and_not_taken_for_the_cpu(
    compose, tmp_path, monkeypatch, remote
):
    stage = Stage(tmp_path)
    stage.driver()
    stage.become_this_host(monkeypatch, NEW)
    monkeypatch.setenv("DOCKER_HOST", remote)
    monkeypatch.setattr(engine, "ensure", lambda: None)
    monkeypatch.setattr(notebook, "write_env", lambda: None)
    monkeypatch.setattr(notebook, "prepare_work", lambda _: pytest.fail("it went on"))
    compose(out=config())
    with pytest.raises(Problem) as caught:
        notebook.up("")
    assert caught.value.cause == '"" names no GPU'


@pytest.mark.parametrize("user", ["abc:100", "1000:users", ":", "1000"])
def test_a_user_that_is_no_number_is_one_line(compose, user):
    compose(out=config(user))
    with pytest.raises(Problem, match=f"the user {user} is not two numbers. Fix: set HOTHOUSE_UID"):
        notebook.settings()


def test_a_compose_that_fails_without_a_word_is_one_line(compose):
    compose(status=1)
    with pytest.raises(Problem, match="the settings are not valid: docker compose config failed"):
        notebook.settings()
