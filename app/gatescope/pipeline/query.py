"""`Query` and `Answer`: what a pipeline is asked and what it gives, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from gatescope.decompose import Explanation, Point
from gatescope.errors import DeadlineExceeded
from gatescope.interventions import Intervention
from gatescope.pipeline.layout import AsAsked, Layout, Record, Rows, RowSplit, Signals, Slot, States, map_state
from gatescope.pipeline.sampling import Drawn, Generated, Sampling
from gatescope.selection import Selection
from gatescope.state import State
from gatescope.tracing import Trace

LSTM = "lstm"
"""What the LSTM of a custom module is called that is the whole module."""


@dataclass(frozen=True)
class Query:
    """A validated batch, padded on the right, and what is wanted of it."""

    inputs: Tensor  # (batch, time, feature) raw values, or (batch, time) token ids
    sequence_lengths: Tensor  # (batch,)
    initial_state: State | None = None
    packed_state: bytes | None = None  # the same of one sequence, as `State.packed`; the answer has the final one so
    horizon: int = 0
    sampling: Sampling | None = None  # of a model that writes tokens; as its manifest says where none is stated
    future_inputs: Tensor | None = None  # (batch, horizon, feature), NaN where the prediction is fed back
    static_inputs: Tensor | None = None  # (batch, feature) raw values, of a model that takes them
    prediction: bool = True
    output: bool = False
    final_state: bool = False
    module: str | None = None  # which LSTM is looked at; the first where none is named
    interventions: tuple[Intervention, ...] = ()  # in that one
    trace: Selection | None = None
    explain: Point | None = None  # of a batch of one; nothing else is answered beside it
    most_bytes: int | None = None  # of what is made where its size shows only on the way
    is_cancelled: Callable[[], bool] | None = None  # whether nobody waits for the answer any more
    on_drawn: Callable[[Sequence[Drawn]], None] | None = None  # is told the tokens of each step; called by any thread

    @cached_property
    def steps(self) -> int:
        """Time steps of all sequences, without the padding."""
        lengths = self.sequence_lengths
        return int(lengths.item() if lengths.shape[0] == 1 else lengths.sum())

    @property
    def sequences(self) -> int:
        """How many there are; `len` of a tensor takes four times as long."""
        return self.inputs.shape[0]

    @property
    def longest(self) -> int:
        """Time steps of the longest sequence, those of the horizon included."""
        return self.inputs.shape[1] + self.horizon

    def only(self, row: int) -> Query:
        """One of the sequences as a query of its own, without padding."""
        length, state, static = int(self.sequence_lengths[row]), self.initial_state, self.static_inputs
        return replace(
            self,
            inputs=self.inputs[row : row + 1, :length],
            sequence_lengths=self.sequence_lengths[row : row + 1],
            initial_state=None if state is None else map_state(lambda values: values[:, row : row + 1], state),
            static_inputs=None if static is None else static[row : row + 1],
        )

    def with_inputs(self, inputs: Tensor) -> Query:
        """The same query of other inputs, which have the same shape."""
        return self.evolve(inputs=inputs)

    def evolve(self, **changes: object) -> Query:
        """What `replace` gives, and quicker: every request needs it. Whoever changes the lengths changes `steps`."""
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

    def raise_if_cancelled(self) -> None:
        """Raise `DeadlineExceeded` if nobody waits any more; long computations ask now and then."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise DeadlineExceeded("nobody waits for this answer any more")


@dataclass(frozen=True)
class Prediction:
    """What the head says: per step, per sequence, or per step of the horizon."""

    values: Tensor  # (batch, step, value) or (batch, value); NaN in the padding
    steps: Tensor | None  # (batch,) how many steps each row has; None where there is one prediction per sequence
    choices: Tensor | None  # as `Head.choices` gives them; None of quantities


_ROWS, _STEPS = Rows(), Rows(time=1)


class _Predictions:
    """A prediction per time step, or one per sequence."""

    _PER_STEP = Record({"values": _STEPS, "steps": Rows(combine=torch.add), "choices": _STEPS})
    _PER_SEQUENCE = Record({"values": _ROWS, "choices": _ROWS})

    def split(self, value: Prediction, split: RowSplit) -> list[Prediction]:
        """Each query's rows."""
        return list(self._fields(value).split(value, split))

    def merge(self, whole: Prediction | None, part: Prediction, slot: Slot) -> Prediction:
        """Steps of a later chunk follow those before; a prediction per sequence replaces the earlier one."""
        merged: Prediction = self._fields(part).merge(whole, part, slot)
        return merged

    def _fields(self, prediction: Prediction) -> Record:
        return self._PER_SEQUENCE if prediction.steps is None else self._PER_STEP


class _Heads:
    """The predictions of the other heads by name."""

    _EACH = _Predictions()

    def split(self, value: Mapping[str, Prediction], split: RowSplit) -> list[dict[str, Prediction]]:
        """Each query's rows."""
        columns = [self._EACH.split(each, split) for each in value.values()]
        return [dict(zip(value, parts, strict=True)) for parts in zip(*columns, strict=True)]

    def merge(
        self, whole: Mapping[str, Prediction] | None, part: Mapping[str, Prediction], slot: Slot
    ) -> dict[str, Prediction]:
        """Head by head."""
        return {name: self._EACH.merge((whole or {}).get(name), each, slot) for name, each in part.items()}


_TRACE = Record(
    {
        "signals": Signals(),
        "selection": AsAsked("trace"),
        "sequence_lengths": AsAsked("sequence_lengths"),
        "output": _STEPS,
        "inputs": _STEPS,
        "initial_state": States("first"),
        "final_state": States("last"),
        "row_residuals": Rows(combine=torch.maximum),
    }
)
"""Of a `Trace`; its `backend` is the same for all rows and chunks."""


def _field(layout: Layout) -> Mapping[str, Layout]:
    return {"layout": layout}


@dataclass(frozen=True)
class Answer:
    """What was asked for; the rest is None. With a horizon all but the prediction covers the further steps too.

    A field with a layout is split among the queries of a batch and merged over chunks as that says.
    """

    sequence_lengths: Tensor = field(metadata=_field(AsAsked("sequence_lengths")))
    """(batch,) steps that the LSTM ran over."""
    inputs: Tensor = field(metadata=_field(AsAsked("inputs")))
    """What the model ran over, as in the query, with the steps fed back."""
    module: str = LSTM
    """The LSTM that was looked at."""
    aligned: bool = True
    """Whether its time step t reads the inputs' time step t, and no other."""
    horizon: int = 0
    prediction: Prediction | None = field(default=None, metadata=_field(_Predictions()))
    generated: Generated | None = None
    """The texts that a model of tokens wrote with a horizon."""
    heads: Mapping[str, Prediction] | None = field(default=None, metadata=_field(_Heads()))
    """The predictions of the heads behind the first, where there are such."""
    output: Tensor | None = field(default=None, metadata=_field(_STEPS))
    """(batch, time, directions · unit), NaN in the padding."""
    final_state: State | None = field(default=None, metadata=_field(States("last")))
    packed_state: bytes | None = None
    """The final one of a lone sequence whose query has a packed one."""
    trace: Trace | None = field(default=None, metadata=_field(_TRACE))
    explained: Explanation | None = None


ANSWER = Record({each.name: each.metadata["layout"] for each in fields(Answer) if each.metadata})
"""How an answer is split and merged."""
