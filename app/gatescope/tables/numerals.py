"""Numbers as people write them: `1,234.5`, `1.234,5`, `1 234,5`."""

from __future__ import annotations

import re
from functools import cache

_GROUPS = "' \u00a0\u202f"  # what stands before thousands, beside that of point and comma which is not the decimal mark
_MINUS = "\u2212"


def is_number(text: str, decimal: str) -> bool:
    """Whether a text is a finite number with this decimal mark; groups before thousands have three digits each."""
    return _form(decimal).fullmatch(text) is not None


def number(text: str, decimal: str) -> float | None:
    """The number in a text, None where there is none, or one that is too large for a float."""
    if not is_number(text, decimal):
        return None
    other = "," if decimal == "." else "."
    made = float(text.translate(_without(other)).replace(decimal, ".").replace(_MINUS, "-"))
    return made if abs(made) != float("inf") else None


@cache
def _form(decimal: str) -> re.Pattern[str]:
    mark, other = re.escape(decimal), re.escape("," if decimal == "." else ".")
    plain = rf"[0-9]+(?:{mark}[0-9]*)?|{mark}[0-9]+"
    grouped = rf"[1-9][0-9]{{0,2}}(?P<group>[{other}{_GROUPS}])[0-9]{{3}}(?:(?P=group)[0-9]{{3}})*(?:{mark}[0-9]*)?"
    return re.compile(rf"[+\-{_MINUS}]?(?:{grouped}|{plain})(?:[eE][+-]?[0-9]+)?")


@cache
def _without(other: str) -> dict[int, None]:
    return dict.fromkeys(map(ord, _GROUPS + other))
