"""`Report`: what stands out inside a network, with its tests; `report` makes one of a trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.series import Series, values_of
from gatescope.analysis.states import check_lengths
from gatescope.analysis.subject import Head, Subject
from gatescope.errors import InvalidInput
from gatescope.reporting import sentences, text
from gatescope.reporting.finding import LEVEL, Family, Finding, Place
from gatescope.reporting.findings import Known, find, recorded
from gatescope.reporting.recording import Recording
from gatescope.reporting.strips import Strip, strip_of
from gatescope.reporting.trials import Trial, try_edits
from gatescope.tracing import Trace

MOST_UNITS = 8
"""That are tested and drawn."""

Rows = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class About:
    """What is said of the model and of what it read, besides what was found.

    Args:
        title: of the report.
        facts: what the model reads and predicts, and how much it read: name and value.
        quality: output -> measures of error beside what was measured; `label`, or `next token` -> those of all labels.
        by_label: label -> its recall, precision, F1 and share; the most frequent ones.
        ids: of the sequences.
        labels: of each step of each sequence: its time, or its token.
        has_labels: whether the prediction is scores of labels.
        notes: what was assumed, or left out.
    """

    title: str = "What stands out inside this network"
    facts: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ids: Sequence[str] | None = None
    labels: Sequence[Sequence[str]] | None = None
    has_labels: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a report says.

    Args:
        about: the model and what it read.
        families: what was looked for, and what was found.
        trials: of each unit that stands out: what editing it does.
        strips: of each of these units.
        is_lone: whether there is one layer and direction, so that a unit's number names it.
    """

    about: About
    families: Sequence[Family]
    trials: Mapping[Place, Sequence[Trial]]
    strips: Mapping[Place, Strip]
    is_lone: bool

    @property
    def found(self) -> list[Finding]:
        """What stands out; empty where nothing does."""
        return [each for family in self.families for each in family.findings if each.stands_out]

    @property
    def sentences(self) -> list[str]:
        """What stands out in words; one sentence where nothing does."""
        told = [sentences.sentence(each, is_lone=self.is_lone) for each in self.found]
        return told or [f"Nothing stands out at the level of {LEVEL:g} for the whole report."]

    @property
    def how_well(self) -> list[str]:
        """How well the model predicts, in words; empty where nothing was given to compare with."""
        return [sentences.how_well(name, of) for name, of in self.about.quality.items() if sentences.is_known(of)]

    def test_of(self, place: Place) -> str:
        """What the tests of a unit show, in words."""
        what = "the prediction" if "Predicts" in self.about.facts else "the output"
        return sentences.tested(place, self.trials[place], is_lone=self.is_lone, what=what)

    def to_dict(self) -> dict[str, Any]:
        """Everything in it as JSON has it; what cannot be known is None."""
        units = [
            {
                **place._asdict(),
                "findings": [_told(each, self.is_lone) for each in self.found if each.place == place],
                "trials": [asdict(trial) for trial in self.trials[place]],
                "test": self.test_of(place),
                "strip": asdict(self.strips[place]),
            }
            for place in self.strips
        ]
        looked_for = [
            {
                "kind": family.kind,
                "question": sentences.question(family),
                "note": family.note,
                "findings": [_told(each, self.is_lone) for each in family.findings],
            }
            for family in self.families
        ]
        about = asdict(self.about)
        told = {"about": about, "level": LEVEL, "how_well": self.how_well, "sentences": self.sentences}
        told |= {"units": units, "looked_for": looked_for}
        plain: dict[str, Any] = _plain(told)
        return plain

    def to_html(self) -> str:
        """A page that needs nothing else."""
        from gatescope.reporting.page import page  # noqa: PLC0415 - it reads this module

        return page(self)

    def save(self, file: Path | str) -> None:
        """Write it: as `.html`, or as `.json`; raises `InvalidInput` of other names."""
        path = Path(file)
        if path.suffix == ".html":
            path.write_text(self.to_html(), encoding="utf-8")
        elif path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False), encoding="utf-8")
        else:
            raise InvalidInput(f"{path}: a report is written as .html or .json, not as '{path.suffix}'")

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.to_html()


