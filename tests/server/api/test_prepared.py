"""Prepared: of bodies that are alike but for their numbers only the first is read as any."""

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from gatescope.pipeline.model import Model
from gatescope.server.api import prepared, query
from gatescope.server.api.limits import Limits
from gatescope.server.api.prepared import PreparedJSON, PreparedTensors, floats_behind
from gatescope.server.api.schemas import PredictRequest, StepRequest

LIMITS = Limits(
    max_body_bytes=1 << 20,
    max_time_steps=100,
    max_batch_steps=200,
    max_batch_size=64,
    max_trace_bytes=1 << 20,
    max_upload_bytes=1 << 20,
    request_timeout_s=30,
)


class Counted:
    """`query.to_query` or `query.to_step`, counted."""

    def __init__(self, to_query):
        self.times, self._to_query = 0, to_query

    def __call__(self, *arguments):
        self.times += 1
        return self._to_query(*arguments)


@pytest.fixture
def load(model_folder):
    def make(*arguments, **named):
        folder = model_folder(*arguments, **named)
        return Model.load(Path(folder.path), "1", torch.device("cpu"))

    return make


@pytest.fixture
def to_query():
    return Counted(query.to_query)


@pytest.fixture
def known(to_query):
    return PreparedJSON(PredictRequest, to_query)


def written(*shape, start=0.0, **layout):
    """A body with numbers of this shape, and the numbers."""
    numbers = np.linspace(start, start + 1, int(np.prod(shape))).astype(np.float32).reshape(shape)
    return json.dumps({"inputs": numbers.tolist()}, **layout).encode(), numbers.reshape(-1, *shape[-2:])


@pytest.mark.parametrize("shape", [(4, 3), (1, 3), (1, 4, 3), (5, 2, 3)])
def test_the_next_body_of_a_shape_is_read_sooner_and_as_the_first(load, known, to_query, shape):
    model = load()
    for start in (0.0, -3.5, 1e6):
        content, numbers = written(*shape, start=start)
        asked = known.query(content, model, LIMITS)
        assert np.array_equal(asked.inputs.numpy(), numbers)
        assert asked.inputs.dtype == torch.float32
        assert asked.sequence_lengths.tolist() == [shape[-2]] * len(numbers)
        assert asked.steps == len(numbers) * shape[-2]
        assert (asked.prediction, asked.output, asked.horizon, asked.initial_state) == (True, False, 0, None)
        assert asked.most_bytes == LIMITS.max_trace_bytes
    assert to_query.times == 1


def test_spaces_and_spellings_do_not_make_another_shape(load, known, to_query):
    model = load()
    for body in ('{"inputs":[[1,2,3]]}', ' { "inputs" :\n[[ 1.0,2e0 , 30E-1]]}', '{"inputs":[[-1e-3,0,123.456]]}'):
        assert known.query(body.encode(), model, LIMITS) is not None
    assert to_query.times == 1


def test_earlier_queries_keep_their_numbers(load, known):
    model = load()
    bodies = [written(2, 3, start=float(start)) for start in range(5)]
    asked = [known.query(content, model, LIMITS) for content, _ in bodies]
    for each, (_, numbers) in zip(asked, bodies, strict=True):
        assert np.array_equal(each.inputs.numpy(), numbers)


def test_a_lone_sequence_and_a_batch_of_one_are_two_shapes(load, known, to_query):
    model = load()
    for shape in ((2, 3), (1, 2, 3), (2, 3), (1, 2, 3)):
        assert known.query(written(*shape)[0], model, LIMITS).inputs.shape == (1, 2, 3)
    assert to_query.times == 2


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '{"inputs":[[1,2]]}',
        '{"inputs":[[1,2,3]],"horizon":null}',
        '{"inputs":[[[1,2,3]],[[1,2,3],[4,5,6]]]}',
        '{"inputs":[[1,2,null]]}',
        json.dumps({"inputs": [[1, 2, 3]] * 101}),
        json.dumps({"inputs": [[[1, 2, 3]] * 70] * 3}),
    ],
    ids=lambda body: body[:40] or "nothing",
)
def test_what_is_refused_or_ragged_or_says_more_is_not_remembered(load, known, body):
    model = load()
    for _ in range(2):
        assert known.query(body.encode(), model, LIMITS) is None
    assert known._shapes[model] == {}


def test_broken_numbers_of_a_known_shape_are_left_to_others(load, known):
    model = load()
    assert known.query(b'{"inputs":[[1,2,3]]}', model, LIMITS) is not None
    for row in ("1,2,01", "1,2,", ",,", "1,2,1e39", "1,2,1e999", "1,2 3,", "1,2,-", "1,2,+3"):
        assert known.query(f'{{"inputs":[[{row}]]}}'.encode(), model, LIMITS) is None
    assert known.query(b'{"inputs":[[1,2,3]]}', model, LIMITS).inputs.tolist() == [[[1, 2, 3]]]


