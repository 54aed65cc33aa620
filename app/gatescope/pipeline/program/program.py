"""`Program`: a trained model that runs as a whole, and tells what its recurrent modules read and gave meanwhile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.capture import Call, Calls, RecurrentModule, Replace
from gatescope.pipeline.program.state_layout import StateLayout
from gatescope.state import State


class Returned(NamedTuple):
    """What a program returned."""

    prediction: Any
    state: Any = None  # where it gives one back


Replaced = Mapping[str, Replace]
"""What recurrent modules return in place of their own, by name."""


class Program(nn.Module, ABC):
    """Code of a model's own, or a graph; it holds no request's state."""

    kind: str
    """What it is, as messages call it."""

    subject: str
    """What of it runs, as messages call it."""

    takes_no_state: str
    """Why it takes no state, where it takes none, as the end of a sentence."""

    gives_no_state: str
    """Why it gives none back, where it gives none."""

    recurrent: Mapping[str, RecurrentModule]
    """What can be looked into, by name."""

    takes_lengths: bool
    """Whether it is told the lengths of padded sequences."""

    takes_state: bool
    """Whether it is told the state to start from."""

    is_stateless: bool
    """Whether a run depends on its inputs alone, so that requests may share one."""

    is_reentrant: bool
    """Whether several threads may run it at once."""

    runs_elsewhere: bool = False
    """Whether something else than PyTorch runs it: then there are no gradients."""

    is_probability: bool = False
    """Whether its prediction is made of probabilities, not of scores."""

    fixed_batch: int | None = None
    """The only number of rows that it can run with; None where it runs with any."""

    fixed_steps: int | None = None
    """The only number of time steps that it can run with; None where it runs with any."""

    def __init__(self) -> None:
        super().__init__()
        self._alone: AbstractContextManager[Any] = nullcontext() if self.is_reentrant else RLock()

    @abstractmethod
    def run(
        self, inputs: Tensor, lengths: Tensor, hx: Any, watched: Collection[str], replaced: Replaced
    ) -> tuple[Returned, Calls]:
        """Run it, with as many rows as it can run with.

        Args and errors are those of `call`.
        """

    def call(
        self,
        inputs: Tensor,
        lengths: Tensor,
        hx: Any,
        watched: Collection[str],
        replaced: Replaced | None = None,
    ) -> tuple[Returned, Calls]:
        """Run it. Where it runs with more rows only, further ones like the last are added, and left out again.

        Gradients are recorded where something is replaced, if the caller records them.

        Args:
            inputs: (batch, time, feature) floats or (batch, time) ids.
            lengths: (batch,); where it does not take them, all of them are the time.
            hx: the state to start from, as `StateLayout.given` makes it; None where the request has none.
            watched: the recurrent modules whose calls are wanted.
            replaced: what some of these return in place of their own.

        Raises:
            ModuleFailed: it failed.
        """
        is_differentiated = bool(replaced) and torch.is_grad_enabled()
        # cuDNN's kernels have no backward pass in evaluation mode
        cudnn = torch.backends.cudnn.flags(enabled=False) if is_differentiated else nullcontext()
        with self._alone, torch.set_grad_enabled(is_differentiated), cudnn:
            return self._call(inputs, lengths, hx, watched, replaced or {})

    def _call(
        self, inputs: Tensor, lengths: Tensor, hx: Any, watched: Collection[str], replaced: Replaced
    ) -> tuple[Returned, Calls]:
        rows, wanted = len(inputs), self.fixed_batch
        if wanted is None or rows == wanted:
            return self.run(inputs, lengths, hx, watched, replaced)
        is_cell = self.takes_state and self.state_layout(next(iter(self.recurrent))).is_cell
        returned, calls = self.run(
            _grown(inputs, wanted),
            _grown(lengths, wanted),
            _resized(hx, wanted, 0 if is_cell else 1),
            watched,
            {name: partial(_replaced_in_first, rows, each) for name, each in replaced.items()},
        )
        state = _resized(returned.state, rows, 0 if is_cell else 1)
        prediction = returned.prediction
        shrunk = prediction[:rows] if isinstance(prediction, Tensor) else prediction
        return Returned(shrunk, state), {name: [_cut(each, rows) for each in heard] for name, heard in calls.items()}

    def state_layout(self, first: str) -> StateLayout:
        """How it takes and gives a state.

        Args:
            first: the recurrent module that runs first.
        """
        return StateLayout.of(self.recurrent[first])

    def begin(self, first: Call) -> State:
        """Where it begins if nobody says where, of any number of rows.

        Args:
            first: the first call of the recurrent module that runs first, of a run that nobody said it of.
        """
        return first.initial_state

    @property
    def parameter_count(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    def groups(self, lengths: Sequence[int]) -> Iterator[tuple[list[int] | None, int]]:
        """Rows that go into one run, None for all of them, and their longest length.

        All go together where it is told their lengths, else those that are equally long.
        """
        different, most = set(lengths), self.fixed_batch or len(lengths)
        if (self.takes_lengths or len(different) == 1) and len(lengths) <= most:
            yield None, max(different)
            return
        alike = [[*range(len(lengths))]]
        if not self.takes_lengths:
            alike = [[row for row, each in enumerate(lengths) if each == length] for length in sorted(different)]
        for rows in alike:
            for first in range(0, len(rows), most):
                part = rows[first : first + most]
                yield part, max(lengths[row] for row in part)


def _grown(values: Tensor, rows: int) -> Tensor:
    """(batch, …) with further rows like the last."""
    return torch.cat([values, values[-1:].expand(rows - len(values), *values.shape[1:])])


def _resized(hx: Any, rows: int, axis: int) -> Any:
    """A state, or several, with further rows like the last, or without the last ones."""
    if hx is None:
        return None
    if not isinstance(hx, Tensor):
        return tuple(_resized(each, rows, axis) for each in hx)
    if hx.shape[axis] >= rows:
        return hx.narrow(axis, 0, rows)
    return _grown(hx.transpose(0, axis), rows).transpose(0, axis)


def _replaced_in_first(rows: int, replace_by: Replace, call: Call) -> tuple[Tensor, State]:
    """What replaces the call of so many rows, the first ones, and further rows like the last."""
    output, final = replace_by(_cut(call, rows))
    count = len(call.inputs)
    return _grown(output, count), State(*(_grown(value.transpose(0, 1), count).transpose(0, 1) for value in final))


def _cut(call: Call, rows: int) -> Call:
    """A call over the first rows alone."""
    states = (State(*(value[:, :rows] for value in state)) for state in (call.initial_state, call.final_state))
    initial, final = states
    return replace(
        call,
        inputs=call.inputs[:rows],
        lengths=call.lengths[:rows],
        output=call.output[:rows],
        initial_state=initial,
        final_state=final,
    )


def zeroed(inputs: Tensor, lengths: Tensor) -> Tensor:
    """The same with zeros in the padding, whatever encoding has made of it."""
    valid = padding.is_valid(lengths.to(inputs.device), inputs.shape[1])  # (batch, time)
    return inputs.where(valid if inputs.dim() == 2 else valid[..., None], 0)  # noqa: PLR2004
