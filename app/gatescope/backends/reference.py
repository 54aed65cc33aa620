"""The plain loop: the equations step by step. Slow, and the last resort where nothing else gives the gates."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gatescope.backends.chunk import Chunk, parts
from gatescope.cells import Step, step
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.weights import Weights


def chunks(weights: Weights, inputs: Tensor, h0: Tensor, c0: Tensor) -> Iterator[Chunk]:
    """Run the equations over (time, batch, feature); a `Method`."""
    h, c = h0[0], c0[0]
    for start, part in parts(inputs, c0.shape[-1]):
        steps = []
        for x in part:
            steps.append(step(x, h, c, weights))
            h, c = steps[-1].hidden_state, steps[-1].cell_state
        *gates, cell_state, hidden_state = (torch.stack(values) for values in zip(*steps, strict=True))
        yield Chunk(start, torch.cat(gates, dim=-1), cell_state, hidden_state, State(h[None], c[None]))


def run(module: nn.LSTM, sequence: Tensor, initial_state: State | None = None) -> dict[str, Tensor]:
    """Every signal over one sequence, by the equations alone.

    Args:
        module: its weights are taken in the precision of `sequence`.
        sequence: (time, feature).
        initial_state: `nn.LSTM`'s (h0, c0) with a batch of 1; zeros when not given.

    Returns:
        The six signals, each (layer, direction, time, unit) in input time, and `output` (time, directions · unit).
    """
    spec = Spec.from_module(module)
    state = initial_state or State.zeros(spec, 1, sequence)
    signals: dict[str, list[Tensor]] = {name: [] for name in Step._fields}
    layer_input = sequence
    for layer in range(spec.num_layers):
        hidden = []
        for d, direction in enumerate(spec.directions):
            entry = layer * spec.num_directions + d
            h, c = state.hidden_state[entry], state.cell_state[entry]  # (1, unit)
            steps = _run_direction(layer_input, h, c, Weights.of(module, layer, direction).to(sequence), direction)
            for name in Step._fields:
                signals[name].append(steps[name])
            hidden.append(steps["hidden_state"])
        layer_input = torch.cat(hidden, dim=-1)  # (time, directions · unit)
    stacked = {name: torch.stack(values) for name, values in signals.items()}  # (layer · direction, time, unit)
    axes = (spec.num_layers, spec.num_directions)
    by_layer = {name: value.reshape(*axes, *value.shape[1:]) for name, value in stacked.items()}
    return by_layer | {"output": layer_input}


def _run_direction(sequence: Tensor, h: Tensor, c: Tensor, weights: Weights, direction: str) -> dict[str, Tensor]:
    order = range(len(sequence)) if direction == "forward" else reversed(range(len(sequence)))
    steps: dict[int, Step] = {}
    for t in order:
        steps[t] = step(sequence[t : t + 1], h, c, weights)
        h, c = steps[t].hidden_state, steps[t].cell_state
    in_input_time = [steps[t] for t in range(len(sequence))]
    return {name: torch.cat([getattr(s, name) for s in in_input_time]) for name in Step._fields}
