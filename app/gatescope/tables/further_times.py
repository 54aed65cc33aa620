"""`carried_on`: the times of further steps, from those before them."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

Stamp = str | float
"""When a step is: ISO 8601, or a number."""

_DATE = len("2001-10-01")
_YEAR = 12  # months
LOOKED_AT = 3
"""Times that tell how far apart the further ones are."""


def carried_on(row: Sequence[Stamp], steps: int) -> list[Stamp]:
    """The times of so many steps behind the last, as far apart as the last two; none where there are fewer than two.

    Where the last times are whole months apart, at one time of one day of the month or at the ends of months, so are
    the further ones.

    Args:
        row: strictly increasing; ISO 8601, all with a time zone or none, or numbers.
        steps: how many are wanted.
    """
    if len(row) < 2:  # noqa: PLR2004 - a step lies between two
        return []
    before, last = row[-2], row[-1]
    if not isinstance(last, str) or not isinstance(before, str):
        return [last + (last - before) * (step + 1) for step in range(steps)]  # type: ignore[operator] # numbers
    known = [datetime.fromisoformat(str(stamp)) for stamp in row[-LOOKED_AT:]]
    end, months = known[-1], _months(known)
    try:
        if months:
            at_end = all(map(_is_month_end, known))
            moments = [_months_later(end, months * (step + 1), at_end=at_end) for step in range(steps)]
        else:
            moments = [end + (end - known[-2]) * (step + 1) for step in range(steps)]
    except (OverflowError, ValueError):  # behind the year 9999
        return []
    return [moment.date().isoformat() if len(last) == _DATE else moment.isoformat() for moment in moments]


def _months(known: Sequence[datetime]) -> int:
    """How many months lie between each two of them, 0 where it is not so."""
    if len({moment.timetz() for moment in known}) > 1:
        return 0
    if len({moment.day for moment in known}) > 1 and not all(map(_is_month_end, known)):
        return 0
    apart = {(after.year - before.year) * _YEAR + after.month - before.month for before, after in pairwise(known)}
    return apart.pop() if len(apart) == 1 else 0


def _is_month_end(moment: datetime) -> bool:
    return moment.day == monthrange(moment.year, moment.month)[1]


def _months_later(moment: datetime, months: int, *, at_end: bool) -> datetime:
    year, month = divmod(moment.year * _YEAR + moment.month - 1 + months, _YEAR)
    most = monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=most if at_end else min(moment.day, most))
