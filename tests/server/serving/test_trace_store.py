"""The store of traces: what it keeps is what the model computed, and it keeps within its bounds."""

import asyncio
import contextlib
import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gatescope.cells import LSTM
from gatescope.decompose import Point
from gatescope.errors import DeadlineExceeded, InvalidInput, Overloaded, TraceNotFound, TraceTooLarge
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.repository.repository import Repository
from gatescope.server.serving import recording, trace_store, tuning
from gatescope.server.serving.bins import Bins
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.stored import OVERHEAD_BYTES, Told, View
from gatescope.server.serving.trace_store import Traces
from gatescope.state import State

LENGTHS = (90, 33, 7)
NOBODY = Owner()
MUCH = 10**9


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """32 steps each."""
    monkeypatch.setattr(tuning, "CHUNK_BYTES", 1)


@pytest.fixture
def query(random):
    inputs = torch.zeros(len(LENGTHS), max(LENGTHS), 3)
    for row, length in enumerate(LENGTHS):
        inputs[row, :length] = torch.randn(length, 3, generator=random)
    return Query(inputs, torch.tensor(LENGTHS), output=True)


@pytest.fixture
def short(random):
    """One sequence, of whose traces some 19 kB are kept."""
    return Query(torch.randn(1, 20, 3, generator=random), torch.tensor([20]))


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_000_000.0)


@contextlib.asynccontextmanager
async def serving(folder, most_bytes=MUCH, idle_timeout_s=60.0, clock=None):
    """`keep(query)` stores a trace, by way of a real engine."""
    engine = LocalEngine(Repository(folder.models_dir, torch.device("cpu")), max_queue_size=64)
    await engine.start()
    model = engine.model("tiny")
    now = {} if clock is None else {"clock": lambda: clock.now}
    store = Traces(most_bytes, idle_timeout_s, **now)

    async def keep(query, *, timeout_s=20.0, at_once=MUCH):
        return await store.record(NOBODY, engine, model, query, Told(), at_once, Deadline.after(timeout_s))

    try:
        yield SimpleNamespace(store=store, keep=keep, model=model, engine=engine)
    finally:
        await engine.stop()


def everything(stored):
    return View(range(len(stored.lengths)), stored.everything, Bins.cut(range(max(stored.lengths)), 10**6), None)


LSTMS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True, "num_layers": 2},
    {"hidden_size": 6, "proj_size": 2, "num_layers": 2},
    {"hidden_size": 6, "proj_size": 2, "bidirectional": True},
]


@pytest.mark.parametrize("lstm", LSTMS, ids=str)
@pytest.mark.parametrize("given", [False, True])
def test_a_stored_trace_is_what_the_pipeline_gives(model_folder, query, random, lstm, given):
    folder = model_folder(**lstm)

    async def check():
        async with serving(folder) as here:
            shapes = here.model.spec.state_shapes(len(LENGTHS))
            state = State(*(torch.randn(shape, generator=random) for shape in shapes.values())) if given else None
            asked = replace(query, initial_state=state, final_state=True)
            stored = here.store.get(await here.keep(asked), NOBODY)
            expected = here.model.pipeline.answer(replace(asked, trace=Selection()))
            for name, values in stored.values(everything(stored)).items():
                np.testing.assert_allclose(values, expected.trace.signals[name], atol=1e-6)
            torch.testing.assert_close(stored.answer.prediction.values, expected.prediction.values, equal_nan=True)
            torch.testing.assert_close(stored.answer.output, expected.output, equal_nan=True)
            for name in ("initial_state", "final_state"):
                kept = stored.initial_state if name == "initial_state" else stored.answer.final_state
                torch.testing.assert_close(tuple(kept), tuple(getattr(expected.trace, name)), atol=1e-6, rtol=0)
            assert stored.residual < 1e-6

    asyncio.run(check())


