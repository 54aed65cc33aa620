"""The cost model: what is predicted of a batch is what those before it took."""

import gc
from math import inf

import pytest

from gatescope.selection import Selection
from gatescope.server.serving.collate import Batch
from gatescope.server.serving.cost import CostModel


@pytest.fixture
def cost():
    return CostModel()


def test_an_unknown_model_has_no_prediction(load, ask, cost):
    assert cost.predicted_ns(Batch(load(), ask(5))) == inf


def test_a_prediction_scales_with_the_padded_steps(load, ask, cost):
    model = load()
    cost.computed(Batch(model, ask(5, 5)), 1000)
    assert cost.predicted_ns(Batch(model, ask(1))) == pytest.approx(100)
    assert cost.predicted_ns(Batch(model, ask(30))) == pytest.approx(3000)
    assert cost.predicted_ns(Batch(model, ask(30, 2, 2))) == pytest.approx(9000)  # the padding is computed, too


def test_a_faster_batch_counts_more_than_a_slower_one(load, ask, cost):
    batch = Batch(load(), ask(10))
    cost.computed(batch, 1000)
    cost.computed(batch, 2000)
    assert cost.predicted_ns(batch) == pytest.approx(1050)
    cost.computed(batch, 550)
    assert cost.predicted_ns(batch) == pytest.approx(800)
    for _ in range(200):
        cost.computed(batch, 5000)
    assert cost.predicted_ns(batch) == pytest.approx(5000, rel=0.01)


def test_an_unknown_size_takes_the_nearest_sizes_cost(load, ask, cost):
    model = load()
    cost.computed(Batch(model, ask(1)), 900)
    cost.computed(Batch(model, ask(64)), 6400)
    assert [cost.predicted_ns(Batch(model, ask(steps))) for steps in (1, 64, 127)] == pytest.approx([900, 6400, 12700])
    assert cost.predicted_ns(Batch(model, ask(3))) == pytest.approx(2700)
    assert cost.predicted_ns(Batch(model, ask(1000))) == pytest.approx(100_000)
    assert [cost.marginal_ns(Batch(model, ask(steps))) for steps in (1, 64)] == pytest.approx([100, 6400])


def test_a_batch_is_learnt_as_a_whole(load, ask, cost):
    model, first, second = load(), ask(4), ask(4, 4)
    batch = Batch(model, first)
    batch.add(second)
    cost.computed(batch, 1200)
    assert cost.predicted_ns(Batch(model, ask(1))) == pytest.approx(100)
    assert cost.predicted_ns(batch) == pytest.approx(1200)


def test_each_model_has_its_own_cost(load, ask, cost):
    one, other = load("one"), load("other", seed=1)
    cost.computed(Batch(one, ask(10)), 1000)
    assert cost.predicted_ns(Batch(other, ask(10))) == inf
    cost.computed(Batch(other, ask(10)), 7000)
    assert [cost.predicted_ns(Batch(model, ask(1))) for model in (one, other)] == pytest.approx([100, 700])


def test_horizons_are_neither_predicted_nor_learnt_from(load, ask, cost):
    model = load()
    batch = Batch(model, ask(5, horizon=3))
    cost.computed(batch, 10)
    assert cost.predicted_ns(Batch(model, ask(5))) == inf
    cost.computed(Batch(model, ask(5)), 500)
    assert cost.predicted_ns(batch) == inf
    cost.computed(batch, 1_000_000)
    assert cost.predicted_ns(Batch(model, ask(5))) == pytest.approx(500)


def test_traces_have_costs_of_their_own(load, ask, cost):
    model = load()
    plain, traced = Batch(model, ask(5)), Batch(model, ask(5, trace=Selection().resolve(model.spec)))
    cost.computed(plain, 500)
    assert cost.predicted_ns(traced) == inf
    cost.computed(traced, 900)
    assert (cost.predicted_ns(plain), cost.predicted_ns(traced)) == pytest.approx((500, 900))


def test_the_loops_cost_is_what_this_thread_has_done_for_each_answer(cost, monkeypatch):
    now = iter([1_000, 5_000, 6_000, 6_000]).__next__
    monkeypatch.setattr("gatescope.server.serving.cost.thread_time_ns", now)
    cost = CostModel()
    assert cost.loop_ns == 0
    cost.answered(4)  # 4,000 ns
    assert cost.loop_ns == pytest.approx(1000)
    cost.answered(16)  # 1,000 ns
    assert cost.loop_ns == pytest.approx((0.8 * 4000 + 1000) / (0.8 * 4 + 16))


def test_an_unloaded_model_is_forgotten(load, ask, cost):
    cost.computed(Batch(load(), ask(5)), 1000)
    gc.collect()
    assert len(cost._step_ns) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_was_warmed_up_has_predictions(schedule, load, workers):
    model = load()

    async def scenario(scheduler):
        await scheduler.warm(model)
        return [scheduler._policy.cost.predicted_ns(Batch(model, query)) for query in model.pipeline.warmup_queries()]

    assert all(0 < predicted < inf for predicted in schedule(scenario, workers=workers))
