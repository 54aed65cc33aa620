"""The policy: batches beside one another, where that helps, and never where it could harm."""

import asyncio

import pytest
import torch

from gatescope.pipeline.layered import LayeredPipeline
from gatescope.selection import Selection
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.policy import BatchingPolicy, rounded_down

pytestmark = pytest.mark.usefixtures("on_device")

HELD = 99.0
"""A query of this value waits at the gate while it is computed."""


@pytest.fixture
def computed(monkeypatch, gate):
    """The sizes of the batches that were computed, in the order in which they ended; some wait at the gate."""
    sizes, answer = [], LayeredPipeline.answer

    def noting(self, query):
        if bool((query.inputs == HELD).any()):
            gate.wait()
        answered = answer(self, query)
        sizes.append(len(query.inputs))
        return answered

    monkeypatch.setattr(LayeredPipeline, "answer", noting)
    return sizes


@pytest.fixture
def hold(ask):
    """A query that waits at the gate."""
    query = ask(5)
    return query.with_inputs(torch.full_like(query.inputs, HELD))


def short(scheduler, model):
    """Let the model's queries cost the event loop more than the device, as far as the policy knows."""
    cost = scheduler._policy.cost
    cost._step_ns[model] = {5: 1.0}, {5: 1.0}
    cost._loop_ns, cost._answered = 1e9, 1.0


async def begun(gate):
    await asyncio.to_thread(gate.reached.wait)


class TestPlaces:
    @pytest.mark.parametrize(("rows", "is_wide"), [(24, False), (25, True)])
    def test_a_wide_batch_has_all_cores_alone_and_a_part_beside_others(self, load, ask, rows, is_wide):
        policy, batch = BatchingPolicy(64, workers=2, cores=4), Batch(load(hidden_size=64), ask(*[3] * rows))
        placements = [policy.place(batch, is_alone=is_alone) for is_alone in (True, False)]
        assert placements == ([(False, 4), (False, 2)] if is_wide else [(False, 1)] * 2)

    @pytest.mark.parametrize("lacks", ["is_reentrant", "is_cpu_float32"])
    def test_custom_code_and_other_precisions_have_all_cores(self, load, ask, monkeypatch, lacks):
        model = load()
        assert not Batch(model, ask(3)).is_wide
        monkeypatch.setattr(model.pipeline, lacks, False)
        assert Batch(model, ask(3)).is_wide

    def test_a_short_batch_is_computed_inline(self, load, ask, monkeypatch):
        monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", 1000)
        policy, batch = BatchingPolicy(64, workers=1, cores=1), Batch(load(), ask(10))
        assert policy.place(batch, is_alone=True) == (False, 1)  # nothing is known yet
        policy.computed(batch, 1000)
        assert policy.place(batch, is_alone=True) == (True, 1)
        monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", 999)
        assert policy.place(batch, is_alone=True) == (False, 1)

    def test_a_batch_that_costs_the_event_loop_little_may_be_longer(self, load, ask, monkeypatch):
        policy, batch = BatchingPolicy(64, workers=1, cores=1), Batch(load(), ask(10))
        policy.computed(batch, 1000)
        policy.cost._loop_ns, policy.cost._answered = 2000, 1
        for limit_ns, is_inline in ((333, False), (334, True)):
            monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", limit_ns)
            assert policy.place(batch, is_alone=True).is_inline == is_inline
        monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", 999)
        policy.cost._loop_ns = 1999
        assert not policy.place(batch, is_alone=True).is_inline

    def test_a_trace_is_never_computed_inline(self, load, ask, monkeypatch):
        monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_NS", 10_000)
        model = load()
        policy, traced = BatchingPolicy(64, workers=1, cores=1), Batch(model, ask(5, trace=Selection()))
        policy.computed(traced, 10)
        assert not policy.place(traced, is_alone=True).is_inline


def test_another_model_does_not_wait(schedule, load, ask, gate, hold, computed):
    one, other = load("one"), load("other", seed=1)

    async def scenario(scheduler):
        short(scheduler, one)
        short(scheduler, other)
        slow = scheduler.submit(one, hold)
        await begun(gate)
        await scheduler.submit(other, ask(3, 3))
        assert not slow.done()
        gate.open.set()
        await slow

    schedule(scenario, workers=2)
    assert computed == [2, 1]


def test_long_queries_of_one_model_run_concurrently(schedule, load, ask, gate, hold, computed):
    model = load()

    async def scenario(scheduler):
        slow = scheduler.submit(model, hold)
        await begun(gate)
        await scheduler.submit(model, ask(3, 3))  # nothing is known of it yet
        assert not slow.done()
        gate.open.set()
        await slow

    schedule(scenario, workers=2)
    assert computed == [2, 1]


@pytest.mark.parametrize("traced", [False, True])
def test_short_queries_of_one_model_gather(schedule, load, ask, gate, hold, computed, traced):
    model = load()
    more = {"trace": Selection().resolve(model.spec)} if traced else {}

    async def scenario(scheduler):
        short(scheduler, model)
        tasks = [scheduler.submit(model, hold)]
        await begun(gate)
        tasks += [scheduler.submit(model, ask(3, **more)) for _ in range(4)]
        await asyncio.sleep(0.02)
        assert scheduler.waiting == 4
        gate.open.set()
        await asyncio.gather(*tasks)

    schedule(scenario, workers=2)
    assert computed == [1, 4]


