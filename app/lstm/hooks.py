"""`listen`: what each `nn.LSTM` inside a module is given and gives, call by call.

A hook sees a call in whatever form it comes: packed or padded, batch first or not, without a batch, with a state or
without one. `Call` is the one form that the rest of the house knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from app.lstm.spec import LSTMSpec
from app.lstm.state import State

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
    spec, hx = LSTMSpec.from_module(module), given.get("hx")
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
