"""The readings of an arrangement, the simplest first, and how many of them are looked at."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gatescope.checkpoints.structure.arrange import Arranger
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.readings import Open, Readings, cheapest

SLOTS = st.lists(st.lists(st.floats(-2, 2), min_size=1, max_size=4), min_size=1, max_size=4)


@given(slots=SLOTS, most=st.integers(1, 40))
def test_the_cheapest_ways_are_those_of_trying_them_all(slots, most):
    ways = cheapest(slots, most)
    costs = [sum(slot[choice] for slot, choice in zip(slots, way, strict=True)) for way in ways]
    every = sorted(sum(way) for way in product(*slots))
    assert costs == pytest.approx(every[:most])
    assert len(set(ways)) == len(ways)


def readings(module, options=Options(), found=Open()):  # noqa: B008 - frozen
    (arrangement,) = Arranger(Contents.of(module.state_dict()), options).arrangements()
    return Readings(arrangement, options, found)


HEAD = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "fc1": nn.Linear(4, 5), "fc2": nn.Linear(5, 1)})


def test_the_simplest_reading_has_a_relu_between_linear_layers():
    assert readings(HEAD, found=Open(per_step=False)).simplest(1) == [("lstm", "last", "fc1", "relu", "fc2")]
    assert readings(HEAD, found=Open(per_step=True)).simplest(1) == [("lstm", "fc1", "relu", "fc2")]


def test_every_reading_is_there_once():
    every = readings(HEAD, found=Open(per_step=False)).simplest(10**6)
    assert len(set(every)) == len(every)
    assert {("lstm", "max", "tanh", "fc1", "gelu", "fc2", "sigmoid"), ("lstm", "fc1", "fc2", "mean")} <= {*every}


def test_what_is_stated_is_not_tried_in_other_ways():
    options = Options(steps="sum", activation="tanh", output_activation="none")
    assert readings(HEAD, options).simplest(100) == [("lstm", "sum", "fc1", "tanh", "fc2")]


def test_functions_that_cannot_give_the_expected_values_are_not_tried():
    found = Open(per_step=False, impossible=frozenset({"relu", "softmax"}))
    assert not any(chain[-1] in {"relu", "softmax"} for chain in readings(HEAD, found=found).simplest(10**5))


def test_near_readings_differ_in_one_choice():
    made = readings(HEAD, found=Open(per_step=False))
    (simplest,) = made.simplest(1)
    near = set(made.near(simplest))
    assert {(*simplest, "relu"), ("lstm", "mean", "fc1", "relu", "fc2"), ("lstm", "last", "fc1", "fc2")} <= near
    assert ("lstm", "mean", "fc1", "fc2") not in near


def test_final_states_are_taken_before_the_directions_are_merged():
    module = nn.ModuleDict({"lstm": nn.LSTM(3, 4, bidirectional=True), "fc": nn.Linear(4, 1)})
    every = readings(module, found=Open(per_step=False)).simplest(10**5)
    assert ("lstm", "final", "directions=sum", "fc") in every
    assert ("lstm", "directions=sum", "final", "fc") not in every
