"""Options of tables that are written as `NAME=VALUE,…`, on the command line and in a query alike."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gatescope.gaps import Rule


def mapping_of(text: str | None) -> dict[str, str]:
    """`load=demand_mw,temp=t` -> feature or output -> column; raises `ValueError`."""
    return dict(_pairs(text, "NAME=COLUMN,…"))


def fill_of(text: str | None) -> dict[str | None, Rule]:
    """`rain=0,temp=hold`, or `hold` alone -> feature, None for all others -> how its gaps are filled.

    Raises `ValueError`.
    """
    if text is None or ("," not in text and "=" not in text):
        return {} if text is None else {None: _rule(text.strip())}
    return {name: _rule(rule) for name, rule in _pairs(text, "NAME=RULE,…, or a RULE for all")}


def _pairs(text: str | None, form: str) -> Iterator[tuple[str, str]]:
    for each in () if text is None else text.split(","):
        name, sign, value = (part.strip() for part in each.partition("="))
        if not (name and sign and value):
            raise ValueError(f"must be {form}, not {text!r}")
        yield name, value


def _rule(text: str) -> Rule:
    if text == "hold":
        return "hold"
    if text == "interpolate":
        return "interpolate"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a gap is filled by hold, interpolate or a number, not by {text!r}")
    return number
