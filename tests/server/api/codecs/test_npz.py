"""A trace as .npz."""

import io
import json

import numpy as np
import pytest

from gatescope.server.api.codecs.npz import Npz

RANDOM = np.random.default_rng(0)


def floats(*shape):
    return RANDOM.standard_normal(shape, dtype=np.float32)


def reply(array):
    return {"sequence_lengths": [5, 3], "module": "lstm", "units": [0, 1], "signals": {"cell_state": array}}


@pytest.mark.parametrize(
    "array",
    [
        np.moveaxis(floats(250, 4, 2, 1, 32), 0, 3),
        floats(3, 900, 40)[:, :, ::2],
        floats(90_000)[::3],
        floats(40, 7)[:, :3],
        floats(2, 0, 3),
        floats(6, 5).T,
    ],
    ids=lambda array: str(array.shape),
)
def test_strided_arrays_are_read_back_as_they_are(array):
    with np.load(io.BytesIO(Npz().encode(reply(array)))) as file:
        assert file.files == ["sequence_lengths", "cell_state", "metadata"]
        np.testing.assert_array_equal(file["cell_state"], array)
        assert file["sequence_lengths"].tolist() == [5, 3]
        assert json.loads(str(file["metadata"])) == {"module": "lstm", "units": [0, 1]}


def test_the_same_trace_makes_the_same_file():
    array = floats(2, 1, 1, 5, 2)
    first = bytes(Npz().encode(reply(array)))
    assert bytes(Npz().encode(reply(array.copy()))) == first
