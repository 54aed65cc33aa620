"""Who gets in: Host, Origin, keys, and who may change what is served."""

import json
import socket
from base64 import urlsafe_b64encode
from contextlib import closing

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.server.api.helpers import GOOD, PREDICT

LOAD = "/v1/models/founding/load"
ADMINISTERS = [
    ("POST", LOAD),
    ("POST", "/v1/models/founding/versions/1/load"),
    ("POST", "/v1/models/founding/versions/9/unload"),
    ("POST", "/v1/models/nobody/unload"),
    ("PUT", "/v1/models/weightless"),
    ("PUT", "/v1/models/weightless/versions/1"),
]
CHANGING = [
    ("POST", PREDICT),
    ("POST", "/v1/sessions"),
    ("DELETE", "/v1/sessions/none"),
    ("PUT", "/v1/sessions/none/state"),
    ("DELETE", "/v1/traces/none"),
    ("POST", "/v2/models/founding/infer"),
    ("POST", "/nowhere"),
    ("PATCH", PREDICT),
    *ADMINISTERS[::3],
]


def refused(reply, status, title):
    assert (reply.status_code, reply.json().get("title", title)) == (status, title), reply.text
    return reply.json().get("detail") or reply.json()["error"]


def unauthorized(reply):
    assert reply.headers["www-authenticate"] == "Bearer"
    return refused(reply, 401, "Unauthorized")


def page(client, origin, host=None):
    """What a browser sends from a page of this origin."""
    url = str(client.base_url) if host is None else f"http://{host}"
    return {"Origin": origin or url, "Host": httpx.URL(url).netloc.decode()}


def offered(key):
    """A key as a page offers it."""
    return "gatescope.key." + urlsafe_b64encode(key.encode()).decode().rstrip("=")


