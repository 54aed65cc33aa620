"""The batcher: never idle while something waits, and one request harms no other."""

import asyncio
import threading
from dataclasses import replace

import pytest
import torch

from gatescope.errors import NotReady, Overloaded
from gatescope.selection import Selection
from gatescope.server.serving.scheduler import Batcher

pytestmark = pytest.mark.usefixtures("on_device")


@pytest.fixture
def computed(monkeypatch):
    """The queries that reached a pipeline, in order."""
    from gatescope.pipeline.plain import PlainPipeline  # noqa: PLC0415

    seen, answer = [], PlainPipeline.answer

    def noting(self, query):
        seen.append(query)
        return answer(self, query)

    monkeypatch.setattr(PlainPipeline, "answer", noting)
    return seen


def run(scenario, max_queue_size=100, max_batch_size=64):
    """`await scenario(batcher)` with a batcher that is stopped at the end."""

    async def main():
        batcher = Batcher(max_queue_size, max_batch_size)
        try:
            return await scenario(batcher)
        finally:
            batcher.close()
            await batcher.stop()

    return asyncio.run(main())


async def held(batcher, gate):
    """Keep the device busy until the gate opens."""
    threading.Thread(target=batcher.do, args=(gate.wait,)).start()
    await asyncio.to_thread(gate.reached.wait)


async def gathered(batcher, gate, model, *queries):
    """Let all of these wait while the device is busy; one lone query goes ahead of them. Tasks of the others."""
    await held(batcher, gate)
    first = asyncio.create_task(batcher.answer(model, queries[0]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(batcher.answer(model, query)) for query in queries[1:]]
    await asyncio.sleep(0)
    return first, others


def test_what_waits_while_the_device_is_busy_is_one_batch(load, ask, gate, computed):
    model = load()
    queries = [ask(5), ask(5), ask(4), ask(6, 6)]

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, *queries)
        gate.open.set()
        return [await first, *await asyncio.gather(*others)]

    answers = run(scenario)
    assert [len(query.inputs) for query in computed] == [1, 4]
    for query, answer in zip(queries, answers, strict=True):
        expected = model.pipeline.answer(query).prediction.values
        torch.testing.assert_close(answer.prediction.values, expected, rtol=0, atol=1e-6, equal_nan=True)


def test_a_cancelled_waiter_leaves_its_batch_mates_unharmed(load, ask, gate):
    model = load()

    async def scenario(batcher):
        _, (one, two, three) = await gathered(batcher, gate, model, *(ask(5) for _ in range(4)))
        two.cancel()
        gate.open.set()
        answers = await asyncio.gather(one, two, three, return_exceptions=True)
        return [type(answer).__name__ for answer in answers]

    assert run(scenario) == ["Answer", "CancelledError", "Answer"]


def test_a_waiter_that_is_cancelled_while_its_batch_is_computed_harms_nobody(load, ask, gate, monkeypatch):
    model = load()
    answer = type(model.pipeline).answer

    def slow(self, query):
        gate.wait()
        return answer(self, query)

    monkeypatch.setattr(type(model.pipeline), "answer", slow)

    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.answer(model, ask(5))) for _ in range(3)]
        await asyncio.to_thread(gate.reached.wait)
        tasks[0].cancel()
        tasks[1].cancel()
        gate.open.set()
        return [type(each).__name__ for each in await asyncio.gather(*tasks, return_exceptions=True)]

    assert run(scenario) == ["CancelledError", "CancelledError", "Answer"]


def test_what_nobody_waits_for_any_more_is_not_computed(load, ask, gate, computed):
    model = load()

    async def scenario(batcher):
        first, (departed,) = await gathered(batcher, gate, model, ask(5), ask(7))
        departed.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        gate.open.set()
        await first

    run(scenario)
    assert [query.inputs.shape[1] for query in computed] == [5]


def test_what_has_left_is_forgotten_when_nothing_else_waits(load, ask, gate):
    model = load()

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, *(ask(7) for _ in range(20)))
        for other in others:
            other.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        await first
        await asyncio.sleep(0.05)
        return len(batcher._waiting)

    assert run(scenario) == 0


