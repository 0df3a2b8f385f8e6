"""Text that others wrote, as a terminal may show it."""


def printable(text: str) -> str:
    """The text with each character that is not printable as \\xNN: a terminal would obey it."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
