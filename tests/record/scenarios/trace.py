"""`trace` and `explain`: selections, formats, and what is wrong with them."""

from collections.abc import Iterator

import numpy as np
from conversation import SLOWLY, Conversation, Talk
from folders import tensors
from sequences import batch, filled, levels, rows

JSON, SAFETENSORS = "application/json", "application/vnd.safetensors"
NPZ, NDJSON = "application/x-npz", "application/x-ndjson"
FORMATS = {"JSON": JSON, "safetensors": SAFETENSORS, "npz": NPZ, "lines": NDJSON}

SELECTIONS = {
    "everything": {},
    "one signal": {"signals": ["forget_gate"]},
    "signals in another order": {"signals": ["hidden_state", "input_gate"]},
    "same signal twice": {"signals": ["cell_state", "cell_state"]},
    "unknown signal": {"signals": ["forget"]},
    "no signals": {"signals": []},
    "too many signals": {"signals": ["cell_state"] * 7},
    "signals that are a text": {"signals": "cell_state"},
    "signal that is null": {"signals": [None]},
    "one layer": {"layers": [1], "signals": ["cell_state"]},
    "layers turned": {"layers": [1, 0], "signals": ["cell_state"]},
    "same layer twice": {"layers": [0, 0], "signals": ["cell_state"]},
    "layer too many": {"layers": [2]},
    "negative layer": {"layers": [-1]},
    "no layers": {"layers": []},
    "layer as a text": {"layers": ["0"]},
    "reverse": {"directions": ["reverse"], "signals": ["cell_state"]},
    "directions turned": {"directions": ["reverse", "forward"], "signals": ["output_gate"]},
    "same direction twice": {"directions": ["forward", "forward"]},
    "unknown direction": {"directions": ["backward"]},
    "no directions": {"directions": []},
    "units": {"units": [3, 0], "signals": ["cell_state"]},
    "slice of units": {"units": "0:2", "signals": ["cell_state"]},
    "slice with a step": {"units": "3:0:-2", "signals": ["cell_state"]},
    "slice to the end": {"units": "-2:", "signals": ["cell_state"]},
    "slice of everything": {"units": ":", "signals": ["cell_state"]},
    "empty slice": {"units": "2:2"},
    "unit too many": {"units": [4]},
    "negative unit": {"units": [-1]},
    "same unit twice": {"units": [1, 1]},
    "no units": {"units": []},
    "unit as a text": {"units": ["a"]},
    "units that are a number": {"units": 3},
    "units that are no slice": {"units": "a:b"},
    "slice with a step of zero": {"units": "0:4:0"},
    "slice of huge numbers": {"units": f"0:{'9' * 50}"},
    "units beyond the projection": {"units": [3], "signals": ["hidden_state"]},
    "time": {"time": {"start": 1, "stop": 3}, "signals": ["cell_state"]},
    "time with a step": {"time": {"step": 2}, "signals": ["cell_state"]},
    "time backwards": {"time": {"step": -1}, "signals": ["cell_state"]},
    "the last step": {"time": {"start": -1}, "signals": ["cell_state"]},
    "time that is null": {"time": None, "signals": ["cell_state"]},
    "empty time": {"time": {"start": 3, "stop": 3}},
    "time beyond the end": {"time": {"start": 99}},
    "time with a step of zero": {"time": {"step": 0}},
    "unknown part of time": {"time": {"strat": 1}},
    "time that is a list": {"time": [0, 1]},
    "time as a text": {"time": {"start": "1"}},
    "huge time": {"time": {"start": 10**30}},
    "all parts": {
        "signals": ["cell_state", "hidden_state"],
        "layers": [1],
        "directions": ["forward"],
        "units": [0, 1],
        "time": {"start": 1},
    },
    "outputs": {"signals": ["cell_state"], "outputs": ["output", "final_state"]},
    "module": {"signals": ["cell_state"], "module": "lstm"},
    "unknown module": {"module": "other"},
    "unknown field": {"signal": ["cell_state"]},
    "field of explain": {"unit": 0},
}


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _selections()
    yield from _formats()
    yield _hot()
    yield _explain()


