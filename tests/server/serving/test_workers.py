"""Workers: each has its cores, is taken out of the pool while it works, and comes back."""

import asyncio
import threading

import pytest
import torch

from gatescope.server.serving import tuning, workers
from gatescope.server.serving.workers import Workers, run_here


@pytest.fixture
def cores():
    """`torch` computes with four threads here, wherever this machine has them."""
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(1)


def run(scenario, count):
    """`await scenario(workers)`."""

    async def main():
        pool = Workers(count)
        try:
            return await scenario(pool)
        finally:
            await pool.stop()

    return asyncio.run(main())


def test_a_job_has_as_many_cores_as_it_was_given(cores):
    async def scenario(pool):
        return [await pool.run(count, torch.get_num_threads) for count in (4, 2, 1)] + [
            run_here(1, torch.get_num_threads)
        ]

    assert run(scenario, 2) == [4, 2, 1, 1]


def test_other_threads_keep_their_number_of_cores(cores):
    run(lambda pool: pool.run(1, torch.get_num_threads), 2)
    assert torch.get_num_threads() == cores


def test_the_last_worker_to_come_back_is_the_next(cores):
    async def scenario(pool):
        names = {await pool.run(1, lambda: threading.current_thread().name) for _ in range(5)}
        return len(names), pool.idle

    assert run(scenario, 3) == (1, 3)


def test_a_worker_whose_job_fails_is_idle_again():
    async def scenario(pool):
        with pytest.raises(ZeroDivisionError):
            await pool.run(1, lambda: 1 / 0)
        return await pool.run(1, lambda: "well")

    assert run(scenario, 1) == "well"


def test_core_counts_are_all_a_part_and_one(cores):
    assert Workers(2).core_counts == {4, 2, 1}
    assert Workers(1).core_counts == {4, 1}


def test_a_gpu_has_one_worker_and_a_processor_no_more_than_cores(cores):
    assert workers.count_on(torch.device("cuda")) == 1
    assert workers.count_on(torch.device("cpu")) == min(tuning.MAX_WORKERS, cores)
    torch.set_num_threads(1)
    assert workers.count_on(torch.device("cpu")) == 1


class TestReserving:
    def test_takes_a_worker_out_of_the_pool(self, gate):
        async def scenario(pool):
            reserved = asyncio.create_task(pool.reserve(1, gate.wait))
            await asyncio.to_thread(gate.reached.wait)
            idle = pool.idle
            gate.open.set()
            await reserved
            return idle, pool.idle

        assert run(scenario, 2) == (1, 2)

    def test_waits_for_a_worker_and_comes_before_the_next_batch(self, gate):
        async def scenario(pool):
            idle = []
            pool.on_idle = lambda: idle.append(pool.idle)
            busy = pool.run(1, gate.wait)
            reserved = [asyncio.create_task(pool.reserve(1, str, number)) for number in (1, 2)]
            await asyncio.sleep(0)
            gate.open.set()
            await busy
            assert pool.idle == 0
            return await asyncio.gather(*reserved), idle

        assert run(scenario, 1) == (["1", "2"], [1])

    @pytest.mark.parametrize("is_too_late", [False, True])
    def test_that_is_cancelled_leaves_the_worker_to_others(self, gate, is_too_late):
        async def scenario(pool):
            busy = pool.run(1, gate.wait)
            reserved = asyncio.create_task(pool.reserve(1, str, 1))
            await asyncio.sleep(0)
            if is_too_late:
                busy.add_done_callback(lambda _: reserved.cancel())
            else:
                reserved.cancel()
            gate.open.set()
            await busy
            await asyncio.gather(reserved, return_exceptions=True)
            assert reserved.cancelled()
            return pool.idle

        assert run(scenario, 1) == 1
