"""Sessions: a stream in chunks is the whole, whatever happens between the steps."""

import asyncio
import gc
import itertools
import tracemalloc
import weakref
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatescope.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelReplaced,
    SessionBusy,
    SessionExists,
    SessionNotFound,
    StepConflict,
    TooManySessions,
)
from gatescope.pipeline import graph
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import sessions as module
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.session import SessionKey
from gatescope.server.serving.session_stores.memory import MemoryStore
from gatescope.server.serving.sessions import Sessions
from gatescope.state import State
from gatescope.tracing import trace

pytestmark = pytest.mark.usefixtures("on_device")

WITHIN = Deadline.after(86_400)  # of the whole module, which is imported long before it runs

NEXT_STEP = """
description = "the next hour's level"
task = "regression"
[input]
kind = "features"
features = [{name = "level"}]
[head]
[output]
names = ["level"]
predicts = "next_step"
"""


NOBODY = Owner()


async def state_of(here, name):
    session = await here.sessions.get(name, NOBODY)
    return here.sessions.state_of(session, here.sessions.model(session))


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@asynccontextmanager
async def running(folder, max_sessions=100, idle_timeout_s=60.0, store=None):
    """An engine and its sessions, with a clock that stands still."""
    clock = Clock()
    engine = LocalEngine(Repository(folder.models_dir, torch.device("cpu")), max_queue_size=100)
    await engine.start()
    store = store or MemoryStore(max_sessions, clock)
    sessions = Sessions(engine, store, idle_timeout_s, clock)
    try:
        yield SimpleNamespace(sessions=sessions, engine=engine, clock=clock, store=store, model=engine.model("tiny"))
    finally:
        await engine.stop()


def rows(length, width=3, seed=0):
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))


def step(inputs, **fields):
    return Query(inputs, torch.tensor([inputs.shape[1]]), **fields)


def test_any_split_into_chunks_gives_the_numbers_of_the_whole(model_folder):
    folder = model_folder(hidden_size=8, num_layers=2)
    inputs = rows(30)
    with torch.no_grad():
        output, (hidden, cell) = folder.module.lstm(inputs * torch.tensor([0.5, 1, 1]) - torch.tensor([0.5, 0, 0]))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sets(st.integers(1, 29)))
    def check(cuts):
        async def scenario():
            async with running(folder) as here:
                session = await here.sessions.open(NOBODY, here.model)
                outputs = []
                bounds = [0, *sorted(cuts), 30]
                for start, stop in itertools.pairwise(bounds):
                    session, answer, _ = await here.sessions.step(
                        session.key, step(inputs[:, start:stop], output=True), WITHIN
                    )
                    outputs.append(answer.output)
                return torch.cat(outputs, dim=1), await state_of(here, session.session_id), session

        chunked, state, session = asyncio.run(scenario())
        torch.testing.assert_close(chunked, output, rtol=0, atol=1e-6)
        torch.testing.assert_close(state.hidden_state, hidden, rtol=0, atol=1e-6)
        torch.testing.assert_close(state.cell_state, cell, rtol=0, atol=1e-6)
        assert (session.steps, session.time_steps) == (len(cuts) + 1, 30)

    check()


def test_a_projected_state_is_carried_too(model_folder):
    folder = model_folder(hidden_size=6, proj_size=2)
    inputs = rows(9)

    async def scenario():
        async with running(folder) as here:
            session = await here.sessions.open(NOBODY, here.model)
            for part in inputs.split(4, dim=1):
                _, answer, _ = await here.sessions.step(session.key, step(part, output=True), WITHIN)
            return answer.output, here.model.pipeline.answer(step(inputs, output=True)).output

    chunked, whole = asyncio.run(scenario())
    torch.testing.assert_close(chunked, whole[:, 8:], rtol=0, atol=1e-6)


