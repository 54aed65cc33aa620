"""The page of the two claims has the numbers that are kept beside it, and a small run makes such numbers."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from studies.claims import cost, page, plots, results
from studies.claims.learning import learn
from studies.claims.networks import (
    KINDS,
    LSTM,
    RNN_ORTHOGONAL,
    RNN_WIDE,
    UNGATED,
    build,
    parameters_of,
    units_like_lstm,
)
from studies.claims.reach import reach
from studies.claims.setup import Setup
from studies.claims.tasks import ADDING, COPY, LONGER_TASKS, TASKS, score

SMALL = Setup(
    units=4,
    steps=2,
    batch=2,
    longest=40,
    test_lengths=(10, 40),
    test_count=8,
    seeds=(1, 2),
    rates=(1e-2,),
    distances=(0, 1, 10, 20, 39),
    analysed=1,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder of the numbers of a small run."""
    folder = tmp_path_factory.mktemp("claims")
    for name, task in TASKS.items():
        results.write(learn(task, SMALL, lambda _: None), name, folder)
    for task in LONGER_TASKS:
        results.write(learn(task, SMALL, lambda _: None, UNGATED), f"{task.name}-longer", folder)
    results.write(cost.measure(lambda _: None, shapes=(cost.Shape(4, 1, 3),), rounds=2), "cost", folder)
    return folder


def test_the_page_has_the_tables_of_its_numbers():
    text, made = results.PAGE.read_text(), page.tables()
    assert {name for _, name, _ in page.MARK.findall(text)} == set(made)
    for name, table in made.items():
        assert f"<!-- table: {name} -->\n{table}\n<!-- end -->" in text


def test_decimals_in_the_text_stand_in_a_table():
    text = results.PAGE.read_text().partition("## What came out")[2].partition("## Claim 1")[0]
    shown = set(re.findall(r"\d+\.\d+", "".join(page.tables().values())))
    assert set(re.findall(r"\d+\.\d+", text)) <= shown


@pytest.mark.examples
def test_a_small_run_makes_tables_and_plots(measured, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text("<!-- table: adding_learnt -->\n<!-- end -->\nand <!-- table: cost_lstm -->\n<!-- end -->\n")
    page.write_tables(copy, measured)
    assert copy.read_text().count("\n| ") == 2 + len(KINDS) + 2 + 2
    plots.draw(measured, tmp_path)
    assert {path.name for path in tmp_path.glob("*.svg")} == {path.name for path in results.IMAGES.glob("claims-*.svg")}


@pytest.mark.examples
def test_a_run_is_repeatable(measured):
    again, kept = learn(COPY, SMALL, lambda _: None), results.read("copy", measured)
    for run, before in zip(again["runs"], kept["runs"], strict=True):
        assert {**run, "cpu_s": 0} == {**before, "cpu_s": 0}


def test_answers_of_adding_and_copy_are_those_of_their_inputs():
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (part.numpy() for part in ADDING.generate(9, 50, generator))
    assert np.allclose((inputs[..., 0] * inputs[..., 1]).sum(1), targets[:, 0])
    assert (inputs[:, :4, 1].sum(1) == 1).all()
    assert (inputs[:, 4:, 1].sum(1) == 1).all()
    inputs, targets = COPY.generate(9, 50, generator)
    assert (inputs[:, :3].argmax(-1) == targets).all()
    assert (inputs[:, 3:6].argmax(-1) == 4).all()
    assert (inputs[:, 6:].argmax(-1) == 5).all()


def test_naive_scores_are_those_of_constant_answers():
    batch = ADDING.generate(20, 20000, torch.Generator().manual_seed(0))
    assert score(ADDING, torch.ones(20000, 20, 1), batch) == pytest.approx(ADDING.naive, rel=0.05)
    batch = COPY.generate(9, 500, torch.Generator().manual_seed(0))
    assert score(COPY, torch.tensor([0.0, 1, 0, 0]).expand(500, 9, 4), batch) == COPY.naive


def test_the_wide_rnn_has_as_many_parameters_as_the_lstm():
    wide, lstm = (parameters_of(build(kind, 3, 2, 30, seed=0).recurrent) for kind in (RNN_WIDE, LSTM))
    assert wide == pytest.approx(lstm, rel=0.02)
    assert units_like_lstm(nn.LSTM, 3, 30) == 30
    assert parameters_of(nn.GRU(3, units_like_lstm(nn.GRU, 3, 30))) == pytest.approx(lstm, rel=0.02)


@torch.no_grad()
def test_the_reach_of_orthogonal_weights_is_that_of_finite_differences():
    network = build(RNN_ORTHOGONAL, COPY.inputs, COPY.outputs, 4, seed=0)
    found = reach(network, COPY, SMALL)["gradient"]["hidden_state"]
    inputs = COPY.generate(40, 400, torch.Generator().manual_seed(7)).inputs[:1].double()
    recurrent = network.double().recurrent
    states, step = recurrent(inputs)[0][0], 29  # ten steps before the last
    moved = (states[step] + 1e-6 * torch.eye(4, dtype=torch.float64)).detach()
    ends = torch.stack([recurrent(inputs[:, step + 1 :], row[None, None])[0][0, -1] for row in moved])
    jacobian = (ends - states[-1]) / 1e-6
    assert found[2] == pytest.approx(float(jacobian.norm()) / 2, rel=0.01)


def test_every_network_of_the_page_was_trained_from_five_seeds_or_more():
    for name in TASKS:
        part = results.read(name)
        for kind in KINDS:
            assert len(results.of_network(part, kind)) >= 5
        assert re.match(r"\d+\.\d+", part["setup"]["torch"])
