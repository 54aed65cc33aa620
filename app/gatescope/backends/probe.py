"""Chooses the backend of a module: the fastest one that a probe has proved for weights of the same kind.

A probe compares every signal that a backend gives with the cell's equations in float64, for random weights of the same
shape and type. A backend that fails, at the probe or later in use, is replaced by the next one, and the log says so.
"""

from __future__ import annotations

import logging
import math
from functools import cache

import torch
from torch import Tensor, nn

from gatescope.backends import onednn, onednn_kernel, reference, replay, stepwise
from gatescope.backends.chunk import Backend
from gatescope.backends.parameters import Kind, Parameters
from gatescope.cells import Cell
from gatescope.weights import Weights

log = logging.getLogger(__name__)

BACKENDS: dict[str, Backend] = {
    "workspace": onednn.chunks,
    "stepwise": stepwise.chunks,
    "replay": replay.chunks,
    "loop": reference.chunks,
}
"""By name; a cell says which of them can trace it, the fastest first."""

PROBES = ((5, 3), (1, 2), (70, 1))  # time × batch; each is one chunk of the oracle
TOLERANCE = 1e-4  # far above float32's rounding here, far below what a wrong place in memory would hold

_disabled: set[str] = set()


def backend_of(module: nn.RNNBase) -> str:
    """The fastest backend that is proved for every layer and direction of this module."""
    return fastest(Parameters.of(module).kinds)


def fastest(kinds: frozenset[Kind]) -> str:
    """The fastest backend that is proved for all of these kinds of weights, which are those of one cell."""
    name = _fastest(kinds)
    if name in _disabled:  # since it was cached
        _fastest.cache_clear()
        name = _fastest(kinds)
    return name


@cache
def _fastest(kinds: frozenset[Kind]) -> str:
    cell = next(iter(kinds)).cell
    return next(
        name for name in cell.backends if name not in _disabled and all(_is_proved(name, kind) for kind in kinds)
    )


def disable(name: str, reason: str) -> None:
    """Do not use this backend any more in this process; the next one takes its place."""
    log.error("the trace backend '%s' is disabled: %s", name, reason)
    _disabled.add(name)


@cache
def _is_proved(name: str, kind: Kind) -> bool:
    if name == "loop":
        return True
    weights = _random_weights(kind)
    if name == "workspace" and not onednn_kernel.supports(weights):
        return False
    if name == "stepwise" and not stepwise.supports(kind.cell, weights):
        return False
    try:
        worst = max(_difference(BACKENDS[name], kind.cell, weights, *shape) for shape in PROBES)
    except (RuntimeError, TypeError, AttributeError):  # a kernel of another version may raise any of these
        log.exception("the trace backend '%s' cannot be used", name)
        return False
    if not worst <= TOLERANCE:
        log.error("the trace backend '%s' failed its probe for %s: it is %.3g from the equations", name, kind, worst)
        return False
    return True


def _random_weights(kind: Kind) -> Weights:
    random = torch.Generator().manual_seed(0)
    rows, width = len(kind.cell.gates) * kind.hidden_size, kind.proj_size or kind.hidden_size

    def uniform(*shape: int) -> Tensor:  # as PyTorch initialises recurrent modules
        values = torch.rand(shape, generator=random, dtype=kind.dtype) * 2 - 1
        return values.div_(math.sqrt(kind.hidden_size)).to(kind.device)

    return Weights(
        uniform(rows, kind.input_size),
        uniform(rows, width),
        uniform(rows) if kind.bias else None,
        uniform(rows) if kind.bias else None,
        uniform(kind.proj_size, kind.hidden_size) if kind.proj_size else None,
    )


def _difference(backend: Backend, cell: Cell, weights: Weights, time: int, batch: int) -> float:
    """The largest distance of any signal from the equations in float64."""
    random = torch.Generator().manual_seed(1)
    widths = (weights.weight_hh.shape[1], *(weights.hidden_size for _ in cell.states[1:]))
    shapes = ((time, batch, weights.weight_ih.shape[1]), *((1, batch, width) for width in widths))
    inputs, *initial = (
        torch.randn(shape, generator=random, dtype=torch.float64).to(weights.weight_ih.device) for shape in shapes
    )
    exact = next(reference.chunks(cell, weights.to(inputs), inputs, tuple(initial))).signals(cell)
    worst, like = 0.0, weights.weight_ih
    with torch.no_grad():
        for chunk in backend(cell, weights, inputs.to(like), tuple(state.to(like) for state in initial)):
            for name, values in chunk.signals(cell).items():
                worst = max(worst, float((values - exact[name][chunk.start : chunk.stop]).abs().max()))
    return worst
