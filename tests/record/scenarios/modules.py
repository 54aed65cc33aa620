"""Models that are modules of their own, and the models that the project brings."""

from collections.abc import Iterator

from conversation import Conversation, Talk
from sequences import batch, filled, rows

FORMATS = ("application/json", "application/vnd.safetensors", "application/x-npz", "application/x-ndjson")
INPUTS = {"inputs": batch(5, 2, 3, width=3)}
STATE = {"hidden_state": filled(2, 1, 4), "cell_state": filled(2, 1, 4)}


def conversations() -> Iterator[Conversation]:
    """All of them."""
    yield _code()
    yield _traced()
    yield _shipped()


def _code() -> Conversation:
    talk = Talk("modules", "code")
    bodies = {
        "forecaster": INPUTS,
        "decoder": INPUTS,
        "attention": INPUTS,
        "tagger": {"text": ["abba", "cd"]},
        "writer": {"text": "abba", "horizon": 3},
        "stateful": INPUTS,
        "siamese": {"inputs": rows(3, 4)},
        "alone": INPUTS,
        "failing": INPUTS,
        "nowhere": INPUTS,
        "tiny": INPUTS,
    }
    for model, body in bodies.items():
        talk.get(f"{model} info", f"/v1/models/{model}")
        talk.get(f"{model} in v2", f"/v2/models/{model}")
        talk.get(f"{model} config", f"/v2/models/{model}/config")
        talk.hot(f"{model} predict", f"/v1/models/{model}/predict", body)
        lone = {"inputs": rows(3, 4 if model == "siamese" else 3)} if "text" not in body else body
        talk.hot(f"{model} lone", f"/v1/models/{model}/predict", lone)
        talk.post(f"{model} with a state", f"/v1/models/{model}/predict", lone | {"initial_state": STATE})
        talk.post(f"{model} horizon", f"/v1/models/{model}/predict", lone | {"horizon": 2})
        talk.post(f"{model} outputs", f"/v1/models/{model}/predict", lone | {"outputs": ["output", "final_state"]})
        talk.post(f"{model} session", "/v1/sessions", {"model": model, "session_id": "x"})
        talk.ask(f"{model} session ended", "DELETE", "/v1/sessions/x")
        talk.post(f"{model} module", f"/v1/models/{model}/predict", lone | {"module": "decodr"})
    tensor = {"name": "inputs", "shape": [1, 2, 3], "datatype": "FP32", "data": [0.5, 1, 1.5, 2, 2.5, 3]}
    for model in ("forecaster", "decoder", "attention", "stateful", "alone"):
        for names in ((), ("output", "cell_state", "final_cell_state")):
            outputs = [{"name": name} for name in names]
            talk.post(
                f"{model} infer {names}", f"/v2/models/{model}/infer", {"inputs": [tensor], "outputs": outputs}, times=2
            )
    long = {"inputs": filled(41, 3)}
    for path in ("predict", "trace"):
        talk.post(f"failing {path}", f"/v1/models/failing/{path}", long, times=2)
    talk.post("failing lines", "/v1/models/failing/trace", long, ("Accept", FORMATS[3]))
    talk.post("failing stored", "/v1/traces", long | {"model": "failing"})
    tensor = {"name": "inputs", "shape": [1, 41, 3], "datatype": "FP32", "data": [0.25] * 123}
    talk.post("failing infer", "/v2/models/failing/infer", {"inputs": [tensor]}, times=2)
    talk.post("failing explained", "/v1/models/failing/explain", long | {"time_step": 0, "unit": 0})
    talk.post("failing no more", "/v1/models/failing/predict", INPUTS, times=2)
    return talk.done()


