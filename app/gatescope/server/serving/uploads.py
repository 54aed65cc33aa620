"""`received`: an upload on its way to the disk, so that it is never held in memory."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from gatescope.errors import Unavailable
from gatescope.server.serving.model_loader import Loader

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_BYTES = 1024 * 1024
"""Written at once: the network's chunks are far smaller than what is worth a turn of another thread."""


@asynccontextmanager
async def received(chunks: AsyncIterator[bytes], folder: Path, loader: Loader) -> AsyncIterator[Path]:
    """The upload as a file in a hidden folder in this one, until the block and the loader's jobs in it have ended.

    Raises:
        Unavailable: it cannot be written; the reason is given.
    """
    hidden = folder / f".upload-{secrets.token_hex(8)}"
    path = hidden / "upload"
    try:
        try:
            await ended(hidden.mkdir)
            await write(chunks, path)
        except OSError as error:
            raise unwritable(error) from error
        yield path
    finally:
        loader.after(partial(shutil.rmtree, hidden, ignore_errors=True))


def unwritable(error: OSError) -> Unavailable:
    """What to say where the folder of models takes no more."""
    return Unavailable(f"this server cannot write into its folder of models: {error.strerror}")


async def write(chunks: AsyncIterator[bytes], path: Path) -> None:
    """The chunks as a new file; raises `OSError`."""
    file = await ended(path.open, "xb")
    block = bytearray()
    try:
        async for chunk in chunks:
            block += chunk
            if len(block) >= BLOCK_BYTES:
                await ended(file.write, bytes(block))
                block.clear()
        await ended(file.write, bytes(block))
    finally:
        await ended(file.close)


async def ended(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The job's result, off the event loop; a cancellation waits for its end, so that nothing is done after it."""
    task = asyncio.ensure_future(asyncio.to_thread(job, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    finally:
        await asyncio.wait([task])
