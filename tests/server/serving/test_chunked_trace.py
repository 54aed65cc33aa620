"""A trace in chunks is the whole trace, whatever the head and however the batch is ragged."""

import asyncio
from dataclasses import replace

import pytest
import torch

from gatescope.errors import DeadlineExceeded
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import chunking, tuning
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.local import LocalEngine
from gatescope.state import State

LENGTHS = (90, 33, 34, 7)
CLASSES = """
description = "one label of two"
task = "TASK"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}, {name = "c"}]
[head]
steps = "STEPS"
[output]
labels = ["x", "y"]
"""


@pytest.fixture
def query(random):
    inputs = torch.zeros(len(LENGTHS), max(LENGTHS), 3)
    for row, length in enumerate(LENGTHS):
        inputs[row, :length] = torch.randn(length, 3, generator=random)
    return Query(inputs, torch.tensor(LENGTHS), output=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)


def run(folder, query, selection, seconds=20.0):
    """The model, all chunks, and the trace that has the rest."""

    async def compute():
        repository = Repository(folder.models_dir, torch.device("cpu"))
        engine = LocalEngine(repository, max_queue_size=4)
        await engine.start()
        try:
            model = engine.model("tiny")
            resolved, deadline = selection.resolve(model.spec), Deadline.after(seconds)
            trace = await chunking.trace(engine, model, query, resolved, 10**9, deadline)
            return model, [chunk async for chunk in trace.chunks()], trace
        finally:
            await engine.stop()

    return asyncio.run(compute())


def assert_equal(made, whole, expected, lengths=LENGTHS):
    """All chunks put together are the expected trace."""
    steps = [step for chunk in made for step in chunk.time_steps]
    assert steps == expected.trace.selection.time_steps(max(lengths))
    for name, values in expected.trace.signals.items():
        for row, length in enumerate(lengths):
            parts = [chunk.signals[name][chunk.rows.index(row)] for chunk in made if row in chunk.rows]
            joined = torch.cat([part for part in parts if part.numel()], dim=2)
            kept = [place for place, step in enumerate(steps) if step < length]
            torch.testing.assert_close(joined[:, :, : len(kept)], values[row][:, :, kept], atol=1e-6, rtol=0)
            assert joined[:, :, len(kept) :].isnan().all()
    torch.testing.assert_close(tuple(whole.answer.final_state), tuple(expected.trace.final_state), atol=1e-6, rtol=0)
    torch.testing.assert_close(tuple(whole.initial_state), tuple(expected.trace.initial_state))
    assert whole.residual == pytest.approx(expected.trace.residual, abs=1e-6)


@pytest.mark.parametrize("steps", ["all", "last", "mean", "max"])
def test_every_kind_of_head_predicts_as_from_the_whole(model_folder, query, steps):
    task = "tagging" if steps == "all" else "classification"
    folder = model_folder(manifest=CLASSES.replace("STEPS", steps).replace("TASK", task), num_layers=2)
    model, made, whole = run(folder, query, Selection())
    expected = model.pipeline.answer(replace(query, trace=Selection()))
    assert len(made) == 3
    assert [len(chunk.rows) for chunk in made] == [4, 3, 1]
    assert_equal(made, whole, expected)
    options = {"atol": 1e-6, "rtol": 0, "equal_nan": True}
    torch.testing.assert_close(whole.answer.prediction.values, expected.prediction.values, **options)
    torch.testing.assert_close(whole.answer.output, expected.output, **options)
    for row, length in enumerate(LENGTHS if steps == "all" else [None] * 4):
        ours, theirs = (answer.prediction.choices[row] for answer in (whole.answer, expected))
        assert ours[:length].tolist() == theirs[:length].tolist() if length else ours == theirs


@pytest.mark.parametrize("time", [slice(40, 88, 3), slice(-10, None), slice(None, 20, 7), slice(None, None, -4)])
def test_selected_steps_are_those_of_the_whole_and_backwards_is_one_chunk(model_folder, query, time):
    selection = Selection(signals=("cell_state", "forget_gate"), layers=(1,), units=(3, 0), time=time)
    model, made, whole = run(model_folder(num_layers=2), query, selection)
    assert len(made) == (3 if (time.step or 1) > 0 else 1)
    steps = [step for chunk in made for step in chunk.time_steps]
    expected = model.pipeline.answer(replace(query, trace=selection))
    assert steps == list(range(90)[time])
    for name in selection.signals:
        parts = [chunk.signals[name][0] for chunk in made if chunk.time_steps]
        torch.testing.assert_close(torch.cat(parts, dim=2), expected.trace.signals[name][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(tuple(whole.answer.final_state), tuple(expected.trace.final_state), atol=1e-6, rtol=0)


def test_a_given_state_and_a_projection_are_carried_on(model_folder, query, random):
    folder = model_folder(hidden_size=6, proj_size=2, num_layers=2)
    state = State(torch.randn(2, 4, 2, generator=random), torch.randn(2, 4, 6, generator=random))
    model, made, whole = run(folder, replace(query, initial_state=state), Selection())
    assert_equal(made, whole, model.pipeline.answer(replace(query, initial_state=state, trace=Selection())))


def test_both_directions_are_one_chunk(model_folder, query):
    model, made, whole = run(model_folder(bidirectional=True), query, Selection())
    assert len(made) == 1
    assert_equal(made, whole, model.pipeline.answer(replace(query, trace=Selection())))


def test_chunks_stay_below_the_most_that_is_made_at_once(model_folder, query, monkeypatch):
    monkeypatch.setattr(tuning, "MIN_CHUNK_STEPS", 1)
    _, made, _ = run(model_folder(), query, Selection())
    assert {len(chunk.time_steps) for chunk in made} == {1}


def test_one_deadline_is_for_all_chunks(model_folder, query):
    with pytest.raises(DeadlineExceeded, match=r"within 1e-06 seconds"):
        run(model_folder(), query, Selection(), seconds=1e-6)
