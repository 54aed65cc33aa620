"""`record`: a trace computed chunk by chunk into memory of its own."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from gatescope.pipeline.layout import map_tensors
from gatescope.pipeline.query import Query
from gatescope.server.serving import tuning
from gatescope.server.serving.chunking import Chunk, ChunkedTrace
from gatescope.server.serving.stored import StoredTrace, Told, bytes_beside
from gatescope.spec import Spec

_FLOAT_BYTES = 4


async def record(
    trace: ChunkedTrace,
    query: Query,
    told: Told,
    reserve: Callable[[int], None],
) -> StoredTrace:
    """Compute a trace of everything and keep it.

    Args:
        trace: over all signals, layers, directions, units and time steps.
        query: what is traced.
        told: what its replies tell of the request.
        reserve: is told how many bytes are needed, before they are used and in the end, and may refuse by raising.

    Raises:
        Overloaded, DeadlineExceeded, NotReady: as the engine does.
    """
    spec, signals = trace.model.pipeline.spec_of(query.module), dict[str, np.ndarray]()
    async for chunk in trace.chunks():
        if not signals:  # what has a time axis of its own shows only now how long that is
            lengths = trace.answer.sequence_lengths.tolist()
            beside = bytes_beside((query, trace.answer, trace.initial_state), told.tokens)
            reserve(signal_bytes(spec, len(lengths), max(lengths)) + beside)
            signals = await asyncio.to_thread(_memory, spec, lengths)
        await asyncio.to_thread(_place, chunk, signals)
    stored = await asyncio.to_thread(_stored, trace, query, told, signals)
    reserve(stored.bytes)
    return stored


def signal_bytes(spec: Spec, batch: int, steps: int) -> int:
    """How large all signals of a batch are."""
    return _FLOAT_BYTES * sum(map(prod, _shapes(spec, batch, steps).values()))


def _shapes(spec: Spec, batch: int, steps: int) -> Mapping[str, tuple[int, ...]]:
    """(batch, layer, direction, time, unit) of each signal."""
    sizes, axes = spec.signal_sizes, (batch, spec.num_layers, spec.num_directions, steps)
    return {name: (*axes, sizes[name]) for name in spec.signal_names}


def _memory(spec: Spec, lengths: Sequence[int]) -> dict[str, np.ndarray]:
    """The signals with nothing in them yet but the NaN of the padding."""
    shapes = _shapes(spec, len(lengths), max(lengths))
    sizes = [prod(shape) for shape in shapes.values()]
    parts = np.split(_floats(sum(sizes)), np.cumsum(sizes)[:-1])
    signals = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
    for values in signals.values():
        for row, length in enumerate(lengths):
            values[row, :, :, length:] = np.nan
    return signals


def _floats(count: int) -> np.ndarray:
    size = count * _FLOAT_BYTES
    return np.frombuffer(bytearray(size) if size < tuning.MAPPED_BYTES else mmap.mmap(-1, size), dtype=np.float32)


def _place(chunk: Chunk, signals: dict[str, np.ndarray]) -> None:
    """Copy a chunk, of consecutive time steps, to where it belongs."""
    first, last = chunk.time_steps[0], chunk.time_steps[-1] + 1
    for name, values in chunk.signals.items():
        signals[name][chunk.rows, :, :, first:last] = values.numpy()


def _stored(
    trace: ChunkedTrace,
    query: Query,
    told: Told,
    signals: dict[str, np.ndarray],
) -> StoredTrace:
    """Everything in memory of its own: what the engine gives may share that of a batch, or of what is dropped."""
    answer = map_tensors(_copied, trace.answer)
    written = answer.generated
    read = replace(
        query,
        inputs=answer.inputs,
        initial_state=map_tensors(_copied, query.initial_state),
        static_inputs=map_tensors(_copied, query.static_inputs),
        sequence_lengths=query.sequence_lengths + (query.horizon if written is None else written.lengths[:, 0]),
        horizon=0,
        future_inputs=None,
    )
    return StoredTrace(
        model=trace.model,
        read=read,
        tokens=told.tokens,
        signals=signals,
        answer=answer,
        initial_state=map_tensors(_copied, trace.initial_state),
        residual=trace.residual,
        notes=told.notes,
        labels=told.labels,
    )


def _copied(values: Tensor) -> Tensor:
    return values.clone(memory_format=torch.contiguous_format)
