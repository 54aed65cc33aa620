"""What a model said, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gatescope import forecast_plot
from gatescope.client import prediction_frames

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from gatescope.client.prediction_frames import Answered


STATES = ("hidden_state", "cell_state")
"""What recurrent modules carry from step to step; an `nn.GRU` and an `nn.RNN` have the first alone."""


class State(tuple[np.ndarray, ...]):
    """The states of a recurrent module, each float32 (layers · directions, batch, unit), the hidden state first.

    That is `h, c = state` of an `nn.LSTM`, and `(h,) = state` of an `nn.GRU` or an `nn.RNN`.
    """

    __slots__ = ()

    def __new__(cls, hidden_state: np.ndarray, cell_state: np.ndarray | None = None) -> Self:
        """The state of these arrays."""
        return tuple.__new__(cls, (hidden_state,) if cell_state is None else (hidden_state, cell_state))

    def __getnewargs__(self) -> tuple[np.ndarray, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        return f"State({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    @property
    def hidden_state(self) -> np.ndarray:
        """The hidden state h."""
        return self[0]

    @property
    def cell_state(self) -> np.ndarray:
        """The cell state c of an `nn.LSTM`.

        Raises:
            AttributeError: the module has none.
        """
        if len(self) < len(STATES):
            raise AttributeError(f"the state has no 'cell_state'; it has {', '.join(self._asdict())}")
        return self[1]

    def _asdict(self) -> dict[str, np.ndarray]:
        """The arrays by name, as a named tuple has them."""
        return dict(zip(STATES, self, strict=False))


def state_of(said: Mapping[str, Any]) -> State | dict[str, State]:
    """A state as a reply has it: of a lone recurrent module, or of several by their names."""
    if "modules" in said:
        return {name: State(**each) for name, each in said["modules"].items()}
    return State(**said)


@dataclass(frozen=True)
class Sample:
    """One of several texts that a sequence was continued with."""

    tokens: list[str]
    finish_reason: str
    """`stop` or `length`."""
    text: str | None = None
    """None of a model that reads no text."""


@dataclass(frozen=True, eq=False)
class Head:
    """What a further head of the model said; its fields are those of `Prediction`."""

    values: np.ndarray
    labels: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """What the fields of a reply say."""
        labels = _padded(said["labels"], said["values"]) if "labels" in said else None
        return cls(said["values"], labels, said.get("probabilities"))


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
    """(batch, time) or (batch): the likeliest label, or the token that was drawn. Of a multi-label task a tuple of
    labels stands in each place."""

    probabilities: np.ndarray | None = None
    """Float32 (batch, time, label) or (batch, label)."""

    text: list[str] | None = None
    """With `horizon`, what a model of text wrote, per sequence."""

    finish_reason: list[str] | None = None
    """With `horizon`, why each sequence's text ended: `stop` or `length`."""

    samples: list[list[Sample]] | None = None
    """[batch][sample], where several were asked for; all else shows the first."""

    sampling: Mapping[str, Any] | None = None
    """How tokens were drawn: `temperature`, `top_k`, `top_p` and `seed`."""

    tokens: list[list[str]] | None = None
    """What a model of tokens read, per sequence."""

    unknown_tokens: list[list[int]] | None = None
    """The indices of the `tokens` that the vocabulary lacks; None where it has all."""

    output: np.ndarray | None = None
    """Float32 (batch, time, directions · unit): the top layer's."""

    final_state: State | dict[str, State] | None = None
    """Each sequence's state at its own last step; the `initial_state` of what comes next. Of several recurrent modules
    by name."""

    ids: list[str] | None = None
    """What the sequences are called, as the request has it."""

    timestamps: list[list[str | float]] | None = None
    """Of the steps, as the request has them, carried on over a horizon."""

    prediction_timestamps: list[Any] | None = None
    """When each value is for: a list for each sequence, or a time for each where it has one prediction."""

    heads: Mapping[str, Head] = field(default_factory=dict)
    """What the heads behind the first said, by name."""

    verified: bool = True
    """False beside a prediction of a model whose predictions were never compared with those of the training code."""

    notes: Sequence[Mapping[str, Any]] = ()
    """What was assumed for the request: `code`, `message` and, where there is one, `loc`."""

    answered: Answered | None = field(default=None, repr=False)
    """The tables that were asked, where it were tables."""

    @property
    def frames(self) -> dict[Any, Any]:
        """A data frame for each sequence of the tables that were asked, of their kind, by its id.

        Without ids they are numbered; a lone one has the key None. Each row is called as the step that it is for: in
        pandas by the index, in polars by the column of times, else in a column `step`. Its columns are the outputs, and
        `NAME_observed` of those that were observed; of labels `label` and the probability of each.

        Raises:
            ValueError: what was asked was no table.
        """
        return prediction_frames.frames_of(self)

    def to_frame(self, head: str | None = None) -> Any:
        """One data frame: that of a lone sequence, or of all, with their ids.

        The rows of a frame of several sequences come back in their order with its index, where each has a prediction.

        Args:
            head: the name of a further head; the first when not given.

        Raises:
            ValueError: what was asked was no table, or there is no such head.
        """
        return prediction_frames.frame_of(self, head)

    def to_xarray(self, head: str | None = None) -> xarray.Dataset:
        """The same as a Dataset: a variable for each column, along the times, and along the ids where there are any.

        Args:
            head: the name of a further head; the first when not given.

        Raises:
            ValueError: as `to_frame`, or the frames are of polars.
        """
        return prediction_frames.to_xarray(self, head)

    def plot(self, names: Sequence[str] = ()) -> Figure:
        """A picture of the values over time, a panel for each of each sequence, no more than eight.

        Args:
            names: of the values, in their order: `client.model(name)["output"]["names"]`.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
            ValueError: there are no values.
        """
        if self.values is None:
            raise ValueError("there are no values to draw")
        panels = forecast_plot.of_values(self.values, self.prediction_timestamps, self.ids, names)
        x_label = "step" if self.prediction_timestamps is None else None
        return forecast_plot.draw(panels, f"{self.model} (version {self.version})", x_label=x_label)

    @classmethod
    def of(cls, said: Mapping[str, Any], **more: Any) -> Self:
        """What the fields of a reply say."""
        prediction, state = said.get("prediction", {}), said.get("final_state")
        return cls(
            model=said["model"]["name"],
            version=said["model"]["version"],
            sequence_lengths=np.asarray(said["sequence_lengths"], dtype=np.int64),
            values=prediction.get("values"),
            labels=_padded(prediction["labels"], prediction["values"]) if "labels" in prediction else None,
            probabilities=prediction.get("probabilities"),
            text=prediction.get("text"),
            finish_reason=prediction.get("finish_reason"),
            samples=_samples(prediction["samples"]) if "samples" in prediction else None,
            sampling=said.get("sampling"),
            tokens=said.get("tokens"),
            ids=said.get("ids"),
            timestamps=said.get("timestamps"),
            prediction_timestamps=prediction.get("timestamps"),
            unknown_tokens=said.get("unknown_tokens"),
            output=said.get("output"),
            final_state=None if state is None else state_of(state),
            heads={name: Head.of(each) for name, each in said.get("heads", {}).items()},
            verified=said["model"].get("verified", True),
            notes=said.get("notes", ()),
            **more,
        )


@dataclass(frozen=True, eq=False)
class Step(Prediction):
    """The answer to one step of a session."""

    steps: int = 0
    """How many were taken, this one included."""

    trace: xarray.Dataset | None = None
    """Where it was asked for."""


def _samples(said: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Sample]]:
    return [[Sample(**each) for each in row] for row in said]


_PER_STEP = 3  # axes of values: (batch, time, value)


def _padded(rows: Sequence[Any], values: Any) -> np.ndarray:
    """(batch, time), as long as the longest row, or (batch); several labels in one place are a tuple.

    Args:
        rows: the labels as a reply has them.
        values: what stands beside them, (batch, time, value) or (batch, value).
    """
    is_per_step = np.ndim(values) == _PER_STEP
    places = [[*row] for row in rows] if is_per_step else [[row] for row in rows]
    is_text = isinstance(places[0][0], str)
    made = np.full((len(places), max(map(len, places))), "", dtype=object)
    for row, labels in enumerate(places):
        for step in range(made.shape[1]):
            given = labels[step] if step < len(labels) else ""
            made[row, step] = given if is_text else tuple(given)
    padded = made.astype(np.str_) if is_text else made
    return padded if is_per_step else padded[:, 0]
