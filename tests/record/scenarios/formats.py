"""Bodies in safetensors: what they may hold, and what is wrong with them."""

import json
from collections.abc import Iterator

import numpy as np
from conversation import Conversation, Talk
from folders import tensors

SAFETENSORS = "application/vnd.safetensors"
PREDICT = "/v1/models/founding/predict"

FLAT = np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5)
STATE = np.linspace(-0.5, 0.5, 12, dtype=np.float32).reshape(2, 1, 6)
GOOD = tensors({"inputs": FLAT})

ARRAYS = {
    "lone": ({"inputs": FLAT}, None),
    "batch": ({"inputs": np.linspace(-1, 1, 40, dtype=np.float32).reshape(2, 4, 5)}, None),
    "batch of one": ({"inputs": FLAT[None]}, None),
    "float64": ({"inputs": FLAT.astype(np.float64)}, None),
    "float16": ({"inputs": FLAT.astype(np.float16)}, None),
    "int64": ({"inputs": np.ones((2, 5), dtype=np.int64)}, None),
    "int32": ({"inputs": np.ones((2, 5), dtype=np.int32)}, None),
    "uint8": ({"inputs": np.ones((2, 5), dtype=np.uint8)}, None),
    "bool": ({"inputs": np.ones((2, 5), dtype=bool)}, None),
    "narrow": ({"inputs": np.ones((2, 4), dtype=np.float32)}, None),
    "flat": ({"inputs": np.ones(5, dtype=np.float32)}, None),
    "scalar": ({"inputs": np.float32(1).reshape(())}, None),
    "deep": ({"inputs": np.ones((1, 1, 1, 5), dtype=np.float32)}, None),
    "no steps": ({"inputs": np.ones((0, 5), dtype=np.float32)}, None),
    "no sequences": ({"inputs": np.ones((0, 2, 5), dtype=np.float32)}, None),
    "no features": ({"inputs": np.ones((2, 0), dtype=np.float32)}, None),
    "NaN": ({"inputs": np.full((2, 5), np.nan, dtype=np.float32)}, None),
    "Infinity": ({"inputs": np.full((2, 5), -np.inf, dtype=np.float32)}, None),
    "large": ({"inputs": np.full((2, 5), 3e37, dtype=np.float32)}, None),
    "too large for float32": ({"inputs": np.full((2, 5), 1e39)}, None),
    "lengths": ({"inputs": np.ones((2, 3, 5), dtype=np.float32), "sequence_lengths": np.array([3, 1])}, None),
    "lengths in float": ({"inputs": FLAT[None], "sequence_lengths": np.array([2.0])}, None),
    "lengths in metadata": ({"inputs": np.ones((2, 3, 5), dtype=np.float32)}, {"sequence_lengths": "[3,1]"}),
    "state": ({"inputs": FLAT, "initial_state.hidden_state": STATE, "initial_state.cell_state": -STATE}, None),
    "half a state": ({"inputs": FLAT, "initial_state.hidden_state": STATE}, None),
    "state of the wrong width": (
        {"inputs": FLAT, "initial_state.hidden_state": STATE[:, :, :5], "initial_state.cell_state": STATE},
        None,
    ),
    "state in metadata and as a tensor": ({"inputs": FLAT, "initial_state.cell_state": STATE}, {"initial_state": "3"}),
    "time first": (
        {"inputs": np.linspace(-1, 1, 30, dtype=np.float32).reshape(3, 2, 5)},
        {"layout": '"time_batch_feature"'},
    ),
    "outputs": ({"inputs": FLAT}, {"outputs": '["final_state"]'}),
    "horizon": ({"inputs": FLAT}, {"horizon": "3"}),
    "inputs in metadata": ({"inputs": FLAT}, {"inputs": "[[1,2,3,4,5]]"}),
    "unknown field": ({"inputs": FLAT}, {"unknown": "1"}),
    "format": ({"inputs": FLAT}, {"format": "pt"}),
    "metadata that is no JSON": ({"inputs": FLAT}, {"outputs": "output"}),
    "unknown tensor": ({"input": FLAT}, None),
    "another tensor": ({"inputs": FLAT, "outputs": FLAT}, None),
    "empty": ({}, None),
    "empty with metadata": ({}, {"inputs": "[[1,2,3,4,5]]"}),
}

BROKEN = {
    "short": GOOD[:-1],
    "a number short": GOOD[:-4],
    "long": GOOD + b"\0\0\0\0",
    "only a length": GOOD[:8],
    "half a length": GOOD[:4],
    "half a head": GOOD[:20],
    "nothing": b"",
    "huge length": b"\xff" * 8 + GOOD[8:],
    "another type": GOOD.replace(b'"F32"', b'"I32"'),
    "unknown type": GOOD.replace(b'"F32"', b'"F99"'),
    "turned": GOOD.replace(b"[2,5]", b"[5,2]"),
    "offsets": GOOD.replace(b"[0,40]", b"[0,36]"),
    "offsets that overlap": GOOD.replace(b"[0,40]", b"[4,40]"),
    "NaN at the end": GOOD[:-4] + np.float32("nan").tobytes(),
    "no JSON": GOOD.replace(b'{"inputs', b'["inputs'),
    "JSON": b'{"inputs":[[1,2,3,4,5]]}',
}


def conversations() -> Iterator[Conversation]:
    """All of them."""
    talk = Talk("plain", "formats/arrays")
    for name, (arrays, metadata) in ARRAYS.items():
        talk.hot(name, PREDICT, tensors(arrays, metadata), content_type=SAFETENSORS)
    for name in ("lone", "batch", "lengths", "outputs", "narrow"):
        content = tensors(*ARRAYS[name])
        talk.post(
            f"{name} there and back", PREDICT, content, ("Accept", SAFETENSORS), content_type=SAFETENSORS, times=2
        )
    yield talk.done()
    talk = Talk("plain", "formats/broken")
    talk.post("good", PREDICT, GOOD, content_type=SAFETENSORS, times=2)
    for name, content in BROKEN.items():
        talk.post(name, PREDICT, content, content_type=SAFETENSORS, times=2)
        talk.post("good", PREDICT, GOOD, content_type=SAFETENSORS)
    opening = tensors({}, {"model": '"founding"', "session_id": '"opened"'})
    talk.post("session", "/v1/sessions", opening, content_type=SAFETENSORS)
    talk.ask("session ended", "DELETE", "/v1/sessions/opened")
    for path in ("/v1/models/founding/explain", "/v1/traces"):
        more = {"time_step": "0", "unit": "1"} if "explain" in path else {"model": '"founding"'}
        talk.post(f"{path} of arrays", path, tensors({}, more), content_type=SAFETENSORS)
    explained = tensors({"inputs": FLAT}, {"time_step": "0", "unit": "1"})
    talk.post("explain", "/v1/models/founding/explain", explained, content_type=SAFETENSORS, times=2)
    traced = tensors({"inputs": FLAT}, {"signals": json.dumps(["cell_state"]), "units": '"0:2"'})
    for accept in (SAFETENSORS, "application/json", "application/x-npz", "application/x-ndjson"):
        headers = ("Accept", accept)
        talk.post(f"trace as {accept}", "/v1/models/founding/trace", traced, headers, content_type=SAFETENSORS, times=2)
    yield talk.done()