def _selections() -> Conversation:
    talk = Talk("plain", "trace/selections")
    body = {"inputs": batch(4, 2, width=3)}
    path = "/v1/models/both-ways/trace"
    for name, selection in SELECTIONS.items():
        talk.post(name, path, body | selection)
        short = {"signals": ["cell_state"], "units": [0]} | selection
        for kind in ("lines", "npz"):
            talk.post(f"{name} as {kind}", path, body | short, ("Accept", FORMATS[kind]))
    for name, selection in list(SELECTIONS.items())[9:20]:
        short = {"signals": ["cell_state"], "units": [0]} | selection
        talk.post(f"forward {name}", "/v1/models/unbiased/trace", {"inputs": rows(3, 2)} | short, times=2)
        headers = ("Accept", NDJSON)
        talk.post(f"forward {name} as lines", "/v1/models/unbiased/trace", {"inputs": rows(3, 2)} | short, headers)
    return talk.done()


def _formats() -> Iterator[Conversation]:
    bodies = {
        "founding": {"inputs": rows(3, 5), "units": "0:3"},
        "both-ways": {"inputs": batch(3, 1, width=3), "outputs": ["output", "final_state"], "layers": [1]},
        "tiny": {"inputs": batch(2, 3, width=3), "outputs": ["prediction", "output", "final_state"]},
        "forecaster": {"inputs": levels(3), "horizon": 2, "future_inputs": [[None, 3], [None, 4]], "units": [0]},
        "river": {"inputs": [[1, 7], [2, 9]], "signals": ["input_gate"]},
        "letters": {"text": ["abc", "b"], "units": [0, 4]},
        "mood": {"text": "rain is here", "units": [0]},
        "ids": {"inputs": [[0, 5, 2], [1]], "units": [0]},
        "verdict": {"inputs": batch(3, 2, width=2), "units": [0]},
        "final": {"inputs": rows(3, 2), "units": [0]},
        "peak": {"inputs": batch(2, 3, width=2), "units": [0]},
        "marks": {"inputs": rows(2, 2), "time": {"step": 2}, "outputs": ["final_state"]},
        "single": {"inputs": [[1.0], [0.5]], "units": [1]},
        "unbiased": {"inputs": rows(2, 2), "layers": [2, 0]},
    }
    for model, body in bodies.items():
        talk = Talk("plain", f"trace/of {model}")
        path = f"/v1/models/{model}/trace"
        for name, media_type in FORMATS.items():
            talk.post(f"as {name}", path, body, ("Accept", media_type), times=2)
        preferred = ("Accept", f"{NDJSON};q=0.1, {NPZ};q=0.9, {JSON};q=0.5")
        talk.post("as preferred", path, body, preferred)
        talk.post("padded", path, body | {"sequence_lengths": [1]}, ("Accept", NDJSON))
        talk.post("as html", path, body, ("Accept", "text/html"))
        talk.post("with a state", path, body | {"initial_state": {"hidden_state": 1, "cell_state": 2}})
        talk.post("versioned", f"/v1/models/{model}/versions/1/trace", body)
        yield talk.done()


def _hot() -> Conversation:
    """Bodies of nothing but numbers, traced."""
    talk = Talk("plain", "trace/hot")
    for model, width in (("tiny", 3), ("founding", 5), ("both-ways", 3), ("single", 1), ("marks", 2)):
        path = f"/v1/models/{model}/trace"
        talk.hot(f"{model} lone", path, {"inputs": rows(2, width)})
        talk.post(f"{model} lone, other numbers", path, {"inputs": rows(2, width, 3)})
        talk.hot(f"{model} batch", path, {"inputs": batch(1, 1, width=width)})
        content = tensors({"inputs": np.array(rows(2, width), dtype=np.float32)}, {"units": '"0:2"'})
        talk.hot(f"{model} tensor", path, content, content_type=SAFETENSORS)
        talk.hot(f"{model} tensor in safetensors", path, content, ("Accept", SAFETENSORS), content_type=SAFETENSORS)
        talk.hot(f"{model} narrow", path, {"inputs": rows(2, width + 1)})
    for body in ("", "{", "[]", "{}", '{"inputs":[[1,2,NaN]]}', '{"inputs":[[1,2,3]],"signals":null}', "null"):
        talk.post(f"body {body}", "/v1/models/tiny/trace", body, times=2)
        talk.post(f"body {body} as lines", "/v1/models/tiny/trace", body, ("Accept", NDJSON))
    for content_type in ("text/plain", "application/x-npz", ""):
        talk.post(f"as {content_type}", "/v1/models/tiny/trace", {"inputs": rows(1, 3)}, content_type=content_type)
    return talk.done()


