"""`AsyncClient` and `AsyncSession`, of which each answer is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from gatescope.client import backtesting, endpoints, raw, traces
from gatescope.client import corpora as of_corpora
from gatescope.client.call import Call
from gatescope.client.fields import Array, Asked, GivenState
from gatescope.client.generation import AsyncGeneration, Events, Token
from gatescope.client.many import Calls, gathered_async
from gatescope.client.method import like
from gatescope.client.retry import Retry
from gatescope.client.server import RETRIES, TIMEOUT_S, Server
from gatescope.client.stream import Stream, sessions
from gatescope.errors import AppError, NotFound

T = TypeVar("T")
P = ParamSpec("P")


def _method(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method that sends this call."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(call(*args, **kwargs))

    like(method, call)
    return method


def _method_of_many(calls: Callable[P, Calls[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method that sends these calls together."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await gathered_async(calls(*args, **kwargs), self.send)

    like(method, calls)
    return method


def _method_of_session(
    name: str, call: Callable[Concatenate[Stream, P], Call[T]]
) -> Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.client.send(call(self.stream, *args, **kwargs))

    like(method, call, name)
    return method


class AsyncClient:
    """`Client` for asyncio: the same methods, each to be awaited; an asynchronous context manager.

    Args:
        url: of the server, such as `http://localhost:8000`.
        key: one of its API keys.
        timeout_s: seconds for a call with all its repetitions; None waits for as long as the server takes.
        retries: how often a call is sent again where the server could not be reached or was overloaded. Only what has
            the effect of once is sent twice.
        transport: what carries the requests, where it is not the network.

    Raises:
        InvalidInput: this is no URL.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float | None = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._server = Server(url, key, timeout_s, retries)
        self._http = httpx.AsyncClient(transport=transport, **self._server.connection())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """The result of a call, which may be sent several times.

        Raises:
            Unreachable: no answer came.
            DeadlineExceeded: none came in time.
            AppError: what the server refuses.
        """
        retry = self._server.retry(call)
        reply = await self._reply(retry)
        fields: Any = call.fields(reply)
        if call.finish is None:
            result: T = fields
            return result
        return call.result(reply, fields, await self._info(call.answered_by(reply, fields), retry))

    async def _reply(self, retry: Retry) -> httpx.Response:
        while True:
            try:
                reply = await self._http.request(**retry.request())
            except httpx.HTTPError as error:
                wait_s: float | None = retry.wait_after_failure(error)
            else:
                wait_s = retry.wait_after(reply)
            if wait_s is None:
                return reply
            await asyncio.sleep(wait_s)

    async def _info(self, answered: tuple[str, str], within: Retry) -> dict[str, Any]:
        """ModelInfo of the version that answered; empty where it is no longer there."""
        if answered not in self._server.infos:
            call = endpoints.model(*answered)
            try:
                reply = await self._reply(self._server.retry(call, within))
            except NotFound:
                return {}
            self._server.infos[answered] = call.fields(reply)
        return self._server.infos[answered]

    def generate(self, model: str, inputs: Array | None = None, **asked: Unpack[Asked]) -> AsyncGeneration:
        """The tokens that a `next_token` model writes, one after the other as they are drawn.

        To close what is returned, or to leave its `async with` block earlier, ends the computation. It is sent again
        only as long as no token came.

        Args:
            model: its name.
            inputs: as for `predict`.
            **asked: as for `predict`; `horizon` must be there, and `sampling` says how tokens are drawn.

        Raises:
            InvalidInput: something does not fit the model; `places` say what and where.
            AppError: what else the server refuses, or tells between two tokens.
        """
        events = Events()
        return AsyncGeneration(self._tokens(endpoints.tokens(model, inputs, **asked), events), events)

    async def _tokens(self, call: Call[None], events: Events) -> AsyncGenerator[Token, None]:
        retry = self._server.retry(call)
        reply = await self._opened(retry)
        async with aclosing(reply):
            events.check(reply)
            try:
                async for content in reply.aiter_bytes():
                    for token in events.feed(content):
                        yield token
            except httpx.HTTPError as error:
                raise retry.failure(error) from error

    async def _opened(self, retry: Retry) -> httpx.Response:
        """A reply whose body has not come yet."""
        while True:
            try:
                reply = await self._http.send(self._http.build_request(**retry.request()), stream=True)
                if not reply.is_success:
                    await reply.aread()
            except httpx.HTTPError as error:
                wait_s: float | None = retry.wait_after_failure(error)
            else:
                wait_s = retry.wait_after(reply)
            if wait_s is None:
                return reply
            await asyncio.sleep(wait_s)

    def session(
        self,
        model: str,
        *,
        version: str | None = None,
        session_id: str | None = None,
        initial_state: GivenState | None = None,
        static_inputs: Array | None = None,
        static_columns: Sequence[str] | None = None,
    ) -> AsyncSession:
        """A stateful stream, which begins with `async with` or `open` and ends with it or `close`."""
        return AsyncSession(self, Stream(model, version, session_id, initial_state, static_inputs, static_columns))

    def resume(self, session_id: str) -> AsyncSession:
        """A stream that is there already; leaving its `async with` does not end it."""
        return AsyncSession(self, Stream(session_id=session_id))

    models = _method(endpoints.models)
    model = _method(endpoints.model)
    predict = _method_of_many(endpoints.predict)
    trace = _method_of_many(endpoints.trace)
    backtest = _method_of_many(backtesting.backtest)
    explain = _method(endpoints.explain)
    intervene = _method(endpoints.intervene)
    analyse = _method(endpoints.analyse)
    sessions = _method(sessions)
    store_trace = _method(traces.store_trace)
    stored_trace = _method(traces.stored_trace)
    trace_values = _method(traces.trace_values)
    delete_trace = _method(traces.delete_trace)
    begin_corpus = _method(of_corpora.begin_corpus)
    upload_corpus = _method(of_corpora.upload_corpus)
    corpora = _method(of_corpora.corpora)
    corpus = _method(of_corpora.corpus)
    delete_corpus = _method(of_corpora.delete_corpus)
    get = _method(raw.get)
    post = _method(raw.post)


class AsyncSession:
    """A stateful stream: each step goes on where the one before has ended. One step at a time."""

    def __init__(self, client: AsyncClient, stream: Stream) -> None:
        self.client, self.stream = client, stream

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.stream.to_be_closed:
            return
        with suppress(*((AppError,) if kind else ())):
            await self.close()

    @property
    def session_id(self) -> str | None:
        """By which `resume` finds it; None before it is open."""
        return self.stream.session_id

    @property
    def steps(self) -> int | None:
        """How many were taken; None before it is open."""
        return self.stream.steps

    open = _method_of_session("open", Stream.to_open)
    step = _method_of_session("step", Stream.to_step)
    info = _method_of_session("info", Stream.to_look)
    state = _method_of_session("state", Stream.to_read_state)
    set_state = _method_of_session("set_state", Stream.to_write_state)
    close = _method_of_session("close", Stream.to_close)
