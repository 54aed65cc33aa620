import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from gatescope.backends import probe, reference, replay
from gatescope.cells import LSTM
from gatescope.errors import InvalidInput
from gatescope.padding import pad
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import _step_residuals, trace
from tests.bulk import some

LENGTHS = (7, 1, 4)
GRID = [
    {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias, "proj_size": proj_size}
    for num_layers, bidirectional, bias, proj_size in itertools.product((1, 2, 3), (False, True), (False, True), (0, 3))
]
CASES = [
    (name, dtype, arguments)
    for name, dtype, arguments in itertools.product(
        ("workspace", "replay", "loop"), (torch.float32, torch.float64), GRID
    )
    if name != "workspace" or (dtype == torch.float32 and not arguments["proj_size"])  # what oneDNN runs
]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture
def sequences(random):
    return [torch.randn(length, 3, generator=random) for length in LENGTHS]


@pytest.fixture
def bidirectional(seeded_lstm):
    return seeded_lstm(3, 5, 2, bidirectional=True, batch_first=True)


def random_state(module, batch, generator):
    shapes = Spec.from_module(module).state_shapes(batch)
    return State(*(torch.randn(shape, generator=generator) for shape in shapes.values()))


def row_of(state, row):
    return State(*(value[:, row : row + 1].double() for value in state))


def packed(module, sequences, state):
    """`nn.LSTM`'s own answer to a ragged batch."""
    padded, lengths = pad(sequences)
    rows = nn.utils.rnn.pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    module.batch_first = True
    output, final = module(rows, state)
    return nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0], final


