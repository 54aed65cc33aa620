"""A cell is data: every cell is complete, and GRU and RNN are traced as exactly as the LSTM."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from gatescope.backends import chunk, probe, reference, replay, stepwise
from gatescope.capture import Run, capture_calls
from gatescope.cells import CELLS, GRU, LSTM, RNN, RNN_RELU, cell_of
from gatescope.decompose import Point, explain
from gatescope.forward import forward
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace
from gatescope.weights import Weights
from tests.bulk import some


class TestEveryCell:
    @pytest.fixture(params=CELLS, ids=repr)
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
        weights = Weights.of(module, 0, "forward").to(torch.empty(0, dtype=torch.float64))
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


def test_cell_of_knows_subclasses_and_nonlinearities():
    class Mine(nn.LSTM):
        pass

    assert cell_of(Mine(2, 3)) is LSTM
    assert cell_of(nn.GRU(2, 3)) is GRU
    assert cell_of(nn.RNN(2, 3)) is RNN
    assert cell_of(nn.RNN(2, 3, nonlinearity="relu")) is RNN_RELU


class _Fake(nn.RNNBase):
    """A recurrent module of no known cell."""

    def __init__(self):
        super().__init__("RNN_TANH", 3, 4)


@pytest.mark.parametrize("module", [_Fake(), nn.Linear(3, 4)], ids=["another RNNBase", "Linear"])
def test_a_module_of_no_known_cell_is_refused(module):
    known = r"nn\.LSTM or nn\.GRU or nn\.RNN"
    with pytest.raises(TypeError, match=rf"must be an {known}, not {type(module).__name__}"):
        cell_of(module)
    with pytest.raises(TypeError):
        trace(module, torch.zeros(2, 3))


BACKENDS = ("stepwise", "replay", "loop")
LENGTHS = (6, 2, 4)
ARGUMENTS = [
    {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    for num_layers, bidirectional, bias in itertools.product((1, 2, 3), (False, True), (False, True))
]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def name_of(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


RAGGED = list(itertools.product(BACKENDS, ARGUMENTS, TOLERANCE, (False, True)))
SIZES = list(itertools.product((1, 15, 16, 64, 128), [(1,), (2,), (9, 9, 9), (150, 3, 77)], BACKENDS))


class TestFurtherCell:
    """Nothing outside `cells/` assumes the LSTM's gates, states or names."""

    @pytest.fixture(params=[GRU, RNN, RNN_RELU], ids=repr)
    def cell(self, request):
        return request.param

    @pytest.fixture
    def build(self, cell):
        """`build(num_layers=2, …)`: a seeded module of the cell, batch first."""
        return lambda **arguments: Spec(3, 5, cell=cell, **arguments).build().requires_grad_(requires_grad=False)

    @pytest.fixture
    def module(self, build):
        return build(num_layers=2, bidirectional=True)

    @pytest.fixture
    def sequences(self, random):
        return [torch.randn(length, 3, generator=random) for length in LENGTHS]

    @pytest.fixture
    def every(self, cell):
        return Selection(signals=cell.signal_names)

    @staticmethod
    def assert_equal_to_the_equations(traced, module, sequences, state=None, tolerance=1e-5):
        for row, sequence in enumerate(sequences):
            own = None if state is None else State(state[:, row : row + 1].double())
            oracle = reference.run(module, sequence.double(), own)
            for name, values in traced.signals.items():
                given = values[row, :, :, : len(sequence)].double()
                torch.testing.assert_close(given, oracle[name], rtol=0, atol=tolerance)
                assert values[row, :, :, len(sequence) :].isnan().all()
            given = traced.output[row, : len(sequence)].double()
            torch.testing.assert_close(given, oracle["output"], rtol=0, atol=tolerance)

    @pytest.mark.parametrize("arguments", ARGUMENTS, ids=name_of)
    def test_spec_is_read_from_module_and_weights(self, cell, build, arguments):
        module = build(**arguments)
        expected = Spec(3, 5, cell=cell, **arguments)
        assert Spec.from_module(module) == expected
        inferred = Spec.from_state_dict({f"net.{name}": value for name, value in module.state_dict().items()}, "net.")
        assert inferred == Spec(3, 5, cell=RNN if cell is RNN_RELU else cell, **arguments)  # weights hide it
        assert type(module) is cell.module
        assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == expected.parameter_shapes()

    @pytest.mark.random
    @pytest.mark.parametrize(("name", "arguments", "dtype", "given_state"), some(RAGGED, 5), ids=name_of)
    def test_ragged_batches_equal_the_equations_and_torch(
        self, build, sequences, every, name, arguments, dtype, given_state, use_backend
    ):
        use_backend(name)
        module, sequences = build(**arguments).to(dtype), [sequence.to(dtype) for sequence in sequences]
        entries = Spec.from_module(module).state_entries
        state = torch.randn(entries, 3, 5, dtype=dtype) if given_state else None
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
        traced = trace(module, packed, initial_state=state, selection=every)
        output, final = module(packed, state)
        expected = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, padding_value=torch.nan)[0]
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(traced.output, expected, rtol=0, atol=tolerance, equal_nan=True)
        torch.testing.assert_close(traced.final_state.hidden_state, final, rtol=0, atol=tolerance)
        assert traced.backend == name
        assert traced.residual <= tolerance
        self.assert_equal_to_the_equations(traced, module, sequences, state, tolerance)

    @pytest.mark.random
    @pytest.mark.parametrize(("hidden_size", "lengths", "name"), some(SIZES, 7), ids=str)
    def test_any_width_and_length_equals_the_equations(self, cell, random, hidden_size, lengths, name, use_backend):
        use_backend(name)
        module = Spec(hidden_size // 2 + 1, hidden_size, bidirectional=True, cell=cell).build()
        sequences = [torch.randn(length, hidden_size // 2 + 1, generator=random) for length in lengths]
        state = torch.rand(2, len(lengths), hidden_size, generator=random)
        traced = trace(module, sequences, initial_state=state)
        assert traced.backend == name
        self.assert_equal_to_the_equations(traced, module, sequences, state, 2e-5)
        assert traced.residual <= 1e-5

    @pytest.mark.parametrize("name", BACKENDS)
    def test_chunks_of_time_give_the_same_trace(self, module, every, random, name, use_backend, monkeypatch):
        use_backend(name)
        sequences = [torch.randn(length, 3, generator=random) for length in (50, 13, 40)]
        for selection in (every, Selection()):
            whole = trace(module, sequences, selection=selection)
            with monkeypatch.context() as patch:
                patch.setattr(chunk, "CHUNK_FLOATS", 7 * chunk.FLOATS_PER_UNIT * 3 * 16)
                patch.setattr(chunk, "SINGLE_CHUNK_FLOATS", 0)
                cut = trace(module, sequences, selection=selection)
            for signal, values in whole.signals.items():
                torch.testing.assert_close(cut.signals[signal], values, rtol=0, atol=1e-6, equal_nan=True)
            torch.testing.assert_close(cut.final_state.hidden_state, whole.final_state.hidden_state, rtol=0, atol=1e-6)
            assert cut.residual <= 1e-6

    def test_unbatched_inputs_are_a_batch_of_one(self, module, sequences):
        state = torch.randn(4, 5)
        output, final = module(sequences[0], state)
        traced = trace(module, sequences[0], initial_state=state)
        torch.testing.assert_close(traced.output[0], output, rtol=0, atol=1e-6)
        torch.testing.assert_close(traced.final_state.hidden_state[:, 0], final, rtol=0, atol=1e-6)
        assert traced.initial_state.hidden_state.shape == (4, 1, 5)

    def test_time_first_batches_equal_batch_first_ones(self, build, random):
        module, inputs = build(num_layers=2), torch.randn(4, 6, 3, generator=random)
        traced = trace(module, inputs)
        module.batch_first = False
        other = trace(module, inputs.transpose(0, 1))
        assert all(torch.equal(values, other.signals[name]) for name, values in traced.signals.items())

    def test_signals_on_request_are_left_out_by_default(self, cell, module, sequences):
        default = {GRU: ["reset_gate", "update_gate", "candidate", "hidden_state"]}
        assert list(trace(module, sequences).signals) == default.get(cell, ["hidden_state"])

    @pytest.mark.parametrize("name", BACKENDS)
    def test_each_signal_alone_is_that_of_the_whole(self, cell, module, sequences, every, name, use_backend):
        use_backend(name)
        whole = trace(module, sequences, selection=every)
        for signal in cell.signal_names:
            for units in (None, (3, 1)):
                part = trace(module, sequences, selection=Selection(signals=(signal,), units=units))
                expected = whole.signals[signal] if units is None else whole.signals[signal][..., list(units)]
                assert list(part.signals) == [signal]
                torch.testing.assert_close(part.signals[signal], expected, rtol=0, atol=0, equal_nan=True)
                assert part.residual <= 1e-6

    @pytest.mark.parametrize("name", BACKENDS)
    def test_traces_are_the_same_in_inference_mode(self, module, sequences, name, use_backend):
        use_backend(name)
        expected = trace(module, sequences)
        with torch.inference_mode():
            traced = trace(module, sequences)
        torch.testing.assert_close(traced.hidden_state, expected.hidden_state, rtol=0, atol=0, equal_nan=True)
        assert traced.residual == expected.residual

    @pytest.mark.parametrize("name", BACKENDS)
    def test_nothing_given_is_changed_or_recorded(self, cell, name, use_backend):
        use_backend(name)
        module = Spec(3, 5, 2, cell=cell).build()
        inputs, state = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 2, 5, requires_grad=True)
        before = [value.detach().clone() for value in (inputs, state, *module.parameters())]
        traced = trace(module, inputs, initial_state=state)
        after = (inputs, state, *module.parameters())
        assert all(torch.equal(mine, other) for mine, other in zip(after, before, strict=True))
        assert not any(value.requires_grad for value in (*traced.signals.values(), traced.output, *traced.final_state))


@pytest.mark.usefixtures("use_backend")
class TestBackendsOfFurtherCells:
    def test_a_cpu_runs_them_stepwise(self):
        for module in (nn.GRU(3, 5), nn.GRU(3, 5).double(), nn.RNN(3, 5), nn.RNN(3, 5, nonlinearity="relu")):
            assert probe.backend_of(module) == "stepwise"

    def test_other_devices_replay_the_kernel(self):
        weights = Weights.of(nn.GRU(3, 5, device="meta"), 0, "forward")
        assert not stepwise.supports(GRU, weights)
        assert not stepwise.supports(LSTM, Weights.of(nn.LSTM(3, 5), 0, "forward"))

    def test_a_wrong_step_fails_its_probe(self, monkeypatch, caplog):
        right = torch.lerp
        monkeypatch.setattr(torch, "lerp", lambda *args, out=None: right(*args, out=out).add_(0.01))
        assert probe.backend_of(nn.GRU(3, 5)) == "replay"
        assert "'stepwise' failed its probe" in caplog.text

    def test_traces_hold_no_unwanted_memory(self):
        traced = trace(nn.GRU(3, 5, batch_first=True), torch.zeros(2, 7, 3))
        kept = {values.untyped_storage().data_ptr(): values.untyped_storage() for values in traced.signals.values()}
        assert sum(storage.nbytes() for storage in kept.values()) == 2 * 7 * 4 * 5 * 4


class TestResidualOfFurtherCells:
    @pytest.mark.parametrize("time_first", [False, True])
    @pytest.mark.parametrize("call", range(4))
    def test_an_error_of_the_kernel_is_found(self, use_backend, monkeypatch, random, call, time_first):
        use_backend("replay")
        module = nn.GRU(3, 5, 2, bidirectional=True)
        sequences = [torch.randn(length, 3, generator=random) for length in LENGTHS]
        trace(module, sequences)  # proved
        right, calls = replay.run_kernel, itertools.count()

        def wrong(*args):
            result = right(*args)
            if next(calls) == call:
                result[LENGTHS[2] - 1, 2, 3] += 0.25
            return result

        monkeypatch.setattr(replay, "run_kernel", wrong)
        selection = Selection(signals=("hidden_state",)) if time_first else None  # at once, or from what is kept
        assert trace(module, sequences, selection=selection).residual == pytest.approx(0.25, abs=0.01)

    @pytest.mark.parametrize("module", [nn.RNN(3, 5), nn.RNN(3, 5, nonlinearity="relu")], ids=["tanh", "relu"])
    def test_an_error_of_a_plain_kernel_is_found(self, use_backend, monkeypatch, module):
        use_backend("replay")
        trace(module, torch.zeros(2, 3))
        right = replay.run_kernel

        def wrong(*args):
            result = right(*args)
            result[-1, 0, 2] += 0.25
            return result

        monkeypatch.setattr(replay, "run_kernel", wrong)
        for signals in (None, module_signals(module)):
            traced = trace(module, torch.zeros(2, 3), selection=Selection(signals=signals))
            assert traced.residual == pytest.approx(0.25, abs=1e-6)

    @pytest.mark.parametrize("name", ["update_gate", "candidate", "hidden_state"])
    @pytest.mark.parametrize("at", [(0, 0, 1, 0), (0, 1, 1, 0), (1, 1, 5, 1), (1, 0, 5, 1)], ids=str)
    def test_a_wrong_signal_is_found_wherever_it_is(self, random, name, at):
        module = nn.GRU(3, 5, 2, bidirectional=True)
        state = torch.randn(4, 2, 5, generator=random)
        traced = trace(module, [torch.randn(n, 3, generator=random) for n in (2, 6)], initial_state=state)
        assert traced.residual <= 1e-6
        layer, direction, step, row = at
        changed = trace(module, [torch.randn(n, 3, generator=random) for n in (2, 6)], initial_state=state)
        changed.signals[name][row, layer, direction, step] += 0.5
        rows = changed.with_residual().row_residuals
        assert rows[row] > 1e-2
        assert rows[1 - row] <= 1e-6

    @pytest.mark.parametrize(
        ("layers", "directions"), [((1, 0), ("reverse", "forward")), ((1,), ("reverse",)), ((0,), ("forward",))]
    )
    def test_it_is_right_for_some_layers_and_directions(self, random, layers, directions):
        module = nn.GRU(3, 5, 2, bidirectional=True)
        state = torch.randn(4, 3, 5, generator=random)
        sequences = [torch.randn(length, 3, generator=random) for length in LENGTHS]
        selection = Selection(layers=layers, directions=directions)
        assert trace(module, sequences, initial_state=state, selection=selection).residual <= 1e-6


def module_signals(module):
    return cell_of(module).signal_names


class TestUsesOfFurtherCells:
    @pytest.fixture(params=[GRU, RNN, RNN_RELU], ids=repr)
    def cell(self, request):
        return request.param

    @pytest.fixture
    def module(self, cell):
        return Spec(3, 5, 2, bidirectional=True, cell=cell).build()

    @pytest.mark.parametrize("ragged", [False, True])
    def test_forward_carries_the_one_state(self, module, random, ragged):
        batch, state = torch.randn(2, 6, 3, generator=random), torch.randn(4, 2, 5, generator=random)
        lengths = torch.tensor([6, 3] if ragged else [6, 6])
        output, final = forward(module, batch, lengths, State(state), ragged=ragged)
        for row, length in enumerate(lengths.tolist()):
            expected, last = module(batch[row : row + 1, :length], state[:, row : row + 1].contiguous())
            torch.testing.assert_close(output[row, :length], expected[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(final.hidden_state[:, row], last[:, 0], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("given_state", [False, True])
    def test_calls_are_captured(self, module, random, given_state):
        batch = torch.randn(2, 6, 3, generator=random)
        state = torch.randn(4, 2, 5, generator=random) if given_state else None
        with capture_calls({"it": module}) as calls:
            output, final = module(batch, state)
        run = Run.of("it", module, calls["it"], 2)
        traced = run.traced(module, Selection())
        assert traced.residual < 1e-6
        assert torch.equal(run.output, output)
        assert torch.equal(run.final_state.hidden_state, final)

    @pytest.mark.parametrize("size", [1, 5])
    def test_chunks_of_calls_make_one_run(self, cell, random, size):
        module, batch, state = Spec(3, 5, 2, cell=cell).build(), torch.randn(2, 12, 3, generator=random), None
        with capture_calls({"it": module}) as calls:
            for part in batch.split(size, dim=1):
                _, state = module(part, state)
        run = Run.of("it", module, calls["it"], 2)
        assert run.lengths.tolist() == [12, 12]
        traced = run.traced(module, Selection())
        torch.testing.assert_close(traced.output, module(batch)[0], rtol=0, atol=1e-6)
        assert traced.residual < 1e-6

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("step", [0, 3, 5])
    @pytest.mark.parametrize("layer", [0, 1])
    @pytest.mark.parametrize("direction", ["forward", "reverse"])
    def test_decomposition_equals_the_equations(self, cell, random, layer, direction, step, bias):
        module = Spec(3, 5, 2, bias=bias, bidirectional=True, cell=cell).build().double()
        sequence = torch.randn(6, 3, generator=random, dtype=torch.float64)
        state = State(torch.randn(4, 1, 5, generator=random, dtype=torch.float64))
        oracle = reference.run(module, sequence, state)
        explained = explain(module, sequence, state, Point(layer, direction, step, 2))
        at = layer, ("forward", "reverse").index(direction), step, 2
        assert explained.residual < 1e-12
        decomposition = explained.decomposition
        assert list(decomposition.gates) == [gate.name for gate in cell.gates]
        for name, gate in decomposition.gates.items():
            assert gate.value == pytest.approx(oracle[name][at].item(), abs=1e-12)
            assert gate.sum == pytest.approx(sum(gate.terms.values()), abs=1e-12)
            assert gate.formula.startswith(f"{gate.activation.name}(")
        if cell is GRU:
            update = decomposition.updates["hidden_state"]
            assert update.value == pytest.approx(oracle["hidden_state"][at].item(), abs=1e-12)
            assert update.formula.startswith("(1 − ")
            scaled = decomposition.gates["candidate"]
            assert scaled.recurrent_scale == pytest.approx(oracle["reset_gate"][at].item(), abs=1e-12)
            recurrent = scaled.recurrent.total + (scaled.bias_recurrent or 0)
            assert recurrent == pytest.approx(oracle["recurrent_candidate"][at].item(), abs=1e-12)
        else:
            assert not decomposition.updates
            assert decomposition.gates["hidden_state"].sum == pytest.approx(
                oracle["pre_activation"][at].item(), abs=1e-12
            )
