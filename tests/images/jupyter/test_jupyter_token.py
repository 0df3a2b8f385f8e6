"""Nobody gets in without the token, and the token stays where it belongs."""

import json

import containers
import pytest
import servers

HOME = "/home/jovyan"


@pytest.fixture(scope="module")
def server():
    """One server for the tests that only look."""
    with servers.server() as it:
        yield it


@pytest.mark.parametrize("path", ["api/status", "api/contents", "api/kernels", "api/terminals"])
@pytest.mark.parametrize("token", ["", "wrong"])
def test_the_api_is_closed_without_the_token(server, path, token):
    assert server.get(path, token=token).status_code == 403
    assert server.get(path).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_page_leads_to_the_login_without_the_token(server, token):
    answer = server.get("lab", token=token)
    assert answer.status_code == 302
    assert "/login?" in answer.headers["Location"]


def test_a_wrong_token_in_the_address_does_not_open_the_page(server):
    assert server.get("lab?token=wrong", token="").status_code == 302
    assert server.get(f"lab?token={server.token}", token="").status_code == 200


def test_a_kernel_cannot_be_started_without_the_token(server):
    assert server.ask("POST", "api/kernels", token="").status_code == 403


def test_a_made_token_is_long_and_new_for_each_home(server):
    with servers.server() as other:
        assert len(server.token) == len(other.token) == 48
        assert server.token != other.token


@pytest.mark.parametrize("name", ["JUPYTER_TOKEN", "JUPYTER_TOKEN_FILE"])
def test_an_empty_variable_does_not_open_the_server(name):
    with servers.server(options=["--env", f"{name}="]) as it:
        assert it.get("api/status", token="").status_code == 403
        assert it.get("lab", token="").status_code == 302
        assert it.get("api/status").status_code == 200


@pytest.mark.parametrize("text", ["from-a-file", "from-a-file\n", " from-a-file\r\n"])
def test_a_token_file_may_end_with_a_newline(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    options = ["--volume", f"{file}:/run/token:ro", "--env", "JUPYTER_TOKEN_FILE=/run/token"]
    with servers.server(options=options, token="from-a-file") as it:
        assert it.get("api/status").status_code == 200
        assert it.get("api/status", token="other").status_code == 403


@pytest.mark.parametrize(("text", "cause"), [(None, "cannot be read"), ("\n", "is empty")])
def test_a_token_file_without_a_token_stops_the_server_with_one_line(tmp_path, text, cause):
    if text is not None:
        (tmp_path / "token").write_text(text)
        (tmp_path / "token").chmod(0o644)
    tmp_path.chmod(0o755)
    done = containers.run(servers.IMAGE, check=False, options=[
        "--volume", f"{tmp_path}:/run/secrets:ro", "--env", "JUPYTER_TOKEN_FILE=/run/secrets/token",
    ])
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert cause in errors[0]
    assert ". Fix: " in errors[0]
    assert "Traceback" not in done.stderr


def test_a_token_of_ones_own_is_taken():
    with servers.server(options=["--env", "JUPYTER_TOKEN=my-own"], token="my-own") as it:
        assert it.get("api/status").status_code == 200
        assert it.get("api/status", token="").status_code == 403


def test_the_server_is_open_only_when_told_in_so_many_words():
    with servers.server("start-jupyter", "lab", "--IdentityProvider.token=", token="x") as it:
        assert it.get("api/status", token="").status_code == 200


def test_the_token_is_not_in_the_containers_description(server):
    assert server.token not in json.dumps(containers.inspect(server.container))


def test_no_token_is_in_the_image():
    done = containers.run(servers.IMAGE, "find", HOME, "/root", "/etc/jupyter", "/tmp",
                          options=["--user", "0:0"])
    assert [line for line in done.stdout.splitlines() if "token" in line or "secret" in line] == []
    assert "TOKEN" not in json.dumps(containers.inspect(servers.IMAGE)["Config"])


def test_only_the_user_can_read_the_token(server):
    done = containers.execute(server.container, "stat", "-c", "%a %u",
                              f"{HOME}/.jupyter/hothouse-token")
    assert done.stdout == "600 1000\n"


def test_a_kernel_does_not_inherit_the_users_token():
    with servers.server(options=["--env", "JUPYTER_TOKEN=my-own"], token="my-own") as it:
        # In two parts: the code itself is on the command line of what sends it.
        code = "import os; print('my-' + 'own' in str(dict(os.environ)))"
        assert it.in_new_kernel(code) == "False\n"


def test_the_token_is_kept_on_the_home_volume():
    with containers.volume() as volume:
        tokens = []
        for _ in range(2):
            with servers.server(options=["--volume", f"{volume}:{HOME}"]) as it:
                assert it.get("api/status").status_code == 200
                tokens.append(it.token)
        assert tokens[0] == tokens[1]


def test_the_token_is_kept_when_the_container_starts_again():
    with servers.server() as it:
        containers.docker("restart", "--time", "10", it.container)
        it.wait()
        assert it.get("api/status").status_code == 200
