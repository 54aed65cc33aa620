"""Checkpoints that were once read wrongly, or refused: each is right, unverified and said to be so, or refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from gatescope.errors import CheckpointError, InvalidInput


def computed(module, *inputs) -> Tensor:
    with torch.no_grad():
        return module(*inputs)


def served(brought, inputs) -> Tensor:
    return brought.ask([*inputs]).prediction.values


def assert_verified(brought, inputs, expected):
    """It predicts these values, and says that this was compared with the training code's own."""
    assert brought.model.verified.max_error <= 1e-5
    assert "Verified: " in brought.notes
    torch.testing.assert_close(served(brought, inputs), expected, rtol=1e-5, atol=1e-6)


class Encoder(nn.Module):
    """A speaker encoder; two of its weights are of the loss."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, 3, batch_first=True)
        self.linear = nn.Linear(6, 6)
        self.similarity_weight = nn.Parameter(torch.tensor([10.0]))
        self.similarity_bias = nn.Parameter(torch.tensor([-5.0]))

    def forward(self, x):
        return self.linear(self.lstm(x)[1][0][-1])


class TestOptimizerByParameterId:
    @pytest.fixture
    def encoder(self, random):
        module = Encoder()
        optimizer = torch.optim.Adam(module.parameters(), 1e-4)
        module(torch.randn(2, 5, 4, generator=random)).pow(2).sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        address = 140178894849152
        old = {
            "state": {address + 72 * key: value for key, value in state["state"].items()},
            "param_groups": [{**group, "params": [address + 72 * each for each in group["params"]]}
                             for group in state["param_groups"]],
        }  # fmt: skip
        return module, {"step": 1564501, "model_state": module.state_dict(), "optimizer_state": old}

    @pytest.mark.parametrize("zipped", [False, True])
    def test_the_encoder_beside_it_is_imported(self, bring, encoder, tmp_path, random, zipped):
        module, content = encoder
        torch.save(content, tmp_path / "pretrained.pt", _use_new_zipfile_serialization=zipped)
        inputs = torch.randn(2, 5, 4, generator=random)
        brought = bring(tmp_path / "pretrained.pt", steps="final")
        assert brought.model.verified is None
        torch.testing.assert_close(served(brought, inputs), computed(module, inputs), rtol=0, atol=1e-5)

    def test_what_the_package_does_behind_its_layers_can_be_stated(self, bring, encoder, random):
        module, content = encoder
        inputs = torch.randn(3, 9, 4, generator=random)
        expected = functional.normalize(computed(module, inputs).relu(), dim=-1)
        layers = ("lstm", "final", "linear", "relu", "l2_norm")
        assert_verified(
            bring(content, layers=layers, sample={"inputs": inputs, "expected": expected}), inputs, expected
        )


class Direction(nn.Module):
    """A norm in front of the LSTM, as wide as its input."""

    def __init__(self, norm):
        super().__init__()
        self.bn = norm
        self.lstm = nn.LSTM(4, 8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        normed = self.bn(x.transpose(1, 2)).transpose(1, 2) if isinstance(self.bn, nn.BatchNorm1d) else self.bn(x)
        return self.fc(self.lstm(normed)[1][0][-1])


class TestNormBeforeTheLSTM:
    SCALE, SHIFT = torch.tensor([50.0, 3.0, 0.1, 1.0]), torch.tensor([300.0, -2.0, 0.0, 7.0])

    @pytest.fixture
    def direction(self, random):
        module = Direction(nn.BatchNorm1d(4))
        for _ in range(100):  # running statistics, as training leaves them
            module(torch.randn(16, 6, 4, generator=random) * self.SCALE + self.SHIFT)
        inputs = torch.randn(2, 6, 4, generator=random) * self.SCALE + self.SHIFT
        return module.eval(), inputs

    def test_a_batch_norm_is_computed(self, bring, direction):
        module, inputs = direction
        brought = bring(module, steps="last", labels=("down", "flat", "up"))
        assert brought.layers == "bn,lstm,last,fc"
        torch.testing.assert_close(served(brought, inputs), computed(module, inputs), rtol=0, atol=1e-5)

    def test_with_a_sample_it_is_verified(self, bring, direction):
        module, inputs = direction
        expected = computed(module, inputs)
        assert_verified(bring(module, sample={"inputs": inputs, "expected": expected}), inputs, expected)

    def test_a_batch_norm_of_another_eps_is_not_verified(self, bring, direction):
        module, inputs = direction
        module.bn.eps = 1e-2
        brought = bring(module, sample={"inputs": inputs, "expected": computed(module, inputs)})
        assert (brought.model.verified, brought.manifest.heads) == (None, ())
        assert "No prediction: of " in brought.notes
        assert "the nearest, " in brought.notes


class Forecaster(nn.Module):
    """h_n -> ReLU -> Linear -> ReLU -> Linear -> Softplus."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True)
        self.fc_1 = nn.Linear(7, 12)
        self.fc = nn.Linear(12, 1)

    def forward(self, x):
        hn = self.lstm(x)[1][0][-1]
        return functional.softplus(self.fc(self.fc_1(hn.relu()).relu()))