def raw(client, *lines, version="1.1", method="GET", path="/v1/models"):
    """The first line of the reply to a head of exactly these lines, and its body."""
    with closing(socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)) as connection:
        first = f"{method} {path} HTTP/{version}"
        connection.sendall("\r\n".join([first, *lines, "Connection: close", "", ""]).encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture(scope="module")
def keyed(serve):
    with serve(api_keys=("reader",), admin_keys=("first", "second"), allowed_hosts=()) as client:
        yield client


@pytest.fixture(scope="module")
def open_(serve):
    """Without keys, on the loopback; pages of two origins may call, and those of any may ask."""
    with serve(cors_origins=("https://a.example", "*"), allowed_hosts=("models.example", "Box:9")) as client:
        yield client


@pytest.fixture(scope="module")
def plain(serve):
    """Without keys, without further origins and names."""
    with serve(allowed_hosts=()) as client:
        yield client


class TestKeys:
    @pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer reade"}])
    def test_without_one_nobody_gets_in(self, keyed, headers):
        for method, path in (("POST", PREDICT), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/nowhere")):
            assert "send one of this server's keys" in unauthorized(keyed.request(method, path, headers=headers))

    @pytest.mark.parametrize("headers", [{"X-API-Key": "reader"}, {"Authorization": "bearer  reader"}])
    def test_with_one_everybody_does(self, keyed, headers):
        assert keyed.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize("path", ["/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json"])
    def test_what_is_open_needs_none(self, keyed, path):
        assert keyed.get(path).status_code == 200

    @pytest.mark.parametrize("key", ["schlüssel", "ключ", "鍵 🔑", "café"])
    def test_one_beyond_ascii_works(self, serve, key):
        with serve(api_keys=("other", key)) as client:
            for headers in ({b"X-API-Key": key.encode()}, {b"Authorization": b"Bearer " + key.encode()}):
                assert client.get("/v1/models", headers=headers).status_code == 200
            unauthorized(client.get("/v1/models", headers={b"X-API-Key": key.encode()[:-1]}))
            if all(ord(letter) < 256 for letter in key):
                unauthorized(client.get("/v1/models", headers={b"X-API-Key": key.encode("latin-1")}))

    def test_a_known_head_without_one_stays_refused(self, keyed, dial):
        wire = dial(keyed)
        for _ in range(3):
            assert wire.post(PREDICT, GOOD).status == 401
        for _ in range(3):
            assert wire.post(PREDICT, GOOD, "X-API-Key: reader").status == 200
        assert wire.post(PREDICT, GOOD).status == 401

    def test_of_a_refused_request_the_body_is_not_awaited(self, keyed, dial):
        wire = dial(keyed)
        wire.send(wire.written(PREDICT, GOOD * 1000)[:-100])
        assert wire.reply().status == 401


class TestAdminKeys:
    @pytest.mark.parametrize(("method", "path"), ADMINISTERS)
    def test_what_changes_models_needs_one(self, keyed, method, path):
        assert "send one of this server's keys" in unauthorized(keyed.request(method, path))
        why = unauthorized(keyed.request(method, path, headers={"X-API-Key": "reader"}, content=b"unread"))
        assert "send one of this server's admin keys" in why
        for headers in ({"X-API-Key": "second"}, {"Authorization": "Bearer first"}):
            assert keyed.request(method, path, headers=headers).status_code not in (401, 403)

    def test_they_open_all_else_too(self, keyed):
        assert keyed.post(LOAD, headers={"X-API-Key": "first"}).status_code == 200
        for key in ("reader", "first"):
            assert keyed.get("/v1/models", headers={"X-API-Key": key}).status_code == 200

    def test_alone_they_leave_the_rest_open(self, serve):
        with serve(admin_keys=("boss",)) as client:
            assert client.get("/v1/models").status_code == 200
            unauthorized(client.post(LOAD))
            unauthorized(client.post(LOAD, headers={"X-API-Key": ""}))
            assert client.post(LOAD, headers={"X-API-Key": "boss"}).status_code == 200

    def test_without_them_nobody_with_a_key_changes_models(self, serve):
        with serve(api_keys=("reader",)) as client:
            why = unauthorized(client.post(LOAD, headers={"X-API-Key": "reader"}))
            assert "no admin keys: set GATESCOPE_ADMIN_KEYS" in why


class TestOrigin:
    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://evil.example", None),
            ("http://localhost:9", None),
            ("null", None),
            ("", None),
            ("file://", None),
            ("http://127.0.0.1", None),  # another port
            ("http://[", None),
            ("http://127.0.0.1:8000.evil.example", "127.0.0.1:8000"),
        ],
    )
    @pytest.mark.parametrize(("method", "path"), CHANGING)
    def test_a_foreign_one_is_refused(self, plain, method, path, origin, host):
        headers = page(plain, "x", host) | {"Origin": origin}
        why = refused(plain.request(method, path, headers=headers), 403, "ForeignOrigin")
        assert "GATESCOPE_CORS_ORIGINS" in why

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_it_may_ask_for_what_it_cannot_read(self, plain, method):
        reply = plain.request(method, "/v1/models", headers=page(plain, "https://evil.example"))
        assert reply.status_code == (405 if method == "OPTIONS" else 200)
        assert "access-control-allow-origin" not in reply.headers

    @pytest.mark.parametrize("origin", ["http://{}", "https://{}", "HTTP://{}"])
    @pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LocalHost"])
    def test_one_of_its_own_is_none(self, plain, host, origin):
        headers = {"Host": host, "Origin": origin.format(host)}
        assert plain.post(LOAD, headers=headers).status_code == 200
        assert plain.post("/v1/sessions", headers=headers, json={"model": "founding"}).status_code == 201

    def test_with_a_key_it_is_refused_too(self, keyed):
        for key, (method, path) in (("reader", CHANGING[0]), ("reader", CHANGING[1]), ("first", ("POST", LOAD))):
            headers = page(keyed, "https://evil.example") | {"X-API-Key": key}
            refused(keyed.request(method, path, headers=headers), 403, "ForeignOrigin")
            assert keyed.get("/v1/models", headers=headers).status_code == 200

    def test_one_that_is_named_may_do_all(self, serve):
        with serve(cors_origins=("https://a.example",)) as client:
            headers = page(client, "https://a.example")
            assert client.post(LOAD, headers=headers).status_code == 200
            assert client.post("/v1/sessions", headers=headers, json={"model": "founding"}).status_code == 201
            for other in ("https://b.example", "http://a.example", "https://a.example:8", "https://A.example.b"):
                refused(client.post(LOAD, headers=page(client, other)), 403, "ForeignOrigin")

    @pytest.mark.parametrize(("method", "path"), ADMINISTERS[::3])
    def test_a_star_names_none_for_what_changes_models(self, open_, method, path):
        headers = page(open_, "https://any.example")
        refused(open_.request(method, path, headers=headers), 403, "ForeignOrigin")
        assert open_.post(LOAD, headers=page(open_, "https://a.example")).status_code == 200
        assert open_.post("/v1/sessions", headers=headers, json={"model": "founding"}).status_code == 201

    def test_the_protocol_is_told_in_its_form(self, plain):
        reply = plain.post("/v2/models/founding/infer", headers=page(plain, "null"))
        assert (reply.status_code, reply.json().keys()) == (403, {"error"})

    def test_f11_a_simple_request_of_a_page_opens_no_session(self, plain):
        tensor = {"name": "inputs", "shape": [1, 1, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5]}
        body = json.dumps({"inputs": [tensor], "parameters": {"sequence_id": 7, "sequence_start": True}})
        headers = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
        before = plain.get("/v1/sessions").json()
        refused(plain.post("/v2/models/founding/infer", content=body, headers=headers), 403, "ForeignOrigin")
        assert plain.get("/v1/sessions").json() == before


