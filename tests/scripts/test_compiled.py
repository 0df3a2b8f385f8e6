"""Is a .pyc what its source compiles to? Asked of the Python that runs the tests."""

import importlib.util
import marshal
import py_compile
import sys
import tarfile
from pathlib import Path

import pytest
from oci_images import layer, make

from scripts import compiled as outside
from scripts import compiled_inside, contents, oci
from scripts.problem import Problem

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


# --- all of an image ---------------------------------------------------------------------------

LIB = "usr/lib/python3"
PYC = f"{LIB}/__pycache__/thing.{sys.implementation.cache_tag}.pyc"


class Compiler(outside.Compiler):
    """This Python in the place of a locked one."""

    def __init__(self) -> None:
        self.command, self.environment = [sys.executable], {"PYTHONHASHSEED": "0"}


def verdicts(tmp_path: Path, *layers: dict) -> dict[str, str]:
    """What is wrong with each .pyc of an image."""
    make(*map(layer, layers)).archive(tmp_path / "image.tar")
    sources = outside.Sources(tmp_path / "sources")
    with oci.open_image(str(tmp_path / "image.tar")) as image:
        found = contents.read(image, hashes=True, watch=sources)
    return outside.check(found, sources, Compiler())


def pyc_of(folder: Path, text: str = SOURCE) -> bytes:
    """The bytes that the build makes of a source."""
    folder.mkdir()
    return compiled(folder, text, f"/{LIB}/thing.py")[0].read_bytes()


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.LNKTYPE, target
    return member


def test_a_pyc_of_an_image_is_held_against_the_source_beside_it(tmp_path):
    good, evil = pyc_of(tmp_path / "good"), pyc_of(tmp_path / "evil", "evil = 1")
    source = {f"{LIB}/thing.py": SOURCE.encode()}
    assert verdicts(tmp_path / "good", {**source, PYC: good}) == {PYC: ""}
    assert verdicts(tmp_path / "evil", {**source, PYC: evil})[PYC]
    assert verdicts(tmp_path / "evil", {PYC: good}) == {PYC: "has no source beside it"}


def test_a_pyc_whose_source_an_upper_layer_replaces_is_found(tmp_path):
    below = {f"{LIB}/thing.py": SOURCE.encode(), PYC: pyc_of(tmp_path / "good")}
    assert verdicts(tmp_path, below, {f"{LIB}/thing.py": b"other = 1"}) \
        == {PYC: "names another source's hash"}


def test_a_pyc_that_is_a_second_name_of_a_file_is_found(tmp_path):
    """The first name may hold another content by the time that it is compared."""
    assert verdicts(tmp_path, {
        f"{LIB}/thing.py": SOURCE.encode(), "usr/evil": b"evil", PYC: hard_link(PYC, "usr/evil"),
    }) == {PYC: "is a second name of /usr/evil"}


def test_a_source_that_is_a_link_is_compiled_where_it_lies(tmp_path):
    files = {f"{LIB}/real.py": SOURCE.encode(), f"{LIB}/thing.py": "real.py",
             PYC: pyc_of(tmp_path / "good")}
    assert verdicts(tmp_path, files) == {PYC: ""}


def test_a_source_that_is_a_link_to_a_second_name_is_not_there(tmp_path):
    assert verdicts(tmp_path, {
        f"{LIB}/a.txt": SOURCE.encode(), f"{LIB}/real.py": hard_link(f"{LIB}/real.py",
                                                                     f"{LIB}/a.txt"),
        f"{LIB}/thing.py": "real.py", PYC: pyc_of(tmp_path / "good"),
    }) == {PYC: "has no source beside it"}


@pytest.mark.parametrize("names", [("x.py", "x.py/y.py"), ("x.py/y.py", "x.py"),
                                   (f"{'long' * 99}.py",)])
def test_a_layer_that_no_disk_can_hold_is_one_line(tmp_path, names):
    with pytest.raises(Problem, match="can't be laid out to be compiled"):
        verdicts(tmp_path, {f"{LIB}/{name}": b"" for name in names})