def assert_same(given, expected, tolerance=0.0):
    """Both traces have the same numbers, and NaN in the same places."""
    for signal, values in expected.signals.items():
        torch.testing.assert_close(given.signals[signal], values, rtol=0, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(given.output, expected.output, rtol=0, atol=tolerance, equal_nan=True)
    for mine, other in zip(given.final_state, expected.final_state, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


@pytest.mark.random
@pytest.mark.parametrize(
    ("given_state", "name", "dtype", "arguments"),
    some([(given, *case) for case in CASES for given in (False, True)], 5),
    ids=str,
)
def test_ragged_batches_equal_the_equations_and_torch(
    seeded_lstm, random, sequences, arguments, given_state, dtype, name, use_backend
):
    use_backend(name)
    module = seeded_lstm(3, 5, **arguments).to(dtype)
    sequences = [sequence.to(dtype) for sequence in sequences]
    state = random_state(module, len(LENGTHS), random).to(sequences[0])
    tolerance = TOLERANCE[dtype]

    traced = trace(module, sequences, initial_state=state if given_state else None)

    spec = Spec.from_module(module)
    assert set(traced.signals) == set(LSTM.signal_names)
    assert traced.sequence_lengths.tolist() == list(LENGTHS)
    assert traced.residual <= tolerance
    for row, sequence in enumerate(sequences):
        length = len(sequence)
        expected = reference.run(module, sequence.double(), row_of(state, row) if given_state else None)
        for signal in LSTM.signal_names:
            width = (arguments["proj_size"] or 5) if signal == "hidden_state" else 5
            values = traced.signals[signal]
            assert values.shape == (len(LENGTHS), spec.num_layers, spec.num_directions, max(LENGTHS), width)
            assert values.dtype == dtype
            torch.testing.assert_close(values[row, :, :, :length].double(), expected[signal], rtol=0, atol=tolerance)
            assert values[row, :, :, length:].isnan().all()
        torch.testing.assert_close(traced.output[row, :length].double(), expected["output"], rtol=0, atol=tolerance)
        assert traced.output[row, length:].isnan().all()

    output, final = packed(module, sequences, tuple(state) if given_state else None)
    valid = ~traced.output.isnan()
    torch.testing.assert_close(traced.output[valid], output[valid], rtol=0, atol=tolerance)
    torch.testing.assert_close(traced.final_state.hidden_state, final[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(traced.final_state.cell_state, final[1], rtol=0, atol=tolerance)


def test_each_signal_is_an_attribute(bidirectional, sequences):
    traced = trace(bidirectional, sequences)
    for signal in LSTM.signal_names:
        assert getattr(traced, signal) is traced.signals[signal]


def test_gates_lie_in_their_ranges_and_give_the_states(bidirectional, sequences):
    traced = trace(bidirectional, sequences)
    valid = ~traced.input_gate.isnan()
    for gate in (traced.input_gate, traced.forget_gate, traced.output_gate):
        assert bool(((gate > 0) & (gate < 1))[valid].all())
    assert bool((traced.cell_candidate[valid].abs() < 1).all())
    torch.testing.assert_close(
        traced.hidden_state, traced.output_gate * traced.cell_state.tanh(), rtol=0, atol=1e-6, equal_nan=True
    )
    kept = traced.forget_gate[:, :, 0, 1:] * traced.cell_state[:, :, 0, :-1]
    written = traced.input_gate[:, :, 0, 1:] * traced.cell_candidate[:, :, 0, 1:]
    torch.testing.assert_close(traced.cell_state[:, :, 0, 1:], kept + written, rtol=0, atol=1e-6, equal_nan=True)


def test_final_state_is_that_of_each_rows_last_step(bidirectional, sequences):
    traced = trace(bidirectional, sequences)
    for row, length in enumerate(LENGTHS):
        for layer in range(2):
            for name in ("hidden_state", "cell_state"):
                final = getattr(traced.final_state, name)
                assert torch.equal(final[2 * layer, row], traced.signals[name][row, layer, 0, length - 1])
                assert torch.equal(final[2 * layer + 1, row], traced.signals[name][row, layer, 1, 0])


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_values_in_the_padding_change_nothing(bidirectional, sequences, garbage):
    padded, lengths = pad(sequences)
    dirty = padded.clone()
    for row, length in enumerate(LENGTHS):
        dirty[row, length:] = garbage
    traced = trace(bidirectional, dirty, lengths)
    assert_same(traced, trace(bidirectional, padded, lengths))
    assert traced.residual <= 1e-6


def test_a_batch_equals_its_rows_alone(bidirectional, sequences, random):
    state = random_state(bidirectional, len(LENGTHS), random)
    together = trace(bidirectional, sequences, initial_state=state)
    for row, sequence in enumerate(sequences):
        alone = trace(bidirectional, [sequence], initial_state=State(*(value[:, row : row + 1] for value in state)))
        length = len(sequence)
        for signal in LSTM.signal_names:
            torch.testing.assert_close(
                together.signals[signal][row, :, :, :length], alone.signals[signal][0], rtol=0, atol=1e-6
            )
        torch.testing.assert_close(together.output[row, :length], alone.output[0], rtol=0, atol=1e-6)
        for mine, other in zip(together.final_state, alone.final_state, strict=True):
            torch.testing.assert_close(mine[:, row], other[:, 0], rtol=0, atol=1e-6)


def test_a_list_of_sequences_equals_padded_input_with_lengths(bidirectional, sequences):
    padded, lengths = pad(sequences)
    from_list = trace(bidirectional, sequences)
    assert_same(trace(bidirectional, padded, lengths), from_list)
    assert_same(trace(bidirectional, padded, list(LENGTHS)), from_list)


def test_padding_beyond_the_longest_sequence_is_ignored(bidirectional, sequences):
    padded, lengths = pad(sequences)
    wider = torch.cat((padded, torch.full((3, 2, 3), 9.0)), dim=1)
    traced, expected = trace(bidirectional, wider, lengths), trace(bidirectional, padded, lengths)
    assert traced.output[:, 7:].isnan().all()
    torch.testing.assert_close(traced.output[:, :7], expected.output, rtol=0, atol=1e-7, equal_nan=True)
    torch.testing.assert_close(traced.final_state.cell_state, expected.final_state.cell_state, rtol=0, atol=1e-6)


def test_without_lengths_every_step_is_valid(bidirectional, sequences):
    padded, _ = pad(sequences)
    traced = trace(bidirectional, padded)
    assert traced.sequence_lengths.tolist() == [7, 7, 7]
    assert not traced.output.isnan().any()


def test_a_sequence_in_two_parts_equals_the_whole(seeded_lstm, random):
    module = seeded_lstm(3, 5, 2, batch_first=True)
    sequence = torch.randn(2, 9, 3, generator=random)
    whole, first = trace(module, sequence), trace(module, sequence[:, :4])
    second = trace(module, sequence[:, 4:], initial_state=first.final_state)
    for signal in LSTM.signal_names:
        joined = torch.cat((first.signals[signal], second.signals[signal]), dim=3)
        torch.testing.assert_close(joined, whole.signals[signal], rtol=0, atol=1e-6)


def test_training_mode_and_dropout_change_nothing(seeded_lstm, sequences):
    expected = trace(seeded_lstm(3, 5, 2, bidirectional=True), sequences)
    other = nn.LSTM(3, 5, 2, bidirectional=True, batch_first=True, dropout=0.9).train()
    other.load_state_dict(seeded_lstm(3, 5, 2, bidirectional=True).state_dict())
    assert_same(trace(other, sequences), expected)
    assert other.training


def test_inputs_and_states_are_not_modified(bidirectional, sequences, random):
    padded, lengths = pad(sequences)
    state = random_state(bidirectional, 3, random)
    before = [value.clone() for value in (padded, lengths, *state)]
    trace(bidirectional, padded, lengths, state)
    assert all(torch.equal(mine, other) for mine, other in zip((padded, lengths, *state), before, strict=True))


class TestInputs:
    """`trace(module, x, initial_state=hx)` reads what `module(x, hx)` reads."""

    @pytest.fixture(params=[False, True], ids=["time first", "batch first"])
    def module(self, request, seeded_lstm):
        return seeded_lstm(3, 5, 2, bidirectional=True, proj_size=2, batch_first=request.param)

    @pytest.fixture(params=[False, True], ids=["zeros", "given state"])
    def state(self, request, module, random):
        return random_state(module, len(LENGTHS), random) if request.param else None

    @staticmethod
    def assert_traces(traced, output, final):
        """The trace has this output (batch, time, unit) and final state (layers · directions, batch, unit)."""
        torch.testing.assert_close(traced.output, output, rtol=0, atol=1e-6, equal_nan=True)
        for mine, other in zip(traced.final_state, final, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)
        assert traced.residual < 1e-6

    def test_a_batch_has_the_modules_own_axes(self, module, state, random):
        inputs = torch.randn(3, 3, 3, generator=random)  # every order of axes has this shape
        output, final = module(inputs, None if state is None else tuple(state))
        traced = trace(module, inputs, initial_state=state)
        self.assert_traces(traced, output if module.batch_first else output.transpose(0, 1), final)

    def test_time_first_and_batch_first_give_the_same_trace(self, module, sequences, state):
        padded, lengths = pad(sequences)
        traced = trace(module, padded if module.batch_first else padded.transpose(0, 1), lengths, state)
        assert_same(traced, trace(module, sequences, initial_state=state))
        assert traced.cell_state.shape == (3, 2, 2, 7, 5)

    @pytest.mark.parametrize("enforce_sorted", [False, True])
    def test_packed_sequences_keep_their_order(self, module, sequences, state, enforce_sorted):
        if enforce_sorted:
            sequences = sorted(sequences, key=len, reverse=True)
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=enforce_sorted)
        assert (packed.sorted_indices is None) == enforce_sorted
        output, final = module(packed, None if state is None else tuple(state))
        unpacked, lengths = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, padding_value=torch.nan)
        traced = trace(module, packed, initial_state=state)
        self.assert_traces(traced, unpacked, final)
        assert torch.equal(traced.sequence_lengths, lengths)
        assert_same(traced, trace(module, sequences, initial_state=state))

    def test_a_sequence_without_a_batch_is_a_batch_of_one(self, module, sequences, state):
        hx = None if state is None else tuple(value[:, 0] for value in state)
        output, final = module(sequences[0], hx)
        traced = trace(module, sequences[0], initial_state=hx)
        self.assert_traces(traced, output[None], [value[:, None] for value in final])
        assert traced.hidden_state.shape == (1, 2, 2, 7, 2)
        assert traced.initial_state.cell_state.shape == (4, 1, 5)

    def test_a_state_without_a_batch_goes_with_inputs_without_one(self, module, sequences, random):
        batched = random_state(module, 1, random)
        unbatched = tuple(value[:, 0] for value in batched)
        for inputs, state in ((sequences[0], batched), (sequences[:1], unbatched)):
            with pytest.raises(InvalidInput, match=r"has shape .* takes") as refused:
                trace(module, inputs, initial_state=state)
            assert refused.value.places[0].loc == ("initial_state", "hidden_state")
        with pytest.raises(RuntimeError):  # as the module does
            module(sequences[0], tuple(batched))

    def test_a_state_needs_every_tensor(self, module, sequences, random):
        hidden_state, _ = random_state(module, 3, random)
        for state in (hidden_state, (hidden_state,)):
            with pytest.raises(InvalidInput, match="1 tensors; this LSTM takes 2: hidden_state, cell_state"):
                trace(module, sequences, initial_state=state)

    @pytest.mark.parametrize("packed", [False, True])
    def test_lists_and_packed_sequences_bring_their_lengths(self, module, sequences, packed):
        given = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False) if packed else sequences
        with pytest.raises(InvalidInput, match="its own lengths") as refused:
            trace(module, given, sequence_lengths=list(LENGTHS))
        assert refused.value.places[0].loc == ("sequence_lengths",)

    def test_packed_sequences_of_a_wrong_width_are_refused(self, module):
        packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 2)])
        with pytest.raises(InvalidInput, match=r"sequences of \(time, 3\)"):
            trace(module, packed)

    @pytest.mark.parametrize("backend", ["workspace", "replay", "loop"])
    def test_no_gradients_are_recorded(self, random, backend, use_backend):
        use_backend(backend)
        module = nn.LSTM(3, 5, batch_first=True)
        inputs = torch.randn(2, 4, 3, generator=random, requires_grad=True)
        state = State(*(value.requires_grad_() for value in random_state(module, 2, random)))
        with torch.enable_grad():
            traced = trace(module, inputs, initial_state=state)
        tensors = (*traced.signals.values(), traced.output, *traced.initial_state, *traced.final_state)
        assert not any(value.requires_grad for value in tensors)
        assert traced.backend == backend
        assert inputs.requires_grad


