"""Cells with other functions than PyTorch's are traced as exactly as PyTorch's own."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from gatescope.backends import chunk, probe, stepwise
from gatescope.capture import Run, capture_calls, recurrent_modules
from gatescope.cells import (
    GRU,
    LSTM,
    RELU,
    RNN,
    RNN_RELU,
    SIGMOID,
    TANH,
    VariantModule,
    cell_of,
    function_named,
    hard_sigmoid,
    variant,
)
from gatescope.decompose import Point, explain
from gatescope.forward import forward
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace
from gatescope.weights import Weights
from tests.bulk import some
from tests.cells import equations

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
PLAIN = {
    "lstm": {"gate": "sigmoid", "candidate": "tanh", "output": "tanh"},
    "gru": {"gate": "sigmoid", "candidate": "tanh", "reset_after": True},
    "rnn": {"candidate": "tanh"},
}
CHANGES = [
    ("lstm", {"candidate": "relu", "output": "relu"}),
    ("lstm", {"gate": "hard_sigmoid"}),
    ("lstm", {"gate": "hard_sigmoid(1/6, 0.5)", "candidate": "softsign", "output": "linear"}),
    ("lstm", {"gate": "tanh", "candidate": "elu", "output": "gelu"}),
    ("gru", {"reset_after": False}),
    ("gru", {"gate": "hard_sigmoid", "reset_after": False}),
    ("gru", {"candidate": "relu"}),
    ("gru", {"gate": "hard_sigmoid(1/6, 0.5)", "candidate": "linear"}),
    ("rnn", {"candidate": "sigmoid"}),
    ("rnn", {"candidate": "leaky_relu(0.2)"}),
]
IDS = [f"{cell}-{'-'.join(map(str, change.values()))}" for cell, change in CHANGES]
ARGUMENTS = [
    {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    for num_layers, bidirectional, bias in itertools.product((1, 2), (False, True), (False, True))
]
LENGTHS = (6, 1, 4)
RAGGED = list(itertools.product(("stepwise", "loop"), (torch.float32, torch.float64), ARGUMENTS))


def made(cell, change):
    read = {place: function_named(each) if isinstance(each, str) else each for place, each in change.items()}
    return variant(CELLS[cell], **read)


def oracle(cell, change, module, sequence, states):
    """`equations.run` of this module's weights."""
    directions = 2 if module.bidirectional else 1
    weights = []
    for layer, direction in itertools.product(range(module.num_layers), ("forward", "reverse")[:directions]):
        own = Weights.of(module, layer, direction)
        bias = [np.zeros(len(own.weight_ih)) if each is None else each.double().numpy() for each in own[2:4]]
        weights.append([own.weight_ih.double().numpy(), own.weight_hh.double().numpy(), *bias])
    entries = [[state[entry].double().numpy() for state in states] for entry in range(len(states[0]))]
    return equations.run(
        cell, PLAIN[cell] | change, sequence.double().numpy(), weights, entries, module.num_layers, directions
    )


def close(given, expected, tolerance):
    torch.testing.assert_close(given.double(), torch.from_numpy(expected), rtol=tolerance, atol=tolerance)


@pytest.fixture(params=CHANGES, ids=IDS)
def changed(request):
    return request.param


@pytest.fixture
def build(changed):
    def build(**arguments):
        module = Spec(3, 5, cell=made(*changed), **arguments).build().requires_grad_(requires_grad=False)
        for parameter in module.parameters():
            parameter.mul_(1.5)
        return module

    return build