def test_a_request_that_must_wait_does_not_block_others(schedule, load, ask, gate, hold, computed):
    one, other = load("one"), load("other", seed=1)

    async def scenario(scheduler):
        short(scheduler, one)
        tasks = [scheduler.submit(one, hold)]
        await begun(gate)
        tasks += [scheduler.submit(one, ask(3)) for _ in range(2)]
        await asyncio.sleep(0)
        await scheduler.submit(other, ask(3, 3, 3))
        assert scheduler.waiting == 2
        gate.open.set()
        await asyncio.gather(*tasks)

    schedule(scenario, workers=2)
    assert computed == [3, 1, 2]


def test_custom_modules_are_never_computed_concurrently(schedule, load, ask, gate, hold, computed, monkeypatch):
    one, other, plain = load("one"), load("other", seed=1), load("plain", seed=2)
    for model in (one, other):
        monkeypatch.setattr(model.pipeline, "is_reentrant", False)

    async def scenario(scheduler):
        tasks = [scheduler.submit(one, hold)]
        await begun(gate)
        tasks += [scheduler.submit(model, ask(3, 3)) for model in (one, other)]
        await scheduler.submit(plain, ask(3, 3, 3))
        assert scheduler.waiting == 2
        gate.open.set()
        await asyncio.gather(*tasks)

    schedule(scenario, workers=3)
    assert computed == [3, 1, 2, 2]


def test_idle_workers_share_what_arrives_together(schedule, load, ask, computed):
    model = load()

    async def scenario(scheduler):
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(20)))

    schedule(scenario, workers=2)
    assert computed == [10, 10]


def test_a_worker_leaves_a_busy_one_its_share_of_the_queue(schedule, load, ask, gate, hold, computed, monkeypatch):
    model = load()
    monkeypatch.setattr(BatchingPolicy, "_is_long", lambda *_: True)

    async def scenario(scheduler):
        held = scheduler.submit(model, hold)
        await begun(gate)
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(31)))
        gate.open.set()
        await held

    schedule(scenario, workers=2)
    assert computed == [16, 8, 7, 1]


def test_a_small_remainder_joins_the_batch(schedule, load, ask, gate, hold, computed, monkeypatch):
    model = load()
    monkeypatch.setattr(BatchingPolicy, "_is_long", lambda *_: True)

    async def scenario(scheduler):
        held = [scheduler.submit(model, query) for query in [hold] * 8]
        await begun(gate)
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(14)))
        gate.open.set()
        await asyncio.gather(*held)

    schedule(scenario, workers=2)
    assert computed == [14, 8]


def test_few_queries_are_not_divided(schedule, load, ask, computed):
    model = load()

    async def scenario(scheduler):
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(8)))

    schedule(scenario, workers=2)
    assert computed == [8]


def test_short_queries_are_not_divided(schedule, load, ask, computed):
    model = load()

    async def scenario(scheduler):
        short(scheduler, model)
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(20)))

    schedule(scenario, workers=2)
    assert computed == [20]


def test_batches_have_few_sizes_and_the_rest_is_next(schedule, load, ask, computed):
    model = load()

    async def scenario(scheduler):
        await asyncio.gather(*(scheduler.submit(model, ask(5)) for _ in range(31)))

    schedule(scenario, workers=1)
    assert computed == [28, 3]


def test_there_are_four_batch_sizes_per_power_of_two():
    assert sorted({rounded_down(count) for count in range(1, 65)}) == [
        *range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64
    ]  # fmt: skip
    assert all(0.8 * count <= rounded_down(count) <= count for count in range(1, 5000))


def test_a_failing_batch_leaves_the_one_beside_it_alone(schedule, load, ask, gate, hold, computed, monkeypatch):
    model, answer = load(), LayeredPipeline.answer

    def failing(self, query):
        if bool((query.inputs == -HELD).any()):
            raise RuntimeError("poison")
        return answer(self, query)

    monkeypatch.setattr(LayeredPipeline, "answer", failing)
    poisoned = hold.with_inputs(torch.full_like(hold.inputs, -HELD))

    async def scenario(scheduler):
        slow = scheduler.submit(model, hold)
        await begun(gate)
        with pytest.raises(RuntimeError, match="poison"):
            await scheduler.submit(model, poisoned)
        gate.open.set()
        return await slow

    assert schedule(scenario, workers=2).prediction is not None


def test_stopping_waits_for_every_worker(schedule, load, gate, hold, computed):
    model = load()

    async def scenario(scheduler):
        slow = [scheduler.submit(model, hold) for _ in range(2)]
        await begun(gate)
        scheduler.close()
        stopping = asyncio.create_task(scheduler.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        gate.open.set()
        await stopping
        return await asyncio.gather(*slow, return_exceptions=True)

    assert len(schedule(scenario, workers=2)) == 2


def test_answers_of_many_at_once_equal_those_computed_alone(schedule, load, ask):
    models = [load("one"), load("other", seed=1, bidirectional=True), load("third", seed=2, num_layers=2)]
    traced = [Selection().resolve(model.spec) for model in models]

    async def scenario(scheduler):
        asked = []
        for index in range(240):
            kind, length = index % 3, 3 + index * 7 % 40
            more = {"trace": traced[kind]} if index % 4 == 0 else {}
            asked.append((models[kind], ask(length, *[length // 2] * (index % 5 == 0), **more)))
        answers = await asyncio.gather(*(scheduler.submit(model, query) for model, query in asked))
        return list(zip(asked, answers, strict=True))

    for (model, query), answer in schedule(scenario, workers=3):
        alone = model.pipeline.answer(query)
        torch.testing.assert_close(answer.prediction.values, alone.prediction.values, rtol=0, atol=2e-6, equal_nan=True)
        assert (answer.trace is None) == (query.trace is None)
        if query.trace is not None:
            for name, signal in alone.trace.signals.items():
                torch.testing.assert_close(answer.trace.signals[name], signal, rtol=0, atol=2e-6, equal_nan=True)
            assert answer.trace.residual < 1e-5
