"""`summed_up`: a statistic over all steps of a corpus, chunk by chunk from the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from gatescope.analysis import registry
from gatescope.analysis.analysis import Analysis, Parameters
from gatescope.analysis.result import Result
from gatescope.analysis.subject import Chunk, Scope
from gatescope.errors import DeadlineExceeded, InvalidInput
from gatescope.zarr_store import Reader

_ROWS = 2**14
"""Steps that are read at a time."""


def check(analysis: Analysis, scope: Scope) -> None:
    """Refuse what is no statistic, or has no mathematics for this cell; raises `InvalidInput`."""
    registry.check(analysis, scope, registry.NO_HEAD)
    if analysis.statistic is None:
        known = ", ".join(name for name, each in registry.analyses().items() if each.statistic is not None)
        raise InvalidInput(f"'{analysis.name}' looks at a whole run; those over a corpus are {known}")


def summed_up(
    reader: Reader,
    analysis: Analysis,
    parameters: Parameters,
    scope: Scope,
    is_cancelled: Callable[[], bool],
    on_progress: Callable[[int, int], None] | None = None,
) -> Result:
    """What a statistic finds in a corpus.

    Args:
        reader: of the traces.
        analysis: one that `check` let pass.
        parameters: of the analysis.
        scope: the layers, directions and units that are looked at.
        is_cancelled: asked now and then.
        on_progress: is told how many steps are done, and how many there are.

    Raises:
        DeadlineExceeded: nobody waits any more.
    """
    if analysis.statistic is None:
        raise TypeError(f"'{analysis.name}' is no statistic")
    statistic, steps = analysis.statistic(scope, parameters), int(reader.offsets[-1])
    for done, chunk in _chunks(reader, analysis.statistic.signals(scope.spec.cell), scope):
        if is_cancelled():
            raise DeadlineExceeded("nobody waits for this result any more")
        statistic.update(chunk)
        if on_progress is not None:
            on_progress(done, steps)
    return registry.to_result(analysis, parameters, scope, statistic.finish())


def _chunks(reader: Reader, signals: tuple[str, ...], scope: Scope) -> Iterator[tuple[int, Chunk]]:
    """Each with the number of steps up to its end."""
    offsets = reader.offsets
    for first in range(0, int(offsets[-1]), _ROWS):
        stop = min(first + _ROWS, int(offsets[-1]))
        read = {name: _selected(reader.signals[name][first:stop], scope) for name in signals}
        begin = int(np.searchsorted(offsets, first, side="right")) - 1
        end = int(np.searchsorted(offsets, stop, side="left"))
        for row in range(begin, end):
            own = slice(max(first, int(offsets[row])), min(stop, int(offsets[row + 1])))
            part = {name: values[:, :, :, own.start - first : own.stop - first] for name, values in read.items()}
            yield own.stop, Chunk([row], own.start - int(offsets[row]), part, None)


def _selected(values: Any, scope: Scope) -> torch.Tensor:
    """(step, layer, direction, unit) of all -> (1, layer, direction, step, unit) of the scope."""
    directions = [scope.spec.directions.index(direction) for direction in scope.directions]
    units = [unit for unit in scope.units if unit < values.shape[3]]
    chosen = np.asarray(values)[:, list(scope.layers)][:, :, directions][..., units]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(chosen, 0, 2)))[None]