def report(
    subject: Trace | Subject,
    *,
    head: Head | Callable[[Tensor], Tensor] | None = None,
    series: Mapping[str, Rows] | None = None,
    classes: Sequence[Sequence[str | int | None]] | None = None,
    targets: Rows | Callable[[Tensor], float] | None = None,
    about: About | None = None,
    skipped: int = 0,
) -> Report:
    """Look for what stands out inside a network, and test it.

    All of it is at one level, 0.01 for the whole report: of 100 networks in which there is nothing, about one is said
    to have anything.

    Args:
        subject: a trace, or a `Subject` where more is known; all its units are looked at.
        head: what makes the prediction of the traced module's output; without it, edits are judged by the output.
        series: by name, [sequence][step], None where nothing is known: which unit follows it?
        classes: [sequence][step], None of steps without one: which unit tells them apart?
        targets: [sequence][step] what was measured of the only output, None where nothing was.
            Of labels, a function: scores (batch, time, value), or (batch, value), NaN in the padding -> the share of
            labels that are wrong.
        about: what is said of the model.
        skipped: steps at the start of each sequence that are not compared: the warm-up.

    Raises:
        InvalidInput: what is given does not fit the sequences, or the module's kind of cell cannot be traced.
    """
    given = Subject.of(subject, head) if isinstance(subject, Trace) else subject
    recording = recorded(given)
    told = about or About(facts=_facts(recording))
    known = Known(
        _series(series or {}, recording.lengths),
        _classes(classes, recording.lengths),
        None if callable(targets) else _targets(targets, recording.lengths),
        skipped,
    )
    families = find(recording, known)
    found = [each for family in families for each in family.findings if each.stands_out]
    first = {each.kind: each.place for each in reversed(found)}  # the strongest of each kind
    places = list(dict.fromkeys([*reversed(first.values()), *(each.place for each in found)]))[:MOST_UNITS]
    tokens = given.tokens
    labels = told.labels if told.labels is not None else tokens
    every = {**known.series, **({} if tokens is None else text.series(tokens))}
    strips = {
        place: strip_of(recording, place, {name: every[name] for name in _followed(found, place)}, labels)
        for place in places
    }
    error = targets if callable(targets) else _error(known.targets, recording)
    trials = try_edits(recording, places, error, has_labels=told.has_labels)
    scope = recording.subject.scope
    return Report(told, families, trials, strips, len(scope.layers) * len(scope.directions) == 1)


def _facts(recording: Recording) -> dict[str, str]:
    """What is known of a module alone."""
    steps, count = sum(recording.lengths), len(recording.lengths)
    return {
        "Module": repr(recording.subject.module),
        "Read": f"{steps:,} steps in {count:,} sequence{'s' * (count != 1)}",
    }


def _followed(found: Sequence[Finding], place: Place) -> list[str]:
    names = [each.figures["series"] for each in found if each.place == place and each.kind == "follows"]
    return list(dict.fromkeys(names))


def _series(given: Mapping[str, Rows], lengths: list[int]) -> dict[str, np.ndarray]:
    if not given:
        return {}
    made = [
        Series(name=name, values=[[_known(value) for value in row] for row in rows]) for name, rows in given.items()
    ]
    return dict(zip(given, values_of(made, lengths), strict=True))


def _classes(given: Sequence[Sequence[str | int | None]] | None, lengths: list[int]) -> dict[str, np.ndarray]:
    """Class -> (step,) whether a step is of it; NaN of steps without one."""
    if given is None:
        return {}
    check_lengths(given, lengths, "classes")
    flat = [None if label is None or label != label else str(label) for row in given for label in row]  # noqa: PLR0124
    return {
        name: np.array([np.nan if label is None else float(label == name) for label in flat])
        for name in sorted({label for label in flat if label is not None})
    }


def _targets(given: Rows | None, lengths: list[int]) -> list[list[float | None]] | None:
    if given is None:
        return None
    check_lengths(given, lengths, "targets")
    rows = [[_known(value) for value in row] for row in given]
    return rows if any(value is not None for row in rows for value in row) else None


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _error(targets: list[list[float | None]] | None, recording: Recording) -> Callable[[Tensor], float] | None:
    """The root mean square error of a prediction (batch, time, 1)."""
    if targets is None:
        return None
    made = torch.full((len(targets), max(recording.lengths), 1), torch.nan, dtype=torch.float64)
    for row, values in enumerate(targets):
        made[row, : len(values), 0] = torch.tensor([np.nan if each is None else each for each in values])
    return lambda predicted: float((predicted - made).square().nanmean().sqrt())


def _told(found: Finding, is_lone: bool) -> dict[str, Any]:  # noqa: FBT001 - as it is stored
    return {
        "kind": found.kind,
        **found.place._asdict(),
        "figures": dict(found.figures),
        "p": found.p,
        "stands_out": found.stands_out,
        "sentence": sentences.sentence(found, is_lone=is_lone),
    }


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
