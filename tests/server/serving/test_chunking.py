"""A query of many time steps, a chunk at a time, is answered as the whole; others are answered in between."""

import asyncio
import gc
import threading
import weakref
from contextlib import asynccontextmanager

import pytest
import torch

from gatescope.decompose import Point
from gatescope.errors import DeadlineExceeded, NotReady, Overloaded
from gatescope.interventions import Intervention
from gatescope.selection import Selection
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import chunking, tuning
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.request import WHOLE, Part
from gatescope.spec import Spec
from gatescope.state import State

pytestmark = pytest.mark.usefixtures("on_device")

STEPS, LENGTHS = 8, (90, 33, 24, 7)
LABELLED = """
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
TEXT = """
description = "the next letter"
task = "next_token"
[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcd"
[head]
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(tuning, "CHUNK_MULTIPLICATIONS", 1)
    monkeypatch.setattr(tuning, "MIN_CHUNK_STEPS", STEPS)


class Computed(list):
    """(rows, time steps) of the queries that reached a pipeline, in order; the third waits until it may go on."""

    def __init__(self):
        super().__init__()
        self.third, self.proceed = threading.Event(), threading.Event()
        self.proceed.set()

    def note(self, query):
        self.append(tuple(query.inputs.shape[:2]))
        if len(self) == 3:
            self.third.set()
            assert self.proceed.wait(10)

    async def held_at_the_third(self, engine, model, query, deadline=None):
        """Submit this; its third chunk is being computed."""
        self.clear()
        self.third.clear()
        self.proceed.clear()
        answer = engine.submit(model, query, deadline)
        del query
        await asyncio.to_thread(self.third.wait)
        return answer


@pytest.fixture
def computed(monkeypatch):
    from gatescope.pipeline.layered import LayeredPipeline  # noqa: PLC0415

    seen, answer = Computed(), LayeredPipeline.answer

    def noting(self, query):
        seen.note(query)
        return answer(self, query)

    monkeypatch.setattr(LayeredPipeline, "answer", noting)
    yield seen
    seen.proceed.set()


@asynccontextmanager
async def serving(folder, **others):
    """An engine and its model."""
    engine = LocalEngine(Repository(folder.models_dir, torch.device("cpu")), **{"max_queue_size": 4} | others)
    await engine.start()
    try:
        yield engine, engine.model("tiny")
    finally:
        await engine.stop()


def both(folder, query):
    """The engine's answer in chunks, and the pipeline's own."""

    async def compute():
        async with serving(folder) as (engine, model):
            assert chunking.chunk_steps(model, query) == STEPS
            return await engine.answer(model, query), model.pipeline.answer(query)

    return asyncio.run(compute())


def assert_equal(ours, theirs):
    close = {"atol": 1e-6, "rtol": 0, "equal_nan": True}
    assert ours.sequence_lengths.tolist() == theirs.sequence_lengths.tolist()
    assert torch.equal(ours.inputs, theirs.inputs)
    assert (ours.output is None, ours.final_state is None) == (theirs.output is None, theirs.final_state is None)
    if theirs.output is not None:
        torch.testing.assert_close(ours.output, theirs.output, **close)
    if theirs.final_state is not None:
        torch.testing.assert_close(tuple(ours.final_state), tuple(theirs.final_state), **close)
    assert (ours.trace is None) == (theirs.trace is None)
    if theirs.trace is not None:
        assert_equal_traces(ours.trace, theirs.trace)
    assert (ours.prediction is None) == (theirs.prediction is None)
    if theirs.prediction is not None:
        torch.testing.assert_close(ours.prediction.values, theirs.prediction.values, **close)
        assert (ours.prediction.steps is None) == (theirs.prediction.steps is None)
        for row, length in enumerate(theirs.sequence_lengths if theirs.prediction.choices is not None else ()):
            chosen = [each.prediction.choices[row].reshape(-1)[:length].tolist() for each in (ours, theirs)]
            assert chosen[0] == chosen[1]


def assert_equal_traces(ours, theirs):
    close = {"atol": 1e-6, "rtol": 0, "equal_nan": True}
    assert (ours.selection, list(ours.signals), ours.backend) == (
        theirs.selection,
        list(theirs.signals),
        theirs.backend,
    )
    for name, values in theirs.signals.items():
        torch.testing.assert_close(ours.signals[name], values, **close)
    for part in ("output", "initial_state", "final_state", "row_residuals"):
        torch.testing.assert_close(getattr(ours, part), getattr(theirs, part), **close)
    assert ours.residual == pytest.approx(theirs.residual, abs=1e-6)
    assert ours.sequence_lengths.tolist() == theirs.sequence_lengths.tolist()


class TestTheAnswer:
    @pytest.mark.parametrize(("steps", "task"), [("all", "tagging"), ("last", "classification")])
    @pytest.mark.parametrize("wanted", [{}, {"output": True}, {"final_state": True}, {"prediction": False}], ids=str)
    def test_is_that_to_the_whole(self, model_folder, ask, computed, steps, task, wanted):
        folder = model_folder(manifest=LABELLED.replace("STEPS", steps).replace("TASK", task), num_layers=2)
        assert_equal(*both(folder, ask(*LENGTHS, **wanted)))
        assert computed[-13:] == [(4, 8), *[(3, 8)] * 2, *[(2, 8)] * 2, *[(1, 8)] * 6, (1, 2), (4, 90)]

    def test_goes_on_from_a_given_state(self, model_folder, ask, random):
        state = State(torch.randn(2, 4, 2, generator=random), torch.randn(2, 4, 6, generator=random))
        folder = model_folder(hidden_size=6, proj_size=2, num_layers=2)
        assert_equal(*both(folder, ask(*LENGTHS, initial_state=state, output=True, final_state=True)))

    def test_of_tokens(self, model_folder, random):
        from gatescope.pipeline.query import Query  # noqa: PLC0415

        folder = model_folder(manifest=TEXT, input_size=4, head=(4,))
        ids = torch.randint(4, (1, 90), generator=random)
        ours, theirs = both(folder, Query(ids, torch.tensor([90])))
        assert_equal(ours, theirs)

    @pytest.mark.parametrize(
        "selection",
        [
            Selection(),
            Selection(("cell_state",), layers=(1,), units=(3, 0)),
            Selection(("forget_gate", "hidden_state"), time=slice(-50, None)),
            Selection(time=slice(3, 80, 11)),
            Selection(time=slice(0, 1)),
            Selection(()),
        ],
        ids=str,
    )
    def test_may_be_a_trace(self, model_folder, ask, selection):
        folder = model_folder(num_layers=2, proj_size=2)
        resolved = selection.resolve(Spec(3, 4, 2, proj_size=2))
        assert_equal(*both(folder, ask(*LENGTHS, trace=resolved, output=True, final_state=True)))

    def test_may_have_edited_signals(self, model_folder, ask, computed):
        spec = Spec(3, 4, 2, proj_size=2)
        patch = torch.linspace(-1, 1, 4 * 30 * 2).view(4, 30, 2)
        edits = [
            Intervention("forget_gate", 1, units=[1], start=3, stop=50, set=0.5),
            Intervention("cell_state", 0, units=[0, 2], start=5, stop=35, patch=patch),
            Intervention("hidden_state", 0, sequences=[3, 0], start=4, stop=30, scope="recurrent", scale=0.5),
        ]
        resolved = tuple(edit.resolved(spec, 4, 90) for edit in edits)
        query = ask(*LENGTHS, trace=Selection().resolve(spec), final_state=True, interventions=resolved)
        assert_equal(*both(model_folder(num_layers=2, proj_size=2), query))
        assert len(computed) > 10

    @pytest.mark.parametrize("point", [Point(1, "forward", 89, 2), Point(0, "forward", 66, 0)])
    def test_may_be_an_explanation(self, model_folder, ask, random, point):
        state = State(torch.randn(2, 1, 4, generator=random), torch.randn(2, 1, 4, generator=random))
        query = ask(90, explain=point, initial_state=state)
        ours, theirs = both(model_folder(num_layers=2), query)
        assert torch.equal(ours.inputs, theirs.inputs)
        assert ours.sequence_lengths.tolist() == theirs.sequence_lengths.tolist()
        ours, theirs = ours.explained, theirs.explained
        assert (ours.point, ours.previous_time_step) == (theirs.point, theirs.previous_time_step)
        assert (ours.residual, theirs.residual) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
        for name, gate in theirs.decomposition.gates.items():
            assert ours.decomposition.gates[name].terms == pytest.approx(gate.terms, abs=1e-6)
        assert ours.decomposition.updates["hidden_state"].value == pytest.approx(
            theirs.decomposition.updates["hidden_state"].value, abs=1e-6
        )

    def test_of_an_lstm_without_a_head(self, model_folder, ask):
        manifest = LABELLED[: LABELLED.index("[head]")].replace('task = "TASK"\n', "")
        assert_equal(*both(model_folder(manifest=manifest, head=None), ask(*LENGTHS, output=True)))


@pytest.mark.parametrize(
    ("changes", "layout", "steps"),
    [
        ({}, {}, "last"),
        ({"prediction": False}, {}, "mean"),
        ({}, {}, None),
        ({"horizon": 3}, {}, None),
        ({"trace": Selection()}, {}, "last"),
        ({"trace": Selection(time=slice(None, None, -1))}, {}, None),
        ({"explain": Point(0, "forward", 80, 1)}, {}, "last"),
        ({"explain": Point(0, "forward", 60, 1)}, {}, None),
        ({"packed_state": b""}, {}, None),
        ({"interventions": (Intervention("forget_gate", set=0),)}, {}, "last"),
        ({"interventions": (Intervention("forget_gate", mean=True),)}, {}, None),
        ({"interventions": (Intervention("cell_state", start=40, freeze=True),)}, {}, None),
        ({}, {"bidirectional": True}, None),
    ],
    ids=str,
)
def test_some_are_computed_in_one_go(load, ask, changes, layout, steps):
    model = load(manifest=LABELLED.replace("STEPS", steps or "mean").replace("TASK", "classification"), **layout)
    plain = load("plain", manifest=LABELLED.replace("STEPS", "last").replace("TASK", "classification"), **layout)
    query = ask(90, 8, **changes)
    asked = plain if changes and steps is None else model
    assert chunking.chunk_steps(asked, query) == (STEPS if steps else None)
    assert chunking.chunk_steps(model, ask(64)) is None


class TestOtherRequests:
    def test_are_computed_in_between(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                long = await computed.held_at_the_third(engine, model, ask(90))
                short = engine.submit(model, ask(3))
                computed.proceed.set()
                await short
                assert not long.done()
                await long

        asyncio.run(scenario())
        assert computed == [*[(1, 8)] * 3, (1, 3), *[(1, 8)] * 8, (1, 2)]

    def test_of_which_two_are_long_share_batches(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                computed.clear()
                await asyncio.gather(*(engine.answer(model, ask(80)) for _ in range(2)))

        asyncio.run(scenario())
        assert 10 <= len(computed) <= 20
        assert sum(rows for rows, _ in computed) == 20

    def test_a_full_queue_turns_no_later_chunk_away(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder(), max_queue_size=1) as (engine, model):
                long = await computed.held_at_the_third(engine, model, ask(90))
                engine.submit(model, ask(5))
                with pytest.raises(Overloaded):
                    engine.submit(model, ask(5))
                engine._scheduler._max_queue_size = 0
                computed.proceed.set()
                return await long

        assert asyncio.run(scenario()).prediction.values.shape == (1, 90, 2)

    def test_who_leaves_is_computed_no_further(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                long = await computed.held_at_the_third(engine, model, ask(90))
                long.cancel()
                computed.proceed.set()
                await asyncio.gather(long, return_exceptions=True)
                await engine.answer(model, ask(2))

        asyncio.run(scenario())
        assert computed == [(1, 8)] * 3 + [(1, 2)]

    def test_one_deadline_is_for_all_chunks(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                long = await computed.held_at_the_third(engine, model, ask(90), Deadline.after(0.3))
                with pytest.raises(DeadlineExceeded, match=r"within 0\.3 seconds"):
                    await long
                computed.proceed.set()
                await engine.answer(model, ask(2))

        asyncio.run(scenario())
        assert computed == [(1, 8)] * 3 + [(1, 2)]

    def test_a_long_query_that_is_cancelled_is_freed(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                query = ask(90)
                inputs = weakref.ref(query.inputs)
                gc.collect()
                gc.disable()
                long = await computed.held_at_the_third(engine, model, query)
                del query
                long.cancel()
                await asyncio.gather(long, return_exceptions=True)
                computed.proceed.set()
                del long
                await engine.answer(model, ask(2))
                return inputs()

        try:
            assert asyncio.run(scenario()) is None
        finally:
            gc.enable()

    def test_the_service_may_stop_in_the_middle(self, model_folder, ask, computed):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                long = await computed.held_at_the_third(engine, model, ask(90))
                asyncio.get_running_loop().call_later(0.05, computed.proceed.set)
            with pytest.raises(NotReady):
                await long

        asyncio.run(scenario())

    def test_it_counts_as_one_request(self, model_folder, ask):
        async def scenario():
            async with serving(model_folder()) as (engine, model):
                await engine.answer(model, ask(90, 60))
                return engine.statistics(model)

        told = asyncio.run(scenario())
        assert (told.inference_count, told.execution_count, told.success.count, told.fail.count) == (2, 12, 1, 0)
        assert told.queue.count == told.computing.infer.count == 1
        assert told.success.ns >= told.queue.ns + told.computing.infer.ns
        assert sum(each.infer.count for each in told.batches.values()) == 12


def test_each_worker_has_one_of_several_long_queries(schedule, load, ask, computed):
    model, long = load(), ask(STEPS, final_state=True)

    async def scenario(scheduler):
        sizes = []
        for part in (Part(is_last=False), WHOLE):
            await asyncio.gather(*(scheduler.submit(model, long, part=part) for _ in range(2)))
            sizes.append(sorted(rows for rows, _ in computed))
            computed.clear()
        return sizes

    assert schedule(scenario, workers=2) == [[1, 1], [2]]
