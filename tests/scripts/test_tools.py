"""The launcher in an unpacked bundle: the tools come from its folder, no index is asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from test_launcher import MAKING, copy, inv, quick_pip

from scripts import fetch, tools
from scripts.paths import STORE
from scripts.problem import Problem

#: A network that is not there, and none of the machine's own folders of wheels.
CUT_OFF = {
    "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple/", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0",
}


@pytest.fixture(scope="module")
def invoke() -> tuple[Path, str]:
    """The wheel of invoke that scripts/requirements.txt names, in the store."""
    try:
        packages = tools.wheels()
        fetch.fetch((p for p in packages if p.name == "invoke"), store=STORE)
    except Problem as problem:
        pytest.skip(f"not run: the package index can't be reached ({problem.cause})")
    [package] = [p for p in packages if p.name == "invoke"]
    return fetch.path_of(package.sha256), package.file


def bundled(folder: Path, invoke: tuple[Path, str], name: str | None = None) -> Path:
    root = copy(folder / "an unpacked bundle")
    quick_pip(root)
    (root / ".artifacts/tools").mkdir(parents=True)
    shutil.copy(invoke[0], root / ".artifacts/tools" / (name or invoke[1]))
    return root


def test_the_tools_of_a_bundle_need_no_index(tmp_path, invoke):
    root = bundled(tmp_path, invoke)
    done = inv(root, "build", **CUT_OFF)
    assert (done.returncode, done.stdout, done.stderr) == (0, "built all 1\n", MAKING)


def test_a_python_that_the_bundle_does_not_serve_is_told(tmp_path, invoke):
    root = bundled(tmp_path, invoke, invoke[1].replace("py3-none-any", "cp39-none-any"))
    done = inv(root, "build", **CUT_OFF)
    assert done.returncode == 1
    assert "error: the bundle's tools do not fit this Python (Python 3." in done.stderr
    assert ".artifacts/bundle/bundle.json names" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_tool_that_was_changed_is_refused(tmp_path, invoke):
    root = bundled(tmp_path, invoke)
    wheel = root / ".artifacts/tools" / invoke[1]
    content = bytearray(wheel.read_bytes())
    content[1000] ^= 1
    wheel.write_bytes(content)
    done = inv(root, "build", **CUT_OFF)
    assert "is not the one that scripts/requirements.txt names" in done.stderr
