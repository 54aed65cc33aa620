"""The names of an array's last axis: exactly the model's, in any order, which its numbers are then brought into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from gatescope.server.api.places import refuse

_LONGEST_NAME = 64  # in messages


def order_of(given: Sequence[str] | None, names: Sequence[str], field: str) -> list[int] | None:
    """For each of the model's names the column that has it; None where they stand in the model's order.

    Args:
        given: what the columns are called; None where nothing is said.
        names: the model's.
        field: that says it.

    Raises:
        InvalidInput: they are not the model's; the nearest name is told.
    """
    if given is None or list(given) == list(names):
        return None
    for index, name in enumerate(given):
        if name not in names:
            near = get_close_matches(name[:_LONGEST_NAME], names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the model takes {', '.join(map(repr, names))}"
            refuse(f"the model has no feature '{name[:_LONGEST_NAME]}'; {hint}", field, index)
    twice = next((name for name, count in Counter(given).items() if count > 1), None)
    if twice is not None:
        refuse(f"'{twice}' stands there twice", field)
    if missing := [name for name in names if name not in given]:
        refuse(f"lacks {', '.join(map(repr, missing))}: every feature of the model must be there", field)
    return [given.index(name) for name in names]
