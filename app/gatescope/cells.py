"""Recurrent cells as data: their states, gates and signals, and their equations.

A `Cell` holds everything that differs from one cell to another. The rest of the library asks it for names, sizes and
ranges, and calls its functions. A further cell is one more value in `CELLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import torch
from torch import Tensor, nn

from gatescope.weights import Weights

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Function:
    """A function of one number: its name, how to compute it, and how a formula spells it."""

    name: str
    apply: Callable[[Tensor], Tensor]
    spelling: str  # such as "tanh({})"


def _complement(value: Tensor) -> Tensor:
    return 1 - value


SIGMOID = Function("sigmoid", torch.sigmoid, "sigmoid({})")
TANH = Function("tanh", torch.tanh, "tanh({})")
RELU = Function("relu", torch.relu, "relu({})")
COMPLEMENT = Function("complement", _complement, "(1 − {})")


@dataclass(frozen=True)
class Signal:
    """One quantity that a trace shows."""

    name: str
    symbol: str
    low: float | None  # None: there is no lower bound
    high: float | None
    colour_scale: Literal["sequential", "diverging"]
    description: str
    is_projected: bool = False  # with `proj_size` it has that width and no bounds
    is_on_request: bool = False  # a trace holds it only if it is asked for by name


@dataclass(frozen=True)
class Gate:
    """One row block of the weights: activation(W_i·x_t + b_i + scale·(W_h·h_{t−1} + b_h))."""

    name: str  # of its signal
    activation: Function
    recurrent_scale: str | None = None  # the gate whose value is `scale`; None: 1


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


@dataclass(frozen=True, repr=False)
class Cell:
    """A recurrent cell.

    The functions take and return these tensors; the state tensors stand in the order of `states`:

    - `kernel(inputs, hx, parameters, has_biases, …)` is PyTorch's fused kernel, such as `torch.lstm`.
    - `step(x, states, weights)` computes one time step: x (batch, feature), states (batch, unit) each. It returns every
      signal (batch, unit) by name. It is the oracle of the tests, and is called in float64 there.
    - `replay(weights, inputs, initial, hidden_state)` computes what the kernel hid: inputs (time, batch, feature),
      initial states (1, batch, unit) each, and the kernel's hidden_state (time, batch, unit). It returns the tensors
      of `blocks` and the states at every step (time, batch, unit).
    - `stepwise(weights, inputs, initial, on_request)` computes the same without the kernel, step by step, each value
      where the trace keeps it; None where there is a faster way. Without `on_request`, a block that holds only signals
      on request may be empty, (time, batch, 0).
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
    kernel: Callable[..., tuple[Tensor, ...]]
    step: Callable[[Tensor, Tensors, Weights], dict[str, Tensor]]
    replay: Callable[[Weights, Tensor, Tensors, Tensor], tuple[Tensors, Tensors]]
    residual: Callable[[Mapping[str, Tensor], Tensors, Tensor | None], Tensor]
    stepwise: Callable[[Weights, Tensor, Tensors, bool], tuple[Tensors, Tensors]] | None = None
    residual_reads_previous: bool = False
    nonlinearity: str | None = None  # the argument of this name, which weights do not show

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Cell({self.name!r})" if self.nonlinearity is None else f"Cell({self.name!r}, {self.nonlinearity!r})"

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


