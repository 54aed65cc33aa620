"""`Subject`: what an analysis looks at, a trace and what is known around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.errors import DeadlineExceeded, InvalidInput, Place
from gatescope.forward import differentiable
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace

Part = TypeVar("Part")

BLOCK_FLOATS = 2**19
"""How large a block of a chunk is: 2 MB. Of 2^16 to 2^20 the fastest for 32 to 256 units, on a processor with 32 MB."""


@runtime_checkable
class Head(Protocol):
    """What makes a prediction of a recurrent module's output; it can be differentiated."""

    @property
    def names(self) -> Sequence[str]:
        """What its values are called."""

    def __call__(self, output: Tensor) -> Tensor:
        """The prediction in the units of the model's replies; scores, of labels or tokens.

        Args:
            output: (batch · n, time, directions · unit) of the recurrent module: n variants of the batch, one after
                another; anything in the padding.

        Returns:
            (batch · n, time, value), or (batch · n, value) where there is one prediction per sequence.
        """

    def only(self, row: int) -> Head:
        """The same for one sequence of the batch, without padding."""


@dataclass(frozen=True)
class FunctionHead:
    """A `Head` made of any function or module, such as an `nn.Linear`, whose values are called by their numbers.

    Args:
        function: takes (batch, time, directions · unit), and returns what a `Head` returns.
        sample: (1, 1, directions · unit), any output.
    """

    function: Callable[[Tensor], Tensor]
    sample: Tensor

    @cached_property
    def names(self) -> Sequence[str]:
        """Numbers, from 0."""
        with torch.no_grad():
            return tuple(map(str, range(self.function(self.sample).shape[-1])))

    def __call__(self, output: Tensor) -> Tensor:
        """The prediction."""
        return self.function(output)

    def only(self, _: int) -> FunctionHead:
        """The same: a function of the output alone is that of each sequence."""
        return self


