"""Lanes: batches beside one another, where that helps, and never where it could harm."""

import asyncio
import threading

import pytest
import torch

from gatescope.pipeline.plain import PlainPipeline
from gatescope.selection import Selection
from gatescope.server.serving import workers
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.scheduler import Batcher, _rounded_down
from gatescope.server.serving.workers import Lanes

pytestmark = pytest.mark.usefixtures("on_device")

HELD = 99.0
"""A query of this value waits at the gate while it is computed."""


@pytest.fixture
def computed(monkeypatch, gate):
    """The sizes of the batches that were computed, in the order in which they ended; some wait at the gate."""
    sizes, answer = [], PlainPipeline.answer

    def noting(self, query):
        if bool((query.inputs == HELD).any()):
            gate.wait()
        answered = answer(self, query)
        sizes.append(len(query.inputs))
        return answered

    monkeypatch.setattr(PlainPipeline, "answer", noting)
    return sizes


@pytest.fixture
def hold(ask):
    """A query that waits at the gate."""
    query = ask(5)
    return query.reading(torch.full_like(query.inputs, HELD))


@pytest.fixture
def cores():
    """`torch` computes with four threads here, wherever this machine has them."""
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(1)


def run(scenario, count=2):
    """`await scenario(batcher)` with a batcher of so many lanes."""

    async def main():
        batcher = Batcher(1000, 64, count)
        try:
            return await scenario(batcher)
        finally:
            batcher.close()
            await batcher.stop()

    return asyncio.run(main())


def short(batcher, model):
    """Let the model's queries cost the event loop more than the device, as far as the batcher knows."""
    batcher._pace._step_ns[model] = {5: 1.0}, {5: 1.0}
    batcher._pace._loop_ns, batcher._pace._answered = 1e9, 1.0


async def begun(gate):
    await asyncio.to_thread(gate.reached.wait)


