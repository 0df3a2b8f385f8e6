"""The one kind of error that a user sees: a cause and a fix, on one line."""

from invoke.exceptions import Exit

from scripts.printable import printable


class Problem(Exit):
    """An expected failure. invoke prints its message to stderr and exits with ``code``.

    :param cause: what is wrong, without a full stop at its end.
    :param fix: what the user can do, an order to follow.
    :param code: the exit status, never 0.
    """

    def __init__(self, cause: str, fix: str, code: int = 1) -> None:
        self.cause = printable(" ".join(cause.split()))
        self.fix = printable(" ".join(fix.split()))
        super().__init__(f"error: {self.cause}. Fix: {self.fix}", code)

    def __str__(self) -> str:
        return self.message
