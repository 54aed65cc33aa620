"""`lstm`, `gru` and `rnn`: recurrent modules, whose arguments are inferred from their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, model_validator
from torch import Tensor, nn

from gatescope.cells import GRU, LSTM, RNN, RNN_RELU, Cell, Function, function_named, variant
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.config import Config
from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter
from gatescope.spec import Spec
from gatescope.state import State

_ENTRIES = 2  # axes of a learned state: (layers · directions, size)


class Stated(Config):
    """Arguments of a recurrent module; they are inferred from the weights, and what is stated must agree."""

    input_size: int | None = None
    """Width of its input."""
    hidden_size: int | None = None
    """Width of the cell state."""
    num_layers: int | None = None
    """How many layers are stacked."""
    bias: bool | None = None
    """Whether there are biases."""
    bidirectional: bool | None = None
    """Whether it reads both ways."""
    proj_size: int | None = None
    """Width of the projected hidden state; 0 without a projection."""

    def check(self, name: str, spec: Spec) -> None:
        """Raise `ManifestError` where the weights say otherwise."""
        for argument in Stated.model_fields:
            value = getattr(self, argument)
            if value is not None and value != getattr(spec, argument):
                raise ManifestError(
                    f"the manifest says {name}.{argument} = {value}, but the weights say "
                    f"{argument} = {getattr(spec, argument)}"
                )


def _known(name: str) -> str:
    function_named(name)
    return name


FunctionName = Annotated[str, AfterValidator(_known)]
"""The name of a function, such as `tanh` or `hard_sigmoid(1/6, 0.5)`."""


def _function(name: str | None) -> Function | None:
    return None if name is None else function_named(name)


class RecurrentConfig(LayerConfig, Stated):
    """What every recurrent layer may state."""

    initial_hidden_state: str | None = None
    """The full name of the weight that is h_0, where it is learned: (layers · directions, 1, size); else zeros."""

    @property
    def cell(self) -> Cell:
        """Of the module."""
        raise NotImplementedError

    @property
    def learned_states(self) -> dict[str, str | None]:
        """State -> the full name of the weight that is its learned initial value, None where that is zeros."""
        return {state: getattr(self, f"initial_{state}") for state in self.cell.states}

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer."""
        shape = self.only(given, sequence=True)
        own = {f"{name}_l0" if name in _OF_A_STEP else name: value for name, value in weights.below().items()}
        spec = self._spec(own)
        stored = {name.removesuffix("_l0") if _is_stepped(weights) else name for name in spec.parameter_shapes()}
        for name in stored:
            weights.anywhere(weights.full(name))
        self.check(self.name, spec)
        if spec.cell.is_variant and spec.proj_size:
            raise ManifestError(
                f"layer '{self.name}' has a projection (weight_hr), which goes with the functions of nn.LSTM only: "
                "leave activation, recurrent_activation and output_activation out"
            )
        if spec.input_size != shape.width:
            raise ManifestError(
                f"layer '{self.name}' is given {shape.width} values a time step, but the weights' "
                f"nn.{spec.cell.module.__name__} has input_size {spec.input_size}"
            )
        with torch.device("meta"):  # not filled with random numbers first
            module = spec.build()
        module.load_state_dict({name: parameter(own[name]) for name in spec.parameter_shapes()}, assign=True)
        module.requires_grad_(requires_grad=False)
        learned = [self._learned(weights, spec, state) for state in spec.cell.states]
        made = replace(shape.numbered(self.name, spec.output_size), directions=spec.num_directions)
        return Recurrent(module, spec, learned, made)

    def _spec(self, own: Mapping[str, Tensor]) -> Spec:
        try:
            spec = Spec.from_state_dict(own)
        except WeightsError as error:
            raise WeightsError(f"layer '{self.name}': {error}") from None
        if spec.cell.name != self.cell.name:
            raise WeightsError(
                f"layer '{self.name}' is of type {self.cell.name}, but its weights are those of an "
                f"nn.{spec.cell.module.__name__}"
            )
        return replace(spec, cell=self.cell)

    def _learned(self, weights: Weights, spec: Spec, state: str) -> Tensor | None:
        name = self.learned_states[state]
        if name is None:
            return None
        value = weights.anywhere(name)
        shape = spec.state_shapes(1)[state]
        if value.numel() != shape[0] * shape[2]:
            raise WeightsError(
                f"'{name}' has shape {list(value.shape)}, but the {state} of layer '{self.name}' has {list(shape)}"
            )
        return value.reshape(shape)


