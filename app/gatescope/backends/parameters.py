"""`Parameters`: what the kernels take of a recurrent module, made once and kept while the module has these tensors."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from gatescope.backends import onednn_kernel
from gatescope.cells import Cell
from gatescope.spec import Spec
from gatescope.weights import Weights


class Kind(NamedTuple):
    """What decides whether a backend can run weights, whatever their values are."""

    cell: Cell
    input_size: int
    hidden_size: int
    proj_size: int
    bias: bool
    dtype: torch.dtype
    device: torch.device


class Parameters:
    """The spec of one recurrent module and its weights without their gradients.

    The weights share the module's memory, so a value that changes there changes here.
    """

    def __init__(self, module: nn.RNNBase) -> None:
        self.spec = Spec.from_module(module)
        layers, directions = range(self.spec.num_layers), self.spec.directions
        given = [Weights.of(module, layer, direction) for layer in layers for direction in directions]
        self.weights = [weights.detached() for weights in given]
        """Of every layer and direction, in the order of the module's states."""
        tensors = (tensor for weights in given for tensor in weights.flat())
        named = zip(self.spec.parameter_shapes(), tensors, strict=True)
        self._given = [(name, tensor, tensor.data_ptr()) for name, tensor in named]
        self._reordered: dict[bool, tuple[list[int], list[Weights]]] = {}

    @classmethod
    def of(cls, module: nn.RNNBase) -> Parameters:
        """The parameters of this module as it is now: they are made again if a tensor was replaced or moved."""
        kept = _kept.get(module)
        if kept is None or not kept.is_current(module):
            kept = _kept[module] = cls(module)
        return kept

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of weights of all layers and directions."""
        return frozenset(self._kind(weights) for weights in self.weights)

    def _kind(self, weights: Weights) -> Kind:
        weight, spec = weights.weight_ih, self.spec
        return Kind(
            spec.cell, weight.shape[1], spec.hidden_size, spec.proj_size, spec.bias, weight.dtype, weight.device
        )

    @cached_property
    def is_onednn(self) -> bool:
        """Whether oneDNN's kernel runs all of the weights and a change of them can be noticed.

        A tensor made in inference mode has no version, so its changes cannot be noticed.
        """
        return (
            self.spec.cell == onednn_kernel.CELL
            and not any(tensor.is_inference() for _, tensor, _ in self._given)
            and all(map(onednn_kernel.supports, self.weights))
        )

    def reordered(self, batch: int) -> list[Weights]:
        """The weights as oneDNN's inference kernel reads them for a batch of this size, made again where one changed.

        A change is noticed as autograd does it: by the tensor's version, which a change through `tensor.data` skips.
        """
        is_lone, versions = batch == 1, [tensor._version for _, tensor, _ in self._given]  # noqa: SLF001 - it has no other name
        kept = self._reordered.get(is_lone)
        if kept is None or kept[0] != versions:
            reordered = [onednn_kernel.reordered(weights, batch) for weights in self.weights]
            kept = self._reordered[is_lone] = versions, reordered
        return kept[1]

    def is_current(self, module: nn.RNNBase) -> bool:
        """Whether the module still has these tensors at these places in memory."""
        parameters = module._parameters  # noqa: SLF001 - faster than attributes: it goes past nn.Module.__getattr__
        for name, tensor, place in self._given:
            if parameters.get(name) is not tensor or tensor.data_ptr() != place:
                return False
        return True


_kept: WeakKeyDictionary[nn.RNNBase, Parameters] = WeakKeyDictionary()