def test_a_step_can_be_traced(model_folder):
    folder = model_folder()
    inputs = rows(10)

    async def scenario():
        async with running(folder) as here:
            selection = Selection(signals=("forget_gate", "cell_state")).resolve(here.model.spec)
            session = await here.sessions.open(NOBODY, here.model)
            await here.sessions.step(session.key, step(inputs[:, :6]), WITHIN)
            _, answer, _ = await here.sessions.step(session.key, step(inputs[:, 6:], trace=selection), WITHIN)
            return answer

    answer = asyncio.run(scenario())
    scaled = inputs * torch.tensor([0.5, 1, 1]) - torch.tensor([0.5, 0, 0])
    whole = trace(folder.module.lstm, scaled)
    torch.testing.assert_close(answer.trace.forget_gate, whole.forget_gate[:, :, :, 6:], rtol=0, atol=2e-6)
    torch.testing.assert_close(answer.trace.final_state.cell_state, whole.final_state.cell_state, rtol=0, atol=2e-6)


def test_a_horizon_reads_no_step_twice_but_the_inputs(model_folder, monkeypatch):
    folder = model_folder(manifest=NEXT_STEP, input_size=1, head=(1,))
    runs, run = [], graph.forward

    def noting(lstm, inputs, *arguments, **named):
        runs.append(inputs.shape[1])
        return run(lstm, inputs, *arguments, **named)

    async def scenario():
        async with running(folder) as here:
            session = await here.sessions.open(NOBODY, here.model)
            monkeypatch.setattr(graph, "forward", noting)
            await here.sessions.step(session.key, step(rows(50, width=1), horizon=4), WITHIN)

    asyncio.run(scenario())
    assert sorted(runs) == [1, 1, 1, 50, 50]  # for the state behind the inputs, and for what follows them


def test_a_horizon_predicts_and_the_stream_goes_on_behind_the_inputs(model_folder):
    folder = model_folder(manifest=NEXT_STEP, input_size=1, head=(1,))
    inputs = rows(8, width=1)

    async def scenario():
        async with running(folder) as here:
            session = await here.sessions.open(NOBODY, here.model)
            _, predicted, _ = await here.sessions.step(session.key, step(inputs[:, :5], horizon=4), WITHIN)
            session, answer, _ = await here.sessions.step(session.key, step(inputs[:, 5:], output=True), WITHIN)
            alone = here.model.pipeline
            return (
                predicted.prediction.values,
                alone.answer(step(inputs[:, :5], horizon=4)).prediction.values,
                answer.output,
                alone.answer(step(inputs, output=True)).output[:, 5:],
                session.time_steps,
            )

    predicted, expected, output, whole, time_steps = asyncio.run(scenario())
    torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(output, whole, rtol=0, atol=1e-6)
    assert time_steps == 8


def test_steps_of_many_sessions_run_as_one_batch_and_those_of_one_keep_their_order(model_folder):
    folder = model_folder()
    streams = [rows(6, seed=seed) for seed in range(20)]

    async def scenario():
        async with running(folder) as here:
            opened = [(await here.sessions.open(NOBODY, here.model)).session_id for _ in streams]
            taken = [
                here.sessions.step(SessionKey("", name), step(inputs[:, at : at + 1], output=True), WITHIN)
                for at in range(6)
                for name, inputs in zip(opened, streams, strict=True)
            ]
            answers = await asyncio.gather(*taken)
            return answers, here.engine.statistics(here.model), here.model

    answers, statistics, model = asyncio.run(scenario())
    assert statistics.inference_count == 120
    assert statistics.execution_count <= 30
    for index, inputs in enumerate(streams):
        chunked = torch.cat([taken.answer.output for taken in answers[index::20]], dim=1)
        torch.testing.assert_close(chunked, model.pipeline.answer(step(inputs, output=True)).output, rtol=0, atol=1e-6)
        assert [taken.session.steps for taken in answers[index::20]] == [1, 2, 3, 4, 5, 6]