class LSTMConfig(RecurrentConfig):
    """`nn.LSTM`, or an `nn.LSTMCell` called at every step, of whatever arguments its weights show."""

    type: Literal["lstm"]
    """`lstm`."""

    initial_cell_state: str | None = None
    """The full name of the weight that is c_0, where it is learned."""

    activation: FunctionName | None = None
    """The function of the candidate and of the cell state; `tanh` when left out."""

    recurrent_activation: FunctionName | None = None
    """The function of the gates; `sigmoid` when left out."""

    output_activation: FunctionName | None = None
    """The function of the cell state, where it is not `activation`."""

    @property
    def cell(self) -> Cell:
        """The LSTM with these functions."""
        candidate, gate = _function(self.activation), _function(self.recurrent_activation)
        return variant(LSTM, gate=gate, candidate=candidate, output=_function(self.output_activation) or candidate)


class GRUConfig(RecurrentConfig):
    """`nn.GRU`, or an `nn.GRUCell` called at every step, of whatever arguments its weights show."""

    type: Literal["gru"]
    """`gru`."""

    activation: FunctionName | None = None
    """The function of the candidate; `tanh` when left out."""

    recurrent_activation: FunctionName | None = None
    """The function of the gates; `sigmoid` when left out."""

    reset_after: bool = True
    """Whether the reset gate scales W_hn·h + b_hn, as in PyTorch; if not, it scales h before the product."""

    @property
    def cell(self) -> Cell:
        """The GRU with these functions."""
        candidate, gate = _function(self.activation), _function(self.recurrent_activation)
        return variant(GRU, gate=gate, candidate=candidate, reset_after=self.reset_after)


class RNNConfig(RecurrentConfig):
    """`nn.RNN`, or an `nn.RNNCell` called at every step, of whatever arguments its weights show."""

    type: Literal["rnn"]
    """`rnn`."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"
    """Its function, which weights do not show."""

    activation: FunctionName | None = None
    """Its function, in place of `nonlinearity`, where `nn.RNN` does not have it."""

    @property
    def cell(self) -> Cell:
        """The plain recurrent network with this function."""
        return variant(RNN if self.nonlinearity == "tanh" else RNN_RELU, candidate=_function(self.activation))

    @model_validator(mode="after")
    def _one_function(self) -> Self:
        if self.activation is not None and "nonlinearity" in self.model_fields_set:
            raise ValueError("give its function as either `nonlinearity` or `activation`")
        return self


_OF_A_STEP = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh"})
"""The weights of an `nn.LSTMCell` and the like, which is an `nn.LSTM` of one layer, stepped."""


def _is_stepped(weights: Weights) -> bool:
    return "weight_ih" in weights.below()


class Recurrent(Layer):
    """A recurrent module and the state that it starts from."""

    def __init__(self, module: nn.RNNBase, spec: Spec, learned: Sequence[Tensor | None], shape: Shape) -> None:
        super().__init__()
        self.module, self.spec, self.shape = module, spec, shape
        self._has_learned = any(value is not None for value in learned)
        if self._has_learned:
            shapes = spec.state_shapes(1).values()
            self._learned = nn.ParameterList(
                parameter(torch.zeros(size) if value is None else value)
                for value, size in zip(learned, shapes, strict=True)
            )

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:
        """Not called: a graph runs the module itself, whose state it carries."""
        raise NotImplementedError

    def initial_state(self, rows: int) -> State | None:
        """The learned state that each of so many sequences starts from; None where that is zeros."""
        if not self._has_learned:
            return None
        return State(*(value.expand(-1, rows, -1).contiguous() for value in self._learned))