class TestActivationsAroundTheHead:
    def test_are_found_by_a_sample(self, bring, random):
        module, inputs = Forecaster(), 2 * torch.randn(8, 6, 5, generator=random)
        expected = computed(module, inputs)
        brought = bring(module, sample={"inputs": inputs, "expected": expected})
        assert_verified(brought, inputs, expected)
        assert brought.layers == "lstm,last,relu,fc_1,relu.2,fc,softplus"

    def test_can_be_stated(self, bring, random):
        module, inputs = Forecaster(), torch.randn(2, 6, 5, generator=random)
        brought = bring(module, layers=("lstm", "final", "relu", "fc_1", "relu", "fc", "softplus"))
        assert brought.model.verified is None
        torch.testing.assert_close(served(brought, inputs), computed(module, inputs), rtol=0, atol=1e-5)

    def test_that_are_stated_wrongly_are_refused_by_a_sample(self, bring, random):
        module, inputs = Forecaster(), torch.randn(2, 6, 5, generator=random)
        sample = {"inputs": inputs, "expected": computed(module, inputs)}
        with pytest.raises(InvalidInput, match=r"layers: these layers do not give what the sample expects: .* off by"):
            bring(module, layers=("lstm", "final", "fc_1", "relu", "fc"), sample=sample)


