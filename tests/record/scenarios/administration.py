"""Models that are loaded, unloaded and uploaded, by the routes of both protocols."""

import io
from collections.abc import Iterator

import numpy as np
import torch
from conversation import Conversation, Talk
from folders import Weigher, Weights, regression, tensors
from sequences import rows

BODY = {"inputs": rows(2, 3)}
TINY = "/v1/models/tiny"


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _loads()
    yield _repository()
    yield _refused_uploads()
    yield _uploads()


def _loads() -> Conversation:
    talk = Talk("administered", "loads")
    talk.post("predict", f"{TINY}/predict", BODY, times=2)
    talk.post("load", f"{TINY}/load")
    talk.post("predict after that", f"{TINY}/predict", BODY, times=2)
    talk.post("session", "/v1/sessions", {"model": "tiny", "session_id": "a"})
    talk.post("trace", "/v1/traces", {"model": "tiny"} | BODY, capture=("trace", "trace_id"))
    talk.post("unload", f"{TINY}/unload", times=2)
    talk.get("info", TINY)
    talk.get("info of the version", f"{TINY}/versions/1")
    talk.get("all", "/v1/models")
    for path in (f"{TINY}/predict", f"{TINY}/trace", f"{TINY}/versions/1/predict", "/v2/models/tiny/infer"):
        talk.post(f"{path} unloaded", path, BODY, times=2)
    talk.get("v2 unloaded", "/v2/models/tiny")
    talk.get("v2 ready, unloaded", "/v2/models/tiny/ready")
    talk.get("v2 statistics, unloaded", "/v2/models/tiny/stats")
    talk.post("step, unloaded", "/v1/sessions/a/steps", BODY)
    talk.get("session, unloaded", "/v1/sessions/a")
    talk.get("trace, unloaded", "/v1/traces/<<trace>>/values?units=0&signals=cell_state")
    talk.post("explain, unloaded", f"{TINY}/explain", {"trace_id": "<<trace>>", "time_step": 0, "unit": 0})
    talk.get("ready", "/health/ready")
    talk.post("index", "/v2/repository/index")
    talk.post("load again", f"{TINY}/load")
    talk.post("predict again", f"{TINY}/predict", BODY, times=2)
    talk.post("step again", "/v1/sessions/a/steps", BODY)
    talk.ask("session ended", "DELETE", "/v1/sessions/a")
    several = "/v1/models/several"
    talk.post("several", f"{several}/predict", BODY)
    talk.post("unload 10", f"{several}/versions/10/unload")
    talk.post("several without 10", f"{several}/predict", BODY, times=2)
    talk.post("10 of several", f"{several}/versions/10/predict", BODY)
    talk.get("info without 10", several)
    talk.post("unload 2", f"{several}/versions/2/unload")
    talk.post("several without 2", f"{several}/predict", BODY)
    talk.post("load 10", f"{several}/versions/10/load")
    talk.post("several with 10", f"{several}/predict", BODY)
    talk.post("load all", f"{several}/load")
    talk.get("info with all", several)
    for path in (
        "/v1/models/nobody",
        "/v1/models/tine",
        f"{TINY}/versions/9",
        "/v1/models/contradicting",
        "/v1/models/weightless",
        "/v1/models/%2e%2e",
        "/v1/models/tiny%2F1",
        "/v1/models/contradicting/versions/1",
    ):
        for change in ("load", "unload"):
            talk.post(f"{change} {path}", f"{path}/{change}")
    talk.post("load with a body", f"{TINY}/load", {"a": 1})
    talk.post("load with a broken body", f"{TINY}/load", b"{")
    talk.post("load with a query", f"{TINY}/load?version=1")
    talk.post("load, deadline that is none", f"{TINY}/load", None, ("X-Request-Timeout-Ms", "x"))
    talk.post("load, deadline", f"{TINY}/load", None, ("X-Request-Timeout-Ms", "600000"))
    talk.post("load from a page", f"{TINY}/load", None, ("Origin", "https://evil.example"))
    talk.get("GET load", f"{TINY}/load")
    return talk.done()