@pytest.fixture
def sequences(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


def random_states(module, rows, random):
    shapes = Spec.from_module(module).state_shapes(rows).values()
    return State(*(torch.randn(shape, generator=random) for shape in shapes))


class TestVariant:
    def test_equal_functions_are_one_object(self, changed):
        cell = made(*changed)
        assert made(*changed) is cell
        assert variant(cell) is cell
        for copied in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):  # noqa: S301 - its own
            assert copied == cell
            assert hash(copied) == hash(cell)
        assert cell != CELLS[cell.name]
        assert cell.is_variant

    def test_pytorchs_functions_are_pytorchs_cell(self):
        assert variant(LSTM) is LSTM
        assert variant(LSTM, gate=SIGMOID, candidate=TANH, output=TANH) is LSTM
        assert variant(GRU, gate=SIGMOID, reset_after=True) is GRU
        assert variant(RNN, candidate=RELU) is RNN_RELU
        assert variant(RNN_RELU, candidate=TANH) is RNN
        assert variant(variant(GRU, reset_after=False), reset_after=True) is GRU
        assert not RNN_RELU.is_variant

    def test_a_function_that_the_cell_has_not_is_refused(self):
        with pytest.raises(ValueError, match="the cell 'gru' has no 'output'; it has candidate, gate, reset_after"):
            variant(GRU, output=RELU)
        with pytest.raises(ValueError, match="the cell 'rnn' has no 'gate'; it has candidate"):
            variant(RNN, gate=SIGMOID)
        with pytest.raises(ValueError, match="the cell 'lstm' has no 'reset_after'"):
            variant(LSTM, reset_after=False)

    def test_signals_say_what_the_functions_are(self):
        relu = {signal.name: signal for signal in variant(LSTM, candidate=RELU, output=RELU).signals}
        assert (relu["cell_candidate"].low, relu["cell_candidate"].high) == (0, None)
        assert relu["cell_candidate"].colour_scale == "sequential"
        assert (relu["hidden_state"].low, relu["hidden_state"].high) == (0, None)
        assert relu["hidden_state"].description == "the output: h_t = o_t·relu(c_t)"
        assert relu["output_gate"].description == "how much of relu(cell state) becomes the hidden state"
        assert (relu["input_gate"].low, relu["input_gate"].high) == (0, 1)
        linear = {signal.name: signal for signal in made("lstm", {"output": "linear", "gate": "tanh"}).signals}
        assert (linear["hidden_state"].low, linear["hidden_state"].high) == (None, None)
        assert linear["hidden_state"].description == "the output: h_t = o_t·c_t"
        assert (linear["forget_gate"].low, linear["forget_gate"].colour_scale) == (-1, "diverging")
        before = {signal.name: signal for signal in variant(GRU, reset_after=False).signals}
        assert before["recurrent_candidate"].symbol == "W_hn·(r⊙h) + b_hn"
        gates = variant(RNN, candidate=hard_sigmoid(0.2, 0.5)).signals[-1]
        assert gates.description == "the output: h_t = clip(0.2·(z_t) + 0.5, 0, 1)"

    def test_every_step_lies_within_the_ranges(self, build, random):
        module = build().double()
        cell, weights = cell_of(module), Weights.of(module, 0, "forward")
        states = tuple(torch.rand(9, 5, generator=random, dtype=torch.float64) * 2 - 1 for _ in cell.states)
        signals = cell.step(torch.randn(9, 3, generator=random, dtype=torch.float64) * 30, states, weights)
        assert signals.keys() == set(cell.signal_names)
        for signal in cell.signals:
            assert signal.low is None or signals[signal.name].min() >= signal.low
            assert signal.high is None or signals[signal.name].max() <= signal.high


class TestTrace:
    @pytest.mark.random
    @pytest.mark.parametrize(("name", "dtype", "arguments"), some(RAGGED, 3), ids=str)
    def test_ragged_batches_equal_the_equations(
        self, changed, build, sequences, random, arguments, dtype, name, use_backend
    ):
        use_backend(name)
        module, tolerance = build(**arguments).to(dtype), 1e-5 if dtype is torch.float32 else 1e-12
        states = random_states(module, len(LENGTHS), random)
        cell = cell_of(module)
        traced = trace(module, sequences, initial_state=states, selection=Selection(signals=cell.signal_names))
        assert traced.backend == name
        assert traced.residual <= tolerance
        for row, sequence in enumerate(sequences):
            begun = [state[:, row] for state in states]
            signals, output, final = oracle(*changed, module, sequence, begun)
            for signal, expected in signals.items():
                close(traced.signals[signal][row, :, :, : len(sequence)], expected, tolerance)
                assert traced.signals[signal][row, :, :, len(sequence) :].isnan().all()
            close(traced.output[row, : len(sequence)], output, tolerance)
            for given, expected in zip(traced.final_state, final, strict=True):
                close(given[:, row], expected, tolerance)

    def test_chunks_of_time_give_the_same_trace(self, build, random, monkeypatch):
        module = build(bidirectional=True)
        sequences = [torch.randn(length, 3, generator=random) for length in (50, 13)]
        whole = trace(module, sequences)
        monkeypatch.setattr(chunk, "CHUNK_FLOATS", 7 * chunk.FLOATS_PER_UNIT * 2 * 5)
        monkeypatch.setattr(chunk, "SINGLE_CHUNK_FLOATS", 0)
        cut = trace(module, sequences)
        for signal, values in whole.signals.items():
            torch.testing.assert_close(cut.signals[signal], values, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert cut.residual <= 1e-5

    def test_gradients_are_those_of_the_equations(self, build, sequences):
        module = build(num_layers=2, bidirectional=True).double().requires_grad_()
        given = torch.stack([sequences[0].double()] * 2).requires_grad_()
        traced = trace(module, given, grad=True)
        assert traced.residual <= 1e-12
        ours = torch.autograd.grad(traced.output.sum(), [given, *module.parameters()])
        theirs = torch.autograd.grad(module(given)[0].sum(), [given, *module.parameters()])
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        # against a difference quotient
        with torch.no_grad():
            step = 1e-6
            parameter = module.weight_hh_l0
            before = trace(module, given).output.sum()
            parameter[0, 1] += step
            slope = (trace(module, given).output.sum() - before) / step
        assert ours[2][0, 1].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-4)

    def test_only_backends_without_a_kernel_run_it(self, build):
        module = build()
        assert probe.backend_of(module) == "stepwise"
        assert cell_of(module).backends == ("stepwise", "loop")
        meta = Weights.of(Spec(3, 5, cell=cell_of(module)).build().to("meta"), 0, "forward")
        assert stepwise.supports(cell_of(module), meta)  # on any device

    def test_a_wrong_step_fails_its_probe(self, use_backend, monkeypatch, caplog):  # noqa: ARG002 - it resets probes
        module = Spec(3, 5, cell=made("gru", {"reset_after": False})).build()
        right = torch.lerp
        monkeypatch.setattr(torch, "lerp", lambda *args, out=None: right(*args, out=out).add_(0.01))
        assert probe.backend_of(module) == "loop"
        assert "'stepwise' failed its probe" in caplog.text

    def test_its_text_says_which_functions_it_has(self, sequences):
        module = Spec(3, 5, cell=made("lstm", {"candidate": "relu", "output": "relu"})).build()
        assert "nn.LSTM(input_size=3, hidden_size=5, activation='relu', recurrent_activation='sigmoid')" in repr(
            trace(module, sequences)
        )
        assert "activation='relu'" in repr(module)


