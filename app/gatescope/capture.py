"""`listen`: what each `nn.LSTM` inside a module is given and gives, call by call.

A hook sees a call in whatever form it comes: packed or padded, batch first or not, without a batch, with a state or
without one. `Call` is the one form that the rest of the house knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from gatescope.errors import InvalidInput, Place
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace

Calls = dict[str, list["Call"]]
"""The calls of each LSTM that was called, in the order of their first ones."""


@dataclass(frozen=True)
class Call:
    """One call of an `nn.LSTM`, in copies that nothing changes any more."""

    inputs: Tensor  # (batch, time, feature), padded on the right
    lengths: Tensor  # (batch,) on the CPU
    initial_state: State
    output: Tensor  # (batch, time, directions · unit)
    final_state: State


@contextmanager
def listen(lstms: Mapping[str, nn.LSTM]) -> Iterator[Calls]:
    """Hear every call of these LSTMs until the context is left, in whatever way.

    Args:
        lstms: by name.

    Returns:
        The calls, filled as they come.
    """
    calls: Calls = {}
    with ExitStack() as hooks:
        for name, lstm in lstms.items():
            heard: list[tuple[Tensor, Tensor, State]] = []
            # our ears are the last before the kernel and the first behind it: other hooks may change what passes
            before = lstm.register_forward_pre_hook(partial(_before, heard), with_kwargs=True)
            hooks.callback(before.remove)
            record = partial(_record, calls, name)
            after = lstm.register_forward_hook(partial(_after, heard, record), prepend=True)
            hooks.callback(after.remove)
        yield calls


def _before(
    heard: list[tuple[Tensor, Tensor, State]], module: nn.LSTM, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    inputs, lengths = _padded(given["input"], module)
    spec, hx = Spec.from_module(module), given.get("hx")
    heard.append((inputs, lengths, State.zeros(spec, len(inputs), inputs) if hx is None else _state(hx)))


def _after(
    heard: list[tuple[Tensor, Tensor, State]],
    record: Callable[[Call], None],
    module: nn.LSTM,
    _: tuple[Any, ...],
    given: tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]],
) -> None:
    output, final = given
    record(Call(*heard.pop(), _padded(output, module)[0], _state(final)))


def _record(calls: Calls, name: str, call: Call) -> None:
    calls.setdefault(name, []).append(call)


def _padded(value: Tensor | PackedSequence, module: nn.LSTM) -> tuple[Tensor, Tensor]:
    """(batch, time, …) in the rows' own order, and their lengths (batch,)."""
    if isinstance(value, PackedSequence):
        padded, lengths = pad_packed_sequence(value, batch_first=True)
        return padded.detach(), lengths
    if value.dim() == 2:  # noqa: PLR2004 - (time, …), without a batch
        value = value[None]
    elif not module.batch_first:
        value = value.transpose(0, 1)
    return value.detach().clone(), torch.full(value.shape[:1], value.shape[1])


def _state(given: tuple[Tensor, Tensor]) -> State:
    """Each (layers · directions, batch, unit), also of a call without a batch."""
    return State(*((value if value.dim() == 3 else value[:, None]).detach().clone() for value in given))  # noqa: PLR2004


@dataclass(frozen=True)
class Run:
    """The steps of each row, and the states around them."""

    inputs: list[Tensor]  # of each row, (time, feature)
    outputs: list[Tensor]  # of each row, (time, directions · unit): what the module's own calls gave
    initial_state: State
    final_state: State

    @classmethod
    def of(cls, name: str, module: nn.LSTM, calls: Sequence[Call], rows: int) -> Run:
        """One run from the calls of one forward: each goes on in the state where the one before ended.

        Args:
            name: of the LSTM, for messages.
            module: the LSTM.
            calls: in their order.
            rows: how many sequences the forward was given.

        Raises:
            InvalidInput: the calls are not one run over the sequences, with the reason; its place is `module`.
        """
        if not calls:
            raise _untraceable(f"'{name}' did not run over these inputs, so there is nothing to show of it")
        _check_carried(name, Spec.from_module(module), calls)
        if len(calls[0].inputs) != rows:
            raise _untraceable(
                f"'{name}' reads a batch of {len(calls[0].inputs)} where there are {rows} sequences: its rows are not "
                "the request's"
            )
        inputs = _joined([(call.inputs, call.lengths) for call in calls])
        outputs = _joined([(call.output, call.lengths) for call in calls])
        return cls(inputs, outputs, calls[0].initial_state, calls[-1].final_state)

    @classmethod
    def gathered(cls, parts: Sequence[tuple[Tensor, Run]]) -> Run:
        """The run of a batch from runs over some of its rows each, given beside them."""
        order = torch.cat([rows for rows, _ in parts]).argsort()
        places, runs = order.tolist(), [run for _, run in parts]
        inputs = [row for run in runs for row in run.inputs]
        outputs = [row for run in runs for row in run.outputs]
        initial, final = (
            State(*(torch.cat(values, dim=1)[:, order.to(values[0].device)] for values in zip(*states, strict=True)))
            for states in ([run.initial_state for run in runs], [run.final_state for run in runs])
        )
        return cls([inputs[place] for place in places], [outputs[place] for place in places], initial, final)

    @property
    def lengths(self) -> Tensor:
        """(batch,) how many steps each row has."""
        return torch.tensor([len(row) for row in self.inputs])

    @property
    def output(self) -> Tensor:
        """(batch, time, directions · unit), NaN in the padding."""
        return pad_sequence(self.outputs, batch_first=True, padding_value=torch.nan)

    def traced(self, module: nn.LSTM, selection: Selection) -> Trace:
        """The trace of this run; its residual also covers how far it is from what the calls gave."""
        made = trace(module, self.inputs, initial_state=self.initial_state, selection=selection).settled()
        gaps = torch.stack(
            [(made.output[row, : len(given)] - given).abs().max() for row, given in enumerate(self.outputs)]
        )
        return replace(made, gaps=gaps if made.gaps is None else torch.maximum(made.gaps, gaps))


def _check_carried(name: str, spec: Spec, calls: Sequence[Call]) -> None:
    if len(calls) > 1 and spec.bidirectional:
        raise _untraceable(f"'{name}' reads both ways and is called {len(calls)} times, which is not one run over time")
    for index in range(1, len(calls)):
        before, after = calls[index - 1].final_state, calls[index].initial_state
        if before.cell_state.shape != after.cell_state.shape:
            sizes = f"{before.cell_state.shape[1]} and {after.cell_state.shape[1]}"
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, calls {index - 1} and {index} with batches of {sizes}"
            )
        if not all(torch.equal(*states) for states in zip(before, after, strict=True)):
            raise _untraceable(
                f"'{name}' is called {len(calls)} times, and call {index} does not begin in the state where call "
                f"{index - 1} ended: these are several runs, not one"
            )


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Each row's own steps, (time, …), of all parts behind one another."""
    rows = zip(
        *([row[:length] for row, length in zip(values, lengths, strict=True)] for values, lengths in parts), strict=True
    )
    return [torch.cat(steps) for steps in rows]


def _untraceable(reason: str) -> InvalidInput:
    return InvalidInput.at(Place(("module",), reason))