def test_a_batch_that_was_computed_again_one_by_one_teaches_no_pace(load, ask, gate, monkeypatch):
    model = load()
    answer = type(model.pipeline).answer

    def failing(self, query):
        if len(query.inputs) > 1:
            raise RuntimeError("no memory for so many")
        return answer(self, query)

    monkeypatch.setattr(type(model.pipeline), "answer", failing)

    async def scenario(batcher):
        learnt = []
        monkeypatch.setattr(batcher._pace, "learn", lambda batch, ns: learnt.append((batch.sequences, ns)))
        first, others = await gathered(batcher, gate, model, ask(5), ask(5), ask(5), ask(5))
        gate.open.set()
        await asyncio.gather(first, *others)
        return learnt

    ((sequences, ns),) = run(scenario)  # of the first, which was alone
    assert sequences == 1
    assert ns > 0


def test_a_poisoned_query_fails_alone(load, ask, gate, monkeypatch):
    model = load()
    answer = type(model.pipeline).answer

    def failing(self, query):
        if bool((query.inputs == 99).any()):
            raise RuntimeError("poison")
        return answer(self, query)

    monkeypatch.setattr(type(model.pipeline), "answer", failing)
    poisoned = ask(5)
    poisoned = replace(poisoned, inputs=torch.full_like(poisoned.inputs, 99))

    async def scenario(batcher):
        _, others = await gathered(batcher, gate, model, ask(5), ask(5), poisoned, ask(4))
        gate.open.set()
        answers = await asyncio.gather(*others, return_exceptions=True)
        return [type(each).__name__ for each in answers], batcher.statistics(model)

    kinds, statistics = run(scenario)
    assert kinds == ["Answer", "RuntimeError", "Answer"]
    assert (statistics.success.count, statistics.fail.count) == (3, 1)


def test_what_does_not_go_together_keeps_its_order(load, ask, gate, computed):
    model = load()
    traced = Selection().resolve(model.spec)

    async def scenario(batcher):
        first, others = await gathered(
            batcher, gate, model, ask(2), ask(3), ask(3, trace=traced), ask(4), ask(4, trace=traced), ask(90)
        )
        gate.open.set()
        await asyncio.gather(first, *others)

    run(scenario)
    assert [(query.trace is not None, tuple(query.inputs.shape[:2])) for query in computed] == [
        (False, (1, 2)),
        (False, (2, 4)),
        (True, (2, 4)),
        (False, (1, 90)),
    ]


def test_a_batch_has_no_more_sequences_than_it_may(load, ask, gate, computed):
    model = load()

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, *(ask(5) for _ in range(8)), ask(*[5] * 9))
        gate.open.set()
        await asyncio.gather(first, *others)

    run(scenario, max_batch_size=3)
    assert [len(query.inputs) for query in computed] == [1, 3, 3, 1, 9]


def test_a_full_queue_turns_away(load, ask, gate):
    model = load()

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, ask(5), ask(5), ask(5))
        with pytest.raises(Overloaded, match="2 requests wait already"):
            await batcher.answer(model, ask(5))
        gate.open.set()
        await asyncio.gather(first, *others)

    run(scenario, max_queue_size=2)


def test_stopping_turns_away_what_waits_and_what_comes(load, ask, gate):
    model = load()

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, ask(5), ask(5))
        batcher.close()
        gate.open.set()
        await batcher.stop()
        answers = await asyncio.gather(first, *others, return_exceptions=True)
        with pytest.raises(NotReady):
            await batcher.answer(model, ask(5))
        return answers

    first, waiting = run(scenario)
    assert isinstance(waiting, NotReady)
    assert isinstance(first, Exception)


def test_statistics_count_sequences_batches_and_what_they_took(load, ask, gate):
    model = load()

    async def scenario(batcher):
        first, others = await gathered(batcher, gate, model, ask(5), ask(5), ask(5, 5))
        gate.open.set()
        await asyncio.gather(first, *others)
        return batcher.statistics(model)

    statistics = run(scenario)
    assert (statistics.inference_count, statistics.execution_count) == (4, 2)
    assert {size: each.infer.count for size, each in statistics.batches.items()} == {1: 1, 3: 1}
    assert (statistics.success.count, statistics.queue.count, statistics.computing.infer.count) == (3, 3, 3)
    assert statistics.success.ns >= statistics.queue.ns + statistics.computing.infer.ns
    assert statistics.last_inference_ms > 1_600_000_000_000
