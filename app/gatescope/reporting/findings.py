"""`find`: everything that may stand out in a network, at one level for the whole report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gatescope.analysis.subject import Subject
from gatescope.reporting import gates, mechanisms, text
from gatescope.reporting.finding import Family
from gatescope.reporting.following import follows, tells_apart
from gatescope.reporting.needed import needed
from gatescope.reporting.periods import swings
from gatescope.reporting.recording import Recording


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
    families = [
        *_compared(recording, known),
        needed(recording, known.targets),
        Family("slow", tuple(slow)),
        Family("saturated", tuple(saturated)),
        swings(recording),
    ]
    tried = sum(bool(family.findings) for family in families)
    exact = [
        Family("counts", tuple(mechanisms.counts(recording))),
        Family("latches", tuple(mechanisms.latches(recording))),
        Family("remembers", tuple(mechanisms.remembers(recording))),
    ]
    return [*exact, *(_judged(family, tried) for family in families)]


def recorded(subject: Subject) -> Recording:
    """A run of all units of a subject."""
    return Recording.of(replace(subject, selection=type(subject.selection)()))


def _compared(recording: Recording, known: Known) -> Iterator[Family]:
    """The families of series and classes that are known, and of what a text shows."""
    tokens, skipped = recording.subject.tokens, known.skipped
    if known.series:
        yield follows(recording, known.series, is_read=False, skipped=skipped)
    if known.classes:
        yield tells_apart(recording, known.classes, is_read=False, skipped=skipped)
    if tokens is not None and (series := text.series(tokens)):
        yield replace(follows(recording, series, is_read=True, skipped=skipped), source="of the text")
    if tokens is not None and (classes := text.classes(tokens)):
        yield replace(tells_apart(recording, classes, is_read=True, skipped=skipped), source="of the text")


def _judged(family: Family, tried: int) -> Family:
    judged = [replace(each, p=min(1.0, tried * (each.p or 0.0))) for each in family.findings]
    standing = tuple(each for each in judged if each.stands_out)
    return replace(family, findings=standing or tuple(judged[:1]))
