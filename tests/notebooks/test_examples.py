"""The example notebooks run from top to bottom in the image, without a browser or a network."""

import os
import re
import subprocess
import uuid
from pathlib import Path

import nbformat
import pytest

IMAGE = os.environ.get("HOTHOUSE_IMAGE", "hothouse/jupyter:cpu")
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "images/jupyter/rootfs/opt/hothouse/examples").glob("*.ipynb"))
NAMES = [path.name for path in EXAMPLES]
LIMIT_S = 240

# What TensorFlow's C++ side says once at its import; nothing is wrong then.
NOTICE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|[IW]0000 00:00:\S+ +\d+ port\.cc:\d+\] oneDNN custom operations are on\..*"
    r"|I0000 00:00:\S+ +\d+ cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized.*"
    r"|To enable the following instructions: .* rebuild TensorFlow .*"
)


def _execute(name: str) -> nbformat.NotebookNode:
    """Run one example in a container and return it with its outputs."""
    container = f"hothouse-test-notebook-{uuid.uuid4().hex[:8]}"
    script = f"jupyter execute --output=/tmp/ran.ipynb /opt/hothouse/examples/{name} >&2"
    command = ["docker", "run", "--rm", "--name", container, "--network", "none", IMAGE]
    try:
        done = subprocess.run(
            [*command, "sh", "-c", f"{script} && cat /tmp/ran.ipynb"],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True)
    assert done.returncode == 0, done.stderr
    return nbformat.reads(done.stdout, as_version=4)


@pytest.fixture(scope="module")
def ran() -> dict[str, nbformat.NotebookNode]:
    """Each example by name, with its outputs."""
    return {name: _execute(name) for name in NAMES}


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [o for cell in notebook.cells for o in cell.get("outputs", [])]


def test_there_are_examples():
    assert "digits.ipynb" in NAMES


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_an_example_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.id for c in code if c.outputs or c.execution_count is not None] == []
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", EXAMPLES, ids=NAMES)
def test_the_image_holds_the_example_of_this_checkout(path):
    inside = f"/opt/hothouse/examples/{path.name}"
    done = subprocess.run(["docker", "run", "--rm", IMAGE, "cat", inside], capture_output=True)
    assert done.stdout == path.read_bytes(), f"{IMAGE} holds another {path.name}: build it again"


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_an_example_was_run(name, ran):
    counts = [c.execution_count for c in ran[name].cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("name", NAMES)
def test_no_cell_of_an_example_warns(name, ran):
    said = [
        line
        for output in _outputs(ran[name])
        if output.output_type == "error" or output.get("name") == "stderr"
        for line in output.get("text", output.get("evalue", "")).splitlines()
    ]
    assert [line for line in said if line and not NOTICE.fullmatch(line)] == []


@pytest.mark.timeout(LIMIT_S + 60)
def test_both_networks_read_the_digits(ran):
    text = "".join(o.text for o in _outputs(ran["digits.ipynb"]) if o.get("name") == "stdout")
    found = [float(n) for n in re.findall(r"test accuracy[^:\n]*: ([01]\.\d+)", text)]
    assert len(found) == 2, text
    assert min(found) >= 0.95


@pytest.mark.timeout(LIMIT_S + 60)
def test_the_plots_are_drawn(ran):
    data = [output.get("data", {}) for output in _outputs(ran["digits.ipynb"])]
    images = [d["image/png"] for d in data if "image/png" in d]
    assert len(images) == 4
    assert all(len(image) > 2000 for image in images)
