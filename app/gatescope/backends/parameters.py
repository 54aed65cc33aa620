"""`Parameters`: what the kernels take of an `nn.LSTM`, made once and kept while the module has these tensors."""

from __future__ import annotations

from functools import cached_property
from weakref import WeakKeyDictionary

from torch import nn

from gatescope.backends import onednn_kernel
from gatescope.spec import Spec
from gatescope.weights import Kind, Weights


class Parameters:
    """The spec of one `nn.LSTM` and its weights without their gradients.

    The weights share the module's memory, so a value that changes there changes here.
    """

    def __init__(self, module: nn.LSTM) -> None:
        self.spec = Spec.from_module(module)
        layers, directions = range(self.spec.num_layers), self.spec.directions
        given = [Weights.of(module, layer, direction) for layer in layers for direction in directions]
        self.weights = [weights.detached() for weights in given]
        """Of every layer and direction, as `nn.LSTM` orders its states."""
        tensors = (tensor for weights in given for tensor in weights.flat())
        named = zip(self.spec.parameter_shapes(), tensors, strict=True)
        self._given = [(name, tensor, tensor.data_ptr()) for name, tensor in named]
        self._packed: dict[bool, tuple[list[int], list[Weights]]] = {}

    @classmethod
    def of(cls, module: nn.LSTM) -> Parameters:
        """Those of this module as they stand: a tensor that was replaced or moved is noticed."""
        kept = _kept.get(module)
        if kept is None or not kept.are_of(module):
            kept = _kept[module] = cls(module)
        return kept

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """What kinds of weights there are."""
        return frozenset(weights.kind for weights in self.weights)

    @cached_property
    def are_onednns(self) -> bool:
        """Whether oneDNN's kernels run all of them, and they say when they change: tensors of inference mode do not."""
        return not any(tensor.is_inference() for _, tensor, _ in self._given) and all(
            map(onednn_kernel.supports, self.weights)
        )

    def packed(self, batch: int) -> list[Weights]:
        """The weights as oneDNN's inference kernel reads them for a batch of this size, made anew where one changed.

        A change is noticed as autograd does it: by the tensor's version, which `tensor.data` goes behind.
        """
        alone, versions = batch == 1, [tensor._version for _, tensor, _ in self._given]  # noqa: SLF001 - it has no other name
        kept = self._packed.get(alone)
        if kept is None or kept[0] != versions:
            packed = [onednn_kernel.packed(weights, batch) for weights in self.weights]
            kept = self._packed[alone] = versions, packed
        return kept[1]

    def are_of(self, module: nn.LSTM) -> bool:
        """Whether they still are."""
        there = module._parameters  # noqa: SLF001 - what a module finds its parameters in, without its detours
        for name, tensor, place in self._given:
            if there.get(name) is not tensor or tensor.data_ptr() != place:
                return False
        return True


_kept: WeakKeyDictionary[nn.LSTM, Parameters] = WeakKeyDictionary()
