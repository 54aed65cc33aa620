"""A lock for each key: in the order of arrival, whoever is cancelled meanwhile, and without a trace when unused."""

import asyncio

import pytest

from gatescope.server.serving.keyed_lock import KeyedLock


def run(scenario):
    """`await scenario(lock)`, after which no key may be left."""

    async def main():
        lock = KeyedLock()
        result = await scenario(lock)
        assert lock._locks == {}
        return result

    return asyncio.run(main())


async def waiting(lock, *names, taken, key="a"):
    """Tasks that wait for the key, note their name in `taken`, and release it."""

    async def use(name):
        await lock.acquire(key)
        taken.append(name)
        await asyncio.sleep(0)
        lock.release(key)

    tasks = [asyncio.create_task(use(name)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_a_key_that_nobody_has_is_acquired_without_suspension():
    async def scenario(lock):
        acquiring = lock.acquire("a")
        with pytest.raises(StopIteration):
            acquiring.send(None)
        lock.release("a")

    run(scenario)


def test_a_key_is_acquired_in_the_order_of_arrival():
    async def scenario(lock):
        taken = []
        await lock.acquire("a")
        tasks = await waiting(lock, *range(20), taken=taken)
        assert (taken, lock.users("a")) == ([], 21)
        lock.release("a")
        await asyncio.gather(*tasks)
        return taken

    assert run(scenario) == list(range(20))


def test_other_keys_do_not_wait():
    async def scenario(lock):
        taken = []
        await lock.acquire("a")
        (first,) = await waiting(lock, "first", taken=taken)
        await asyncio.gather(*await waiting(lock, "other", taken=taken, key="b"))
        assert taken == ["other"]
        lock.release("a")
        await first
        return taken

    assert run(scenario) == ["other", "first"]


def test_a_newcomer_does_not_overtake_those_who_wait():
    async def scenario(lock):
        taken = []
        await lock.acquire("a")
        tasks = await waiting(lock, 1, 2, taken=taken)
        lock.release("a")  # the first one's now, who does not know yet
        tasks += await waiting(lock, 3, taken=taken)
        await asyncio.gather(*tasks)
        return taken

    assert run(scenario) == [1, 2, 3]


@pytest.mark.parametrize("is_released", [False, True])
@pytest.mark.parametrize("cancelled", [[0], [1], [3], [0, 1], [1, 2], [0, 1, 2, 3]])
def test_whoever_is_cancelled_is_passed_over(cancelled, is_released):
    async def scenario(lock):
        taken = []
        await lock.acquire("a")
        tasks = await waiting(lock, *range(4), taken=taken)
        if is_released:
            lock.release("a")  # just now it has become the first one's
        for index in cancelled:
            tasks[index].cancel()
        if not is_released:
            await asyncio.sleep(0)
            lock.release("a")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(end, asyncio.CancelledError) for end in ends] == [index in cancelled for index in range(4)]
        return taken

    assert run(scenario) == [index for index in range(4) if index not in cancelled]


def test_users_are_who_holds_the_key_and_who_still_waits():
    async def scenario(lock):
        assert lock.users("a") == 0
        await lock.acquire("a")
        tasks = [asyncio.create_task(lock.acquire("a")) for _ in range(64)]
        await asyncio.sleep(0)
        assert lock.users("a") == 65
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert lock.users("a") == 1
        lock.release("a")

    run(scenario)
