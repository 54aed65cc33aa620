"""The GRU, and its variants: with other functions, or a reset gate that scales the state before the product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gatescope.cells.cell import Cell, Edit, Factor, Gate, Kept, Signal, Tensors, Term, Update, colour_scale
from gatescope.cells.functions import COMPLEMENT, SIGMOID, TANH, Function, Functions
from gatescope.weights import Weights

_BEFORE_CANDIDATE = ("reset_gate", "update_gate", "recurrent_candidate")


def gru(gate: Function, candidate: Function, *, reset_after: bool = True) -> Cell:
    """The GRU with these functions: of its two gates, and of the candidate.

    n_t = candidate(W_in·x_t + b_in + r_t⊙(W_hn·h_{t−1} + b_hn)), as PyTorch has it, or without `reset_after`
    n_t = candidate(W_in·x_t + b_in + W_hn·(r_t⊙h_{t−1}) + b_hn).
    """
    recurrent = (
        ("W_hn·h + b_hn", "the recurrent part of the candidate, before the reset gate scales it")
        if reset_after
        else ("W_hn·(r⊙h) + b_hn", "the recurrent part of the candidate, of the state that the reset gate has scaled")
    )
    scale, step = colour_scale(gate.low), _step_after if reset_after else _step_before
    return Cell(
        name="gru",
        module=nn.GRU,
        cell_module=nn.GRUCell,
        states=("hidden_state",),
        gates=(
            Gate("reset_gate", gate),
            Gate("update_gate", gate),
            Gate("candidate", candidate, recurrent_scale="reset_gate", scales_state=not reset_after),
        ),
        signals=(
            Signal(
                "reset_gate",
                "r",
                gate.low,
                gate.high,
                scale,
                "how much of the previous hidden state enters the candidate",
            ),
            Signal("update_gate", "z", gate.low, gate.high, scale, "how much of the previous hidden state remains"),
            Signal(
                "candidate",
                "n",
                candidate.low,
                candidate.high,
                colour_scale(candidate.low),
                "what replaces the rest of the hidden state",
            ),
            Signal("recurrent_candidate", recurrent[0], None, None, "diverging", recurrent[1], is_on_request=True),
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
        backends=("stepwise", "loop"),
        functions=Functions(candidate, gate, reset_after=reset_after),
        step=partial(step, gate, candidate),
        residual=_residual,
        stepwise=partial(_stepwise_after if reset_after else _stepwise_before, gate, candidate),
        residual_reads_previous=True,
    )


def _step_after(gate: Function, candidate: Function, x: Tensor, states: Tensors, weights: Weights) -> dict[str, Tensor]:
    """The four equations of https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html."""
    (h,) = states
    r_x, z_x, n_x = linear(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = linear(h, weights.weight_hh, weights.bias_hh).chunk(3, dim=-1)
    r = gate.apply(r_x + r_h)
    z = gate.apply(z_x + z_h)
    n = candidate.apply(n_x + r * n_h)
    h = (1 - z) * n + z * h
    return {"reset_gate": r, "update_gate": z, "candidate": n, "recurrent_candidate": n_h, "hidden_state": h}


def _step_before(
    gate: Function, candidate: Function, x: Tensor, states: Tensors, weights: Weights
) -> dict[str, Tensor]:
    """The equations of https://onnx.ai/onnx/operators/onnx__GRU.html with `linear_before_reset` 0."""
    (h,) = states
    r_x, z_x, n_x = linear(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=-1)
    (weight_r_z, weight_n), (bias_r_z, bias_n) = _split(weights)
    r_h, z_h = linear(h, weight_r_z, bias_r_z).chunk(2, dim=-1)
    r = gate.apply(r_x + r_h)
    z = gate.apply(z_x + z_h)
    n_h = linear(r * h, weight_n, bias_n)
    n = candidate.apply(n_x + n_h)
    h = (1 - z) * n + z * h
    return {"reset_gate": r, "update_gate": z, "candidate": n, "recurrent_candidate": n_h, "hidden_state": h}


