"""Numbers of a body as float32."""

import numpy as np
import pytest

from gatescope.server.api.codecs.floats import finite, floats_behind


@pytest.mark.parametrize("number", [1e300, -1e300, 1e39, np.inf, -np.inf, np.nan])
def test_numbers_that_float32_cannot_hold_are_left_to_be_checked(number):
    assert finite(np.array([1.0, number, 2.0])) is None


def test_numbers_come_as_a_copy_in_float32():
    given = np.array([0.1, -3e30, 0.0])
    numbers = finite(given)
    assert numbers.dtype == np.float32
    assert numbers.tolist() == given.astype(np.float32).tolist()


def test_floats_behind_a_head_are_whole():
    content = b"head" + np.array([1.5, 2.5], dtype="<f4").tobytes()
    assert floats_behind(content, 4).tolist() == [1.5, 2.5]
    assert floats_behind(content, 5) is None
    assert floats_behind(content, len(content)) is None
