"""`Weights`: the parameters of one layer and direction of an `nn.LSTM`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gatescope.spec import GATES


class Kind(NamedTuple):
    """What decides how weights can be run, whatever their values are."""

    input_size: int
    hidden_size: int
    proj_size: int
    bias: bool
    dtype: torch.dtype
    device: torch.device


class Weights(NamedTuple):
    """Parameters under PyTorch's names; H is `hidden_size`, P the width of the hidden state, I that of the input."""

    weight_ih: Tensor  # (4H, I)
    weight_hh: Tensor  # (4H, P)
    bias_ih: Tensor | None  # (4H,)
    bias_hh: Tensor | None  # (4H,)
    weight_hr: Tensor | None  # (P, H), where proj_size is set

    @classmethod
    def of(cls, module: nn.LSTM, layer: int, direction: str) -> Weights:
        """The parameters of one layer and direction of this module."""
        suffix = f"l{layer}" + ("_reverse" if direction == "reverse" else "")

        def parameter(name: str, *, there: bool = True) -> Any:
            return getattr(module, f"{name}_{suffix}") if there else None

        return cls(
            parameter("weight_ih"),
            parameter("weight_hh"),
            parameter("bias_ih", there=module.bias),
            parameter("bias_hh", there=module.bias),
            parameter("weight_hr", there=module.proj_size > 0),
        )

    @property
    def kind(self) -> Kind:
        """The kind of these weights."""
        rows, input_size = self.weight_ih.shape
        proj_size = 0 if self.weight_hr is None else self.weight_hr.shape[0]
        has_bias = self.bias_ih is not None
        return Kind(input_size, rows // GATES, proj_size, has_bias, self.weight_ih.dtype, self.weight_ih.device)

    @property
    def bias(self) -> Tensor | None:
        """The effective bias b_ih + b_hh (4H,), or None without one."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh

    def detached(self) -> Weights:
        """The same parameters without their gradients."""
        return Weights(*(None if parameter is None else parameter.detach() for parameter in self))  # type: ignore[arg-type]

    def to(self, like: Tensor) -> Weights:
        """The same parameters on the device and of the type of `like`, without their gradients."""
        moved = (None if parameter is None else parameter.to(like) for parameter in self.detached())
        return Weights(*moved)  # type: ignore[arg-type]

    def flat(self) -> list[Tensor]:
        """The parameters that are there, in the order that `torch.lstm` takes."""
        return [parameter for parameter in self if parameter is not None]