@dataclass(frozen=True)
class Scope:
    """Which module is analysed, and which of its layers, directions and units."""

    module: nn.RNNBase
    selection: Selection  # resolved; its time is all steps

    @cached_property
    def spec(self) -> Spec:
        """The arguments of the module."""
        return Spec.from_module(self.module)

    @property
    def layers(self) -> tuple[int, ...]:
        """Of the selection."""
        return self.selection.layers or ()

    @property
    def directions(self) -> tuple[str, ...]:
        """Of the selection."""
        return self.selection.directions or ()

    @property
    def units(self) -> tuple[int, ...]:
        """Of the selection."""
        return self.selection.units or ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layer, direction, unit)."""
        return len(self.layers), len(self.directions), len(self.units)


@dataclass(frozen=True)
class Chunk:
    """Some time steps of some sequences."""

    rows: Sequence[int]  # which sequences, as indices of all of them
    start: int  # the first time step
    signals: Mapping[str, Tensor]  # each (row, layer, direction, time, unit); NaN in the padding
    valid: Tensor | None  # (row, time) which steps are no padding; None where all are

    def blocks(self, names: Sequence[str]) -> Iterator[Tensor]:
        """All steps without the padding, some at a time: so few that they stay in the processor's cache.

        Each block is a copy (layer, direction, step, column), in float32 or float64. Its columns are the units of these
        signals, one signal after another.
        """
        if not names:
            return
        parts = _joined([self.signals[name].permute(1, 2, 3, 0, 4) for name in names])  # (…, time, row, unit)
        time = parts[0].shape[2]
        at_once = max(1, BLOCK_FLOATS * time // sum(part.numel() for part in parts))
        for start in range(0, time, at_once):
            span = slice(start, start + at_once)
            block = torch.cat([part[:, :, span] for part in parts], dim=-1).flatten(2, 3)
            if self.valid is not None:
                places = self.valid.T[span].flatten().nonzero()[:, 0]
                block = block.index_select(2, places.to(block.device))
            if block.shape[2]:
                yield block if block.dtype == torch.float64 else block.float()


@dataclass(frozen=True)
class Subject:
    """One or more sequences through one recurrent module.

    Args:
        module: the recurrent module.
        inputs: (batch, time, feature) what it reads, padded on the right.
        sequence_lengths: (batch,).
        initial_state: each (layers · directions, batch, size).
        selection: the layers, directions and units that are looked at; its signals and time are not read.
        head: what makes the prediction; None where that is not known.
        input_names: of the features that the module reads; empty where they have none.
        tokens: what each sequence says, for models that read tokens; None for others.
        known: a trace of all layers, directions, units and steps of these sequences, where there is one already.
        is_cancelled: whether nobody waits for the result any more.
        on_progress: is told how much of what takes long is done, and how much there is.
    """

    module: nn.RNNBase
    inputs: Tensor
    sequence_lengths: Tensor
    initial_state: State
    selection: Selection = field(default_factory=Selection)
    head: Head | None = None
    input_names: Sequence[str] = ()
    tokens: Sequence[Sequence[str]] | None = None
    known: Trace | None = None
    is_cancelled: Callable[[], bool] | None = None
    on_progress: Callable[[float, float], None] | None = None

    @classmethod
    def of(cls, traced: Trace, head: Head | Callable[[Tensor], Tensor] | None = None) -> Subject:
        """The sequences of a trace, and what was selected there.

        Raises:
            InvalidInput: its signals were edited.
        """
        if traced.is_edited:
            raise InvalidInput("a trace with edited signals cannot be analysed: analyses run the module as it is")
        selection = replace(traced.selection, signals=None, time=slice(None))
        everything = replace(Selection().resolve(traced.spec), signals=None)
        is_whole = traced.selection.time == slice(None) and selection == everything
        return cls(
            traced.module,
            traced.inputs,
            traced.sequence_lengths,
            traced.initial_state,
            selection,
            head if head is None or isinstance(head, Head) else FunctionHead(head, traced.output[:1, :1]),
            known=traced if is_whole else None,
        )

    @cached_property
    def spec(self) -> Spec:
        """The arguments of the module."""
        return Spec.from_module(self.module)

    @cached_property
    def scope(self) -> Scope:
        """What of the module is looked at."""
        selection = replace(self.selection, signals=None, time=slice(None))
        return Scope(self.module, selection.resolve(self.spec))

    @property
    def lengths(self) -> list[int]:
        """Of each sequence."""
        lengths: list[int] = self.sequence_lengths.tolist()
        return lengths

    def raise_if_cancelled(self) -> None:
        """Raise `DeadlineExceeded` if nobody waits any more; what takes long asks now and then."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise DeadlineExceeded("nobody waits for this result any more")

    def advance(self, done: float, total: float) -> None:
        """Tell how much of what takes long is done; raises `DeadlineExceeded` if nobody waits any more."""
        self.raise_if_cancelled()
        if self.on_progress is not None:
            self.on_progress(done, total)

    def parts(self, parts: Sequence[Part]) -> Iterator[Part]:
        """These parts of what takes long, one after another; before each it is told how many are done.

        Raises:
            DeadlineExceeded: nobody waits any more.
        """
        for done, part in enumerate(parts):
            self.advance(done, len(parts))
            yield part

    def within(self, index: int, parts: int) -> Subject:
        """The same for one of so many parts: how much is done is told of all of them."""
        tell = self.on_progress
        if tell is None:
            return self
        return replace(self, on_progress=lambda done, total: tell(index + done / total, parts))

    def signals(self, *names: str) -> dict[str, Tensor]:
        """These signals of the scope, each (batch, layer, direction, time, unit), NaN in the padding.

        They are traced if no trace that is known has them.
        """
        scope = self.scope.selection
        if self.known is not None and set(names) <= self.known.signals.keys():
            return {name: _selected(self.known.signals[name], self.scope) for name in names}
        return self.trace(replace(scope, signals=names)).signals

    def chunks(self, names: Sequence[str]) -> Iterator[Chunk]:
        """These signals of the scope, as a statistic takes them."""
        signals, time = self.signals(*names), self.inputs.shape[1]
        is_ragged = min(self.lengths) < time
        valid = padding.is_valid(self.sequence_lengths, time) if is_ragged else None
        yield Chunk(range(len(self.lengths)), 0, signals, valid)

    def at(self, layer: int, direction: str) -> Subject:
        """The same of one layer and direction.

        Raises:
            InvalidInput: the module has no such layer or direction.
        """
        spec = self.spec
        if not 0 <= layer < spec.num_layers:
            raise InvalidInput.at(Place(("layer",), f"there is no layer {layer}; there are 0 to {spec.num_layers - 1}"))
        if direction not in spec.directions:
            raise InvalidInput.at(Place(("direction",), f"there is no {direction!r}; there is 'forward' alone"))
        return replace(self, selection=replace(self.selection, layers=(layer,), directions=(direction,)))

    def step(self, time_step: int) -> int:
        """A time step of the only sequence, counted from its start.

        Raises:
            InvalidInput: the sequence has no such step.
        """
        (steps,) = self.lengths
        if not -steps <= time_step < steps:
            known = f"the sequence has 0 to {steps - 1}, or -{steps} to -1 counted from its end"
            raise InvalidInput.at(Place(("time_step",), f"there is no step {time_step}; {known}"))
        return time_step % steps

    def with_run(self, inputs: Tensor, initial_state: State) -> Subject:
        """The same sequences with other inputs, or from another state."""
        return replace(self, inputs=inputs, initial_state=initial_state, known=None)

    def run(self, inputs: Tensor) -> Tensor:
        """The module's output for other inputs of the only sequence, which can be differentiated.

        Args:
            inputs: (n, time, feature).

        Returns:
            (n, time, directions · unit).
        """
        like = next(self.module.parameters())
        state = State(*(value.to(like).expand(-1, len(inputs), -1).contiguous() for value in self.initial_state))
        return differentiable(self.module, inputs.to(like), state)

    def trace(self, selection: Selection) -> Trace:
        """A trace of these sequences."""
        given = self.inputs if self.module.batch_first else self.inputs.transpose(0, 1)
        return trace(self.module, given, self.sequence_lengths, self.initial_state, selection)

    def only(self, sequence: int | None) -> Subject:
        """One of the sequences, without padding.

        Raises:
            InvalidInput: there is none of this index, or there are several and none is named.
        """
        count = len(self.lengths)
        if sequence is None and count > 1:
            message = f"there are {count} sequences, and this analysis looks at one: name it, 0 to {count - 1}"
            raise InvalidInput.at(Place(("sequence",), message))
        row = sequence or 0
        if not 0 <= row < count:
            raise InvalidInput.at(Place(("sequence",), f"there is no sequence {row}; there are 0 to {count - 1}"))
        if count == 1 and self.lengths[0] == self.inputs.shape[1]:
            return self
        return replace(
            self,
            inputs=self.inputs[row : row + 1, : self.lengths[row]],
            sequence_lengths=self.sequence_lengths[row : row + 1],
            initial_state=State(*(state[:, row : row + 1] for state in self.initial_state)),
            head=None if self.head is None else self.head.only(row),
            tokens=None if self.tokens is None else [self.tokens[row]],
            known=None,
        )


