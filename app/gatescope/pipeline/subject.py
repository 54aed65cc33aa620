"""`subject_of`: what of a model's run an analysis looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gatescope.analysis.subject import Subject
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tables.sequences import QUANTITIES
from gatescope.tracing import Trace


@dataclass(frozen=True)
class ReadOut:
    """What makes the prediction of a recurrent module's output, for the sequences of one query; a `Head`."""

    model: Model
    query: Query
    names: Sequence[str]

    def __call__(self, output: Tensor) -> Tensor:
        """The prediction; see `Head`."""
        return self._read_out(output)

    def only(self, row: int) -> ReadOut:
        """The same for one sequence."""
        return ReadOut(self.model, self.query.only(row), self.names)

    @cached_property
    def _read_out(self) -> Callable[[Tensor], Tensor]:
        return self.model.pipeline.read_out(self.query, self.query.module)


def subject_of(
    model: Model,
    query: Query,
    traced: Trace,
    selection: Selection,
    tokens: Sequence[Sequence[str]] | None = None,
) -> Subject:
    """What an analysis looks at.

    Args:
        model: was run.
        query: of these sequences, without a horizon.
        traced: of the recurrent module that is looked at.
        selection: its layers, directions and units that are looked at.
        tokens: what each sequence says, for models that read tokens.
    """
    subject = Subject(traced.module, traced.inputs, traced.sequence_lengths, traced.initial_state, selection)
    return _around(subject, model, query, tokens)


def planned_subject(
    model: Model, query: Query, selection: Selection, tokens: Sequence[Sequence[str]] | None = None
) -> Subject | None:
    """The same before the run, for checks: its lengths and names are those of the run, its numbers mean nothing.

    None where only the run tells how many steps the module reads.
    """
    pipeline, steps = model.pipeline, query.sequence_lengths + query.horizon
    if not pipeline.module_inputs(query.module).aligned or (query.horizon and tokens is not None):
        return None
    spec, nothing = pipeline.spec_of(query.module), torch.zeros(())
    inputs = nothing.expand(query.sequences, query.longest, spec.input_size)
    state = State.zeros(spec, query.sequences, nothing)
    return _around(Subject(pipeline.lstm_of(query.module), inputs, steps, state, selection), model, query, tokens)


def _around(subject: Subject, model: Model, query: Query, tokens: Sequence[Sequence[str]] | None) -> Subject:
    """The same with what is known around it."""
    return replace(
        subject,
        head=None
        if "head" in model.pipeline.head_refusals(query.module)
        else ReadOut(model, query, value_names(model)),
        input_names=model.pipeline.module_inputs(query.module).names or (),
        tokens=tokens,
    )


def value_names(model: Model) -> tuple[str, ...]:
    """What the values of the first head are called: outputs, quantiles of outputs, or labels.

    Those of a prediction for steps of its own come step by step.
    """
    head = model.manifest.head
    if head is None:
        return ()
    if head.task not in QUANTITIES:
        names = model.labels[1:] if head.task == "binary" else model.labels
    elif not head.quantiles:
        names = head.names
    else:
        names = tuple(f"{name} {quantile:g}" for name in head.names for quantile in head.quantiles)
    steps = model.pipeline.own_steps
    return names if steps is None else tuple(f"{name}, step {step}" for step in range(steps) for name in names)
