"""`Workers`: the device's threads, and how many of the processor's cores each of them has."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from gatescope.server.serving import tuning

T = TypeVar("T")


def count_on(device: torch.device) -> int:
    """How many workers a device has: one where it takes batches one by one anyway."""
    return min(tuning.MAX_WORKERS, torch.get_num_threads()) if device.type == "cpu" else 1


class Workers:
    """A pool of threads, each of which computes one batch at a time; to be used on the event loop.

    All cores together have one large batch done the soonest. But a kernel's threads wait for each other at every time
    step. Where there are several batches, each is done sooner on a part of the cores (decision 14).

    Args:
        count: how many there are; they share the threads that torch has here.
    """

    def __init__(self, count: int) -> None:
        self.count, self.cores = count, torch.get_num_threads()
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="device") for _ in range(count)]
        self._idle = [*self._threads]  # the last one to come back is the next, while its caches are warm
        self._reserving: deque[asyncio.Future[ThreadPoolExecutor]] = deque()
        self.on_idle: Callable[[], None] = _nothing
        """Is called when a worker has come back."""

    @property
    def idle(self) -> int:
        """How many have nothing to do."""
        return len(self._idle)

    @property
    def core_counts(self) -> set[int]:
        """How many cores a batch may have: kernels are made for each number."""
        return {self.cores, max(1, self.cores // self.count), 1}

    def run(self, cores: int, job: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Start a job on an idle worker; there must be one."""
        return self._start(self._idle.pop(), cores, job, *arguments)

    async def reserve(self, cores: int, job: Callable[..., T], *arguments: Any) -> T:
        """Take a worker out of the pool when one is idle, run a job on it, and put it back."""
        if self._idle:
            return await self.run(cores, job, *arguments)
        reserved: asyncio.Future[ThreadPoolExecutor] = asyncio.get_running_loop().create_future()
        self._reserving.append(reserved)
        try:
            thread = await reserved
        except asyncio.CancelledError:
            if reserved.done() and not reserved.cancelled():
                self._put_back(reserved.result())
            raise
        return await self._start(thread, cores, job, *arguments)

    async def stop(self) -> None:
        """Let each finish what it does, and leave this thread the number of cores that it had."""
        for thread in self._threads:
            await asyncio.to_thread(thread.shutdown, wait=True, cancel_futures=True)
        torch.set_num_threads(self.cores)

    def _start(
        self, thread: ThreadPoolExecutor, cores: int, job: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        done = asyncio.get_running_loop().run_in_executor(thread, run_here, cores, job, *arguments)
        done.add_done_callback(lambda _: self._put_back(thread))
        return done

    def _put_back(self, thread: ThreadPoolExecutor) -> None:
        while self._reserving:
            reserved = self._reserving.popleft()
            if not reserved.done():
                reserved.set_result(thread)
                return
        self._idle.append(thread)
        self.on_idle()


def run_here(cores: int, job: Callable[..., T], *arguments: Any) -> T:
    """Run a job on this thread, on so many cores."""
    torch.get_num_threads()  # a thread's first operation, or look at it, would set the number to another thread's
    torch.set_num_threads(cores)  # of this thread; MKL takes what was set last, by whichever thread
    return job(*arguments)


def _nothing() -> None:
    pass
