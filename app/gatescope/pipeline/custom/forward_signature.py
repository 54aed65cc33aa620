"""`ForwardSignature`: how the forward of a custom module is called, and with which rows of a batch at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gatescope import padding
from gatescope.pipeline.custom.user_code import foreign
from gatescope.state import State


class ForwardSignature:
    """forward(inputs), with `sequence_lengths` and `initial_state` where it has parameters of these names.

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

    def call(self, inputs: Tensor, lengths: Tensor, state: State | None) -> Any:
        """What forward returns.

        Args:
            inputs: (batch, time, feature) floats or (batch, time) ids.
            lengths: (batch,); where forward does not take them, all of them are the time.
            state: to start from; None where the request has none.

        Raises:
            ModuleFailed: it raised.
        """
        further: dict[str, Any] = {}
        inputs = _zeroed(inputs, lengths) if self.takes_lengths else inputs.clone()  # it may write into its own
        if self.takes_lengths:
            further["sequence_lengths"] = lengths.cpu()  # where packing wants them
        if self.takes_state:
            further["initial_state"] = None if state is None else tuple(state)
        with torch.no_grad(), foreign(f"the module's forward over {_sizes(inputs)}"):
            return self._module(inputs, **further)

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