def test_a_view_is_that_part_in_the_order_asked_for(model_folder, query):
    async def check():
        async with serving(model_folder(bidirectional=True, num_layers=2)) as here:
            stored = here.store.get(await here.keep(query), NOBODY)
            whole = stored.values(everything(stored))
            selection = Selection(("cell_state", "forget_gate"), (1, 0), ("reverse",), (3, 0)).resolve(stored.spec)
            part = stored.values(View([2, 0], selection, Bins.cut(range(5, 60), 55), None))
            assert list(part) == ["cell_state", "forget_gate"]
            for name, values in part.items():
                expected = whole[name][[2, 0]][:, [1, 0]][:, :, 1:, 5:60][..., [3, 0]]
                np.testing.assert_array_equal(values, expected)

    asyncio.run(check())


def test_whole_blocks_are_seen_without_a_copy(model_folder, query):
    async def check():
        async with serving(model_folder(num_layers=2)) as here:
            stored = here.store.get(await here.keep(query), NOBODY)
            selection = replace(stored.everything, signals=("forget_gate",), layers=(1,), units=(1, 2))
            seen = stored.values(View([1, 2], selection, Bins.cut(range(10, 20), 10), None))
            assert np.shares_memory(seen["forget_gate"], stored.signals["forget_gate"])

    asyncio.run(check())


def test_bytes_are_all_arrays_and_what_a_trace_takes_beside_them(model_folder, query):
    async def check():
        async with serving(model_folder(hidden_size=6, proj_size=2)) as here:
            stored = here.store.get(await here.keep(query), NOBODY)
            batch, steps = len(LENGTHS), max(LENGTHS)
            signals = batch * steps * (5 * 6 + 2) * 4
            answer = stored.answer
            numbers = [answer.prediction.values, answer.output, stored.read.inputs, *answer.final_state]
            rest = sum(tensor.nbytes for tensor in [*numbers, *stored.initial_state]) + 3 * 3 * 8  # three of lengths
            assert stored.bytes == OVERHEAD_BYTES + signals + rest
            assert (len(here.store), here.store.bytes) == (1, stored.bytes)
            text = replace(stored, tokens=[["word"] * 1000])
            assert 8000 < text.bytes - stored.bytes < 9000

    asyncio.run(check())


def test_nothing_of_the_engines_memory_is_held_on_to(model_folder, query):
    async def check():
        async with serving(model_folder(bidirectional=True)) as here:
            made, answer = [], here.engine.answer

            async def noted(*asked):
                result = await answer(*asked)
                made.extend(map(weakref.ref, (result.trace.output, result.output, result.prediction.values)))
                return result

            here.engine.answer = noted
            stored = here.store.get(await here.keep(query), NOBODY)
            assert made
            async with asyncio.timeout(10):  # a device's thread frees its result when it gets the GIL
                while any(tensor() is not None for tensor in made):
                    gc.collect()
                    await asyncio.sleep(0.005)
            assert all(t.untyped_storage().nbytes() == t.nbytes for t in (stored.answer.output, stored.read.inputs))

    asyncio.run(check())