class TestResidual:
    """Max |fused hidden_state − output_gate·tanh(cell_state)|, over the valid steps; replay rebuilds it from inputs."""

    @pytest.fixture(autouse=True)
    def _replayed(self, use_backend, monkeypatch):
        use_backend("replay")
        monkeypatch.setattr(probe, "_is_proved", cache(lambda *_: True))  # no probe between a test and its error

    @pytest.fixture
    def perturb(self, monkeypatch):
        """Let the fused kernel of one direction's run be wrong by 0.25 in one hidden value."""

        def install(row, step, unit, call=0):
            right, calls = replay.run_kernel, itertools.count()

            def wrong(*args):
                result = right(*args)
                if next(calls) == call:
                    result[step, row, unit] += 0.25
                return result

            monkeypatch.setattr(replay, "run_kernel", wrong)

        return install

    @pytest.mark.parametrize("call", [0, 1, 2, 3])
    def test_an_error_in_a_last_step_is_the_residual(self, bidirectional, sequences, perturb, call):
        perturb(row=2, step=LENGTHS[2] - 1, unit=3, call=call)
        assert trace(bidirectional, sequences).residual == pytest.approx(0.25, abs=1e-6)

    def test_an_earlier_error_counts_with_its_effect_on_later_gates(self, seeded_lstm, sequences, perturb):
        perturb(row=0, step=2, unit=1)
        traced = trace(seeded_lstm(3, 5), sequences)
        rebuilt = traced.output_gate.double() * traced.cell_state.double().tanh()
        error = (traced.hidden_state - rebuilt).abs()
        assert traced.residual == pytest.approx(error[~error.isnan()].max().item(), abs=1e-6)
        assert error[0, 0, 0, 2, 1].item() == pytest.approx(0.25, abs=1e-6)

    def test_with_a_projection_it_is_the_projected_difference(self, seeded_lstm, sequences, perturb):
        perturb(row=0, step=LENGTHS[0] - 1, unit=2)
        assert trace(seeded_lstm(3, 5, proj_size=3), sequences).residual == pytest.approx(0.25, abs=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_exact_values_have_almost_none(self, dtype):
        output_gate, cell_state = torch.rand(7, 3, 5, dtype=dtype), torch.randn(7, 3, 5, dtype=dtype)
        signals = {
            "output_gate": output_gate,
            "cell_state": cell_state,
            "hidden_state": output_gate * cell_state.tanh(),
        }
        assert float(_step_residuals(LSTM, signals).max()) <= {torch.float64: 1e-15, torch.float32: 4e-7}.get(dtype, 0)

    def test_an_error_in_the_padding_does_not_count(self, bidirectional, sequences, perturb):
        perturb(row=1, step=4, unit=3)
        assert trace(bidirectional, sequences).residual <= 1e-6

    def test_nan_of_the_kernel_is_nan(self, seeded_lstm, sequences, monkeypatch):
        right = replay.run_kernel

        def broken(*args):
            result = right(*args)
            result[0, 0, 0] = torch.nan
            return result

        monkeypatch.setattr(replay, "run_kernel", broken)
        residual = trace(seeded_lstm(3, 5), sequences).residual
        assert residual != residual  # noqa: PLR0124 (NaN alone differs from itself)


class TestRefusals:
    @pytest.mark.parametrize("shape", [(3,), (2, 4), (0, 3), (2, 4, 4), (2, 0, 3), (0, 4, 3), (1, 2, 4, 3)])
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_inputs_of_a_wrong_shape(self, bidirectional, shape, batch_first):
        bidirectional.batch_first = batch_first
        axes = r"\(batch, time, 3\)" if batch_first else r"\(time, batch, 3\)"
        with pytest.raises(InvalidInput, match=rf"this LSTM takes {axes}, or \(time, 3\) without a batch") as refused:
            trace(bidirectional, torch.zeros(shape))
        assert refused.value.places[0].loc == ("inputs",)
        assert str(shape) in str(refused.value)

    @pytest.mark.parametrize(
        "sequences",
        [
            [],
            [torch.zeros(4, 2)],
            [torch.zeros(4, 3), torch.zeros(4, 2)],
            [torch.zeros(3)],
            [torch.zeros(0, 3)],
        ],
        ids=["none", "too narrow", "of two widths", "without a time axis", "empty"],
    )
    def test_a_list_of_sequences_of_a_wrong_shape(self, bidirectional, sequences):
        with pytest.raises(InvalidInput) as refused:
            trace(bidirectional, sequences)
        assert refused.value.places[0].loc[0] == "inputs"

    @pytest.mark.parametrize("lengths", [[4], [4, 4, 4], [[4, 4]], 4])
    def test_a_wrong_number_of_lengths(self, bidirectional, lengths):
        with pytest.raises(InvalidInput, match="2 sequences") as refused:
            trace(bidirectional, torch.zeros(2, 4, 3), lengths)
        assert refused.value.places[0].loc == ("sequence_lengths",)

    @pytest.mark.parametrize("lengths", [[0, 4], [4, 5], [-1, 2]])
    def test_lengths_outside_the_input(self, bidirectional, lengths):
        with pytest.raises(InvalidInput, match="1…4") as refused:
            trace(bidirectional, torch.zeros(2, 4, 3), lengths)
        assert refused.value.places[0].loc == ("sequence_lengths",)
        assert str(lengths) in str(refused.value)

    def test_fractional_lengths(self, bidirectional):
        with pytest.raises(InvalidInput) as refused:
            trace(bidirectional, torch.zeros(2, 4, 3), torch.tensor([3.0, 2.5]))
        assert refused.value.places[0].loc == ("sequence_lengths",)

    @pytest.mark.parametrize("name", ["hidden_state", "cell_state"])
    @pytest.mark.parametrize("shape", [(4, 1, 5), (2, 2, 5), (4, 2, 3), (2, 5)])
    def test_states_of_a_wrong_shape(self, bidirectional, name, shape):
        state = {"hidden_state": torch.zeros(4, 2, 5), "cell_state": torch.zeros(4, 2, 5)} | {name: torch.zeros(shape)}
        with pytest.raises(InvalidInput, match=r"this LSTM takes \(4, 2, 5\)") as refused:
            trace(bidirectional, torch.zeros(2, 4, 3), initial_state=tuple(state.values()))
        assert refused.value.places[0].loc == ("initial_state", name)
        assert str(shape) in str(refused.value)


class TestGradients:
    """`trace(…, grad=True)` is differentiable, and equals the module and its gradients."""

    MODULES = (
        lambda **arguments: nn.LSTM(3, 4, **arguments),
        lambda **arguments: nn.LSTM(3, 4, proj_size=2, **arguments),
        lambda **arguments: nn.GRU(3, 4, **arguments),
        lambda **arguments: nn.RNN(3, 4, **arguments),
        lambda **arguments: nn.RNN(3, 4, nonlinearity="relu", **arguments),
    )

    @pytest.fixture(params=MODULES, ids=["LSTM", "projected LSTM", "GRU", "RNN", "RNN relu"])
    def make(self, request):
        return lambda **arguments: request.param(batch_first=True, **arguments).double()

    @pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
    @pytest.mark.parametrize("lengths", [(5, 5), (5, 2, 3)], ids=str)
    def test_gradients_equal_those_of_the_module(self, make, random, arguments, lengths):
        module = make(**arguments)
        inputs = torch.randn(len(lengths), 5, 3, generator=random, dtype=torch.float64, requires_grad=True)
        state = State(*(value.double().requires_grad_() for value in random_state(module, len(lengths), random)))
        given = (inputs, *state, *module.parameters())
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        output, final = module(packed, state.hx)
        output = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]
        final = (final,) if isinstance(final, torch.Tensor) else final
        loss = (output**2).sum() + sum((value**3).sum() for value in final)
        expected = torch.autograd.grad(loss, given)
        traced = trace(module, inputs, lengths, state, grad=True)
        mine = (traced.output.nan_to_num() ** 2).sum() + sum((value**3).sum() for value in traced.final_state)
        torch.testing.assert_close(mine, loss, rtol=1e-12, atol=1e-12)
        for gradient, right in zip(torch.autograd.grad(mine, given), expected, strict=True):
            torch.testing.assert_close(gradient, right, rtol=0, atol=1e-10)
        assert traced.residual <= 1e-12

    @pytest.mark.parametrize(
        "selection",
        [None, Selection(layers=(1,), directions=("reverse",), units=(3, 0), time=slice(None, None, -2))],
        ids=["everything", "a part"],
    )
    def test_numbers_equal_those_without_gradients(self, make, sequences, selection):
        module = make(num_layers=2, bidirectional=True)
        sequences = [sequence.double() for sequence in sequences]
        traced = trace(module, sequences, selection=selection, grad=True)
        assert_same(traced, trace(module, sequences, selection=selection), 1e-12)
        assert all(values.requires_grad for values in traced.signals.values())

    def test_every_signal_can_be_differentiated(self, make):
        module = make()
        selection = Selection(signals=Spec.from_module(module).cell.signal_names)
        inputs = torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True)
        for name in selection.signals:
            assert torch.autograd.gradcheck(
                lambda x, name=name: trace(module, x, selection=selection, grad=True).signals[name], inputs
            )

    def test_they_are_recorded_where_gradients_are_disabled(self, make):
        with torch.no_grad():
            assert trace(make(), torch.zeros(1, 2, 3), grad=True).output.requires_grad


