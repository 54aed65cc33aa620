import itertools

import numpy as np
import pytest
import torch

from gatescope.cells import LSTM
from gatescope.errors import InvalidInput
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.tracing import trace
from tests.bulk import some

LENGTHS = (6, 2, 4)
SLICES = (slice(None), slice(2, 5), slice(-3, None), slice(None, None, 2), slice(None, None, -1), slice(4, 0, -2))
SELECTIONS = itertools.product(
    (None, (2, 0)), (None, ("reverse",), ("reverse", "forward")), (None, (4,), (3, 0, 1)), SLICES
)


@pytest.fixture
def module(seeded_lstm):
    return seeded_lstm(3, 5, 3, bidirectional=True)


@pytest.fixture
def sequences(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


@pytest.mark.random
@pytest.mark.parametrize(("layers", "directions", "units", "time"), some(SELECTIONS, 5), ids=str)
def test_a_selection_is_a_slice_in_the_order_given(module, sequences, layers, directions, units, time):
    full = trace(module, sequences)
    signals = ("hidden_state", "input_gate")
    selected = trace(module, sequences, selection=Selection(signals, layers, directions, units, time))
    layer_axis = [0, 1, 2] if layers is None else list(layers)
    direction_axis = [("forward", "reverse").index(name) for name in directions or ("forward", "reverse")]
    unit_axis = list(range(5) if units is None else units)
    steps = list(range(6))[time]
    assert list(selected.signals) == list(signals)
    for signal in signals:
        expected = full.signals[signal][:, layer_axis][:, :, direction_axis][..., steps, :][..., unit_axis]
        torch.testing.assert_close(selected.signals[signal], expected, rtol=0, atol=0, equal_nan=True)
        assert selected.selection.shape(len(LENGTHS), 6) == tuple(expected.shape)
    torch.testing.assert_close(selected.output, full.output, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(selected.final_state.cell_state, full.final_state.cell_state)
    assert selected.residual == pytest.approx(full.residual, abs=2e-7)  # to rounding


@pytest.mark.parametrize("signal", LSTM.signal_names)
def test_one_signal_equals_that_of_the_whole_trace(module, sequences, signal):
    selected = trace(module, sequences, selection=Selection(signals=(signal,)))
    assert list(selected.signals) == [signal]
    full = trace(module, sequences).signals[signal]
    torch.testing.assert_close(selected.signals[signal], full, rtol=0, atol=0, equal_nan=True)


def test_without_signals_output_and_state_are_kept(module, sequences):
    selected = trace(module, sequences, selection=Selection(signals=()))
    assert selected.signals == {}
    torch.testing.assert_close(selected.output, trace(module, sequences).output, rtol=0, atol=0, equal_nan=True)


def test_units_beyond_a_projection_are_missing_in_hidden_state_only(seeded_lstm, sequences):
    module = seeded_lstm(3, 5, proj_size=2)
    full = trace(module, sequences)
    selected = trace(module, sequences, selection=Selection(units=(4, 1)))
    expected = full.cell_state[..., [4, 1]]
    torch.testing.assert_close(selected.cell_state, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(selected.hidden_state, full.hidden_state[..., [1]], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("selection", "place", "message"),
    [
        (Selection(signals=("input_gate", "gate")), ("signals", 1), "'gate'.*'hidden_state'"),
        (Selection(layers=(3,)), ("layers", 0), "layers has no 3; this model has 0 to 2"),
        (Selection(layers=(-1,)), ("layers", 0), "layers has no -1"),
        (Selection(directions=("backward",)), ("directions", 0), "'backward'.*'forward', 'reverse'"),
        (Selection(units=(0, 5)), ("units", 1), "units has no 5; this model has 0 to 4"),
        (Selection(units=(0, 1, 0)), ("units", 2), "0 is asked for twice"),
        (Selection(signals=("input_gate", "input_gate")), ("signals", 1), "'input_gate' is asked for twice"),
        (Selection(layers=()), ("layers",), "layers is empty"),
        (Selection(directions=()), ("directions",), "directions is empty"),
        (Selection(units=()), ("units",), "units is empty"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_what_the_module_lacks_is_refused_by_name(module, sequences, selection, place, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        trace(module, sequences, selection=selection)
    assert refused.value.places[0].loc == place


def test_every_wrong_name_is_reported_at_its_place(module):
    with pytest.raises(InvalidInput, match="and 1 more") as refused:
        Selection(units=(9, 0, 7)).resolve(Spec.from_module(module))
    assert [place.loc for place in refused.value.places] == [("units", 0), ("units", 2)]


def test_lists_ranges_and_arrays_select_as_tuples_do(module, sequences):
    given = Selection(signals=["cell_state"], layers=range(1), units=np.arange(2))
    expected = Selection(signals=("cell_state",), layers=(0,), units=(0, 1))
    values = [trace(module, sequences, selection=selection).cell_state for selection in (given, expected)]
    torch.testing.assert_close(*values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("axis", "given"), [("signals", "cell_state"), ("layers", 0), ("units", 3)])
def test_one_value_alone_is_no_selection(axis, given):
    with pytest.raises(InvalidInput, match=f"{axis}: must be a sequence, such as"):
        Selection(**{axis: given})


def test_a_step_of_zero_is_refused(module, sequences):
    with pytest.raises(InvalidInput, match="time"):
        trace(module, sequences, selection=Selection(time=slice(None, None, 0)))
