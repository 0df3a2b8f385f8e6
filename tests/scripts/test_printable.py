"""What an image says can't move the cursor of whoever reads it."""

import pytest

from scripts.printable import printable
from scripts.problem import Problem


@pytest.mark.parametrize(("text", "shown"), [
    ("usr/bin/ä b", "usr/bin/ä b"),
    ("\x1b[2K\r", r"\x1b[2K\x0d"),
    ("a\nGrade: same", r"a\x0aGrade: same"),
    ("\u202egnp.exe", r"\x202egnp.exe"),
    ("\udcff", r"\xdcff"),
])
def test_what_is_not_printable_is_written_as_numbers(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_an_error_holds_no_control_sequence():
    said = Problem("the label\nis \x1b[2K", "look").message
    assert said == r"error: the label is \x1b[2K. Fix: look"
