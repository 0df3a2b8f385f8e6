"""Every file of the TensorFlow image is explained by its locks; each kind of change is named."""

import re

import pytest
import verifying

IMAGE = "hothouse/tensorflow:cpu"
PACKAGES = "/usr/local/lib/python3.13/dist-packages"


@pytest.fixture(scope="module", autouse=True)
def revision(locked_bytes) -> str:
    return verifying.needs_a_commit(IMAGE)


def flip(pattern: str, place: str) -> str:
    """A shell command that changes one byte of a file."""
    return (f"python3 -c \"import glob; p = glob.glob('{PACKAGES}/{pattern}')[0]; "
            f"d = bytearray(open(p, 'rb').read()); d[{place}] ^= 1; open(p, 'wb').write(d)\"")


def test_every_file_is_explained_by_the_locks():
    status, said, error = verifying.verify(IMAGE, "--quick")
    assert status == 0, said + error
    counts = {words: int(number.replace(",", "")) for number, words in
              re.findall(r"^ +([\d,]+)  (.+)$", said, re.MULTILINE)}
    assert counts["files of locked Debian packages"] > 3000
    assert counts["files of locked wheels"] > 5000
    assert counts[".pyc files that the locked Python compiles to the same"] > 4000
    assert next(number for words, number in counts.items() if "stripped" in words) > 50


def test_each_kind_of_change_is_named(tmp_path):
    evil = (f"import marshal; p = '{PACKAGES}/keras/src/__pycache__/version.cpython-313.pyc'; "
            f"s = '{PACKAGES}/keras/src/version.py'; d = open(p, 'rb').read(); "
            "c = compile(open(s).read() + 'import os', s, 'exec'); "
            "open(p, 'wb').write(d[:16] + marshal.dumps(c))")
    steps = [
        flip("keras/__init__.py", "-2"), flip("numpy/_core/_multiarray_umath*.so", "100000"),
        flip("tensorflow/libtensorflow_framework.so.2", "4000000"), f'python3 -c "{evil}"',
        f"echo 'import os' > {PACKAGES}/evil.pth", f"chmod 666 {PACKAGES}/keras/src/version.py",
        f"rm {PACKAGES}/six.py", "chown 1000 /usr/bin/sort", "chmod u+s /usr/bin/env",
        "echo 'evil:*:0:0::/:/bin/sh' >> /etc/passwd", "mkdir -m 777 /opt/open",
        "ln -sf /tmp/evil /etc/alternatives/awk", "echo /x >> /var/lib/dpkg/info/tini.list",
    ]
    with verifying.child(IMAGE, tmp_path, *steps) as name:
        status, said, error = verifying.verify("--quick", name)
    assert status == 4, said + error
    wrong = dict(re.findall(r"^  (/\S+)\n      (.+)$", said.partition("Not explained:")[2],
                            re.MULTILINE))
    numpy = next(path for path in wrong if "_multiarray_umath" in path)
    expected = {
        f"{PACKAGES}/keras/__init__.py": "has another content than keras ",
        f"{PACKAGES}/keras/__pycache__/__init__.cpython-313.pyc": "names another source's hash",
        numpy: "has another content than numpy ",
        f"{PACKAGES}/tensorflow/libtensorflow_framework.so.2": "has another loaded content than ",
        f"{PACKAGES}/keras/src/__pycache__/version.cpython-313.pyc":
            "holds other code than its source",
        f"{PACKAGES}/evil.pth": "belongs to no locked package and to no known step",
        f"{PACKAGES}/keras/src/version.py": "has the mode 666; keras ",
        f"{PACKAGES}/six.py": "is missing; six ",
        f"{PACKAGES}/__pycache__/six.cpython-313.pyc": "has no source beside it",
        "/usr/bin/sort": "has the owner 1000:0; coreutils ",
        "/usr/bin/env": "has the mode 4755; coreutils ",
        "/etc/passwd": "holds the account 'evil:*:0:0",
        "/opt/open": "is a folder of 0:0 with the mode 777",
        "/etc/alternatives/awk": "leads to /tmp/evil",
        "/usr/bin/awk": "leads to /tmp/evil",
        "/var/lib/dpkg/info/tini.list": "differs from the package at /x",
    }
    assert {path: wrong.get(path, "")[: len(words)] for path, words in expected.items()} == expected
    # Nothing else but the RECORDs that the changes made untrue.
    rest = wrong.keys() - expected.keys()
    assert {path.rpartition("/")[2] for path in rest} == {"RECORD"}, rest
    assert all("step RUN" in words for path, words in wrong.items() if path.endswith("evil.pth"))
    assert f"error: {len(wrong)} files of {name} are not explained" in error
