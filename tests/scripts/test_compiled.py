"""Is a .pyc what its source compiles to? Asked of the Python that runs the tests."""

import importlib.util
import marshal
import py_compile
import sys
from pathlib import Path

import pytest

from scripts import compiled_inside

SOURCE = """
def safe(): return "safe"
def other(): return "other"
def run(): return safe()
class Thing:
    values = frozenset({"a", "b"}), (1, 1.0, True), b"x", None
"""
NAME = "/usr/lib/thing.py"


def compiled(folder: Path, text: str = SOURCE, name: str = NAME) -> tuple[Path, Path]:
    """A .pyc as the build makes it, and the source that lies beside it."""
    source, pyc = folder / "thing.py", folder / "thing.pyc"
    source.write_text(text)
    py_compile.compile(str(source), str(pyc), name, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text(SOURCE)
    return pyc, source


def with_head_of(source: Path, code: bytes) -> bytes:
    """A .pyc of any code that names the source's true hash."""
    return (importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
            + importlib.util.source_hash(source.read_bytes()) + code)


def test_what_the_source_compiles_to_is_the_same(tmp_path):
    pyc, source = compiled(tmp_path)
    assert compiled_inside.judge(pyc, source, NAME) == ""


@pytest.mark.parametrize("change", [
    ("return safe()", "return evil()"), ('"safe"', '"evil"'), ("1.0", "1.5"), ('"b"', '"c"'),
    ('b"x"', '"x"'), ("(1, 1.0, True)", "(True, 1.0, 1)"), ("def run():", "def run(x=1):"),
])
def test_another_code_is_found_though_it_names_the_sources_hash(tmp_path, change):
    pyc, source = compiled(tmp_path, SOURCE.replace(*change))
    assert compiled_inside.judge(pyc, source, NAME) == "names another source's hash"
    pyc.write_bytes(with_head_of(source, pyc.read_bytes()[16:]))
    assert compiled_inside.judge(pyc, source, NAME) == "holds other code than its source"


def test_code_of_another_place_is_found(tmp_path):
    pyc, source = compiled(tmp_path, name="/tmp/thing.py")
    assert compiled_inside.judge(pyc, source, NAME) == "holds other code than its source"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 specialises no instructions")
def test_an_instruction_that_is_specialised_in_the_file_is_found(tmp_path):
    """Its cache says what it does, whatever the names beside it say."""
    pyc, source = compiled(tmp_path)
    code = marshal.loads(pyc.read_bytes()[16:])
    space = {}
    exec(code, space)
    for _ in range(100):
        space["run"]()
    run = space["run"].__code__
    assert run._co_code_adaptive != run.co_code
    data = pyc.read_bytes()[16:]
    assert data.count(run.co_code) == 1
    pyc.write_bytes(with_head_of(source, data.replace(run.co_code, run._co_code_adaptive)))
    assert compiled_inside.judge(pyc, source, NAME) == "holds other code than its source"


@pytest.mark.parametrize(("start", "data", "reason"), [
    (0, b"\0\0\0\0", "is for another Python"), (8, b"12345678", "names another source's hash"),
    (4, b"\0\0\0\0", "names another source's size"), (16, b"no code", "can't be compared"),
])
def test_a_head_that_is_not_the_builds_is_found(tmp_path, start, data, reason):
    pyc, source = compiled(tmp_path)
    whole = pyc.read_bytes()
    pyc.write_bytes(whole[:start] + data + whole[start + len(data):])
    assert reason in compiled_inside.judge(pyc, source, NAME)
