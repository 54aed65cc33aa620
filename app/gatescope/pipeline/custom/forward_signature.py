"""`ForwardSignature`: how the forward of a custom module is called, and with which rows of a batch at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.pipeline.custom.user_code import foreign

_PARTS = 2  # the prediction and the state


class Returned(NamedTuple):
    """What forward returned."""

    prediction: Any
    state: Any = None  # where it gives one back


class ForwardSignature:
    """forward(inputs), with `sequence_lengths` and `initial_state` where it has parameters of these names.

    A forward that takes `initial_state` may return a pair, the prediction and the state behind the inputs, or a dict
    of `prediction` and `final_state`.

    Args:
        module: in evaluation mode.

    Raises:
        ModuleFailed: the module's forward has no signature.
    """

    def __init__(self, module: nn.Module) -> None:
        with foreign("reading the signature of the module's forward"):
            parameters = inspect.signature(module.forward).parameters
        self._module = module
        self.takes_lengths = "sequence_lengths" in parameters
        self.takes_state = "initial_state" in parameters

    def call(self, inputs: Tensor, lengths: Tensor, hx: Any = None) -> Returned:
        """What forward returns.

        Args:
            inputs: (batch, time, feature) floats or (batch, time) ids.
            lengths: (batch,); where forward does not take them, all of them are the time.
            hx: the state to start from, as forward takes it; None where the request has none.

        Raises:
            ModuleFailed: it raised.
        """
        further: dict[str, Any] = {}
        inputs = _zeroed(inputs, lengths) if self.takes_lengths else inputs.clone()  # it may write into its own
        if self.takes_lengths:
            further["sequence_lengths"] = lengths.cpu()  # where packing wants them
        if self.takes_state:
            further["initial_state"] = hx
        with torch.no_grad(), foreign(f"the module's forward over {_sizes(inputs)}"):
            return self._split(self._module(inputs, **further))

    def _split(self, returned: Any) -> Returned:
        if not self.takes_state:
            return Returned(returned)
        if isinstance(returned, Mapping) and {"prediction", "final_state"} <= returned.keys():
            return Returned(returned["prediction"], returned["final_state"])
        is_pair = isinstance(returned, tuple | list) and len(returned) == _PARTS
        return Returned(*returned) if is_pair else Returned(returned)

    def groups(self, lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Rows (row,) that go into one call, and their longest length: all rows, or those that are equally long."""
        if self.takes_lengths:
            yield torch.arange(len(lengths)), int(lengths.max())
            return
        for length in sorted(set(lengths.tolist())):
            yield (lengths == length).nonzero()[:, 0].cpu(), length


def _zeroed(inputs: Tensor, lengths: Tensor) -> Tensor:
    """The same with zeros in the padding, whatever encoding has made of it."""
    valid = padding.is_valid(lengths.to(inputs.device), inputs.shape[1])  # (batch, time)
    return inputs.where(valid if inputs.dim() == 2 else valid[..., None], 0)  # noqa: PLR2004


def _sizes(inputs: Tensor) -> str:
    return f"a batch of {inputs.shape[0]} × {inputs.shape[1]} steps"
