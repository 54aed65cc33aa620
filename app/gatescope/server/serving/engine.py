"""`Engine`: the seam between the API and whatever computes."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Protocol

from gatescope.checkpoints.importer import Imported, import_checkpoint
from gatescope.checkpoints.structure.options import Options
from gatescope.errors import DeadlineExceeded
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.repository.entry import Entry
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import chunking, workers
from gatescope.server.serving.model_loader import Loader
from gatescope.server.serving.scheduler import Batcher
from gatescope.server.serving.statistics import Statistics
from gatescope.server.serving.uploads import received, unwritable


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

    async def answer(self, model: Model, query: Query, timeout_s: float | None = None) -> Answer:
        """What the query asks for; raises `Overloaded`, `NotReady`, and with a timeout `DeadlineExceeded`."""

    def submit(self, model: Model, query: Query) -> Future[Answer]:
        """The same without waiting for it; who has no more need of it cancels it. Raises `Overloaded`, `NotReady`."""

    def statistics(self, model: Model) -> Statistics:
        """What this version was asked, and how long that took."""

    @property
    def waiting(self) -> int:
        """How many queries wait."""

    async def load(self, name: str, version: str | None) -> Entry:
        """Read a model or one version anew; raises `ModelNotFound`, `VersionNotFound`, `ModelError`, `Unavailable`."""

    async def unload(self, name: str, version: str | None) -> Entry:
        """Serve a model or one version no more; raises `ModelNotFound`, `VersionNotFound`."""

    async def upload(self, name: str, checkpoint: AsyncIterator[bytes], options: Options) -> Imported:
        """Make a checkpoint a version that is served; raises `InvalidInput`, `VersionExists`, `ModelError` and more."""


class LocalEngine:
    """Computes in this process: torch releases the GIL, and a device has one owner.

    Models are loaded on another thread, beside those that answer.

    Args:
        repository: the models.
        max_queue_size: how many queries may wait.
        max_batch_size: how many sequences are computed together at most.
        watch: whether what changes on disk is loaded without being asked to.
    """

    def __init__(
        self, repository: Repository, max_queue_size: int, max_batch_size: int = 256, *, watch: bool = False
    ) -> None:
        self._repository = repository
        self._batcher = Batcher(max_queue_size, max_batch_size, workers.count_on(repository.device))
        self._loader = Loader(repository, watch=watch)
        self._ready = asyncio.Event()
        repository.warm = self._batcher.warm

    async def start(self) -> None:
        """Load the models, and keep up with the disk from then on."""
        await self._loader.start()
        self._ready.set()

    async def stop(self) -> None:
        """Take no more queries, give up those that are open, and let the threads come to the end of their steps."""
        self._ready.clear()
        self._batcher.close()
        await self._loader.stop()
        await self._batcher.stop()

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

    async def answer(self, model: Model, query: Query, timeout_s: float | None = None) -> Answer:
        """Compute it, together with what waits beside it.

        Raises:
            Overloaded: `max_queue_size` queries wait already.
            DeadlineExceeded: the answer was not there after `timeout_s` seconds, where there is such a limit.
            NotReady: the service is shutting down.
        """
        if timeout_s is None:
            return await self.submit(model, query)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.submit(model, query)
        except TimeoutError:
            raise DeadlineExceeded(f"there was no answer within {timeout_s:g} seconds") from None

    def submit(self, model: Model, query: Query) -> Future[Answer]:
        """Have it computed, together with what waits beside it; raises `Overloaded`, `NotReady`.

        What takes many time steps is computed in portions, so that others have their turn in between.
        """
        at_once = chunking.steps_of(model, query)
        if at_once is None:
            return self._batcher.submit(model, query)
        return asyncio.ensure_future(chunking.answer(query, at_once, partial(self._batcher.answer, model)))

    def statistics(self, model: Model) -> Statistics:
        """What this version was asked, and how long that took."""
        return self._batcher.statistics(model)

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return self._batcher.waiting

    async def load(self, name: str, version: str | None) -> Entry:
        """Read a model or one version anew, beside what answers; see `Repository.load_model`."""
        return await self._loader.run(self._repository.load_model, name, version)

    async def unload(self, name: str, version: str | None) -> Entry:
        """Serve a model or one version no more; see `Repository.unload_model`."""
        return await self._loader.run(self._repository.unload_model, name, version)

    async def upload(self, name: str, checkpoint: AsyncIterator[bytes], options: Options) -> Imported:
        """Take a checkpoint to the disk, make it a version and serve it.

        Raises:
            InvalidInput: the name or an option cannot be.
            VersionExists: the model has this version already.
            ModelError: it is no checkpoint, or cannot be served.
            Unavailable: it cannot be written.
        """
        async with received(checkpoint, self._repository.folder, self._loader) as file:
            return await self._loader.run(self._import, file, name, options)

    def _import(self, checkpoint: Path, name: str, options: Options) -> Imported:
        folder, allow_code = self._repository.folder, self._repository.allow_code
        try:
            imported = import_checkpoint(checkpoint, folder, name, options, allow_code=allow_code)
        except OSError as error:
            raise unwritable(error) from error
        self._repository.load_model(name, imported.version)
        return imported
