"""Time is labelled with tokens only where the traced LSTM has a step per token."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from gatescope import plot


@pytest.mark.parametrize(("steps", "labelled"), [(3, True), (2, False), (5, False)])
def test_tokens_label_the_steps_of_an_lstm_that_has_as_many(tmp_path, monkeypatch, steps, labelled):
    reply = {
        "model": {"name": "own", "version": "1"},
        "layers": [0],
        "directions": ["forward"],
        "units": [0],
        "signals": {"forget_gate": [[[[[0.5]] * steps]]]},
        "time_steps": list(range(steps)),
        "sequence_lengths": [steps],
        "tokens": [["a", "b", "c"]],
        "residual": 0.0,
    }
    seen = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_xticks", lambda _, *ticks, **__: seen.append(ticks[1:]))
    plot.save(reply, {}, tmp_path / "trace.svg")
    assert (tmp_path / "trace.svg").stat().st_size
    assert (["a", "b", "c"],) in seen if labelled else not seen


SIGNALS = [
    {"name": "gate", "symbol": "i", "low": 0.0, "high": 1.0, "description": ""},
    {"name": "candidate", "symbol": "g", "low": -1.0, "high": 1.0, "description": ""},
    {"name": "state", "symbol": "c", "low": None, "high": None, "description": ""},
]


def test_each_signal_has_the_colours_of_its_range(tmp_path, monkeypatch):
    one, two = [[0.25, -0.5]], [[0.5, -7.5]]  # time, unit, of two layers
    reply = {
        "model": {"name": "own", "version": "1"},
        "layers": [0, 1],
        "directions": ["forward"],
        "units": [0, 1],
        "signals": {name: [[[one], [two]]] for name in ("gate", "candidate", "state", "unknown")},
        "time_steps": [0],
        "sequence_lengths": [1],
        "residual": 0.0,
    }
    drawn = []
    real = Axes.imshow

    def imshow(axes, values, **how):
        drawn.append((how["cmap"], how["vmin"], how["vmax"]))
        return real(axes, values, **how)

    monkeypatch.setattr(Axes, "imshow", imshow)
    plot.save(reply, {"signals": SIGNALS}, tmp_path / "trace.png")
    assert drawn[::2] == drawn[1::2]  # both layers stand on one scale
    assert drawn[::2] == [("cividis", 0, 1), ("RdBu_r", -1, 1), ("RdBu_r", -7.5, 7.5), ("RdBu_r", -7.5, 7.5)]


def test_units_and_steps_are_labelled_with_their_own_numbers():
    reply = {
        "layers": [0],
        "directions": ["forward"],
        "units": [7, 1, 4],
        "time_steps": [10, 12, 14],
        "sequence_lengths": [15],
        "signals": {"cell_state": np.zeros((1, 1, 1, 3, 3)), "hidden_state": np.zeros((1, 1, 1, 3, 2))},
    }
    whole, projected = plot.draw(reply, {}, "a title").axes[:2]
    assert [whole.yaxis.get_major_formatter()(at) for at in (-1, 0, 1, 2, 3)] == ["", "7", "1", "4", ""]
    assert [projected.yaxis.get_major_formatter()(at) for at in (0, 1, 2)] == ["1", "4", ""]
    assert [projected.xaxis.get_major_formatter()(at) for at in (0, 1, 2)] == ["10", "12", "14"]