def _joined(signals: Sequence[Tensor]) -> list[Tensor]:
    """The same columns in fewer tensors: what lies side by side in memory, as kernels write gates, is read as one."""
    joined: list[Tensor] = []
    for signal in signals:
        last = joined[-1] if joined else None
        if last is not None and _follows(signal, last):
            joined[-1] = last.as_strided((*last.shape[:-1], last.shape[-1] + signal.shape[-1]), last.stride())
        else:
            joined.append(signal)
    return joined


def _follows(signal: Tensor, last: Tensor) -> bool:
    """Whether each row of a signal begins where that of the last one ends."""
    is_same = signal.untyped_storage().data_ptr() == last.untyped_storage().data_ptr()
    is_next = signal.storage_offset() == last.storage_offset() + last.shape[-1]
    return is_same and is_next and signal.stride() == last.stride() and last.stride(-1) == 1


def _selected(values: Tensor, scope: Scope) -> Tensor:
    """(batch, layer, direction, time, unit) of all -> that of the scope."""
    spec, width = scope.spec, values.shape[-1]
    wanted = (
        (1, list(scope.layers), spec.num_layers),
        (2, [spec.directions.index(direction) for direction in scope.directions], spec.num_directions),
        (4, [unit for unit in scope.units if unit < width], width),
    )
    for axis, places, size in wanted:
        if places != list(range(size)):
            values = values.index_select(axis, torch.tensor(places, device=values.device))
    return values
