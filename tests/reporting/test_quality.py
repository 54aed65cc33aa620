"""How well a model predicts is told beside a naive answer: quantities, labels and tokens."""

import json

import numpy as np
import pytest
import torch

from gatescope import load_model
from gatescope.errors import InvalidInput
from gatescope.pipeline.query import Query
from gatescope.reporting.of_model import Given, report_on
from gatescope.reporting.quality import measured, true_labels
from gatescope.tables.measures import of_labels

TEXT = "((x)()x)" * 8

ONE_EACH = """
description = "whether a sequence is wet"
task = "classification"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}, {name = "c"}]
[head]
steps = "last"
[output]
labels = ["dry", "wet"]
"""


def asked(model, *texts):
    """The query of some texts, padded."""
    ids = [torch.tensor(model.vocabulary.encode(text)) for text in texts]
    return Query(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.tensor([len(each) for each in ids]))


def depth_labels(text):
    """What `brackets` should tell of a text that is never broken."""
    depths = np.cumsum([(each == "(") - (each == ")") for each in text])
    return ["open" if depth else "balanced" for depth in depths]


@pytest.fixture(scope="module")
def brackets():
    """The model that tells whether brackets are open."""
    return load_model("models/brackets")


def test_labels_of_steps_are_told_beside_the_most_frequent_one(brackets):
    wrong = depth_labels(TEXT)
    wrong[:4] = ["broken"] * 4
    given = [[None, *wrong[1:]], depth_labels(TEXT[:20])]
    told = report_on(brackets, asked(brackets, TEXT, TEXT[:20]), Given(labels=given))
    of = told.about.quality["label"]
    known = [each for row in given for each in row if each]
    assert of["count"] == len(known) == len(TEXT) - 1 + 20
    assert of["accuracy"] == pytest.approx(1 - 3 / len(known))
    shares = np.array([known.count(each) for each in ("balanced", "open", "broken")]) / len(known)
    assert of["majority"] == pytest.approx(shares.max())
    assert of["baseline_log_loss"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert told.about.by_label["broken"] == {
        "recall": 0,
        "precision": 0,
        "f1": 0,
        "share": pytest.approx(3 / len(known)),
    }
    assert told.about.by_label["balanced"]["recall"] == 1
    assert "The label is right in 96 % of 83 cases" in told.how_well[0]
    assert json.dumps(told.to_dict()["how_well"])
    assert "<th scope=row>broken</th>" in told.to_html()


def test_the_next_token_is_that_of_the_text():
    model = load_model("models/shakespeare")
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n"
    query = asked(model, text, text[:30])
    prediction = model.pipeline.answer(query).prediction
    of, _ = true_labels(model, query, prediction, None).measures(prediction)
    losses, right = [], []
    for row, length in enumerate((len(text), 30)):
        logarithms = prediction.values[row, : length - 1].double().log_softmax(-1).numpy()
        following = query.inputs[row, 1:length].numpy()
        losses += (-logarithms[np.arange(length - 1), following]).tolist()
        right += (logarithms.argmax(-1) == following).tolist()
    assert of["count"] == len(text) + 30 - 2
    assert of["log_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert of["accuracy"] == pytest.approx(np.mean(right))
    assert of["log_loss"] < of["baseline_log_loss"]


def test_macro_f1_is_that_of_its_definition():
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 3, 0])
    scores = [2 * 2 / (3 + 3), 2 * 1 / (2 + 2), 0, 0]
    assert of_labels(predicted, actual)["macro_f1"] == pytest.approx(np.mean(scores))
    assert of_labels(predicted[:0], actual[:0])["accuracy"] is None


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([["closed"] * 4], "has 'closed', which model 'brackets' does not predict"),
        ([["open"] * 3], "has 3 steps"),
        ([["open"] * 4] * 2, "has 2 sequences"),
    ],
)
def test_labels_that_do_not_fit_are_refused(brackets, labels, said):
    with pytest.raises(InvalidInput) as refused:
        report_on(brackets, asked(brackets, "((x)"), Given(labels=labels))
    assert said in str(refused.value.places)


def test_a_model_of_the_next_step_is_compared_with_the_next_step():
    model = load_model("models/demand")
    load = torch.linspace(20_000, 30_000, 60, dtype=torch.float64)
    inputs = torch.stack([load, load, load + 10, torch.arange(60) % 48, torch.arange(60)], dim=1)
    query = Query(inputs[None], torch.tensor([60]))
    (row,) = measured(model, query, {})["demand_mw"]
    assert row[-1] is None
    assert row[-2] == 30_000
    told = report_on(model, query, Given())
    predicted = model.pipeline.answer(query).prediction.values[0, :, 0].double().numpy()
    known = [step for step, each in enumerate(row) if each is not None]
    errors = predicted[known] - load.numpy()[np.array(known) + 1]
    assert told.about.quality["demand_mw"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))


def test_a_label_of_a_sequence_is_told_once(model_folder):
    model = load_model(model_folder(manifest=ONE_EACH).path)
    query = Query(torch.randn(5, 30, 3, dtype=torch.float64), torch.tensor([30, 30, 20, 30, 10]))
    prediction = model.pipeline.answer(query).prediction
    chosen = prediction.values.argmax(-1).tolist()
    given = [["wet"] * 30, "wet", [None, *["dry"] * 19], None, "dry"]
    told = report_on(model, query, Given(labels=given))
    true = {0: 1, 1: 1, 2: 0, 4: 0}
    of = told.about.quality["label"]
    assert of["count"] == 4
    assert of["accuracy"] == pytest.approx(np.mean([chosen[row] == each for row, each in true.items()]))
    assert of["majority"] == 0.5
    losses = [-prediction.values[row].double().log_softmax(-1)[each] for row, each in true.items()]
    assert of["log_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    with pytest.raises(InvalidInput) as refused:
        report_on(model, query, Given(labels=[["wet", "dry"]] * 5))
    assert "predicts one label for a sequence" in str(refused.value.places)
