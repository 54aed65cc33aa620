"""Both clients with one interface, asking the shipped models over a real network, which may fail on demand."""

import asyncio
import inspect
from types import SimpleNamespace

import httpx
import pytest

from gatescope.client import AsyncClient, AsyncGeneration, AsyncSession, Client, retry


class Awaited:
    """Something asynchronous, each of whose methods waits here."""

    def __init__(self, runner, thing):
        self._runner, self._thing = runner, thing

    def __getattr__(self, name):
        value = getattr(self._thing, name)
        return self._waiting(value) if callable(value) else value

    def __enter__(self):
        self._runner.run(self._thing.__aenter__())
        return self

    def __exit__(self, *error):
        self._runner.run(self._thing.__aexit__(*error))

    def _waiting(self, method):
        def call(*arguments, **named):
            result = method(*arguments, **named)
            if inspect.iscoroutine(result):
                return self._runner.run(result)
            if isinstance(result, AsyncGeneration):
                return AwaitedTokens(self._runner, result)
            return Awaited(self._runner, result) if isinstance(result, AsyncSession) else result

        return call


class AwaitedTokens(Awaited):
    """Tokens that come asynchronously, each of which is waited for here."""

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._runner.run(anext(aiter(self._thing)))
        except StopAsyncIteration:
            raise StopIteration from None


class Network(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The real one, but for what is to go wrong with the next requests: None, an error, or a reply from elsewhere.

    `refused` fails before the request is sent, `lost` after the server has answered it.
    """

    def __init__(self):
        self.faults, self.requests = [], []
        plain = {"verify": False}  # reading the certificates of the world takes longer than most tests here
        self._sync, self._async = httpx.HTTPTransport(**plain), httpx.AsyncHTTPTransport(**plain)

    def handle_request(self, request):
        fault = self._before(request)
        return self._after(self._sync.handle_request(request), fault) if fault in (None, "lost") else fault

    async def handle_async_request(self, request):
        fault = self._before(request)
        if fault not in (None, "lost"):
            return fault
        return self._after(await self._async.handle_async_request(request), fault)

    def close(self):
        self._sync.close()

    async def aclose(self):
        await self._async.aclose()

    def _before(self, request):
        self.requests.append(request)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "refused":
            raise httpx.ConnectError("nobody there")
        if isinstance(fault, Exception):
            raise fault
        return fault

    @staticmethod
    def _after(reply, fault):
        if fault == "lost":
            raise httpx.ReadError("")
        return reply


@pytest.fixture
def network():
    return Network()


@pytest.fixture(params=[Client, AsyncClient], ids=lambda kind: kind.__name__)
def connect(request):
    """`connect(url, …)`: a client of each kind, with the methods of `Client`."""
    opened = []
    with asyncio.Runner() as runner:

        def connected(url, **arguments):
            client = request.param(url, **arguments)
            opened.append(client if request.param is Client else Awaited(runner, client))
            return opened[-1]

        yield connected
        for client in opened:
            client.close()


@pytest.fixture
def client(connect, shipped, network):
    """Of the shipped models, by way of `network`."""
    return connect(str(shipped.base_url), transport=network)


@pytest.fixture
def waits(monkeypatch):
    """The seconds that clients would have waited between sendings, without waiting."""
    waited = []

    async def note(seconds):
        waited.append(seconds)

    monkeypatch.setattr(
        "gatescope.client._sync.time", SimpleNamespace(sleep=waited.append)
    )  # the client's, nobody else's
    monkeypatch.setattr("gatescope.client._async.asyncio", SimpleNamespace(sleep=note))
    return waited


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def raw(shipped):
    """What the API itself answers, in JSON."""

    def post(path, body):
        reply = shipped.post(path, json=body)
        assert reply.is_success, reply.text
        return reply.json()

    return post
