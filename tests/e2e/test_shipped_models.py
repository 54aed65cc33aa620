"""The models that the project ships, as a new user meets them."""

import ast
import json
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from gatescope import load_model
from gatescope.pipeline.sample import Sample

MODELS = Path(__file__).parents[2] / "models"
NAMES = ["brackets", "demand", "pos-tagger", "river", "shakespeare"]


def examples(name):
    manifest = tomllib.loads((MODELS / name / "model.toml").read_text())
    return [
        example.get("request") or json.loads((MODELS / name / example["file"]).read_text())
        for example in manifest["examples"]
    ]


def test_all_five_are_ready_and_small(shipped):
    models = {model["name"]: model["state"] for model in shipped.get("/v1/models").json()["models"]}
    assert models == dict.fromkeys(NAMES, "ready")
    assert sum(path.stat().st_size for path in MODELS.glob("*/*/model.safetensors")) < 25e6


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_card_a_recipe_and_examples(name, shipped):
    assert (MODELS / name / "train.py").exists()
    card = (MODELS / name / "README.md").read_text().lower()
    assert "licence" in card
    assert "naive" in card
    assert shipped.get(f"/v1/models/{name}").json()["examples"]


@pytest.mark.parametrize("name", NAMES)
def test_its_examples_are_answered_and_traced(name, shipped):
    for request in examples(name):
        predicted = shipped.post(f"/v1/models/{name}/predict", json=request)
        traced = shipped.post(f"/v1/models/{name}/trace", json=request | {"units": [0], "time": {"stop": 20}})
        assert predicted.status_code == 200, predicted.text
        assert traced.status_code == 200, traced.text
        assert predicted.json()["prediction"]["values"]
        assert traced.json()["residual"] < 5e-5  # float32 rounding adds up over a long count


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_what_its_recipe_computed(name):
    model = load_model(MODELS / name)
    assert model.verified.by == "sample"
    assert model.verified.max_error <= 1e-5
    assert model.verified.tolerance == 1e-5
    lengths = {len(row) for row in Sample.read(MODELS / name / model.version).expected}
    assert len(lengths) > 1  # a ragged batch


@pytest.mark.parametrize("name", NAMES)
def test_its_manifest_is_of_format_2_and_its_card_tells_of_the_sample(name):
    assert tomllib.loads((MODELS / name / "model.toml").read_text())["format"] == 2
    assert "`--sample`" in (MODELS / name / "README.md").read_text()


@pytest.mark.parametrize(
    "script", [*sorted(MODELS.glob("*/*.py")), MODELS / "recipe.py"], ids=lambda path: path.parent.name
)
def test_recipes_use_nothing_of_what_they_are_compared_with(script):
    found = list(ast.walk(ast.parse(script.read_text())))
    imported = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in found if isinstance(node, ast.ImportFrom)}
    assert not any(name.partition(".")[0] == "gatescope" for name in imported)


@pytest.mark.parametrize("name", NAMES)
def test_its_recipe_writes_the_same_sample_again(name, tmp_path, monkeypatch):
    train = import_module(f"models.{name}.train")
    written = tmp_path / name / "1" / "sample.json"
    written.parent.mkdir(parents=True)
    save = train.recipe.save_sample

    def save_elsewhere(*arguments):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(train.recipe, "MODELS", tmp_path)
            save(*arguments)

    monkeypatch.setattr(train.recipe, "save_sample", save_elsewhere)
    monkeypatch.setattr("sys.argv", ["train", "--sample"])
    monkeypatch.setattr(train.recipe, "prepare", lambda: None)  # it would decide for the tests behind this one
    train.main()
    mine, shipped = (json.loads(path.read_text()) for path in (written, MODELS / name / "1" / "sample.json"))
    assert mine["request"] == shipped["request"]
    for one, other in zip(mine["expected"], shipped["expected"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def predict(shipped, name, body):
    return shipped.post(f"/v1/models/{name}/predict", json=body).json()


def test_i_love_china_is_pronoun_verb_proper_noun(shipped):
    reply = predict(shipped, "pos-tagger", {"text": "I love China"})
    assert reply["tokens"] == [["I", "love", "China"]]
    assert reply["prediction"]["labels"] == [["PRON", "VERB", "PROPN"]]


def test_the_tagger_reads_words_it_has_never_seen(shipped):
    reply = predict(shipped, "pos-tagger", {"text": "The snorkelious glibbers frambled quixotically."})
    assert reply["prediction"]["labels"][0][1:] == ["ADJ", "NOUN", "VERB", "ADV", "PUNCT"]


def test_brackets_deeper_and_longer_than_in_training_are_followed(shipped):
    text = "(" * 30 + "x" * 20 + ")" * 30 + "()" * 100
    depth = np.cumsum([{"(": 1, ")": -1}.get(character, 0) for character in text])
    labels = predict(shipped, "brackets", {"text": text})["prediction"]["labels"][0]
    assert labels == ["open" if level else "balanced" for level in depth]


def test_shakespeare_writes_the_same_text_each_time(shipped):
    body = {"text": "ROMEO:\n", "horizon": 120}
    texts = {predict(shipped, "shakespeare", body)["prediction"]["text"][0] for _ in range(2)}
    assert len(texts) == 1
    assert len(texts.pop()) == 120


def test_day_ahead_forecasts_beat_last_weeks_same_half_hours(shipped):
    rows = np.array(next(request for request in examples("demand") if request.get("horizon"))["inputs"])[0]
    errors, errors_of_last_week = [], []
    for days in (1, 2, 3, 4):  # before the end of the example: what came then is known
        past, future = np.split(rows[: len(rows) - 48 * (days - 1)], [-48])
        known = [[None, *row[1:]] for row in future.tolist()]
        request = {"inputs": [past.tolist()], "horizon": 48, "future_inputs": [known]}
        forecast = np.array(predict(shipped, "demand", request)["prediction"]["values"])
        assert forecast.shape == (1, 48, 1)
        errors.append(np.abs(forecast[0, :, 0] - future[:, 0]).mean())
        errors_of_last_week.append(np.abs(future[:, 1] - future[:, 0]).mean())
    assert np.mean(errors) < 0.8 * np.mean(errors_of_last_week)  # MW: 411 and 579


def test_discharge_is_never_negative(shipped):
    for request in examples("river"):
        for values in predict(shipped, "river", request)["prediction"]["values"]:
            assert np.min(values) >= 0
