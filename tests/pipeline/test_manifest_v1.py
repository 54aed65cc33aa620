"""Manifests of format 1: what they were refused for, and what they become."""

import pytest
import torch
from torch import nn

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query

WORDS = """
description = "words"
task = "tagging"

[input]
kind = "tokens"
vocabulary = "words"
file = "vocabulary.txt"

[head]

[output]
labels = ["NOUN", "VERB"]
"""
TOKENS = """
description = "letters"
task = "next_token"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcde"

[head]

[output]
predicts = "next_step"
temperature = 0.7
"""
CUSTOM = """
description = "a module of its own"
task = "regression"
factory = "package.module:function"
trial_steps = 5
default_version = "2"

[factory_arguments]
width = 3

[input]
kind = "features"
features = [{ name = "a" }]

[output]
names = ["x"]
"""
LSTM = {"lstm.weight_ih_l0": torch.zeros(8, 3)}


def changed(*replacements, manifest=None, more=""):
    """A manifest with parts replaced, each of which must be there."""
    text = WORDS if manifest is None else manifest
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    return text + more


class TestTranslation:
    def layers(self, folder, manifest, weights):
        made = read_manifest(folder(manifest)).translated(weights)
        return [layer.model_dump(exclude_unset=True) for layer in made.layers], made

    def test_an_embedding_the_lstm_and_a_linear_head(self, folder):
        weights = {"embedding.weight": torch.zeros(5, 3), "head.0.weight": torch.zeros(2, 2), **LSTM}
        layers, made = self.layers(folder, WORDS, weights)
        assert layers == [
            {"name": "embedding", "type": "embedding"},
            {"name": "lstm", "type": "lstm"},
            {"name": "head.0", "type": "linear"},
        ]
        assert made.format == 2
        assert made.head.labels == ("NOUN", "VERB")
        assert (made.head.task, made.head.layer) == ("tagging", None)

    def test_tokens_without_an_embedding_are_one_hot(self, folder):
        layers, made = self.layers(folder, TOKENS, {"head.0.weight": torch.zeros(5, 2), **LSTM})
        assert layers[0] == {"name": "embedding", "type": "one_hot"}
        assert (made.head.predicts, made.head.temperature) == ("next_step", 0.7)

    def test_the_layers_of_a_head_are_taken_by_number_with_activations_between(self, folder):
        weights = {f"head.{number}.weight": torch.zeros(2, 2) for number in (10, 0, 2)}
        manifest = changed("[head]", '[head]\nactivation = "tanh"')
        layers, _ = self.layers(folder, manifest, {**weights, **LSTM})
        assert [layer["name"] for layer in layers[2:]] == [
            "head.0",
            "activation.0",
            "head.2",
            "activation.2",
            "head.10",
        ]
        assert layers[3] == {"name": "activation.0", "type": "activation", "function": "tanh"}

    @pytest.mark.parametrize("steps", ["last", "final", "mean", "max"])
    def test_other_steps_than_all_are_a_pool(self, folder, steps):
        manifest = changed("[head]", f'[head]\nsteps = "{steps}"', '"tagging"', '"classification"')
        layers, _ = self.layers(folder, manifest, {"head.0.weight": torch.zeros(2, 2), **LSTM})
        assert layers[2] == {"name": "pool", "type": "pool", "how": steps}

    def test_without_a_head_nothing_is_predicted(self, folder):
        layers, made = self.layers(folder, changed('task = "tagging"', "", "[head]", ""), LSTM)
        assert [layer["type"] for layer in layers] == ["one_hot", "lstm"]
        assert made.heads == ()

    def test_stated_arguments_are_stated_of_the_layer(self, folder):
        manifest = changed("[head]", "[lstm]\nhidden_size = 4\nbias = true\n[head]")
        layers, _ = self.layers(folder, manifest, {"head.0.weight": torch.zeros(2, 2), **LSTM})
        assert layers[1] == {"name": "lstm", "type": "lstm", "hidden_size": 4, "bias": True}

    def test_a_factory_keeps_its_arguments(self, folder):
        made = read_manifest(folder(CUSTOM)).translated({})
        assert (made.factory, made.factory_arguments) == ("package.module:function", {"width": 3})
        assert (made.trial_steps, made.default_version, made.layers) == (5, "2", ())
        assert made.head.names == ("x",)

    def test_a_head_without_weights_is_refused(self, folder):
        with pytest.raises(
            WeightsError, match=r"the manifest has a \[head\], but the weights have no 'head\.0\.weight'"
        ):
            read_manifest(folder(WORDS)).translated(LSTM)

    @pytest.mark.parametrize("steps", ["all", "last", "final", "mean", "max"])
    def test_what_it_becomes_answers_as_the_trained_module(self, model_folder, random, steps):
        made = model_folder(num_layers=2, bidirectional=True, head=(6, 5, 2), activation=nn.Tanh)
        made.edit('steps = "all"', f'steps = "{steps}"\nactivation = "tanh"')
        model = Model.load(made.path, "1", torch.device("cpu"))
        raw = torch.randn(1, 6, 3, generator=random)
        fed = torch.cat(((raw[..., :1] - 1) / 2, raw[..., 1:]), dim=-1)
        output, (h_n, _) = made.module.lstm(fed)
        read = {
            "all": output,
            "last": output[:, -1],
            "final": torch.cat((h_n[-2], h_n[-1]), dim=-1),
            "mean": output.mean(dim=1),
            "max": output.amax(dim=1),
        }[steps]
        values = model.pipeline.answer(Query(raw, torch.tensor([6]))).prediction.values
        torch.testing.assert_close(values, made.module.head(read), rtol=0, atol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("manifest", "named"),
        [
            (changed("[head]", "[head]\nwidth = 3"), "head.width"),
            (changed("task =", "tsk ="), "tsk"),
            (changed(more="\n[training]\nepochs = 3\n"), "training"),
            (changed(more="temprature = 1.0\n"), "output.temprature"),
            (changed("[head]", "[lstm]\nbatch_first = true\n[head]"), "lstm.batch_first"),
            (changed('"tagging"', '"translation"'), "task"),
            (changed('"tagging"', '"binary"'), "task"),
            (changed("[head]", '[head]\nsteps = "first"'), "head.steps"),
            (changed("[head]", '[head]\nactivation = "gelu"'), "head.activation"),
            (changed("[head]", '[lstm]\nhidden_size = "wide"\n[head]'), "lstm.hidden_size"),
            (changed(more='predicts = "yesterday"\n'), "output.predicts"),
            (changed(more="mean = [inf]\n"), "output.mean.0"),
            (changed(more="std = [0.0]\n"), "output.std.0"),
        ],
    )
    def test_a_field_that_cannot_be_is_refused_at_its_place(self, refusal, manifest, named):
        assert f"river/model.toml: {named}" in refusal(manifest)

    @pytest.mark.parametrize(
        ("manifest", "message"),
        [
            (changed("[head]", ""), r"`task` and [head] go together"),
            (changed('task = "tagging"', ""), r"`task` and [head] go together"),
            (changed('"tagging"', '"regression"'), "a regression needs names"),
            (changed('labels = ["NOUN", "VERB"]', ""), "tagging needs labels"),
            (changed("[head]", '[head]\nsteps = "last"'), "head.steps must be 'all', not 'last'"),
            (changed('"tagging"', '"classification"'), "head.steps must be last, final, mean or max"),
            (changed(more="mean = [1.0]\n"), "mean has 1 entries for 0 names"),
            (changed("[head]", '[head]\nsteps = "mean"', manifest=TOKENS), "head.steps must be 'all', not 'mean'"),
            (changed("[input]", "trial_steps = 3\n[input]"), "`trial_steps` goes with `factory`"),
            (CUSTOM + "[head]\n", "leave [head] out"),
        ],
    )
    def test_parts_that_contradict_each_other_are_refused(self, refusal, manifest, message):
        refused = refusal(manifest)
        assert message in refused
        assert refused.startswith("river/model.toml: ")
        assert "Value error" not in refused

    def test_next_token_needs_tokens(self, model_folder):
        made = model_folder()
        made.edit('"regression"', '"next_token"')
        with pytest.raises(ManifestError, match="next_token needs an input of tokens"):
            read_manifest(made.path)
