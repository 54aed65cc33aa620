"""`Lanes`: the threads that compute, and how many of the processor's cores each of them has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")

MOST = 4
"""More would take the interpreter from each other, and from the event loop."""


def count_on(device: torch.device) -> int:
    """How many batches are computed beside one another: one where the device takes them one by one anyway."""
    return min(MOST, torch.get_num_threads()) if device.type == "cpu" else 1


class Lanes:
    """Each computes a batch at a time.

    All cores together have one large batch done the soonest. But a kernel's threads wait for each other at every time
    step, and for whoever else wants their core: where there is more to do than one batch, as many batches with a part
    of the cores each are done sooner than one after the other, and what has little to do at a step is done soonest by
    one core alone.

    Args:
        count: how many there are; they share the threads that torch has here.
    """

    def __init__(self, count: int) -> None:
        self._all_cores = torch.get_num_threads()
        self._cores = max(1, self._all_cores // count)
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="device") for _ in range(count)]
        self._idle = [*self._threads]  # the last one to come free is the next, while its caches are warm

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._threads)

    @property
    def free(self) -> int:
        """How many have nothing to do."""
        return len(self._idle)

    def run(self, job: Callable[..., T], *given: Any, alone: bool = False, wide: bool = True) -> asyncio.Future[T]:
        """Begin with this in one that is free: on its part of the cores; `alone`, on all; if not `wide`, on one."""
        lane, cores = self._idle.pop(), 1 if not wide else self._all_cores if alone else self._cores
        done = asyncio.get_running_loop().run_in_executor(lane, _run, cores, job, *given)
        done.add_done_callback(lambda _: self._idle.append(lane))
        return done

    def here(self, job: Callable[..., T], *given: Any) -> T:
        """Do this now, on this thread and one core."""
        return _run(1, job, *given)

    def do(self, job: Callable[[], T], cores: int | None = None) -> T:
        """What this gives when one has come to it, on all cores or so many; not to be called from the event loop."""
        return self._threads[-1].submit(_run, cores or self._all_cores, job).result()

    def rehearse(self, job: Callable[[], None]) -> None:
        """Do this with every number of cores that a batch may have: kernels are made for each."""
        for cores in {self._all_cores, self._cores, 1}:
            self.do(job, cores)

    async def stop(self) -> None:
        """Let each come to the end of what it does, and leave this thread the number of cores that it had."""
        for lane in self._threads:
            await asyncio.to_thread(lane.shutdown, wait=True, cancel_futures=True)
        torch.set_num_threads(self._all_cores)


def _run(cores: int, job: Callable[..., T], *given: Any) -> T:
    torch.get_num_threads()  # a thread's first operation, or look at it, would set the number to another thread's
    torch.set_num_threads(cores)  # of this thread; MKL takes what was set last, by whichever thread
    return job(*given)