def test_alone_a_batch_has_all_cores_and_beside_others_its_part(cores):
    async def scenario():
        two = Lanes(2)
        numbers = [await two.run(torch.get_num_threads, alone=alone) for alone in (True, False, True)]
        await two.stop()
        return numbers

    assert asyncio.run(scenario()) == [cores, cores // 2, cores]


def test_what_is_not_wide_has_one_core_whoever_is_beside_it(cores):
    async def scenario():
        two = Lanes(2)
        numbers = [await two.run(torch.get_num_threads, alone=alone, wide=False) for alone in (True, False)]
        numbers.append(two.here(torch.get_num_threads))
        await two.stop()
        return numbers, torch.get_num_threads()

    assert asyncio.run(scenario()) == ([1, 1, 1], cores)


@pytest.mark.parametrize(
    ("rows", "units", "is_wide"), [(1, 64, False), (24, 64, False), (25, 64, True), (1, 320, True)]
)
def test_a_lone_query_has_all_cores_where_a_step_is_much_work(load, ask, cores, monkeypatch, rows, units, is_wide):
    seen, answer = [], PlainPipeline.answer
    monkeypatch.setattr(
        PlainPipeline, "answer", lambda self, query: seen.append(torch.get_num_threads()) or answer(self, query)
    )

    async def scenario(batcher):
        await batcher.answer(load(hidden_size=units), ask(*[3] * rows))

    run(scenario)
    assert seen == [cores if is_wide else 1]


@pytest.mark.parametrize("lacks", ["is_reentrant", "is_at_home"])
def test_code_of_ones_own_and_what_is_not_at_home_have_all_cores(load, ask, monkeypatch, lacks):
    model = load()
    assert not Batch(model, ask(3)).is_wide
    monkeypatch.setattr(model.pipeline, lacks, False)
    assert Batch(model, ask(3)).is_wide


def test_other_threads_keep_their_number_of_cores(cores):
    async def scenario():
        two = Lanes(2)
        await two.run(torch.get_num_threads, alone=False)
        await two.stop()

    asyncio.run(scenario())
    assert torch.get_num_threads() == cores


def test_the_last_one_to_come_free_is_the_next():
    async def scenario():
        three = Lanes(3)
        names = {await three.run(lambda: threading.current_thread().name, alone=False) for _ in range(5)}
        free = three.free
        await three.stop()
        return names, free

    names, free = asyncio.run(scenario())
    assert len(names) == 1
    assert free == 3


def test_a_lane_whose_job_fails_is_free_again():
    async def scenario():
        one = Lanes(1)
        with pytest.raises(ZeroDivisionError):
            await one.run(lambda: 1 / 0, alone=True)
        again = await one.run(lambda: "well", alone=True)
        await one.stop()
        return again

    assert asyncio.run(scenario()) == "well"


def test_rehearsed_is_every_number_of_cores_once(cores):
    seen = []
    two, one = Lanes(2), Lanes(1)
    two.rehearse(lambda: seen.append(torch.get_num_threads()))
    one.rehearse(lambda: seen.append(torch.get_num_threads()))
    asyncio.run(two.stop())
    asyncio.run(one.stop())
    assert sorted(seen) == [1, 1, cores // 2, cores, cores]


def test_a_gpu_has_one_lane_and_a_processor_no_more_than_it_has_cores(cores):
    assert workers.count_on(torch.device("cuda")) == 1
    assert workers.count_on(torch.device("cpu")) == min(workers.MOST, cores)
    torch.set_num_threads(1)
    assert workers.count_on(torch.device("cpu")) == 1


def test_another_model_is_not_held_up(load, ask, gate, hold, computed):
    one, other = load("one"), load("other", seed=1)

    async def scenario(batcher):
        short(batcher, one)
        short(batcher, other)
        slow = asyncio.create_task(batcher.answer(one, hold))
        await begun(gate)
        await batcher.answer(other, ask(3, 3))
        assert not slow.done()
        gate.open.set()
        await slow

    run(scenario)
    assert computed == [2, 1]


def test_long_queries_of_one_model_are_computed_beside_one_another(load, ask, gate, hold, computed):
    model = load()

    async def scenario(batcher):
        slow = asyncio.create_task(batcher.answer(model, hold))
        await begun(gate)
        await batcher.answer(model, ask(3, 3))  # nothing is known of it yet
        assert not slow.done()
        gate.open.set()
        await slow

    run(scenario)
    assert computed == [2, 1]


@pytest.mark.parametrize("traced", [False, True])
def test_short_queries_of_one_model_gather(load, ask, gate, hold, computed, traced):
    model = load()
    more = {"trace": Selection().resolve(model.spec)} if traced else {}

    async def scenario(batcher):
        short(batcher, model)
        tasks = [asyncio.create_task(batcher.answer(model, hold))]
        await begun(gate)
        tasks += [asyncio.create_task(batcher.answer(model, ask(3, **more))) for _ in range(4)]
        await asyncio.sleep(0.02)
        assert batcher.waiting == 4
        gate.open.set()
        await asyncio.gather(*tasks)

    run(scenario)
    assert computed == [1, 4]


def test_what_is_held_up_does_not_hold_up_what_comes_behind_it(load, ask, gate, hold, computed):
    one, other = load("one"), load("other", seed=1)

    async def scenario(batcher):
        short(batcher, one)
        tasks = [asyncio.create_task(batcher.answer(one, hold))]
        await begun(gate)
        tasks += [asyncio.create_task(batcher.answer(one, ask(3))) for _ in range(2)]
        await asyncio.sleep(0)
        await batcher.answer(other, ask(3, 3, 3))
        assert batcher.waiting == 2
        gate.open.set()
        await asyncio.gather(*tasks)

    run(scenario)
    assert computed == [3, 1, 2]


def test_modules_with_code_of_their_own_are_never_beside_one_another(load, ask, gate, hold, computed, monkeypatch):
    one, other, plain = load("one"), load("other", seed=1), load("plain", seed=2)
    for model in (one, other):
        monkeypatch.setattr(model.pipeline, "is_reentrant", False)

    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.answer(one, hold))]
        await begun(gate)
        tasks += [asyncio.create_task(batcher.answer(model, ask(3, 3))) for model in (one, other)]
        await batcher.answer(plain, ask(3, 3, 3))
        assert batcher.waiting == 2
        gate.open.set()
        await asyncio.gather(*tasks)

    run(scenario, count=3)
    assert computed == [3, 1, 2, 2]


def test_lanes_that_are_free_share_what_comes_at_once(load, ask, computed):
    model = load()

    async def scenario(batcher):
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(20)))

    run(scenario)
    assert computed == [10, 10]


