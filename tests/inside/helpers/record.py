"""pytest plugin: ``--record=FILE`` writes what a run found as JSON, for docs/gpu-evidence.

Only what this process saw for itself: each test's outcome, what it measured, the GPUs and the
libraries. scripts/evidence.py adds which image it was and judges the whole.
"""

import json
import platform
import time

import gpus
import pytest
from wheels import canonical, distributions

#: Distributions of the image that a record names with their versions.
LIBRARIES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "ml-dtypes", "h5py")


def pytest_addoption(parser):
    """Add ``--record=FILE``; with "=", else pytest may take FILE for a folder of tests."""
    parser.addoption("--record", metavar="FILE", help="write the outcomes as JSON")


def pytest_configure(config):
    """Watch this run if it is to be recorded."""
    if path := config.getoption("--record"):
        config.pluginmanager.register(Recorder(path), "hothouse-record")


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that matter here, from the image's own folder."""
    found = {canonical(d.name): d.version for d in distributions()}
    return {name: version for name, version in sorted(found.items())
            if name in LIBRARIES or name.startswith("nvidia-")}


def build() -> dict[str, str]:
    """Return with which CUDA and for which GPUs TensorFlow was built."""
    tf = gpus.tensorflow()
    said = tf.sysconfig.get_build_info() if tf else {}
    names = ("cuda_version", "cudnn_version", "cuda_compute_capabilities")
    return {name: said[name] for name in names if name in said}


class Recorder:
    """Collects the reports of one run."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.begin = time.time()
        self.tests: dict[str, dict] = {}

    def entry(self, name: str) -> dict:
        """Return the entry of a test, a new one at first."""
        return self.tests.setdefault(
            name, {"name": name, "outcome": "passed", "seconds": 0.0, "measured": {}})

    def pytest_runtest_logreport(self, report):
        """Take over a test's outcome; what failed in any of its three phases has failed."""
        entry = self.entry(report.nodeid)
        entry["seconds"] = round(entry["seconds"] + report.duration, 3)
        if report.outcome != "passed":
            entry["outcome"] = report.outcome
        elif hasattr(report, "wasxfail"):
            entry["outcome"] = "xpassed"
        if report.when == "teardown":
            entry["measured"].update(report.user_properties)

    def pytest_collectreport(self, report):
        """Take over a file that could not be read, or that skipped itself."""
        if report.outcome != "passed":
            self.entry(report.nodeid)["outcome"] = report.outcome

    def pytest_deselected(self, items):
        """Note what was left out."""
        for item in items:
            self.entry(item.nodeid)["outcome"] = "not run"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        """Write the file when everybody else has judged the run."""
        yield
        found = {
            "seconds": round(time.time() - self.begin, 1),
            "status": int(session.exitstatus),
            "expected_gpu": gpus.expected(),
            "gpus": gpus.details(),
            "driver": {"version": gpus.driver_version(), "cuda": gpus.driver_cuda_version()},
            "kernel": platform.release(),
            "python": platform.python_version(),
            "libraries": libraries(),
            "build": build(),
            "tests": list(self.tests.values()),
        }
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
            file.write("\n")
