"""Newline-delimited JSON: a trace line by line, written as it is computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import ClassVar

import numpy as np
import orjson

from gatescope.server.api.codecs.codec import Fields, ReplyKind, StreamWriter
from gatescope.server.api.codecs.json import writing
from gatescope.server.serving.chunking import Chunk

PIECE_BYTES = 256 * 1024
"""So much of the arrays is written in one go, about; then the event loop turns to others."""


class Ndjson(StreamWriter):
    """One JSON object per line: a header, the time steps, and what is known in the end."""

    media_type = "application/x-ndjson"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("trace",))
    is_text = True

    async def stream(
        self, header: Fields, chunks: AsyncIterator[Chunk], end: Callable[[], Fields]
    ) -> AsyncGenerator[bytes, None]:
        """The lines."""
        for piece in await _long_line(lambda: header):
            yield piece
        async for chunk in chunks:
            for piece in steps(chunk, header["sequence_lengths"]):
                yield piece
                await asyncio.sleep(0)  # sending to a fast reader waits for nothing: others would never get their turn
        for piece in await _long_line(end):
            yield piece

    def failure(self, problem: bytes) -> bytes:
        """The last line."""
        return _line({"error": orjson.Fragment(problem)})


def steps(chunk: Chunk, lengths: list[int]) -> Iterator[bytes]:
    """The lines of a chunk, many at a time.

    Args:
        chunk: of a batch.
        lengths: of each of the batch's sequences.
    """
    signals = {name: values.numpy() for name, values in chunk.signals.items()}
    time_steps, size = chunk.time_steps, sum(values.nbytes for values in signals.values())
    at_once = max(1, PIECE_BYTES * len(time_steps) // max(1, size))
    for first in range(0, len(time_steps), at_once):
        part = slice(first, first + at_once)
        # (row, layer, direction, time, unit) -> (time, row, layer, direction, unit), together in memory
        by_time = [np.ascontiguousarray(np.moveaxis(values[:, :, :, part], 3, 0)) for values in signals.values()]
        yield b"".join(
            _step(step, dict(zip(signals, values, strict=True)), chunk.rows, lengths)
            for step, *values in zip(time_steps[part], *by_time, strict=True)
        )


def _step(step: int, signals: dict[str, np.ndarray], rows: list[int], lengths: list[int]) -> bytes:
    """One line: each signal (row, layer, direction, unit), null where a sequence has ended."""
    if step < min(lengths):
        return _line({"time_step": step, "signals": signals})
    place = {row: index for index, row in enumerate(rows)}
    running = [place[row] if step < length else None for row, length in enumerate(lengths)]
    ragged = {name: [None if index is None else values[index] for index in running] for name, values in signals.items()}
    return _line({"time_step": step, "signals": ragged})


async def _long_line(describe: Callable[[], Fields]) -> list[bytes]:
    """A line in pieces: it may hold a prediction for every time step, or every token that was read."""
    return await asyncio.to_thread(lambda: [*writing.pieces(describe()), b"\n"])


def _line(value: Fields) -> bytes:
    return writing.dumps(value, end=True)
