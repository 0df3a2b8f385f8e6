"""What the wheels installed is what the lock and their own RECORD say."""

import base64
import csv
import hashlib
import io
import json
import os
from pathlib import Path

import compiled
import fresh
from wheels import SITE, canonical, distributions, modules

# Not of any wheel: laid in by the image. Each with its reason.
OURS = {
    "hothouse_threads.py": "sets the threads",
    "hothouse_threads.pth": "runs it at Python's start",
    "hothouse": "the command hothouse: doctor, gpu",
}

# Modules that cannot be imported by themselves, each with its reason.
NOT_IMPORTABLE: dict[str, str] = {}


def test_installed_packages_are_those_of_the_lock(locked):
    wanted = {canonical(p.name): p.version for p in locked if p.kind == "wheel"}
    assert {canonical(d.name): d.version for d in distributions()} == wanted


def test_every_package_imports():
    names = sorted(set().union(*map(modules, distributions())) - set(NOT_IMPORTABLE))
    assert len(names) > 20
    code = f"""
import importlib, json
failed = {{}}
for name in {names!r}:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
print()
print(json.dumps(failed))
"""
    done = fresh.python(code, HOME=os.environ["HOME"], MPLCONFIGDIR="/tmp/hothouse-test-mpl")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def _wrong(path: Path, hashed: str, size: str) -> str:
    if not path.exists():
        return f"{path}: missing"
    if size and path.stat().st_size != int(size):
        return f"{path}: {path.stat().st_size} bytes instead of {size}"
    if hashed:
        algorithm, _, wanted = hashed.partition("=")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != wanted:
            return f"{path}: its {algorithm} differs"
    return ""


def test_every_file_of_a_wheel_is_as_its_record_says():
    wrong, checked = [], 0
    for distribution in distributions():
        record = distribution.read_text("RECORD")
        assert record, f"{distribution.name} has no RECORD"
        for name, hashed, size in csv.reader(io.StringIO(record)):
            wrong.append(_wrong(SITE / name, hashed, size))
            checked += bool(hashed)
    assert [line for line in wrong if line] == []
    assert checked > 5000


def test_every_file_belongs_to_a_wheel():
    known = {os.path.normpath(SITE / file) for d in distributions() for file in (d.files or ())}
    strays = [
        str(path)
        for path in SITE.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and str(path) not in known
        and path.relative_to(SITE).parts[0] not in OURS
    ]
    assert strays == []


def test_every_source_has_its_compiled_form():
    assert compiled.missing(SITE) == []


def test_every_compiled_form_is_unchecked_and_of_its_source():
    assert compiled.wrong(SITE) == []


def test_there_are_thousands_of_compiled_forms():
    assert len(list(SITE.rglob("*.pyc"))) > 3000
