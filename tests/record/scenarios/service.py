"""Every route with every method, paths that lead nowhere, health, documents, and the page."""

from collections.abc import Iterator
from itertools import product

from conversation import Conversation, Talk

PATHS = (
    "/",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/inspector/main.js",
    "/inspector",
    "/inspector/",
    "/v1/models",
    "/v1/models/tiny",
    "/v1/models/tiny/versions/1",
    "/v1/models/tiny/versions",
    "/v1/models/tiny/predict",
    "/v1/models/tiny/versions/1/predict",
    "/v1/models/tiny/trace",
    "/v1/models/tiny/versions/1/trace",
    "/v1/models/tiny/explain",
    "/v1/models/tiny/versions/1/explain",
    "/v1/models/nobody/load",
    "/v1/models/nobody/versions/1/load",
    "/v1/models/nobody/unload",
    "/v1/models/nobody/versions/1/unload",
    "/v1/sessions",
    "/v1/sessions/none",
    "/v1/sessions/none/steps",
    "/v1/sessions/none/state",
    "/v1/sessions/none/stream",
    "/v1/traces",
    "/v1/traces/none",
    "/v1/traces/none/values",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/stats",
    "/v2/models/tiny",
    "/v2/models/tiny/versions/1",
    "/v2/models/tiny/ready",
    "/v2/models/tiny/versions/1/ready",
    "/v2/models/tiny/config",
    "/v2/models/tiny/versions/1/config",
    "/v2/models/several/stats",
    "/v2/models/several/versions/1/stats",
    "/v2/models/tiny/infer",
    "/v2/models/tiny/versions/1/infer",
    "/v2/repository/index",
    "/v2/repository/models/nobody/load",
    "/v2/repository/models/nobody/unload",
    "/nothing",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")

KEPT_OUT = {("PUT", path) for path in ("/v1/models/tiny", "/v1/models/tiny/versions/1")}
"""They would change what is served."""

NOWHERE = (
    "/v1",
    "/v1/",
    "/v1/models/",
    "/v1/models/tiny/",
    "/v1/models/tiny/predict/",
    "/v1//models/tiny/predict",
    "/v1/models//predict",
    "/v1/models/tiny/versions//predict",
    "/v1/models/tiny/Predict",
    "/V1/models/tiny",
    "/v1/models/tiny/versions/9",
    "/v1/models/tiny/versions/01",
    "/v1/models/Tiny",
    "/v1/models/tine",
    "/v1/models/a%2Fb",
    "/v1/models/a%2Fb/predict",
    "/v1/models/%FF%00",
    "/v1/models/caf%C3%A9",
    "/v1/models/%2e%2e",
    "/v1/models/" + "x" * 300,
    "/v2/",
    "/v2/models",
    "/v2/models/",
    "/v2/models/nobody",
    "/v2/models/tiny/versions/9",
    "/v2/models/nobody/ready",
    "/v2/models/contradicting/ready",
    "/v2/models/nobody/config",
    "/v2/models/nobody/stats",
    "/v2/health",
    "/v2/nothing/at/all",
    "/v2x",
    "/health",
    "/health/live/",
    "/metrics/",
    "/docs/",
    "/redoc",
    "/favicon.ico",
    "/index.html",
    "/inspector/nothing.js",
    "/inspector/../main.py",
    "/inspector/%2e%2e/main.py",
    "/inspector/v-0123456789abcdef/nothing.js",
    "/../etc/passwd",
    "/%2e%2e/etc/passwd",
    "//health/live",
    "/" + "a" * 3000,
)

FOUND = (
    "/v1/models/t%69ny",
    "/%761/models/tiny",
    "/v1/models/tiny?a=b&c",
    "/v1/models/tiny?",
    "/v1/models/tiny/versions/1?version=2",
    "/health/live?x=1#y",
    "/inspector/style.css",
    "/inspector/icon.svg",
    "/inspector/v-0123456789abcdef/main.js",
    "/?view=1",
)


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _routes()
    yield _paths()
    yield _documents()
    yield _models()


def _routes() -> Conversation:
    talk = Talk("plain", "routes")
    for path, method in product(PATHS, METHODS):
        if (method, path) not in KEPT_OUT:
            talk.ask(f"{method} {path}", method, path)
    for method in ("TRACE", "PROPFIND", "QUERY", "LINK"):
        talk.ask(f"{method} /health/live", method, "/health/live")
        talk.ask(f"{method} predict", method, "/v1/models/tiny/predict", {"inputs": [[1, 2, 3]]})
    for path in ("/v1/models/tiny/predict", "/v2/models/tiny/infer", "/v1/sessions", "/v1/traces", "/v1/models/tiny"):
        for method in ("PUT", "DELETE", "PATCH"):
            if (method, path) not in KEPT_OUT:
                talk.ask(f"{method} {path} with a body", method, path, {"inputs": [[1, 2, 3]]})
    return talk.done()


def _paths() -> Conversation:
    talk = Talk("plain", "paths")
    for path in NOWHERE:
        talk.get(f"GET {path[:50]}", path)
    for path in (*NOWHERE[:10], "/v2/models/tiny/infer/", "/v2/models//infer", "/nothing", "/predict", "/infer"):
        talk.post(f"POST {path[:50]}", path, {"inputs": [[1, 2, 3]]})
    for path in FOUND:
        talk.get(f"GET {path}", path)
    for path in (
        "/v1/models/t%69ny/predict",
        "/v1/models/tiny/%70redict",
        "/v1/models/tiny%2Fpredict",
        "/v1/models/tiny/predict?a=b",
        "/v1/models/tiny/predict?",
        "/v1/models/nobody/predict",
        "/v1/models/weightless/predict",
        "/v1/models/contradicting/predict",
        "/v1/models/illegible/predict",
        "/v1/models/tiny/versions/9/predict",
        "/v1/models/partly/versions/2/predict",
        "/v1/models/%FF%00/predict",
        f"/v1/models/{'x' * 600}/predict",
    ):
        talk.post(f"POST {path[:60]}", path, {"inputs": [[1, 2, 3]]}, times=2)
    return talk.done()


def _documents() -> Conversation:
    talk = Talk("plain", "documents")
    talk.get("page", "/", ("Accept", "text/html"))
    talk.get("page that is known", "/", ("If-None-Match", '"0123456789abcdef"'))
    talk.get("part of a file", "/inspector/main.js", ("Range", "bytes=0-9"))
    talk.get("file behind its end", "/inspector/main.js", ("Range", "bytes=99999999-"))
    talk.get("file since", "/inspector/main.js", ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"))
    talk.get("file compressed", "/inspector/main.js", ("Accept-Encoding", "gzip, br"))
    talk.get("openapi", "/openapi.json", ("Accept", "text/html"))
    talk.get("docs", "/docs")
    talk.get("offline", "/static-offline-docs/nothing.js")
    talk.get("metrics", "/metrics", ("Accept", "application/openmetrics-text; version=1.0.0"))
    for header in ("abc-1", "a.b:c/d+e=f", "x" * 128, "x" * 129, 'a"b', "a b", "", "caf\xe9", "-", "\t mine \t"):
        talk.get(f"request id {header[:12]!r}", "/health/live", ("X-Request-ID", header))
        talk.get(f"request id {header[:12]!r} of an error", "/v1/models/nobody", ("x-request-id", header))
    talk.get("request id twice", "/health/live", ("X-Request-ID", "first"), ("X-Request-ID", "second"))
    for accept in ("text/html", "application/json;q=0", "image/png", "*/*;q=0"):
        talk.get(f"live as {accept}", "/health/live", ("Accept", accept))
        talk.get(f"models as {accept}", "/v1/models/tiny", ("Accept", accept))
    for value in ("1", "soon", "0", "-1"):
        talk.get(f"deadline {value}", "/v1/models/tiny", ("X-Request-Timeout-Ms", value))
        talk.get(f"v2 deadline {value}", "/v2/models/tiny", ("X-Request-Timeout-Ms", value))
    return talk.done()


def _models() -> Conversation:
    talk = Talk("plain", "models")
    talk.get("all", "/v1/models", times=2)
    for name in (
        "founding",
        "both-ways",
        "forecaster",
        "river",
        "letters",
        "drawn",
        "mood",
        "ids",
        "verdict",
        "final",
        "peak",
        "marks",
        "single",
        "unbiased",
        "contradicting",
        "several",
        "pinned",
        "partly",
        "weightless",
        "illegible",
        "nobody",
    ):
        talk.get(name, f"/v1/models/{name}")
        talk.get(f"{name} version 1", f"/v1/models/{name}/versions/1")
        talk.get(f"{name} in v2", f"/v2/models/{name}")
        talk.get(f"{name} config", f"/v2/models/{name}/config")
        talk.get(f"{name} ready", f"/v2/models/{name}/ready")
    for name, version in (("several", "2"), ("several", "10"), ("several", "3"), ("pinned", "10"), ("partly", "2")):
        for path in (f"/v1/models/{name}/versions/{version}", f"/v2/models/{name}/versions/{version}"):
            talk.get(f"{path}", path)
        talk.get(f"{name} {version} ready", f"/v2/models/{name}/versions/{version}/ready")
        talk.get(f"{name} {version} config", f"/v2/models/{name}/versions/{version}/config")
    for body in (None, b"", "{}", '{"ready":true}', '{"ready":false}', '{"ready":1}', "[]", "{", '{"unknown":1}', " "):
        talk.post(f"index of {body!r}", "/v2/repository/index", body)
    return talk.done()