class TestNumberedSteps:
    def scenario(self, folder, *numbers, inputs=None):
        async def run():
            async with running(folder) as here:
                session = await here.sessions.open(NOBODY, here.model, "s")
                answers = []
                for index, number in enumerate(numbers):
                    given = rows(2, seed=number or 0) if inputs is None else inputs[index]
                    session, answer, _ = await here.sessions.step(
                        SessionKey("", "s"), step(given, output=True), WITHIN, number
                    )
                    answers.append(answer.output)
                return session, answers, await state_of(here, "s")

        return asyncio.run(run())

    def test_a_retried_step_is_answered_again_and_taken_once(self, model_folder):
        folder = model_folder()
        session, answers, state = self.scenario(folder, 0, 1, 1, 1)
        assert session.steps == 2
        assert all(torch.equal(again, answers[1]) for again in answers[2:])
        expected, _, once = self.scenario(folder, 0, 1)
        assert expected.steps == 2
        assert torch.equal(state.cell_state, once.cell_state)

    @pytest.mark.parametrize("numbers", [(1,), (0, 2), (0, 1, 2, 1)])
    def test_one_that_is_not_the_next_is_refused(self, model_folder, numbers):
        with pytest.raises(StepConflict, match="cannot be taken: the next is"):
            self.scenario(model_folder(), *numbers)

    def test_a_retry_with_other_inputs_is_refused(self, model_folder):
        with pytest.raises(StepConflict, match="was taken already, with other inputs; the next is 1"):
            self.scenario(model_folder(), 0, 0, inputs=[rows(2), rows(2, seed=9)])

    def test_after_a_step_without_a_number_there_is_none_to_retry(self, model_folder):
        with pytest.raises(StepConflict):
            self.scenario(model_folder(), 0, None, 1, 1)


class TestOpening:
    def refused(self, folder, error, *names, **arguments):
        async def scenario():
            async with running(folder, **arguments) as here:
                for name in names:
                    await here.sessions.open(NOBODY, here.model, name)

        with pytest.raises(error) as refusal:
            asyncio.run(scenario())
        return str(refusal.value)

    def test_a_bidirectional_model_is_refused_with_the_reason(self, model_folder):
        said = self.refused(model_folder(bidirectional=True), InvalidInput, None)
        assert "reverse direction begins at the end" in said

    def test_a_head_over_all_steps_is_refused(self, model_folder):
        folder = model_folder()
        folder.edit('steps = "all"', 'steps = "mean"')
        assert "from all steps of a sequence at once" in self.refused(folder, InvalidInput, None)

    @pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, "../etc"])
    def test_a_name_that_cannot_be_is_refused(self, model_folder, name):
        assert "must be 1 to 128 letters" in self.refused(model_folder(), InvalidInput, name)

    def test_a_name_that_is_taken_is_refused(self, model_folder):
        assert "'s' exists already" in self.refused(model_folder(), SessionExists, "s", "s")

    def test_no_more_than_may_be_open(self, model_folder):
        assert "2 sessions are open" in self.refused(model_folder(), TooManySessions, "a", "b", "c", max_sessions=2)


def test_an_idle_session_ends_and_a_step_keeps_it(model_folder):
    folder = model_folder()

    async def scenario():
        async with running(folder, idle_timeout_s=60) as here:
            await here.sessions.open(NOBODY, here.model, "idle")
            await here.sessions.open(NOBODY, here.model, "busy")
            here.clock.now += 40
            session, _, _ = await here.sessions.step(SessionKey("", "busy"), step(rows(1)), WITHIN)
            assert session.expires_at == here.clock.now + 60
            here.clock.now += 40
            assert [each.session_id for each in await here.sessions.list(NOBODY)] == ["busy"]
            with pytest.raises(SessionNotFound, match="idle for too long"):
                await here.sessions.step(SessionKey("", "idle"), step(rows(1)), WITHIN)
            await here.sessions.open(NOBODY, here.model, "idle")

    asyncio.run(scenario())


def test_the_state_can_be_exported_and_taken_on_elsewhere(model_folder):
    folder = model_folder()
    inputs = rows(8)

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "a")
            await here.sessions.step(SessionKey("", "a"), step(inputs[:, :5]), WITHIN)
            state = await state_of(here, "a")
            await here.sessions.open(NOBODY, here.model, "b", state)
            await here.sessions.open(NOBODY, here.model, "c")
            await here.sessions.set_state(SessionKey("", "c"), state)
            rest = step(inputs[:, 5:], output=True)
            return [(await here.sessions.step(SessionKey("", name), rest, WITHIN))[1].output for name in "abc"]

    first, *others = asyncio.run(scenario())
    assert all(torch.equal(first, other) for other in others)


