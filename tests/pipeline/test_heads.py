"""What a layer's values mean, and how they are read."""

import pytest
import torch
from pydantic import ValidationError

from gatescope.pipeline.heads import Head, HeadConfig
from gatescope.pipeline.layers.layer import Shape

LENGTHS = torch.tensor([3, 2])
PQ = ("P", "Q")


def head(task, width, *, is_probability=False, **fields):
    return Head(HeadConfig(task=task, **fields), Shape(width, is_probability=is_probability))


class TestQuantities:
    def test_an_output_is_value_times_std_plus_mean_but_at_least_its_minimum(self):
        made = head("regression", 2, names=("a", "b"), mean=(1.0, -2.0), std=(10.0, 0.5), minimum=(0.0, -3.0))
        values = torch.tensor([[0.5, 2.0], [-0.5, -4.0]])
        assert made.scaled(values).tolist() == [[6.0, -1.0], [0.0, -3.0]]

    def test_without_a_scale_the_values_are_the_outputs(self):
        values = torch.tensor([[-1e9, 2.5]])
        assert head("regression", 2, names=("a", "b")).scaled(values) is values

    def test_padding_stays_missing_below_a_minimum(self):
        assert head("regression", 1, names=("a",), minimum=(0.0,)).scaled(torch.tensor([[torch.nan]])).isnan().all()

    def test_the_scale_is_no_part_of_the_weights(self):
        assert not head("regression", 1, names=("a",), mean=(3.0,)).state_dict()

    def test_the_quantiles_of_each_name_stand_side_by_side_and_share_its_scale(self):
        made = head("quantile", 6, names=("a", "b"), quantiles=(0.1, 0.5, 0.9), mean=(10.0, -1.0), std=(2.0, 3.0))
        assert made.config.count(None) == ("names", 6)
        assert made.scaled(torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])).tolist() == [10, 12, 14, -1, 2, 5]

    @pytest.mark.parametrize(("task", "further"), [("regression", {}), ("quantile", {"quantiles": (0.5,)})])
    def test_a_quantity_has_no_labels(self, task, further):
        made = head(task, 1, names=("a",), **further)
        assert not made.has_choices
        assert made.choices(torch.zeros(2, 3, 1), LENGTHS) is None
        assert made.probabilities(torch.zeros(2, 3, 1)) is None


class TestScores:
    def test_the_best_score_is_chosen_and_softmax_is_its_probability(self, random):
        made, scores = head("tagging", 2, labels=PQ), torch.randn(2, 3, 2, generator=random)
        assert torch.equal(made.choices(scores, LENGTHS), scores.argmax(dim=-1))
        torch.testing.assert_close(made.probabilities(scores), scores.exp() / scores.exp().sum(-1, keepdim=True))

    @pytest.mark.parametrize("task", ["classification", "tagging", "next_token"])
    def test_probabilities_of_a_softmax_layer_are_not_softmaxed_again(self, task):
        labels = {} if task == "next_token" else {"labels": PQ}
        given = torch.tensor([[0.3, 0.7]])
        made = head(task, 2, is_probability=True, **labels)
        assert torch.equal(made.probabilities(given), given)
        assert made.choices(given, LENGTHS).tolist() == [1]

    @pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
    def test_a_binary_value_is_the_logit_of_the_second_label(self, random, threshold):
        made, logits = head("binary", 1, labels=PQ, threshold=threshold), torch.randn(2, 3, 1, generator=random) * 3
        positive = 1 / (1 + (-logits).exp())
        torch.testing.assert_close(made.probabilities(logits), torch.cat((1 - positive, positive), dim=-1))
        assert torch.equal(made.choices(logits, LENGTHS), (positive[..., 0] >= threshold).long())
        assert made.scaled(logits) is logits

    def test_a_binary_value_of_a_sigmoid_layer_is_the_probability(self):
        made = head("binary", 1, is_probability=True, labels=PQ, threshold=0.6)
        given = torch.tensor([[0.55], [0.65]])
        torch.testing.assert_close(made.probabilities(given), torch.tensor([[0.45, 0.55], [0.35, 0.65]]))
        assert made.choices(given, LENGTHS).tolist() == [0, 1]

    def test_labels_that_do_not_exclude_each_other_have_a_probability_each(self, random):
        made, logits = head("multi_label", 2, labels=PQ, threshold=0.3), torch.randn(2, 3, 2, generator=random)
        positive = logits.sigmoid()
        torch.testing.assert_close(made.probabilities(logits), positive)
        assert torch.equal(made.choices(logits, LENGTHS), positive >= 0.3)
        of_sigmoid = head("multi_label", 2, is_probability=True, labels=PQ)
        assert torch.equal(of_sigmoid.probabilities(positive), positive)


