"""Samples: how they may be written, what is refused, and how scaling and layouts are found."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gatescope.checkpoints import given_sample
from gatescope.errors import InvalidInput

FEATURES = 3


class Forecaster(nn.Module):
    """The last step's forecast, of (batch, time, feature) or one sequence without a batch."""

    def __init__(self, **more):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 6, batch_first=True, **more)
        self.fc = nn.Linear(6, 2)
        generator = torch.Generator().manual_seed(1)
        for value in self.parameters():
            value.data.uniform_(-1, 1, generator=generator)

    def forward(self, values, state=None):
        return self.fc(self.lstm(values, state)[0][..., -1, :])


def computed(module, *inputs) -> Tensor:
    with torch.no_grad():
        return module(*inputs)


@pytest.fixture
def module():
    return Forecaster()


@pytest.fixture
def inputs(random):
    return 2 * torch.randn(4, 9, FEATURES, generator=random)


def is_verified(brought, inputs, expected):
    assert brought.model.verified is not None, brought.notes
    torch.testing.assert_close(brought.ask([*inputs]).prediction.values, expected, rtol=1e-5, atol=1e-5)


class TestFiles:
    def test_npz_json_and_safetensors_say_the_same(self, bring, module, inputs, tmp_path):
        expected = computed(module, inputs)
        np.savez(tmp_path / "a.npz", inputs=inputs.numpy(), expected=expected.numpy())
        (tmp_path / "b.json").write_text(json.dumps({"inputs": inputs.tolist(), "expected": expected.tolist()}))
        save_file({"inputs": inputs, "expected": expected}, tmp_path / "c.safetensors")
        for file in ("a.npz", "b.json", "c.safetensors"):
            brought = bring(module, sample=tmp_path / file, name=file[0])
            is_verified(brought, inputs, expected)
            stored = json.loads((brought.imported.folder / "1/sample.json").read_text())
            assert np.allclose(stored["request"]["inputs"], inputs)
            assert np.allclose(stored["expected"], expected)

    @pytest.mark.parametrize(("given", "made"), [("input", "output"), ("x", "y"), ("inputs", "prediction")])
    def test_other_names_are_understood(self, bring, module, inputs, given, made):
        expected = computed(module, inputs)
        is_verified(bring(module, sample={given: inputs, made: expected}), inputs, expected)

    def test_the_sample_becomes_an_example_and_is_checked_when_the_model_is_loaded(self, bring, module, inputs, models):
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        assert any("sample" in example["title"] for example in brought.model.examples)
        path = models / "mine/1/sample.json"
        stored = json.loads(path.read_text())
        stored["expected"][0][0] += 1
        path.write_text(json.dumps(stored))
        with pytest.raises(Exception, match="its predictions are not those of"):
            type(brought.model).load(models / "mine", "1", torch.device("cpu"))


