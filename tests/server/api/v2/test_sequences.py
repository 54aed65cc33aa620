"""Sequences: the same sessions that `/v1/sessions` shows."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
import torch
import tritonclient.http as stock
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.usefixtures("on_device")

_ids = count(1000)
START_FIRST = "must specify the START flag on the first request of the sequence"


@pytest.fixture
def sequence_id():
    return next(_ids)


@pytest.fixture
def whole():
    return torch.randn(7, 5, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def step(ask, wire):
    """Take a step of a sequence of the founding example: the reply."""

    def take(sequence_id, inputs, *flags, model="founding", outputs=(), extra=()):
        parameters = {"sequence_id": sequence_id} | {f"sequence_{flag}": True for flag in flags}
        return ask(model, [wire.tensor("inputs", inputs[None]), *extra], outputs, parameters=parameters)

    return take


def sessions(client):
    return {told["session_id"]: told for told in client.get("/v1/sessions").json()["sessions"]}


def test_a_sequence_in_steps_equals_the_whole_at_once(client, step, wire, networks, whole, sequence_id):
    parts = [whole[:3], whole[3:4], whole[4:]]
    flags = [("start",), (), ("end",)]
    given = [wire.opened(step(sequence_id, part, *own))["output"][0] for part, own in zip(parts, flags, strict=True)]
    with torch.no_grad():
        expected, _ = networks["founding"].lstm(whole)
    np.testing.assert_allclose(np.concatenate(given), expected, atol=1e-6)
    assert str(sequence_id) not in sessions(client)


def test_it_is_a_session_that_v1_shows_and_goes_on_with(client, step, wire, networks, whole, sequence_id):
    wire.opened(step(sequence_id, whole[:3], "start"))
    told = sessions(client)[str(sequence_id)]
    assert (told["model"], told["steps"], told["time_steps"]) == ({"name": "founding", "version": "1"}, 1, 3)
    reply = client.post(f"/v1/sessions/{sequence_id}/steps", json={"inputs": whole[3:5].tolist()})
    assert reply.json()["steps"] == 2
    last = wire.opened(step(sequence_id, whole[5:], "end", outputs=["final_cell_state", "hidden_state"]))
    with torch.no_grad():
        output, (_, c) = networks["founding"].lstm(whole)
    np.testing.assert_allclose(last["final_cell_state"][0], c, atol=1e-6)
    np.testing.assert_allclose(last["hidden_state"][0, 1, 0], output[5:], atol=1e-6)


def test_the_reply_says_which_sequence_it_is_of(step, whole, sequence_id):
    told = step(sequence_id, whole, "start", "end").json()["parameters"]
    assert told == {"sequence_id": sequence_id, "sequence_start": True, "sequence_end": True}


@pytest.mark.parametrize("name", ["user-7.stream:1", 2**64 - 1])
def test_ids_are_numbers_or_strings(client, step, wire, whole, name):
    wire.opened(step(name, whole, "start"))
    assert str(name) in sessions(client)
    wire.opened(step(name, whole, "end"))


@pytest.mark.parametrize("name", ["a b", "x" * 129, "../x", "ü"])
def test_a_string_that_cannot_be_an_id_is_refused(step, wire, whole, name):
    assert "sequence_id: must be" in wire.refusal(step(name, whole, "start"))


@pytest.mark.parametrize("name", [0, ""])
def test_no_id_is_no_sequence(client, step, wire, whole, name):
    before = sessions(client).keys()
    first, second = (wire.opened(step(name, whole))["output"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert sessions(client).keys() == before


def test_an_unknown_one_must_start(step, wire, whole, sequence_id):
    for flags in ((), ("end",)):
        said = wire.refusal(step(sequence_id, whole, *flags))
        assert said.startswith(f"inference request for sequence {sequence_id} to model 'founding' {START_FIRST}")


def test_after_its_end_it_must_start_again(step, wire, whole, sequence_id):
    wire.opened(step(sequence_id, whole, "start", "end"))
    assert START_FIRST in wire.refusal(step(sequence_id, whole))
    wire.opened(step(sequence_id, whole, "start", "end"))


def test_a_start_on_a_live_one_ends_the_old_one_with_a_warning(step, wire, networks, whole, sequence_id, caplog):
    wire.opened(step(sequence_id, whole, "start"))
    assert not caplog.records
    again = wire.opened(step(sequence_id, whole[:2], "start"))["output"][0]
    with torch.no_grad():
        expected, _ = networks["founding"].lstm(whole[:2])
    np.testing.assert_allclose(again, expected, atol=1e-6)
    (warned,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "a sequence that has not ended starts anew" in warned.getMessage()


def test_another_models_sequence_is_left_alone(client, step, wire, whole, sequence_id):
    wire.opened(step(sequence_id, whole, "start"))
    for flags in ((), ("start",), ("end",)):
        said = wire.refusal(step(sequence_id, torch.zeros(1, 2), *flags, model="forecaster"))
        assert f"sequence {sequence_id} is one of model 'founding', version '1', not of 'forecaster'" in said
    assert sessions(client)[str(sequence_id)]["steps"] == 1


def test_a_batch_is_no_step(ask, wire, whole, sequence_id):
    inputs = wire.tensor("inputs", np.zeros((2, 3, 5)))
    reply = ask("founding", [inputs], parameters={"sequence_id": sequence_id, "sequence_start": True})
    assert "a step of a sequence is a batch of 1, not of 2" in wire.refusal(reply)
    assert START_FIRST in wire.refusal(
        ask("founding", [wire.tensor("inputs", whole[None])], parameters={"sequence_id": sequence_id})
    )


def test_it_may_start_from_a_state_but_not_go_on_from_one(step, wire, networks, whole, sequence_id):
    with torch.no_grad():
        expected, _ = networks["founding"].lstm(whole)
        _, (h, c) = networks["founding"].lstm(whole[:3])
    states = [wire.tensor("initial_hidden_state", h[None]), wire.tensor("initial_cell_state", c[None])]
    first = wire.opened(step(sequence_id, whole[3:5], "start", extra=states))
    assert "goes with 'sequence_start'" in wire.refusal(step(sequence_id, whole[5:], extra=states))
    rest = wire.opened(step(sequence_id, whole[5:], "end"))
    np.testing.assert_allclose(np.concatenate([first["output"][0], rest["output"][0]]), expected[3:], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "width", "message"),
    [("both-ways", 3, "is bidirectional"), ("mood", None, "predicts from all steps of a sequence at once")],
)
def test_a_model_that_cannot_be_streamed_is_refused_with_the_reason(ask, wire, model, width, message, sequence_id):
    inputs = wire.tensor("inputs", np.zeros((1, 2, width))) if width else wire.tensor("inputs", [[1, 2]], "INT64")
    reply = ask(model, [inputs], parameters={"sequence_id": sequence_id, "sequence_start": True})
    assert message in wire.refusal(reply)


def test_a_request_that_fails_takes_no_step(client, step, wire, whole, sequence_id):
    wire.opened(step(sequence_id, whole, "start"))
    wire.refusal(step(sequence_id, whole, extra=[wire.tensor("sequence_lengths", [8], "INT64")]))
    wire.refusal(step(sequence_id, torch.zeros(1, 4), "end"))
    assert sessions(client)[str(sequence_id)]["steps"] == 1


def test_an_idle_one_is_forgotten(serve, stock_client, whole):
    tensor = stock.InferInput("inputs", [1, 7, 5], "FP32").set_data_from_numpy(whole[None].numpy())
    with serve(session_idle_timeout_s=0.3) as client:
        triton = stock_client(client)
        triton.infer("founding", [tensor], sequence_id=5, sequence_start=True)
        time.sleep(0.4)
        with pytest.raises(InferenceServerException, match=START_FIRST):
            triton.infer("founding", [tensor], sequence_id=5)
        triton.infer("founding", [tensor], sequence_id=5, sequence_start=True)


def test_more_sequences_than_may_be_are_told_to_come_back(serve, wire, whole):
    with serve(max_sessions=1) as client:
        body = {"inputs": [wire.tensor("inputs", whole[None])]}
        replies = [
            client.post(
                "/v2/models/founding/infer", json=body | {"parameters": {"sequence_id": number, "sequence_start": True}}
            )
            for number in (1, 2)
        ]
    wire.opened(replies[0])
    wire.refusal(replies[1], 429)
    assert replies[1].headers["retry-after"]


def test_steps_that_come_at_once_are_taken_in_their_order(serve, wire, networks, whole, monkeypatch):
    from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

    answer = Pipeline.answer
    with serve() as client, ThreadPoolExecutor(7) as pool:
        monkeypatch.setattr(Pipeline, "answer", lambda self, query: time.sleep(0.05) or answer(self, query))

        def take(index):
            flags = {"sequence_id": 9, "sequence_start": index == 0, "sequence_end": index == 6}
            body = {"inputs": [wire.tensor("inputs", whole[index][None, None])], "parameters": flags}
            return client.post("/v2/models/founding/infer", json=body)

        replies = []
        for index in range(7):
            replies.append(pool.submit(take, index))
            threading.Event().wait(0.02)  # so that they arrive in this order, each before the last one is answered
        given = [wire.opened(reply.result())["output"][0] for reply in replies]
    with torch.no_grad():
        expected, _ = networks["founding"].lstm(whole)
    np.testing.assert_allclose(np.concatenate(given), expected, atol=1e-6)
