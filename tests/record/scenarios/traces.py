"""`/v1/traces`: what is stored, looked at, explained and deleted."""

from collections.abc import Iterator

from conversation import SLOWLY, Conversation, Talk
from sequences import batch, levels, rows

LOOKS = (
    "",
    "?",
    "?signals=cell_state,forget_gate",
    "?signals=cell_state&signals=hidden_state",
    "?signals=cell_state&units=3",
    "?signals=cell_state&units=3,0,1",
    "?signals=cell_state&units=1:4:2&layers=1,0",
    "?signals=cell_state&directions=reverse,forward&layers=1",
    "?signals=cell_state&start=2&stop=5",
    "?signals=cell_state&start=-3",
    "?signals=cell_state&stop=-2&units=:2",
    "?signals=cell_state&sequence=1",
    "?signals=cell_state&sequence=0&start=-1",
    "?signals=cell_state&bins=2",
    "?signals=cell_state&bins=3&reduce=min",
    "?signals=cell_state&bins=4&reduce=max&units=0",
    "?signals=cell_state&bins=1&reduce=mean&layers=0",
    "?signals=cell_state&bins=6&units=0",
    "?signals=hidden_state&bins=3&sequence=1",
    "?signals=cell%5Fstate&units=0",
    "?signals=",
    "?signals=forget",
    "?signals=cell_state,",
    "?signals=cell_state,cell_state",
    "?layers=2",
    "?layers=a",
    "?layers=0,",
    "?layers=-1",
    "?directions=up",
    "?units=9",
    "?units=a:b",
    "?units=3:3",
    "?units=0:4:0",
    "?units=1.5",
    "?sequence=2",
    "?sequence=-1",
    "?sequence=x",
    "?sequence=0&sequence=1",
    "?start=9",
    "?start=3&stop=3",
    "?stop=0",
    "?start=1.5",
    "?start=9999999999",
    "?bins=0",
    "?bins=-1",
    "?bins=7",
    "?bins=x",
    "?reduce=mean",
    "?bins=2&reduce=sum",
    "?bins=2&reduce=",
    "?time=1",
    "?signal=cell_state",
    "?step=2",
    "?a=1&b=2&c=3",
)


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _looks()
    yield _stored()


def _looks() -> Conversation:
    talk = Talk("plain", "traces/looks")
    body = {"model": "both-ways", "inputs": batch(6, 2, width=3)}
    talk.post("stored", "/v1/traces", body, capture=("trace", "trace_id"))
    talk.get("described", "/v1/traces/<<trace>>", times=2)
    path = "/v1/traces/<<trace>>/values"
    for query in LOOKS:
        talk.get(f"values{query}", path + query)
    for query in ("?units=0", "?bins=2&units=0,1&reduce=max", "?sequence=1&start=-1", "?start=2&units=0", "?units=9"):
        for accept in ("application/vnd.safetensors", "application/x-npz", "application/x-ndjson", "text/html"):
            talk.get(f"values{query} as {accept}", path + query, ("Accept", accept))
    for accept in ("*/*", "application/*", "application/x-npz;q=0.1, application/x-ndjson"):
        talk.get(f"values as {accept}", f"{path}?units=0&signals=input_gate", ("Accept", accept))
    talk.get("described as html", "/v1/traces/<<trace>>", ("Accept", "text/html"))
    talk.get("values, deadline that is none", path, ("X-Request-Timeout-Ms", "x"))
    talk.get("described, deadline that is none", "/v1/traces/<<trace>>", ("X-Request-Timeout-Ms", "0"))
    talk.get("values, deadline", f"{path}?units=0&signals=input_gate", SLOWLY)
    talk.ask("HEAD of it", "HEAD", "/v1/traces/<<trace>>")
    talk.ask("HEAD of values", "HEAD", f"{path}?units=0")
    point = {"trace_id": "<<trace>>", "time_step": 1, "unit": 1}
    explain = "/v1/models/both-ways/explain"
    talk.post("explained", explain, point | {"sequence": 1})
    talk.post("explained, versioned", "/v1/models/both-ways/versions/1/explain", point | {"sequence": 0})
    talk.post("explained, reverse", explain, point | {"sequence": 0, "direction": "reverse", "layer": 1})
    talk.post("explained, which one", explain, point)
    talk.post("explained, no such one", explain, point | {"sequence": 2})
    talk.post("explained, beyond its end", explain, point | {"sequence": 1, "time_step": 2})
    talk.post("explained, beside inputs", explain, point | {"inputs": rows(1, 3)})
    talk.post("explained, of another model", "/v1/models/tiny/explain", point)
    talk.post("explained, of a model that is not there", "/v1/models/nobody/explain", point)
    talk.post("explained, of another version", "/v1/models/both-ways/versions/2/explain", point)
    talk.ask("deleted", "DELETE", "/v1/traces/<<trace>>")
    talk.ask("deleted", "DELETE", "/v1/traces/<<trace>>")
    talk.get("described, gone", "/v1/traces/<<trace>>")
    talk.get("values, gone", path)
    talk.post("explained, gone", explain, point | {"sequence": 1})
    return talk.done()