def _repository() -> Conversation:
    talk = Talk("administered", "repository")
    path = "/v2/repository/models"
    for body in (None, "{}", '{"parameters":{}}', '{"parameters":null}', '{"parameters":{"unload_dependents":true}}'):
        talk.post(f"unload {body}", f"{path}/tiny/unload", body)
        talk.post(f"load {body}", f"{path}/tiny/load", body)
    for body in (
        '{"parameters":{"config":"{}"}}',
        '{"parameters":{"file:1/model.pt":"AAAA"}}',
        '{"parameters":{"other":1}}',
        '{"parameters":[]}',
        '{"parameters":1}',
        '{"unknown":1}',
        "[]",
        "{",
        "null",
        " ",
    ):
        talk.post(f"load {body}", f"{path}/tiny/load", body)
        talk.post(f"unload {body}", f"{path}/tiny/unload", body)
    talk.post("load again", f"{path}/tiny/load")
    for name in ("nobody", "tine", "contradicting", "weightless", "a%2Fb"):
        talk.post(f"load {name}", f"{path}/{name}/load")
        talk.post(f"unload {name}", f"{path}/{name}/unload")
    talk.post("unload founding", f"{path}/founding/unload")
    talk.post("index", "/v2/repository/index")
    talk.post("index of what is ready", "/v2/repository/index", '{"ready":true}')
    talk.post("load founding", f"{path}/founding/load")
    talk.post("load from a page", f"{path}/tiny/load", None, ("Origin", "https://evil.example"))
    talk.get("GET index", "/v2/repository/index")
    return talk.done()


def _refused_uploads() -> Conversation:
    talk = Talk("administered", "refused uploads")
    new = "/v1/models/new"
    queries = (
        "taks=regression",
        "task=guessing",
        "task=tagging&task=tagging",
        "steps=some",
        "activation=gauss",
        "version=../2",
        "version=",
        "version=a%20b",
        "features=a,,c",
        "features=a,a",
        "outputs=x&outputs=x",
        "labels=%0A",
        "characters=",
        "characters=aab",
        "characters=ab&vocabulary=a,b",
        "description=two%0Alines",
        "unknown=1&other=2",
        "prefix=lstm&head=none&embedding=none&features=a",
    )
    for query in queries:
        talk.ask(f"query {query}", "PUT", f"{new}?{query}", b"unread", content_type=None)
    for name in (
        "%2e%2e",
        "%2e",
        ".hidden",
        "a%20b",
        "a%00b",
        "%2e%2e%5cx",
        "x" * 65,
        "caf%C3%A9",
        "a%2Fb",
        "-x",
        "_x",
    ):
        talk.ask(f"name {name}", "PUT", f"/v1/models/{name}", b"unread", content_type=None)
    for version in ("%2e%2e", ".1", "a%20b", "v" * 65, "a%2Fb"):
        talk.ask(f"version {version}", "PUT", f"{TINY}/versions/{version}", b"unread", content_type=None)
    talk.ask("version twice", "PUT", f"{TINY}/versions/2?version=3", b"unread", content_type=None)
    talk.ask("form", "PUT", TINY, b"x", content_type="multipart/form-data; boundary=x")
    talk.ask("compressed", "PUT", TINY, b"x", ("Content-Encoding", "gzip"), content_type=None)
    talk.ask("no checkpoint", "PUT", new, b"no checkpoint", content_type=None)
    talk.ask("nothing", "PUT", new, b"", content_type=None)
    talk.ask("without a body", "PUT", new)
    talk.ask("no weights", "PUT", new, tensors({}), content_type=None)
    talk.ask("no LSTM", "PUT", new, tensors(Weigher(50).linear("a", 2, 3)), content_type=None)
    talk.ask("half a safetensors", "PUT", new, tensors(regression(51))[:-9], content_type=None)
    talk.ask("that does not fit", "PUT", TINY, tensors(regression(52, 9)), content_type=None)
    talk.ask("version that is there", "PUT", f"{TINY}/versions/1", tensors(regression(53)), content_type=None)
    talk.ask("version that is there, asked", "PUT", f"{TINY}?version=1", tensors(regression(53)), content_type=None)
    talk.ask("manifest's options", "PUT", f"{TINY}?task=regression", tensors(regression(53)), content_type=None)
    talk.ask("deadline that is none", "PUT", TINY, b"x", ("X-Request-Timeout-Ms", "x"), content_type=None)
    talk.ask("from a page", "PUT", TINY, b"x", ("Origin", "https://evil.example"), content_type=None)
    wrong = tensors(regression(54) | {"head.0.bias": np.zeros(3, dtype=np.float32)})
    talk.ask("parts that do not fit", "PUT", new, wrong, content_type=None)
    no_numbers = regression(55)
    no_numbers["head.0.bias"] = np.array([np.nan, 0], dtype=np.float32)
    talk.ask("NaN among the weights", "PUT", new, tensors(no_numbers), content_type=None)
    talk.get("nothing is new", new)
    talk.post("tiny as before", f"{TINY}/predict", BODY)
    return talk.done()


