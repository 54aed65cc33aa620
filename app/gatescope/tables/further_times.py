"""`carried_on`: the times of further steps, from those before them."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

Stamp = str | float
"""When a step is: ISO 8601, or a number."""

_DATE = len("2001-10-01")


def carried_on(row: Sequence[Stamp], steps: int) -> list[Stamp]:
    """The times of so many steps behind the last; none where fewer than two are there.

    They go on as all of them do (`regular`), or else as far apart as the last two.
    """
    if len(row) < 2:  # noqa: PLR2004 - a step lies between two
        return []
    before, last = row[-2], row[-1]
    if not isinstance(last, str) or not isinstance(before, str):
        return [last + (last - before) * (step + 1) for step in range(steps)]  # type: ignore[operator] # numbers
    moments = [datetime.fromisoformat(str(stamp)) for stamp in row]
    following = regular(moments) or partial(_later, moments[-1], moments[-1] - moments[-2])
    try:
        further = [following(step + 1) for step in range(steps)]
    except (OverflowError, ValueError):  # behind the year 9999
        return []
    return [moment.date().isoformat() if len(last) == _DATE else moment.isoformat() for moment in further]


def regular(moments: Sequence[datetime]) -> Callable[[int], datetime] | None:
    """The time so many steps behind the last, where all are equally far apart; None where they are not.

    Equally many months, on one day of the month or on its last one; or else equally much time; or else equally much on
    the clock, which a change of its offset moves. The last offset from UTC is kept.
    """
    last, clock = moments[-1], [moment.replace(tzinfo=None) for moment in moments]
    if (months := _months_apart(clock)) is not None:
        is_end = all(map(_is_month_end, clock))
        return lambda steps: _months_later(last, months * steps, is_end=is_end)
    for times in (moments, clock):
        widths = {after - before for before, after in pairwise(times)}
        if len(widths) == 1:
            return partial(_later, last, widths.pop())
    return None


def _later(moment: datetime, width: timedelta, steps: int) -> datetime:
    return moment + width * steps


def _months_apart(clock: Sequence[datetime]) -> int | None:
    """How many months lie between two times, the same number between all; None where it is not so."""
    if len({moment.time() for moment in clock}) > 1:
        return None
    if len({moment.day for moment in clock}) > 1 and not all(map(_is_month_end, clock)):
        return None
    months = {12 * (after.year - before.year) + after.month - before.month for before, after in pairwise(clock)}
    return months.pop() if len(months) == 1 and 0 not in months else None


def _is_month_end(moment: datetime) -> bool:
    return moment.day == monthrange(moment.year, moment.month)[1]


def _months_later(moment: datetime, months: int, *, is_end: bool) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    most = monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=most if is_end else min(moment.day, most))
