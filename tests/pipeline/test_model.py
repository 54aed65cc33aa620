import pytest
import torch

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.spec import Spec

CPU = torch.device("cpu")
LETTERS = """
description = "letters"
task = "next_token"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcde"

[head]
"""
TAGGING = LETTERS.replace("next_token", "tagging") + '\n[output]\nlabels = ["NOUN", "VERB"]\n'


def load(folder, version="1"):
    return Model.load(folder.path, version, CPU)


def refusal(folder, kind):
    with pytest.raises(kind) as refused:
        load(folder)
    return str(refused.value)


class TestLoading:
    def test_a_loaded_model_answers_as_the_trained_module(self, model_folder, random):
        folder = model_folder(num_layers=2, bidirectional=True, head=(6, 2))
        model = load(folder)
        raw = torch.randn(2, 4, 3, generator=random)
        fed = torch.cat(((raw[..., :1] - 1) / 2, raw[..., 1:]), dim=-1)
        values = model.pipeline.answer(Query(raw, torch.tensor([4, 4]))).prediction.values
        torch.testing.assert_close(values, folder.module(fed), rtol=0, atol=1e-5)

    def test_a_model_knows_what_it_is(self, model_folder):
        folder = model_folder("river", num_layers=2, bidirectional=True)
        model = load(folder)
        assert (model.name, model.version, model.device, model.dtype) == ("river", "1", "cpu", "float32")
        assert model.spec == Spec(3, 4, num_layers=2, bidirectional=True)
        assert model.parameters == sum(value.numel() for value in folder.module.parameters())
        assert (model.vocabulary, model.labels, model.examples) == (None, (), [])

    def test_the_labels_of_a_next_token_model_are_its_vocabulary(self, model_folder):
        model = load(model_folder(manifest=LETTERS, embedding=5, head=(5,)))
        assert model.labels == tuple("abcde")
        assert load(model_folder("tagger", TAGGING, embedding=5)).labels == ("NOUN", "VERB")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_weights_of_another_precision_are_served_in_float32(self, model_folder, dtype):
        folder = model_folder()
        folder.save({name: value.to(dtype) for name, value in folder.module.state_dict().items()})
        model = load(folder)
        assert model.dtype == "float32"
        assert torch.equal(model.pipeline.lstm.weight_hh_l0, folder.module.lstm.weight_hh_l0.to(dtype).float())

    def test_each_version_has_its_own_weights(self, model_folder):
        folder = model_folder(seed=1)
        model_folder(version="2", seed=2, num_layers=3)
        assert load(folder, "1").spec.num_layers == 1
        assert load(folder, "2").spec.num_layers == 3

    def test_examples_are_read_with_the_model(self, model_folder):
        folder = model_folder(files={"examples/week.json": '{"inputs": [[[1, 2, 3]]]}'})
        folder.append('\n[[examples]]\ntitle = "week"\nfile = "examples/week.json"\n')
        assert load(folder).examples == [{"title": "week", "request": {"inputs": [[[1, 2, 3]]]}}]


class TestFormat2:
    LAYERS = """
format = 2
description = "a norm before the LSTM"

[input]
kind = "features"
features = [{ name = "a" }, { name = "b" }, { name = "c" }]

[[layers]]
name = "bn"
type = "batch_norm"

[[layers]]
name = "lstm"
type = "lstm"

[[layers]]
name = "head.0"
type = "linear"

[[heads]]
task = "regression"
names = ["x", "y"]

[[heads]]
name = "kinds"
layer = "lstm"
task = "tagging"
labels = ["P", "Q", "R", "S"]
"""

    def test_a_saved_state_dict_is_served_with_its_counter_of_batches(self, model_folder, random):
        folder = model_folder(manifest=self.LAYERS)
        norm = torch.nn.BatchNorm1d(3)
        norm(torch.randn(9, 3, generator=random))
        norm.eval().requires_grad_(requires_grad=False)
        folder.save({**folder.module.state_dict(), **{f"bn.{name}": v for name, v in norm.state_dict().items()}})
        model, raw = load(folder), torch.randn(1, 5, 3, generator=random)
        expected = folder.module(norm(raw.transpose(1, 2)).transpose(1, 2))
        answer = model.pipeline.answer(Query(raw, torch.tensor([5])))
        torch.testing.assert_close(answer.prediction.values, expected, rtol=0, atol=1e-5)
        assert (model.labels, model.labels_of("kinds")) == ((), ("P", "Q", "R", "S"))
        assert model.verified is None

    def test_weights_that_are_left_aside_are_named(self, model_folder):
        folder = model_folder(manifest=self.LAYERS.replace("format = 2", 'format = 2\nignored = ["bn", "ema"]'))
        folder.edit('[[layers]]\nname = "bn"\ntype = "batch_norm"\n', "")
        folder.save({**folder.module.state_dict(), "bn.weight": torch.ones(3), "ema.decay": torch.ones(1)})
        assert load(folder).pipeline.task == "regression"


