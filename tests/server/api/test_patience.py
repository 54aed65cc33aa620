"""Patience: what takes too long, or what nobody waits for any more, is given up, and nothing else."""

import asyncio
import gc
import time
from types import SimpleNamespace

import pytest
from starlette.requests import ClientDisconnect

from gatescope.errors import DeadlineExceeded
from gatescope.server.api import patience
from gatescope.server.api.patience import Patience


class Client:
    """`receive` of a request whose client leaves when it is told to."""

    def __init__(self):
        self.asked, self._left = 0, asyncio.Event()

    def leave(self):
        self._left.set()

    async def __call__(self):
        self.asked += 1
        await self._left.wait()
        return {"type": "http.disconnect"}


async def ends(awaitable):
    """How this ends, and after how many seconds."""
    began = time.monotonic()
    try:
        result = await awaitable
    except (DeadlineExceeded, ClientDisconnect, asyncio.CancelledError) as error:
        result = error
    return result, time.monotonic() - began


@pytest.fixture
def quickly(monkeypatch):
    """Looks, and what counts as an instant or as short, are shorter: tests need not wait."""
    for name, seconds in (("LOOK_S", 0.005), ("INSTANT_S", 0.03), ("SHORT_S", 0.05)):
        monkeypatch.setattr(patience, name, seconds)


@pytest.mark.parametrize(
    ("most_s", "own_s", "expected_s"),
    [(0.2, None, 0.2), (0.2, 5.0, 0.2), (5.0, 0.2, 0.2), (5.0, 0.02, 0.02), (0.02, None, 0.02)],
)
@pytest.mark.usefixtures("quickly")
def test_what_takes_longer_than_it_may_is_given_up(most_s, own_s, expected_s):
    async def main():
        with Patience(most_s).hold(Client(), own_s):
            await asyncio.sleep(10)

    result, seconds = asyncio.run(ends(main()))
    assert isinstance(result, DeadlineExceeded)
    assert result.detail == f"there was no answer within {expected_s:g} seconds"
    assert expected_s <= seconds < expected_s + 1


@pytest.mark.usefixtures("quickly")
def test_what_is_held_on_to_has_the_time_that_it_asks_for_and_else_as_long_as_it_takes():
    async def main():
        held = Patience(0.01)
        with held.hold_on(Client(), None) as without:
            await asyncio.sleep(0.03)
        assert without.seconds == float("inf")
        with held.hold_on(Client(), 0.02):
            await asyncio.sleep(10)

    result, _ = asyncio.run(ends(main()))
    assert isinstance(result, DeadlineExceeded)
    assert "what has begun goes on" in result.detail


def test_a_short_time_is_kept_to_without_waiting_for_a_look(monkeypatch):
    monkeypatch.setattr(patience, "LOOK_S", 5)

    async def main():
        with Patience(30).hold(Client(), 0.01):
            await asyncio.sleep(10)

    result, seconds = asyncio.run(ends(main()))
    assert isinstance(result, DeadlineExceeded)
    assert 0.01 <= seconds < 1


def test_what_is_done_in_time_goes_on_undisturbed():
    async def main():
        held = Patience(0.03)
        with held.hold(Client()):
            await asyncio.sleep(0)
        await asyncio.sleep(0.06)
        return asyncio.current_task().cancelling()

    assert asyncio.run(main()) == 0


@pytest.mark.usefixtures("quickly")
def test_an_error_inside_is_told_as_it_is():
    async def main():
        with Patience(0.2).hold(Client()):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())


@pytest.mark.usefixtures("quickly")
class TestClientsThatLeave:
    def test_end_what_takes_longer_than_an_instant(self):
        async def main():
            client = Client()
            with Patience(30).hold(client) as held:
                held.watch()
                asyncio.get_running_loop().call_later(0.06, client.leave)
                await asyncio.sleep(10)

        result, seconds = asyncio.run(ends(main()))
        assert isinstance(result, ClientDisconnect)
        assert 0.06 <= seconds < 1

    def test_before_they_are_watched_for_end_nothing(self):
        async def main():
            client = Client()
            client.leave()
            with Patience(30).hold(client):
                await asyncio.sleep(0.08)
            return client.asked

        assert asyncio.run(main()) == 0

    def test_are_not_looked_for_where_an_instant_is_enough(self):
        async def main():
            client = Client()
            client.leave()
            with Patience(30).hold(client) as held:
                held.watch()
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.06)
            return client.asked

        assert asyncio.run(main()) == 0

    def test_are_looked_for_once_and_no_more_when_all_is_done(self):
        async def main():
            client = Client()
            with Patience(30).hold(client) as held:
                held.watch()
                await asyncio.sleep(0.08)
            await asyncio.sleep(0.01)
            return client.asked, len(asyncio.all_tasks())

        assert asyncio.run(main()) == (1, 1)


