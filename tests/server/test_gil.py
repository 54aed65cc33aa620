"""Turns at the interpreter: who works on gives way now and then, and who waits gets it."""

import asyncio

import numpy as np
import pytest

from gatescope.server import gil
from gatescope.server.api.codecs.json import writing
from gatescope.server.gil import TURN_S, GilYielder


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when told to, and by a moment's sleep."""

    class Clock:
        now, sleeps = 100.0, 0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            self.sleeps += 1

    clock = Clock()
    monkeypatch.setattr(gil, "time", clock)
    return clock


def test_a_turn_gives_way_once_it_has_lasted_and_then_another_begins(clock):
    turn = GilYielder()
    for passed, sleeps in ((0, 0), (0.9, 0), (0.2, 1), (0, 1), (0.9, 1), (0.2, 2)):
        clock.now += passed * TURN_S
        turn.give_way()
        assert clock.sleeps == sleeps


def test_the_event_loop_has_its_turns_while_much_json_is_written_beside_it():
    # strided, so that each piece is copied first: the writer lets go of the interpreter for an instant, again and again
    signals = [np.moveaxis(np.ones((2, 1, 2500, 4, 128), dtype=np.float32), 3, 0)] * 6

    async def turns():
        task, count = asyncio.create_task(asyncio.to_thread(writing.pieces, signals)), 0
        while not task.done():
            await asyncio.sleep(0.001)
            count += 1
        return count, len(await task)

    count, pieces = asyncio.run(turns())
    assert pieces > 500
    assert count > 20