class TestWeights:
    @pytest.fixture
    def folder(self, model_folder):
        return model_folder("river")

    @pytest.mark.parametrize("kept", [0, 4, 100, -1])
    def test_a_truncated_file_is_refused(self, folder, kept):
        whole = folder.weights().read_bytes()
        folder.weights().write_bytes(whole[:kept])
        assert "river/1/model.safetensors cannot be read" in refusal(folder, WeightsError)

    def test_a_pickle_is_not_read(self, folder):
        torch.save(folder.module.state_dict(), folder.weights())
        assert "river/1/model.safetensors cannot be read" in refusal(folder, WeightsError)

    def test_a_missing_file_is_refused(self, folder):
        folder.weights().unlink()
        assert "river/1/model.safetensors cannot be read" in refusal(folder, WeightsError)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_a_weight_that_is_no_number_is_refused_by_name(self, folder, value):
        weights = {name: tensor.clone() for name, tensor in folder.module.state_dict().items()}
        weights["lstm.bias_hh_l0"][3] = value
        folder.save(weights)
        assert "'lstm.bias_hh_l0' holds NaN or Infinity" in refusal(folder, WeightsError)

    def test_a_weight_too_large_for_float32_is_refused(self, folder):
        weights = {name: tensor.double() for name, tensor in folder.module.state_dict().items()}
        weights["head.0.bias"][0] = 1e300
        folder.save(weights)
        assert "'head.0.bias'" in refusal(folder, WeightsError)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
    def test_whole_numbers_are_refused_by_name_and_type(self, folder, dtype):
        weights = folder.module.state_dict()
        weights["lstm.weight_hh_l0"] = weights["lstm.weight_hh_l0"].to(dtype)
        folder.save(weights)
        assert f"'lstm.weight_hh_l0' holds {dtype}" in refusal(folder, WeightsError)

    def test_surplus_weights_are_refused_by_name(self, folder):
        folder.save(folder.module.state_dict() | {"norm.weight": torch.ones(4)})
        assert "'norm.weight'" in refusal(folder, WeightsError)

    def test_an_embedding_without_a_row_per_entry_is_refused(self, model_folder):
        folder = model_folder(manifest=LETTERS, embedding=4, head=(5,))
        assert "'embedding.weight' has 4 rows, but the vocabulary has 5 entries" in refusal(folder, ManifestError)

    def test_a_gru_is_recognised(self, folder):
        weights = {f"lstm.{name}": value for name, value in torch.nn.GRU(3, 4).state_dict().items()}
        folder.save({**folder.module.head.state_dict(prefix="head."), **weights})
        assert "is of type lstm, but its weights are those of an nn.GRU" in refusal(folder, WeightsError)


class TestStated:
    ARGUMENTS = (
        ("input_size", "9", "3"),
        ("hidden_size", "8", "4"),
        ("num_layers", "1", "2"),
        ("bias", "false", "True"),
        ("bidirectional", "false", "True"),
        ("proj_size", "0", "2"),
    )

    @pytest.mark.parametrize(("name", "stated", "inferred"), ARGUMENTS)
    def test_a_stated_argument_that_the_weights_contradict_shows_both(self, model_folder, name, stated, inferred):
        folder = model_folder(num_layers=2, bidirectional=True, proj_size=2)
        folder.append(f"\n[lstm]\n{name} = {stated}\n")
        refused = refusal(folder, ManifestError)
        assert f"{name} = {stated.capitalize()}" in refused
        assert f"{name} = {inferred}" in refused

    def test_arguments_that_agree_are_accepted(self, model_folder):
        folder = model_folder(num_layers=2)
        folder.append("\n[lstm]\ninput_size = 3\nhidden_size = 4\nnum_layers = 2\nbias = true\nproj_size = 0\n")
        assert load(folder).spec == Spec(3, 4, 2)

    def test_labels_and_head_must_agree(self, model_folder):
        folder = model_folder(manifest=TAGGING, embedding=5, head=(3,))
        assert "layer 'head.0' gives 3 values, but head 'prediction' has 2 labels" in refusal(folder, ManifestError)
