"""A cell is data: every cell is complete, and a further cell is one more value."""

import copy
import itertools
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from gatescope import cells, spec, state
from gatescope.backends import probe, reference
from gatescope.capture import Run, capture_calls
from gatescope.cells import CELLS, LSTM, SIGMOID, TANH, Cell, Factor, Function, Gate, Signal, Term, Update, cell_of
from gatescope.decompose import Point, explain
from gatescope.forward import forward
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace


def _complement(values):
    return 1 - values


def _gru_step(x, states, weights):
    (h,) = states
    r_x, z_x, n_x = (x @ weights.weight_ih.T + weights.bias_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = (h @ weights.weight_hh.T + weights.bias_hh).chunk(3, dim=-1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    h = (1 - z) * n + z * h
    return {"reset_gate": r, "update_gate": z, "candidate": n, "recurrent_candidate": n_h, "hidden_state": h}


def _gru_replay(weights, inputs, initial, hidden_state):
    previous = torch.cat((initial[0], hidden_state[:-1]))
    signals = _gru_step(inputs, (previous,), weights)
    gates = torch.cat([signals[name] for name in ("reset_gate", "update_gate", "candidate")], dim=-1)
    return (gates, signals["recurrent_candidate"]), (hidden_state,)


def _gru_residual(signals, previous, _):
    h, z, n = (signals[name] for name in ("hidden_state", "update_gate", "candidate"))
    before = torch.cat((previous[0][None], h[:-1]))
    return (1 - z) * n + z * before - h


COMPLEMENT = Function("complement", _complement, "(1 − {})")
GRU = Cell(
    name="gru",
    module=nn.GRU,
    states=("hidden_state",),
    gates=(
        Gate("reset_gate", SIGMOID),
        Gate("update_gate", SIGMOID),
        Gate("candidate", TANH, recurrent_scale="reset_gate"),
    ),
    signals=(
        Signal("reset_gate", "r", 0, 1, "sequential", ""),
        Signal("update_gate", "z", 0, 1, "sequential", ""),
        Signal("candidate", "n", -1, 1, "diverging", ""),
        Signal("recurrent_candidate", "q", None, None, "diverging", "", is_on_request=True),
        Signal("hidden_state", "h", -1, 1, "diverging", "", is_projected=True),
    ),
    updates=(
        Update(
            "hidden_state",
            (
                Term("candidate_term", (Factor("update_gate", function=COMPLEMENT), Factor("candidate"))),
                Term("carried_term", (Factor("update_gate"), Factor("hidden_state", is_previous=True))),
            ),
        ),
    ),
    blocks=(("reset_gate", "update_gate", "candidate"), ("recurrent_candidate",)),
    residual_signals=("update_gate", "candidate", "hidden_state"),
    backends=("replay", "loop"),
    kernel=torch.gru,
    step=_gru_step,
    replay=_gru_replay,
    residual=_gru_residual,
    residual_reads_previous=True,
)


class TestEveryCell:
    @pytest.fixture(params=[*CELLS, GRU], ids=repr)
    def cell(self, request):
        return request.param

    def test_each_signal_lies_once_in_the_layout(self, cell):
        laid_out = list(itertools.chain(*cell.layout))
        assert sorted(laid_out) == sorted(cell.signal_names)
        assert cell.layout[-len(cell.states) :] == tuple((name,) for name in cell.states)

    def test_parts_name_signals_of_the_cell(self, cell):
        named = {gate.name for gate in cell.gates} | {update.state for update in cell.updates}
        named |= {factor.name for update in cell.updates for term in update.terms for factor in term.factors} | {
            *cell.states,
            *cell.residual_signals,
        }
        assert named <= set(cell.signal_names)
        assert set(cell.backends) <= probe.BACKENDS.keys()
        assert cell.states[0] == "hidden_state"

    def test_step_gives_every_signal_within_its_range(self, cell, random):
        module = cell.module(3, 4).double()
        weights = cells.Weights.of(module, 0, "forward").to(torch.empty(0, dtype=torch.float64))
        states = tuple(torch.rand(2, 4, generator=random, dtype=torch.float64) * 2 - 1 for _ in cell.states)
        signals = cell.step(torch.randn(2, 3, generator=random, dtype=torch.float64) * 30, states, weights)
        assert signals.keys() == set(cell.signal_names)
        for signal in cell.signals:
            if signal.low is not None:
                assert signals[signal.name].min() >= signal.low
            if signal.high is not None:
                assert signals[signal.name].max() <= signal.high

    def test_copies_are_equal(self, cell):
        assert copy.deepcopy(cell) == cell
        assert hash(copy.deepcopy(cell)) == hash(cell)
        assert pickle.loads(pickle.dumps(cell)) == cell  # noqa: S301 - its own


def test_state_names_follow_from_their_number():
    by_count = {}
    for cell in CELLS:
        assert by_count.setdefault(len(cell.states), cell.states) == cell.states


def test_cell_of_knows_subclasses():
    class Mine(nn.LSTM):
        pass

    assert cell_of(Mine(2, 3)) is LSTM


@pytest.mark.parametrize("module", [nn.GRU(3, 4), nn.Linear(3, 4)], ids=["GRU", "Linear"])
def test_a_module_of_no_known_cell_is_refused(module):
    with pytest.raises(TypeError, match=rf"must be an nn\.LSTM, not {type(module).__name__}"):
        cell_of(module)
    with pytest.raises(TypeError):
        trace(module, torch.zeros(2, 3))


class TestFurtherCell:
    """Nothing outside `cells.py` assumes the LSTM's gates, states or names."""

    @pytest.fixture(autouse=True)
    def _with_gru(self, monkeypatch, use_backend):
        use_backend("replay")
        for module in (cells, spec):
            monkeypatch.setattr(module, "CELLS", (LSTM, GRU))
        monkeypatch.setitem(state._NAMES, 1, GRU.states)

    @pytest.fixture
    def module(self):
        return nn.GRU(3, 5, 2, bidirectional=True, batch_first=True).eval()

    @pytest.fixture
    def sequences(self, random):
        return [torch.randn(length, 3, generator=random) for length in (6, 2, 4)]

    def test_spec_is_read_from_module_and_weights(self, module):
        expected = Spec(3, 5, 2, bidirectional=True, cell=GRU)
        assert Spec.from_module(module) == Spec.from_state_dict(module.state_dict()) == expected
        built = expected.build()
        assert type(built) is nn.GRU
        assert {name: value.shape for name, value in built.state_dict().items()} == {
            name: value.shape for name, value in module.state_dict().items()
        }

    @pytest.mark.parametrize("name", ["replay", "loop"])
    def test_trace_equals_torch_and_the_equations(self, module, sequences, name, use_backend):
        use_backend(name)
        state = torch.randn(4, 3, 5)
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
        selection = Selection(signals=GRU.signal_names)
        traced = trace(module, packed, initial_state=state, selection=selection)
        output, final = module(packed, state)
        expected = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, padding_value=torch.nan)[0]
        torch.testing.assert_close(traced.output, expected, rtol=0, atol=1e-6, equal_nan=True)
        torch.testing.assert_close(traced.final_state.hidden_state, final, rtol=0, atol=1e-6)
        assert traced.backend == name
        assert traced.residual < 1e-6
        for row, sequence in enumerate(sequences):
            oracle = reference.run(module, sequence.double(), State(state[:, row : row + 1].double()))
            for signal in GRU.signal_names:
                values = traced.signals[signal][row, :, :, : len(sequence)].double()
                torch.testing.assert_close(values, oracle[signal], rtol=0, atol=1e-5)

    def test_signals_on_request_are_left_out_by_default(self, module, sequences):
        assert list(trace(module, sequences).signals) == ["reset_gate", "update_gate", "candidate", "hidden_state"]

    def test_residual_finds_an_error_of_the_kernel(self, module, sequences, monkeypatch):
        def wrong(*args, **kwargs):
            output, final = torch.gru(*args, **kwargs)
            output[-1, 0, 2] += 0.25
            return output, final

        monkeypatch.setattr(cells, "CELLS", (replace(GRU, kernel=wrong),))
        monkeypatch.setattr(probe, "fastest", lambda *_: "replay")  # its probe would find the error
        assert trace(module, sequences).residual == pytest.approx(0.25, abs=0.1)

    def test_forward_and_capture_carry_its_one_state(self, module, random):
        batch, state = torch.randn(2, 6, 3, generator=random), torch.randn(4, 2, 5, generator=random)
        expected, final = module(batch, state)
        output, mine = forward(module, batch, torch.tensor([6, 6]), State(state), ragged=False)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(mine.hidden_state, final, rtol=0, atol=1e-6)
        with capture_calls({"it": module}) as calls:
            module(batch, state)
        run = Run.of("it", module, calls["it"], 2)
        assert run.traced(module, Selection()).residual < 1e-6

    @pytest.mark.parametrize("layer", [0, 1])
    @pytest.mark.parametrize("direction", ["forward", "reverse"])
    def test_decomposition_equals_the_equations(self, module, sequences, layer, direction):
        module, sequence = module.double(), sequences[0].double()
        state = State(torch.randn(4, 1, 5, dtype=torch.float64))
        oracle = reference.run(module, sequence, state)
        explained = explain(module, sequence, state, Point(layer, direction, 3, 2))
        at = layer, ("forward", "reverse").index(direction), 3, 2
        for name, gate in explained.decomposition.gates.items():
            assert gate.value == pytest.approx(oracle[name][at].item(), abs=1e-12)
        update = explained.decomposition.updates["hidden_state"]
        assert update.value == pytest.approx(oracle["hidden_state"][at].item(), abs=1e-12)
        assert update.formula.startswith("(1 − ")
        assert explained.residual < 1e-12