class TestBounds:
    def test_the_one_not_looked_at_for_longest_goes_first(self, model_folder, short):
        async def check():
            async with serving(model_folder()) as here:
                size = here.store.get(await here.keep(short), NOBODY).bytes
            async with serving(model_folder(), most_bytes=2 * size) as here:
                first, second = await here.keep(short), await here.keep(short)
                here.store.get(first, NOBODY)
                third = await here.keep(short)
                assert (len(here.store), here.store.bytes) == (2, 2 * size)
                here.store.get(first, NOBODY)
                here.store.get(third, NOBODY)
                with pytest.raises(TraceNotFound, match=f"'{second}' is gone: it made room for others"):
                    here.store.get(second, NOBODY)

        asyncio.run(check())

    def test_a_trace_goes_when_nobody_looks_at_it(self, model_folder, short, clock):
        async def check():
            async with serving(model_folder(), clock=clock) as here:
                looked_at, forgotten = await here.keep(short), await here.keep(short)
                assert here.store.expires_at(forgotten) == clock.now + 60
                clock.now += 59
                here.store.get(looked_at, NOBODY)
                assert here.store.expires_at(looked_at) == clock.now + 60
                clock.now += 2
                with pytest.raises(TraceNotFound, match="is gone: nobody looked at it for 60 seconds"):
                    here.store.get(forgotten, NOBODY)
                here.store.get(looked_at, NOBODY)
                assert len(here.store) == 1

        asyncio.run(check())

    def test_it_goes_also_when_nobody_asks_for_anything(self, model_folder, short):
        async def check():
            async with serving(model_folder(), idle_timeout_s=0.2) as here:
                kept = weakref.ref(here.store.get(await here.keep(short), NOBODY))
                await here.keep(short)
                await asyncio.sleep(0.5)
                assert (len(here.store), here.store.bytes, kept()) == (0, 0, None)

        asyncio.run(check())

    def test_why_a_trace_is_gone_is_remembered_for_some_time(self, model_folder, short, monkeypatch):
        monkeypatch.setattr(trace_store, "MAX_REMEMBERED", 2)

        async def check():
            async with serving(model_folder()) as here:
                gone = [await here.keep(short) for _ in range(3)]
                for trace_id in gone:
                    here.store.delete(trace_id, NOBODY)
                for trace_id in gone[1:]:
                    with pytest.raises(TraceNotFound, match="is gone: it was deleted"):
                        here.store.get(trace_id, NOBODY)
                with pytest.raises(TraceNotFound, match="there is no trace"):
                    here.store.delete(gone[0], NOBODY)

        asyncio.run(check())

    def test_many_at_once_never_take_more_than_there_is(self, model_folder, query, monkeypatch):
        taken = []

        async def check():
            async with serving(model_folder()) as here:
                size = here.store.get(await here.keep(query), NOBODY).bytes
            async with serving(model_folder(), most_bytes=int(2.5 * size)) as here:
                place = recording._place

                def noted(*given):
                    taken.append(here.store.bytes + here.store._reserved)
                    place(*given)

                monkeypatch.setattr(recording, "_place", noted)
                answers = await asyncio.gather(*(here.keep(query) for _ in range(8)), return_exceptions=True)
                refused = [answer for answer in answers if isinstance(answer, Overloaded)]
                assert len(refused) == 6
                assert "traces that are being computed take" in str(refused[0])
                assert size < max(taken) <= here.store._most_bytes
                assert (len(here.store), here.store.bytes, here.store._reserved) == (2, 2 * size, 0)

        asyncio.run(check())

    def test_what_fails_or_is_given_up_leaves_its_room(self, model_folder, query, monkeypatch):
        async def check():
            begun, memory = asyncio.Event(), recording._memory
            loop = asyncio.get_running_loop()
            monkeypatch.setattr(recording, "_memory", lambda *of: loop.call_soon_threadsafe(begun.set) and memory(*of))
            async with serving(model_folder()) as here:
                with pytest.raises(DeadlineExceeded):
                    await here.keep(query, timeout_s=0.0)
                task = asyncio.create_task(here.keep(query))
                await begun.wait()
                assert here.store._reserved
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (len(here.store), here.store.bytes, here.store._reserved) == (0, 0, 0)

        asyncio.run(check())

    def test_one_that_fails_costs_no_other_its_place(self, model_folder, short):
        async def check():
            async with serving(model_folder()) as here:
                size = here.store.get(await here.keep(short), NOBODY).bytes
            async with serving(model_folder(), most_bytes=size) as here:
                kept = await here.keep(short)
                with pytest.raises(DeadlineExceeded):
                    await here.keep(short, timeout_s=0.0)
                here.store.get(kept, NOBODY)

        asyncio.run(check())

    def test_what_is_larger_than_the_store_is_refused_before_it_is_computed(self, model_folder, query):
        async def check():
            async with serving(model_folder(), most_bytes=10_000) as here:
                here.engine.answer = None
                with pytest.raises(TraceTooLarge, match=r"has 25,920 bytes; this server stores at most 10,000 in all"):
                    await here.keep(query)

        asyncio.run(check())

    def test_a_trace_larger_than_what_is_made_at_once_is_made_in_parts(self, model_folder, query):
        async def check():
            async with serving(model_folder()) as here:
                stored = here.store.get(await here.keep(query, at_once=2000), NOBODY)
                expected = here.model.pipeline.answer(replace(query, trace=Selection()))
                for name in LSTM.signal_names:
                    np.testing.assert_allclose(stored.signals[name], expected.trace.signals[name], atol=1e-6)

        asyncio.run(check())

    def test_one_that_must_be_made_at_once_may_not_be_larger(self, model_folder, query):
        async def check():
            async with serving(model_folder(bidirectional=True)) as here:
                with pytest.raises(TraceTooLarge, match="cannot be made in parts"):
                    await here.keep(query, at_once=2000)

        asyncio.run(check())