class Identifier(nn.Module):
    """One score per character and language, summed over time."""

    def __init__(self):
        super().__init__()
        self.char_embeddings = nn.Embedding(12, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
        self.hidden2lang = nn.Linear(16, 3)
        with torch.no_grad():
            for value in self.lstm.parameters():
                value.mul_(4)

    def forward(self, ids):
        return self.hidden2lang(self.lstm(self.char_embeddings(ids))[0]).sum(dim=1)


class TestSumOverTime:
    def test_is_found_by_a_sample_with_its_probabilities(self, bring, random):
        module, ids = Identifier(), torch.randint(1, 12, (2, 30), generator=random)
        beside = {"char_to_idx": {c: i for i, c in enumerate("_abcdefghijk")},
                  "lang_to_idx": {"de": 0, "en": 1, "ro": 2}}  # fmt: skip
        expected = computed(module, ids)
        brought = bring(
            {"model_state_dict": module.state_dict(), **beside}, sample={"inputs": ids, "expected": expected}
        )
        assert_verified(brought, ids, expected)
        assert (brought.model.labels, brought.manifest.task) == (("de", "en", "ro"), "classification")
        probabilities = brought.model.pipeline.head.probabilities(served(brought, ids))
        torch.testing.assert_close(probabilities, expected.softmax(-1), rtol=0, atol=1e-5)

    def test_can_be_stated_before_the_head_and_behind_it(self, bring, random):
        module, ids = Identifier(), torch.randint(1, 12, (1, 30), generator=random)
        behind = bring(module, layers=("char_embeddings", "lstm", "hidden2lang", "sum"), task="classification")
        torch.testing.assert_close(served(behind, ids), computed(module, ids), rtol=1e-5, atol=1e-5)
        before = bring(module, name="other", steps="sum", task="classification")
        assert before.layers == "char_embeddings,lstm,sum,hidden2lang"


class TestCRF:
    @pytest.fixture
    def segmenter(self, random):
        emb, lstm = nn.Embedding(9, 6), nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
        lin = nn.Linear(16, 3)
        start, end = torch.tensor([0.5, 0.5, -9.0]), torch.tensor([-1.0, 0.5, 0.5])
        moves = torch.tensor([[0.3, 0.4, -9.0], [-9.0, 0.3, 0.5], [-9.0, -9.0, 0.6]])  # [from, to]
        modules = nn.ModuleDict({"embedding": emb, "lstm": lstm, "classifier": lin})
        state = modules.state_dict() | {
            "crf.start_transitions": start, "crf.end_transitions": end, "crf.transitions": moves}  # fmt: skip
        ids = torch.randint(0, 9, (3, 8), generator=random)
        with torch.no_grad():
            scores = lin(lstm(emb(ids))[0])
        paths = [_best_path(each, start, moves, end) for each in scores]
        return state, ids, scores, paths

    @pytest.mark.parametrize("with_sample", [False, True])
    def test_labels_are_the_best_path(self, bring, segmenter, with_sample):
        state, ids, scores, paths = segmenter
        sample = {"sample": {"inputs": ids, "expected": scores}} if with_sample else {}
        brought = bring({"model_state_dict": state, "id2label": {0: "P", 1: "S", 2: "X"}}, **sample)
        prediction = brought.ask([*ids]).prediction
        torch.testing.assert_close(prediction.values, scores, rtol=0, atol=1e-5)
        assert prediction.choices.tolist() == paths
        assert paths != scores.argmax(-1).tolist()
        assert (brought.manifest.task, brought.model.labels) == ("tagging", ("P", "S", "X"))
        assert brought.model.pipeline.head.probabilities(prediction.values) is None
        assert (brought.model.verified is not None) == with_sample


def _best_path(scores, start, moves, end):
    """Of all paths the one of the highest score, by trying every one."""
    best = None
    for path in torch.cartesian_prod(*[torch.arange(3)] * len(scores)):
        value = start[path[0]] + end[path[-1]] + scores[range(len(path)), path].sum() + moves[path[:-1], path[1:]].sum()
        if best is None or value > best[0]:
            best = (value, path.tolist())
    return best[1]


class Residual(nn.Module):
    """x + lstm(x) for each LSTM of a list."""

    def __init__(self, count=3):
        super().__init__()
        self.lstms = nn.ModuleList(nn.LSTM(6, 6) for _ in range(count))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        for lstm in self.lstms:
            x = x + lstm(x)[0]
        return self.head(x)


class TestResidualStack:
    def test_is_not_guessed_to_be_a_stack(self, bring):
        with pytest.raises(InvalidInput, match=r"join: .*state stacked, residual, parallel=add"):
            bring(Residual())

    def test_can_be_stated(self, bring, random):
        module, inputs = Residual(), torch.randn(4, 1, 6, generator=random)
        brought = bring(module, join="residual")
        expected = computed(module, inputs)
        torch.testing.assert_close(served(brought, inputs.transpose(0, 1)), expected.transpose(0, 1), rtol=0, atol=1e-5)

    def test_is_found_by_a_sample_whose_time_comes_first(self, bring, random):
        module, inputs = Residual(), torch.randn(5, 3, 6, generator=random)
        expected = computed(module, inputs)
        brought = bring(module, sample={"inputs": inputs, "expected": expected})
        assert "The sample's first axis is time" in brought.notes
        assert_verified(brought, inputs.transpose(0, 1), expected.transpose(0, 1))
        fed, x = {}, inputs[:, 0]
        with torch.no_grad():
            for index, lstm in enumerate(module.lstms):
                fed[f"lstms.{index}"] = x
                x = x + lstm(x)[0]
        brought.traces({f"lstms.{index}": lstm for index, lstm in enumerate(module.lstms)}, inputs[:, 0], fed)


class Sentiment(nn.Module):
    """Trained with BCEWithLogitsLoss: one logit, two labels."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 5, padding_idx=1)
        self.rnn = nn.LSTM(5, 4, 2, bidirectional=True, dropout=0.5)
        self.fc = nn.Linear(8, 1)

    def forward(self, ids):
        _, (h_n, _) = self.rnn(self.embedding(ids).transpose(0, 1))
        return self.fc(torch.cat((h_n[-2], h_n[-1]), dim=1))


@pytest.mark.parametrize("with_sample", [False, True])
def test_one_logit_with_two_labels_is_binary(bring, random, with_sample):
    module, ids = Sentiment().eval(), torch.randint(2, 10, (4, 6), generator=random)
    logits = computed(module, ids)
    more = {"sample": {"inputs": ids, "expected": logits}} if with_sample else {"steps": "final"}
    brought = bring(module, labels=("neg", "pos"), **more)
    prediction = brought.ask([*ids]).prediction
    assert (brought.manifest.task, brought.model.labels) == ("binary", ("neg", "pos"))
    torch.testing.assert_close(prediction.values, logits, rtol=0, atol=1e-6)
    probabilities = brought.model.pipeline.head.probabilities(prediction.values)
    torch.testing.assert_close(probabilities[:, 1:], logits.sigmoid(), rtol=0, atol=1e-6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    assert prediction.choices.tolist() == (logits[:, 0] > 0).long().tolist()


class TestBarePad:
    ENTRIES = ("PAD", *" abcdefghijklmnopqrstuvwxyz", "UNK")

    @pytest.fixture
    def identifier(self):
        return nn.ModuleDict({"embedding": nn.Embedding(28 + 1, 6), "lstm": nn.LSTM(6, 8), "fc": nn.Linear(8, 3)})

    def test_a_vocabulary_of_characters_is_one_with_a_pad_without_brackets(self, bring, identifier):
        text = "ich weiss nicht"
        ids = torch.tensor([self.ENTRIES.index(character) for character in text])
        brought = bring(identifier, vocabulary=self.ENTRIES, labels=("de", "en", "ro"))
        vocabulary = brought.model.vocabulary
        assert vocabulary.split(text) == list(text)
        assert vocabulary.encode(list(text)) == ids.tolist()
        with torch.no_grad():
            expected = identifier["fc"](identifier["lstm"](identifier["embedding"](ids))[0][-1])
        torch.testing.assert_close(served(brought, ids[None])[0], expected, rtol=0, atol=1e-5)

    def test_a_sample_may_be_a_text(self, bring, identifier, tmp_path):
        texts = ["ich weiss nicht", "no"]
        expected = []
        for text in texts:
            ids = torch.tensor([self.ENTRIES.index(character) for character in text])
            with torch.no_grad():
                expected.append(identifier["fc"](identifier["lstm"](identifier["embedding"](ids))[0][-1]).tolist())
        (tmp_path / "sample.json").write_text(json.dumps({"text": texts, "expected": expected}))
        brought = bring(identifier, vocabulary=self.ENTRIES, sample=tmp_path / "sample.json")
        assert brought.model.verified is not None
        assert brought.layers == "embedding,lstm,last,fc"
        with pytest.raises(InvalidInput, match="sample: it has a text, but the model reads none"):
            bring(identifier, name="other", sample=tmp_path / "sample.json")


class TestOneShardOfTwo:
    @pytest.fixture
    def shards(self, tmp_path):
        module = nn.ModuleDict({"lstm": nn.LSTM(3, 4, batch_first=True), "fc": nn.Linear(4, 2)})
        state = module.state_dict()
        parts = [{k: v for k, v in state.items() if ("lstm.weight" in k) == first} for first in (True, False)]
        files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for part, file in zip(parts, files, strict=True):
            save_file(part, tmp_path / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {k: f for p, f in zip(parts, files, strict=True) for k in p}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        return module

    @pytest.mark.usefixtures("shards")
    def test_one_alone_is_refused(self, bring, tmp_path):
        with pytest.raises(CheckpointError, match="part 1 of 2"):
            bring(tmp_path / "model-00001-of-00002.safetensors")

    def test_the_index_is_read_whole(self, bring, shards, tmp_path, sequences):
        brought = bring(tmp_path / "model.safetensors.index.json")
        rows = sequences(3)
        with torch.no_grad():
            brought.predicts(rows, [shards["fc"](shards["lstm"](row)[0]) for row in rows])


@pytest.mark.parametrize(
    "beside",
    [{"a"}, {-100: "ignore"}, {1609459200: 3.2}, {0.5: 1}, {("DE", 1): 0.3}, {True: "yes"}, 1j, bytearray(b"a")],
    ids=str,
)
def test_plain_data_beside_the_weights_does_no_harm(bring, beside, sequences):
    module = nn.LSTM(3, 4)
    brought = bring({"model_state_dict": module.state_dict(), "beside": beside})
    brought.traces({"lstm": module}, sequences(3)[0])


def test_random_numbers_state_beside_the_weights_does_no_harm(bring, sequences):
    module = nn.LSTM(3, 4)
    brought = bring({"model_state_dict": module.state_dict(), "beside": np.random.RandomState(1)})
    brought.traces({"lstm": module}, sequences(3)[0])
