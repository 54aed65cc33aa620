"""A version whose predictions are not those of its training code is not served."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.padding import pad
from gatescope.pipeline import sample as samples
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.pipeline.sample import Sample, error_of
from gatescope.state import State

ROWS = [[[1.5, 0.2, -0.3], [2.5, 0.1, 0.4], [0.5, -1.2, 0.3]], [[3.0, 0.0, 1.0]]]
LETTERS = """
description = "letters"
task = "next_token"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcde"

[head]
"""
STATIC = """
format = 2
description = "static inputs"

[input]
kind = "features"
features = [{ name = "a" }]

[static]
features = [{ name = "s" }, { name = "t" }]

[[layers]]
name = "beside"
type = "concat"
inputs = ["inputs", "static"]

[[layers]]
name = "lstm"
type = "lstm"
"""


def load(folder):
    return Model.load(folder.path, "1", torch.device("cpu"))


def expected_of(folder, rows=ROWS):
    """What the trained module gives for each row alone, as lists."""
    fed = [torch.tensor([[[(a - 1) / 2, b, c] for a, b, c in row]]) for row in rows]
    return [folder.module(row)[0].tolist() for row in fed]


@pytest.fixture
def write():
    def to(folder, request, expected, **further):
        content = {"request": request, "expected": expected} | further
        (folder.path / "1" / samples.FILE).write_text(json.dumps(content))
        return load(folder)

    return to


class TestVerifying:
    def test_a_ragged_batch_is_compared_row_by_row(self, model_folder, write):
        folder = model_folder()
        model = write(folder, {"inputs": ROWS}, expected_of(folder), title="Two days")
        assert (model.verified.by, model.verified.sample, model.verified.tolerance) == ("sample", "Two days", 1e-5)
        assert model.verified.max_error < 1e-6
        assert model.examples == [{"title": "Two days", "request": {"inputs": ROWS}}]

    def test_the_examples_of_the_manifest_come_first(self, model_folder, write):
        folder = model_folder()
        folder.append('\n[[examples]]\ntitle = "chosen"\nrequest = { inputs = [[[1, 2, 3]]] }\n')
        model = write(folder, {"inputs": ROWS}, expected_of(folder), title="Two days")
        assert [example["title"] for example in model.examples] == ["chosen", "Two days"]

    def test_a_model_without_a_sample_is_not_verified(self, model_folder):
        assert load(model_folder()).verified is None

    def test_a_lone_sequence_is_a_batch_of_one(self, model_folder, write):
        folder = model_folder()
        assert write(folder, {"inputs": ROWS[0]}, expected_of(folder)[:1]).verified

    def test_a_prediction_per_sequence_is_compared(self, model_folder, write):
        folder = model_folder()
        folder.edit('steps = "all"', 'steps = "last"')
        assert write(folder, {"inputs": ROWS}, [steps[-1] for steps in expected_of(folder)]).verified

    def test_of_a_model_without_a_head_the_output_is_compared(self, model_folder, write):
        folder = model_folder(head=None)
        folder.edit('task = "regression"', "")
        folder.edit('[head]\nsteps = "all"', "")
        assert write(folder, {"inputs": ROWS}, expected_of(folder)).verified

    @pytest.mark.parametrize("request_", [{"text": ["abc", "e"]}, {"inputs": [[0, 1, 2], [4]]}])
    def test_a_text_is_split_and_ids_are_taken(self, model_folder, write, request_):
        folder = model_folder(manifest=LETTERS, embedding=5, head=(5,))
        expected = [folder.module(torch.tensor([ids]))[0].tolist() for ids in ([0, 1, 2], [4])]
        assert write(folder, request_, expected).verified

    def test_a_lone_text_and_lone_ids_are_a_batch_of_one(self, model_folder, write):
        folder = model_folder(manifest=LETTERS, embedding=5, head=(5,))
        expected = [folder.module(torch.tensor([[0, 1]]))[0].tolist()]
        assert write(folder, {"text": "ab"}, expected).verified
        assert write(folder, {"inputs": [0, 1]}, expected).verified

    def test_it_may_begin_in_a_state(self, model_folder, write, random):
        folder = model_folder()
        state = State(*(torch.randn(1, 2, 4, generator=random) for _ in range(2)))
        query = Query(*pad([torch.tensor(row) for row in ROWS]), initial_state=state)
        values = load(folder).pipeline.answer(query).prediction.values
        request = {"inputs": ROWS, "initial_state": {name: value.tolist() for name, value in state.named().items()}}
        expected = [values[0].tolist(), values[1, :1].tolist()]
        assert write(folder, request, expected).verified
        with pytest.raises(WeightsError):
            write(folder, {"inputs": ROWS}, expected)

    def test_static_inputs_are_taken(self, model_folder, write, seeded_lstm):
        folder = model_folder(manifest=STATIC)
        lstm = seeded_lstm(3, 2, batch_first=True)
        folder.save({f"lstm.{name}": value for name, value in lstm.state_dict().items()})
        expected = lstm(torch.tensor([[[0.5, 2.0, 3.0], [1.5, 2.0, 3.0]]]))[0].tolist()
        assert write(folder, {"inputs": [[[0.5], [1.5]]], "static_inputs": [[2.0, 3.0]]}, expected).verified
        with pytest.raises(ManifestError, match=r"sample\.json does not fit the model: .*static inputs"):
            write(folder, {"inputs": [[[0.5], [1.5]]]}, expected)


class TestRefusing:
    @pytest.mark.parametrize(("factor", "passes"), [(5, True), (20, False)])
    def test_predictions_ten_tolerances_off_are_refused_at_load(self, model_folder, write, factor, passes):
        folder = model_folder()
        expected = expected_of(folder)
        largest = max(abs(value) for row in expected for step in row for value in step)
        expected[0][1][0] += factor * 1e-3 * largest
        if passes:
            verified = write(folder, {"inputs": ROWS}, expected, tolerance=1e-3).verified
            assert verified.max_error == pytest.approx(factor * 1e-3, rel=0.02)
            return
        with pytest.raises(
            WeightsError, match=r"its predictions are not those of sample\.json: .* 10 · 0\.001 is allowed"
        ):
            write(folder, {"inputs": ROWS}, expected, tolerance=1e-3)

    def test_other_weights_are_refused(self, model_folder, write, plain):
        folder = model_folder()
        expected = expected_of(folder)
        folder.save(plain(seed=9).state_dict())
        with pytest.raises(WeightsError, match="not those of sample"):
            write(folder, {"inputs": ROWS}, expected)

    @pytest.mark.parametrize(
        "changed",
        [
            lambda expected: expected[:1],
            lambda expected: [expected[0], [*expected[1], *expected[1]]],
            lambda expected: [step[0] for step in expected],
            lambda expected: [[[step[0]] for step in row] for row in expected],
            lambda expected: [[[None, step[1]] for step in row] for row in expected],
        ],
        ids=["a row less", "a step more", "per sequence", "a value less", "a missing value"],
    )
    def test_another_shape_is_refused(self, model_folder, write, changed):
        folder = model_folder()
        with pytest.raises(WeightsError, match="the largest difference is inf"):
            write(folder, {"inputs": ROWS}, changed(expected_of(folder)))

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({}, "has no 'inputs'"),
            ({"inputs": ROWS, "horizon": 3}, "a sample has no 'horizon'"),
            ({"inputs": []}, "does not fit the model"),
            ({"inputs": [[]]}, "does not fit the model"),
            ({"inputs": 3}, "does not fit the model"),
            ({"inputs": [[[1.0, 2.0]]]}, r"has shape \[1, 2\], but the model takes 3 features a time step"),
            ({"inputs": [[[1.0, 2.0, 3.0], [1.0]]]}, "does not fit the model"),
            ({"inputs": [[["a", "b", "c"]]]}, "does not fit the model"),
            ({"text": "abc"}, "it has a text, but the model reads none"),
            ({"inputs": ROWS, "initial_state": {"hidden_state": [[[0.0] * 4] * 2]}}, "has no 'cell_state'"),
            (
                {"inputs": ROWS, "initial_state": {name: [[[0.0] * 3] * 2] for name in ("hidden_state", "cell_state")}},
                "does not fit the model",
            ),
        ],
        ids=str,
    )
    def test_a_request_that_does_not_fit_says_why(self, model_folder, write, request_, message):
        folder = model_folder()
        with pytest.raises(ManifestError, match=message):
            write(folder, request_, expected_of(folder))

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"text": "abx"}, "has the token 'x', which is not known"),
            ({"inputs": [[0, 5]]}, "beyond the 5 of the vocabulary"),
            ({"inputs": [[-1]]}, "beyond the 5 of the vocabulary"),
            ({"inputs": [[[0, 1]]]}, "but the model takes token ids"),
        ],
        ids=str,
    )
    def test_tokens_that_there_are_not_are_refused(self, model_folder, write, request_, message):
        folder = model_folder(manifest=LETTERS, embedding=5, head=(5,))
        with pytest.raises(ManifestError, match=message):
            write(folder, request_, [[[0.0] * 5]])


class TestFile:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", r"1/sample\.json is not JSON"),
            ("[]", r"1/sample\.json: "),
            ('{"expected": []}', r"1/sample\.json: request: Field required"),
            ('{"request": {}}', r"1/sample\.json: expected: Field required"),
            ('{"request": {}, "expected": [], "tolerance": 0.5}', r"1/sample\.json: tolerance"),
            ('{"request": {}, "expected": [], "tolerance": 0}', r"1/sample\.json: tolerance"),
            ('{"request": {}, "expected": [], "tolerence": 0.01}', r"1/sample\.json: tolerence"),
            ('{"request": {"inputs": [[[1, 2, 3]]]}, "expected": [[["a"]]]}', "`expected` of sample.json is no array"),
            ('{"request": {"inputs": [[[1, 2, 3]]]}, "expected": [[[1], [2, 3]]]}', "`expected` of sample.json"),
        ],
    )
    def test_a_file_that_is_no_sample_is_refused(self, model_folder, content, message):
        folder = model_folder()
        (folder.path / "1" / samples.FILE).write_text(content)
        with pytest.raises(ManifestError, match=message):
            load(folder)

    def test_a_folder_in_its_place_is_refused(self, model_folder):
        folder = model_folder()
        (folder.path / "1" / samples.FILE).mkdir()
        with pytest.raises(ManifestError, match=r"1/sample\.json cannot be read"):
            load(folder)

    def test_there_need_be_none(self, tmp_path):
        assert Sample.read(tmp_path) is None


class TestError:
    def of(self, given, expected):
        return error_of(*([torch.tensor(row).double().numpy() for row in rows] for rows in (given, expected)))

    def test_it_is_the_largest_difference_over_the_largest_expected_value(self):
        assert self.of([[1.0, -4.0], [2.0]], [[1.0, -4.2], [2.1]]) == pytest.approx(0.2 / 4.2)

    def test_zeros_are_equal_to_zeros_only(self):
        assert self.of([[0.0]], [[0.0]]) == 0
        assert self.of([[1e-9]], [[0.0]]) == float("inf")

    @pytest.mark.parametrize(("given", "expected"), [([[float("nan")]], [[1.0]]), ([[1.0]], [[float("nan")]])])
    def test_what_is_no_number_is_infinitely_off(self, given, expected):
        assert self.of(given, expected) == float("inf")


def test_a_custom_modules_sample_is_checked_too(tmp_path):
    path = tmp_path / "models" / "own"
    (path / "1").mkdir(parents=True)
    (path / "model.toml").write_text(
        'format = 2\ndescription = "an LSTM alone"\nfactory = "torch.nn:LSTM"\n'
        "[factory_arguments]\ninput_size = 1\nhidden_size = 2\nbatch_first = true\n"
        '[input]\nkind = "features"\nfeatures = [{ name = "a" }]\n'
    )
    module = nn.LSTM(1, 2, batch_first=True)
    save_file(module.state_dict(), path / "1" / "model.safetensors")
    inputs = [[[0.5], [1.0]]]
    expected = module(torch.tensor(inputs))[0].tolist()
    (path / "1" / samples.FILE).write_text(json.dumps({"request": {"inputs": inputs}, "expected": expected}))
    model = Model.load(path, "1", torch.device("cpu"), allow_code=True)
    assert model.verified.max_error < 1e-6
