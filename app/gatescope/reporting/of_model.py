"""`report_on`: a report of a model with all that stands around its recurrent module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.pipeline.subject import subject_of
from gatescope.reporting.report import About, Report, Rows, report
from gatescope.selection import Selection
from gatescope.tables.measures import of_pairs
from gatescope.tables.sequences import QUANTITIES

MOST_NAMES = 12


@dataclass(frozen=True)
class Given:
    """What is known of the sequences beside what the model reads.

    Args:
        tokens: what each sequence says, for models that read tokens.
        series: by name, [sequence][step], which units may follow.
        classes: [sequence][step].
        observed: output -> [sequence][step] what was measured, NaN where nothing was.
        ids: what the sequences are called.
        times: of each step of each sequence.
        notes: what was assumed when they were read.
    """

    tokens: Sequence[Sequence[str]] | None = None
    series: Mapping[str, Rows] = field(default_factory=dict)
    classes: Sequence[Sequence[str | int | None]] | None = None
    observed: Mapping[str, Rows] = field(default_factory=dict)
    ids: Sequence[str] | None = None
    times: Sequence[Sequence[str]] | None = None
    notes: Sequence[str] = ()


def report_on(model: Model, query: Query, given: Given) -> Report:
    """A report of one recurrent module of a model, on the sequences of a query.

    Args:
        model: is looked into.
        query: the sequences; its module is the first if none is named. A horizon is not run.
        given: what else is known of them.

    Raises:
        InvalidInput: what is given does not fit the sequences, or the module cannot be traced.
    """
    nothing = Selection(signals=()).resolve(model.pipeline.spec_of(query.module))
    ran = query.evolve(trace=nothing, horizon=0, future_inputs=None, prediction=model.pipeline.head is not None)
    answer = model.pipeline.answer(ran)
    if answer.trace is None:
        raise TypeError("the answer holds no trace")
    read = query.evolve(horizon=0, future_inputs=None)
    subject = subject_of(model, read, answer.trace, Selection(), given.tokens)
    predicted = None if answer.prediction is None or answer.prediction.steps is None else answer.prediction.values
    head = model.manifest.head
    quality = {} if predicted is None else _quality(model, predicted, given)
    is_only = head is not None and head.task == "regression" and len(head.names) == 1 and predicted is not None
    about = About(
        title=f"What stands out inside {model.name}",
        facts=_facts(model, query),
        quality=quality,
        ids=given.ids,
        labels=given.times if given.times is not None else given.tokens,
        has_labels=head is not None and head.task not in QUANTITIES,
        notes=_notes(model, query.module, given, aligned=answer.aligned),
    )
    return report(
        subject,
        series=given.series if answer.aligned else None,
        classes=given.classes if answer.aligned else None,
        targets=_measured(model, given, head.names[0]) if is_only and head is not None else None,
        about=about,
        skipped=model.manifest.warmup_steps,
    )


def _facts(model: Model, query: Query) -> dict[str, str]:
    """What the model reads and predicts."""
    lengths, spec, head = query.sequence_lengths.tolist(), model.pipeline.spec_of(query.module), model.manifest.head
    layers = f"{spec.num_layers} layer{'s' * (spec.num_layers != 1)} of {spec.hidden_size} units"
    directions = ", in two directions" if spec.num_directions > 1 else ""
    name = query.module or next(iter(model.pipeline.lstms))
    facts = {
        "Model": f"{model.name}, version {model.version}",
        "What it is for": model.manifest.description,
        "Recurrent module": f"{name}: {spec.cell.name.upper()}, {layers}{directions}",
        "Reads": _reads(model),
    }
    if head is not None:
        names = head.names if head.task in QUANTITIES else model.labels
        facts["Predicts"] = f"{', '.join(names[:MOST_NAMES])}{' …' if len(names) > MOST_NAMES else ''} ({head.task})"
    count = len(lengths)
    facts["Read here"] = f"{sum(lengths):,} steps in {count:,} sequence{'s' * (count != 1)}"
    return {what: said for what, said in facts.items() if said}


def _reads(model: Model) -> str:
    inputs = model.manifest.input
    if isinstance(inputs, FeatureInputs):
        return ", ".join(inputs.names[:MOST_NAMES]) + (" …" if len(inputs.names) > MOST_NAMES else "")
    return f"tokens of a vocabulary of {len(model.vocabulary or ()):,}"


def _measured(model: Model, given: Given, name: str) -> Rows | None:
    """What was measured of an output, without the warm-up; None where nothing was."""
    if name not in given.observed:
        return None
    first = _skipped(model, given, name)
    return [[None] * first + list(row)[first:] for row in given.observed[name]]


def _skipped(model: Model, given: Given, name: str) -> int:
    """The steps of the warm-up; none where a sequence has no others."""
    first = model.manifest.warmup_steps
    return first if min(map(len, given.observed[name])) > first else 0


def _quality(model: Model, predicted: torch.Tensor, given: Given) -> dict[str, dict[str, float | None]]:
    """Output -> its errors, without the warm-up; outputs of a regression that were measured."""
    head = model.manifest.head
    if head is None or head.task != "regression":
        return {}
    made = {}
    for index, name in enumerate(head.names):
        if name not in given.observed:
            continue
        rows = given.observed[name]
        actual = [np.array([np.nan if each is None else each for each in row], dtype=float) for row in rows]
        skipped = _skipped(model, given, name)
        pairs = [(predicted[row, : len(own), index].numpy(), own) for row, own in enumerate(actual)]
        made[name] = of_pairs(
            np.concatenate([each[skipped:].astype(np.float64) for each, _ in pairs]),
            np.concatenate([own[skipped:] for _, own in pairs]),
        )
    return made


def _notes(model: Model, module: str | None, given: Given, *, aligned: bool) -> list[str]:
    notes = list(given.notes)
    if model.manifest.warmup_steps:
        notes.append(
            f"The first {model.manifest.warmup_steps} steps of a sequence are warm-up: they count neither for errors "
            "nor for series and classes, where a sequence is long enough."
        )
    if not aligned and (given.series or given.classes is not None):
        notes.append("The module's steps are not those of the input, so that series and classes were not compared.")
    if (reason := model.pipeline.head_refusals(module).get("head")) is not None:
        notes.append(f"Edits are judged by the module's output: {reason}.")
    if model.verified is None and model.manifest.head is not None:
        notes.append("The predictions of this model were never compared with numbers of the training code.")
    return notes
