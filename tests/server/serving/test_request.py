"""`Request` is a future like any other, but for when its waiter goes on."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import ContextVar

import pytest
import torch

from gatescope.pipeline.query import Answer, Query
from gatescope.server.serving.request import Request

pytestmark = pytest.mark.anyio

ANSWER = Answer(torch.ones(1), torch.ones(1, 1, 1))
SEEN: ContextVar[str] = ContextVar("SEEN", default="")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asked() -> Request:
    return Request(None, Query(torch.ones(1, 1, 1), torch.ones(1)))


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def in_the_loop(call: Callable[[], object]) -> list[str]:
    """What `call` has written when it returns; no task calls it."""
    written: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: written.set_result(call()))
    return await written


async def test_who_waits_goes_on_within_answer():
    request, said = asked(), []

    async def wait():
        said.append(await request)

    def answer():
        request.answer(ANSWER)
        return list(said)

    task = asyncio.create_task(wait())
    await turns()
    assert await in_the_loop(answer) == [ANSWER]
    await task


async def test_who_asks_later_gets_the_answer():
    request = asked()
    request.answer(ANSWER)
    assert await request is ANSWER
    assert await asyncio.gather(request) == [ANSWER]


async def test_several_may_wait():
    request = asked()
    tasks = [asyncio.create_task(asyncio.wait_for(asyncio.shield(request), 10)) for _ in range(3)]
    await turns()
    await in_the_loop(lambda: request.answer(ANSWER))
    assert await asyncio.gather(*tasks) == [ANSWER] * 3


async def test_each_goes_on_in_its_own_context():
    request, seen = asked(), []

    async def wait(name):
        SEEN.set(name)
        await request
        seen.append(SEEN.get())

    tasks = [asyncio.create_task(wait(name)) for name in "ab"]
    await turns()
    SEEN.set("the scheduler's")
    await in_the_loop(lambda: request.answer(ANSWER))
    await asyncio.gather(*tasks)
    assert seen == ["a", "b"]


async def test_an_error_is_seen_at_the_next_turn():
    """It may come from a task that closes the scheduler, inside which no other task may run."""
    request, said = asked(), []

    async def wait():
        try:
            await request
        except ValueError as error:
            said.append(str(error))

    task = asyncio.create_task(wait())
    await turns()
    request.set_exception(ValueError("closed"))
    assert said == []
    await task
    assert said == ["closed"]


async def test_a_waiter_that_has_gone_is_not_called():
    request = asked()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(request), 0.01)
    called = []
    request.add_done_callback(called.append)
    assert request.remove_done_callback(called.append) == 1
    assert request.remove_done_callback(called.append) == 0
    await in_the_loop(lambda: request.answer(ANSWER))
    await turns()
    assert called == []


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_its_query_is_released(how):
    request = asked()
    inputs = weakref.ref(request.query.inputs)
    task = asyncio.create_task(asyncio.wait_for(request, 10))
    await turns()
    if how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert request.cancelled()
    else:
        request.set_exception(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await task
    assert inputs() is None
