"""A deadline: one moment, however often it is asked for."""

import asyncio

import pytest

from gatescope.errors import DeadlineExceeded
from gatescope.server.serving import deadline as module
from gatescope.server.serving.deadline import Deadline


@pytest.fixture
def clock(monkeypatch):
    """`clock[0]`: the seconds that it shows."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_it_passes_after_its_seconds(clock):
    deadline = Deadline.after(2.5)
    assert (deadline.remaining_s, deadline.has_passed) == (2.5, False)
    clock[0] += 2
    assert (deadline.remaining_s, deadline.has_passed) == (0.5, False)
    clock[0] += 0.5
    assert (deadline.remaining_s, deadline.has_passed) == (0.0, True)
    clock[0] += 1
    assert deadline.remaining_s == -1.0


def test_its_error_names_the_seconds_that_were_given(clock):
    assert str(Deadline.after(2.5).exceeded()) == "there was no answer within 2.5 seconds"


def test_a_block_within_the_limit_is_left_alone():
    async def scenario():
        async with Deadline.after(60).limit():
            return await asyncio.sleep(0, "done")

    assert asyncio.run(scenario()) == "done"


@pytest.mark.parametrize("seconds", [0, 0.02])
def test_a_block_is_cancelled_when_the_deadline_passes(seconds):
    async def scenario():
        async with Deadline.after(seconds).limit():
            await asyncio.sleep(60)

    with pytest.raises(DeadlineExceeded):
        asyncio.run(scenario())


def test_a_cancellation_from_outside_is_no_deadline():
    async def scenario():
        async with Deadline.after(60).limit():
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(scenario())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
