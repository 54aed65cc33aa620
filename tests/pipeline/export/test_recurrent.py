"""Recurrent nodes become modules: hooks hear their calls, and their traces are those of the equations."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gatescope.backends import reference
from gatescope.capture import Run, capture_calls, over_time, recurrent_modules
from gatescope.errors import CheckpointError
from gatescope.pipeline.export.module import ExportedModule
from gatescope.selection import Selection
from tests.bulk import some
from tests.pipeline.export.conftest import exported, widen

STEPS = 13
OVER_TIME = {
    "lstm": (nn.LSTM, {}),
    "lstm, two layers, both directions": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "lstm, projected": (nn.LSTM, {"proj_size": 2, "num_layers": 2}),
    "lstm, no bias": (nn.LSTM, {"bias": False}),
    "lstm, dropout": (nn.LSTM, {"num_layers": 2, "dropout": 0.5}),
    "lstm, time first": (nn.LSTM, {"batch_first": False, "bidirectional": True}),
    "gru": (nn.GRU, {"num_layers": 2}),
    "gru, no bias, both directions": (nn.GRU, {"bias": False, "bidirectional": True}),
    "rnn": (nn.RNN, {}),
    "rnn, relu": (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
}
CELLS = {
    "lstm cell": (nn.LSTMCell, {}),
    "gru cell": (nn.GRUCell, {}),
    "rnn cell": (nn.RNNCell, {}),
    "rnn cell, relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm cell, no bias": (nn.LSTMCell, {"bias": False}),
}


class Around(nn.Module):
    """A recurrent module between a scale and a sum."""

    def __init__(self, kind, options):
        super().__init__()
        inner = kind(3, 4, **{"batch_first": True, **options})
        self.encoder = nn.Module()
        self.encoder.rnn = inner

    def forward(self, x):
        is_first = self.encoder.rnn.batch_first
        output, _ = self.encoder.rnn(2.5 * x if is_first else 2.5 * x.transpose(0, 1))
        return (output if is_first else output.transpose(0, 1)).sum(-1)


class Loop(nn.Module):
    """A cell in a loop."""

    def __init__(self, kind, options):
        super().__init__()
        self.cell = kind(3, 4, **options)

    def forward(self, x):
        state, outputs = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


def heard(module, inputs):
    """What comes out, and the calls of the recurrent modules inside."""
    with torch.no_grad(), capture_calls(recurrent_modules(module)) as calls:
        returned = module(inputs)
    return (returned[0] if isinstance(returned, tuple) else returned), calls


def assert_same_calls(served, module, inputs):
    own, own_calls = heard(module, inputs)
    values, calls = heard(served, inputs)
    torch.testing.assert_close(values, own, rtol=0, atol=1e-6)
    assert calls.keys() == own_calls.keys()
    for name in calls:
        assert len(calls[name]) == len(own_calls[name])
        for call, expected in zip(calls[name], own_calls[name], strict=True):
            for value in ("inputs", "lengths", "output"):
                torch.testing.assert_close(getattr(call, value), getattr(expected, value), rtol=0, atol=1e-6)
            for value, other in zip(
                (*call.initial_state, *call.final_state), (*expected.initial_state, *expected.final_state), strict=True
            ):
                torch.testing.assert_close(value, other, rtol=0, atol=1e-6)
    return calls


def assert_traces(served, name, calls):
    """The trace of each row is that of the equations in float64."""
    inner = served.get_submodule(name)
    run = Run.of(name, inner, calls[name], len(calls[name][0].inputs))
    traced = run.traced(inner, Selection())
    assert traced.residual < 1e-5
    for index, row in enumerate(run.inputs):
        oracle = reference.run(over_time(inner), row.double(), None)
        for signal, values in traced.signals.items():
            torch.testing.assert_close(values[index].double(), oracle[signal], rtol=0, atol=1e-5)


@pytest.mark.random
@pytest.mark.parametrize("name", some(OVER_TIME, 2))
def test_a_recurrent_module_is_called_as_in_the_module_and_traced(load, name):
    module = widen(Around(*OVER_TIME[name]))
    served = load(module, torch.randn(2, STEPS, 3))
    assert list(recurrent_modules(served)) == ["encoder.rnn"]
    assert served.fixed_batch is served.fixed_steps is None
    for batch, steps in ((1, 1), (3, 9), (2, STEPS), (5, 60)):
        calls = assert_same_calls(served, module, torch.randn(batch, steps, 3))
    assert_traces(served, "encoder.rnn", calls)


@pytest.mark.random
@pytest.mark.parametrize("name", some(CELLS, 2))
def test_a_cell_in_a_loop_is_called_once_a_step_and_traced(load, name):
    module = widen(Loop(*CELLS[name]))
    served = load(module, torch.randn(2, 5, 3))
    assert served.fixed_steps == 5
    assert served.fixed_batch is None
    calls = assert_same_calls(served, module, torch.randn(3, 5, 3))
    assert len(calls["cell"]) == 5
    assert_traces(served, "cell", calls)


class Twice(nn.Module):
    """One module that runs twice, another with the same shapes, and one that is the first under another name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.GRU(3, 3, batch_first=True), nn.GRU(3, 3, batch_first=True)
        self.tied = self.first

    def forward(self, x):
        y, state = self.first(x)
        z, _ = self.tied(y, state)
        return self.second(z)[0]


