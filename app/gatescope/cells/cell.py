"""`Cell`: a recurrent cell as data, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Literal

from torch import Tensor, nn

from gatescope.cells.functions import Function, Functions
from gatescope.weights import Weights

Tensors = tuple[Tensor, ...]

ColourScale = Literal["sequential", "diverging"]

Edit = Callable[[int, str, Tensor], Tensor]
"""`edit(step, signal, values)` changes a signal (batch, unit) of a step in place; it returns what the cell reads on.

That is another tensor for a hidden state only, where the next step reads other values than whoever is above.
"""


@dataclass(frozen=True)
class Signal:
    """One quantity that a trace shows."""

    name: str
    symbol: str
    low: float | None  # None: there is no lower bound
    high: float | None
    colour_scale: ColourScale
    description: str
    is_projected: bool = False  # with `proj_size` it has that width and no bounds
    is_on_request: bool = False  # a trace holds it only if it is asked for by name


@dataclass(frozen=True)
class Gate:
    """One row block of the weights: activation(W_i·x_t + b_i + scale·(W_h·h_{t−1} + b_h)).

    With `scales_state`, the scale of each unit multiplies that unit of h_{t−1}, before the product:
    activation(W_i·x_t + b_i + W_h·(scale⊙h_{t−1}) + b_h).
    """

    name: str  # of its signal
    activation: Function
    recurrent_scale: str | None = None  # the gate whose value is `scale`; None: 1
    scales_state: bool = False


@dataclass(frozen=True)
class Factor:
    """One factor of a term: a gate or a state, or a function of it."""

    name: str
    is_previous: bool = False  # of the step before
    function: Function | None = None


@dataclass(frozen=True)
class Term:
    """One term of a state's equation: the product of its factors."""

    name: str
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class Update:
    """The equation of one state: the sum of its terms."""

    state: str
    terms: tuple[Term, ...]


class Kept(IntEnum):
    """What `Cell.stepwise` keeps of every step; each has what stands before it, too."""

    STATES = 0
    SIGNALS = 1
    ON_REQUEST = 2
    """Also the signals that a trace holds only on request."""


@dataclass(frozen=True, repr=False, eq=False)
class Cell:
    """A recurrent cell; two of one name and the same functions are the same cell.

    The functions take and return these tensors; the state tensors stand in the order of `states`:

    - `kernel(inputs, hx, parameters, has_biases, …)` is PyTorch's fused kernel, such as `torch.lstm`; None of a
      variant, whose functions no kernel has.
    - `step(x, states, weights)` computes one time step: x (batch, feature), states (batch, unit) each. It returns every
      signal (batch, unit) by name. It is the oracle of the tests, and is called in float64 there.
    - `replay(weights, inputs, initial, hidden_state)` computes what the kernel hid: inputs (time, batch, feature),
      initial states (1, batch, unit) each, and the kernel's hidden_state (time, batch, unit). It returns the tensors
      of `blocks` and the states at every step (time, batch, unit). None where there is no kernel.
    - `stepwise(weights, inputs, initial, kept, edit)` computes the same without the kernel, step by step, each value
      where the trace keeps it. A block of which nothing is `kept` may be empty, (time, batch, 0). Where there is an
      `edit`, it is called with each signal before an equation reads it.
    - `residual(signals, previous, weight_hr)` returns the kernel's hidden_state minus the one that the equations give
      for these signals, (time, batch, unit). `previous` are the states (batch, unit) before the first of these steps;
      it is empty unless `residual_reads_previous`.
    """

    name: str
    module: type[nn.RNNBase]
    cell_module: type[nn.RNNCellBase]  # the same, one step at a time
    states: tuple[str, ...]  # the hidden state first, as `module` returns them
    gates: tuple[Gate, ...]  # in the order of PyTorch's row blocks
    signals: tuple[Signal, ...]  # in the order in which they are shown
    updates: tuple[Update, ...]  # in the order in which they are computed
    blocks: tuple[tuple[str, ...], ...]  # signals that lie side by side in one tensor of a chunk; the states lie alone
    residual_signals: tuple[str, ...]  # what `residual` reads
    backends: tuple[str, ...]  # those that can trace this cell, the fastest first
    functions: Functions
    step: Callable[[Tensor, Tensors, Weights], dict[str, Tensor]]
    residual: Callable[[Mapping[str, Tensor], Tensors, Tensor | None], Tensor]
    stepwise: Callable[[Weights, Tensor, Tensors, Kept, Edit | None], tuple[Tensors, Tensors]]
    kernel: Callable[..., tuple[Tensor, ...]] | None = None
    replay: Callable[[Weights, Tensor, Tensors, Tensor], tuple[Tensors, Tensors]] | None = None
    residual_reads_previous: bool = False
    nonlinearity: str | None = None  # the argument of this name, which weights do not show

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Cell) and (self.name, self.functions) == (other.name, other.functions)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        stated = ", ".join(f"{name}={value!r}" for name, value in self.stated.items())
        return f"Cell({self.name!r}{', ' if stated else ''}{stated})"

    @property
    def is_variant(self) -> bool:
        """Whether its functions are not PyTorch's."""
        return self.kernel is None

    @cached_property
    def stated(self) -> dict[str, str | bool]:
        """What of its functions weights do not show, as a manifest states it; empty where it is the usual."""
        if not self.is_variant:
            return {} if self.nonlinearity is None else {"nonlinearity": self.nonlinearity}
        gate, candidate, output = self.functions.gate, self.functions.candidate, self.functions.output
        stated: dict[str, str | bool] = {"activation": candidate.name}
        if gate is not None:
            stated["recurrent_activation"] = gate.name
        if output not in (None, candidate):
            stated["output_activation"] = output.name
        if self.functions.reset_after is False:
            stated["reset_after"] = False
        return stated

    @cached_property
    def signal_names(self) -> tuple[str, ...]:
        """Every signal that can be asked for."""
        return tuple(signal.name for signal in self.signals)

    @cached_property
    def default_signal_names(self) -> tuple[str, ...]:
        """The signals of a trace that names none."""
        return tuple(signal.name for signal in self.signals if not signal.is_on_request)

    def is_projected(self, name: str) -> bool:
        """Whether `proj_size` gives this signal another width."""
        return any(signal.is_projected for signal in self.signals if signal.name == name)

    @cached_property
    def layout(self) -> tuple[tuple[str, ...], ...]:
        """The signals that lie in each tensor of a chunk: those of `blocks`, then the states."""
        return (*self.blocks, *((state,) for state in self.states))


def colour_scale(low: float | None) -> ColourScale:
    """From nothing to all where no value is below 0; else around 0."""
    return "sequential" if low is not None and low >= 0 else "diverging"
