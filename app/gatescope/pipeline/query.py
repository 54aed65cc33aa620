"""`Query` and `Answer`: what a pipeline is asked and what it gives, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from gatescope.decompose import Explanation, Point
from gatescope.errors import DeadlineExceeded
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import Trace

LSTM = "lstm"
"""What the LSTM of a plain module is called."""


@dataclass(frozen=True)
class Query:
    """A validated batch, padded on the right, and what is wanted of it."""

    inputs: Tensor  # (batch, time, feature) raw values, or (batch, time) token ids
    sequence_lengths: Tensor  # (batch,)
    initial_state: State | None = None
    packed_state: bytes | None = None  # the same of one sequence, as `State.packed`; the answer has the final one so
    horizon: int = 0
    future_inputs: Tensor | None = None  # (batch, horizon, feature), NaN where the prediction is fed back
    prediction: bool = True
    output: bool = False
    final_state: bool = False
    module: str | None = None  # which LSTM is looked at; the first where none is named
    trace: Selection | None = None
    explain: Point | None = None  # of a batch of one; nothing else is answered beside it
    most_bytes: int | None = None  # of what is made where its size shows only on the way
    is_first: bool = True  # of the parts that a request is computed in, one after the other
    is_last: bool = True
    sequences: int | None = None  # of the whole request, of which this is a part
    is_abandoned: Callable[[], bool] | None = None  # whether nobody waits for the answer any more

    @cached_property
    def steps(self) -> int:
        """Time steps of all sequences, without the padding."""
        return int(self.sequence_lengths.sum())

    @property
    def is_whole(self) -> bool:
        """Whether it is all that a request asks for, and no part of it."""
        return self.is_first and self.is_last

    def reading(self, inputs: Tensor) -> Query:
        """The same of other inputs, which have the same shape."""
        return self.but(inputs=inputs)

    def but(self, **changes: object) -> Query:
        """What `replace` gives, and quicker: every request does it. What else changes with the lengths is `steps`."""
        other = object.__new__(Query)
        other.__dict__.update(self.__dict__, **changes)
        return other

    @property
    def is_ragged(self) -> bool:
        """Whether a sequence is shorter than the longest."""
        return self.steps < self.inputs.shape[0] * self.inputs.shape[1]

    @property
    def looks_inside(self) -> bool:
        """Whether more than the prediction is wanted."""
        return self.output or self.final_state or self.trace is not None or self.explain is not None

    def go_on(self) -> None:
        """Raise `DeadlineExceeded` if nobody waits any more; long computations ask now and then."""
        if self.is_abandoned is not None and self.is_abandoned():
            raise DeadlineExceeded("nobody waits for this answer any more")


@dataclass(frozen=True)
class Prediction:
    """What the head says: per step, per sequence, or per step of the horizon."""

    values: Tensor  # (batch, step, value) or (batch, value); NaN in the padding
    steps: Tensor | None  # (batch,) how many steps each row has; None where there is one prediction per sequence
    choices: Tensor | None  # label or token ids (batch, step) or (batch,); None for a regression


@dataclass(frozen=True)
class Answer:
    """What was asked for; the rest is None. With a horizon all but the prediction covers the further steps too."""

    sequence_lengths: Tensor  # (batch,) steps that the LSTM ran over
    inputs: Tensor  # what the model ran over, as in the query, with the steps fed back
    module: str = LSTM  # the LSTM that was looked at
    aligned: bool = True  # whether its time step t reads the inputs' time step t, and no other
    horizon: int = 0
    prediction: Prediction | None = None
    output: Tensor | None = None  # (batch, time, directions · unit), NaN in the padding
    final_state: State | None = None
    packed_state: bytes | None = None  # the final one, where it is a lone sequence that began from such a one
    trace: Trace | None = None
    explained: Explanation | None = None