def test_no_more_shapes_are_remembered_than_may(load, known, to_query, monkeypatch):
    monkeypatch.setattr(prepared, "MOST_SHAPES", 8)
    model = load()
    for steps in range(1, 30):
        content, numbers = written(steps, 3)
        assert np.array_equal(known.query(content, model, LIMITS).inputs.numpy(), numbers)
        assert 1 <= len(known._shapes[model]) <= 8
    assert to_query.times == 29


def test_what_has_long_brackets_is_not_remembered(load, known, to_query, monkeypatch):
    content = written(20, 3, separators=(",", ":"))[0]
    brackets = len(content.translate(None, b"0123456789+-.eE \t\r\n"))
    model = load()
    monkeypatch.setattr(prepared, "LONGEST", brackets - 1)
    assert known.query(content, model, LIMITS) is None
    assert (to_query.times, known._shapes[model]) == (0, {})
    monkeypatch.setattr(prepared, "LONGEST", brackets)
    assert known.query(content, model, LIMITS) is not None
    assert len(known._shapes[model]) == 1


def test_what_is_remembered_does_not_keep_its_numbers(load, known):
    model = load()
    asked = known.query(written(50, 3)[0], model, LIMITS)
    (shape,) = known._shapes[model].values()
    assert shape.query.inputs.numel() == 0
    inputs = weakref.ref(asked.inputs)
    del asked
    gc.collect()
    assert inputs() is None


def test_a_model_is_not_kept_by_what_is_remembered_of_it(load, known):
    model = load()
    known.query(written(2, 3)[0], model, LIMITS)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert len(known._shapes) == 0


def test_each_model_is_asked_for_itself(load, known, to_query):
    one, other = load("one"), load("other", seed=1)
    for model in (one, other, one, other):
        assert known.query(written(2, 3)[0], model, LIMITS) is not None
    assert to_query.times == 2


def test_models_that_do_not_take_any_number_are_not_remembered(load, known):
    categories = load(
        "categories",
        'description = "a"\n[input]\nkind = "features"\nfeatures = [{name = "a"}, {name = "b", categories = [1, 2]}]',
        head=None,
    )
    tokens = load(
        "tokens", 'description = "a"\n[input]\nkind = "tokens"\nvocabulary = "ids"\nsize = 9', head=None, embedding=9
    )
    for model, body in ((categories, b'{"inputs":[[1,2]]}'), (tokens, b'{"inputs":[[1,2]]}')):
        assert known.query(body, model, LIMITS) is None


def test_a_step_is_of_one_sequence(load):
    to_step = Counted(query.to_step)
    steps, model = PreparedJSON(StepRequest, to_step), load()
    for _ in range(3):
        assert steps.query(written(2, 3)[0], model, LIMITS).inputs.shape == (1, 2, 3)
        assert steps.query(written(1, 2, 3)[0], model, LIMITS).inputs.shape == (1, 2, 3)
    assert to_step.times == 2
    assert steps.query(written(2, 2, 3)[0], model, LIMITS) is None


class TestTensors:
    @pytest.fixture
    def tensors(self, to_query):
        return PreparedTensors(PredictRequest, to_query)

    def test_are_read_sooner_the_second_time(self, load, tensors, to_query):
        model = load()
        for start in (0.0, 5.0):
            numbers = np.arange(12, dtype=np.float32).reshape(2, 2, 3) + np.float32(start)
            asked = tensors.query(save({"inputs": numbers}, {"outputs": '["output"]'}), model, LIMITS)
            assert np.array_equal(asked.inputs.numpy(), numbers)
            assert (asked.prediction, asked.output) == (False, True)
        assert to_query.times == 1
        assert tensors.query(save({"inputs": numbers}), model, LIMITS).prediction
        assert to_query.times == 2

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_that_are_not_finite_are_left_to_others(self, load, tensors, value):
        model, numbers = load(), np.ones((2, 3), dtype=np.float32)
        assert tensors.query(save({"inputs": numbers}), model, LIMITS) is not None
        numbers[1, 1] = value
        assert tensors.query(save({"inputs": numbers}), model, LIMITS) is None

    def test_of_other_types_or_several_are_not_remembered(self, load, tensors):
        model, numbers = load(), np.ones((1, 2, 3), dtype=np.float32)
        for arrays in (
            {"inputs": numbers.astype(np.float64)},
            {"inputs": numbers.astype(np.int64)},
            {"inputs": numbers, "sequence_lengths": np.array([2])},
        ):
            assert tensors.query(save(arrays), model, LIMITS) is None
        assert tensors._shapes[model] == {}


@pytest.mark.parametrize("behind", [b"", b"\0\0\0", np.float32(np.inf).tobytes(), np.float32(np.nan).tobytes()])
def test_what_is_no_finite_numbers_behind_a_head_is_left_to_others(behind):
    assert floats_behind(b"head!" + behind, 5) is None


def test_numbers_behind_a_head_are_read_wherever_they_begin():
    numbers = np.array([1.5, -2, 3e38], dtype=np.float32)
    assert np.array_equal(floats_behind(b"head!" + numbers.tobytes(), 5), numbers)
