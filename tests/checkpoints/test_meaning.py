"""What the parts mean together, guessed or said, and what is said of the guesses."""

import pytest
from torch import nn

from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.parts import Parts
from gatescope.errors import InvalidInput


def of(module, **options):
    said = Options(**options)
    weights = {name: value.detach() for name, value in module.state_dict().items()}
    return infer_manifest.of(Parts.choose(Contents.of(weights), said), said)


def model(outputs=2, *, vocabulary=None, bidirectional=False, input_size=3):
    """Embedding → LSTM → head."""
    module = nn.Module()
    if vocabulary is not None:
        module.embedding = nn.Embedding(vocabulary, input_size)
    module.lstm = nn.LSTM(input_size, 4, bidirectional=bidirectional)
    if outputs is not None:
        module.fc = nn.Linear(8 if bidirectional else 4, outputs)
    return module


@pytest.mark.parametrize(
    ("module", "options", "task", "steps"),
    [
        (model(), {}, "regression", "all"),
        (model(), {"outputs": ("a", "b")}, "regression", "all"),
        (model(), {"labels": ("a", "b")}, "classification", "last"),
        (model(), {"labels": ("a", "b"), "steps": "all"}, "tagging", "all"),
        (model(), {"labels": ("a", "b"), "steps": "mean"}, "classification", "mean"),
        (model(), {"task": "tagging"}, "tagging", "all"),
        (model(), {"task": "classification"}, "classification", "last"),
        (model(vocabulary=9), {}, "classification", "last"),
        (model(vocabulary=9), {"steps": "all"}, "tagging", "all"),
        (model(9, vocabulary=9), {}, "next_token", "all"),
        (model(9, vocabulary=9), {"task": "tagging"}, "tagging", "all"),
        (model(1, vocabulary=9), {}, "regression", "all"),
        (model(3), {}, "regression", "all"),  # as wide as the input, but nothing says that these are tokens
        (model(3), {"characters": "abc"}, "next_token", "all"),
        (model(3), {"task": "next_token"}, "next_token", "all"),
        (model(None), {}, None, None),
        (model(None, vocabulary=9), {}, None, None),
    ],
)
def test_the_task_follows_from_what_comes_in_what_goes_out_and_what_is_said(module, options, task, steps):
    made = of(module, **options)
    head = made.manifest.head
    assert (made.manifest.task, head and head.steps) == (task, steps)
    notes = "\n".join(made.notes)
    assert ("--task" in notes) == (task is not None and "task" not in options)
    assert ("Steps: " in notes) == (task in ("regression", "classification") and "steps" not in options)


def test_a_classifier_that_reads_both_ways_is_told_that_last_and_final_differ():
    assert "--steps final" in "".join(of(model(bidirectional=True), labels=("a", "b")).notes)
    assert "--steps final" not in "".join(of(model(), labels=("a", "b")).notes)


def test_what_is_not_named_is_numbered_and_said():
    made = of(model())
    assert made.manifest.input.names == ["feature_0", "feature_1", "feature_2"]
    assert made.manifest.output.names == ("output_0", "output_1")
    assert "--features" in "".join(made.notes)
    assert "--outputs" in "".join(made.notes)
    assert of(model(), task="tagging").manifest.output.labels == ("0", "1")


def test_what_is_named_is_not_guessed():
    options = {"features": ("a", "b", "c"), "outputs": ("x", "y"), "task": "regression", "steps": "last"}
    made = of(model(), **options, description="mine")
    assert made.notes == ()
    assert made.manifest.description == "mine"
    assert made.manifest.input.names == ["a", "b", "c"]


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


@pytest.mark.parametrize(
    ("module", "options", "option", "message"),
    [
        (model(), {"features": ("a",)}, "features", "has 1 entries, but the LSTM's input has 3"),
        (model(), {"outputs": ("a",)}, "outputs", "has 1 entries, but the head's output has 2"),
        (model(), {"labels": ("a", "b", "c")}, "labels", "has 3 entries, but the head's output has 2"),
        (model(), {"labels": ("a", "b"), "task": "regression"}, "labels", "a regression has none"),
        (model(), {"outputs": ("a", "b"), "task": "tagging"}, "outputs", "a tagging has none"),
        (model(9, vocabulary=9), {"labels": ("a",), "task": "next_token"}, "labels", "a next_token has none"),
        (model(vocabulary=9), {"features": ("a", "b", "c")}, "features", "reads tokens"),
        (model(vocabulary=9), {"characters": "abc"}, "characters", "has 3 entries, but the embedding has 9"),
        (model(), {"characters": "abcd"}, "characters", "but the LSTM's one-hot input has 3"),
        (model(vocabulary=9), {"vocabulary": ("a",)}, "vocabulary", "has 1 entries, but the embedding has 9"),
        (model(1), {"task": "classification"}, "task", "the head gives one value: a regression"),
        (model(), {"task": "tagging", "steps": "last"}, "task", "head.steps must be 'all', not 'last'"),
        (model(), {"task": "classification", "steps": "all"}, "task", "head.steps must be last, final"),
        (model(), {"activation": "tanh"}, "activation", "nothing stands between"),
        (model(None), {"task": "regression"}, "task", "is about a head, but there is none: no linear layer"),
        (model(None), {"labels": ("a", "b")}, "labels", "is about a head"),
        (model(), {"head": ("none",), "steps": "all"}, "steps", "is about a head, but there is none"),
        (model(2), {"task": "next_token"}, "task", "the head gives 2 values, but there are 3 tokens"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_by_name(module, options, option, message):
    with pytest.raises(InvalidInput) as refused:
        of(module, **options)
    ((loc, said),) = refused.value.places
    assert loc == (option,)
    assert message in said