class TestLayouts:
    def test_one_sequence_needs_no_batch(self, bring, module, random):
        one = 2 * torch.randn(20, FEATURES, generator=random)
        expected = computed(module, one)
        is_verified(bring(module, sample={"inputs": one, "expected": expected}), one[None], expected[None])

    @pytest.mark.parametrize("shape", [(2, 10), (10, 2)], ids=["fewer steps", "more steps"])
    def test_time_may_come_first(self, bring, module, random, shape):
        inputs = 2 * torch.randn(*shape, FEATURES, generator=random)
        expected = computed(module, inputs.transpose(0, 1))
        brought = bring(module, sample={"inputs": inputs, "expected": expected})
        assert "The sample's first axis is time; requests have the batch first." in brought.notes
        is_verified(brought, inputs.transpose(0, 1), expected)

    def test_as_many_sequences_as_steps_are_told_apart_by_the_numbers(self, bring, module, random):
        inputs = 2 * torch.randn(6, 6, FEATURES, generator=random)
        for name, expected in (("a", computed(module, inputs)), ("b", computed(module, inputs.transpose(0, 1)))):
            brought = bring(module, sample={"inputs": inputs, "expected": expected}, name=name)
            is_verified(brought, inputs if name == "a" else inputs.transpose(0, 1), expected)

    def test_padded_sequences_have_lengths(self, bring, module, inputs):
        lengths = [9, 4, 1, 7]
        rows = [row[:length] for row, length in zip(inputs, lengths, strict=True)]
        expected = torch.stack([computed(module, row) for row in rows])
        brought = bring(module, sample={"inputs": inputs, "expected": expected, "sequence_lengths": lengths})
        assert brought.model.verified is not None
        brought.predicts(rows, [*expected])

    def test_sequences_of_different_lengths_are_lists(self, bring, module, inputs, tmp_path):
        rows = [row[:length] for row, length in zip(inputs, (9, 4, 1, 7), strict=True)]
        expected = [computed(module, row).tolist() for row in rows]
        content = {"inputs": [row.tolist() for row in rows], "expected": expected}
        (tmp_path / "ragged.json").write_text(json.dumps(content))
        assert bring(module, sample=tmp_path / "ragged.json").model.verified is not None

    def test_values_of_every_step_may_be_ragged_too(self, bring, module, inputs, tmp_path):
        rows = [row[:length] for row, length in zip(inputs, (9, 4, 6, 7), strict=True)]
        with torch.no_grad():
            expected = [module.fc(module.lstm(row)[0]).tolist() for row in rows]
        content = {"inputs": [row.tolist() for row in rows], "expected": expected}
        (tmp_path / "ragged.json").write_text(json.dumps(content))
        brought = bring(module, sample=tmp_path / "ragged.json")
        assert brought.layers == "lstm,fc"
        assert brought.model.verified is not None

    @pytest.mark.parametrize("names", [("h0", "c0"), ("hidden_state", "cell_state")])
    def test_a_sample_may_begin_with_a_state(self, bring, module, inputs, random, names):
        state = [torch.randn(1, 4, 6, generator=random) for _ in range(2)]
        expected = computed(module, inputs, tuple(state))
        sample = {"inputs": inputs, "expected": expected, **dict(zip(names, state, strict=True))}
        brought = bring(module, sample=sample)
        assert brought.model.verified is not None
        zeros = computed(module, inputs)
        torch.testing.assert_close(brought.ask([*inputs]).prediction.values, zeros, rtol=0, atol=1e-5)


class TestScaling:
    MEAN, STD = np.array([10.0, -3.0, 0.5]), np.array([4.0, 0.1, 2.0])

    @pytest.mark.parametrize("is_raw", [True, False])
    @pytest.mark.parametrize("is_output_raw", [True, False])
    def test_raw_and_scaled_samples_are_told_apart(self, bring, module, inputs, is_raw, is_output_raw):
        raw = inputs.numpy() * self.STD + self.MEAN
        scaled_values = computed(module, inputs).numpy()
        expected = scaled_values * 7.0 + 100.0
        scaler = {"inputs": {"mean": self.MEAN.tolist(), "std": self.STD.tolist()},
                  "outputs": {"mean": [100.0, 100.0], "std": [7.0, 7.0]}}  # fmt: skip
        sample = {"inputs": raw if is_raw else inputs, "expected": expected if is_output_raw else scaled_values}
        brought = bring(module, scaler=json.dumps(scaler), sample=sample)
        assert brought.model.verified is not None, brought.notes
        assert f"The sample's inputs were {'raw' if is_raw else 'scaled already'}" in brought.notes
        values = brought.ask([*torch.from_numpy(raw)]).prediction.values
        torch.testing.assert_close(values, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-4)

    def test_a_wrong_scaler_is_not_verified(self, bring, module, inputs):
        raw = inputs.numpy() * self.STD + self.MEAN
        scaler = {"inputs": {"mean": (self.MEAN + 1).tolist(), "std": self.STD.tolist()}}
        sample = {"inputs": raw, "expected": computed(module, inputs)}
        brought = bring(module, scaler=json.dumps(scaler), sample=sample)
        assert (brought.model.verified, brought.manifest.heads) == (None, ())


