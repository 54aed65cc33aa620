"""Edited runs by hand: one sequence, one step and one equation at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

Number = np.ndarray


def sigmoid(values: Number) -> Number:
    return 1 / (1 + np.exp(-values))


@dataclass
class Edit:
    """What becomes of some units of a signal: `becomes(value, input step, value of the step before)`."""

    signal: str
    layer: int
    direction: str
    units: list[int]
    steps: range
    becomes: Callable[[Number, int, Number], Number]
    scope: str = "both"


@dataclass
class ByHand:
    """What a run gives: signals by (layer, direction) and name, each (time, unit) in input time."""

    signals: dict[tuple[int, str], dict[str, Number]] = field(default_factory=dict)
    output: Number = field(default_factory=lambda: np.zeros(0))
    final: dict[tuple[int, str], list[Number]] = field(default_factory=dict)


def run(module: nn.RNNBase, sequence: torch.Tensor, edits: list[Edit]) -> ByHand:
    """One sequence (time, feature) from zeros."""
    result, below = ByHand(), sequence.double().numpy()
    for layer in range(module.num_layers):
        outputs = []
        for direction in ("forward", "reverse")[: 1 + module.bidirectional]:
            own = [edit for edit in edits if (edit.layer, edit.direction) == (layer, direction)]
            signals, final = _direction(module, layer, direction, below, own)
            result.signals[layer, direction], result.final[layer, direction] = signals, final
            outputs.append(signals["hidden_state"])
        below = np.concatenate(outputs, axis=-1)
    result.output = below
    return result


def _direction(
    module: nn.RNNBase, layer: int, direction: str, inputs: Number, edits: list[Edit]
) -> tuple[dict[str, Number], list[Number]]:
    suffix = f"l{layer}" + "_reverse" * (direction == "reverse")
    own = {
        name.removesuffix(f"_{suffix}"): value.detach().double().numpy()
        for name, value in module.named_parameters()
        if name.endswith(f"_{suffix}")
    }
    order = range(len(inputs)) if direction == "forward" else range(len(inputs) - 1, -1, -1)
    size = module.proj_size or module.hidden_size
    h, c = np.zeros(size), np.zeros(module.hidden_size)
    kept: dict[int, dict[str, Number]] = {}
    before = {"hidden_state": h, "cell_state": c, "read": h}
    for t in order:
        now: dict[str, Number] = {}

        def edited(
            name: str,
            value: Number,
            reader: str = "both",
            key: str = "",
            t: int = t,
            now: dict = now,
            before: dict = before,
        ) -> Number:
            value = value.copy()
            for edit in edits:
                if edit.signal == name and t in edit.steps and (reader == "both" or edit.scope in (reader, "both")):
                    previous = before.get(key or name)
                    was = value[edit.units]
                    value[edit.units] = edit.becomes(was, t, None if previous is None else previous[edit.units])
            now[key or name] = value
            return value

        x = own["weight_ih"] @ inputs[t] + own.get("bias_ih", 0)
        if isinstance(module, nn.LSTM):
            i, f, g, o = np.split(x + own["weight_hh"] @ h + own.get("bias_hh", 0), 4)
            i, f = edited("input_gate", sigmoid(i)), edited("forget_gate", sigmoid(f))
            g, o = edited("cell_candidate", np.tanh(g)), edited("output_gate", sigmoid(o))
            c = edited("cell_state", f * c + i * g)
            h = o * np.tanh(c)
            h = own["weight_hr"] @ h if module.proj_size else h
        elif isinstance(module, nn.GRU):
            r_h, z_h, n_h = np.split(own["weight_hh"] @ h + own.get("bias_hh", 0), 3)
            r_x, z_x, n_x = np.split(x, 3)
            r, z = edited("reset_gate", sigmoid(r_x + r_h)), edited("update_gate", sigmoid(z_x + z_h))
            n_h = edited("recurrent_candidate", n_h)
            n = edited("candidate", np.tanh(n_x + r * n_h))
            h = (1 - z) * n + z * h
        else:
            z = edited("pre_activation", x + own["weight_hh"] @ h + own.get("bias_hh", 0))
            h = np.tanh(z) if module.nonlinearity == "tanh" else np.maximum(z, 0)
        computed = h
        edited("hidden_state", computed, "outgoing")
        h = edited("hidden_state", computed, "recurrent", "read")
        kept[t], before = now, now
    signals = {name: np.stack([kept[t][name] for t in range(len(inputs))]) for name in kept[0]}
    last = kept[order[-1]]
    return signals, [last["read"], *([last["cell_state"]] if isinstance(module, nn.LSTM) else [])]
