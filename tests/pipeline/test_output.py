import pytest
import torch
from pydantic import ValidationError

from gatescope.pipeline.output import OutputConfig, OutputScale


def test_an_output_is_head_times_std_plus_mean_but_at_least_its_minimum():
    scale = OutputScale(OutputConfig(names=("a", "b"), mean=(1.0, -2.0), std=(10.0, 0.5), minimum=(0.0, -3.0)))
    values = torch.tensor([[0.5, 2.0], [-0.5, -4.0]])
    assert scale(values).tolist() == [[6.0, -1.0], [0.0, -3.0]]


def test_without_a_scale_the_heads_values_are_the_outputs():
    values = torch.tensor([[-1e9, 2.5]])
    assert torch.equal(OutputScale(OutputConfig(names=("a", "b")))(values), values)


def test_padding_stays_missing_below_a_minimum():
    scale = OutputScale(OutputConfig(names=("a",), minimum=(0.0,)))
    assert scale(torch.tensor([[torch.nan]])).isnan().all()


def test_the_scale_is_no_part_of_the_weights():
    assert not OutputScale(OutputConfig(names=("a",))).state_dict()


@pytest.mark.parametrize("field", ["mean", "std", "minimum"])
def test_there_is_one_number_per_name(field):
    with pytest.raises(ValidationError, match=rf"output\.{field} has 1 numbers for 2 names"):
        OutputConfig(names=("a", "b"), **{field: (1.0,)})


@pytest.mark.parametrize("fields", [{"temperature": -1.0}, {"temperature": float("inf")}, {"seed": -1}], ids=str)
def test_a_draw_that_is_none_is_refused(fields):
    with pytest.raises(ValidationError):
        OutputConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [{"std": (0.0,)}, {"std": (float("nan"),)}, {"mean": (float("inf"),)}, {"minimum": (float("nan"),)}],
    ids=str,
)
def test_a_scale_that_makes_every_output_meaningless_is_refused(fields):
    with pytest.raises(ValidationError):
        OutputConfig(names=("a",), **fields)


def test_predictions_are_fed_back_by_name_and_only_of_the_next_step():
    names = ("demand", "price")
    features = ["hour", "price", "demand"]
    assert OutputConfig(names=names, predicts="next_step").fed_back(features) == {2: 0, 1: 1}
    assert OutputConfig(names=names, predicts="next_step").fed_back(["hour"]) == {}
    assert OutputConfig(names=names).fed_back(features) == {}
