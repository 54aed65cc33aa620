"""`gatescope migrate`: manifests of format 1 become format 2 in place, or stay as they are."""

import json
import os
import sys
import tomllib

import pytest
import torch
from torch import nn

from gatescope.checkpoints import migrate as migrating
from gatescope.cli import main
from gatescope.errors import ManifestError
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query

LETTERS = """
description = "letters" # which ones
task = "next_token"

[input]
kind = "tokens"
vocabulary = "characters"
characters = "abcde"

[lstm]
hidden_size = 4

[head]

[output]
predicts = "next_step"
temperature = 0.7
seed = 4

[[examples]]
title = "a"
request = { text = "abc", horizon = 3 }
"""
CUSTOM = """
description = "an LSTM alone"
factory = "torch.nn:LSTM"
trial_steps = 6

[factory_arguments]
input_size = 2
hidden_size = 3
batch_first = true

[input]
kind = "features"
features = [{ name = "a" }, { name = "b" }]
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gatescope", "migrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def load(folder, version="1"):
    return Model.load(folder.path, version, torch.device("cpu"))


def toml_of(folder):
    return tomllib.loads((folder.path / "model.toml").read_text())


def files_of(folder):
    return sorted(str(path.relative_to(folder.models_dir)) for path in folder.models_dir.rglob("*") if path.is_file())


def test_every_model_is_migrated_and_answers_as_before(model_folder, run, random):
    tiny = model_folder("tiny", num_layers=2, bidirectional=True, head=(6, 2))
    model_folder("tiny", version="2", head=(3, 2), seed=5)
    tiny.edit('steps = "all"', 'steps = "final"\nactivation = "tanh"')
    letters = model_folder("letters", LETTERS, embedding=5, head=(5,))
    before = {
        (folder.path.name, version): load(folder, version)
        for folder, version in ((tiny, "1"), (tiny, "2"), (letters, "1"))
    }
    old = (letters.path / "model.toml").read_bytes()
    status, out, err = run("--models", tiny.models_dir)
    assert (status, err) == (0, "")
    kept = "Comments of the old file are not in the new one; it is kept as model.toml.v1."
    assert out.splitlines() == [
        f"letters: model.toml is of format 2 now; version 1 predicts the same as before, bit for bit. {kept}",
        f"tiny: model.toml is of format 2 now; versions 1, 2 predict the same as before, bit for bit. {kept}",
    ]
    assert (letters.path / "model.toml.v1").read_bytes() == old
    for (name, version), model in before.items():
        again = load(tiny if name == "tiny" else letters, version)
        shape = (3, 6) if name == "letters" else (3, 6, 3)
        inputs = torch.randint(5, shape, generator=random) if name == "letters" else torch.randn(shape)
        query = Query(inputs, torch.tensor([6, 2, 3]), final_state=True)
        mine, other = (each.pipeline.answer(query) for each in (again, model))
        assert torch.equal(mine.prediction.values.nan_to_num(), other.prediction.values.nan_to_num())
        assert all(torch.equal(*pair) for pair in zip(mine.final_state, other.final_state, strict=True))
        assert again.fingerprint == model.fingerprint
        assert again.examples == model.examples
    stated = toml_of(letters)
    assert stated["layers"] == [
        {"name": "embedding", "type": "embedding"},
        {"name": "lstm", "type": "lstm", "hidden_size": 4},
        {"name": "head.0", "type": "linear"},
    ]
    assert stated["heads"] == [{"task": "next_token", "predicts": "next_step", "temperature": 0.7, "seed": 4}]


def test_only_the_models_that_are_named_are(model_folder, run):
    one, two = model_folder("one"), model_folder("two")
    assert run("two", "--models", one.models_dir)[0] == 0
    assert "format" not in toml_of(one)
    assert toml_of(two)["format"] == 2


def test_a_model_of_format_2_is_said_to_be_one(model_folder, run):
    folder = model_folder()
    run("--models", folder.models_dir)
    files = files_of(folder)
    assert run("--models", folder.models_dir) == (0, "tiny: model.toml is of format 2 already\n", "")
    assert files_of(folder) == files


def test_versions_of_other_layers_are_refused_by_name_and_others_go_on(model_folder, run):
    folder = model_folder("mixed", head=(6, 2))
    model_folder("mixed", version="2", head=(2,))
    fine = model_folder("tiny")
    before = (folder.path / "model.toml").read_bytes()
    status, out, err = run("--models", folder.models_dir)
    assert status == 1
    assert err == (
        "gatescope: mixed is left as it is: version '2' of mixed has other layers (lstm: lstm, head.0: linear) than "
        "version '1' (lstm: lstm, head.0: linear, activation.0: activation, head.2: linear), and a manifest of format "
        "2 lists those of all: move one of the two to a model of its own\n"
    )
    assert out.startswith("tiny: model.toml is of format 2 now")
    assert (folder.path / "model.toml").read_bytes() == before
    assert not (folder.path / "model.toml.v1").exists()
    assert toml_of(fine)["format"] == 2


def test_a_version_that_cannot_be_loaded_stops_it(model_folder, run):
    folder = model_folder()
    folder.save({}, "2")
    files = files_of(folder)
    status, _, err = run("--models", folder.models_dir)
    assert (status, files_of(folder)) == (1, files)
    assert err.startswith("gatescope: tiny is left as it is: ")


def test_a_sample_must_hold_with_both(model_folder, run):
    folder = model_folder()
    sample = {"request": {"inputs": [[[0, 0, 0]]]}, "expected": [[[9.0, 9.0]]]}
    (folder.path / "1" / "sample.json").write_text(json.dumps(sample))
    assert "predictions are not those of sample.json" in run("--models", folder.models_dir)[2]
    assert "format" not in toml_of(folder)


def test_a_model_that_is_not_there_is_named(model_folder, run):
    folder = model_folder()
    status, _, err = run("rivr", "--models", folder.models_dir)
    assert (status, err) == (1, f"gatescope: rivr is left as it is: there is no model 'rivr' in {folder.models_dir}\n")


def test_a_model_without_weights_is_left(model_folder, run):
    folder = model_folder()
    folder.weights().unlink()
    assert "tiny has no weights" in run("--models", folder.models_dir)[2]


def test_code_is_run_where_it_may(model_folder, run, monkeypatch):
    folder = model_folder("own", CUSTOM)
    folder.save(nn.LSTM(2, 3, batch_first=True).state_dict())
    assert "this server runs no code" in run("--models", folder.models_dir)[2]
    monkeypatch.setenv("GATESCOPE_ALLOW_CODE", "true")
    assert run("--models", folder.models_dir)[0] == 0
    stated = toml_of(folder)
    assert (stated["format"], stated["trial_steps"]) == (2, 6)
    assert stated["factory_arguments"] == {"input_size": 2, "hidden_size": 3, "batch_first": True}


def test_another_prediction_is_never_written(model_folder, monkeypatch):
    folder = model_folder()
    files, real = files_of(folder), migrating.toml.dumps
    monkeypatch.setattr(
        migrating.toml,
        "dumps",
        lambda manifest, command: real(manifest, command).replace("mean = 1.0", "mean = 1.0000001"),
    )
    with pytest.raises(ManifestError, match="version '1' of tiny predicts something else with the new manifest"):
        migrating.migrate(folder.path)
    assert files_of(folder) == files
    assert [path.name for path in folder.models_dir.iterdir()] == ["tiny"]


def test_a_file_that_changes_meanwhile_is_not_overwritten(model_folder, monkeypatch):
    folder = model_folder()
    monkeypatch.setattr(migrating, "_compare", lambda *_: folder.append("\n# more\n"))
    with pytest.raises(ManifestError, match="was changed while it was looked at"):
        migrating.migrate(folder.path)
    assert (folder.path / "model.toml").read_text().endswith("# more\n")


def test_another_file_that_was_kept_is_not_overwritten(model_folder):
    folder = model_folder()
    (folder.path / "model.toml.v1").write_text("mine")
    with pytest.raises(ManifestError, match=r"tiny/model\.toml\.v1 is there already"):
        migrating.migrate(folder.path)
    assert "format" not in toml_of(folder)


def test_the_new_file_may_be_read_by_whom_the_old_one_might(model_folder):
    folder = model_folder()
    (folder.path / "model.toml").chmod(0o640)
    migrating.migrate(folder.path)
    for name in ("model.toml", "model.toml.v1"):
        assert os.stat(folder.path / name).st_mode & 0o777 == 0o640  # noqa: PTH116
