"""The form of a bearer token: `vic_`, its holder's name, and 256 random bits."""

import re

PREFIX = "vic_"
"""By which programs that look for secrets in files know one."""
NAME = "[a-z0-9][a-z0-9-]{0,39}"
"""The name of a token, and of who holds it."""
_FORM = re.compile(rf"{PREFIX}({NAME})_[\w-]{{43}}", re.ASCII)


def holder(token: str) -> str:
    """The name in a token, "" where a text is none."""
    found = _FORM.fullmatch(token)
    return found[1] if found else ""
