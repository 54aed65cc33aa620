"""What is sent: everything that is wrong in it is told by the server, at its place."""

import json

import numpy as np
import pytest
import torch

from gatescope.client import body
from gatescope.errors import InvalidInput

DEEP = []
for _ in range(100_000):
    DEEP = [DEEP]
WEEK = [[30000.0, 30000.0, 30000.0, 4, 4], [31000.0, 31000.0, 31000.0, 5, 5]]


def wrong(row, column, value):
    rows = [list(line) for line in WEEK]
    rows[row][column] = value
    return rows


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda rows: [np.array(rows), np.array(rows[:1])]])
def test_a_number_that_is_none_is_refused_at_its_place(client, kind):
    with pytest.raises(InvalidInput) as refused:
        client.predict("demand", kind(wrong(1, 0, float("nan"))))
    assert refused.value.places[0].loc[:2] == ("body", "inputs")
    assert refused.value.places[0].loc[-2:] == (1, 0)
    assert "nan" in refused.value.detail.lower()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 4)), "4 features; model 'demand' takes 5"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0]], "2 features; model 'demand' takes 5"),
        ([np.zeros((3, 5)), np.zeros((2, 4))], "4 features; model 'demand' takes 5"),
        ([np.zeros((0, 5)), np.zeros((2, 5))], "sequence length 0 lies outside 1 to 2"),
        (np.zeros((2, 0, 5)), "0 time steps|no time steps"),
        (np.array([["a"] * 5]), "the string 'a'"),
        ([[None] * 5], "null"),
        ([], "no "),
        (np.array(3.0), r"\(\)"),
        (np.array([[True] * 5]), "true"),
        (None, "inputs"),
    ],
)
def test_what_does_not_fit_is_sent_as_it_is_and_refused_by_the_server(client, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        client.predict("demand", inputs)


def test_unknown_fields_are_refused_by_name(client):
    with pytest.raises(InvalidInput, match="horizon") as refused:
        client.predict("demand", np.array(WEEK), horizont=3)
    assert refused.value.places[0].loc == ("body", "horizont")


@pytest.mark.parametrize("value", [object(), {1: 2}.items, 1j, "\udcff", DEEP])
def test_what_json_cannot_hold_is_refused_before_it_is_sent(client, network, value):
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        client.predict("brackets", text=value)
    assert not network.requests


@pytest.mark.parametrize(
    ("inputs", "dtype"),
    [
        (np.zeros((1, 2, 5)), "F64"),
        (np.zeros((1, 2, 5), np.float16), "F32"),
        (np.zeros((1, 2, 5), ">f4"), "F32"),
        (np.zeros((1, 2, 5), np.uint8), "I64"),
        (torch.zeros(1, 2, 5, requires_grad=True), "F32"),
    ],
)
def test_arrays_travel_as_tensors(inputs, dtype):
    sent = body.encode({"inputs": inputs, "horizon": None, "outputs": ["output"]})
    assert sent.media_type == "application/vnd.safetensors"
    assert f'"dtype":"{dtype}","shape":[1,2,5]'.encode() in sent.content
    assert b'"__metadata__":{"outputs":"[\\"output\\"]"}' in sent.content


def test_lists_travel_as_json_and_what_is_none_not_at_all():
    assert body.encode({"inputs": [[1, 2]], "horizon": None}) == (b'{"inputs":[[1,2]]}', "application/json")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_in_json_read_back_as_the_same_floats(kind):
    bits = np.random.default_rng(0).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    given = bits[np.isfinite(bits)].astype(kind)
    content = body.encode({"other": given}).content
    assert np.array_equal(np.array(json.loads(content)["other"], dtype=kind), given)


def test_tensors_that_numpy_does_not_have_travel_as_json(client):
    same = client.predict("demand", torch.tensor(WEEK).bfloat16().float())
    np.testing.assert_array_equal(client.predict("demand", torch.tensor(WEEK).bfloat16()).values, same.values)
