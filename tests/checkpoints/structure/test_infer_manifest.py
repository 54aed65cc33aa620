"""What the layers mean together, guessed or stated, and what is said of the guesses."""

import json

import pytest
from torch import nn

from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.understand import understand
from gatescope.errors import InvalidInput


def of(module, beside=None, **options):
    weights = {name: value.detach() for name, value in module.state_dict().items()}
    return understand(Contents.of(weights), Checkpoint(weights, (), beside or {}), Options(**options), None)


def model(outputs=2, *, vocabulary=None, bidirectional=False, input_size=3):
    """Embedding → LSTM → head."""
    module = nn.Module()
    if vocabulary is not None:
        module.embedding = nn.Embedding(vocabulary, input_size)
    module.lstm = nn.LSTM(input_size, 4, bidirectional=bidirectional)
    if outputs is not None:
        module.fc = nn.Linear(8 if bidirectional else 4, outputs)
    return module


def pool_of(manifest):
    """How the head reads the steps."""
    return next((layer.how for layer in manifest.layers if layer.type == "pool"), "all")


@pytest.mark.parametrize(
    ("module", "options", "task", "steps"),
    [
        (model(), {}, "regression", "all"),
        (model(), {"outputs": ("a", "b")}, "regression", "all"),
        (model(), {"steps": "sum"}, "regression", "sum"),
        (model(), {"labels": ("a", "b")}, "classification", "last"),
        (model(), {"labels": ("a", "b"), "steps": "all"}, "tagging", "all"),
        (model(), {"labels": ("a", "b"), "steps": "mean"}, "classification", "mean"),
        (model(), {"task": "tagging"}, "tagging", "all"),
        (model(), {"task": "classification"}, "classification", "last"),
        (model(), {"task": "multi_label", "labels": ("a", "b")}, "multi_label", "last"),
        (model(1), {"labels": ("no", "yes")}, "binary", "last"),
        (model(1), {"labels": ("no", "yes"), "steps": "all"}, "binary", "all"),
        (model(6), {"quantiles": ("0.1", "0.5", "0.9"), "outputs": ("a", "b")}, "quantile", "all"),
        (model(vocabulary=9), {}, "classification", "last"),
        (model(vocabulary=9), {"steps": "all"}, "tagging", "all"),
        (model(9, vocabulary=9), {}, "next_token", "all"),
        (model(9, vocabulary=9), {"task": "tagging"}, "tagging", "all"),
        (model(1, vocabulary=9), {}, "regression", "all"),
        (model(3), {}, "regression", "all"),  # as wide as the input, but nothing says that these are tokens
        (model(3), {"characters": "abc"}, "next_token", "all"),
        (model(3), {"task": "next_token"}, "next_token", "all"),
        (model(), {"output_activation": "softmax", "steps": "last"}, "classification", "last"),
        (model(None), {}, None, "all"),
        (model(None, vocabulary=9), {}, None, "all"),
    ],
)
def test_the_task_follows_from_what_comes_in_what_goes_out_and_what_is_said(module, options, task, steps):
    made = of(module, **options)
    assert (made.manifest.task, pool_of(made.manifest)) == (task, steps)
    notes = "\n".join(made.notes)
    assert ("--task" in notes) == (task is not None and "task" not in options)
    assert ("Layers: " in notes) == (task is not None)


def test_what_is_not_named_is_numbered_and_said():
    made = of(model())
    assert made.manifest.input.names == ["feature_0", "feature_1", "feature_2"]
    assert made.manifest.head.names == ("output_0", "output_1")
    assert "--features" in "".join(made.notes)
    assert "--outputs" in "".join(made.notes)
    assert of(model(), task="tagging").manifest.head.labels == ("0", "1")


def test_what_is_named_is_not_guessed():
    options = {"features": ("a", "b", "c"), "outputs": ("x", "y"), "task": "regression", "steps": "last"}
    made = of(model(), **options, description="mine")
    (note,) = made.notes
    assert note.startswith("Layers: lstm,last,fc (--layers")
    assert made.manifest.description == "mine"
    assert made.manifest.input.names == ["a", "b", "c"]


def test_labels_beside_the_weights_are_taken_where_they_are_as_many():
    assert of(model(), {"classes": ["sad", "glad"]}).manifest.head.labels == ("sad", "glad")
    assert of(model(1), {"classes": ["sad", "glad"]}).manifest.task == "binary"
    assert of(model(3), {"classes": ["sad", "glad"]}).manifest.task == "regression"


