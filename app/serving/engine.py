"""`Engine`: the seam between the API and whatever computes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from app.errors import DeadlineExceeded, NotReady, Overloaded
from app.pipeline.query import Answer, Query
from app.repository.model import Model
from app.repository.repository import Entry, Repository


class Engine(Protocol):
    """Knows the models and answers queries; the API cannot tell which engine it has."""

    @property
    def ready(self) -> bool:
        """Whether every model was loaded or given up, and queries are taken."""

    async def loaded(self) -> None:
        """Wait until it is ready."""

    def entries(self) -> list[Entry]:
        """Every model, by name."""

    def entry(self, name: str) -> Entry:
        """One model; raises `ModelNotFound`."""

    def model(self, name: str, version: str | None = None) -> Model:
        """A model that can answer; raises `ModelNotFound`, `VersionNotFound`, `ModelUnavailable`, `NotReady`."""

    async def answer(self, model: Model, query: Query, timeout_s: float) -> Answer:
        """What the query asks for; raises `Overloaded`, `DeadlineExceeded`, `NotReady`."""


class LocalEngine:
    """Computes in this process, on one worker thread: torch releases the GIL, and a device has one owner."""

    def __init__(self, repository: Repository, max_queue_size: int) -> None:
        self._repository = repository
        self._max_queue_size = max_queue_size
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._open: set[threading.Event] = set()
        self._ready = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Load the models; queries for those that are there already are answered after it."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._repository.load)
        self._ready.set()

    async def stop(self) -> None:
        """Take no more queries, give up those that are open, and let the worker come to the end of its step."""
        self._ready.clear()
        self._closed = True
        for abandoned in self._open:
            abandoned.set()
        await asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether every model was loaded or given up, and queries are taken."""
        return self._ready.is_set()

    async def loaded(self) -> None:
        """Wait until it is ready."""
        await self._ready.wait()

    def entries(self) -> list[Entry]:
        """Every model, by name."""
        return self._repository.entries()

    def entry(self, name: str) -> Entry:
        """One model."""
        return self._repository.entry(name)

    def model(self, name: str, version: str | None = None) -> Model:
        """A model that can answer."""
        return self._repository.model(name, version)

    async def answer(self, model: Model, query: Query, timeout_s: float) -> Answer:
        """Compute in the worker thread, in arrival order.

        Raises:
            Overloaded: `max_queue_size` queries wait already.
            DeadlineExceeded: the answer was not there after `timeout_s` seconds; a query that still waited is dropped.
            NotReady: the service is shutting down.
        """
        if self._closed:
            raise NotReady("the service is shutting down")
        if len(self._open) > self._max_queue_size:
            raise Overloaded(f"{self._max_queue_size} requests wait already; try again later")
        abandoned = threading.Event()
        watched = replace(query, abandoned=abandoned)
        self._open.add(abandoned)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._worker, model.pipeline.answer, watched)
        except TimeoutError:
            raise DeadlineExceeded(f"there was no answer within {timeout_s:g} seconds") from None
        finally:
            abandoned.set()
            self._open.discard(abandoned)