def test_calls_with_the_same_weights_are_of_one_module(load):
    module = widen(Twice())
    served, x = load(module, torch.randn(2, STEPS, 3)), torch.randn(4, 6, 3)
    values, calls = heard(served, x)
    torch.testing.assert_close(values, module(x))
    assert {name: len(of_module) for name, of_module in calls.items()} == {"tied": 2, "second": 1}


class Bare(nn.LSTM):
    """The module itself is recurrent."""

    def forward(self, x):
        return super().forward(x)[0]


class Named(nn.Module):
    """Modules under names that a module's attributes have."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.LSTM(3, 4, batch_first=True)
        self.outputs = nn.ModuleList([nn.GRU(4, 2, batch_first=True)])

    def forward(self, x):
        return self.outputs[0](self.inputs(x)[0])[0]


def test_a_module_without_a_name_is_named_after_its_cell(load):
    assert list(recurrent_modules(load(widen(Bare(3, 4, batch_first=True)), torch.randn(2, STEPS, 3)))) == ["lstm"]


def test_names_that_are_taken_get_an_underscore(load):
    module = widen(Named())
    served = load(module, torch.randn(2, STEPS, 3))
    assert list(recurrent_modules(served)) == ["inputs_", "outputs_.0"]
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(served(x)[0], module(x))


def test_unrolled_modules_are_refused_with_the_remedy(save, tmp_path):
    path = tmp_path / "unrolled.pt2"
    module = widen(Around(nn.LSTM, {}))
    program = exported(module, torch.randn(2, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program.run_decompositions(), path)
    with pytest.raises(CheckpointError, match=r"calls no recurrent operator.*save what torch.export.export returned"):
        ExportedModule.load(path)


def test_weights_that_are_computed_are_refused_with_the_remedy(load):
    module = widen(Around(nn.LSTM, {}))
    parametrizations.weight_norm(module.encoder.rnn, "weight_hh_l0")
    with pytest.raises(CheckpointError, match=r"weights that the graph computes.*remove_parametrizations"):
        load(module, torch.randn(2, STEPS, 3))


def test_training_with_dropout_is_refused(load):
    module = widen(Around(nn.LSTM, {"num_layers": 2, "dropout": 0.5})).train()
    with pytest.raises(CheckpointError, match=r"aten.lstm.input\) runs as in training; call .eval\(\)"):
        load(module, torch.randn(2, STEPS, 3))
