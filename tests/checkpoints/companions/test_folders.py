"""Folders of Lightning and Hugging Face: which file has the weights, and what stands beside them."""

import json

import pytest

from gatescope.checkpoints.companions.folders import find
from gatescope.checkpoints.companions.hints import Hints, read_hints
from gatescope.errors import InvalidInput

HPARAMS = """
hidden_dim: 32
num_layers: 2
bidirectional: true
feature_cols: &id001 [rain, temperature]
again: *id001
target: discharge
num_classes: 3
label2id: {de: 0, en: 1, ro: 2}
optimizer: !!python/object/apply:torch.optim.Adam {}
activation: !!python/name:torch.nn.ReLU
"""


@pytest.fixture
def files(tmp_path):
    """A function that writes files by name, and gives the folder."""

    def write(**content):
        for name, text in content.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if isinstance(text, str) else json.dumps(text))
        return tmp_path

    return write


def refused(path):
    with pytest.raises(InvalidInput) as caught:
        find(path)
    (place,) = caught.value.places
    assert place.loc == ("checkpoint",)
    return place.message


@pytest.mark.parametrize(
    "start", ["", "lightning_logs", "lightning_logs/version_0", "lightning_logs/version_0/checkpoints"]
)
def test_lightnings_folders_lead_to_the_checkpoint(start, files):
    version = "lightning_logs/version_0"
    folder = files(**{f"{version}/hparams.yaml": HPARAMS, f"{version}/checkpoints/epoch=9-step=10.ckpt": ""})
    found = find(folder / start)
    assert found.weights == folder / version / "checkpoints/epoch=9-step=10.ckpt"
    assert found.hints == Hints(
        features=("rain", "temperature"),
        outputs=("discharge",),
        labels=("de", "en", "ro"),
        bidirectional=True,
        hidden_size=32,
        num_layers=2,
        output_size=3,
    )
    assert "Hyperparameters: read from hparams.yaml." in found.notes


def test_a_checkpoint_finds_what_stands_beside_it(files):
    folder = files(**{"hparams.yaml": HPARAMS, "model.ckpt": "", "checkpoints/last.ckpt": ""})
    for name in ("model.ckpt", "checkpoints/last.ckpt"):
        assert find(folder / name).hints.hidden_size == 32


def test_a_checkpoint_alone_has_no_hints(files):
    folder = files(**{"checkpoints/model.pt": ""})
    found = find(folder / "checkpoints/model.pt")
    assert (found.weights, found.hints, found.notes) == (folder / "checkpoints/model.pt", Hints(), ())


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["epoch=1.ckpt", "last.ckpt"], "last.ckpt"),
        (["best-epoch=1.ckpt", "last.ckpt", "epoch=0.ckpt"], "best-epoch=1.ckpt"),
        (["bestmodel.pt", "optimizer.pt", "training_args.bin"], "bestmodel.pt"),
        (["model.pt", "optimizer.pt", "scheduler.pt", "notes.txt"], "model.pt"),
    ],
)
def test_of_several_checkpoints_best_or_last_is_taken(names, taken, files):
    folder = files(**dict.fromkeys(names, ""))
    found = find(folder)
    assert found.weights.name == taken
    assert len([name for name in names if name.endswith("ckpt")]) < 2 or f"Weights: {taken}" in found.notes[0]


def test_several_checkpoints_without_a_choice_are_named(files):
    message = refused(files(**{"a.ckpt": "", "b.ckpt": ""}))
    assert "has several checkpoints, 'a.ckpt', 'b.ckpt'" in message
    assert message.endswith("give one")


def test_several_runs_are_named(files):
    names = [f"lightning_logs/version_{number}/checkpoints/last.ckpt" for number in (0, 1)]
    assert "several runs with checkpoints, 'version_0', 'version_1'" in refused(files(**dict.fromkeys(names, "")))


def test_a_folder_without_checkpoints_is_refused(files):
    assert "has no checkpoint" in refused(files(**{"notes.txt": ""}))


