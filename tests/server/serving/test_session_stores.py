"""Every store keeps sessions in the same way; the one in Redis also outlives whoever wrote into it."""

import asyncio
import inspect
import time
from dataclasses import replace

import pytest
import torch

from gatescope.errors import SessionExists, SessionNotFound, StoreUnavailable, TooManySessions
from gatescope.pipeline.query import Query
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.session import LastStep, Session, SessionKey
from gatescope.server.serving.session_stores.memory import MemoryStore
from gatescope.server.serving.session_stores.redis import RedisStore
from gatescope.server.serving.session_stores.store import SessionStore
from gatescope.server.serving.sessions import Sessions

QUERY = Query(torch.zeros(1, 2, 1), torch.tensor([2]))


def session(name="s", **fields):
    now = time.time()
    about = {"model": "m", "version": "1", "fingerprint": "f", "steps": 0, "time_steps": 0, "state": b"\x00\xff\r\n"}
    return Session(name, **({"created_at": now, "expires_at": now + 60} | about | fields))


@pytest.fixture(params=["memory", "redis"])
def make(request):
    """`make(max_sessions)`: a store."""
    if request.param == "memory":
        return MemoryStore
    server = request.getfixturevalue("redis_server")
    return lambda most: RedisStore(server.url, most, 60)


@pytest.fixture
def within(make):
    """`within(scenario)` runs it with a store."""

    def run(scenario, most=10):
        async def main():
            store = make(most)
            try:
                return await scenario(store)
            finally:
                await store.close()

        return asyncio.run(main())

    return run


def test_what_was_kept_is_read_as_it_was(within):
    kept = session(last=LastStep(b"\x01\x00", b"digest"), steps=3, time_steps=14)

    async def scenario(store):
        await store.create(kept)
        return await store.read(SessionKey("", "s"))

    assert within(scenario) == kept


@pytest.mark.parametrize("continues", [True, False])
def test_whether_the_state_was_given_is_kept(within, continues):
    kept = session(continues=continues)

    async def scenario(store):
        await store.create(kept)
        after = kept.after(QUERY, b"", kept.expires_at, numbered=False)
        assert await store.replace(kept, after)
        return after, await store.read(SessionKey("", "s"))

    after, read = within(scenario)
    assert after == read
    assert read.continues is continues


def test_the_values_that_gaps_are_filled_from_are_kept(within):
    kept = session(values=b"before")

    async def scenario(store):
        await store.create(kept)
        after = kept.after(QUERY, b"", kept.expires_at, numbered=True, values=b"values")
        assert await store.replace(kept, after)
        return after, await store.read(SessionKey("", "s"))

    after, read = within(scenario)
    assert after == read
    assert (read.values, read.last.values) == (b"values", b"before")


def test_a_session_has_the_first_schema_that_has_all_of_it():
    assert [session(**more).schema for more in ({}, {"values": b"v"}, {"owner": "alice"})] == [2, 3, 4]


def test_owners_may_have_the_same_id(within):
    owned = [session(owner=owner, steps=steps) for steps, owner in enumerate(("", "alice", "bob"))]

    async def scenario(store):
        for each in owned:
            await store.create(each)
        await store.delete(SessionKey("bob", "s"))
        for gone in (SessionKey("bob", "s"), SessionKey("", "alice/s"), SessionKey("alice", "t")):
            with pytest.raises(SessionNotFound):
                await store.read(gone)
        with pytest.raises(SessionExists):
            await store.create(session(owner="alice"))
        after = owned[1].after(QUERY, b"after", owned[1].expires_at, numbered=False)
        assert await store.replace(owned[1], after)
        assert {(each.owner, each.steps) for each in await store.list()} == {("", 0), ("alice", 2)}
        return await store.read(SessionKey("alice", "s"))

    assert within(scenario).state == b"after"


