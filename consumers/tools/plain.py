"""Text from outside without what a terminal would obey: control characters are shown as escapes."""


def plain(text: str, keep: str = "") -> str:
    """`text` with all that is not printable as escapes, but for the characters in `keep`: one name stays one line."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def plain_output(data: bytes) -> str:
    """A program's output as text of lines; bytes that are not UTF-8 show as U+FFFD."""
    return plain(data.decode(errors="replace").replace("\r\n", "\n"), keep="\n\t")
