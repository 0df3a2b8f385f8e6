"""An image's unpacked tree runs on a host without an engine: its Python, its libraries alone.

The CPU image stands for the CUDA one, which differs in its packages only; no GPU is claimed here.
"""

import json
import os
import shutil
import subprocess

import pytest

from scripts import unpacked

IMAGE = "hothouse/tensorflow:cpu"
CODE = """
import json, re, subprocess, sys
import tensorflow as tf
tf.linalg.matmul(tf.eye(8), tf.eye(8))
mapped = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
child = subprocess.run([sys.executable, "-c", "import sys; print(sys.executable, sys.prefix)"],
                       env={}, capture_output=True, text=True)
print(json.dumps({"executable": sys.executable, "prefix": sys.prefix, "file": tf.__file__,
                  "mapped": sorted(mapped), "child": child.stdout.split()}))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The image in a folder, as `inv evidence --pack` writes it."""
    folder = tmp_path_factory.mktemp("packed") / "image"
    unpacked.pack(IMAGE, str(folder))
    yield folder
    # pytest would keep its gigabyte for the next three runs.
    shutil.rmtree(folder)


def test_the_folder_names_the_image_and_its_source(packed):
    known = unpacked.check(packed, IMAGE)
    assert known["kind"] == "tensorflow"
    assert known["manifest"] != known["config"]


def test_python_and_all_libraries_are_the_trees_own(packed, tmp_path):
    python = unpacked.write_python(packed / "tree", tmp_path, [])
    done = subprocess.run([str(python), "-B", "-c", CODE], text=True, capture_output=True,
                          env={"PATH": os.environ["PATH"]}, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    tree = str(packed / "tree")
    assert seen["executable"] == str(python)
    assert seen["prefix"] == f"{tree}/usr"
    assert seen["file"].startswith(f"{tree}/usr/local/lib/")
    assert seen["child"] == [str(python), f"{tree}/usr"]
    assert any("libtensorflow" in path for path in seen["mapped"])
    assert [path for path in seen["mapped"] if not path.startswith(tree)] == []