class TestModule:
    def test_it_is_the_module_of_its_cell(self, changed, build):
        cell = made(*changed)
        module = build(num_layers=2, bidirectional=True)
        assert isinstance(module, VariantModule)
        assert isinstance(module, cell.module)
        assert cell_of(module) is cell
        assert cell_of(copy.deepcopy(module)) == cell
        spec = Spec(3, 5, 2, bidirectional=True, cell=cell)
        assert Spec.from_module(module) == spec
        assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == spec.parameter_shapes()
        plain = Spec(3, 5, 2, bidirectional=True, cell=CELLS[cell.name])
        assert Spec.from_state_dict(module.state_dict()) == plain  # weights do not show functions

    @pytest.mark.parametrize("batch_first", [True, False])
    def test_it_takes_what_pytorchs_module_takes(self, changed, build, sequences, random, batch_first):
        module = build(num_layers=2, bidirectional=True).double()
        module.batch_first = batch_first
        states = random_states(module, 2, random).to(torch.empty(0, dtype=torch.float64))
        batch = torch.stack([sequences[0], -sequences[0]], dim=0 if batch_first else 1).double()
        output, hx = module(batch, states.hx)
        for row, sequence in enumerate((sequences[0], -sequences[0])):
            _, expected, final = oracle(*changed, module, sequence, [state[:, row] for state in states])
            close(output[row] if batch_first else output[:, row], expected, 1e-12)
            for given, state in zip(State.from_hx(hx), final, strict=True):
                close(given[:, row], state, 1e-12)
        own = State(*(state[:, 0] for state in states))
        alone, hx = module(sequences[0].double(), own.hx)
        torch.testing.assert_close(alone, output[0] if batch_first else output[:, 0])
        assert (hx if isinstance(hx, torch.Tensor) else hx[0]).shape == (4, 5)

    @pytest.mark.parametrize("enforce_sorted", [True, False])
    def test_packed_sequences_come_back_packed(self, changed, build, sequences, enforce_sorted):
        module = build(bidirectional=True)
        sequences = sorted(sequences, key=len, reverse=True) if enforce_sorted else sequences
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=enforce_sorted)
        output, hx = module(packed)
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
        padded, lengths = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        assert lengths.tolist() == [len(sequence) for sequence in sequences]
        zeros = [torch.zeros(2, 5)] * len(cell_of(module).states)
        for row, sequence in enumerate(sequences):
            _, expected, final = oracle(*changed, module, sequence, zeros)
            close(padded[row, : len(sequence)], expected, 1e-5)
            close(State.from_hx(hx).hidden_state[:, row], final[0], 1e-5)

    @pytest.mark.parametrize("ragged", [False, True])
    def test_forward_gives_output_and_state(self, changed, build, random, ragged):
        module = build(num_layers=2)
        batch, states = torch.randn(2, 6, 3, generator=random), random_states(module, 2, random)
        lengths = torch.tensor([6, 3] if ragged else [6, 6])
        output, final = forward(module, batch, lengths, states, ragged=ragged)
        for row, length in enumerate(lengths.tolist()):
            begun = [state[:, row] for state in states]
            _, expected, last = oracle(*changed, module, batch[row, :length], begun)
            close(output[row, :length], expected, 1e-5)
            for given, state in zip(final, last, strict=True):
                close(given[:, row], state, 1e-5)

    def test_calls_are_captured_and_chunks_of_them_make_one_run(self, build, random):
        module, batch, state = build(num_layers=2), torch.randn(2, 12, 3, generator=random), None
        assert recurrent_modules(nn.ModuleDict({"it": module})) == {"it": module}
        with capture_calls({"it": module}) as calls:
            for part in batch.split(5, dim=1):
                _, state = module(part, state)
        run = Run.of("it", module, calls["it"], 2)
        traced = run.traced(module, Selection())
        torch.testing.assert_close(traced.output, module(batch)[0], rtol=1e-5, atol=1e-5)
        assert traced.residual < 1e-5


