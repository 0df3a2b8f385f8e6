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