class TestStreams:
    """WebSockets: browsers open them for any page."""

    @staticmethod
    def opened(client, key=None):
        headers = {"X-API-Key": key} if key else {}
        name = client.post("/v1/sessions", json={"model": "founding"}, headers=headers).json()["session_id"]
        return f"ws://{client.base_url.host}:{client.base_url.port}/v1/sessions/{name}/stream"

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9"])
    def test_a_page_of_another_origin_opens_none(self, plain, keyed, origin):
        for client, key in ((plain, None), (keyed, "reader")):
            url, headers = self.opened(client, key), {"X-API-Key": key} if key else {}
            with pytest.raises(InvalidStatus) as failed:
                connect(url, origin=origin, additional_headers=headers).close()
            assert failed.value.response.status_code == 403
            assert json.loads(failed.value.response.body)["title"] == "ForeignOrigin"

    @pytest.mark.parametrize("origin", [None, "http://{}"])
    def test_its_own_page_does(self, plain, origin):
        own = origin and origin.format(plain.base_url.netloc.decode())
        with connect(self.opened(plain), origin=own) as stream:
            stream.send(GOOD.decode())
            assert json.loads(stream.recv())["steps"] == 1

    @pytest.mark.parametrize("key", ["reader", "first"])
    def test_a_page_offers_its_key_as_a_subprotocol(self, keyed, key):
        with connect(self.opened(keyed, key), subprotocols=["gatescope.v1", offered(key)]) as stream:
            assert stream.subprotocol == "gatescope.v1"
            stream.send(GOOD.decode())
            assert json.loads(stream.recv())["steps"] == 1

    @pytest.mark.parametrize("offer", [[], ["gatescope.v1"], ["gatescope.key."], ["gatescope.key.a"], None])
    def test_what_is_no_key_opens_none(self, keyed, offer):
        wrong = [offered("somebody")] if offer is None else offer
        with pytest.raises(InvalidStatus) as failed:
            connect(self.opened(keyed, "reader"), subprotocols=wrong or None).close()
        assert failed.value.response.status_code == 401

    def test_a_key_in_a_subprotocol_is_none_of_another_request(self, keyed):
        headers = {"Sec-WebSocket-Protocol": offered("reader")}
        unauthorized(keyed.get("/v1/sessions", headers=headers))

    def test_another_name_opens_none(self, plain):
        with socket.create_connection((plain.base_url.host, plain.base_url.port)) as connection:
            url = self.opened(plain).replace("127.0.0.1", "rebound.evil")
            with pytest.raises(InvalidStatus) as failed:
                connect(url, sock=connection).close()
        assert failed.value.response.status_code == 403
        assert json.loads(failed.value.response.body)["title"] == "UnknownHost"


class TestHost:
    @pytest.mark.parametrize(
        "host", ["rebound.evil", "rebound.evil:8000", "localhost.evil.example", "127.0.0.1.nip.io", "box"]
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/v1/sessions"), ("GET", "/v1/models"), ("DELETE", "/v1/sessions/7"), ("POST", LOAD), ("GET", "/")],
    )
    def test_an_unknown_one_is_refused(self, plain, method, path, host):
        why = refused(plain.request(method, path, headers={"Host": host}), 403, "UnknownHost")
        assert "GATESCOPE_ALLOWED_HOSTS" in why
        refused(plain.request(method, path, headers=page(plain, None, host)), 403, "UnknownHost")

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8", "10.1.2.3:80", "[fe80::1]"])
    def test_an_address_or_localhost_is_known(self, plain, host):
        assert raw(plain, f"Host: {host}")[0] == 200

    @pytest.mark.parametrize("host", ["models.example", "Models.Example:8000", "box:9"])
    def test_so_is_one_that_is_named(self, open_, host):
        assert open_.post(LOAD, headers={"Host": host}).status_code == 200
        assert open_.get("/v1/models", headers={"Host": host}).status_code == 200

    def test_with_keys_any_will_do(self, keyed):
        headers = {"Host": "models.example", "X-API-Key": "reader"}
        assert keyed.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize("lines", [[], ["Host: a", "Host: a"], ["Host: localhost", "host: rebound.evil"]])
    @pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/nowhere"])
    def test_it_is_named_once(self, plain, keyed, lines, path):
        for client in (plain, keyed):
            status, body = raw(client, *lines, path=path)
            assert (status, json.loads(body)["title"]) == (400, "BadRequest")
            assert f"this one has {len(lines)} Host headers" in json.loads(body)["detail"]

    def test_in_the_older_http_it_may_be_left_out(self, plain):
        assert raw(plain, version="1.0", path="/health/live")[0] == 200
        assert raw(plain, "Host: a", "Host: b", version="1.0")[0] == 400
        assert raw(plain, "Origin: http://", version="1.0", method="POST", path=LOAD)[0] == 403


ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


class TestPreflight:
    def test_an_origin_that_is_named_may(self, serve):
        with serve(cors_origins=("https://a.example",), api_keys=("k",)) as client:
            may = client.options(PREDICT, headers=ASKED | {"Origin": "https://a.example"})
            other = client.options(PREDICT, headers=ASKED | {"Origin": "https://b.example"})
        assert (may.status_code, may.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert may.headers["x-request-id"]
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)

    def test_replies_say_who_may_read_them(self, serve):
        with serve(cors_origins=("https://a.example",)) as client:
            may = client.get("/v1/models", headers={"Origin": "https://a.example"})
            other = client.get("/v1/models", headers={"Origin": "https://b.example"})
            neither = client.get("/v1/models")
        assert may.headers["access-control-allow-origin"] == "https://a.example"
        assert [reply.headers["vary"] for reply in (may, other, neither)] == ["Origin"] * 3
        assert "access-control-allow-origin" not in neither.headers
