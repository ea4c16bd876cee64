"""What others say, made fit to be printed: a machine that somebody has taken over must not steer the terminal, or the
log, of whoever looks at it."""

import re

_SUSPECT = re.compile(r"[^\n\t -~]")


def legible(text: str) -> str:
    """A text of which a terminal only shows: what would steer it, or turn the order of letters, stands there as an
    escape. Lines stay lines."""
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
