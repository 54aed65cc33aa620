"""The scheduler: never idle while something waits, one request harms no other, and abandoned work frees its memory."""

import asyncio
import gc
import threading
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from gatescope.errors import DeadlineExceeded, NotReady, Overloaded
from gatescope.pipeline.layered import LayeredPipeline
from gatescope.selection import Selection
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.request import Part

HELD = 99.0
"""A query of this value waits at the gate while it is computed."""


@pytest.fixture
def computed(monkeypatch, gate):
    """The queries that reached a pipeline, in the order in which they were done; some wait at the gate."""
    seen, answer = [], LayeredPipeline.answer

    def noting(self, query):
        if bool((query.inputs == HELD).any()):
            gate.wait()
        answered = answer(self, query)
        seen.append(query)
        return answered

    monkeypatch.setattr(LayeredPipeline, "answer", noting)
    return seen


@pytest.fixture
def hold(ask):
    """A query that waits at the gate."""
    query = ask(5)
    return query.with_inputs(torch.full_like(query.inputs, HELD))


async def gathered(scheduler, gate, model, *queries):
    """Let these wait while the only worker is taken; their futures."""
    scheduler.taken = asyncio.create_task(scheduler.workers.reserve(1, gate.wait))
    await asyncio.to_thread(gate.reached.wait)
    return [scheduler.submit(model, query) for query in queries]


async def kinds(futures):
    return [type(each).__name__ for each in await asyncio.gather(*futures, return_exceptions=True)]


