"""`Loader`: the one thread that changes what is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gatescope.server.repository.repository import Repository
from gatescope.server.repository.watcher import Watcher

P = ParamSpec("P")
T = TypeVar("T")


class Loader:
    """Runs one job after another beside the device's thread, so that requests go on meanwhile.

    Args:
        repository: what the jobs change.
        watch: whether what changes on disk is loaded without being asked to.
    """

    def __init__(self, repository: Repository, *, watch: bool) -> None:
        self._repository = repository
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._watcher = Watcher(repository.folder, self._refresh) if watch else None

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result; a job that has begun comes to its end also when nobody waits any more."""
        return await asyncio.wrap_future(self._thread.submit(job, *args, **kwargs))

    def after(self, job: Callable[[], object]) -> None:
        """Run this when all jobs until now have ended; nobody waits for it."""
        try:
            self._thread.submit(job)
        except RuntimeError:  # no more jobs are taken: the service is shutting down
            job()

    async def start(self) -> None:
        """Load every model, and then watch."""
        await self.run(self._repository.load)
        if self._watcher is not None:
            self._watcher.start()

    async def stop(self) -> None:
        """Load nothing more, and end."""
        self._repository.close()
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.stop)
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    def _refresh(self) -> bool:
        return self._thread.submit(self._repository.refresh).result()
