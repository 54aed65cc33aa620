"""Texts that the shipped character model writes: all at once, and token by token."""

import httpx
import numpy as np
import pytest

from gatescope.client import Sample, ServiceError, Token, Unreachable
from gatescope.client.generation import Events
from gatescope.errors import DeadlineExceeded, InvalidInput, ModelNotFound

SHAKESPEARE = "/v1/models/shakespeare/predict"
SAMPLING = {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "seed": 1}


def test_samples_are_told_beside_the_first(client, raw):
    sampling = SAMPLING | {"samples": 3, "stop": ["\n\n"]}
    said = client.predict("shakespeare", text="ROMEO:", horizon=40, sampling=sampling)
    expected = raw(SHAKESPEARE, {"text": "ROMEO:", "horizon": 40, "sampling": sampling})["prediction"]
    assert said.sampling == SAMPLING
    assert said.samples == [[Sample(**each) for each in row] for row in expected["samples"]]
    assert (said.text, said.finish_reason) == (expected["text"], expected["finish_reason"])
    assert len({sample.text for sample in said.samples[0]}) == 3


def test_tokens_come_one_after_the_other_and_then_the_prediction(client):
    asked = {"text": ["ROMEO:", "A"], "horizon": 30, "sampling": SAMPLING | {"samples": 2, "stop": ["e"]}}
    asked["outputs"] = ["prediction", "output", "final_state"]
    with client.generate("shakespeare", **asked) as generation:
        tokens = list(generation)
    said, expected = generation.prediction, client.predict("shakespeare", **asked)
    assert said.samples == expected.samples
    for name in ("values", "probabilities", "output"):
        np.testing.assert_array_equal(getattr(said, name), getattr(expected, name))
    np.testing.assert_array_equal(said.final_state.cell_state, expected.final_state.cell_state)
    assert said.labels.tolist() == expected.labels.tolist()
    for row, samples in enumerate(said.samples):
        for index, sample in enumerate(samples):
            own = [token for token in tokens if (token.sequence, token.sample) == (row, index)]
            assert "".join(token.text for token in own) == sample.text
            assert [token.step for token in own] == list(range(len(sample.tokens)))
            assert own[-1].finish_reason == sample.finish_reason


def test_a_generation_may_be_left_early(client):
    with client.generate("shakespeare", text="ROMEO:", horizon=9000) as generation:
        first = next(iter(generation))
    assert (first.step, first.finish_reason) == (0, None)
    with pytest.raises(Unreachable, match="has not come to its end"):
        _ = generation.prediction
    assert client.predict("shakespeare", text="A", horizon=1).text


def test_what_the_server_refuses_is_raised(client):
    with pytest.raises(InvalidInput) as raised:
        list(client.generate("shakespeare", text="ROMEO:"))
    assert raised.value.places[0].loc == ("body", "horizon")
    with pytest.raises(ModelNotFound):
        list(client.generate("marlowe", text="ROMEO:", horizon=2))


def test_what_fails_before_the_first_token_is_sent_again(client, network):
    network.faults = ["refused", httpx.Response(503, json={"title": "NotReady", "detail": "loading"})]
    with client.generate("shakespeare", text="ROMEO:", horizon=3) as generation:
        assert len(list(generation)) == 3
    assert len(network.requests) == 3


def test_a_reply_that_is_no_stream_of_events_is_told(client, network):
    network.faults = [httpx.Response(200, text="<html>")]
    with pytest.raises(ServiceError, match="does not answer with text/event-stream"):
        list(client.generate("shakespeare", text="ROMEO:", horizon=3))


class TestEvents:
    TOKEN = b'event: token\ndata: {"sequence":0,"sample":0,"step":0,"token":"\xe2\x80\xa8","text":"\xe2\x80\xa8"}\n\n'

    def test_they_may_be_cut_anywhere_and_hold_any_character(self):
        events = Events()
        told = [token for index in range(len(self.TOKEN)) for token in events.feed(self.TOKEN[index : index + 1])]
        assert told == [Token(0, 0, 0, "\u2028", "\u2028")]

    def test_an_error_is_raised_as_the_class_that_its_title_names(self):
        problem = b'{"title":"DeadlineExceeded","status":504,"detail":"too late"}'
        with pytest.raises(DeadlineExceeded, match="too late"):
            Events().feed(b"event: error\ndata: " + problem + b"\n\n")

    @pytest.mark.parametrize("data", [b"{", b"[]", b'{"token":1}'])
    def test_what_is_no_event_of_the_api_is_told(self, data):
        with pytest.raises(ServiceError, match="not one of this API"):
            Events().feed(b"event: token\ndata: " + data + b"\n\n")