class TestConfig:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"task": "regression"}, "a regression needs names"),
            ({"task": "quantile", "quantiles": (0.5,)}, "a quantile needs names"),
            ({"task": "quantile", "names": ("a",)}, "`quantiles` goes with a quantile task"),
            ({"task": "regression", "names": ("a",), "quantiles": (0.5,)}, "`quantiles` goes with a quantile task"),
            ({"task": "quantile", "names": ("a",), "quantiles": (0.9, 0.1)}, "must be in ascending order"),
            ({"task": "quantile", "names": ("a",), "quantiles": (0.1, 0.1)}, "must be in ascending order"),
            ({"task": "quantile", "names": ("a",), "quantiles": (0.0, 0.5)}, "quantiles.0"),
            ({"task": "classification"}, "classification needs labels"),
            ({"task": "tagging"}, "tagging needs labels"),
            ({"task": "multi_label"}, "multi_label needs labels"),
            ({"task": "binary", "labels": ("P",)}, "two labels, the positive one second; there are 1"),
            ({"task": "binary", "labels": ("P", "Q", "R")}, "there are 3"),
            ({"task": "tagging", "labels": ("P", "P")}, "labels has an entry twice"),
            ({"task": "regression", "names": ("a", "a")}, "names has an entry twice"),
            ({"task": "binary", "labels": PQ, "threshold": 1.0}, "threshold"),
            ({"task": "translation", "names": ("a",)}, "task"),
            ({"task": "regression", "names": ("a",), "name": "day ahead"}, "name"),
            ({"task": "regression", "names": ("a",), "activation": "relu"}, "activation"),
            ({"task": "next_token", "temperature": -1.0}, "temperature"),
            ({"task": "next_token", "temperature": float("inf")}, "temperature"),
            ({"task": "next_token", "seed": -1}, "seed"),
        ],
        ids=str,
    )
    def test_fields_that_contradict_each_other_are_refused(self, fields, message):
        with pytest.raises(ValidationError, match=message):
            HeadConfig(**fields)

    @pytest.mark.parametrize("field", ["mean", "std", "minimum", "units"])
    def test_there_is_one_entry_per_name(self, field):
        value = ("mm",) if field == "units" else (1.0,)
        with pytest.raises(ValidationError, match=rf"{field} has 1 entries for 2 names"):
            HeadConfig(task="regression", names=("a", "b"), **{field: value})

    @pytest.mark.parametrize(
        "fields",
        [{"std": (0.0,)}, {"std": (float("nan"),)}, {"mean": (float("inf"),)}, {"minimum": (float("nan"),)}],
        ids=str,
    )
    def test_a_scale_that_makes_every_output_meaningless_is_refused(self, fields):
        with pytest.raises(ValidationError):
            HeadConfig(task="regression", names=("a",), **fields)

    def test_predictions_are_fed_back_by_name_and_only_of_the_next_step(self):
        names = ("demand", "price")
        features = ["hour", "price", "demand"]
        following = HeadConfig(task="regression", names=names, predicts="next_step")
        assert following.fed_back(features) == {2: 0, 1: 1}
        assert following.fed_back(["hour"]) == {}
        assert HeadConfig(task="regression", names=names).fed_back(features) == {}

    @pytest.mark.parametrize(
        ("fields", "count"),
        [
            ({"task": "next_token"}, ("vocabulary entries", 9)),
            ({"task": "binary", "labels": PQ}, ("value of a binary task", 1)),
            ({"task": "regression", "names": ("a", "b")}, ("names", 2)),
            ({"task": "multi_label", "labels": PQ}, ("labels", 2)),
        ],
    )
    def test_a_task_says_how_many_values_it_has(self, fields, count):
        assert HeadConfig(**fields).count(9) == count

    def test_a_task_says_whether_it_is_per_step(self):
        assert HeadConfig(task="tagging", labels=PQ).is_per_step is True
        assert HeadConfig(task="next_token").is_per_step is True
        assert HeadConfig(task="classification", labels=PQ).is_per_step is False
        assert HeadConfig(task="binary", labels=PQ).is_per_step is None
