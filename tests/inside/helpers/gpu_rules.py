"""pytest plugin: a run that has to use a GPU can't pass without one, nor by skipping.

``HOTHOUSE_EXPECT_GPU=1``: a missing GPU fails each test in gpu/ with its cause; a skip, an
expected failure, a deselected test or a run without the folder gpu/ is a failure.

Else, where there is no GPU, the tests in gpu/ are not run; the report ends with their names.
"""

import gpus
import pytest

TITLE = "not run: no GPU"


class Rules:
    """What is counted during one run."""

    def __init__(self, config: pytest.Config) -> None:
        self.folder = config.rootpath / "gpu"
        self.not_run: list[str] = []
        self.deselected: list[str] = []
        self.collected: set[str] = set()
        self.passed: set[str] = set()
        self.refused: list[str] = []

    def gpu(self, item: pytest.Item) -> bool:
        """Tell whether a test is one that needs a GPU."""
        return item.path.is_relative_to(self.folder)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        """Take out the tests that can't run here, unless they have to."""
        mine = [item for item in items if self.gpu(item)]
        self.collected = {item.nodeid for item in mine}
        if not mine or gpus.expected() or gpus.visible():
            return
        self.not_run = [item.nodeid for item in mine]
        items[:] = [item for item in items if not self.gpu(item)]
        config.hook.pytest_deselected(items=mine)

    def pytest_deselected(self, items):
        """Note what was taken out by -k, -m or --deselect."""
        self.deselected += [item.nodeid for item in items if item.nodeid not in self.not_run]

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        """Turn a file that skips itself into a failure."""
        report = yield
        if gpus.expected() and report.outcome == "skipped":
            report.outcome = "failed"
            report.longrepr = f"skipped, though a GPU is expected: {reason(report)}"
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        """Turn a skip or an expected failure into a failure, and count what passed."""
        report = yield
        if gpus.expected() and (report.skipped or hasattr(report, "wasxfail")):
            why = getattr(report, "wasxfail", None) or reason(report)
            report.outcome = "failed"
            report.longrepr = f"skipped, though a GPU is expected: {why}"
            vars(report).pop("wasxfail", None)
        if report.when == "call" and report.passed and self.gpu(item):
            self.passed.add(item.nodeid)
        elif not report.passed:
            self.passed.discard(item.nodeid)
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        """Refuse to call a run a success that left out what was expected of it."""
        if not gpus.expected() or session.config.option.collectonly:
            return
        if not gpus.visible():
            self.refused.append(gpus.why_none())
        if not self.collected:
            self.refused.append("no test of the folder gpu was asked for")
        elif missing := self.collected - self.passed:
            self.refused.append(f"{len(missing)} of {len(self.collected)} GPU tests did not pass")
        if self.deselected:
            self.refused.append(f"{len(self.deselected)} tests were deselected")
        if self.refused and session.exitstatus in (pytest.ExitCode.OK,
                                                   pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        """Name what did not run, or why a run with a GPU expected is none."""
        if self.not_run:
            terminalreporter.section(TITLE)
            for name in self.not_run:
                terminalreporter.line(f"NOT RUN {name}")
            terminalreporter.line(f"{len(self.not_run)} tests not run, {gpus.why_none()}")
        if self.refused:
            terminalreporter.section("a GPU was expected")
            for why in self.refused:
                terminalreporter.line(f"FAILED {why}", red=True)


def reason(report) -> str:
    """Return why a test or a file was skipped."""
    longrepr = report.longrepr
    return longrepr[2] if isinstance(longrepr, tuple) else str(longrepr or "no reason")


def pytest_configure(config):
    """Look at the environment first: a mistake in it must not end as "no GPU expected"."""
    try:
        gpus.expected()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(Rules(config), "hothouse-gpu-rules")
