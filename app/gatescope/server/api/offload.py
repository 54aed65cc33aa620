"""Moves work that takes long to another thread, so that the event loop can turn to other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Done = TypeVar("Done")

MAX_LOOP_BYTES = 256 * 1024
"""Bytes of JSON that are read on the event loop, and of arrays that are written there as JSON: a few milliseconds."""


WRITERS = ThreadPoolExecutor(2, thread_name_prefix="writer")
"""Threads of their own for large replies, so that short work on the other threads need not wait for them."""


async def write(work: Callable[Arguments, Done], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Done:
    """Write a large reply."""
    return await asyncio.get_running_loop().run_in_executor(WRITERS, partial(work, *args, **kwargs))


async def run(
    is_large: bool,  # noqa: FBT001 - a condition, which reads as one
    work: Callable[Arguments, Done],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Done:
    """Do this work on another thread where it is large, else at once."""
    return await asyncio.to_thread(work, *args, **kwargs) if is_large else work(*args, **kwargs)
