"""`Jobs`: work that no connection waits for."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal

from gatescope.errors import JobNotFound, Overloaded
from gatescope.server.serving.background import Background
from gatescope.server.serving.owner import Owner

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

AT_ONCE = 2
"""Jobs that run at once; what takes long in them goes one after another, on the thread of the background."""

_SHOWN_ID_LENGTH = 64  # in messages


class Job:
    """One piece of work; `state`, `progress` and what came of it are as they are now.

    Args:
        owner: as `Owner.names` has them.
        stated_bytes: what it holds while it is open, such as the request that began it.
        now: Unix time in seconds.
    """

    def __init__(self, owner: str, stated_bytes: int, now: float) -> None:
        self.owner = owner
        self.job_id, self.created_at, self.bytes = secrets.token_hex(16), now, stated_bytes
        self.state: JobState = "queued"
        self.progress: float | None = None
        """0…1; None where it cannot be told."""
        self.result: bytes | None = None
        """JSON, of one that is done."""
        self.error: BaseException | None = None
        """Of one that failed."""
        self.expires_at: float | None = None
        """The Unix time at which one that has ended is forgotten."""
        self.task: asyncio.Task[None] | None = None

    def advance(self, done: float, total: float) -> None:
        """So much of it is done; may be called on any thread."""
        self.progress = done / total

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in {"queued", "running"}


Work = Callable[[Job], Awaitable[bytes]]
"""Gives the result as JSON; it may say how far it is."""


class Jobs:
    """Runs jobs in the order in which they were given, and keeps what comes of them, bounded in number, bytes and time.

    It belongs to one event loop.

    Args:
        most_open: jobs that may wait or run.
        most_bytes: of all requests and results together; the oldest results go first.
        kept_s: how long a job that has ended is known.
        clock: Unix time in seconds.
    """

    def __init__(self, most_open: int, most_bytes: int, kept_s: float, clock: Callable[[], float] = time.time) -> None:
        self._most_open, self._most_bytes, self._kept_s, self._clock = most_open, most_bytes, kept_s, clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.background = Background()
        """Jobs have a thread of their own, so that requests whose clients wait do not stand behind them."""

    def start(self, owner: Owner, work: Work, stated_bytes: int = 0) -> Job:
        """Begin a job as soon as it is its turn.

        Args:
            owner: whose it is.
            work: what is to be done.
            stated_bytes: what it holds until it has ended.

        Raises:
            Overloaded: too many jobs wait already, or they hold too much.
        """
        job = self.admit(owner, stated_bytes)
        self.run(job, work)
        return job

    def admit(self, owner: Owner, stated_bytes: int) -> Job:
        """A job that has its place among those that wait, until `run` is told its work, or `withdraw` ends it.

        Args:
            owner: whose it is.
            stated_bytes: what it holds until it has ended.

        Raises:
            Overloaded: too many jobs wait already, or they hold too much.
        """
        self._drop_expired()
        open_jobs = [job for job in self._jobs.values() if job.is_open]
        if len(open_jobs) >= self._most_open:
            raise Overloaded(f"{len(open_jobs)} jobs wait or run already; try again later")
        if sum(job.bytes for job in open_jobs) + stated_bytes > self._most_bytes:
            raise Overloaded(f"jobs that wait or run hold as much as {self._most_bytes:,} bytes allow; try again later")
        job = Job(owner.name, stated_bytes, self._clock())
        self._jobs[job.job_id] = job
        self._make_room()
        return job

    def run(self, job: Job, work: Work) -> asyncio.Task[None]:
        """Do the work of an admitted job as soon as it is its turn."""
        job.task = asyncio.create_task(self._run(job, work))
        return job.task

    def withdraw(self, job: Job) -> None:
        """Forget an admitted job that has no work."""
        self._jobs.pop(job.job_id, None)

    def get(self, job_id: str, asker: Owner) -> Job:
        """A job that is there for whoever asks; raises `JobNotFound`."""
        self._drop_expired()
        job = self._jobs.get(job_id)
        if job is None or not asker.sees(job.owner):
            shown = job_id[:_SHOWN_ID_LENGTH]
            raise JobNotFound(
                f"there is no job '{shown}': it never was, this server was started anew, its result made room for "
                f"others, or it ended more than {self._kept_s:g} seconds ago"
            )
        return job

    def cancel(self, job_id: str, asker: Owner) -> None:
        """End a job that waits or runs; forget one that has ended. Raises `JobNotFound`."""
        job = self.get(job_id, asker)
        if job.is_open and job.task is not None:
            self._end(job, "cancelled")
            job.task.cancel()
        else:
            del self._jobs[job_id]

    async def end(self, job_id: str, asker: Owner) -> None:
        """The same of one that waits or runs, and wait until it has ended."""
        job = self.get(job_id, asker)
        if job.is_open and job.task is not None:
            self.cancel(job_id, asker)
            await asyncio.wait([job.task])

    async def stop(self) -> None:
        """End all that wait or run."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.background.stop()

    async def _run(self, job: Job, work: Work) -> None:
        try:
            async with self._turns:
                job.state = "running"
                result = await work(job)
        except asyncio.CancelledError:
            self._end(job, "cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - whoever asks for the job is told
            job.error = error.with_traceback(None)  # its frames hold what it worked on
            self._end(job, "failed")
        else:
            job.result, job.progress = result, None if job.progress is None else 1.0
            self._end(job, "done", len(result))

    def _end(self, job: Job, state: JobState, size: int = 0) -> None:
        if not job.is_open:
            return
        job.state, job.bytes, job.expires_at = state, size, self._clock() + self._kept_s
        self._make_room()
        asyncio.get_running_loop().call_later(self._kept_s, self._drop_expired)

    def _make_room(self) -> None:
        """Forget the oldest of those that have ended while there are too many, or they are too large."""
        ended = [job for job in self._jobs.values() if not job.is_open]
        held = sum(job.bytes for job in self._jobs.values())
        while ended and (held > self._most_bytes or len(ended) > self._most_open):
            oldest = ended.pop(0)
            held -= oldest.bytes
            del self._jobs[oldest.job_id]

    def _drop_expired(self) -> None:
        now = self._clock()
        late = [job for job in self._jobs.values() if job.expires_at is not None and job.expires_at <= now]
        for job in late:
            del self._jobs[job.job_id]
