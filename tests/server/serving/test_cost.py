"""Pace: what is foreseen of a batch is what those before it took."""

import asyncio
import gc
from math import inf

import pytest
import torch

from gatescope.selection import Selection
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.cost import Pace
from gatescope.server.serving.scheduler import INSTANT_NS, Batcher


@pytest.fixture
def pace():
    return Pace()


def test_of_a_model_that_was_never_computed_nothing_can_be_told(load, ask, pace):
    assert pace.foreseen_ns(Batch(load(), ask(5))) == inf


def test_what_one_took_is_foreseen_of_the_next_by_its_steps(load, ask, pace):
    model = load()
    pace.learn(Batch(model, ask(5, 5)), 1000)
    assert pace.foreseen_ns(Batch(model, ask(1))) == pytest.approx(100)
    assert pace.foreseen_ns(Batch(model, ask(30))) == pytest.approx(3000)
    assert pace.foreseen_ns(Batch(model, ask(30, 2, 2))) == pytest.approx(9000)  # the padding is computed, too


def test_what_is_quicker_counts_more_than_what_is_slower(load, ask, pace):
    batch = Batch(load(), ask(10))
    pace.learn(batch, 1000)
    pace.learn(batch, 2000)
    assert pace.foreseen_ns(batch) == pytest.approx(1050)
    pace.learn(batch, 550)
    assert pace.foreseen_ns(batch) == pytest.approx(800)
    for _ in range(200):
        pace.learn(batch, 5000)
    assert pace.foreseen_ns(batch) == pytest.approx(5000, rel=0.01)


def test_each_size_has_its_own_and_what_was_never_seen_that_of_the_nearest(load, ask, pace):
    model = load()
    pace.learn(Batch(model, ask(1)), 900)
    pace.learn(Batch(model, ask(64)), 6400)
    assert [pace.foreseen_ns(Batch(model, ask(steps))) for steps in (1, 64, 127)] == pytest.approx([900, 6400, 12700])
    assert pace.foreseen_ns(Batch(model, ask(3))) == pytest.approx(2700)
    assert pace.foreseen_ns(Batch(model, ask(1000))) == pytest.approx(100_000)
    assert [pace.added_ns(Batch(model, ask(steps))) for steps in (1, 64)] == pytest.approx([100, 6400])


def test_what_costs_the_event_loop_little_beside_what_lies_around_it_may_take_longer(load, ask, pace):
    batch = Batch(load(), ask(10))
    pace.learn(batch, 1000)
    assert not pace.is_instant(batch, 999)
    pace._loop_ns, pace._answered = 2000, 1
    assert [pace.is_instant(batch, most_ns) for most_ns in (333, 334)] == [False, True]
    pace._loop_ns = 1999
    assert not pace.is_instant(batch, 999)


def test_queries_that_are_computed_together_count_together(load, ask, pace):
    model, first, second = load(), ask(4), ask(4, 4)
    batch = Batch(model, first)
    batch.take(second)
    pace.learn(batch, 1200)
    assert pace.foreseen_ns(Batch(model, ask(1))) == pytest.approx(100)
    assert pace.foreseen_ns(batch) == pytest.approx(1200)


def test_each_model_has_its_own(load, ask, pace):
    one, other = load("one"), load("other", seed=1)
    pace.learn(Batch(one, ask(10)), 1000)
    assert pace.foreseen_ns(Batch(other, ask(10))) == inf
    pace.learn(Batch(other, ask(10)), 7000)
    assert [pace.foreseen_ns(Batch(model, ask(1))) for model in (one, other)] == pytest.approx([100, 700])


def test_horizons_are_neither_foreseen_nor_learnt_from(load, ask, pace):
    model = load()
    batch = Batch(model, ask(5, horizon=3))
    pace.learn(batch, 10)
    assert pace.foreseen_ns(Batch(model, ask(5))) == inf
    pace.learn(Batch(model, ask(5)), 500)
    assert pace.foreseen_ns(batch) == inf
    pace.learn(batch, 1_000_000)
    assert pace.foreseen_ns(Batch(model, ask(5))) == pytest.approx(500)


def test_traces_have_a_pace_of_their_own_and_are_never_instant(load, ask, pace):
    model = load()
    plain, traced = Batch(model, ask(5)), Batch(model, ask(5, trace=Selection().resolve(model.spec)))
    pace.learn(plain, 500)
    assert pace.foreseen_ns(traced) == inf
    pace.learn(traced, 900)
    assert (pace.foreseen_ns(plain), pace.foreseen_ns(traced)) == pytest.approx((500, 900))
    assert pace.is_instant(plain, 500)
    assert not pace.is_instant(plain, 499)
    assert not pace.is_instant(traced, 10_000)


def test_around_is_what_this_thread_has_done_for_each_answer(pace, monkeypatch):
    now = iter([1_000, 5_000, 6_000, 6_000]).__next__
    monkeypatch.setattr("gatescope.server.serving.cost.thread_time_ns", now)
    pace = Pace()
    assert pace.around_ns == 0
    pace.answer(4)  # 4,000 ns
    assert pace.around_ns == pytest.approx(1000)
    pace.answer(16)  # 1,000 ns
    assert pace.around_ns == pytest.approx((0.8 * 4000 + 1000) / (0.8 * 4 + 16))


def test_a_model_that_is_gone_is_forgotten(load, ask, pace):
    pace.learn(Batch(load(), ask(5)), 1000)
    gc.collect()
    assert len(pace._step_ns) == 0


def test_of_a_model_that_was_warmed_up_it_is_known(load):
    model, batcher = load(), Batcher(10, 10)
    batcher.warm(model)
    for query in model.pipeline.rehearsals():
        assert 0 < batcher._pace.foreseen_ns(Batch(model, query)) < inf
    asyncio.run(batcher.stop())


def test_what_is_quick_is_computed_on_the_event_loop_and_the_rest_on_the_device(load, ask, monkeypatch):
    import threading  # noqa: PLC0415

    model, threads = load(), []
    answer = type(model.pipeline).answer

    def noting(self, query):
        threads.append(threading.current_thread() is threading.main_thread())
        return answer(self, query)

    monkeypatch.setattr(type(model.pipeline), "answer", noting)
    traced = Selection().resolve(model.spec)

    async def scenario():
        batcher = Batcher(10, 10)
        try:
            await batcher.answer(model, ask(2))  # nothing is known yet
            batcher._pace._step_ns[model] = {2: INSTANT_NS / 500}, {}
            expected = await batcher.answer(model, ask(2))
            batcher._pace._step_ns[model] = {2: INSTANT_NS / 500}, {}
            await batcher.answer(model, ask(501))
            await batcher.answer(model, ask(2, trace=traced))
            return expected
        finally:
            batcher.close()
            await batcher.stop()

    assert asyncio.run(scenario()).prediction.values.shape == torch.Size([1, 2, 2])
    assert threads == [False, True, False, False]