def test_a_name_is_kept_once(within):
    async def scenario(store):
        await store.create(session())
        with pytest.raises(SessionExists):
            await store.create(session())

    within(scenario)


def test_one_that_was_written_since_is_not_replaced(within):
    async def scenario(store):
        first = session()
        await store.create(first)
        first = await store.read(SessionKey("", "s"))
        second = replace(first, steps=1, revision=1, state=b"second")
        assert await store.replace(first, second)
        assert not await store.replace(first, replace(first, steps=9, revision=2))
        assert (await store.read(SessionKey("", "s"))) == second

    within(scenario)


def test_what_is_gone_is_not_found(within):
    async def scenario(store):
        for attempt in (
            store.read(SessionKey("", "s")),
            store.delete(SessionKey("", "s")),
            store.replace(session(), session()),
        ):
            with pytest.raises(SessionNotFound, match="there is no session 's'"):
                await attempt
        await store.create(session())
        await store.delete(SessionKey("", "s"))
        with pytest.raises(SessionNotFound):
            await store.read(SessionKey("", "s"))
        await store.create(session())

    within(scenario)


def test_no_more_than_may_be_are_kept(within):
    async def scenario(store):
        await store.create(session("a"))
        await store.create(session("b"))
        with pytest.raises(TooManySessions):
            await store.create(session("c"))
        await store.delete(SessionKey("", "a"))
        await store.create(session("c"))

    within(scenario, most=2)


def test_the_one_that_was_used_last_is_listed_last(within):
    async def scenario(store):
        kept = {name: session(name) for name in "abc"}
        for each in kept.values():
            await store.create(each)
            await asyncio.sleep(0.002)
        before = await store.read(SessionKey("", "a"))
        await store.replace(before, replace(before, steps=1, revision=5))
        return [(each.session_id, each.steps) for each in await store.list()]

    assert within(scenario) == [("b", 0), ("c", 0), ("a", 1)]


@pytest.mark.parametrize("store", [MemoryStore, RedisStore])
def test_a_store_has_every_method_of_the_protocol(store):
    for name, method in inspect.getmembers(SessionStore, inspect.isfunction):
        if not name.startswith("_"):
            assert list(inspect.signature(getattr(store, name)).parameters) == list(
                inspect.signature(method).parameters
            )


class TestRedis:
    def test_an_idle_session_ends(self, redis_server):
        async def scenario():
            store = RedisStore(redis_server.url, 1, 0.05)
            await store.create(session())
            await asyncio.sleep(0.1)
            with pytest.raises(SessionNotFound):
                await store.read(SessionKey("", "s"))
            assert await store.list() == []
            await store.create(session("other"))  # there is room again
            await store.close()

        asyncio.run(scenario())

    def test_writing_twice_what_was_written_is_no_conflict(self, redis_server):
        async def scenario():
            store = RedisStore(redis_server.url, 10, 60)
            first = session()
            await store.create(first)
            await store.create(first)  # the same one, as after a lost answer
            second = replace(first, steps=1, revision=first.revision + 1)
            assert await store.replace(first, second)
            assert await store.replace(first, second)
            await store.close()

        asyncio.run(scenario())

    def test_many_writers_each_see_who_came_first(self, redis_server):
        async def scenario():
            stores = [RedisStore(redis_server.url, 10, 60) for _ in range(4)]
            await stores[0].create(session())
            before = await stores[0].read(SessionKey("", "s"))
            won = await asyncio.gather(
                *(store.replace(before, replace(before, revision=index + 1)) for index, store in enumerate(stores))
            )
            for store in stores:
                await store.close()
            return won

        assert sum(asyncio.run(scenario())) == 1

    def test_while_it_is_away_the_reason_is_told_and_then_it_goes_on(self, redis_server):
        async def scenario():
            store = RedisStore(redis_server.url, 10, 60)
            await store.create(session())
            redis_server.stop()
            for attempt in (
                store.read(SessionKey("", "s")),
                store.create(session("t")),
                store.list(),
                store.delete(SessionKey("", "s")),
            ):
                with pytest.raises(StoreUnavailable, match=rf"Redis at 127.0.0.1:{redis_server.port}, does not answer"):
                    await attempt
            redis_server.start()
            await store.create(session("again"))
            assert (await store.read(SessionKey("", "again"))).session_id == "again"
            await store.close()

        asyncio.run(scenario())

    def test_its_password_is_not_told(self):
        async def scenario():
            store = RedisStore("redis://user:secret@127.0.0.1:1/0", 10, 60)
            with pytest.raises(StoreUnavailable) as refused:
                await store.read(SessionKey("", "s"))
            await store.close()
            return str(refused.value)

        assert "secret" not in asyncio.run(scenario())


