"""The image's Python is Debian's own and works for whoever runs it."""

import os
import pathlib
import ssl
import subprocess
import sys
import tempfile

import compiled
import pytest

STANDARD = pathlib.Path(os.__file__).parent
PARTS = (
    "bz2 ctypes curses dbm.ndbm decimal hashlib lzma readline sqlite3 ssl uuid venv zlib zoneinfo"
)


def test_python_and_python3_are_the_same_program():
    found = {
        subprocess.run(
            ["sh", "-c", f'readlink -f "$(command -v {name})"'], capture_output=True, check=True
        ).stdout
        for name in ("python", "python3")
    }
    assert found == {b"/usr/bin/python3.13\n"}


def test_python_is_version_3_13():
    assert sys.version_info[:2] == (3, 13)


@pytest.mark.parametrize("name", PARTS.split())
def test_a_part_of_the_standard_library_imports(name):
    __import__(name)


def test_https_trusts_debians_certificates():
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 50


def test_text_is_utf8():
    assert sys.getfilesystemencoding() == "utf-8"
    with open(os.devnull) as file:
        assert file.encoding.lower() == "utf-8"


def test_the_user_is_not_root():
    assert os.getuid() != 0


def test_a_temporary_file_can_be_written():
    with tempfile.TemporaryFile() as file:
        assert file.write(b"x") == 1


def test_the_home_folder_can_be_written():
    with tempfile.TemporaryFile(dir=pathlib.Path.home()) as file:
        assert file.write(b"x") == 1


def test_the_installed_packages_cannot_be_changed_by_the_user():
    for folder in ("/usr/bin", "/usr/lib/python3", "/usr/local/bin", "/usr/local/lib", "/etc"):
        assert not os.access(folder, os.W_OK), f"{folder} is writable by uid {os.getuid()}"


def test_every_source_of_debians_python_has_its_compiled_form():
    assert compiled.missing(STANDARD) == []


def test_debians_compiled_forms_are_unchecked_and_of_their_source():
    assert len(list(STANDARD.rglob("*.pyc"))) > 500
    assert compiled.wrong(STANDARD) == []
