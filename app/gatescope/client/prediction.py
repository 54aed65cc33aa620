"""What a model said, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import xarray


class State(NamedTuple):
    """`nn.LSTM`'s (h, c), each float32 (layers · directions, batch, unit)."""

    hidden_state: np.ndarray
    cell_state: np.ndarray


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to a batch of sequences; shorter ones are padded: numbers with NaN, labels with ''.

    What was not asked for, or what the model does not have, is None.
    """

    model: str
    version: str

    sequence_lengths: np.ndarray
    """(batch): how many steps each sequence has."""

    values: np.ndarray | None = None
    """Float32 (batch, time, value), or (batch, value) where there is one prediction per sequence."""

    labels: np.ndarray | None = None
    """(batch, time) or (batch): the likeliest label, or the token that was drawn."""

    probabilities: np.ndarray | None = None
    """Float32 (batch, time, label) or (batch, label)."""

    text: list[str] | None = None
    """With `horizon`, what a model of text wrote, per sequence."""

    tokens: list[list[str]] | None = None
    """What a model of tokens read, per sequence."""

    output: np.ndarray | None = None
    """Float32 (batch, time, directions · unit): the top layer's."""

    final_state: State | None = None
    """Each sequence's state at its own last step; the `initial_state` of what comes next."""

    @classmethod
    def of(cls, said: Mapping[str, Any], **more: Any) -> Self:
        """What the fields of a reply say."""
        prediction, state = said.get("prediction", {}), said.get("final_state")
        return cls(
            model=said["model"]["name"],
            version=said["model"]["version"],
            sequence_lengths=np.asarray(said["sequence_lengths"], dtype=np.int64),
            values=prediction.get("values"),
            labels=_padded(prediction["labels"]) if "labels" in prediction else None,
            probabilities=prediction.get("probabilities"),
            text=prediction.get("text"),
            tokens=said.get("tokens"),
            output=said.get("output"),
            final_state=None if state is None else State(**state),
            **more,
        )


@dataclass(frozen=True, eq=False)
class Step(Prediction):
    """The answer to one step of a session."""

    steps: int = 0
    """How many were taken, this one included."""

    trace: xarray.Dataset | None = None
    """Where it was asked for."""


def _padded(rows: Sequence[str | Sequence[str]]) -> np.ndarray:
    """(batch, time), as long as the longest row, or (batch)."""
    if not rows or isinstance(rows[0], str):
        return np.array(rows, dtype=np.str_)
    longest = max(map(len, rows))
    return np.array([[*row, *[""] * (longest - len(row))] for row in rows], dtype=np.str_)
