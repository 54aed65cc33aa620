"""`Calls`: a result that takes several requests, which are sent together, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from gatescope.client.call import Call
from gatescope.errors import AppError, InvalidInput, Place

T = TypeVar("T")

CONCURRENCY = 4
_FIELD_AT, _ROW_AT = 1, 2  # in the place of what is wrong with one sequence of a batch: ("body", "inputs", 3, …)


@dataclass(frozen=True)
class Part(Generic[T]):
    """One of the requests."""

    call: Callable[[], Call[T]]
    """Makes it when it is its turn, so that not all bodies are there at once."""
    names: Sequence[str] | None
    """Of its sequences; None where they have none."""
    count: int
    """How many sequences it has."""

    def named(self, error: AppError) -> AppError:
        """The same error with the name of the sequence that it is about."""
        if not self.names:
            return error
        places = tuple(self._named(place) for place in error.places)
        if isinstance(error, InvalidInput) and places != error.places:
            return InvalidInput.at(*places)
        first, *_, last = self.names[0], self.names[-1]
        which = f"'{first}'" if len(self.names) == 1 else f"one of '{first}' to '{last}'"
        return type(error)(f"{which}: {error.detail}", places)

    def _named(self, place: Place) -> Place:
        """With the name of the sequence in place of its number."""
        return Place(renamed(place.loc, self.names or ()), place.message)


def renamed(loc: tuple[str | int, ...], names: Sequence[str]) -> tuple[str | int, ...]:
    """A place in a request with the name of the sequence in place of its number."""
    at = _ROW_AT + 1 if len(loc) > _FIELD_AT and loc[_FIELD_AT] == "observed" else _ROW_AT
    row = loc[at] if len(loc) > at else None
    if not isinstance(row, int) or row >= len(names) or len(names) == 1:
        return loc
    return (*loc[:at], names[row], *loc[at + 1 :])


@dataclass(frozen=True)
class Calls(Generic[T]):
    """Requests whose replies are one result.

    Raises:
        ModuleNotFoundError: progress is to be shown, and tqdm is not installed.
    """

    parts: Sequence[Part[Any]]
    join: Callable[[Sequence[Any]], T]
    concurrency: int = CONCURRENCY
    progress: bool = False

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidInput.at(Place(("concurrency",), "must be 1 or more"))
        if self.progress and find_spec("tqdm") is None:
            raise ModuleNotFoundError("progress needs tqdm: pip install 'gatescope[progress]'", name="tqdm")

    @contextmanager
    def bar(self) -> Iterator[Callable[[int], Any]]:
        """Shows how many sequences are done, where that is wanted; to be called with those that are new."""
        if not self.progress:
            yield lambda _: None
            return
        from tqdm.auto import tqdm  # noqa: PLC0415 - an extra, loaded when it is needed

        with tqdm(total=sum(part.count for part in self.parts), unit=" sequences") as bar:
            yield bar.update


class _Run:
    """Sends parts until one fails; those that are not begun then are not sent."""

    def __init__(self) -> None:
        self._has_failed = False

    @contextmanager
    def of(self, part: Part[Any]) -> Iterator[None]:
        """Around the sending of a part.

        Raises:
            CancelledError: another one has failed.
            AppError: this one has; the sequence is named.
        """
        if self._has_failed:
            raise CancelledError
        try:
            yield
        except AppError as error:
            self._has_failed = True
            raise part.named(error) from error
        except BaseException:
            self._has_failed = True
            raise


def gathered(calls: Calls[T], send: Callable[[Call[Any]], Any]) -> T:
    """The result of several requests; the first error ends it, and what was not begun is not sent.

    Raises:
        AppError: what the server refuses; the sequence is named.
    """
    run = _Run()

    def answer(part: Part[Any]) -> Any:
        with run.of(part):
            return send(part.call())

    with calls.bar() as told:
        if len(calls.parts) == 1:
            answers = [answer(calls.parts[0])]
            told(calls.parts[0].count)
            return calls.join(answers)
        with ThreadPoolExecutor(min(calls.concurrency, len(calls.parts)), "gatescope") as pool:
            counts = {pool.submit(answer, part): part.count for part in calls.parts}
            try:
                for future in as_completed(counts):
                    future.result()
                    told(counts[future])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return calls.join([future.result() for future in counts])


async def gathered_async(calls: Calls[T], send: Callable[[Call[Any]], Awaitable[Any]]) -> T:
    """`gathered` for asyncio."""
    run, room = _Run(), asyncio.Semaphore(calls.concurrency)
    with calls.bar() as told:

        async def answer(part: Part[Any]) -> Any:
            async with room:
                with run.of(part):
                    answered = await send(part.call())
            told(part.count)
            return answered

        tasks = [asyncio.ensure_future(answer(part)) for part in calls.parts]
        try:
            answers = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
    return calls.join(answers)
