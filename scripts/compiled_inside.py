"""Runs on the locked Python: does a .pyc hold what its source compiles to?

Reads a JSON list of ``[PYC, SOURCE, NAME]`` from stdin, where NAME is the source's path in the
image; writes a list of empty texts or reasons to stdout.
"""

import _imp
import importlib.util
import json
import marshal
import sys
from pathlib import Path
from types import CodeType

PARTS = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize",
    "co_flags", "co_code", "co_names", "co_varnames", "co_filename", "co_name", "co_qualname",
    "co_firstlineno", "co_linetable", "co_exceptiontable", "co_freevars", "co_cellvars",
    # What runs: co_code shows instructions without their specialisations and caches. Not in 3.10.
    *(["_co_code_adaptive"] if hasattr(CodeType, "_co_code_adaptive") else []),
)
CHECKED_OR_NOT = (1, 3)


def same(one: object, two: object) -> bool:
    """Compare two constants, code objects among them; 1, 1.0 and True are not alike."""
    if type(one) is not type(two):
        return False
    if isinstance(one, CodeType):
        return all(getattr(one, part) == getattr(two, part) for part in PARTS) and same(
            one.co_consts, two.co_consts)
    if isinstance(one, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, two))
    return repr(one) == repr(two)


def judge(pyc: Path, source: Path, name: str) -> str:
    """Say what is wrong with a .pyc, empty for nothing."""
    data, text = pyc.read_bytes(), source.read_bytes()
    if data[:4] != importlib.util.MAGIC_NUMBER:
        return "is for another Python"
    kind = int.from_bytes(data[4:8], "little")
    if kind in CHECKED_OR_NOT:
        if data[8:16] != _imp.source_hash(importlib.util._RAW_MAGIC_NUMBER, text):
            return "names another source's hash"
    elif kind or int.from_bytes(data[12:16], "little") != len(text) & 0xFFFFFFFF:
        return "names another source's size"
    try:
        found = marshal.loads(data[16:])  # noqa: S302 - runs nothing; a crash ends only this process
        wanted = compile(text, name, "exec", dont_inherit=True)
    except Exception as error:
        return f"can't be compared: {type(error).__name__}"
    return "" if same(found, wanted) else "holds other code than its source"


if __name__ == "__main__":
    print(json.dumps([judge(Path(pyc), Path(source), name)
                      for pyc, source, name in json.load(sys.stdin)]))
