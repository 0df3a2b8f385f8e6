"""The CUDA libraries are found in a notebook's kernel."""

import containers

VARIANT = "cuda"
CODE = "import ctypes; ctypes.CDLL('libcudnn.so.9'); ctypes.CDLL('libcusolver.so.11'); print('ok')"


def test_the_libraries_are_found_in_a_kernel(idle):
    script = f'echo "{CODE}" > /tmp/load.py && jupyter run /tmp/load.py'
    assert containers.execute(idle, "sh", "-c", script).stdout == "ok\n"
