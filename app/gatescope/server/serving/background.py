"""`Background`: one thread for work that may take long, behind everything else.

It has one core, and on Linux a low priority: the threads that answer predictions go first.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

from gatescope.server.serving.workers import run_here

Arguments = ParamSpec("Arguments")
Done = TypeVar("Done")

NICENESS = 10
"""As `nice` takes it: 0 is what other threads have, 19 the last of all."""


class Background:
    """Runs jobs one after another, in the order in which they were given."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background", initializer=_step_back)

    async def run(self, job: Callable[Arguments, Done], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Done:
        """What the job gives; one that nobody waits for any more is not begun."""
        work = partial(job, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, run_here, 1, work)

    async def stop(self) -> None:
        """Begin no further job, and wait for the one that runs."""
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)


def _step_back() -> None:
    """Leave the other cores to others, and the own one as far as they need it.

    NumPy's threads are those of the whole process; nothing else of the service computes with them. On Linux each thread
    has a priority of its own; elsewhere the process has one, which must stay.
    """
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
