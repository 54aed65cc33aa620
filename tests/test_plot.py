"""Time is labelled with tokens only where the traced LSTM has a step per token."""

import pytest

from gatescope import plot


@pytest.mark.parametrize(("steps", "labelled"), [(3, True), (2, False), (5, False)])
def test_tokens_label_the_steps_of_an_lstm_that_has_as_many(tmp_path, monkeypatch, steps, labelled):
    reply = {
        "model": {"name": "own", "version": "1"},
        "layers": [0],
        "directions": ["forward"],
        "signals": {"forget_gate": [[[[[0.5]] * steps]]]},
        "time_steps": list(range(steps)),
        "sequence_lengths": [steps],
        "tokens": [["a", "b", "c"]],
        "residual": 0.0,
    }
    seen = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_xticks", lambda _, *ticks, **__: seen.append(ticks[1:]))
    plot.save(reply, tmp_path / "trace.svg")
    assert (tmp_path / "trace.svg").stat().st_size
    assert (["a", "b", "c"],) in seen if labelled else not seen
