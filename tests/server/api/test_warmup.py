"""The note `warmup`: which predictions follow from no more time steps than their model needs."""

import io
import json

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

NEEDED = 5
BOTH = """
[[layers]]
name = "lstm"
type = "lstm"

[[layers]]
name = "level"
type = "linear"

[[layers]]
name = "mean"
type = "pool"
how = "mean"
inputs = ["lstm"]

[[layers]]
name = "flood"
type = "linear"

[[heads]]
name = "level"
layer = "level"
task = "regression"
names = ["level"]

[[heads]]
name = "flood"
layer = "flood"
task = "classification"
labels = ["no", "yes"]
"""


def forecaster(head: str = "") -> str:
    return f"""
[[layers]]
name = "lstm"
type = "lstm"
{head}
[[layers]]
name = "level"
type = "linear"

[[heads]]
task = "regression"
names = ["level"]
predicts = "next_step"
"""


MODELS = {
    "steps": (NEEDED, forecaster()),
    "whole": (NEEDED, forecaster('[[layers]]\nname = "last"\ntype = "pool"\nhow = "last"\n')),
    "both": (NEEDED, BOTH),
    "alone": (NEEDED, '[[layers]]\nname = "lstm"\ntype = "lstm"\n'),
    "warm": (0, forecaster()),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory, serve_models):
    root = tmp_path_factory.mktemp("warming")
    torch.manual_seed(0)
    parts = {"lstm": nn.LSTM(1, 3), "level": nn.Linear(3, 1), "flood": nn.Linear(3, 2)}
    for name, (needed, layers) in MODELS.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(
            f'format = 2\ndescription = "{name}"\nwarmup_steps = {needed}\n'
            f'[input]\nkind = "features"\nfeatures = [{{ name = "level" }}]\n{layers}'
        )
        held = {part: module for part, module in parts.items() if f'name = "{part}"\ntype' in layers}
        save_file(nn.ModuleDict(held).state_dict(), root / name / "1" / "model.safetensors")
    with serve_models(root) as client:
        yield client


def rows(*lengths: int) -> dict:
    return {"inputs": [[[0.1 * step] for step in range(length)] for length in lengths]}


def warmup(reply: dict) -> list[str]:
    """What the notes say of the warm-up."""
    assert all("loc" not in note for note in reply.get("notes", ()) if note["code"] == "warmup")
    return [note["message"] for note in reply.get("notes", ()) if note["code"] == "warmup"]


def said(place: str, more: str = "") -> list[str]:
    return [f"predictions {place} are not to be believed: the model needs 5 time steps to warm up{more}"]


@pytest.fixture
def post(client):
    def post(path, body):
        reply = client.post(f"/v1/{path}", json=body)
        assert reply.is_success, reply.text
        return reply.json()

    return post


def test_model_info_tells_how_long_it_is(client):
    told = {model["name"]: model["warmup_steps"] for model in client.get("/v1/models").json()["models"]}
    assert told == {name: needed for name, (needed, _) in MODELS.items()}


@pytest.mark.parametrize(
    ("lengths", "place"),
    [
        ((8,), "at time steps 0 to 4"),
        ((3,), "at time steps 0 to 2"),
        ((1,), "at time step 0"),
        ((2, 4), "at time steps 0 to 3"),
    ],
)
def test_a_prediction_per_step_tells_which_steps(post, lengths, place):
    assert warmup(post("models/steps/predict", rows(*lengths))) == said(place)


@pytest.mark.parametrize(
    ("lengths", "place"),
    [
        ((3,), "of sequence 0 (3 time steps)"),
        ((5,), "of sequence 0 (5 time steps)"),
        ((6,), None),
        ((6, 2, 9, 5), "of sequences 1 (2 time steps), 3 (5 time steps)"),
    ],
)
def test_a_prediction_per_sequence_tells_which_sequences(post, lengths, place):
    assert warmup(post("models/whole/predict", rows(*lengths))) == ([] if place is None else said(place))


def test_many_sequences_are_counted(post):
    (told,) = warmup(post("models/whole/predict", rows(*[1] * 25)))
    assert ", 19 (1 time steps) and 5 more are not" in told
    assert told.count("(1 time steps)") == 20


def test_heads_of_both_kinds_are_told(post):
    assert warmup(post("models/both/predict", rows(4))) == [
        *said("at time steps 0 to 3"),
        *said("of sequence 0 (4 time steps)"),
    ]
    assert warmup(post("models/both/predict", rows(6))) == said("at time steps 0 to 4")


def test_further_steps_count_behind_what_was_given(post):
    assert warmup(post("models/steps/predict", rows(3) | {"horizon": 9})) == said("at time steps 3 to 4")
    assert warmup(post("models/steps/predict", rows(3, 2) | {"horizon": 1})) == said("at time steps 2 to 3")
    assert warmup(post("models/steps/predict", rows(5) | {"horizon": 9})) == []


def test_nothing_is_told_where_nothing_is_predicted_or_needed_or_known(post):
    assert warmup(post("models/steps/predict", rows(3) | {"outputs": ["output"]})) == []
    assert warmup(post("models/alone/predict", rows(3))) == []
    assert warmup(post("models/warm/predict", rows(3))) == []
    state = post("models/steps/predict", rows(9) | {"outputs": ["final_state"]})["final_state"]
    assert warmup(post("models/steps/predict", rows(3) | {"initial_state": state})) == []


