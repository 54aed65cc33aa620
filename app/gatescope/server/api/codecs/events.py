"""Server-sent events: the tokens of a text, written as they are drawn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import ClassVar

from gatescope.server.api import offload
from gatescope.server.api.codecs.codec import Fields, ReplyKind, TokenWriter
from gatescope.server.api.codecs.json import writing


class Events(TokenWriter):
    """An event `token` for each token, and in the end `done` with the reply, or `error` with a problem."""

    media_type = "text/event-stream"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("tokens",))
    is_text = True

    async def stream(
        self, steps: AsyncGenerator[Sequence[Fields], None], end: Callable[[], Fields]
    ) -> AsyncGenerator[bytes, None]:
        """The events; those of one step come together."""
        async with aclosing(steps):
            async for step in steps:
                yield b"".join(_event(b"token", writing.dumps(token)) for token in step)
        yield b"event: done\ndata: "
        for piece in await offload.write(lambda: writing.pieces(end())):
            yield piece
        yield b"\n\n"

    def failure(self, problem: bytes) -> bytes:
        """The event `error`."""
        return _event(b"error", problem)


def _event(name: bytes, data: bytes) -> bytes:
    """JSON has no line breaks, so the data are one line."""
    return b"event: %b\ndata: %b\n\n" % (name, data)