@pytest.mark.usefixtures("on_device")
class TestBatches:
    def test_cancelling_one_waiter_leaves_its_batch_mates_answered(self, schedule, load, ask, gate, computed):
        model, queries = load(), [ask(5), ask(5), ask(4)]

        async def scenario(scheduler):
            one, two, three = await gathered(scheduler, gate, model, *queries)
            two.cancel()
            gate.open.set()
            return await kinds([one, two, three]), one.result(), three.result()

        names, *answers = schedule(scenario)
        assert names == ["Answer", "CancelledError", "Answer"]
        assert [len(query.inputs) for query in computed] == [2]
        for query, answer in zip((queries[0], queries[2]), answers, strict=True):
            expected = model.pipeline.answer(query).prediction.values
            torch.testing.assert_close(answer.prediction.values, expected, rtol=0, atol=1e-6)

    def test_a_waiter_cancelled_while_computed_leaves_the_others_answered(self, schedule, load, gate, hold):
        model = load()

        async def scenario(scheduler):
            futures = [scheduler.submit(model, hold) for _ in range(3)]
            await asyncio.to_thread(gate.reached.wait)
            futures[0].cancel()
            futures[1].cancel()
            gate.open.set()
            return await kinds(futures)

        with pytest.MonkeyPatch.context() as patch:
            answer = LayeredPipeline.answer
            patch.setattr(LayeredPipeline, "answer", lambda self, query: (gate.wait(), answer(self, query))[1])
            assert schedule(scenario) == ["CancelledError", "CancelledError", "Answer"]

    def test_requests_that_wait_are_one_batch(self, schedule, load, ask, gate, computed):
        model, queries = load(), [ask(5), ask(4), ask(6, 6)]

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, *queries)
            gate.open.set()
            return await asyncio.gather(*futures)

        answers = schedule(scenario)
        assert [len(query.inputs) for query in computed] == [4]
        for query, answer in zip(queries, answers, strict=True):
            expected = model.pipeline.answer(query).prediction.values
            torch.testing.assert_close(answer.prediction.values, expected, rtol=0, atol=1e-6, equal_nan=True)

    def test_a_poisoned_query_fails_alone(self, schedule, load, ask, gate, monkeypatch):
        model, answer = load(), LayeredPipeline.answer

        def failing(self, query):
            if bool((query.inputs == -1).any()):
                raise RuntimeError("poison")
            return answer(self, query)

        monkeypatch.setattr(LayeredPipeline, "answer", failing)
        poisoned = ask(5)
        poisoned = replace(poisoned, inputs=torch.full_like(poisoned.inputs, -1))

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, ask(5), poisoned, ask(4))
            gate.open.set()
            return await kinds(futures), scheduler.statistics(model)

        names, statistics = schedule(scenario)
        assert names == ["Answer", "RuntimeError", "Answer"]
        assert (statistics.success.count, statistics.fail.count) == (2, 1)

    def test_queries_that_do_not_go_together_keep_their_order(self, schedule, load, ask, gate, computed):
        model = load()
        traced = Selection().resolve(model.spec)
        queries = ask(3), ask(3, trace=traced), ask(4), ask(4, trace=traced), ask(90)

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, *queries)
            gate.open.set()
            await asyncio.gather(*futures)

        schedule(scenario)
        assert [(query.trace is not None, tuple(query.inputs.shape[:2])) for query in computed] == [
            (False, (2, 4)),
            (True, (2, 4)),
            (False, (1, 90)),
        ]

    def test_a_batch_has_no_more_sequences_than_allowed(self, schedule, load, ask, gate, computed):
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, *(ask(5) for _ in range(7)), ask(*[5] * 9))
            gate.open.set()
            await asyncio.gather(*futures)

        schedule(scenario, max_batch_size=3)
        assert [len(query.inputs) for query in computed] == [3, 3, 1, 9]

    def test_a_batch_computed_again_one_by_one_teaches_no_cost(self, schedule, load, ask, gate, monkeypatch):
        model, answer = load(), LayeredPipeline.answer

        def failing(self, query):
            if len(query.inputs) > 1:
                raise RuntimeError("no memory for so many")
            return answer(self, query)

        monkeypatch.setattr(LayeredPipeline, "answer", failing)

        async def scenario(scheduler):
            learnt = []
            monkeypatch.setattr(scheduler._policy, "computed", lambda batch, ns: learnt.append((batch.sequences, ns)))
            futures = await gathered(scheduler, gate, model, ask(5), ask(5), ask(5))
            gate.open.set()
            await asyncio.gather(*futures)
            assert learnt == []
            await scheduler.submit(model, ask(5))
            return learnt

        ((sequences, ns),) = schedule(scenario)
        assert sequences == 1
        assert ns > 0

    def test_statistics_count_sequences_batches_and_their_times(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await scheduler.submit(model, ask(5))
            futures = await gathered(scheduler, gate, model, ask(5), ask(5, 5))
            gate.open.set()
            await asyncio.gather(*futures)
            return scheduler.statistics(model)

        statistics = schedule(scenario)
        assert (statistics.inference_count, statistics.execution_count) == (4, 2)
        assert {size: each.infer.count for size, each in statistics.batches.items()} == {1: 1, 3: 1}
        assert (statistics.success.count, statistics.queue.count, statistics.computing.infer.count) == (3, 3, 3)
        assert statistics.success.ns >= statistics.queue.ns + statistics.computing.infer.ns
        assert statistics.last_inference_ms > 1_600_000_000_000


@pytest.mark.usefixtures("on_device")
class TestAdmission:
    def test_a_full_queue_refuses_the_first_part_of_a_request_only(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, ask(5), ask(5))
            with pytest.raises(Overloaded, match="2 requests wait already"):
                scheduler.submit(model, ask(5))
            futures.append(scheduler.submit(model, ask(5), part=Part(is_first=False)))
            futures[0].cancel()
            futures[1].cancel()
            futures.append(scheduler.submit(model, ask(5)))
            gate.open.set()
            return await kinds(futures)

        assert schedule(scenario, max_queue_size=2) == ["CancelledError", "CancelledError", "Answer", "Answer"]

    def test_a_query_without_a_waiter_is_not_computed(self, schedule, load, ask, gate, computed):
        model = load()

        async def scenario(scheduler):
            first, departed = await gathered(scheduler, gate, model, ask(5), ask(7))
            departed.cancel()
            assert scheduler.waiting == 1
            gate.open.set()
            await first

        schedule(scenario)
        assert [query.inputs.shape[1] for query in computed] == [5]

    def test_requests_without_a_waiter_are_forgotten_when_nothing_else_waits(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, *(ask(7) for _ in range(20)))
            for future in futures:
                future.cancel()
            gate.open.set()
            await scheduler.taken
            await asyncio.sleep(0.05)
            return len(scheduler._queue)

        assert schedule(scenario) == 0

    def test_closing_turns_away_all_that_waits_or_comes(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model, ask(5), ask(5))
            scheduler.close()
            gate.open.set()
            with pytest.raises(NotReady):
                scheduler.submit(model, ask(5))
            return await kinds(futures)

        assert schedule(scenario) == ["NotReady", "NotReady"]


@pytest.mark.usefixtures("on_device")
class TestDeadlines:
    def test_a_late_request_is_dropped_without_being_computed(self, schedule, load, ask, gate, computed):
        model = load()

        async def scenario(scheduler):
            (patient,) = await gathered(scheduler, gate, model, ask(3))
            late = scheduler.submit(model, ask(4), Deadline.after(0.05))
            with pytest.raises(DeadlineExceeded, match=r"^there was no answer within 0\.05 seconds$"):
                await late
            assert scheduler.waiting == len(scheduler._queue) == 1
            gate.open.set()
            await patient
            return scheduler.statistics(model).fail.count

        assert schedule(scenario) == 1
        assert [query.inputs.shape[1] for query in computed] == [3]

    @pytest.mark.usefixtures("computed")
    def test_a_request_fails_in_time_while_it_is_computed(self, schedule, load, gate, hold):
        model = load()

        async def scenario(scheduler):
            late = scheduler.submit(model, hold, Deadline.after(0.05))
            mate = scheduler.submit(model, hold, Deadline.after(600))
            with pytest.raises(DeadlineExceeded):
                await late
            gate.open.set()
            return type(await mate).__name__, scheduler.statistics(model).fail.count

        assert schedule(scenario) == ("Answer", 1)

    def test_a_deadline_that_has_passed_is_refused_at_once(self, schedule, load, ask):
        model = load()

        async def scenario(scheduler):
            with pytest.raises(DeadlineExceeded):
                scheduler.submit(model, ask(3), Deadline.after(0))
            return scheduler.waiting

        assert schedule(scenario) == 0

    def test_each_request_fails_at_its_own_deadline(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            loop, ends = asyncio.get_running_loop(), {}
            futures = [
                (seconds, scheduler.submit(model, ask(3), Deadline.after(seconds))) for seconds in (9, 0.15, 0.05)
            ]
            began = loop.time()
            for seconds, future in futures:
                future.add_done_callback(lambda _, seconds=seconds: ends.update({seconds: loop.time() - began}))
            await asyncio.wait([future for _, future in futures[1:]])
            gate.open.set()
            await futures[0][1]
            return ends

        ends = schedule(scenario)
        assert 0.05 <= ends[0.05] < 0.15 <= ends[0.15] < 5


class TestFreedMemory:
    """With the cyclic collector off: what nobody waits for any more is gone when the last reference is."""

    @pytest.fixture(autouse=True)
    def _no_collector(self):
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @staticmethod
    def watched(query):
        return weakref.ref(query), weakref.ref(query.inputs), weakref.ref(query.sequence_lengths)

    @staticmethod
    async def assert_freed(references):
        """A worker lets go of its job when it gets the GIL."""
        for _ in range(200):
            if all(reference() is None for reference in references):
                return
            await asyncio.sleep(0.005)
        kept = [reference() for reference in references]
        raise AssertionError([gc.get_referrers(value) for value in kept if value is not None])

    @pytest.mark.usefixtures("on_device")
    def test_a_cancelled_query_is_freed_while_it_still_stands_in_the_queue(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            query = ask(5)
            references, future = self.watched(query), scheduler.submit(model, query)
            del query
            future.cancel()
            await self.assert_freed(references)
            gate.open.set()

        schedule(scenario)

    @pytest.mark.usefixtures("on_device")
    def test_a_late_query_is_freed(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            query = ask(5)
            references, future = self.watched(query), scheduler.submit(model, query, Deadline.after(0.02))
            del query
            with pytest.raises(DeadlineExceeded):
                await future
            await self.assert_freed(references)
            gate.open.set()

        schedule(scenario)

    @pytest.mark.parametrize("where", ["worker", "inline"])
    @pytest.mark.parametrize("queries", [1, 3])
    def test_a_failed_query_is_freed_though_its_error_is_kept(
        self, schedule, load, ask, monkeypatch, where, queries, request
    ):
        if where == "worker":
            request.getfixturevalue("on_device")
        model = load()

        def failing(self, query):  # the frame holds the query
            values = query.inputs + 1
            try:
                {}[values.shape]
            except KeyError as error:
                raise RuntimeError("poison") from error

        async def scenario(scheduler):
            if where == "inline":
                await scheduler.warm(model)
            monkeypatch.setattr(LayeredPipeline, "answer", failing)
            asked = [ask(1) for _ in range(queries)]
            references = [reference for query in asked for reference in self.watched(query)]
            futures = [scheduler.submit(model, query) for query in asked]
            del asked
            errors = await asyncio.gather(*futures, return_exceptions=True)
            assert [str(error) for error in errors] == ["poison"] * queries
            assert "in failing" in errors[0].__notes__[0]  # for the log
            await self.assert_freed(references)

        schedule(scenario)

    @pytest.mark.usefixtures("on_device")
    def test_an_answered_query_is_freed_with_its_answer(self, schedule, load, ask):
        model = load()

        async def scenario(scheduler):
            query = ask(5)
            references = self.watched(query)
            answer = await scheduler.submit(model, query)
            del query
            output = weakref.ref(answer.prediction.values)
            del answer
            await self.assert_freed([*references, output])

        schedule(scenario)

    @pytest.mark.usefixtures("on_device")
    def test_a_query_cancelled_while_computed_is_freed_with_its_batch(self, schedule, load, ask, gate, monkeypatch):
        model, answer = load(), LayeredPipeline.answer
        monkeypatch.setattr(LayeredPipeline, "answer", lambda self, query: (gate.wait(), answer(self, query))[1])

        async def scenario(scheduler):
            query = ask(5)
            references, future = self.watched(query), scheduler.submit(model, query)
            del query
            await asyncio.to_thread(gate.reached.wait)
            future.cancel()
            gate.open.set()
            await self.assert_freed(references)

        schedule(scenario)


def test_short_work_runs_on_the_event_loop_while_no_worker_is_idle(schedule, load, ask, gate, monkeypatch):
    busy, model, threads = load("busy", seed=1), load(), []
    answer = LayeredPipeline.answer

    def noting(self, query):
        threads.append(threading.current_thread() is threading.main_thread())
        return answer(self, query)

    async def scenario(scheduler):
        await scheduler.warm(model)
        await gathered(scheduler, gate, busy)
        monkeypatch.setattr(LayeredPipeline, "answer", noting)
        waiting = scheduler.submit(busy, ask(5))  # nothing is known of it, so it needs a worker
        answers = await asyncio.gather(*(scheduler.submit(model, ask(1)) for _ in range(5)))
        assert not waiting.done()
        gate.open.set()
        await waiting
        return len(answers)

    assert schedule(scenario) == 5
    assert threads[-1] is False
    assert all(threads[:-1])


def test_a_batch_is_halved_until_it_is_short_where_no_worker_is_idle(schedule, load, ask, gate, computed, monkeypatch):
    model = load()

    async def scenario(scheduler):
        scheduler._policy.cost._step_ns[model] = {1: 400_000.0}, {}
        monkeypatch.setattr("gatescope.server.serving.tuning.INLINE_SLIGHT_FACTOR", 1)
        monkeypatch.setattr(scheduler._policy, "computed", lambda *_: None)
        await gathered(scheduler, gate, model)
        await asyncio.gather(*(scheduler.submit(model, ask(1)) for _ in range(8)))
        gate.open.set()

    schedule(scenario)
    sizes = [len(query.inputs) for query in computed]
    assert (max(sizes), sum(sizes)) == (2, 8)


@pytest.mark.usefixtures("on_device")
class TestBackground:
    """Requests that nobody waits for."""

    @pytest.fixture
    def order(self, computed):
        """How long the sequences of each query were, in the order in which they were done."""
        return lambda: [query.inputs.shape[1] for query in computed]

    def test_it_stands_behind_what_somebody_waits_for(self, schedule, load, ask, gate, order):
        """Nor does it share a batch with that, and its own share one."""
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model)
            futures += [scheduler.submit(model, ask(5), is_background=True) for _ in range(2)]
            futures += [scheduler.submit(model, ask(5)), scheduler.submit(model, ask(90))]
            gate.open.set()
            await asyncio.gather(*futures)

        schedule(scenario)
        assert order() == [5, 90, 5]

    def test_what_comes_while_it_waits_goes_first(self, schedule, load, ask, gate, hold, order):
        """With one worker, it is one batch of the background that is waited for, and no second one."""
        model, other = load(), load("other", seed=1)

        async def scenario(scheduler):
            first = scheduler.submit(model, hold, is_background=True)
            second = scheduler.submit(other, ask(6), is_background=True)
            await asyncio.to_thread(gate.reached.wait)
            futures = [scheduler.submit(each, ask(7)) for each in (model, other)]
            gate.open.set()
            await asyncio.gather(first, second, *futures)

        schedule(scenario)
        assert order() == [5, 7, 7, 6]

    def test_it_takes_no_places_of_the_queue(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            futures = await gathered(scheduler, gate, model)
            futures += [scheduler.submit(model, ask(5), is_background=True) for _ in range(5)]
            assert scheduler.waiting == 0
            futures.append(scheduler.submit(model, ask(5)))
            with pytest.raises(Overloaded):
                scheduler.submit(model, ask(5))
            futures.append(scheduler.submit(model, ask(5), is_background=True))
            gate.open.set()
            return await kinds(futures)

        assert schedule(scenario, max_queue_size=1) == ["Answer"] * 7

    def test_it_leaves_a_worker_to_others(self, schedule, load, ask, gate, hold, order):
        """Two workers, and two batches of the background: the second one waits although a worker is idle.

        Nor is a batch of the same model waited for that nobody waits for.
        """
        model, other = load(), load("other", seed=1)

        async def scenario(scheduler):
            first = scheduler.submit(model, hold, is_background=True)
            second = scheduler.submit(other, ask(6), is_background=True)
            await asyncio.to_thread(gate.reached.wait)
            await asyncio.wait_for(scheduler.submit(model, ask(7)), 5)
            assert not second.done()
            assert scheduler.workers.idle == 1
            gate.open.set()
            await asyncio.gather(first, second)

        schedule(scenario, workers=2)
        assert order() == [7, 5, 6]

    def test_it_takes_a_worker_that_stays_idle_for_long(self, schedule, load, ask, gate, hold, order, monkeypatch):
        """Nothing happens meanwhile that would have it looked at."""
        monkeypatch.setattr("gatescope.server.serving.tuning.BACKGROUND_WAIT_S", 0.05)
        model = load()

        async def scenario(scheduler):
            busy = scheduler.submit(model, hold)
            await asyncio.to_thread(gate.reached.wait)
            began = asyncio.get_running_loop().time()
            await asyncio.wait_for(scheduler.submit(model, ask(6), is_background=True), 5)
            took = asyncio.get_running_loop().time() - began
            gate.open.set()
            await busy
            return took

        assert schedule(scenario, workers=2) >= 0.05
        assert order() == [6, 5]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_it_is_done_while_others_always_wait(self, schedule, load, ask, monkeypatch, workers):
        """One batch of it after each wait, and no more."""
        wait_s, batch_s, batches = 0.08, 0.004, 4
        monkeypatch.setattr("gatescope.server.serving.tuning.BACKGROUND_WAIT_S", wait_s)
        model, answer, is_over = load(), LayeredPipeline.answer, False

        def slow(self, query):
            threading.Event().wait(batch_s)
            return answer(self, query)

        monkeypatch.setattr(LayeredPipeline, "answer", slow)

        async def somebody(scheduler):
            """There are more of these than workers, so that one always waits."""
            done = 0
            while not is_over:
                await scheduler.submit(model, ask(4, trace=Selection().resolve(model.spec)))
                done += 1
            return done

        async def scenario(scheduler):
            nonlocal is_over
            everybody = [asyncio.create_task(somebody(scheduler)) for _ in range(8)]
            await asyncio.sleep(0)
            loop, times = asyncio.get_running_loop(), [asyncio.get_running_loop().time()]
            futures = [scheduler.submit(model, ask(10 * 4**at), is_background=True) for at in range(batches)]
            for future in futures:
                await asyncio.wait_for(future, 10)
                times.append(loop.time())
            is_over = True
            return times, await asyncio.gather(*everybody)

        times, done = schedule(scenario, workers=workers, max_batch_size=2)
        assert all(after - before >= 0.8 * wait_s for before, after in pairwise(times))
        assert sum(done) > 4 * batches

    def test_one_that_nobody_wants_any_more_is_not_computed(self, schedule, load, ask, gate, order):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            left, stays = (scheduler.submit(model, ask(length), is_background=True) for length in (6, 90))
            left.cancel()
            gate.open.set()
            await stays
            assert not scheduler._background

        schedule(scenario)
        assert order() == [90]

    def test_one_that_is_cancelled_while_it_is_computed_is_told(self, schedule, load, gate, hold, computed, ask):
        model, told = load(), []

        async def scenario(scheduler):
            future = scheduler.submit(model, hold, is_background=True)
            await asyncio.to_thread(gate.reached.wait)
            future.cancel()
            gate.open.set()
            await scheduler.submit(model, ask(7))
            told.extend(query.is_cancelled() for query in computed[:1])

        schedule(scenario)
        assert told == [True]

    def test_closing_turns_it_away(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            futures = [scheduler.submit(model, ask(5), is_background=True)]
            scheduler.close()
            gate.open.set()
            return await kinds(futures)

        assert schedule(scenario) == ["NotReady"]

    def test_its_deadlines_are_kept(self, schedule, load, ask, gate):
        model = load()

        async def scenario(scheduler):
            await gathered(scheduler, gate, model)
            with pytest.raises(DeadlineExceeded):
                await scheduler.submit(model, ask(5), Deadline.after(0.02), is_background=True)
            gate.open.set()

        schedule(scenario)

    def test_code_that_cannot_bear_it_is_never_computed_beside_itself(
        self, schedule, load, ask, gate, hold, order, monkeypatch
    ):
        monkeypatch.setattr(LayeredPipeline, "is_reentrant", False)
        model = load()

        async def scenario(scheduler):
            first = scheduler.submit(model, hold, is_background=True)
            await asyncio.to_thread(gate.reached.wait)
            second = scheduler.submit(model, ask(7))
            await asyncio.sleep(0.05)
            assert not second.done()
            gate.open.set()
            await asyncio.gather(first, second)

        schedule(scenario, workers=2)
        assert order() == [5, 7]