def test_static_inputs_are_kept(within):
    kept = session(static=b"\x00\x00\x00\x00\x00\x00\xf0?" * 3)

    async def scenario(store):
        await store.create(kept)
        return await store.read(SessionKey("", "s"))

    assert within(scenario).static_inputs.tolist() == [[1.0, 1.0, 1.0]]
    assert session().static_inputs is None


class TestSchema:
    """Records of several versions of Gatescope lie in one Redis while servers are replaced one after another."""

    @pytest.fixture
    def written(self, redis_server):
        """`written(change)`: what is read of a record that was changed in the Redis."""

        def read(change):
            async def main():
                store = RedisStore(redis_server.url, 10, 60)
                try:
                    await store.create(session(steps=2, static=b"12345678"))
                    await change(store._redis, "{gatescope}:session:s")
                    return await store.read(SessionKey("", "s"))
                finally:
                    await store.close()

            return asyncio.run(main())

        return read

    def test_a_record_of_the_first_schema_has_no_static_inputs(self, written):
        async def change(redis, key):
            await redis.hdel(key, "schema", "static", "continues")

        read = written(change)
        assert (read.steps, read.static, read.static_inputs, read.continues) == (2, b"", None, False)

    def test_a_record_without_an_owner_is_everybodys(self, redis_server):
        """It stands where a version that knew no owners wrote it, and is found there by every key."""

        async def main():
            store = RedisStore(redis_server.url, 10, 60)
            sessions = Sessions(None, store, 60)
            try:
                await store.create(session(steps=2))
                assert await store._redis.exists("{gatescope}:session:s")
                assert await store._redis.hget("{gatescope}:session:s", "schema") == b"2"
                read = await sessions.get("s", Owner("alice"))
                assert (read.owner, read.steps) == ("", 2)
                after = replace(read, steps=3, revision=1)
                assert await store.replace(read, after)
                assert (await sessions.get("s", Owner("bob"))).steps == 3
                await store.create(session(owner="alice"))
                assert [(await sessions.get("s", Owner(name))).owner for name in ("alice", "bob")] == ["alice", ""]
            finally:
                await store.close()

        asyncio.run(main())

    def test_a_version_without_owners_does_not_see_a_record_with_one(self, redis_server):
        async def main():
            store = RedisStore(redis_server.url, 10, 60)
            try:
                await store.create(session(owner="alice"))
                redis = store._redis
                (member,) = await redis.zrange("{gatescope}:sessions", 0, -1)
                for name in ("s", "alice/s", member.decode()):  # as that version looks for ids, and for those it lists
                    assert not await redis.exists(f"{{gatescope}}:session:{name}")
                assert await redis.hget("{gatescope}:owned-session:alice/s", "schema") == b"4"
                assert [each.key for each in await store.list()] == [SessionKey("alice", "s")]
            finally:
                await store.close()

        asyncio.run(main())

    def test_one_of_a_later_schema_is_refused_with_the_reason(self, written):
        async def change(redis, key):
            await redis.hset(key, "schema", 99)

        with pytest.raises(StoreUnavailable, match="newer version of Gatescope, with schema 99; this"):
            written(change)
