"""Queries that are computed together are answered as if each were alone."""

from dataclasses import replace

import pytest
import torch

from gatescope.decompose import Point
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.serving.collate import Batch, goes_with
from gatescope.state import State

TAGGING = """
description = "two labels"
task = "tagging"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}, {name = "c"}]
[head]
steps = "STEPS"
[output]
labels = ["x", "y"]
"""


def together(model, *queries):
    batch = Batch(model, queries[0])
    for query in queries[1:]:
        assert batch.accepts(model, query)
        batch.add(query)
    answer = model.pipeline.answer(batch.query())
    return batch.split(answer)


def own_choices(prediction):
    """Without the padding, which may hold anything."""
    if prediction.choices is None or prediction.steps is None:
        return None if prediction.choices is None else prediction.choices.tolist()
    return [row[:steps].tolist() for row, steps in zip(prediction.choices, prediction.steps, strict=True)]


def assert_same(given, expected, atol=1e-6):
    """Every tensor of two answers, NaN where NaN is."""

    def close(ours, theirs):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, equal_nan=True)

    close(given.sequence_lengths, expected.sequence_lengths)
    close(given.inputs, expected.inputs)
    close(given.output, expected.output)
    assert (given.prediction is None) == (expected.prediction is None)
    if expected.prediction is not None:
        for name in ("values", "steps"):
            close(getattr(given.prediction, name), getattr(expected.prediction, name))
        assert own_choices(given.prediction) == own_choices(expected.prediction)
    if expected.final_state is not None:
        for ours, theirs in zip(given.final_state, expected.final_state, strict=True):
            close(ours, theirs)
    if expected.trace is not None:
        assert given.trace.signals.keys() == expected.trace.signals.keys()
        for name, values in expected.trace.signals.items():
            close(given.trace.signals[name], values)
        for ours, theirs in zip(given.trace.final_state, expected.trace.final_state, strict=True):
            close(ours, theirs)
        assert given.trace.residual == pytest.approx(expected.trace.residual, abs=1e-7)


@pytest.mark.parametrize("steps", ["all", "last", "final", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_ragged_predictions_are_those_of_each_alone(load, ask, steps, bidirectional):
    manifest = TAGGING.replace("STEPS", steps)
    if steps != "all":
        manifest = manifest.replace("tagging", "classification")
    model = load(manifest=manifest, bidirectional=bidirectional)
    queries = [ask(5), ask(9, 7), ask(6, output=True)]
    for given, query in zip(together(model, *queries), queries, strict=True):
        assert_same(given, model.pipeline.answer(query))


@pytest.mark.parametrize(
    "selection", [Selection(), Selection(signals=("forget_gate",), units=(2, 0), time=slice(1, 6, 2))]
)
@pytest.mark.parametrize(
    "arguments", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}], ids=["one", "both"]
)
def test_ragged_traces_are_those_of_each_alone(load, ask, selection, arguments):
    model = load(**arguments)
    resolved = selection.resolve(model.spec)
    queries = [ask(5, trace=resolved), ask(9, 7, trace=resolved), ask(6, trace=resolved)]
    for given, query in zip(together(model, *queries), queries, strict=True):
        assert_same(given, model.pipeline.answer(query))


def test_the_residual_of_a_trace_is_its_own(load, ask, monkeypatch):
    model = load()
    queries = [ask(5, trace=Selection().resolve(model.spec)), ask(5, trace=Selection().resolve(model.spec))]
    answer = model.pipeline.answer(
        replace(queries[0], inputs=torch.cat([q.inputs for q in queries]), sequence_lengths=torch.tensor([5, 5]))
    )
    batch = Batch(model, queries[0])
    batch.add(queries[1])
    traced = replace(answer.trace, row_residuals=torch.tensor([1e-7, 0.5]))
    first, second = batch.split(replace(answer, trace=traced))
    assert first.trace.residual == pytest.approx(1e-7)
    assert second.trace.residual == 0.5


def test_states_are_carried_beside_rows_that_have_none(load, ask, random):
    model = load()
    state = State(*(torch.randn(1, 1, 4, generator=random) for _ in range(2)))
    queries = [ask(5, final_state=True), ask(5, final_state=True, initial_state=state)]
    for given, query in zip(together(model, *queries), queries, strict=True):
        assert_same(given, model.pipeline.answer(query))


def test_token_models_share_a_batch(load):
    manifest = """
        description = "ids"
        task = "next_token"
        [input]
        kind = "tokens"
        vocabulary = "ids"
        size = 6
        [head]
    """
    model = load(manifest=manifest, embedding=6, head=(6,))
    queries = [Query(torch.tensor([[1, 2, 3]]), torch.tensor([3])), Query(torch.tensor([[5, 0]]), torch.tensor([2]))]
    for given, query in zip(together(model, *queries), queries, strict=True):
        assert_same(given, model.pipeline.answer(query))


@pytest.mark.parametrize(
    ("lengths", "steps"),
    [((5, 5), 5), ((4, 5), 5), ((15, 16), 16), ((16, 17), 18), ((90, 100), 104), ((777, 1000), 1024), ((99, 99), 99)],
)
def test_a_ragged_batch_has_one_of_few_lengths(load, ask, lengths, steps):
    model = load()
    queries = [ask(length) for length in lengths]
    batch = Batch(model, queries[0])
    batch.add(queries[1])
    assert batch.query().inputs.shape[1] == steps
    for given, query in zip(together(model, *queries), queries, strict=True):
        assert_same(given, model.pipeline.answer(query))


class TestWhatGoesTogether:
    def test_is_of_one_model(self, load, ask):
        one, other = load("one"), load("other")
        assert not Batch(one, ask(3)).accepts(other, ask(3))

    @pytest.mark.parametrize(
        "fields",
        [
            {"horizon": 2},
            {"explain": Point(0, "forward", 0, 0)},
            {"final_state": True},
            {"trace": Selection()},
            {"module": "other"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_is_made_in_the_same_way(self, load, ask, fields):
        model = load()
        assert not goes_with(ask(3), ask(3, **fields), model)
        assert not goes_with(ask(3, **fields), ask(3), model)

    @pytest.mark.parametrize("time", [slice(None, None, -1), slice(-2, None), slice(0, -1)])
    def test_has_steps_that_are_not_counted_from_the_end(self, load, ask, time):
        selection = Selection(time=time)
        assert not goes_with(ask(3, trace=selection), ask(5, trace=selection), load())

    def test_is_not_mostly_padding(self, load, ask):
        model = load()
        batch = Batch(model, ask(100))
        assert not batch.accepts(model, ask(3))
        assert batch.accepts(model, ask(60))

    def test_fits_into_memory(self, load, ask, monkeypatch):
        model = load()
        monkeypatch.setattr("gatescope.server.serving.tuning.MAX_BATCH_FLOATS", 100)
        batch = Batch(model, ask(10))
        assert batch.accepts(model, ask(10))
        assert not batch.accepts(model, ask(10, 10))

    def test_fits_into_memory_with_its_signals(self, load, ask, monkeypatch):
        model = load()
        selection = Selection().resolve(model.spec)
        floats = (1 + 6 * model.spec.num_layers) * model.spec.num_directions * model.spec.hidden_size
        monkeypatch.setattr("gatescope.server.serving.tuning.MAX_TRACED_BATCH_FLOATS", 25 * floats)
        batch = Batch(model, ask(10, trace=selection))
        assert batch.accepts(model, ask(10, trace=selection))
        assert not batch.accepts(model, ask(10, 10, trace=selection))