def test_a_lane_leaves_the_one_that_computes_its_share_of_what_waits(load, ask, gate, hold, computed, monkeypatch):
    model = load()
    monkeypatch.setattr(Batcher, "_is_long", lambda *_: True)

    async def scenario(batcher):
        held = batcher.submit(model, hold)
        await begun(gate)
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(31)))
        gate.open.set()
        await held

    run(scenario)
    assert computed == [16, 8, 7, 1]


def test_a_little_left_over_is_computed_along(load, ask, gate, hold, computed, monkeypatch):
    model = load()
    monkeypatch.setattr(Batcher, "_is_long", lambda *_: True)

    async def scenario(batcher):
        held = [batcher.submit(model, query) for query in [hold] * 8]
        await begun(gate)
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(14)))
        gate.open.set()
        await asyncio.gather(*held)

    run(scenario)
    assert computed == [14, 8]


def test_few_queries_are_not_parted(load, ask, computed):
    model = load()

    async def scenario(batcher):
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(8)))

    run(scenario)
    assert computed == [8]


def test_short_queries_are_not_parted(load, ask, computed):
    model = load()

    async def scenario(batcher):
        short(batcher, model)
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(20)))

    run(scenario)
    assert computed == [20]


def test_batches_have_one_of_few_sizes_and_what_is_left_is_next(load, ask, computed):
    model = load()

    async def scenario(batcher):
        await asyncio.gather(*(batcher.answer(model, ask(5)) for _ in range(31)))

    run(scenario, count=1)
    assert computed == [28, 3]


def test_sizes_are_four_between_a_power_of_two_and_the_next():
    assert sorted({_rounded_down(count) for count in range(1, 65)}) == [
        *range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64
    ]  # fmt: skip
    assert all(0.8 * count <= _rounded_down(count) <= count for count in range(1, 5000))


def test_a_poisoned_batch_harms_nobody_beside_it(load, ask, gate, hold, computed, monkeypatch):
    model, answer = load(), PlainPipeline.answer

    def failing(self, query):
        if bool((query.inputs == -HELD).any()):
            raise RuntimeError("poison")
        return answer(self, query)

    monkeypatch.setattr(PlainPipeline, "answer", failing)
    poisoned = hold.reading(torch.full_like(hold.inputs, -HELD))

    async def scenario(batcher):
        slow = asyncio.create_task(batcher.answer(model, hold))
        await begun(gate)
        with pytest.raises(RuntimeError, match="poison"):
            await batcher.answer(model, poisoned)
        gate.open.set()
        return await slow

    assert run(scenario).prediction is not None


def test_stopping_waits_for_every_lane(load, gate, hold, computed):
    model = load()

    async def scenario(batcher):
        slow = [asyncio.create_task(batcher.answer(model, hold)) for _ in range(2)]
        await begun(gate)
        batcher.close()
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        gate.open.set()
        await stopping
        return await asyncio.gather(*slow, return_exceptions=True)

    assert len(run(scenario)) == 2


def test_answers_of_many_at_once_equal_those_computed_alone(load, ask):
    models = [load("one"), load("other", seed=1, bidirectional=True), load("third", seed=2, num_layers=2)]
    traced = [Selection().resolve(model.spec) for model in models]

    async def scenario(batcher):
        asked = []
        for index in range(240):
            kind, length = index % 3, 3 + index * 7 % 40
            more = {"trace": traced[kind]} if index % 4 == 0 else {}
            asked.append((models[kind], ask(length, *[length // 2] * (index % 5 == 0), **more)))
        answers = await asyncio.gather(*(batcher.answer(model, query) for model, query in asked))
        return list(zip(asked, answers, strict=True))

    for (model, query), answer in run(scenario, count=3):
        alone = model.pipeline.answer(query)
        torch.testing.assert_close(answer.prediction.values, alone.prediction.values, rtol=0, atol=2e-6, equal_nan=True)
        assert (answer.trace is None) == (query.trace is None)
        if query.trace is not None:
            for name, signal in alone.trace.signals.items():
                torch.testing.assert_close(answer.trace.signals[name], signal, rtol=0, atol=2e-6, equal_nan=True)
            assert answer.trace.residual < 1e-5
