"""JSON in pieces is what it is at once."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from gatescope.server.api.codecs.arrays import size_of
from gatescope.server.api.codecs.json import writing
from gatescope.server.api.codecs.ragged import Ragged

RANDOM = np.random.default_rng(0)


def floats(*shape):
    return RANDOM.standard_normal(shape, dtype=np.float32)


VALUES = {
    "one number": np.float32(0.1),
    "one axis": floats(100_000),
    "a few long rows": floats(3, 40_000),
    "many short rows": floats(30_000, 3),
    "rows of one": floats(50_000, 1),
    "a trace": floats(2, 2, 1, 900, 20),
    "one of everything": floats(1, 1, 1, 1, 30_000),
    "an axis turned": np.moveaxis(floats(900, 2, 2, 20), 0, 2),
    "every other": floats(200, 800)[:, ::2],
    "backwards": floats(200, 800)[::-1],
    "whole numbers": np.arange(50_000),
    "nothing at all": np.zeros((2, 0, 3), dtype=np.float32),
    "what is not finite": np.full((40_000,), np.nan, dtype=np.float32),
    "rows of several lengths": Ragged(floats(3, 9000, 4), [9000, 1, 4000]),
    "many of them": Ragged(floats(9000, 3, 4), [1 + row % 3 for row in range(9000)]),
    "a list of arrays": [floats(5, 4000), floats(1), floats(100_000), floats(2, 2)],
    "a list of objects": [{"name": name, "data": floats(20_000)} for name in "abc"],
    "names": {"steps": list(range(9)), "tokens": [["a", 'b"'], []], "none": None, "": {}, "ä\n": floats(30_000)},
    "within one another": {"a": {"b": {"c": floats(30_000), "d": [1]}}, "e": floats(30_000), "f": {"g": floats(2)}},
}


class TestPieces:
    @pytest.mark.parametrize("name", VALUES)
    def test_are_what_is_written_at_once(self, name):
        pieces = writing.pieces(VALUES[name])
        assert b"".join(pieces) == writing.dumps(VALUES[name])
        assert len(pieces) >= min(2, size_of(VALUES[name]) // writing.PIECE_BYTES)

    def test_hold_few_numbers_each(self):
        """A float32 takes up to 13 characters with the comma behind it, and 4 bytes."""
        pieces = writing.pieces({"signals": {name: floats(4, 2, 1, 900, 20) for name in "abcdef"}})
        assert max(map(len, pieces)) < 2 * writing.PIECE_BYTES * 13 / 4
        assert min(map(len, pieces[:-1])) >= writing.PIECE_BYTES

    @settings(max_examples=150)
    @given(
        st.recursive(
            arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=4, max_side=9))
            | st.lists(st.integers(-9, 9) | st.text(max_size=3), max_size=3)
            | arrays_of.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(4), st.integers(1, 3))).map(
                lambda padded: Ragged(padded, [1 + row % 4 for row in range(len(padded))])
            ),
            lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
        )
    )
    def test_whatever_the_value_is(self, value):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "PIECE_BYTES", 24)
            assert b"".join(writing.pieces(value)) == writing.dumps(value)

    def test_what_json_does_not_know_is_refused(self):
        with pytest.raises(orjson.JSONEncodeError, match="complex"):
            writing.dumps({"a": 1j})
