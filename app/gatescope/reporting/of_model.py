"""`report_on`: a report of a model with all that stands around its recurrent module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Prediction, Query
from gatescope.pipeline.subject import subject_of
from gatescope.reporting.quality import Labels, TrueLabels, measured, of_measured, true_labels
from gatescope.reporting.report import About, Report, Rows, report
from gatescope.selection import Selection
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
        labels: [sequence][step], or [sequence], what a model of labels should have told; None where that is not known.
        ids: what the sequences are called.
        times: of each step of each sequence.
        notes: what was assumed when they were read.
    """

    tokens: Sequence[Sequence[str]] | None = None
    series: Mapping[str, Rows] = field(default_factory=dict)
    classes: Sequence[Sequence[str | int | None]] | None = None
    observed: Mapping[str, Rows] = field(default_factory=dict)
    labels: Labels | None = None
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
    prediction, head = answer.prediction, model.manifest.head
    known = None if prediction is None else true_labels(model, query, prediction, given.labels)
    numbers = measured(model, query, dict(given.observed))
    quality, by_label = _quality(model, prediction, known, numbers)
    about = About(
        title=f"What stands out inside {model.name}",
        facts=_facts(model, query),
        quality=quality,
        by_label=by_label,
        ids=given.ids,
        labels=given.times if given.times is not None else given.tokens,
        has_labels=head is not None and head.task not in QUANTITIES,
        notes=_notes(model, query.module, given, aligned=answer.aligned),
    )
    is_only = bool(quality) and bool(numbers) and head is not None and len(head.names) == 1
    return report(
        subject,
        series=given.series if answer.aligned else None,
        classes=given.classes if answer.aligned else None,
        targets=known.wrong if known is not None else next(iter(numbers.values())) if is_only else None,
        about=about,
        skipped=model.manifest.warmup_steps,
    )


def _quality(
    model: Model,
    prediction: Prediction | None,
    known: TrueLabels | None,
    numbers: dict[str, list[list[float | None]]],
) -> tuple[dict[str, dict[str, float | None]], dict[str, dict[str, float]]]:
    """Of each output, or of all labels, and of each label."""
    if prediction is None:
        return {}, {}
    if known is not None:
        whole, each = known.measures(prediction)
        head = model.manifest.head
        return {"next token" if head is not None and head.task == "next_token" else "label": whole}, each
    return ({}, {}) if prediction.steps is None else (of_measured(model, prediction.values, numbers), {})


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
