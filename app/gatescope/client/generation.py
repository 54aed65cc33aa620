"""Tokens as a model draws them: what the events of a streamed reply say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np

from gatescope.client import problem
from gatescope.client.body import EVENTS
from gatescope.client.prediction import Prediction
from gatescope.client.problem import ServiceError, Unreachable


@dataclass(frozen=True)
class Token:
    """One token that was drawn."""

    sequence: int
    sample: int
    step: int
    """Counted from 0, in each sample of each sequence."""
    token: str
    text: str | None = None
    """What it adds to its text; None of a model that reads no text."""
    finish_reason: str | None = None
    """Why its text ends here, `stop` or `length`; None where it goes on."""


class Events:
    """Reads the bytes of a reply as they come."""

    def __init__(self) -> None:
        self._rest, self._name = b"", ""
        self._prediction: Prediction | None = None

    @property
    def prediction(self) -> Prediction:
        """What the reply says beside the tokens; known behind the last one.

        Raises:
            Unreachable: the reply has no end.
        """
        if self._prediction is None:
            raise Unreachable("the reply has not come to its end")
        return self._prediction

    @staticmethod
    def check(reply: httpx.Response) -> None:
        """Refuse a reply of anything else; raises `ServiceError`."""
        given = reply.headers.get("content-type", "bytes")
        if given != EVENTS:
            raise ServiceError(f"{reply.url} does not answer with {EVENTS}, but with {given}")

    def feed(self, content: bytes) -> list[Token]:
        """The tokens that these bytes tell.

        Raises:
            AppError: the server tells an error instead.
            ServiceError: these are no events of this API.
        """
        *lines, self._rest = (self._rest + content).split(b"\n")
        try:
            told = [self._take(line) for line in lines]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ServiceError(f"an event is not one of this API: {error!r}") from error
        return [token for token in told if token is not None]

    def _take(self, line: bytes) -> Token | None:
        name, _, value = line.partition(b": ")
        if name == b"event":
            self._name = value.decode()
        if name != b"data":
            return None
        said = loads(value)
        if self._name == "token":
            return Token(**said)
        if self._name == "error":
            raise problem.from_fields(said)
        self._prediction = Prediction.of(_in_arrays(said))
        return None


class Generation:
    """Iterates over tokens as they are drawn; a context manager. To close it earlier ends the computation."""

    def __init__(self, tokens: Generator[Token, None, None], events: Events) -> None:
        self._tokens, self._events = tokens, events

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Token]:
        return self._tokens

    def close(self) -> None:
        """Want no more tokens."""
        self._tokens.close()

    @property
    def prediction(self) -> Prediction:
        """What `predict` answers to the same request; known behind the last token."""
        return self._events.prediction


class AsyncGeneration:
    """`Generation` for asyncio: `async for` and `async with`."""

    def __init__(self, tokens: AsyncGenerator[Token, None], events: Events) -> None:
        self._tokens, self._events = tokens, events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[Token]:
        return self._tokens

    async def close(self) -> None:
        """Want no more tokens."""
        await self._tokens.aclose()

    @property
    def prediction(self) -> Prediction:
        """What `predict` answers to the same request; known behind the last token."""
        return self._events.prediction


def _in_arrays(said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a reply in JSON with arrays where the binary reply has them."""
    made = dict(said)
    if "prediction" in said:
        numbers = {name: _padded(said["prediction"][name]) for name in ("values", "probabilities")}
        made["prediction"] = {**said["prediction"], **numbers}
    if "output" in said:
        made["output"] = _padded(said["output"])
    if "final_state" in said:
        made["final_state"] = _states(said["final_state"])
    return made


def _states(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _states(value) if isinstance(value, dict) else np.array(value, dtype=np.float32)
        for name, value in said.items()
    }


def _padded(rows: Sequence[Any]) -> np.ndarray:
    """Rows of several lengths as float32 (batch, time, value), padded with NaN."""
    arrays = [np.array(row, dtype=np.float32) for row in rows]
    padded = np.full((len(arrays), max(map(len, arrays)), arrays[0].shape[1]), np.nan, dtype=np.float32)
    for place, array in zip(padded, arrays, strict=True):
        place[: len(array)] = array
    return padded
