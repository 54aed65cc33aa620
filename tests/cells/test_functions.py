import copy
import pickle

import numpy as np
import pytest
import torch

from gatescope.cells import Function, function_named
from gatescope.cells.functions import NAMES
from tests.cells.equations import FUNCTIONS

POINTS = torch.cat([torch.linspace(-40, 40, 4001, dtype=torch.float64), torch.tensor([0.0, -0.75179, -1.27846])])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_computes_what_its_name_says_within_its_bounds(name):
    function = function_named(name)
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(np.asarray(FUNCTIONS[name](POINTS.numpy())))
    given = function.apply(POINTS)
    torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)
    assert given is not POINTS
    assert function.low is None or given.min() >= function.low
    assert function.high is None or given.max() <= function.high


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_writing_gives_what_applying_gives(name, dtype):
    function, values = function_named(name), torch.linspace(-5, 5, 101, dtype=dtype)
    expected, into = function.apply(values), torch.full_like(values, torch.nan)
    assert function.write(values, out=into) is into
    torch.testing.assert_close(into, expected)
    torch.testing.assert_close(function.write(values, out=values), expected)


def test_every_name_is_tested_here():
    assert set(NAMES) <= FUNCTIONS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_is_read_back_as_the_same_function(name):
    function = function_named(name)
    assert function.name == name
    assert function_named(f" {name} ") == function
    for copied in (copy.deepcopy(function), pickle.loads(pickle.dumps(function))):  # noqa: S301 - its own
        assert copied == function
        assert hash(copied) == hash(function)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("hard_sigmoid(0.2,0.5)", "hard_sigmoid"),
        ("hard_sigmoid(1/5, 1/2)", "hard_sigmoid"),
        ("hard_sigmoid(0.16666666666666666, 0.5)", "hard_sigmoid(1/6, 0.5)"),
        ("leaky_relu(3e-1)", "leaky_relu(0.3)"),
        ("elu(1)", "elu"),
        ("elu(0.123456789)", "elu(0.123456789)"),
    ],
)
def test_numbers_may_be_written_in_any_way(given, read):
    assert function_named(given).name == read


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("softmax", "there is no function 'softmax'; known are sigmoid, tanh, relu"),
        ("", "there is no function ''"),
        ("Tanh", "there is no function 'Tanh'"),
        ("tanh(1)", r"'tanh\(1\)': tanh has no arguments, not 1"),
        ("hard_sigmoid(0.2)", "hard_sigmoid has 2 arguments, not 1"),
        ("elu(nan)", "'nan' is no number such as 0.2 or 1/6"),
        ("elu(1/0)", "'1/0' is no number"),
        ("elu(1e999999999)", "'1e999999999' is no number"),
        ("elu(__import__)", "'__import__' is no number"),
        ("elu(" + "1" * 100 + ")", "there is no function"),
    ],
)
def test_other_names_are_refused(name, problem):
    with pytest.raises(ValueError, match=problem):
        function_named(name)


def test_a_spelling_takes_a_number_or_a_sum():
    assert function_named("hard_sigmoid").spelling.format("0.1 + 0.2") == "clip(0.2·(0.1 + 0.2) + 0.5, 0, 1)"
    assert function_named("hard_sigmoid(1/6, -0.5)").spelling.format("x") == "clip(1/6·(x) − 0.5, 0, 1)"
    assert isinstance(function_named("linear"), Function)
    assert function_named("linear").spelling.format("x") == "x"