def test_a_replaced_version_is_not_taken_for_the_one_that_the_session_began_with(model_folder):
    folder = model_folder()

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            await here.sessions.step(SessionKey("", "s"), step(rows(2)), WITHIN)
            await here.engine.load("tiny", "1")
            await here.sessions.step(SessionKey("", "s"), step(rows(2)), WITHIN)  # the same files: the same model
            weights = {name: value + 0.1 for name, value in folder.module.state_dict().items()}
            folder.save(weights)
            await here.engine.load("tiny", "1")
            with pytest.raises(ModelReplaced, match="was replaced since session 's' began"):
                await here.sessions.step(SessionKey("", "s"), step(rows(2)), WITHIN)

    asyncio.run(scenario())


def test_a_session_stays_on_its_version(model_folder):
    folder = model_folder()

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            folder.save({name: value + 0.1 for name, value in folder.module.state_dict().items()}, "2")
            await here.engine.load("tiny", None)
            assert here.engine.model("tiny").version == "2"
            session, answer, _ = await here.sessions.step(SessionKey("", "s"), step(rows(3), output=True), WITHIN)
            assert session.version == "1"
            return answer.output, here.model.pipeline.answer(step(rows(3), output=True)).output

    given, expected = asyncio.run(scenario())
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)


def test_a_cancelled_step_is_not_taken_and_the_next_goes_on(model_folder, gate, monkeypatch):
    folder = model_folder()
    inputs = rows(4)

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            pipeline = type(here.model.pipeline)
            answer = pipeline.answer

            def slow(self, query):
                gate.wait()
                return answer(self, query)

            monkeypatch.setattr(pipeline, "answer", slow)
            cancelled = asyncio.create_task(here.sessions.step(SessionKey("", "s"), step(rows(4, seed=5)), WITHIN))
            await asyncio.to_thread(gate.reached.wait)
            waiting = asyncio.create_task(here.sessions.step(SessionKey("", "s"), step(inputs, output=True), WITHIN))
            await asyncio.sleep(0)
            cancelled.cancel()
            gate.open.set()
            session, given, _ = await waiting
            assert session.steps == 1
            return given.output, answer(here.model.pipeline, step(inputs, output=True)).output

    given, expected = asyncio.run(scenario())
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)


def test_a_step_has_a_deadline_that_includes_its_turn(model_folder, gate, monkeypatch):
    folder = model_folder()

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            pipeline = type(here.model.pipeline)
            answer = pipeline.answer
            monkeypatch.setattr(pipeline, "answer", lambda self, query: (gate.wait(), answer(self, query))[1])
            first = asyncio.create_task(here.sessions.step(SessionKey("", "s"), step(rows(1)), WITHIN))
            await asyncio.to_thread(gate.reached.wait)
            with pytest.raises(DeadlineExceeded):
                await here.sessions.step(SessionKey("", "s"), step(rows(1)), Deadline.after(0.05))
            gate.open.set()
            assert (await first)[0].steps == 1

    asyncio.run(scenario())