def test_hugging_faces_folder_says_labels_task_and_vocabulary(files):
    config = {
        "architectures": ["LSTMForSequenceClassification"],
        "problem_type": "multi_label_classification",
        "id2label": {"0": "joy", "1": "anger"},
        "vocab_size": 4,
        "hidden_size": 16,
        "num_hidden_layers": 2,
    }
    folder = files(
        **{
            "config.json": config,
            "model.safetensors": "",
            "pytorch_model.bin": "",
            "vocab.txt": "[PAD]\n[UNK]\nthe\ncat\n",
            "tokenizer_config.json": {"do_lower_case": True},
        }
    )
    found = find(folder)
    assert found.weights.name == "model.safetensors"
    assert found.hints == Hints(
        labels=("joy", "anger"),
        vocabulary=("[PAD]", "[UNK]", "the", "cat"),
        task="multi_label",
        lowercase=True,
        hidden_size=16,
        num_layers=2,
        vocabulary_size=4,
    )


def test_token_classification_is_tagging(files):
    config = {"architectures": ["LSTMForTokenClassification"], "label2id": {"NN": 0, "DET": 1}}
    found = find(files(**{"config.json": config, "pytorch_model.bin": ""}))
    assert (found.hints.task, found.hints.labels) == ("tagging", ("NN", "DET"))


def test_a_tokenizer_of_parts_of_words_is_not_used(files):
    tokenizer = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    found = find(files(**{"config.json": {}, "model.safetensors": "", "tokenizer.json": tokenizer}))
    assert found.hints.vocabulary == ()
    assert "Vocabulary: not used; tokenizer.json: is a tokenizer of type 'BPE'" in "\n".join(found.notes)


def test_a_vocabulary_that_is_larger_than_the_embedding_is_not_used(files):
    found = find(files(**{"config.json": {"vocab_size": 2}, "model.safetensors": "", "vocab.txt": "a\nb\nc\n"}))
    assert found.hints.vocabulary == ()
    assert "it has 3 entries, and config.json says 2" in "\n".join(found.notes)


INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
PARTS = dict.fromkeys(INDEX["weight_map"].values(), "")


def test_an_index_stands_for_its_parts(files):
    folder = files(**{"model.safetensors.index.json": INDEX, **PARTS})
    found = find(folder)
    assert found.weights.name == "model.safetensors.index.json"
    assert find(folder / "model.safetensors.index.json").weights == found.weights


def test_parts_without_an_index_are_no_model(files):
    assert "without their index" in refused(files(**PARTS))


@pytest.mark.parametrize("text", ["a: [", "a: &a [*a]", "- " * 100 + "1", "3", ""])
def test_hyperparameters_that_cannot_be_read_do_not_stop_the_import(text, files):
    found = find(files(**{"hparams.yaml": text, "model.ckpt": ""}))
    assert (found.weights.name, found.hints) == ("model.ckpt", Hints())


def test_what_is_said_in_two_ways_is_not_taken():
    hints, notes = read_hints({"hidden_size": 8, "decoder": {"hidden_size": 16, "bidirectional": True}})
    assert hints == Hints(bidirectional=True)
    assert notes == (
        "The configuration says hidden_size in 2 ways (hidden_size = 8, decoder.hidden_size = 16); none is taken.",
    )


def test_hints_of_the_wrong_type_are_not_taken():
    data = {
        "hidden_size": "8",
        "num_layers": True,
        "features": [1, 2],
        "target": ["a", "a"],
        "bidirectional": 1,
        "lower": 0.1,
    }
    assert read_hints(data) == (Hints(), ())


def test_stated_hints_come_before_others():
    stated, other = (
        Hints(features=("a",), bidirectional=False),
        Hints(features=("b",), bidirectional=True, hidden_size=3),
    )
    assert stated.over(other) == Hints(features=("a",), bidirectional=False, hidden_size=3)
