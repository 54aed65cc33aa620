"""Which way to the gates a module takes: the kernel's workspace, replay, or the plain loop.

A method is used only after a probe has compared all six signals of it with `gatescope/cells.py` in float64, for
weights of the same shape and type. A method that fails, at the probe or later in use, is replaced by the next one, and
the log says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

from gatescope.backends import onednn, onednn_kernel, reference, replay
from gatescope.backends.chunk import Method
from gatescope.backends.parameters import Parameters
from gatescope.spec import GATES
from gatescope.weights import Kind, Weights

log = logging.getLogger("gatescope.lstm")

METHODS: dict[str, Method] = {"workspace": onednn.chunks, "replay": replay.chunks, "loop": reference.chunks}

ORDER = tuple(METHODS)
"""The fastest first."""

PROBES = ((5, 3), (1, 2), (70, 1))  # time × batch, the oracle's chunk holding them whole
TOLERANCE = 1e-4  # far above float32's rounding here, far below what any other place in memory would hold

_distrusted: set[str] = set()


def method_of(module: nn.LSTM) -> str:
    """The fastest method that is proved for every layer and direction of this module."""
    return fastest(Parameters.of(module).kinds)


def fastest(kinds: Iterable[Kind]) -> str:
    """The fastest method that is proved for all of these kinds of weights."""
    return next(name for name in ORDER if name not in _distrusted and all(_proved(name, kind) for kind in kinds))


def distrust(name: str, reason: str) -> None:
    """Use this method no more in this process; the next one takes its place."""
    log.error("the trace method '%s' is given up: %s", name, reason)
    _distrusted.add(name)


@cache
def _proved(name: str, kind: Kind) -> bool:
    if name == "loop":
        return True
    weights = _random_weights(kind)
    if name == "workspace" and not onednn_kernel.supports(weights):
        return False
    try:
        worst = max(_difference(METHODS[name], weights, *shape) for shape in PROBES)
    except (RuntimeError, TypeError, AttributeError):  # whatever a changed kernel may do
        log.exception("the trace method '%s' cannot be used", name)
        return False
    if not worst <= TOLERANCE:
        log.error("the trace method '%s' failed its probe for %s: it is %.3g from the equations", name, kind, worst)
        return False
    return True


def _random_weights(kind: Kind) -> Weights:
    random = torch.Generator().manual_seed(0)
    rows, width = GATES * kind.hidden_size, kind.proj_size or kind.hidden_size

    def uniform(*shape: int) -> Tensor:  # as nn.LSTM starts
        values = torch.rand(shape, generator=random, dtype=kind.dtype) * 2 - 1
        return values.div_(math.sqrt(kind.hidden_size)).to(kind.device)

    return Weights(
        uniform(rows, kind.input_size),
        uniform(rows, width),
        uniform(rows) if kind.bias else None,
        uniform(rows) if kind.bias else None,
        uniform(kind.proj_size, kind.hidden_size) if kind.proj_size else None,
    )


def _difference(method: Method, weights: Weights, time: int, batch: int) -> float:
    """The largest distance of any signal from the equations in float64."""
    random = torch.Generator().manual_seed(1)
    sizes = (
        (time, batch, weights.weight_ih.shape[1]),
        (1, batch, weights.weight_hh.shape[1]),
        (1, batch, len(weights.weight_ih) // GATES),
    )
    given = [torch.randn(size, generator=random, dtype=torch.float64).to(weights.weight_ih.device) for size in sizes]
    oracle = next(reference.chunks(weights.to(given[0]), *given))
    worst = 0.0
    with torch.no_grad():
        for chunk in method(weights, *(value.to(weights.weight_ih) for value in given)):
            for signal, exact in zip(chunk.signals, oracle.signals, strict=True):
                worst = max(worst, float((signal - exact[chunk.start : chunk.stop]).abs().max()))
    return worst