def test_too_many_steps_of_one_session_may_not_wait(model_folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_STEPS", 3)

    async def scenario():
        async with running(model_folder()) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            steps = (here.sessions.step(SessionKey("", "s"), step(rows(1)), WITHIN) for _ in range(8))
            return await asyncio.gather(*steps, return_exceptions=True)

    answers = asyncio.run(scenario())
    assert [type(answer) for answer in answers].count(SessionBusy) == 4


def test_a_deadline_also_limits_a_remote_store(model_folder):
    class Slow(MemoryStore):
        is_local = False

        async def replace(self, before, after):
            await asyncio.sleep(10)
            return await super().replace(before, after)

    async def scenario():
        async with running(model_folder(), store=Slow(10, lambda: 0.0)) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            with pytest.raises(DeadlineExceeded, match=r"within 0\.1 seconds"):
                await here.sessions.step(SessionKey("", "s"), step(rows(1)), Deadline.after(0.1))
            assert (await here.sessions.get("s", NOBODY)).steps == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("end", ["cancelled", "late"])
def test_the_memory_of_an_abandoned_step_is_freed_without_the_collector(model_folder, gate, monkeypatch, end):
    async def scenario():
        async with running(model_folder()) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            pipeline, answer = type(here.model.pipeline), here.model.pipeline.answer
            monkeypatch.setattr(pipeline, "answer", lambda _, query: (gate.wait(), answer(query))[1])
            inputs = rows(3)
            kept = weakref.ref(inputs)
            deadline = Deadline.after(0.1) if end == "late" else None
            taken = asyncio.create_task(here.sessions.step(SessionKey("", "s"), step(inputs), deadline))
            del inputs
            await asyncio.to_thread(gate.reached.wait)
            if end == "cancelled":
                taken.cancel()
            await asyncio.wait([taken])
            assert taken.cancelled() or isinstance(taken.exception(), DeadlineExceeded)
            del taken
            gate.open.set()
            for _ in range(200):  # a worker frees its job when it gets the GIL
                if kept() is None:
                    return
                await asyncio.sleep(0.005)
            raise AssertionError(gc.get_referrers(kept()))

    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


class Rival(MemoryStore):
    """A store in which another process is quicker, so many times."""

    def __init__(self, times):
        super().__init__(10, lambda: 0.0)
        self.times = times

    async def replace(self, before, after):
        if self.times:
            self.times -= 1
            other = replace(before, steps=before.steps + 1, revision=before.revision + 1)
            self._sessions[before.key] = other
        return await super().replace(before, after)


@pytest.mark.parametrize("times", [1, 3])
def test_a_step_that_another_process_overtook_is_computed_anew(model_folder, times):
    async def scenario():
        async with running(model_folder(), store=Rival(times)) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            return await here.sessions.step(SessionKey("", "s"), step(rows(1)), WITHIN)

    session = asyncio.run(scenario()).session
    assert session.steps == times + 1


def test_one_that_is_overtaken_time_and_again_is_told(model_folder):
    async def scenario():
        async with running(model_folder(), store=Rival(10**6)) as here:
            await here.sessions.open(NOBODY, here.model, "s")
            await here.sessions.step(SessionKey("", "s"), step(rows(1)), WITHIN)

    with pytest.raises(SessionBusy, match="came first 16 times"):
        asyncio.run(scenario())


def test_two_thousand_sessions_take_less_than_twice_the_bytes_of_their_states(model_folder):
    folder = model_folder(hidden_size=64, num_layers=2)

    async def scenario():
        async with running(folder, max_sessions=2_000) as here:
            await here.sessions.open(NOBODY, here.model, "warm")
            await here.sessions.step(SessionKey("", "warm"), step(rows(1)), WITHIN)
            await here.sessions.close(SessionKey("", "warm"))
            gc.collect()
            tracemalloc.start()
            for index in range(2_000):
                await here.sessions.open(NOBODY, here.model, f"stream-{index}")
            for index in range(0, 2_000, 100):
                steps = (
                    here.sessions.step(SessionKey("", f"stream-{at}"), step(rows(1)), WITHIN)
                    for at in range(index, index + 100)
                )
                await asyncio.gather(*steps)
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(await here.sessions.list(NOBODY)) == 2_000
            return held

    states = 2_000 * 2 * 2 * 64 * 4
    assert asyncio.run(scenario()) < 2 * states + 200_000


def test_a_state_of_its_own_begins_a_stream(model_folder, random):
    folder = model_folder()
    state = State(*(torch.randn(1, 1, 4, generator=random) for _ in range(2)))

    async def scenario():
        async with running(folder) as here:
            await here.sessions.open(NOBODY, here.model, "s", state)
            _, answer, _ = await here.sessions.step(SessionKey("", "s"), step(rows(3), output=True), WITHIN)
            return answer.output, here.model.pipeline.answer(step(rows(3), output=True, initial_state=state)).output

    given, expected = asyncio.run(scenario())
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)
