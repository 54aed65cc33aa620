"""Who gets in, and who may change what is served."""

import httpx
import pytest

LOAD = "/v1/models/founding/load"
ADMINISTERS = [
    ("POST", LOAD),
    ("POST", "/v1/models/founding/versions/1/load"),
    ("POST", "/v1/models/founding/versions/9/unload"),
    ("POST", "/v1/models/nobody/unload"),
    ("PUT", "/v1/models/weightless"),
    ("PUT", "/v1/models/weightless/versions/1"),
]


def unauthorized(reply):
    assert (reply.status_code, reply.json()["title"]) == (401, "Unauthorized"), reply.text
    assert reply.headers["www-authenticate"] == "Bearer"
    return reply.json()["detail"]


def page(client, origin, host=None):
    """What a browser sends from a page of this origin."""
    url = str(client.base_url) if host is None else f"http://{host}"
    return {"Origin": origin or url, "Host": httpx.URL(url).netloc.decode()}


@pytest.fixture(scope="module")
def keyed(serve):
    with serve(api_keys=("reader",), admin_keys=("first", "second")) as client:
        yield client


@pytest.fixture(scope="module")
def open_(serve):
    with serve(cors_origins=("https://a.example", "*")) as client:
        yield client


class TestAdminKeys:
    @pytest.mark.parametrize(("method", "path"), ADMINISTERS)
    def test_what_changes_models_needs_one(self, keyed, method, path):
        assert "send one of this server's keys" in unauthorized(keyed.request(method, path))
        why = unauthorized(keyed.request(method, path, headers={"X-API-Key": "reader"}, content=b"unread"))
        assert "send one of this server's admin keys" in why
        for headers in ({"X-API-Key": "second"}, {"Authorization": "Bearer first"}):
            assert keyed.request(method, path, headers=headers).status_code != 401

    def test_they_open_all_else_too(self, keyed):
        assert keyed.post(LOAD, headers={"X-API-Key": "first"}).status_code == 200
        for key in ("reader", "first"):
            assert keyed.get("/v1/models", headers={"X-API-Key": key}).status_code == 200

    def test_a_browser_with_an_admin_key_may_come_from_anywhere(self, keyed):
        headers = page(keyed, "https://a.example") | {"X-API-Key": "first"}
        assert keyed.post(LOAD, headers=headers).status_code == 200


def test_admin_keys_alone_leave_the_rest_open(serve):
    with serve(admin_keys=("boss",)) as client:
        assert client.get("/v1/models").status_code == 200
        unauthorized(client.post(LOAD))
        unauthorized(client.post(LOAD, headers={"X-API-Key": ""}))
        assert client.post(LOAD, headers={"X-API-Key": "boss"}).status_code == 200


def test_with_api_keys_alone_nobody_changes_models(serve):
    with serve(api_keys=("reader",)) as client:
        why = unauthorized(client.post(LOAD, headers={"X-API-Key": "reader"}))
        assert "no admin keys: set GATESCOPE_ADMIN_KEYS" in why


class TestWithoutKeys:
    def test_who_reaches_the_server_may_change_models(self, open_):
        assert open_.post(LOAD).status_code == 200
        assert open_.post(LOAD, headers={"Host": "models.example"}).status_code == 200

    @pytest.mark.parametrize("host", [None, "localhost:8000", "[::1]:8000"])
    def test_so_may_its_own_pages(self, open_, host):
        assert open_.post(LOAD, headers=page(open_, None, host)).status_code == 200

    def test_and_pages_of_origins_that_are_named(self, open_):
        assert open_.post(LOAD, headers=page(open_, "https://a.example")).status_code == 200

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://evil.example", None),
            ("http://localhost:9", None),
            ("null", None),
            ("", None),
            ("http://evil.example:8000", "evil.example:8000"),  # a name that was made to point here
            ("http://[", "["),
        ],
    )
    @pytest.mark.parametrize(("method", "path"), ADMINISTERS[::3])
    def test_but_no_other_page_in_a_browser(self, open_, method, path, origin, host):
        headers = {"Origin": origin} | ({"Host": host} if host else {})
        assert "GATESCOPE_ADMIN_KEYS" in unauthorized(open_.request(method, path, headers=headers))
        assert open_.post("/v1/models/founding/predict", headers=headers).status_code == 415  # to ask is not to change