def test_every_format_tells_it(client):
    body = rows(3)
    for path in ("predict", "trace"):
        reply = client.post(f"/v1/models/steps/{path}", json=body, headers={"Accept": "application/vnd.safetensors"})
        size = int.from_bytes(reply.content[:8], "little")
        metadata = json.loads(reply.content[8 : 8 + size])["__metadata__"]
        assert warmup({"notes": json.loads(metadata["notes"])}) == said("at time steps 0 to 2")
    assert warmup(client.post("/v1/models/steps/trace", json=body).json()) == said("at time steps 0 to 2")
    packed = client.post("/v1/models/steps/trace", json=body, headers={"Accept": "application/x-npz"}).content
    metadata = json.loads(str(np.load(io.BytesIO(packed))["metadata"]))
    assert warmup(metadata) == said("at time steps 0 to 2")
    lines = client.post("/v1/models/steps/trace", json=body, headers={"Accept": "application/x-ndjson"}).text.split(
        "\n"
    )
    assert warmup(json.loads(lines[0])) == said("at time steps 0 to 2")
    assert "notes" not in lines[-2]


def test_a_repeated_body_tells_it_again(post):
    told = [warmup(post("models/steps/predict", rows(3))) for _ in range(3)]
    assert told == [said("at time steps 0 to 2")] * 3


def test_a_stored_trace_tells_it_and_its_further_steps(client, post):
    stored = post("traces", {"model": "steps"} | rows(3, 2) | {"horizon": 4})
    assert "notes" not in stored
    described = client.get(f"/v1/traces/{stored['trace_id']}").json()
    assert warmup(described) == said("at time steps 2 to 4")
    assert described["horizon"] == 4
    assert described["sequence_lengths"] == [7, 6]
    values = client.get(f"/v1/traces/{stored['trace_id']}/values").json()
    assert warmup(values) == []
    plain = client.get(f"/v1/traces/{post('traces', {'model': 'steps'} | rows(8))['trace_id']}").json()
    assert warmup(plain) == said("at time steps 0 to 4")
    assert "horizon" not in plain


class TestSessions:
    def test_steps_count_from_the_session_s_beginning(self, post):
        post("sessions", {"model": "steps", "session_id": "cold"})
        assert warmup(post("sessions/cold/steps", rows(2))) == said("at time steps 0 to 1")
        more = ", and the session has read 2 before these"
        assert warmup(post("sessions/cold/steps", rows(9))) == said("at time steps 0 to 2", more)
        assert warmup(post("sessions/cold/steps", rows(1))) == []

    def test_a_prediction_per_sequence_is_one_of_all_its_steps(self, post):
        post("sessions", {"model": "whole", "session_id": "whole"})
        more = ", and the session has read 3 before these"
        assert warmup(post("sessions/whole/steps", rows(3))) == said("of sequence 0 (3 time steps)")
        assert warmup(post("sessions/whole/steps", rows(2))) == said("of sequence 0 (2 time steps)", more)
        assert warmup(post("sessions/whole/steps", rows(1))) == []

    def test_a_numbered_step_that_is_asked_for_again_tells_the_same(self, post):
        post("sessions", {"model": "steps", "session_id": "again"})
        post("sessions/again/steps", rows(2) | {"step_number": 0})
        told = [warmup(post("sessions/again/steps", rows(2) | {"step_number": 1})) for _ in range(2)]
        assert told == [said("at time steps 0 to 1", ", and the session has read 2 before these")] * 2

    def test_further_steps_count_behind_those_of_the_session(self, post):
        post("sessions", {"model": "steps", "session_id": "ahead"})
        post("sessions/ahead/steps", rows(2))
        more = ", and the session has read 2 before these"
        assert warmup(post("sessions/ahead/steps", rows(1) | {"horizon": 3})) == said("at time steps 1 to 2", more)

    def test_what_led_to_a_state_that_is_given_is_not_known(self, client, post):
        state = post("models/steps/predict", rows(9) | {"outputs": ["final_state"]})["final_state"]
        post("sessions", {"model": "steps", "session_id": "warm", "initial_state": state})
        assert [warmup(post("sessions/warm/steps", rows(1))) for _ in range(2)] == [[], []]
        post("sessions", {"model": "steps", "session_id": "moved"})
        assert warmup(post("sessions/moved/steps", rows(1)))
        assert client.put("/v1/sessions/moved/state", json=state).is_success
        assert warmup(post("sessions/moved/steps", rows(1))) == []


class TestInferenceProtocol:
    @pytest.fixture
    def infer(self, client: httpx.Client):
        def infer(steps, outputs=("prediction",), model="steps", **parameters):
            data = [0.1 * step for step in range(steps)]
            tensor = {"name": "inputs", "shape": [1, steps, 1], "datatype": "FP32", "data": data}
            body = {"inputs": [tensor], "outputs": [{"name": name} for name in outputs], "parameters": parameters}
            reply = client.post(f"/v2/models/{model}/infer", json=body)
            assert reply.is_success, reply.text
            told = reply.json().get("parameters", {})
            return warmup({"notes": json.loads(told.get("notes", "[]"))})

        return infer

    def test_a_prediction_tells_which_steps(self, infer):
        assert [infer(3) for _ in range(2)] == [said("at time steps 0 to 2")] * 2
        assert infer(3, ["forget_gate"]) == []
        assert infer(3, model="whole") == said("of sequence 0 (3 time steps)")

    def test_steps_of_a_sequence_count_from_its_beginning(self, infer):
        assert infer(2, sequence_id=7, sequence_start=True) == said("at time steps 0 to 1")
        more = ", and the session has read 2 before these"
        assert infer(4, sequence_id=7) == said("at time steps 0 to 2", more)
        assert infer(1, sequence_id=7, sequence_end=True) == []