class TestDecompose:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize(("layer", "direction", "step"), [(0, "forward", 0), (0, "reverse", 3), (1, "forward", 5)])
    def test_terms_add_up_to_the_equations(self, changed, build, random, layer, direction, step, bias):
        module = build(num_layers=2, bidirectional=True, bias=bias).double()
        sequence = torch.randn(6, 3, generator=random, dtype=torch.float64)
        states = random_states(module, 1, random).to(sequence)
        signals, *_ = oracle(*changed, module, sequence, [state[:, 0] for state in states])
        explained = explain(module, sequence, states, Point(layer, direction, step, 2))
        at, cell = (layer, ("forward", "reverse").index(direction), step, 2), cell_of(module)
        assert explained.residual < 1e-12
        for gate in cell.gates:
            said = explained.decomposition.gates[gate.name]
            assert said.value == pytest.approx(signals[gate.name][at], abs=1e-12)
            assert said.sum == pytest.approx(sum(said.terms.values()), abs=1e-12)
            assert said.activation == gate.activation
            parts = said.inputs.contributions.sum() + said.recurrent_scale * said.recurrent.contributions.sum()
            biases = (said.bias_input or 0) + said.recurrent_scale * (said.bias_recurrent or 0)
            assert said.sum == pytest.approx(parts.item() + biases, abs=1e-12)
        for update in explained.decomposition.updates.items():
            name, computed = update
            assert computed.value == pytest.approx(signals[name][at], abs=1e-12)
            products = [np.prod([factor.value for factor in term.factors]) for term in computed.terms.values()]
            assert computed.value == pytest.approx(sum(products), abs=1e-12)

    def test_a_reset_gate_before_the_product_scales_each_unit(self, random):
        module = Spec(3, 5, cell=variant(GRU, reset_after=False)).build().double()
        sequence, h = torch.randn(1, 3, generator=random).double(), torch.randn(1, 1, 5, generator=random).double()
        (signals, *_) = oracle("gru", {"reset_after": False}, module.requires_grad_(requires_grad=False), sequence, h)
        said = explain(module, sequence, State(h), Point(0, "forward", 0, 1)).decomposition.gates["candidate"]
        scaled = torch.from_numpy(signals["reset_gate"][0, 0, 0]) * h[0, 0]
        torch.testing.assert_close(said.recurrent.values, scaled)
        assert said.recurrent_scale == 1
        recurrent = said.recurrent.total + said.bias_recurrent
        assert recurrent == pytest.approx(signals["recurrent_candidate"][0, 0, 0, 1], abs=1e-12)

    def test_formulas_are_spelled_with_the_functions(self, random):
        sequence = torch.randn(2, 3, generator=random).double()
        relu = Spec(3, 5, cell=made("lstm", {"candidate": "relu", "output": "relu", "gate": "hard_sigmoid"})).build()
        relu = relu.double()
        said = explain(relu, sequence, State.zeros(Spec.from_module(relu), 1, sequence), Point(0, "forward", 1, 0))
        assert said.decomposition.gates["cell_candidate"].formula.startswith("relu(")
        assert said.decomposition.gates["input_gate"].formula.startswith("clip(0.2·(")
        assert "relu(" in said.decomposition.updates["hidden_state"].formula
        linear = Spec(3, 5, cell=made("lstm", {"output": "linear"})).build().double()
        said = explain(linear, sequence, State.zeros(Spec.from_module(linear), 1, sequence), Point(0, "forward", 1, 0))
        (output, cell) = said.decomposition.updates["hidden_state"].terms["output_term"].factors
        assert cell.function is None
        assert said.decomposition.updates["hidden_state"].value == output.value * cell.argument