@pytest.mark.usefixtures("quickly")
class TestCancellation:
    """From outside."""

    @staticmethod
    async def held(seconds, work):
        with Patience(30).hold(Client(), seconds):
            await work()

    def test_is_not_swallowed(self):
        async def main():
            task = asyncio.create_task(self.held(None, lambda: asyncio.sleep(10)))
            await asyncio.sleep(0.01)
            task.cancel()
            return (await ends(task))[0], task.cancelled()

        result, cancelled = asyncio.run(main())
        assert isinstance(result, asyncio.CancelledError)
        assert cancelled

    def test_together_with_the_deadline_is_not_swallowed_either(self):
        async def main():
            async def work():
                try:
                    await asyncio.sleep(10)
                finally:
                    task.cancel()

            task = asyncio.create_task(self.held(0.02, work))
            result, _ = await ends(task)
            return result, task.cancelled()

        result, cancelled = asyncio.run(main())
        assert isinstance(result, asyncio.CancelledError)
        assert cancelled

    def test_before_all_is_held_does_not_hide_the_deadline(self):
        """As where an outer timeout has passed and its cleaning up is held to a deadline of its own."""

        async def main():
            async def work():
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    return (await ends(self.held(0.02, lambda: asyncio.sleep(10))))[0]

            task = asyncio.create_task(work())
            await asyncio.sleep(0.01)
            task.cancel()
            return await task

        assert isinstance(asyncio.run(main()), DeadlineExceeded)

    def test_of_the_deadline_leaves_none_behind(self):
        async def main():
            for _ in range(3):
                assert isinstance((await ends(self.held(0.01, lambda: asyncio.sleep(10))))[0], DeadlineExceeded)
            async with asyncio.timeout(5):
                await asyncio.sleep(0.02)
            return asyncio.current_task().cancelling()

        assert asyncio.run(main()) == 0

    def test_by_an_outer_timeout_is_its_own(self):
        async def main():
            async with asyncio.timeout(0.02):
                await self.held(5.0, lambda: asyncio.sleep(10))

        with pytest.raises(TimeoutError):
            asyncio.run(main())

    def test_by_a_deadline_within_a_deadline_is_the_one_that_passed(self):
        async def main():
            with Patience(30).hold(Client(), 0.3):
                inner = (await ends(self.held(0.02, lambda: asyncio.sleep(10))))[0]
                assert "0.02 seconds" in inner.detail
                await asyncio.sleep(10)

        result, _ = asyncio.run(ends(main()))
        assert "0.3 seconds" in result.detail


def test_only_a_task_can_be_held():
    async def main():
        failed = asyncio.get_running_loop().create_future()

        def enter():
            try:
                with Patience(1).hold(Client()):
                    pass
            except RuntimeError as error:
                failed.set_result(str(error))

        asyncio.get_running_loop().call_soon(enter)
        return await failed

    assert "only what a task does" in asyncio.run(main())


@pytest.mark.usefixtures("quickly")
class TestLooks:
    @staticmethod
    def under_way(seen):
        return SimpleNamespace(loop=asyncio.get_running_loop(), look=seen.append, __hash__=object.__hash__)

    def test_nobody_looks_where_nothing_is_held(self):
        async def main():
            held = Patience(30)
            with held.hold(Client()):
                assert held._looking is not None
                await asyncio.sleep(0.02)
                assert held._looking is not None
            await asyncio.sleep(0.03)
            assert (held._looking, held._held) == (None, set())
            with held.hold(Client()):
                return held._looking is not None

        assert asyncio.run(main())

    def test_one_look_is_at_all(self, monkeypatch):
        looks = []
        look = Patience._look
        monkeypatch.setattr(Patience, "_look", lambda self, loop: looks.append(len(self._held)) or look(self, loop))

        async def main():
            held = Patience(0.1)

            async def one():
                with held.hold(Client()):
                    await asyncio.sleep(10)

            results = await asyncio.gather(*(one() for _ in range(50)), return_exceptions=True)
            assert all(isinstance(result, DeadlineExceeded) for result in results)

        asyncio.run(main())
        assert max(looks) == 50
        assert len(looks) <= 0.1 / patience.LOOK_S + 5

    def test_of_another_event_loop_begin_anew(self):
        held = Patience(0.06)

        async def unfinished():
            task = asyncio.create_task(TestLooks.forever(held))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert held._looking is not None  # still to come when this loop ends

        asyncio.run(unfinished())
        for _ in range(2):
            result, seconds = asyncio.run(ends(self.forever(held)))
            assert isinstance(result, DeadlineExceeded)
            assert 0.06 <= seconds < 1
        gc.collect()

    @staticmethod
    async def forever(held):
        with held.hold(Client()):
            await asyncio.sleep(10)