def _traced() -> Conversation:
    talk = Talk("modules", "traced")
    for model in ("forecaster", "decoder", "attention", "stateful", "alone"):
        body = INPUTS | {"outputs": ["output", "final_state"], "time": {"step": 2}, "units": [0, 1]}
        for accept in FORMATS:
            talk.post(f"{model} as {accept}", f"/v1/models/{model}/trace", body, ("Accept", accept))
        point = {"time_step": -1, "unit": 1}
        talk.post(f"{model} explained", f"/v1/models/{model}/explain", {"inputs": rows(3, 3)} | point)
        talk.post(f"{model} stored", "/v1/traces", INPUTS | {"model": model}, capture=("trace", "trace_id"))
        talk.get(f"{model} described", "/v1/traces/<<trace>>")
        talk.get(f"{model} values", "/v1/traces/<<trace>>/values?units=0&bins=2")
        talk.post(
            f"{model} stored, explained",
            f"/v1/models/{model}/explain",
            point | {"trace_id": "<<trace>>", "sequence": 1},
        )
        talk.ask(f"{model} deleted", "DELETE", "/v1/traces/<<trace>>")
    for module in ("encoder", "decoder", "decodr", "x"):
        body = {"inputs": rows(3, 3), "module": module}
        talk.post(f"module {module} traced", "/v1/models/decoder/trace", body | {"units": [0]})
        talk.post(f"module {module} explained", "/v1/models/decoder/explain", body | {"time_step": 1, "unit": 0})
        talk.post(f"module {module} output", "/v1/models/decoder/predict", body | {"outputs": ["output"]})
    for module, direction in (("below", "reverse"), ("above", "reverse"), ("above", "forward")):
        body = {"text": "abba", "module": module, "directions": [direction], "units": [0]}
        talk.post(f"module {module} {direction}", "/v1/models/tagger/trace", body)
    talk.post("module explained by token", "/v1/models/tagger/explain", {"text": "abba", "time_step": 1, "unit": 1})
    four = {"inputs": rows(3, 4)}
    talk.post("called twice", "/v1/models/siamese/trace", four)
    talk.post("called twice as lines", "/v1/models/siamese/trace", four, ("Accept", FORMATS[3]))
    talk.post("called twice, stored", "/v1/traces", four | {"model": "siamese"})
    talk.post("that did not run", "/v1/models/alone/trace", {"inputs": rows(2, 3), "module": "unused"})
    long = {"inputs": filled(1200, 3)}
    for model in ("decoder", "attention"):
        for accept in (FORMATS[0], FORMATS[3]):
            talk.post(f"{model} too large as {accept}", f"/v1/models/{model}/trace", long, ("Accept", accept))
        talk.post(f"{model} too large to store", "/v1/traces", long | {"model": model})
    return talk.done()


def _shipped() -> Conversation:
    talk = Talk("modules", "shipped")
    weather = [0.0, 379.01, 19.97, 3.62, 791.56, 41126.42, 3015500]
    half_hours = [[22651, 22489, 21898, 0, 0], [21874, 21898, 21932, 1, 1], [21763, 21932, 21943, 2, 2]]
    bodies = {
        "brackets": {"text": "(x)"},
        "demand": {"inputs": half_hours},
        "pos-tagger": {"text": "I love China"},
        "river": {"inputs": [weather, [0.89, 368.15, 23.3, 6.54, 966.34, 40780.8, 3015500]]},
        "shakespeare": {"text": "ROMEO"},
    }
    for model, body in bodies.items():
        path = f"/v1/models/{model}"
        talk.ask(f"{model} HEAD", "HEAD", path)
        talk.get(f"{model} in v2", f"/v2/models/{model}")
        talk.get(f"{model} config", f"/v2/models/{model}/config")
        talk.hot(f"{model} predict", f"{path}/predict", body)
        talk.post(f"{model} outputs", f"{path}/predict", body | {"outputs": ["prediction"]}, ("Accept", FORMATS[1]))
        part = {"units": [0, 3], "signals": ["forget_gate", "hidden_state"], "layers": [0]}
        for accept in FORMATS:
            talk.post(f"{model} as {accept}", f"{path}/trace", body | part, ("Accept", accept))
        talk.post(f"{model} explained", f"{path}/explain", body | {"time_step": 1, "unit": 3})
        talk.post(f"{model} session", "/v1/sessions", {"model": model, "session_id": model})
        talk.post(f"{model} step", f"/v1/sessions/{model}/steps", body, times=2)
        talk.ask(f"{model} ended", "DELETE", f"/v1/sessions/{model}")
        wanted = [{"name": "prediction"}, {"name": "final_hidden_state", "parameters": {"binary_data": True}}]
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [body.get("text")]}
        if "inputs" in body:
            shape = [1, len(body["inputs"]), len(body["inputs"][0])]
            flat = [value for row in body["inputs"] for value in row]
            tensor = {"name": "inputs", "shape": shape, "datatype": "FP32", "data": flat}
        talk.post(f"{model} infer", f"/v2/models/{model}/infer", {"inputs": [tensor], "outputs": wanted}, times=2)
        talk.post(f"{model} wrong", f"{path}/predict", {"inputs": [[1]], "horizon": 1}, times=2)
    talk.post("words unknown", "/v1/models/pos-tagger/predict", {"text": ["The flurbing zog", ""]})
    talk.post("demand ahead", "/v1/models/demand/predict", {"inputs": half_hours, "horizon": 2})
    future = {"inputs": half_hours, "horizon": 1, "future_inputs": [[None, 21943, 21651, 3, 3]]}
    talk.post("demand ahead", "/v1/models/demand/predict", future)
    talk.post("no gauge", "/v1/models/river/predict", {"inputs": [[*weather[:-1], 7]]})
    return talk.done()
