"""Text of somebody else's image, made safe to print."""


def printable(text: str) -> str:
    r"""Replace what is no printable character by ``\xNN``.

    The name of a file may hold a newline or a terminal's control sequence, and print a verdict of
    its own.
    """
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
