"""`Weights`: the parameters of one layer and direction of a recurrent module."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class Weights(NamedTuple):
    """Parameters under PyTorch's names.

    G is the number of gates, H is `hidden_size`, P the width of the hidden state, I that of the input.
    """

    weight_ih: Tensor  # (G · H, I)
    weight_hh: Tensor  # (G · H, P)
    bias_ih: Tensor | None  # (G · H,)
    bias_hh: Tensor | None  # (G · H,)
    weight_hr: Tensor | None  # (P, H), where proj_size is set

    @classmethod
    def of(cls, module: nn.RNNBase, layer: int, direction: str) -> Weights:
        """The parameters of one layer and direction of this module."""
        suffix = f"l{layer}" + ("_reverse" if direction == "reverse" else "")

        def parameter(name: str, *, exists: bool = True) -> Any:
            return getattr(module, f"{name}_{suffix}") if exists else None

        return cls(
            parameter("weight_ih"),
            parameter("weight_hh"),
            parameter("bias_ih", exists=module.bias),
            parameter("bias_hh", exists=module.bias),
            parameter("weight_hr", exists=module.proj_size > 0),
        )

    @property
    def hidden_size(self) -> int:
        """How many units the cell has."""
        return self.weight_hh.shape[1] if self.weight_hr is None else self.weight_hr.shape[1]

    @property
    def bias(self) -> Tensor | None:
        """The effective bias b_ih + b_hh (G · H,), or None without one."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh

    def detached(self) -> Weights:
        """The same parameters without their gradients."""
        return Weights(*(None if parameter is None else parameter.detach() for parameter in self))  # type: ignore[arg-type]

    def to(self, like: Tensor) -> Weights:
        """The same parameters on the device and of the type of `like`, without their gradients."""
        moved = (None if parameter is None else parameter.to(like) for parameter in self.detached())
        return Weights(*moved)  # type: ignore[arg-type]

    def flat(self) -> list[Tensor]:
        """The parameters that the module has, in the order that PyTorch's kernels take."""
        return [parameter for parameter in self if parameter is not None]