def _stored() -> Conversation:
    talk = Talk("plain", "traces/stored")
    bodies = {
        "tiny": {"inputs": batch(3, 1, width=3), "outputs": ["prediction", "output", "final_state"]},
        "founding": {"inputs": rows(3, 5), "initial_state": None},
        "forecaster": {"inputs": levels(3), "horizon": 2, "future_inputs": [[None, 3], [None, 4]]},
        "river": {"inputs": [[1.0, 7], [2.0, 9]]},
        "letters": {"text": ["ab", "cab"], "horizon": 3},
        "mood": {"text": ["rain is here .", "snow"]},
        "ids": {"inputs": [[0, 5, 2], [1]]},
        "verdict": {"inputs": rows(2, 2)},
        "peak": {"inputs": batch(2, 3, width=2)},
        "several": {"inputs": rows(2, 3), "version": "2"},
    }
    for model, body in bodies.items():
        talk.post(f"{model}", "/v1/traces", {"model": model} | body, capture=("trace", "trace_id"))
        talk.get(f"{model} described", "/v1/traces/<<trace>>")
        talk.get(f"{model} seen", "/v1/traces/<<trace>>/values?units=0")
        talk.post(
            f"{model} explained",
            f"/v1/models/{model}/explain",
            {"trace_id": "<<trace>>", "sequence": 0, "time_step": 1, "unit": 0},
        )
        talk.ask(f"{model} deleted", "DELETE", "/v1/traces/<<trace>>")
    wrong = {
        "no model": {"inputs": rows(1, 3)},
        "model that is a number": {"model": 3, "inputs": rows(1, 3)},
        "model that is null": {"model": None, "inputs": rows(1, 3)},
        "unknown model": {"model": "tine", "inputs": rows(1, 3)},
        "unknown version": {"model": "tiny", "version": "9", "inputs": rows(1, 3)},
        "version that is a number": {"model": "tiny", "version": 1, "inputs": rows(1, 3)},
        "model that is not there": {"model": "contradicting", "inputs": rows(1, 5)},
        "no inputs": {"model": "tiny"},
        "narrow": {"model": "tiny", "inputs": rows(1, 2)},
        "signals": {"model": "tiny", "inputs": rows(1, 3), "signals": ["cell_state"]},
        "unknown field": {"model": "tiny", "inputs": rows(1, 3), "modle": "x"},
        "unknown module": {"model": "tiny", "inputs": rows(1, 3), "module": "x"},
        "NaN": '{"model":"tiny","inputs":[[1,2,NaN]]}',
        "empty": "{}",
        "list": "[]",
        "broken": "{",
        "nothing": "",
    }
    for name, body in wrong.items():
        talk.post(name, "/v1/traces", body)
    talk.post("as text", "/v1/traces", {"model": "tiny", "inputs": rows(1, 3)}, content_type="text/plain")
    talk.post("compressed", "/v1/traces", {"model": "tiny"}, ("Content-Encoding", "gzip"))
    talk.post("deadline that is none", "/v1/traces", {"model": "tiny"}, ("X-Request-Timeout-Ms", "x"))
    return talk.done()