def saved(weights: Weights) -> bytes:
    """A checkpoint as `torch.save` writes it."""
    file = io.BytesIO()
    torch.save({"epoch": 7, "state_dict": {name: torch.from_numpy(array) for name, array in weights.items()}}, file)
    return file.getvalue()


def _uploads() -> Conversation:
    talk = Talk("administered", "uploads")

    def put(name: str, path: str, content: bytes, *headers: tuple[str, str], **more) -> None:
        talk.ask(name, "PUT", path, content, *headers, **{"content_type": None, "key": name} | more)

    put("a checkpoint", "/v1/models/new?features=a,b,c&outputs=x,y", saved(regression(60)))
    talk.get("info", "/v1/models/new")
    talk.post("predict", "/v1/models/new/predict", BODY, times=2)
    talk.post("trace", "/v1/models/new/trace", BODY | {"units": [0]})
    talk.get("metadata", "/v2/models/new")
    put("safetensors", TINY, tensors(regression(61)))
    talk.post("next version", f"{TINY}/predict", BODY, times=2)
    talk.post("first version", f"{TINY}/versions/1/predict", BODY, times=2)
    put("a named version", f"{TINY}/versions/7", tensors(regression(62)), content_type="application/octet-stream")
    put("a named version again", f"{TINY}/versions/7", tensors(regression(62)))
    put("the one after that", TINY, tensors(regression(63)))
    put("in words", f"{TINY}/versions/final-1.0_b", tensors(regression(64)))
    talk.get("info of tiny", TINY)
    talk.post("latest", f"{TINY}/predict", BODY)
    put("labels with commas", "/v1/models/marks?labels=yes%2C%20surely&labels=no&task=tagging", tensors(regression(65)))
    talk.post("labels with commas, predict", "/v1/models/marks/predict", BODY)
    weigh = Weigher(66)
    letters = weigh.embedding("emb", 4, 3) | weigh.lstm("rnn", 3, 5) | weigh.linear("out", 5, 4)
    put("letters", "/v1/models/letters2?characters=abc%20&task=next_token", tensors(letters))
    talk.post("letters, predict", "/v1/models/letters2/predict", {"text": "abc"})
    alone = weigh.lstm("lstm", 3, 4, both=True)
    put("an LSTM alone", "/v1/models/alone?head=none&description=an%20LSTM%20alone", tensors(alone))
    talk.post("an LSTM alone, predict", "/v1/models/alone/predict", BODY)
    prefixed = {f"model.{name}": array for name, array in regression(67).items()}
    put("with a prefix", "/v1/models/prefixed?prefix=model.lstm&head=model.head.0&steps=last", tensors(prefixed))
    talk.post("with a prefix, predict", "/v1/models/prefixed/predict", BODY)
    chunks = tensors(regression(68))
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (chunks[:100], chunks[100:])) + b"0\r\n\r\n"
    put("in chunks", "/v1/models/chunked", chunked, ("Transfer-Encoding", "chunked"))
    put("awaited", "/v1/models/awaited", tensors(regression(69)), ("Expect", "100-continue"))
    put("as JSON", "/v1/models/json", tensors(regression(70)), content_type="application/json")
    talk.post("unload new", "/v1/models/new/unload")
    put("into what is unloaded", "/v1/models/new", tensors(regression(71)))
    talk.post("into what is unloaded, predict", "/v1/models/new/predict", BODY)
    talk.post("index", "/v2/repository/index")
    return talk.done()
