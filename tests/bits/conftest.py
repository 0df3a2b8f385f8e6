"""What the tests on equal bytes share: the images of this checkout, and what updates cost."""

from collections.abc import Callable

import pytest

from scripts import build

#: What each update costs, and notes, for the end of pytest's report.
ROWS: list[tuple[str, str, str, str, str]] = []
NOTES: list[str] = []


@pytest.fixture
def costs() -> Callable[[str, dict[str, int], int, str, float], None]:
    """Return ``costs(what, pulled, whole, image, goal)``: an update may cost that share alone.

    ``pulled``: the layers to pull anew with their compressed bytes; ``whole``: the image's bytes;
    ``goal``: the largest share of it that is allowed.
    """

    def check(what: str, pulled: dict[str, int], whole: int, image: str, goal: float) -> None:
        size = sum(pulled.values())
        ROWS.append((what, ", ".join(pulled), f"{size / 1e6:.1f}",
                     f"{size / whole:.1%} of {image}", f"{goal:.1%}"))
        assert size <= goal * whole, ROWS[-1]

    return check


@pytest.fixture
def note() -> Callable[[str], None]:
    """Return a function that puts a line at the end of pytest's report."""
    return NOTES.append


def pytest_terminal_summary(terminalreporter):
    """Print what each update costs whoever pulls the image."""
    if ROWS:
        terminalreporter.section("what an update pulls anew")
        for row in [("update", "layers", "MB", "share", "goal"), *ROWS]:
            terminalreporter.write_line(
                f"{row[0]:<22} {row[1]:<20} {row[2]:>6}  {row[3]:<22} {row[4]:>6}")
    for line in NOTES:
        terminalreporter.write_line(f"note: {line}")


@pytest.fixture(scope="session")
def tags() -> dict[str, str]:
    """The tag of each bake target's image, as `inv build` makes it from this checkout."""
    return {name: target["tags"][0] for name, target in build.targets().items()}