class TestTolerance:
    def test_a_wider_one_takes_what_a_narrow_one_does_not(self, bring, module, inputs):
        sample = {"inputs": inputs, "expected": computed(module, inputs) * (1 + 3e-4)}
        assert bring(module, sample=sample).model.verified is None
        brought = bring(module, sample=sample, tolerance=1e-3, name="other")
        assert brought.model.verified.tolerance == 1e-3
        assert 1e-4 < brought.model.verified.max_error < 1e-3

    @pytest.mark.parametrize("tolerance", [0.0, -1.0, 0.1])
    def test_one_that_proves_nothing_is_refused(self, bring, module, inputs, tolerance):
        with pytest.raises(InvalidInput, match=r"tolerance: must be above 0 and at most 0\.01"):
            bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)}, tolerance=tolerance)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"inputs": np.full((4, 9, 3), np.nan)}, "inputs holds NaN or Infinity"),
            ({"expected": np.full((4, 2), np.inf)}, "expected holds NaN or Infinity"),
            ({"inputs": np.zeros((4, 9, 3), dtype="S3")}, "inputs is no array of numbers"),
            ({"inputs": np.zeros((2, 4, 9, 3))}, r"its inputs have shape \[2, 4, 9, 3\]"),
            ({"weights": np.zeros(3)}, "has 'weights'; a sample has inputs or text"),
            ({"sequence_lengths": np.array([9, 9, 9])}, "it has lengths"),
            ({"sequence_lengths": np.array([9, 9, 9, 10])}, "it has lengths"),
            ({"sequence_lengths": np.array([9, 9, 9, 0])}, "it has lengths"),
            ({"h0": np.zeros((1, 4, 6))}, "it begins with hidden_state, but 'lstm' has hidden_state, cell_state"),
            ({name: np.zeros((1, 4)) for name in ("h0", "c0")}, r"hidden_state has shape \[1, 4\], but that of"),
            ({name: np.zeros((1, 3, 6)) for name in ("h0", "c0")}, "its states are not of as many sequences"),
            ({name: np.zeros((1, 4, 7)) for name in ("h0", "c0")}, r"hidden_state has shape \[1, 4, 7\], but that"),
            ({"inputs": np.zeros((100, 1000, 3))}, "numbers, more than 200,000"),
            ({"text": np.array(["a"])}, "needs `inputs` or `text`, one of them"),
        ],
        ids=str,
    )  # fmt: skip
    def test_a_sample_that_cannot_be_is_refused_by_name(self, bring, module, inputs, models, change, message):
        sample = {"inputs": inputs, "expected": computed(module, inputs)} | change
        with pytest.raises(InvalidInput, match=f"sample: .*{message}"):
            bring(module, sample=sample)
        assert not models.exists()

    @pytest.mark.parametrize("missing", ["inputs", "expected"])
    def test_what_is_missing_is_named(self, bring, module, inputs, missing):
        sample = {"inputs": inputs, "expected": computed(module, inputs)}
        del sample[missing]
        with pytest.raises(InvalidInput, match=f"sample: .*{missing}"):
            bring(module, sample=sample)

    def test_objects_are_not_unpickled(self, bring, module, tmp_path):
        np.savez(tmp_path / "evil.npz", inputs=np.array([print], dtype=object), expected=np.zeros(1))
        with pytest.raises(InvalidInput, match=r"sample: evil\.npz cannot be read: Object arrays"):
            bring(module, sample=tmp_path / "evil.npz")

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[1, 2]", b"nonsense", b"PK\x03\x04", b"\xff\xfe\x00", b"[" * 100_000, b'{"inputs": NaN}'],
        ids=lambda content: repr(content[:9]),
    )
    def test_what_is_no_sample_is_refused(self, tmp_path, content):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InvalidInput, match="sample: bad"):
            given_sample.read(tmp_path / "bad")

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path):
        with (tmp_path / "large.json").open("wb") as file:
            file.truncate(given_sample.MAX_BYTES + 1)
        with pytest.raises(InvalidInput, match=r"sample: large\.json has more than"):
            given_sample.read(tmp_path / "large.json")

    def test_ids_beyond_the_table_are_refused(self, bring, random):
        module = nn.ModuleDict({"emb": nn.Embedding(9, 4), "lstm": nn.LSTM(4, 5), "fc": nn.Linear(5, 3)})
        for ids in (torch.full((2, 3), 9), torch.full((2, 3), -1), torch.rand(2, 3, generator=random)):
            with pytest.raises(InvalidInput, match="sample: its inputs must be token ids from 0 to 8"):
                bring(module, sample={"inputs": ids, "expected": torch.zeros(2, 3)})

    def test_numbers_that_float32_cannot_hold_verify_nothing(self, bring, module, inputs):
        sample = {"inputs": inputs.double() * 1e300, "expected": computed(module, inputs)}
        brought = bring(module, sample=sample)
        assert (brought.model.verified, brought.manifest.heads) == (None, ())
