"""`find`: everything that may stand out in a network, at one level for the whole report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gatescope.analysis.subject import Subject
from gatescope.reporting import gates, mechanisms, text
from gatescope.reporting.finding import LEVEL, Family
from gatescope.reporting.following import Terms, follows, tells_apart
from gatescope.reporting.needed import needed
from gatescope.reporting.periods import swings
from gatescope.reporting.recording import Recording

Ask = Callable[[Recording, Mapping[str, np.ndarray], Terms], Family]


@dataclass(frozen=True)
class Known:
    """What is known of the steps beside what the network reads; each (step,), sequences one after another.

    Args:
        series: by name, NaN where nothing is known.
        classes: class -> 1 at its steps, 0 at others, NaN at steps without a class.
        targets: [sequence][step] what was measured of the only output.
        skipped: steps at the start of each sequence that are left out of comparisons: the warm-up.
    """

    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: Mapping[str, np.ndarray] = field(default_factory=dict)
    targets: list[list[float | None]] | None = None
    skipped: int = 0


def find(recording: Recording, known: Known) -> list[Family]:
    """Every family; the p of each finding is that of a whole report, so that it is multiplied by their number."""
    slow, saturated = gates.slow_and_saturated(recording)
    others = [
        needed(recording, known.targets),
        Family("slow", tuple(slow)),
        Family("saturated", tuple(saturated)),
        swings(recording),
    ]
    asked = _asked(recording, known)
    tried = len(asked) + sum(bool(family.findings) for family in others)
    compared = [
        replace(
            ask(recording, series, Terms(is_read=is_read, skipped=known.skipped, level=LEVEL / max(1, tried))),
            source="of the text" if is_read else "",
        )
        for ask, series, is_read in asked
    ]
    exact = [
        Family("counts", tuple(mechanisms.counts(recording))),
        Family("latches", tuple(mechanisms.latches(recording))),
        Family("remembers", tuple(mechanisms.remembers(recording))),
    ]
    return [*exact, *(_judged(family, tried) for family in [*compared, *others])]


def recorded(subject: Subject) -> Recording:
    """A run of all units of a subject."""
    return Recording.of(replace(subject, selection=type(subject.selection)()))


def _asked(recording: Recording, known: Known) -> list[tuple[Ask, Mapping[str, np.ndarray], bool]]:
    """The series and classes that are known, and those that a text shows: how each is asked, and whether it is read."""
    tokens = recording.subject.tokens
    given: list[tuple[Ask, Mapping[str, np.ndarray], bool]] = [
        (follows, known.series, False),
        (tells_apart, known.classes, False),
        (follows, {} if tokens is None else text.series(tokens), True),
        (tells_apart, {} if tokens is None else text.classes(tokens), True),
    ]
    return [each for each in given if each[1]]


def _judged(family: Family, tried: int) -> Family:
    judged = [replace(each, p=min(1.0, tried * (each.p or 0.0))) for each in family.findings]
    standing = tuple(each for each in judged if each.stands_out)
    return replace(family, findings=standing or tuple(judged[:1]))
