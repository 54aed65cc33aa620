"""The window of a head with one prediction per sequence, against the module itself on the cut sequences."""

import pytest
import torch

from gatescope import trace
from gatescope.decompose import Point
from gatescope.errors import InvalidInput
from gatescope.pipeline.query import Query
from gatescope.selection import Selection

WINDOW = 4
LENGTHS = (9, 3, 6)
NEXT = {"names": ("spare", "demand"), "mean": (0.0, 9.0), "std": (1.0, 5.0), "predicts": "next_step"}


@pytest.fixture
def windowed(case):
    """`windowed(…)`: as `case`, of a head behind the last step, trained on sequences of `WINDOW` steps."""

    def make(*given, steps="last", **arguments):
        made = case(*given, steps=steps, **arguments)
        made.pipeline.window = WINDOW
        return made

    return make


def by_hand(made, encode, sequence):
    """The module's values for the last steps, (value,)."""
    return made.module(encode(sequence[-WINDOW:])[None])[0, -1].detach()


@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2}, {"bidirectional": True, "steps": "mean"}])
def test_a_prediction_is_that_of_the_last_steps_alone(windowed, days, arguments):
    made, rows = windowed(**arguments), days(*LENGTHS)
    whole = made.ask(rows).prediction.values
    made.pipeline.window = None
    cut = torch.cat([made.ask([row[-WINDOW:]]).prediction.values for row in rows])
    torch.testing.assert_close(whole, cut, rtol=0, atol=1e-6)


def test_the_prediction_is_the_modules_own(windowed, days, encode):
    made, rows = windowed(), days(*LENGTHS)
    expected = torch.stack([by_hand(made, encode, row) for row in rows])
    torch.testing.assert_close(made.ask(rows).prediction.values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("time", [slice(None), slice(1, None, 2), slice(None, 2, -1), slice(0, 4)])
def test_the_trace_has_the_original_time_steps_and_nan_before_those_read(windowed, days, encode, time):
    made, rows = windowed(num_layers=2), days(*LENGTHS)
    answer = made.ask(rows, trace=Selection(time=time).resolve(made.pipeline.spec), output=True, final_state=True)
    assert answer.sequence_lengths.tolist() == list(LENGTHS)
    steps = list(range(max(LENGTHS))[time])
    for index, row in enumerate(rows):
        own = trace(made.module.lstm, encode(row[-WINDOW:])[None])
        first = max(0, len(row) - WINDOW)
        for name, values in answer.trace.signals.items():
            assert values.shape[3] == len(steps)
            for place, step in enumerate(steps):
                given = values[index, :, :, place]
                if first <= step < len(row):
                    torch.testing.assert_close(given, own.signals[name][0, :, :, step - first], rtol=0, atol=1e-6)
                else:
                    assert given.isnan().all()
        assert answer.output[index, :first].isnan().all()
        torch.testing.assert_close(answer.output[index, first : len(row)], own.output[0], rtol=0, atol=1e-6)
        for given, expected in zip(answer.final_state, own.final_state, strict=True):
            torch.testing.assert_close(given[:, index], expected[:, 0], rtol=0, atol=1e-6)
    assert answer.trace.residual < 1e-5


def test_an_explanation_is_of_the_step_as_it_was_read(windowed, days):
    made, (row,) = windowed(), days(9)
    given = made.ask([row], explain=Point(0, "forward", 5, 3)).explained
    cut = made.ask([row[-WINDOW:]], explain=Point(0, "forward", 0, 3)).explained
    assert (given.point.time_step, given.previous_time_step) == (5, None)
    for gate, terms in cut.decomposition.gates.items():
        assert given.decomposition.gates[gate].terms == terms.terms
    assert made.ask([row], explain=Point(0, "forward", 7, 3)).explained.previous_time_step == 6
    with pytest.raises(InvalidInput, match="time step 4 is not read"):
        made.ask([row], explain=Point(0, "forward", 4, 3))


@pytest.mark.parametrize("length", [2, 3, 9])
def test_each_fed_back_step_reads_the_last_steps_before_it(windowed, days, encode, length):
    made, (row,), horizon = windowed(output=NEXT), days(length), 5
    future = torch.stack(days(horizon))
    future[..., 0] = torch.nan
    given = made.ask([row], horizon=horizon, future_inputs=future).prediction.values[0]
    rows = list(row)
    for step, known in enumerate(future[0]):
        spare, demand = by_hand(made, encode, torch.stack(rows))
        torch.testing.assert_close(given[step], torch.stack((spare, demand * 5 + 9)), rtol=0, atol=1e-4)
        rows.append(torch.stack((demand * 5 + 9, known[1], known[2])))


def test_each_further_step_that_is_known_reads_the_last_steps_up_to_it(windowed, days, encode):
    made, (row,), horizon = windowed(), days(3), 4
    future = torch.stack(days(horizon))
    given = made.ask([row], horizon=horizon, future_inputs=future).prediction.values[0]
    whole = torch.cat((row, future[0]))
    expected = torch.stack([by_hand(made, encode, whole[: 4 + step]) for step in range(horizon)])
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


def test_a_horizon_beyond_the_window_has_no_one_trace_or_state(windowed, days, random):
    made, rows = windowed(output=NEXT), days(4)
    future = torch.stack(days(3))
    for asked, place in (({"output": True}, "horizon"), ({"initial_state": made.state(1, random)}, "initial_state")):
        with pytest.raises(InvalidInput) as refused:
            made.pipeline.answer(Query(rows[0][None], torch.tensor([4]), horizon=3, future_inputs=future, **asked))
        assert refused.value.places[0].loc == (place,)


def test_a_head_at_each_step_reads_the_whole_sequence(windowed, days):
    made, rows = windowed(steps="all"), days(*LENGTHS)
    with_window = made.ask(rows).prediction.values
    made.pipeline.window = None
    torch.testing.assert_close(with_window, made.ask(rows).prediction.values, rtol=0, atol=0, equal_nan=True)
