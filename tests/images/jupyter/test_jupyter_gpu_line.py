"""At its start the server's log says which GPU is used, or why none; GPUs here are stand-ins.

They test what is printed when, not that a GPU computes.
"""

import re
import time

import containers
import pytest
import servers

NODE = ["--device", "/dev/null:/dev/nvidia0"]
LINE = re.compile(r"^(no )?GPU: .*$", re.MULTILINE)


def stand_in(folder, script: str) -> list[str]:
    """Mount a shell script in the place of the image's command `hothouse`."""
    program = folder / "hothouse"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return ["--volume", f"{program}:/usr/local/bin/hothouse:ro"]


def lines(it: servers.Server) -> list[str]:
    """Return the lines of the log that speak of a GPU."""
    return [found.group() for found in LINE.finditer(containers.logs(it.container))]


def in_page(it: servers.Server) -> str:
    """Return the line as it was put into the Lab's page."""
    page = it.get("lab")
    assert page.status_code == 200
    return re.search(r'"hothouseGpuLine": "(.*?)"[,}]', page.text)[1]


def test_the_cpu_image_without_a_gpu_says_nothing():
    with servers.server() as it:
        assert in_page(it) == ""
        assert lines(it) == []
        assert servers.complaints(containers.logs(it.container)) == []


def test_the_cpu_image_with_a_gpu_says_so_once_with_the_fix():
    with servers.server(options=NODE) as it:
        (line,) = containers.until(lambda: lines(it), "line about the GPU")
        assert re.fullmatch(r"no GPU: this is the CPU image, .*\. Fix: use the tag :cuda .*", line)
        # It is one line of ours, not one of the server's warnings or a traceback.
        assert servers.complaints(containers.logs(it.container)) == []
        assert it.in_new_kernel() == "42\n"


def test_a_driver_that_does_not_answer_delays_neither_the_start_nor_the_page(tmp_path):
    with servers.server(options=stand_in(tmp_path, "exec sleep 600")) as it:
        begin = time.monotonic()
        assert in_page(it) == "GPU: not known yet, reload the page"
        assert time.monotonic() - begin < 5
        assert lines(it) == []


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense", "kill -9 $$"])
def test_a_command_that_fails_is_one_line(script, tmp_path):
    with servers.server(options=stand_in(tmp_path, script)) as it:
        found = containers.until(lambda: lines(it), "line about the GPU")
        fix = "run hothouse doctor in a terminal"
        assert found == [f"no GPU: hothouse gpu gave no answer. Fix: {fix}"]
        assert "Traceback" not in containers.logs(it.container)


def test_the_command_does_not_see_the_token(tmp_path):
    script = 'printf \'{"ok": true, "line": "GPU: %s", "fix": ""}\' "[$JUPYTER_TOKEN]"'
    options = [*stand_in(tmp_path, script), "--env", "JUPYTER_TOKEN=secret"]
    with servers.server(options=options, token="secret") as it:
        assert containers.until(lambda: lines(it), "line about the GPU") == ["GPU: []"]


def test_the_labs_extension_is_enabled_and_valid():
    done = containers.run(servers.IMAGE, "jupyter", "labextension", "list")
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "hothouse-gpu" in line]
    assert "enabled" in line and "OK" in line
