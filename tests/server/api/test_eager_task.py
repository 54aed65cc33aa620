"""`EagerTask` does what `asyncio.Task` does, but for its beginning."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from gatescope.server.api.eager_task import EagerTask

pytestmark = pytest.mark.anyio

SEEN: ContextVar[str] = ContextVar("SEEN", default="")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def started(coroutine: Coroutine[Any, Any, None]) -> EagerTask:
    """A task that was begun by the event loop itself, as a connection begins one."""
    task = EagerTask(coroutine, asyncio.get_running_loop())
    task.start()
    return task


async def from_the_loop(begin: Callable[[], EagerTask]) -> EagerTask:
    """What `begin` answers when no task calls it."""
    begun: asyncio.Future[EagerTask] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: begun.set_result(begin()))
    return await begun


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_runs_up_to_where_it_waits_before_start_returns() -> None:
    said: list[str] = []

    async def work() -> None:
        said.append("begun")
        await asyncio.sleep(0)
        said.append("gone on")

    def begin() -> EagerTask:
        task = started(work())
        said.append("returned")
        return task

    task = await from_the_loop(begin)
    assert said[:2] == ["begun", "returned"]
    await turns()
    assert said == ["begun", "returned", "gone on"]
    assert task.done()
    assert not task.cancel()


async def test_where_a_task_starts_it_it_begins_at_the_next_turn() -> None:
    """Else one task would run inside another, and a long row of requests one inside the other."""
    said: list[str] = []

    async def work() -> None:
        said.append("begun")

    task = started(work())
    assert said == []
    await turns()
    assert said == ["begun"]
    assert task.done()


async def test_it_is_the_current_task_and_has_a_context_of_its_own() -> None:
    seen: list[Any] = []

    async def work() -> None:
        SEEN.set("inside")
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.extend((asyncio.current_task(), SEEN.get()))

    task = await from_the_loop(lambda: started(work()))
    await turns()
    assert seen == [task, task, "inside"]
    assert SEEN.get() == ""


async def test_results_and_errors_of_futures_reach_it() -> None:
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()
    said: list[Any] = []

    async def work() -> None:
        said.append(await good)
        try:
            await bad
        except ValueError as error:
            said.append(str(error))

    task = await from_the_loop(lambda: started(work()))
    good.set_result(7)
    await turns()
    bad.set_exception(ValueError("no"))
    await turns()
    assert said == [7, "no"]
    assert task.done()


@pytest.mark.parametrize("is_answered", [False, True])
async def test_cancelling_it_cancels_what_it_waits_for(*, is_answered: bool) -> None:
    """Also where that was done a moment before."""
    awaited = asyncio.get_running_loop().create_future()
    said: list[str] = []

    async def work() -> None:
        try:
            await awaited
        except asyncio.CancelledError:
            said.append("cancelled")
            await asyncio.sleep(0)
            said.append("tidied")
            raise

    task = await from_the_loop(lambda: started(work()))
    if is_answered:
        awaited.set_result(None)
    assert task.cancel()
    await turns(4)
    assert said == ["cancelled", "tidied"]
    assert task.done()
    assert awaited.cancelled() is not is_answered


async def test_a_task_that_cancels_itself_is_cancelled_where_it_waits_next() -> None:
    said: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        said.append("goes on")
        await asyncio.get_running_loop().create_future()
        said.append("never")

    task = await from_the_loop(lambda: started(work()))
    await turns()
    assert said == ["goes on"]
    assert task.done()


async def test_timeouts_end_what_they_hold_and_nothing_else() -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            said.append("late")
        await asyncio.sleep(0)
        said.append("goes on")

    task = await from_the_loop(lambda: started(work()))
    await asyncio.sleep(0.05)
    assert said == ["late", "goes on"]
    assert task.done()
    assert task.cancelling() == 0


async def test_what_it_raises_goes_to_the_loops_handler() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def work() -> None:
        raise KeyError("forgotten")

    task = await from_the_loop(lambda: started(work()))
    assert task.done()
    assert [type(context["exception"]) for context in told] == [KeyError]


async def test_nothing_of_it_waits_for_the_garbage_collector() -> None:
    watched: list[weakref.ref[Any]] = []

    class Held:
        pass

    async def work() -> None:
        held = Held()
        watched.append(weakref.ref(held))
        await asyncio.sleep(0)

    gc.disable()
    try:
        task = await from_the_loop(lambda: started(work()))
        await turns()
        assert task.done()
        assert [reference() for reference in watched] == [None]
    finally:
        gc.enable()