EXPLAINED = {
    "a step": {"time_step": 1, "unit": 2},
    "first step": {"time_step": 0, "unit": 0},
    "last step": {"time_step": -1, "unit": 3},
    "higher layer": {"time_step": 2, "unit": 1, "layer": 1},
    "reverse": {"time_step": 1, "unit": 1, "direction": "reverse"},
    "reverse, last step": {"time_step": -1, "unit": 1, "direction": "reverse", "layer": 1},
    "no time step": {"unit": 1},
    "no unit": {"time_step": 1},
    "neither": {},
    "time step beyond": {"time_step": 3, "unit": 1},
    "time step before": {"time_step": -4, "unit": 1},
    "time step as a text": {"time_step": "1", "unit": 1},
    "unit beyond": {"time_step": 1, "unit": 4},
    "negative unit": {"time_step": 1, "unit": -1},
    "unit as truth": {"time_step": 1, "unit": True},
    "layer beyond": {"time_step": 1, "unit": 1, "layer": 2},
    "unknown direction": {"time_step": 1, "unit": 1, "direction": "up"},
    "direction that is null": {"time_step": 1, "unit": 1, "direction": None},
    "sequence": {"time_step": 1, "unit": 1, "sequence": 0},
    "trace of none": {"time_step": 1, "unit": 1, "trace_id": "none"},
    "unknown field": {"time_step": 1, "unit": 1, "units": [1]},
    "outputs": {"time_step": 1, "unit": 1, "outputs": ["final_state"]},
    "module": {"time_step": 1, "unit": 1, "module": "lstm"},
    "unknown module": {"time_step": 1, "unit": 1, "module": "x"},
    "state": {
        "time_step": 0,
        "unit": 1,
        "initial_state": {"hidden_state": filled(4, 1, 2), "cell_state": filled(4, 1, 4)},
    },
}


def _explain() -> Conversation:
    talk = Talk("plain", "explain/fields")
    for name, fields in EXPLAINED.items():
        talk.post(name, "/v1/models/both-ways/explain", {"inputs": rows(3, 3)} | fields)
    point = {"time_step": 1, "unit": 1}
    both = {"inputs": batch(2, 2, width=3)} | point
    talk.post("two sequences", "/v1/models/both-ways/explain", both)
    talk.post("trace beside inputs", "/v1/models/tiny/explain", {"inputs": rows(2, 3), "trace_id": "x"} | point)
    talk.post("trace and nothing else", "/v1/models/tiny/explain", {"trace_id": "x"} | point)
    talk.post("trace that is a number", "/v1/models/tiny/explain", {"trace_id": 3} | point)
    for model, body in {
        "tiny": {"inputs": rows(2, 3)},
        "founding": {"inputs": rows(2, 5)},
        "forecaster": {"inputs": levels(2), "horizon": 1, "future_inputs": [[None, 2]]},
        "river": {"inputs": [[1.0, 7], [2.0, 9]]},
        "letters": {"text": "abc"},
        "mood": {"text": "rain is wet"},
        "ids": {"inputs": [0, 5, 2]},
        "verdict": {"inputs": rows(2, 2)},
        "unbiased": {"inputs": rows(2, 2), "layer": 2},
        "contradicting": {"inputs": rows(2, 5)},
        "nobody": {"inputs": rows(2, 5)},
    }.items():
        path = f"/v1/models/{model}/explain"
        talk.post(model, path, body | point, times=2)
        talk.post(f"{model} versioned", f"/v1/models/{model}/versions/1/explain", body | point)
    path = "/v1/models/tiny/explain"
    good = {"inputs": rows(2, 3)} | point
    for body in ("", "{", "[]", "null", b"\xff", '{"inputs":[[1,2,NaN]],"time_step":0,"unit":0}', '{"inputs":[[1]]}'):
        talk.post(f"body {body!r}", path, body)
    for accept in ("text/html", SAFETENSORS, NDJSON, "*/*"):
        talk.post(f"as {accept}", path, good, ("Accept", accept))
    talk.post("deadline", path, good, SLOWLY)
    talk.post("deadline that is none", path, good, ("X-Request-Timeout-Ms", "x"))
    talk.post("as text", path, good, content_type="text/plain")
    talk.post("compressed", path, good, ("Content-Encoding", "gzip"))
    return talk.done()
