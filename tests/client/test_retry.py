"""What is sent again, how often, and what is not."""

import time

import httpx
import pytest

from gatescope.client import ServiceError, Unreachable, retry
from gatescope.errors import DeadlineExceeded, InvalidInput, ModelUnavailable, NotReady, Overloaded
from gatescope.server.api import problems

READY = {"models": []}


def refused_with(error):
    sent = problems.reply(error)
    return httpx.Response(sent.status, content=b"".join(sent.pieces), headers=sent.headers)


class Script:
    """A server that answers with these, one after the other, and then well."""

    def __init__(self, *replies):
        self.replies, self.requests = list(replies), []

    def __call__(self, request):
        self.requests.append(request)
        if not self.replies:
            return httpx.Response(200, json=READY)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


@pytest.fixture
def scripted(connect):
    """`scripted(reply, …, **arguments)`: a client of such a server, and the server."""

    def make(*replies, **arguments):
        server = Script(*replies)
        return connect("http://there", transport=httpx.MockTransport(server), **arguments), server

    return make


PASSING = [
    lambda: refused_with(Overloaded("wait")),
    lambda: refused_with(NotReady("wait")),
    lambda: httpx.Response(503, text="<html>no upstream"),
    lambda: httpx.ConnectError("refused"),
    lambda: httpx.ConnectTimeout("no way"),
    lambda: httpx.ReadError(""),
    lambda: httpx.RemoteProtocolError("disconnected"),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(scripted, waits, fault):
    client, server = scripted(fault(), fault(), fault())
    assert client.models() == []
    assert len(server.requests) == 4
    assert len(waits) == 3


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("retries", [0, 2])
def test_after_so_many_retries_the_last_error_is_raised(scripted, waits, fault, retries):
    client, server = scripted(*(fault() for _ in range(9)), retries=retries)
    with pytest.raises((Overloaded, NotReady, ServiceError, Unreachable)):
        client.predict("m", [[1.0]])
    assert len(server.requests) == retries + 1
    assert len(waits) == retries


LASTING = [
    lambda: refused_with(InvalidInput("no")),
    lambda: refused_with(ModelUnavailable("its weights are gone")),
    lambda: refused_with(DeadlineExceeded("too late")),
    lambda: httpx.Response(500, text="broken"),
    lambda: httpx.Response(302, headers={"Location": "http://elsewhere"}),
    lambda: httpx.LocalProtocolError("no such header"),
    lambda: httpx.ReadTimeout(""),
]


@pytest.mark.parametrize("fault", LASTING)
def test_what_would_fail_again_is_not_sent_again(scripted, fault):
    client, server = scripted(fault())
    with pytest.raises((InvalidInput, ModelUnavailable, DeadlineExceeded, ServiceError)):
        client.models()
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize(
    "ask", [lambda client: client.store_trace("m", [[1.0]]), lambda client: client.post("/v1/models/m/load", {})]
)
def test_what_changes_something_is_sent_once(scripted, fault, ask):
    client, server = scripted(fault())
    with pytest.raises((Overloaded, NotReady, ServiceError, Unreachable)):
        ask(client)
    assert len(server.requests) == 1


def test_waits_grow_and_the_server_may_ask_for_longer_ones(scripted, waits, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.2)
    later = httpx.Response(503, headers={"Retry-After": "7"})
    unclear = httpx.Response(503, headers={"Retry-After": "tomorrow"})
    client, _ = scripted(*(httpx.Response(503) for _ in range(8)), later, unclear, retries=20)
    client.models()
    for wait_s, longest in zip(waits, [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 12, 5], strict=True):
        assert longest / 2 <= wait_s <= longest
    assert waits[8] >= 7


def test_nothing_is_waited_for_beyond_the_deadline(scripted, waits):
    client, server = scripted(httpx.Response(503, headers={"Retry-After": "30"}), timeout_s=20)
    with pytest.raises(ServiceError):
        client.models()
    assert (len(server.requests), waits) == (1, [])


def test_each_attempt_is_told_what_is_left_of_the_deadline(scripted, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)
    client, server = scripted(httpx.Response(503), timeout_s=10)
    began = time.monotonic()
    client.models()
    first, second = (int(request.headers["X-Request-Timeout-Ms"]) for request in server.requests)
    assert 9000 < first <= 10_000
    assert first - (time.monotonic() - began) * 1000 - 1 <= second <= first - 25
    assert server.requests[1].extensions["timeout"]["read"] == pytest.approx(second / 1000, abs=0.01)
    assert server.requests[1].extensions["timeout"]["connect"] == retry.CONNECT_S


def test_without_a_deadline_the_servers_own_holds(scripted):
    client, server = scripted(timeout_s=None)
    client.models()
    assert "X-Request-Timeout-Ms" not in server.requests[0].headers
    assert server.requests[0].extensions["timeout"]["read"] is None