def _lstm_step(x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    """The six equations of https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html."""
    h, c = states
    z = x @ weights.weight_ih.T + h @ weights.weight_hh.T  # (batch, 4H)
    if weights.bias_ih is not None and weights.bias_hh is not None:
        z = z + weights.bias_ih + weights.bias_hh
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i = torch.sigmoid(z_i)
    f = torch.sigmoid(z_f)
    g = torch.tanh(z_g)
    o = torch.sigmoid(z_o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    if weights.weight_hr is not None:
        h = h @ weights.weight_hr.T
    return {
        "input_gate": i,
        "forget_gate": f,
        "cell_candidate": g,
        "output_gate": o,
        "cell_state": c,
        "hidden_state": h,
    }


def _lstm_replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, the gates of all steps are one matrix product; only the cell state is scanned."""
    h0, c0 = initial
    previous = torch.cat((h0, hidden_state[:-1]))  # h_{t−1}: (time, batch, P)
    z = torch.matmul(inputs, weights.weight_ih.T)  # (time, batch, 4H)
    z += torch.matmul(previous, weights.weight_hh.T)
    if weights.bias is not None:
        z += weights.bias
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i, f, g = z_i.sigmoid_(), z_f.sigmoid_(), z_g.tanh_()  # in place: (time, batch, H)
    z_o.sigmoid_()
    return (z,), (hidden_state, _scan(f, i * g, c0[0]))


def _scan(decay: Tensor, added: Tensor, initial: Tensor) -> Tensor:
    """s_t = decay_t·s_{t−1} + added_t over (time, batch, unit), from `initial` (batch, unit); written into `added`."""
    state = initial
    for factor, value in zip(decay.unbind(), added.unbind(), strict=True):
        state = value.addcmul_(factor, state)
    return added


def _lstm_residual(signals: Mapping[str, Tensor], _: Tensors, weight_hr: Tensor | None) -> Tensor:
    """output_gate·tanh(cell_state), projected, minus hidden_state."""
    rebuilt = _tanh(signals["cell_state"]).mul_(signals["output_gate"])
    if weight_hr is not None:
        rebuilt = rebuilt @ weight_hr.T
    return rebuilt.sub_(signals["hidden_state"])


def _tanh(values: Tensor) -> Tensor:
    """2σ(2x) − 1 in float32 and float64: tanh(x) to rounding, in a third of the time that torch takes for tanh."""
    if values.dtype in (torch.float32, torch.float64):
        return (2 * values).sigmoid_().mul_(2).sub_(1)
    return values.tanh()


def _gru_step(x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    """The four equations of https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html."""
    (h,) = states
    r_x, z_x, n_x = _product(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = _product(h, weights.weight_hh, weights.bias_hh).chunk(3, dim=-1)
    r = torch.sigmoid(r_x + r_h)
    z = torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    h = (1 - z) * n + z * h
    return {"reset_gate": r, "update_gate": z, "candidate": n, "recurrent_candidate": n_h, "hidden_state": h}


def _gru_replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, the gates of all steps are two matrix products."""
    size = weights.hidden_size
    previous = torch.cat((initial[0], hidden_state[:-1]))  # h_{t−1}: (time, batch, H)
    gates = _product(inputs, weights.weight_ih, weights.bias_ih)  # (time, batch, 3H)
    recurrent = _product(previous, weights.weight_hh, weights.bias_hh)
    r_z, n = gates.split_with_sizes([2 * size, size], dim=-1)
    r_z_h, n_h = recurrent.split_with_sizes([2 * size, size], dim=-1)
    r_z.add_(r_z_h).sigmoid_()  # in place
    n.addcmul_(r_z[..., :size], n_h).tanh_()
    return (gates, n_h), (hidden_state,)


def _gru_stepwise(
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    on_request: bool,  # noqa: FBT001 - as the cell's field has it
) -> tuple[Tensors, Tensors]:
    """The inputs' part of all gates is one matrix product; each step adds to it in place."""
    (time, batch, _), size = inputs.shape, weights.hidden_size
    gates = _product(inputs, weights.weight_ih, weights.bias_ih)  # (time, batch, 3H)
    hidden_state, kept = (gates.new_empty(time, batch, width) for width in (size, size if on_request else 0))
    recurrent = gates.new_empty(batch, 3 * size)  # of one step; it stays in the cache
    r_z_h, n_h = recurrent.split_with_sizes([2 * size, size], dim=-1)
    weight, bias, h = weights.weight_hh.T, weights.bias_hh, initial[0][0]
    r_z, n = gates.split_with_sizes([2 * size, size], dim=-1)
    r, z = r_z.chunk(2, dim=-1)
    steps = zip(*(values.unbind() for values in (r_z, r, z, n, hidden_state, kept)), strict=True)
    for r_z_t, r_t, z_t, n_t, h_t, kept_t in steps:
        if bias is None:
            torch.mm(h, weight, out=recurrent)
        else:
            torch.addmm(bias, h, weight, out=recurrent)
        if on_request:
            kept_t.copy_(n_h)
        r_z_t.add_(r_z_h).sigmoid_()
        n_t.addcmul_(r_t, n_h).tanh_()
        h = torch.lerp(n_t, h, z_t, out=h_t)
    return (gates, kept), (hidden_state,)


def _gru_residual(signals: Mapping[str, Tensor], previous: Tensors, _: Tensor | None) -> Tensor:
    """(1 − update_gate)·candidate + update_gate·hidden_state of the step before, minus hidden_state."""
    hidden_state, candidate = signals["hidden_state"], signals["candidate"]
    before = torch.cat((previous[0][None], hidden_state[:-1]))
    return torch.lerp(candidate, before, signals["update_gate"]).sub_(hidden_state)


def _rnn_step(function: Function, x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    """The equation of https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html."""
    z = _product(x, weights.weight_ih, weights.bias_ih) + _product(states[0], weights.weight_hh, weights.bias_hh)
    return {"pre_activation": z, "hidden_state": function.apply(z)}


def _rnn_tanh_step(x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    return _rnn_step(TANH, x, states, weights)


def _rnn_relu_step(x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    return _rnn_step(RELU, x, states, weights)


def _rnn_replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, what stands within the function is two matrix products."""
    previous = torch.cat((initial[0], hidden_state[:-1]))  # h_{t−1}: (time, batch, H)
    z = _product(inputs, weights.weight_ih, weights.bias)
    z.flatten(0, 1).addmm_(previous.flatten(0, 1), weights.weight_hh.T)
    return (z,), (hidden_state,)


def _rnn_stepwise(
    function: Callable[..., Tensor], weights: Weights, inputs: Tensor, initial: Tensors
) -> tuple[Tensors, Tensors]:
    """The inputs' part of all steps is one matrix product; each step adds to it in place."""
    (time, batch, _), weight, h = inputs.shape, weights.weight_hh.T, initial[0][0]
    z = _product(inputs, weights.weight_ih, weights.bias)  # (time, batch, H)
    hidden_state = z.new_empty(time, batch, weights.hidden_size)
    for z_t, h_t in zip(z.unbind(), hidden_state.unbind(), strict=True):
        h = function(z_t.addmm_(h, weight), out=h_t)
    return (z,), (hidden_state,)


def _rnn_tanh_stepwise(
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    _: bool,  # noqa: FBT001 - as the cell's field has it
) -> tuple[Tensors, Tensors]:
    return _rnn_stepwise(torch.tanh, weights, inputs, initial)


def _rnn_relu_stepwise(
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    _: bool,  # noqa: FBT001 - as the cell's field has it
) -> tuple[Tensors, Tensors]:
    return _rnn_stepwise(partial(torch.clamp_min, min=0), weights, inputs, initial)


def _rnn_tanh_residual(signals: Mapping[str, Tensor], _: Tensors, __: Tensor | None) -> Tensor:
    """tanh(pre_activation) minus hidden_state."""
    return _tanh(signals["pre_activation"]).sub_(signals["hidden_state"])


def _rnn_relu_residual(signals: Mapping[str, Tensor], _: Tensors, __: Tensor | None) -> Tensor:
    """relu(pre_activation) minus hidden_state."""
    return torch.relu(signals["pre_activation"]).sub_(signals["hidden_state"])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b: (…, in) -> (…, out)."""
    return torch.nn.functional.linear(x, weight, bias)


LSTM = Cell(
    name="lstm",
    module=nn.LSTM,
    cell_module=nn.LSTMCell,
    states=("hidden_state", "cell_state"),
    gates=(
        Gate("input_gate", SIGMOID),
        Gate("forget_gate", SIGMOID),
        Gate("cell_candidate", TANH),
        Gate("output_gate", SIGMOID),
    ),
    signals=(
        Signal("input_gate", "i", 0, 1, "sequential", "how much of the candidate is added to the cell state"),
        Signal("forget_gate", "f", 0, 1, "sequential", "how much of the previous cell state remains"),
        Signal("cell_candidate", "g", -1, 1, "diverging", "what the input gate lets into the cell state"),
        Signal("output_gate", "o", 0, 1, "sequential", "how much of tanh(cell state) becomes the hidden state"),
        Signal("cell_state", "c", None, None, "diverging", "the memory: c_t = f_t·c_{t−1} + i_t·g_t"),
        Signal("hidden_state", "h", -1, 1, "diverging", "the output: h_t = o_t·tanh(c_t)", is_projected=True),
    ),
    updates=(
        Update(
            "cell_state",
            (
                Term("forget_term", (Factor("forget_gate"), Factor("cell_state", is_previous=True))),
                Term("input_term", (Factor("input_gate"), Factor("cell_candidate"))),
            ),
        ),
        Update("hidden_state", (Term("output_term", (Factor("output_gate"), Factor("cell_state", function=TANH))),)),
    ),
    blocks=(("input_gate", "forget_gate", "cell_candidate", "output_gate"),),
    residual_signals=("output_gate", "cell_state", "hidden_state"),
    backends=("workspace", "replay", "loop"),
    kernel=torch.lstm,
    step=_lstm_step,
    replay=_lstm_replay,
    residual=_lstm_residual,
)

GRU = Cell(
    name="gru",
    module=nn.GRU,
    cell_module=nn.GRUCell,
    states=("hidden_state",),
    gates=(
        Gate("reset_gate", SIGMOID),
        Gate("update_gate", SIGMOID),
        Gate("candidate", TANH, recurrent_scale="reset_gate"),
    ),
    signals=(
        Signal("reset_gate", "r", 0, 1, "sequential", "how much of the previous hidden state enters the candidate"),
        Signal("update_gate", "z", 0, 1, "sequential", "how much of the previous hidden state remains"),
        Signal("candidate", "n", -1, 1, "diverging", "what replaces the rest of the hidden state"),
        Signal(
            "recurrent_candidate",
            "W_hn·h + b_hn",
            None,
            None,
            "diverging",
            "the recurrent part of the candidate, before the reset gate scales it",
            is_on_request=True,
        ),
        Signal("hidden_state", "h", None, None, "diverging", "the output: h_t = (1 − z_t)·n_t + z_t·h_{t−1}"),
    ),
    updates=(
        Update(
            "hidden_state",
            (
                Term("candidate_term", (Factor("update_gate", function=COMPLEMENT), Factor("candidate"))),
                Term("carried_term", (Factor("update_gate"), Factor("hidden_state", is_previous=True))),
            ),
        ),
    ),
    blocks=(("reset_gate", "update_gate", "candidate"), ("recurrent_candidate",)),
    residual_signals=("update_gate", "candidate", "hidden_state"),
    backends=("stepwise", "replay", "loop"),
    kernel=torch.gru,
    step=_gru_step,
    replay=_gru_replay,
    residual=_gru_residual,
    stepwise=_gru_stepwise,
    residual_reads_previous=True,
)


_PRE_ACTIVATION = Signal(
    "pre_activation",
    "z",
    None,
    None,
    "diverging",
    "W_ih·x + b_ih + W_hh·h + b_hh, before the function",
    is_on_request=True,
)

RNN = Cell(
    name="rnn",
    module=nn.RNN,
    cell_module=nn.RNNCell,
    states=("hidden_state",),
    gates=(Gate("hidden_state", TANH),),
    signals=(
        _PRE_ACTIVATION,
        Signal("hidden_state", "h", -1, 1, "diverging", "the output: h_t = tanh(z_t)"),
    ),
    updates=(),
    blocks=(("pre_activation",),),
    residual_signals=("pre_activation", "hidden_state"),
    backends=("stepwise", "replay", "loop"),
    kernel=torch.rnn_tanh,
    step=_rnn_tanh_step,
    replay=_rnn_replay,
    residual=_rnn_tanh_residual,
    stepwise=_rnn_tanh_stepwise,
    nonlinearity="tanh",
)

RNN_RELU = replace(
    RNN,
    gates=(Gate("hidden_state", RELU),),
    signals=(
        _PRE_ACTIVATION,
        Signal("hidden_state", "h", 0, None, "sequential", "the output: h_t = relu(z_t)"),
    ),
    kernel=torch.rnn_relu,
    step=_rnn_relu_step,
    residual=_rnn_relu_residual,
    stepwise=_rnn_relu_stepwise,
    nonlinearity="relu",
)

CELLS: tuple[Cell, ...] = (LSTM, GRU, RNN, RNN_RELU)

SIGNAL_NAMES = tuple(dict.fromkeys(name for cell in CELLS for name in cell.signal_names))
"""Every signal of any cell."""


def cell_of(module: nn.Module) -> Cell:
    """The cell of this module.

    Raises:
        TypeError: it is no module of a known cell.
    """
    for cell in CELLS:
        if isinstance(module, cell.module) and cell.nonlinearity == getattr(module, "nonlinearity", None):
            return cell
    known = " or ".join(dict.fromkeys(f"nn.{cell.module.__name__}" for cell in CELLS))
    raise TypeError(f"a recurrent module must be an {known}, not {type(module).__name__}")