class TestScaler:
    def test_one_number_is_for_all_outputs(self):
        made = of(model(), scaler=json.dumps({"outputs": {"mean": 3.0, "std": 2.0}}))
        assert (made.manifest.head.mean, made.manifest.head.std) == ((3.0, 3.0), (2.0, 2.0))

    def test_one_for_each_feature_goes_to_it(self):
        made = of(model(), scaler=json.dumps({"inputs": {"mean": [1, 2, 3], "std": [4, 5, 6]}}))
        assert [(each.mean, each.std) for each in made.manifest.input.features] == [(1, 4), (2, 5), (3, 6)]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"scaler": {"outputs": {"mean": [1, 2, 3], "std": [4, 5, 6]}}}, "has 3 numbers for the outputs"),
            ({"scaler": {"outputs": {"mean": 1, "std": 4}}, "labels": ("a", "b")}, "gives scores"),
        ],
    )
    def test_one_that_does_not_fit_the_outputs_is_refused(self, options, message):
        with pytest.raises(InvalidInput, match=f"scaler: .*{message}"):
            of(model(), **options | {"scaler": json.dumps(options["scaler"])})


class TestVocabulary:
    def test_without_one_tokens_are_ids(self):
        made = of(model(vocabulary=9)).manifest.input
        assert (made.vocabulary, made.size) == ("ids", 9)

    @pytest.mark.parametrize(
        ("entries", "kind", "unknown"),
        [
            (("a", "b", "c"), "characters", None),
            (("<pad>", "<unk>", "c"), "characters", "<unk>"),
            (("[UNK]", "sun", "."), "words", "[UNK]"),
            (("the", "sun", "."), "words", None),
        ],
    )
    def test_a_list_is_of_characters_or_of_words(self, entries, kind, unknown):
        made = of(model(vocabulary=3), vocabulary=entries).manifest.input
        assert (made.vocabulary, made.file, made.unknown_token) == (kind, "vocabulary.txt", unknown)
        assert made.unknown == ("refuse" if unknown is None else "token")

    def test_a_table_may_have_spare_rows_that_no_text_reads(self):
        made = of(model(vocabulary=5), vocabulary=("the", "sun", "."))
        assert len(made.entries) == 5
        assert "2 rows more than the vocabulary" in "".join(made.notes)


@pytest.mark.parametrize(
    ("module", "options", "option", "message"),
    [
        (model(), {"features": ("a",)}, "features", "has 1 entries, but the model has 3"),
        (model(), {"outputs": ("a",)}, "outputs", "has 1 entries, but the head's output has 2"),
        (model(), {"labels": ("a", "b", "c")}, "labels", "has 3 entries, but the head's output has 2"),
        (model(), {"labels": ("a", "b"), "task": "regression"}, "labels", "a regression has none"),
        (model(), {"outputs": ("a", "b"), "task": "tagging"}, "outputs", "a tagging has none"),
        (model(9, vocabulary=9), {"labels": ("a",), "task": "next_token"}, "labels", "a next_token has none"),
        (model(vocabulary=9), {"features": ("a", "b", "c")}, "features", "reads tokens"),
        (model(vocabulary=9), {"characters": "abc"}, "characters", "has 3 entries, but the embedding has 9"),
        (model(), {"characters": "abcd"}, "characters", "but the LSTM's one-hot input has 3"),
        (model(vocabulary=9), {"vocabulary": ("a",)}, "vocabulary", "has 1 entries, but the embedding has 9"),
        (model(1), {"task": "classification"}, "task", "the head gives one value: regression or binary"),
        (model(), {"task": "tagging", "steps": "last"}, "task", "a prediction per sequence, which is no tagging"),
        (model(), {"task": "classification", "steps": "all"}, "task", "per time step, which is no classification"),
        (model(4), {"quantiles": ("0.1", "0.5", "0.9")}, "quantiles", "has 3 entries, but the model gives 4 values"),
        (model(2), {"quantiles": ("low", "high")}, "quantiles", "must be numbers, not 'low'"),
        (model(None), {"task": "regression"}, "task", "is about a prediction, but there is none: "),
        (model(None), {"labels": ("a", "b")}, "labels", "is about a prediction"),
        (model(2), {"task": "next_token"}, "task", "the head gives 2 values, but there are 3 tokens"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_by_name(module, options, option, message):
    with pytest.raises(InvalidInput) as refused:
        of(module, **options)
    ((loc, said),) = refused.value.places
    assert loc == (option,)
    assert message in said
