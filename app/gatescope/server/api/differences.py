"""How the answer to one query differs from that to another of the same shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Prediction
from gatescope.server.api import reply
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.codecs.ragged import ragged
from gatescope.state import State


def difference(before: Answer, after: Answer, model: Model) -> Fields:
    """`after` minus `before`, of all that both have, as `DifferenceReply` describes it."""
    fields: Fields = {}
    if before.prediction is not None and after.prediction is not None:
        fields["prediction"] = _prediction(before.prediction, after.prediction, model, None)
    if before.heads is not None and after.heads is not None:
        pairs = ((name, before.heads[name], each) for name, each in after.heads.items())
        fields["heads"] = {name: _prediction(was, became, model, name) for name, was, became in pairs}
    if before.output is not None and after.output is not None:
        fields["output"] = ragged((after.output - before.output).numpy(), before.sequence_lengths.tolist())
    if before.final_state is not None and after.final_state is not None:
        moved = State(*(became - was for was, became in zip(before.final_state, after.final_state, strict=True)))
        fields["final_state"] = reply.state(moved, model)
    if before.trace is not None and after.trace is not None:
        was = before.trace.signals
        fields["signals"] = {name: (values - was[name]).numpy() for name, values in after.trace.signals.items()}
    return fields


def _prediction(before: Prediction, after: Prediction, model: Model, name: str | None) -> Fields:
    """Of one head; `name` is None of the first."""
    head = model.pipeline.head if name is None else model.pipeline.heads[name]
    if head is None:
        raise TypeError("a model without a head predicts nothing")
    lengths = None if before.steps is None else before.steps.tolist()

    def cut(values: Tensor) -> Any:
        return values.numpy() if lengths is None else ragged(values.numpy(), lengths)

    fields: Fields = {"values": cut(after.values - before.values)}
    if before.choices is None or after.choices is None:
        return fields
    was, became = head.probabilities(before.values), head.probabilities(after.values)
    if was is not None and became is not None:
        fields["probabilities"] = cut(became - was)
    labels = model.labels if name is None else model.labels_of(name)
    fields["changed_labels"] = _changed(before.choices, after.choices, lengths, labels)
    return fields


def _changed(before: Tensor, after: Tensor, lengths: list[int] | None, labels: tuple[str, ...]) -> list[Fields]:
    """Where the labels are others: a place for each step, or each sequence, with both labels."""
    differs = before != after
    if before.dtype is torch.bool:  # a flag for each label
        differs = differs.any(dim=-1)
    changed = []
    for place in np.argwhere(differs.numpy()).tolist():
        row, *step = place
        if lengths is not None and step[0] >= lengths[row]:
            continue
        where = {"sequence": row} | ({"step": step[0]} if step else {})
        both = (reply.named(each[tuple(place)].numpy(), labels) for each in (before, after))
        changed.append(where | dict(zip(("baseline", "intervened"), both, strict=True)))
    return changed
