"""Whatever goes wrong is an error with a name, the one that it has in the service where there is one."""

import httpx
import pytest

from gatescope import errors
from gatescope.client import ServiceError, Unreachable, problem
from gatescope.errors import AppError, DeadlineExceeded, InvalidInput, Place, Unauthorized, Unavailable
from gatescope.server.api import problems


def below(kind):
    return [kind, *(found for child in kind.__subclasses__() for found in below(child))]


ALL = [kind for kind in below(AppError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_it_was_raised(kind):
    places = (Place(("body", "inputs", 3, 17), "has 2 features"),)
    sent = problems.reply(kind("what was given", places))
    got = problem.from_reply(httpx.Response(sent.status, content=b"".join(sent.pieces)))
    assert (type(got), got.detail, got.places) == (kind, "what was given", places)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"".join(problems.internal().pieces), "InternalError: something went wrong"),
        (b'{"title": "Place", "detail": "is no error"}', "Place: is no error"),
        (b"<html>no such upstream", "500 Internal Server Error from http://there/v1/models"),
        (b"[1]", "500 Internal"),
        (b'{"title": "InvalidInput", "detail": "", "errors": [3]}', "500 Internal"),
    ],
)
def test_what_this_client_does_not_know_is_a_service_error(connect, content, said):
    transport = httpx.MockTransport(lambda _: httpx.Response(500, content=content))
    with pytest.raises(ServiceError, match=said):
        connect("http://there", transport=transport).models()


@pytest.mark.parametrize("content", [b"<html>welcome", b"{}", b"[]", b'{"models": 3}'])
def test_a_reply_of_something_else_is_a_service_error(connect, content):
    client = connect("http://there", transport=httpx.MockTransport(lambda _: httpx.Response(200, content=content)))
    with pytest.raises(ServiceError, match="http://there/v1/models does not answer as this API does"):
        client.models()
    with pytest.raises(ServiceError, match="http://there/v1/models/m/predict does not answer"):
        client.predict("m", [[1.0]])


def test_a_server_that_is_not_there_is_unreachable(connect):
    with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:9: ") as failed:
        connect("http://127.0.0.1:9").models()
    assert isinstance(failed.value, Unavailable)


@pytest.mark.parametrize("url", ["localhost:8000", "http://a:b", "ftp://here", "//here"])
def test_what_is_no_url_of_a_server_is_refused_at_once(connect, url):
    with pytest.raises(InvalidInput, match=url):
        connect(url)


def test_a_path_in_front_of_the_api_is_kept(connect):
    asked = []
    transport = httpx.MockTransport(
        lambda request: asked.append(str(request.url)) or httpx.Response(200, json={"models": []})
    )
    assert connect("https://there/lstm/", transport=transport).models() == []
    assert asked == ["https://there/lstm/v1/models"]


def test_the_key_is_sent(connect):
    def guarded(request):
        if request.headers.get("authorization") == "Bearer secret":
            return httpx.Response(200, json={"models": []})
        return httpx.Response(401, content=problems.body_of(Unauthorized("send a key")))

    assert connect("http://there", key="secret", transport=httpx.MockTransport(guarded)).models() == []
    for key in (None, "other"):
        with pytest.raises(Unauthorized, match="send a key"):
            connect("http://there", key=key, transport=httpx.MockTransport(guarded)).models()


def test_the_key_is_never_shown(connect):
    with pytest.raises(InvalidInput) as refused:
        connect("http://there", key="sec\nret").models()
    assert "sec" not in str(refused.value)


def test_the_deadline_is_the_servers_too(client, connect, shipped):
    impatient = connect(str(shipped.base_url), timeout_s=0.05)
    with pytest.raises(DeadlineExceeded, match="within"):
        impatient.predict("shakespeare", text="ROMEO:" * 100, horizon=2000)
    assert client.predict("brackets", text="x").values.shape == (1, 1, 3)
