"""The quick reader of plain bodies reads what the general one reads, and nothing else."""

import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.server.api.codecs.json import inputs as json_inputs
from gatescope.server.api.schema.shapes import Expected

EXPECTED = Expected("m", "features", {"feature": 3}, {"batch": 50, "time": 20})

leaves = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, "a", "[1,2,3]", {}, 1e39]),
)
rows = st.lists(st.floats(-10, 10), min_size=3, max_size=3)
proper = st.lists(st.lists(rows, min_size=1, max_size=4), min_size=1, max_size=3)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=30)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", ":\t")])


def slowly(inputs):
    """As the general reader has it: a list of (time, 3) arrays, or None of what it refuses."""

    def is_row(row):
        return isinstance(row, list) and len(row) == 3 and all(_is_number(value) for value in row)

    def is_sequence(value):
        return isinstance(value, list) and value and all(map(is_row, value))

    if is_sequence(inputs):
        inputs = [inputs]
    if not (isinstance(inputs, list) and inputs and all(map(is_sequence, inputs))):
        return None
    return [np.array(sequence, dtype=np.float32) for sequence in inputs]


def _is_number(value):
    with np.errstate(over="ignore"):
        return type(value) in (int, float) and math.isfinite(np.float32(value))


@settings(max_examples=400, deadline=None)
@given(st.one_of(proper, anything, proper.flatmap(lambda good: st.tuples(st.just(good), leaves))), separators)
def test_it_reads_what_is_proper_and_leaves_the_rest(inputs, separators):
    given = json_inputs.sequences(json.dumps({"inputs": inputs}, separators=separators).encode(), EXPECTED)
    expected = slowly(json.loads(json.dumps(inputs)))
    if given is not None:
        assert expected is not None
        assert len(given) == len(expected)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(given, expected, strict=True))


@given(proper)
def test_it_misses_nothing_proper(inputs):
    for content in (inputs, inputs[0]):
        given = json_inputs.sequences(orjson.dumps({"inputs": content}), EXPECTED)
        assert given is not None
        assert given.is_single == (content is inputs[0])


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[[[1,2,3]]],"inputs":[[[1,2,3]]]}',
        b'{"inputs":[[[1,2,3]]],"outputs":["output"]}',
        b'{"inputs":[[[1,2,3]]]}x',
        b'{"in1puts":[[[1,2,3]]]}',
        b'{"in puts":[[[1,2,3]]]}',
        b'{"inputs":[[[1,2,3]]]',
        b'{"inputs":[[[1 2,,3]]]}',
        b'{"inputs":[[[1,2,]]]}',
        b'{"inputs":[[[,,]]]}',
        b'{"inputs":[[[1,2,3],[]]]}',
        b'{"inputs":[[[1,[2],3]]]}',
        b'{"inputs":[[1,[2,3],[4,5,6]]]}',
        b'{"inputs":[[[1,2,NaN]]]}',
        b'{"inputs":[[[1,2,1e999]]]}',
        b'{"inputs":[[[1,2,1e39]]]}',
        b'{"inputs":[[[1,2,0x1]]]}',
        b'{"inputs":[[[1,2,01]]]}',
        b'{"inputs":[[[1,2,+1]]]}',
        b'{"inputs":[[[1,2,1-1]]]}',
        b'{"inputs":[]}',
        b'{"inputs":[[]]}',
        b'{"inputs":[[[1,2]]]}',
        b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}",
        orjson.dumps({"inputs": [[[0.0, 0.0, 0.0]] * 21]}),
        orjson.dumps({"inputs": [[[0.0, 0.0, 0.0]] * 18] * 3}),
        b"",
        b"{",
        b"[[[1,2,3]]]",
    ],
)
def test_whatever_is_not_plainly_proper_is_left_to_the_general_reader(body):
    assert json_inputs.sequences(body, EXPECTED) is None


def test_one_feature_rows_are_not_taken_for_empty_ones():
    one = Expected("m", "features", {"feature": 1}, {"batch": 50, "time": 20})
    assert [row.tolist() for row in json_inputs.sequences(b'{"inputs":[[[1],[2]],[[3]]]}', one)] == [[[1], [2]], [[3]]]
    assert json_inputs.sequences(b'{"inputs":[[[1],[]],[[3]]]}', one) is None
    assert json_inputs.sequences(b'{"inputs":[[[],[]]]}', one) is None


def test_the_general_reader_says_what_is_wrong(client):
    reply = client.post("/v1/models/forecaster/predict", content=b'{"inputs":[[[1,2],[3]]]}', headers=JSON)
    assert reply.json()["errors"][0]["loc"] == ["body", "inputs", 0, 1]


def test_both_readers_give_one_answer(client):
    plain = b'{"inputs":[[[10.5,2.0],[11,3e0]],[[9,1]]]}'
    other = b'{"inputs":[[[10.5,2.0],[11,3e0]],[[9,1]]],"horizon":null}'
    answers = [
        client.post("/v1/models/forecaster/predict", content=body, headers=JSON).content for body in (plain, other)
    ]
    assert answers[0] == answers[1]


JSON = {"Content-Type": "application/json"}