class TestDeletion:
    def test_whoever_reads_it_comes_to_the_end_and_then_its_memory_is_free(self, model_folder, query, monkeypatch):
        monkeypatch.setattr(tuning, "MAPPED_BYTES", 1)  # mapped, as large traces are

        async def check():
            async with serving(model_folder()) as here:
                trace_id = await here.keep(query)
                stored = here.store.get(trace_id, NOBODY)
                before = {name: values.copy() for name, values in stored.values(everything(stored)).items()}
                here.store.delete(trace_id, NOBODY)
                assert (len(here.store), here.store.bytes) == (0, 0)
                for name, values in stored.values(everything(stored)).items():
                    np.testing.assert_array_equal(values, before[name])
                memory = weakref.ref(stored.signals["forget_gate"].base)
                del stored, values
                await asyncio.sleep(0.05)  # the thread that made it frees it when it gets the GIL
                gc.collect()
                assert memory() is None

        asyncio.run(check())


class TestExplain:
    @pytest.mark.parametrize("lstm", LSTMS, ids=str)
    @pytest.mark.parametrize(("row", "time_step"), [(0, 0), (0, 57), (1, -1), (2, 0)])
    def test_every_number_is_that_of_the_whole_sequence(self, model_folder, query, lstm, row, time_step):
        folder = model_folder(**lstm)

        async def check():
            async with serving(folder) as here:
                stored = here.store.get(await here.keep(query), NOBODY)
                point = Point(here.model.spec.num_layers - 1, here.model.spec.directions[-1], time_step, 3)
                answer = await stored.explain(here.engine, row, point)
                alone = Query(query.inputs[row : row + 1, : LENGTHS[row]], torch.tensor([LENGTHS[row]]), explain=point)
                expected = here.model.pipeline.answer(alone).explained
                given = answer.explained
                assert (given.point, given.previous_time_step) == (expected.point, expected.previous_time_step)
                assert given.residual < 1e-6
                for name, gate in expected.decomposition.gates.items():
                    assert given.decomposition.gates[name].sum == pytest.approx(gate.sum, abs=1e-6)
                    assert given.decomposition.gates[name].recurrent.total == pytest.approx(
                        gate.recurrent.total, abs=1e-6
                    )
                update = given.decomposition.updates["cell_state"]
                assert update.value == pytest.approx(expected.decomposition.updates["cell_state"].value, abs=1e-6)
                torch.testing.assert_close(answer.inputs[0, : LENGTHS[row]], query.inputs[row, : LENGTHS[row]])

        asyncio.run(check())

    def test_of_one_direction_only_the_step_itself_is_computed(self, model_folder, query):
        async def check():
            async with serving(model_folder()) as here:
                stored = here.store.get(await here.keep(query), NOBODY)
                asked, answer = [], here.engine.answer

                async def noted(model, query, deadline):
                    asked.append(query.inputs.shape)
                    return await answer(model, query, deadline)

                here.engine.answer = noted
                await stored.explain(here.engine, 0, Point(0, "forward", 80, 1))
                assert asked == [(1, 1, 3)]

        asyncio.run(check())

    def test_what_is_not_there_is_refused(self, model_folder, query):
        async def check():
            async with serving(model_folder()) as here:
                stored = here.store.get(await here.keep(query), NOBODY)
                with pytest.raises(InvalidInput, match="time_step has no 33; this sequence has 0 to 32"):
                    await stored.explain(here.engine, 1, Point(0, "forward", 33, 0))

        asyncio.run(check())
