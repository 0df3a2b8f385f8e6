"""Each record in docs/gpu-evidence is one; a record with something missing is refused."""

import copy
import json
from collections.abc import Callable

import pytest
from test_lint import ROOT

from scripts import gpu_record

FOLDER = ROOT / "docs" / "gpu-evidence"
RECORDS = sorted(FOLDER.glob("*.json"))


def made_up() -> dict:
    """A record as it would look, of a run that never was: only the judge sees it."""
    names = [f"gpu/test_gpu.py::test_{name}" for name in gpu_record.REQUIRED[:-1]]
    names += ["base/test_a.py::test_b", "tensorflow/test_c.py::test_d"]
    tests = [{"name": name, "outcome": "passed", "seconds": 0.1, "measured": {}} for name in names]
    tests.append({"name": f"gpu/test_gpu.py::test_{gpu_record.REQUIRED[-1]}[matmul]",
                  "outcome": "passed", "seconds": 1, "measured": {"ratio_cpu_to_gpu": 30.5}})
    digest = "sha256:" + "0" * 64
    return {
        "schema": 1, "date": "2026-01-02T03:04:05Z", "how": "engine", "suite": "1" * 40,
        "image": {"name": "made/up:cuda", "kind": "tensorflow", "manifest": digest,
                  "config": digest, "revision": "2" * 40, "lock": digest, "drifted": False},
        "asked": 1, "expected_gpu": True, "status": 0, "seconds": 1.0,
        "gpus": [{"name": "Made Up", "compute_capability": "9.0"}],
        "driver": {"version": "550.54.15", "cuda": "12.4"},
        "libraries": {"tensorflow": "2.21.0", "keras": "3.15.1", "nvidia-cudnn-cu12": "9.1.0.70",
                      "nvidia-cublas-cu12": "12.9.1.4"},
        "build": {"cuda_version": "12.5.1", "cudnn_version": "9"},
        "tests": tests, "counts": gpu_record.counts(tests), "ratios": gpu_record.ratios(tests),
        "doctor": {"status": 0, "report": {}},
    }


def change(path: str, value: object) -> Callable[[dict], None]:
    """An edit of a record: a new value at a path, or none there."""
    *way, last = path.split(".")

    def edit(record: dict) -> None:
        for part in way:
            record = record[int(part) if part.isdigit() else part]
        if value is None:
            record.pop(int(last) if last.isdigit() else last)
        else:
            record[last] = value

    return edit


FAULTS = {
    **{f"no {path}": change(path, None) for path in gpu_record.TEXTS},
    **{f"no {key}": change(key, None) for key in (
        "schema", "asked", "gpus", "tests", "counts", "ratios", "doctor", "status",
        "expected_gpu")},
    "no test of the first kind": change("tests.0", None),
    "a skip": change("tests.3.outcome", "skipped"),
    "a failure": change("tests.3.outcome", "failed"),
    "not run": change("tests.3.outcome", "not run"),
    "a nameless GPU": change("gpus.0.name", " "),
    "two asked, one there": change("asked", 2),
    "a failed run": change("status", 1),
    "no GPU expected": change("expected_gpu", False),
    "a drifted image": change("image.drifted", True),
    "an image of uncommitted source": change("image.revision", "2" * 40 + "-dirty"),
    "a short digest": change("image.manifest", "sha256:00"),
    "a sick doctor": change("doctor.status", 1),
    "a better ratio": change("ratios", {"matmul": 99.0}),
    "another schema": change("schema", 2),
}


def test_each_record_is_one():
    from scripts import evidence

    for path in RECORDS:
        record = json.loads(path.read_text())
        assert gpu_record.complaints(record) == [], path.name
        assert path.name == evidence.file_name(record)
        assert "stand-in" not in path.read_text().lower(), path.name


def test_the_page_says_whether_there_are_records():
    page = (FOLDER / "README.md").read_text()
    assert ("There is no record yet" in page) == (not RECORDS)


def test_a_whole_record_is_accepted():
    assert gpu_record.complaints(made_up()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_record_with_a_fault_is_refused(fault):
    record = copy.deepcopy(made_up())
    FAULTS[fault](record)
    assert gpu_record.complaints(record) != []
    # Counting again does not heal it.
    if isinstance(record.get("tests"), list):
        record |= {"counts": gpu_record.counts(record["tests"])}
        if fault != "no counts":
            assert gpu_record.complaints(record) != []


@pytest.mark.parametrize("thing", (None, [], "x", {}, {"schema": 1}, {"schema": 1, "tests": [1]},
                                   {"schema": 1, "gpus": [1], "tests": [{"name": 1}]}))
def test_what_is_no_record_at_all_is_refused_without_a_traceback(thing):
    assert gpu_record.complaints(thing) != []
    assert all("\n" not in line for line in gpu_record.complaints(thing))


def test_every_test_that_a_record_needs_exists():
    text = "".join(path.read_text() for path in (ROOT / "tests/inside/gpu").glob("test_*.py"))
    assert [name for name in gpu_record.REQUIRED if f"def test_{name}(" not in text] == []
