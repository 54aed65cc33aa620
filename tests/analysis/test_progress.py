"""An analysis that takes long tells how far it is, ends where nobody waits, and refuses first what it would refuse."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from gatescope.analysis import analysis as module
from gatescope.analysis import registry, variants
from gatescope.analysis.subject import Subject
from gatescope.errors import DeadlineExceeded, InvalidInput
from gatescope.tracing import trace

STEPS = 160
SERIES = [{"name": name, "values": torch.randn(STEPS).tolist()} for name in ("one", "two")]
LONG = {
    "attribution": {},
    "correlation": {"series": SERIES, "max_lag": 2},
    "gradient_flow": {},
    "lesions": {},
    "periodicity": {},
    "probe": {"series": SERIES, "folds": 2},
    "selectivity": {"classes": ["a", "b"] * (STEPS // 2)},
}


@pytest.fixture
def subject(monkeypatch):
    """One sequence through two layers, with a head whose prediction is no function of one step alone."""
    monkeypatch.setattr(variants, "VARIANT_FLOATS", 3 * STEPS * 4)
    torch.manual_seed(0)
    traced = trace(nn.LSTM(3, 4, 2), torch.randn(STEPS, 3))
    return Subject.of(traced, lambda output: torch.tanh(output).cumsum(1)[..., :2])


def found(subject, name):
    analysis = registry.analyses()[name]
    return analysis.find(subject, registry.read_parameters(analysis, LONG[name]))


@pytest.mark.parametrize("name", LONG)
def test_what_is_done_grows_from_nothing_and_stays_below_all(subject, name):
    told = []
    watched = replace(subject, on_progress=lambda done, total: told.append(done / total))
    assert str(found(watched, name)) == str(found(subject, name))
    assert len(told) > 1
    assert told[0] == 0
    assert all(before <= after for before, after in pairwise(told))
    assert 0.4 < told[-1] < 1


@pytest.mark.parametrize("name", LONG)
def test_it_ends_where_nobody_waits_any_more(subject, name):
    told = []
    left = replace(subject, on_progress=lambda *done: told.append(done), is_cancelled=lambda: len(told) == 2)
    with pytest.raises(DeadlineExceeded):
        found(left, name)
    assert len(told) == 2


REFUSED = {
    "attribution": {"targets": ["nothing"]},
    "connectivity": {"target": "nothing"},
    "correlation": {"series": [{"name": "one", "values": [0.0, 1.0, 2.0]}]},
    "decomposition": {"direction": "reverse"},
    "gradient_flow": {"time_step": STEPS},
    "lesions": {"targets": [None] * STEPS},
    "memory": {"changed_step": STEPS},
    "periodicity": {"sequence": 1},
    "probe": {"series": SERIES, "folds": 12},
    "selectivity": {"classes": ["a"] * STEPS},
}


@pytest.mark.parametrize("name", REFUSED)
def test_parameters_that_do_not_fit_are_refused_before_anything_runs(subject, name):
    analysis = registry.analyses()[name]
    parameters = registry.read_parameters(analysis, REFUSED[name])
    blank = replace(subject, known=None, inputs=torch.zeros(()).expand(1, STEPS, 3))
    with pytest.raises(InvalidInput) as refused:
        parameters.check(blank)
    with pytest.raises(InvalidInput) as told:
        analysis.find(subject, parameters)
    assert told.value.places == refused.value.places


def test_all_that_look_at_some_sequence_check_it():
    for name, analysis in registry.analyses().items():
        if issubclass(analysis.parameters, module.OneSequence):
            assert name in REFUSED
