"""The equations of a cell in a loop over time: slow, for tests and for where no faster backend is right."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gatescope.backends.chunk import Chunk, split_time
from gatescope.cells import Cell, Tensors
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.weights import Weights


def chunks(
    cell: Cell,
    weights: Weights,
    inputs: Tensor,
    initial: Tensors,
    *,
    on_request: bool = True,  # noqa: ARG001
) -> Iterator[Chunk]:
    """Run the equations over (time, batch, feature); a `Backend`."""
    states = tuple(state[0] for state in initial)  # (batch, size) each
    for start, part in split_time(inputs, weights.hidden_size):
        steps = []
        for x in part:
            steps.append(cell.step(x, states, weights))
            states = tuple(steps[-1][name] for name in cell.states)
        signals = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        yield Chunk(
            start,
            tuple(torch.cat([signals[name] for name in names], dim=-1) for names in cell.blocks),
            tuple(signals[name] for name in cell.states),
            State(*(state[None] for state in states)),
        )


def run(module: nn.RNNBase, sequence: Tensor, initial_state: State | None = None) -> dict[str, Tensor]:
    """Every signal over one sequence, by the equations alone.

    Args:
        module: its weights are taken in the precision of `sequence`.
        sequence: (time, feature).
        initial_state: each (layers · directions, 1, size); zeros when not given.

    Returns:
        The cell's signals, each (layer, direction, time, unit) in input time, and `output` (time, directions · unit).
    """
    spec = Spec.from_module(module)
    state = initial_state or State.zeros(spec, 1, sequence)
    signals: dict[str, list[Tensor]] = {name: [] for name in spec.cell.signal_names}
    layer_input = sequence
    for layer in range(spec.num_layers):
        hidden = []
        for d, direction in enumerate(spec.directions):
            initial = tuple(value[layer * spec.num_directions + d] for value in state)  # (1, size) each
            weights = Weights.of(module, layer, direction).to(sequence)
            steps = _run_direction(spec.cell, layer_input, initial, weights, direction)
            for name, values in signals.items():
                values.append(steps[name])
            hidden.append(steps[spec.cell.states[0]])
        layer_input = torch.cat(hidden, dim=-1)  # (time, directions · unit)
    stacked = {name: torch.stack(values) for name, values in signals.items()}  # (layer · direction, time, unit)
    axes = (spec.num_layers, spec.num_directions)
    by_layer = {name: value.reshape(*axes, *value.shape[1:]) for name, value in stacked.items()}
    return by_layer | {"output": layer_input}


def _run_direction(
    cell: Cell, sequence: Tensor, states: Tensors, weights: Weights, direction: str
) -> dict[str, Tensor]:
    order = range(len(sequence)) if direction == "forward" else reversed(range(len(sequence)))
    steps: dict[int, dict[str, Tensor]] = {}
    for t in order:
        steps[t] = cell.step(sequence[t : t + 1], states, weights)
        states = tuple(steps[t][name] for name in cell.states)
    return {name: torch.cat([steps[t][name] for t in range(len(sequence))]) for name in cell.signal_names}
