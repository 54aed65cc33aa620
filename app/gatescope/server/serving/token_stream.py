"""`TokenStream`: the tokens of a query as they are drawn, and then its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gatescope.pipeline.query import Query
from gatescope.pipeline.sampling import Drawn

T = TypeVar("T")


class TokenStream(Generic[T]):
    """Tells each step's tokens while the query is computed.

    Tokens that nobody has taken yet wait here; there are no more of them than the horizon allows.

    Args:
        query: of a model that writes tokens, with a horizon.
        compute: answers it; is cancelled when nobody wants the tokens any more.
    """

    def __init__(self, query: Query, compute: Callable[[Query], Awaitable[T]]) -> None:
        self._query, self._compute = query, compute
        self._answer: list[T] = []

    @property
    def answer(self) -> T:
        """What `compute` gave; known behind the last step."""
        if not self._answer:
            raise TypeError("the tokens are not all drawn yet")
        return self._answer[0]

    async def steps(self) -> AsyncGenerator[Sequence[Drawn], None]:
        """The tokens of each step, at most one of each text; raises what `compute` raises."""
        loop, drawn = asyncio.get_running_loop(), asyncio.Queue[Sequence[Drawn] | None]()

        def tell(step: Sequence[Drawn]) -> None:
            """Runs on any thread."""
            loop.call_soon_threadsafe(drawn.put_nowait, step)

        computing = asyncio.ensure_future(self._compute(self._query.evolve(on_drawn=tell)))
        computing.add_done_callback(lambda _: drawn.put_nowait(None))  # behind the steps: the loop keeps their order
        try:
            while (step := await drawn.get()) is not None:
                yield step
            self._answer.append(computing.result())
        finally:
            if not computing.cancel() and not computing.cancelled():
                computing.exception()  # it was told, or nobody wants to know
