"""How well a model predicts, beside what was measured or the true labels, and beside a naive answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.states import check_lengths
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Prediction, Query
from gatescope.reporting.report import Rows
from gatescope.tables.measures import of_label, of_labels, of_pairs
from gatescope.tables.sequences import QUANTITIES

Labels = Sequence[Sequence[str | int | None]] | Sequence[str | int | None]

MOST_LABELS = 20
"""That are told one by one, the most frequent first."""

UNKNOWN = -1


@dataclass(frozen=True)
class TrueLabels:
    """The labels that a prediction is compared with.

    Args:
        ids: (batch, time), or (batch,) where there is one prediction per sequence; `UNKNOWN` where none is known.
        model: that predicts.
        lengths: (batch,).
    """

    ids: Tensor
    model: Model
    lengths: Tensor

    def wrong(self, predicted: Tensor) -> float:
        """The share of labels that are wrong, of values as the layer gives them: (batch, time, value), NaN padding."""
        return float((self.choices(predicted) != self.ids)[self.ids != UNKNOWN].double().mean())

    def choices(self, predicted: Tensor) -> Tensor:
        """The labels that are given, as `ids`."""
        head = self.model.pipeline.head
        chosen = None if head is None else head.choices(predicted.nan_to_num().float(), self.lengths)
        if chosen is None:
            raise TypeError("the head gives no labels")
        return chosen

    def measures(self, prediction: Prediction) -> tuple[dict[str, float | None], dict[str, dict[str, float]]]:
        """Of all labels, and of each."""
        head, known = self.model.pipeline.head, self.ids != UNKNOWN
        chosen = self.choices(prediction.values) if prediction.choices is None else prediction.choices
        values = None if head is None else head.probabilities(prediction.values)
        actual, told = self.ids[known].numpy(), chosen[known].cpu().numpy()
        kept, counts = np.unique(actual, return_counts=True)
        often = kept[np.argsort(-counts, kind="stable")][:MOST_LABELS]
        names = self.model.labels
        return (
            of_labels(told, actual, None if values is None else values[known].cpu().numpy()),
            {names[label]: of_label(told, actual, label) for label in often},
        )


def true_labels(model: Model, query: Query, prediction: Prediction, given: Labels | None) -> TrueLabels | None:
    """What the labels should have been; None where that is not known, or the model predicts none.

    Of a next-token model it is the token that follows. Where a model predicts the next step, the label of a step is
    compared with the prediction of the step before. The warm-up is left out.

    Raises:
        InvalidInput: the labels do not fit the sequences, or the model has no such label.
    """
    head = model.manifest.head
    if head is None or head.task in QUANTITIES or head.task == "multi_label":
        if given is not None:
            raise _refused("go with a model that gives one label to a step or to a sequence")
        return None
    lengths = query.sequence_lengths.cpu()
    if head.task == "next_token":
        if given is not None:
            raise _refused("are not taken by a model that predicts the next token: the text has them")
        ids = _moved(query.inputs.long().cpu())
        return TrueLabels(ids.masked_fill(_outside(lengths, ids.shape[1], 1), UNKNOWN), model, lengths)
    if given is None:
        return None
    if prediction.steps is None:
        return TrueLabels(torch.tensor([_id(model, each) for each in _one_each(given, lengths)]), model, lengths)
    rows = [each if isinstance(each, Sequence) and not isinstance(each, str) else [each] for each in given]
    check_lengths(rows, lengths.tolist(), "targets")
    ids = torch.full((len(rows), int(lengths.max())), UNKNOWN)
    for row, labels in enumerate(rows):
        ids[row, : len(labels)] = torch.tensor([_id(model, each) for each in labels])
    if head.predicts == "next_step":
        ids = _moved(ids)
    first = model.manifest.warmup_steps if int(lengths.min()) > model.manifest.warmup_steps else 0
    ids[:, :first] = UNKNOWN
    return TrueLabels(ids, model, lengths)


def _moved(ids: Tensor) -> Tensor:
    """What follows each step."""
    return torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], UNKNOWN)], dim=1)


def _outside(lengths: Tensor, time: int, less: int) -> Tensor:
    """(batch, time) the padding, and so many steps before it."""
    return torch.arange(time)[None] >= (lengths - less)[:, None]


def _one_each(given: Labels, lengths: Tensor) -> list[str | int | None]:
    """The label of each sequence; refused where one has several."""
    if len(given) != len(lengths):
        raise _refused(f"has {len(given)} sequences; {len(lengths)} were given")
    made: list[str | int | None] = []
    for row, labels in enumerate(given):
        if not isinstance(labels, Sequence) or isinstance(labels, str):
            made.append(labels)
            continue
        known = sorted({str(each) for each in labels if each is not None})
        if len(known) > 1:
            raise InvalidInput.at(
                Place(("targets", row), f"has {', '.join(known[:3])}; the model predicts one label for a sequence")
            )
        made.append(known[0] if known else None)
    return made


def _id(model: Model, label: str | int | None) -> int:
    if label is None:
        return UNKNOWN
    if str(label) not in model.labels:
        known = ", ".join(f"'{each}'" for each in model.labels[:MOST_LABELS])
        raise _refused(f"has '{label}', which model '{model.name}' does not predict; it predicts {known}")
    return model.labels.index(str(label))


def _refused(message: str) -> InvalidInput:
    return InvalidInput.at(Place(("targets",), message))


def measured(model: Model, query: Query, observed: dict[str, Rows]) -> dict[str, list[list[float | None]]]:
    """Output -> [sequence][step] what was measured of what is predicted at that step, without the warm-up.

    Where a model predicts the next step, it is what was measured one step later; an output that is a feature, too, was
    measured as that.
    """
    head, lengths = model.manifest.head, query.sequence_lengths.tolist()
    if head is None or head.task not in QUANTITIES:
        return {}
    first = model.manifest.warmup_steps if min(lengths) > model.manifest.warmup_steps else 0
    later = head.predicts == "next_step"
    names = model.manifest.input.names if isinstance(model.manifest.input, FeatureInputs) else ()
    made = {}
    for name in head.names:
        if name in observed:
            rows = [[None if each is None or np.isnan(each) else float(each) for each in row] for row in observed[name]]
        elif later and name in names:
            column = query.inputs[..., list(names).index(name)].double()
            known = [row[:length].tolist() for row, length in zip(column, lengths, strict=True)]
            rows = [[None if np.isnan(each) else each for each in row] for row in known]
        else:
            continue
        moved = [[*row[1:], None] if later else row for row in rows]
        made[name] = [[*[None] * first, *row[first:]] for row in moved]
    return made


def of_measured(
    model: Model, predicted: Tensor, rows: dict[str, list[list[float | None]]]
) -> dict[str, dict[str, float | None]]:
    """Output -> its errors; of a regression."""
    head = model.manifest.head
    if head is None or head.task != "regression":
        return {}
    made = {}
    for name, known in rows.items():
        index = head.names.index(name)
        pairs = [(predicted[row, : len(own), index].double().numpy(), own) for row, own in enumerate(known)]
        actual = np.array([np.nan if each is None else each for _, own in pairs for each in own])
        made[name] = of_pairs(np.concatenate([each for each, _ in pairs]), actual)
    return made
