"""`LocalEngine`: answers queries in this process."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator
from copy import copy
from functools import partial
from pathlib import Path

from gatescope.checkpoints.importer import Imported, import_checkpoint
from gatescope.checkpoints.structure.options import Options
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.repository.entry import Entry
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import chunking
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.model_loader import Loader
from gatescope.server.serving.policy import BatchingPolicy
from gatescope.server.serving.request import WHOLE, Part
from gatescope.server.serving.scheduler import Scheduler
from gatescope.server.serving.statistics import Statistics
from gatescope.server.serving.uploads import received, unwritable
from gatescope.server.serving.workers import Workers, count_on


class LocalEngine:
    """An `Engine`: torch releases the GIL, and a device has one owner.

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
        workers = Workers(count_on(repository.device))
        policy = BatchingPolicy(max_batch_size, workers.count, workers.cores)
        self._scheduler = Scheduler(max_queue_size, policy, workers)
        self._loader = Loader(repository, watch=watch)
        self._ready = asyncio.Event()
        self.is_background = False
        """Whether nobody waits for its queries."""

    async def start(self) -> None:
        """Load the models, and keep up with the disk from then on."""
        loop = asyncio.get_running_loop()

        def warm(model: Model) -> None:
            """Runs on the loader's thread."""
            asyncio.run_coroutine_threadsafe(self._scheduler.warm(model), loop).result()

        self._repository.warm = warm
        await self._loader.start()
        self._ready.set()

    async def stop(self) -> None:
        """Take no more queries, give up those that are open, and let the workers finish what they do."""
        self._ready.clear()
        self._scheduler.close()
        await self._loader.stop()
        await self._scheduler.stop()

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

    async def answer(self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE) -> Answer:
        """Compute it, together with what waits beside it.

        Raises:
            Overloaded: `max_queue_size` queries wait already.
            DeadlineExceeded: the answer was not there in time.
            NotReady: the service is shutting down.
        """
        return await self.submit(model, query, deadline, part)

    def submit(
        self, model: Model, query: Query, deadline: Deadline | None = None, part: Part = WHOLE
    ) -> Future[Answer]:
        """Have it computed, together with what waits beside it; raises what `answer` raises.

        What takes many time steps is computed chunk by chunk, so that others are computed in between.
        """
        steps = chunking.chunk_steps(model, query)
        if steps is None:
            return self._compute(model, deadline, query, part)
        compute = partial(self._compute, model, deadline)
        return asyncio.ensure_future(chunking.answer(query, steps, compute, part))

    def statistics(self, model: Model) -> Statistics:
        """What this version was asked, and how long that took."""
        return self._scheduler.statistics(model)

    @property
    def waiting(self) -> int:
        """How many queries wait that somebody waits for."""
        return self._scheduler.waiting

    @property
    def background(self) -> LocalEngine:
        """The same engine for work that nobody waits for; see `Scheduler`."""
        engine = copy(self)
        engine.is_background = True
        return engine

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

    def _compute(self, model: Model, deadline: Deadline | None, query: Query, part: Part) -> Future[Answer]:
        return self._scheduler.submit(model, query, deadline, part, is_background=self.is_background)

    def _import(self, checkpoint: Path, name: str, options: Options) -> Imported:
        folder, allow_code = self._repository.folder, self._repository.allow_code
        try:
            imported = import_checkpoint(checkpoint, folder, name, options, allow_code=allow_code)
        except OSError as error:
            raise unwritable(error) from error
        self._repository.load_model(name, imported.version)
        return imported