def test_its_repr_is_short(sequences):
    traced = trace(nn.GRU(3, 5, 2, bidirectional=True), sequences)
    module = "nn.GRU(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)"
    assert repr(traced) == f"Trace({module}; 3 × 7 steps; reset_gate, update_gate, candidate, hidden_state)"
    html = traced._repr_html_()
    assert html.count("<tr>") == 5
    assert "<td>3 × 2 × 2 × 7 × 5</td>" in html
    assert module in html


def test_it_is_a_dataset_with_named_axes(sequences):
    selection = Selection(units=(4, 1), time=slice(2, 6, 2), directions=("reverse",))
    traced = trace(nn.GRU(3, 5, 2, bidirectional=True), sequences, selection=selection)
    dataset = traced.to_xarray()
    assert dataset.time.values.tolist() == [2, 4]
    assert dataset.unit.values.tolist() == [4, 1]
    assert dataset.attrs["module"] == "nn.GRU(input_size=3, hidden_size=5, num_layers=2, bidirectional=True)"
    assert dataset.update_gate.attrs["range"] == "0 to 1"
    assert dataset.sequence_lengths.values.tolist() == traced.sequence_lengths.tolist()
    for name, values in traced.signals.items():
        np.testing.assert_array_equal(dataset[name].values, values.detach())


def test_its_plot_has_a_row_for_each_signal_and_a_column_for_each_layer_and_direction(sequences):
    figure = trace(nn.GRU(3, 5, 2, bidirectional=True), sequences, selection=Selection(units=(4, 1))).plot(1)
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 4 * 4
    assert pictures[0].get_title() == "layer 0, forward"
    assert pictures[0].yaxis.get_major_formatter()(0) == "4"