def _split(weights: Weights) -> tuple[tuple[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]:
    """W_hh and b_hh of the two gates, and of the candidate."""
    sizes = [2 * weights.hidden_size, weights.hidden_size]
    weight_r_z, weight_n = weights.weight_hh.split_with_sizes(sizes)
    if weights.bias_hh is None:
        return (weight_r_z, weight_n), (None, None)
    bias_r_z, bias_n = weights.bias_hh.split_with_sizes(sizes)
    return (weight_r_z, weight_n), (bias_r_z, bias_n)


def _replay(weights: Weights, inputs: Tensor, initial: Tensors, hidden_state: Tensor) -> tuple[Tensors, Tensors]:
    """With every h_{t−1} known, the gates of all steps are two matrix products."""
    size = weights.hidden_size
    previous = torch.cat((initial[0], hidden_state[:-1]))  # h_{t−1}: (time, batch, H)
    gates = linear(inputs, weights.weight_ih, weights.bias_ih)  # (time, batch, 3H)
    recurrent = linear(previous, weights.weight_hh, weights.bias_hh)
    r_z, n = gates.split_with_sizes([2 * size, size], dim=-1)
    r_z_h, n_h = recurrent.split_with_sizes([2 * size, size], dim=-1)
    r_z.add_(r_z_h).sigmoid_()  # in place
    n.addcmul_(r_z[..., :size], n_h).tanh_()
    return (gates, n_h), (hidden_state,)


def _stepwise_after(
    gate: Function,
    candidate: Function,
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    kept: Kept,
    edit: Edit | None = None,
) -> tuple[Tensors, Tensors]:
    """The inputs' part of all gates is one matrix product; each step adds to it in place."""
    size, h = weights.hidden_size, initial[0][0]
    gates, n_h_kept, hidden_state, steps = _memory(weights, inputs, kept)
    recurrent = gates.new_empty(len(h), 3 * size)  # of one step; it stays in the cache
    r_z_h, n_h = recurrent.split_with_sizes([2 * size, size], dim=-1)
    weight, bias, write_gate, write_candidate = weights.weight_hh.T, weights.bias_hh, gate.write, candidate.write
    for step, (r_z_t, r_t, z_t, n_t, h_t, n_h_kept_t) in enumerate(steps):
        _multiply(h, weight, bias, recurrent)
        write_gate(r_z_t.add_(r_z_h), out=r_z_t)
        if edit is not None:
            for name, values in zip(_BEFORE_CANDIDATE, (r_t, z_t, n_h), strict=True):
                edit(step, name, values)
        if kept is Kept.ON_REQUEST:
            n_h_kept_t.copy_(n_h)
        write_candidate(n_t.addcmul_(r_t, n_h), out=n_t)
        if edit is not None:
            edit(step, "candidate", n_t)
        h = torch.lerp(n_t, h, z_t, out=h_t)
        if edit is not None:
            h = edit(step, "hidden_state", h)
    return (gates, n_h_kept), (hidden_state,)


def _stepwise_before(
    gate: Function,
    candidate: Function,
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    kept: Kept,
    edit: Edit | None = None,
) -> tuple[Tensors, Tensors]:
    """The same with two products a step: the candidate's waits for the reset gate."""
    size, h = weights.hidden_size, initial[0][0]
    gates, n_h_kept, hidden_state, steps = _memory(weights, inputs, kept)
    r_z_h, n_h = gates.new_empty(len(h), 2 * size), gates.new_empty(len(h), size)  # of one step
    (weight_r_z, weight_n), (bias_r_z, bias_n) = _split(weights)
    for step, (r_z_t, r_t, z_t, n_t, h_t, n_h_kept_t) in enumerate(steps):
        _multiply(h, weight_r_z.T, bias_r_z, r_z_h)
        gate.write(r_z_t.add_(r_z_h), out=r_z_t)
        if edit is not None:
            edit(step, "reset_gate", r_t)
            edit(step, "update_gate", z_t)
        _multiply(r_t * h, weight_n.T, bias_n, n_h)
        if edit is not None:
            edit(step, "recurrent_candidate", n_h)
        if kept is Kept.ON_REQUEST:
            n_h_kept_t.copy_(n_h)
        candidate.write(n_t.add_(n_h), out=n_t)
        if edit is not None:
            edit(step, "candidate", n_t)
        h = torch.lerp(n_t, h, z_t, out=h_t)
        if edit is not None:
            h = edit(step, "hidden_state", h)
    return (gates, n_h_kept), (hidden_state,)


def _memory(
    weights: Weights, inputs: Tensor, kept: Kept
) -> tuple[Tensor, Tensor, Tensor, Iterator[tuple[Tensor, ...]]]:
    """The gates' part of the inputs, memory for what is added, and views of both for each step.

    Returns:
        The gates (time, batch, 3H); recurrent_candidate (time, batch, H), or 0 wide; hidden_state (time, batch, H); and
        of each step r and z together, r, z, n, hidden_state and recurrent_candidate.
    """
    (time, batch, _), size = inputs.shape, weights.hidden_size
    gates = linear(inputs, weights.weight_ih, weights.bias_ih)
    widths = size, size if kept is Kept.ON_REQUEST else 0
    hidden_state, n_h_kept = (gates.new_empty(time, batch, width) for width in widths)
    r_z, n = gates.split_with_sizes([2 * size, size], dim=-1)
    r, z = r_z.chunk(2, dim=-1)
    steps = zip(*(values.unbind() for values in (r_z, r, z, n, hidden_state, n_h_kept)), strict=True)
    return gates, n_h_kept, hidden_state, steps


def _multiply(values: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    if bias is None:
        torch.mm(values, weight, out=into)
    else:
        torch.addmm(bias, values, weight, out=into)


def _residual(signals: Mapping[str, Tensor], previous: Tensors, _: Tensor | None) -> Tensor:
    """(1 − update_gate)·candidate + update_gate·hidden_state of the step before, minus hidden_state."""
    hidden_state, candidate = signals["hidden_state"], signals["candidate"]
    before = torch.cat((previous[0][None], hidden_state[:-1]))
    return torch.lerp(candidate, before, signals["update_gate"]).sub_(hidden_state)


GRU = replace(gru(SIGMOID, TANH), backends=("stepwise", "replay", "loop"), kernel=torch.gru, replay=_replay)
