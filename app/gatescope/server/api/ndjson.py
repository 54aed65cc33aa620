"""A trace line by line, each written as it is computed: a header, the time steps, and what is known in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import orjson
import structlog

from gatescope.errors import AppError
from gatescope.server.api import problems, reply, written
from gatescope.server.api.messages import StreamedReply
from gatescope.server.api.reply import Reply
from gatescope.server.serving.chunking import Chunk, ChunkedTrace

log = structlog.get_logger(__name__)

PIECE_BYTES = 256 * 1024
"""So much of the arrays is written in one go, about; then the event loop turns to others."""


async def respond(trace: ChunkedTrace, tokens: list[list[str]] | None) -> StreamedReply:
    """The reply, begun when the first chunk is there: an error before that has its own status.

    A client that reads slowly slows the computation, and one that leaves ends it.

    Args:
        trace: to write.
        tokens: what a model of tokens read.
    """
    chunks = trace.chunks()
    first = await anext(chunks)
    return stream(_header(trace, tokens), _behind(first, chunks), lambda: _end(trace))


def stream(header: Reply, chunks: AsyncIterator[Chunk], end: Callable[[], Reply]) -> StreamedReply:
    """A reply line by line.

    Args:
        header: what is known before the first step.
        chunks: of the batch, each asked for when the client has taken the lines of the one before.
        end: what is known after the last one.
    """
    return StreamedReply(_lines(header, chunks, end), reply.NDJSON)


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


async def _behind(first: Chunk, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    yield first
    del first  # its arrays are not needed any more
    async for chunk in chunks:
        yield chunk


async def _lines(header: Reply, chunks: AsyncIterator[Chunk], end: Callable[[], Reply]) -> AsyncIterator[bytes]:
    for piece in await _long_line(lambda: header):
        yield piece
    try:
        async for chunk in chunks:
            for piece in steps(chunk, header["sequence_lengths"]):
                yield piece
                await asyncio.sleep(0)  # sending to a fast reader waits for nothing: others would never get their turn
        for piece in await _long_line(end):
            yield piece
    except AppError as error:
        yield _line({"error": orjson.Fragment(problems.body_of(error))})
    except Exception:  # the status is sent: the last resort of the middleware would come too late
        log.exception("a stream broke off")
        yield _line({"error": orjson.Fragment(problems.internal().pieces[0])})


def _header(trace: ChunkedTrace, tokens: list[list[str]] | None) -> Reply:
    """The trace reply as far as it is known before the first step."""
    header, selection = trace.header, trace.selection
    described = reply.description(selection, header, trace.initial_state)
    return reply.prediction(header, trace.model, tokens) | described | {"signals": selection.signals}


def _end(trace: ChunkedTrace) -> Reply:
    """The rest of it."""
    known = ("model", "sequence_lengths", "tokens")
    answered = reply.prediction(trace.answer, trace.model, None)
    rest = {name: value for name, value in answered.items() if name not in known}
    return rest | {"residual": np.float32(trace.residual)}


def _step(step: int, signals: dict[str, np.ndarray], rows: list[int], lengths: list[int]) -> bytes:
    """One line: each signal (row, layer, direction, unit), null where a sequence has ended."""
    if step < min(lengths):
        return _line({"time_step": step, "signals": signals})
    place = {row: index for index, row in enumerate(rows)}
    running = [place[row] if step < length else None for row, length in enumerate(lengths)]
    ragged = {name: [None if index is None else values[index] for index in running] for name, values in signals.items()}
    return _line({"time_step": step, "signals": ragged})


async def _long_line(tell: Callable[[], Reply]) -> list[bytes]:
    """What may hold a prediction for every time step, or every token that was read, in pieces."""
    return await asyncio.to_thread(lambda: [*written.pieces(tell()), b"\n"])


def _line(value: Reply) -> bytes:
    return written.dumps(value, end=True)
