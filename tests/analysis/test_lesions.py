from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import Selection, analyse, trace
from gatescope.analysis.subject import Subject
from gatescope.analysis.variants import predictions
from gatescope.errors import InvalidInput
from gatescope.interventions import Intervention, intervene


class Linear:
    names = ("y",)

    def __init__(self, width):
        torch.manual_seed(2)
        self.layer = nn.Linear(width, 1)

    def __call__(self, output):
        return self.layer(output)

    def only(self, _):
        return self


def silenced_by_hand(cell, inputs, unit, value, head):
    """The prediction (time,) with the hidden state of a unit set at every step, by a loop."""
    h, c = torch.zeros(1, cell.hidden_size), torch.zeros(1, cell.hidden_size)
    found = []
    for x in inputs:
        h, c = cell(x[None], (h, c))
        h = h.clone()
        h[:, unit] = value
        found.append(head.layer(h)[0, 0].item())
    return np.array(found)


@pytest.fixture
def network():
    torch.manual_seed(1)
    module, head = nn.LSTM(2, 5), Linear(5)
    cell = nn.LSTMCell(2, 5)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})
    return module, cell, head, torch.randn(12, 2)


@pytest.mark.parametrize("to", ["zero", "mean"])
def test_effects_are_those_of_a_loop(network, to):
    module, cell, head, inputs = network
    traced = trace(module, inputs)
    before = head(traced.output)[0, :, 0].detach().numpy()
    found = analyse(traced, "lesions", head=head, to=to)
    for unit in range(5):
        value = traced.hidden_state[0, 0, 0, :, unit].mean().item() if to == "mean" else 0.0
        after = silenced_by_hand(cell, inputs, unit, value, head)
        expected = np.sqrt(((after - before) ** 2).mean()) / before.std()
        assert found["effect"][0, 0, unit] == pytest.approx(expected, rel=1e-4)
    assert found["percentile"][0, 0, found["effect"][0, 0].argmax()] == 100
    assert found["percentile"][0, 0, found["effect"][0, 0].argmin()] == 0


def test_the_error_grows_by_what_a_loop_says(network):
    module, cell, head, inputs = network
    traced = trace(module, inputs)
    before = head(traced.output)[0, :, 0].detach().numpy()
    targets = before + np.random.default_rng(0).normal(0, 0.1, 12)
    targets[3] = np.nan
    given = [None if np.isnan(value) else value for value in targets]
    found = analyse(traced, "lesions", head=head, to="zero", targets=given)
    for unit in range(5):
        after = silenced_by_hand(cell, inputs, unit, 0.0, head)
        expected = np.sqrt(np.nanmean((after - targets) ** 2)) - np.sqrt(np.nanmean((before - targets) ** 2))
        assert found["error_change"][0, 0, unit] == pytest.approx(expected, abs=1e-5)


def test_some_units_have_the_others_as_control(network):
    module, _, head, inputs = network
    traced = trace(module, inputs)
    whole = analyse(traced, "lesions", head=head)
    part = analyse(replace(Subject.of(traced, head), selection=Selection(units=(4, 1))), "lesions")
    np.testing.assert_allclose(part["effect"][0, 0], whole["effect"][0, 0, [4, 1]], rtol=1e-6)
    np.testing.assert_allclose(part["percentile"][0, 0], whole["percentile"][0, 0, [4, 1]])


def test_ragged_batches_layers_directions_and_scopes():
    torch.manual_seed(4)
    module, head = nn.GRU(2, 3, 2, bidirectional=True), Linear(6)
    traced = trace(module, [torch.randn(9, 2), torch.randn(4, 2)])
    scopes = ("both", "recurrent", "outgoing")
    found = {scope: analyse(traced, "lesions", head=head, scope=scope)["effect"] for scope in scopes}
    assert found["both"].shape == (2, 2, 3)
    assert np.isfinite(found["both"]).all()
    assert not np.allclose(found["both"], found["recurrent"])
    assert (found["recurrent"] > 0).all()


def test_targets_that_do_not_fit_are_refused(network):
    module, _, head, inputs = network
    traced = trace(module, inputs)
    with pytest.raises(InvalidInput, match="has 3 steps; the sequence has 12"):
        analyse(traced, "lesions", head=head, targets=[1.0, 2.0, 3.0])
    with pytest.raises(InvalidInput, match="nothing was measured"):
        analyse(traced, "lesions", head=head, targets=[None] * 12)


def test_a_mean_is_that_of_each_sequence_and_equals_the_intervention_alone():
    torch.manual_seed(4)
    module, head = nn.GRU(2, 4, num_layers=2, batch_first=True), nn.Linear(4, 1)
    inputs, lengths = torch.randn(3, 9, 2), [9, 4, 6]
    subject = Subject.of(trace(module, inputs, lengths), head)
    edits = [Intervention("hidden_state", layer, units=(unit,), mean=True) for layer in (0, 1) for unit in range(4)]
    for edit, found in zip(edits, predictions(subject, edits), strict=True):
        alone = intervene(module, inputs, [edit], lengths).intervened.output
        torch.testing.assert_close(found, head(alone).detach().double(), equal_nan=True)
