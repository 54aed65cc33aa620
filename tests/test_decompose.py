import itertools
import re

import pytest
import torch

from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.decompose import DotProduct, Point, decompose_step, explain, number
from gatescope.errors import InvalidInput
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace
from gatescope.weights import Weights

STEPS = 6
EXACT = 1e-12
GATE_NAMES = ("input_gate", "forget_gate", "cell_candidate", "output_gate")
GRID = [
    {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias, "proj_size": proj_size}
    for num_layers, bidirectional, bias, proj_size in itertools.product((1, 3), (False, True), (False, True), (0, 3))
]


@pytest.fixture
def sequence(random):
    return torch.randn(STEPS, 3, generator=random, dtype=torch.float64)


def random_state(module, generator):
    shapes = Spec.from_module(module).state_shapes(1)
    return State(*(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes.values()))


def points(spec):
    """Every layer and direction at the first, a middle and the last step, each time of another unit."""
    places = itertools.product(range(spec.num_layers), spec.directions, (0, 2, STEPS - 1))
    return [Point(*place, unit=index % spec.hidden_size) for index, place in enumerate(places)]


def before(point, signals, state, spec):
    """h_{t−1} and c_{t−1} of all units, from the equations."""
    direction = spec.directions.index(point.direction)
    step = point.time_step + (1 if direction else -1)
    if not 0 <= step < STEPS:
        return [value[point.layer * spec.num_directions + direction, 0] for value in state]
    return [signals[name][point.layer, direction, step] for name in ("hidden_state", "cell_state")]


@pytest.mark.parametrize("given_state", [False, True], ids=["zeros", "given state"])
@pytest.mark.parametrize("arguments", GRID, ids=lambda arguments: "-".join(map(str, arguments.values())))
def test_every_number_equals_the_equations(seeded_lstm, random, sequence, arguments, given_state):
    module = seeded_lstm(3, 5, **arguments).double()
    spec = Spec.from_module(module)
    state = random_state(module, random) if given_state else State.zeros(spec, 1, sequence)
    signals = reference.run(module, sequence, state)

    for point in points(spec):
        explained = explain(module, sequence, state, point)
        at = (point.layer, spec.directions.index(point.direction), point.time_step)
        decomposition = explained.decomposition
        cell, hidden = decomposition.updates["cell_state"], decomposition.updates["hidden_state"]
        expected = {name: values[at] for name, values in signals.items() if name != "output"}
        _, c = before(point, signals, state, spec)

        for name in GATE_NAMES:
            assert decomposition.gates[name].value == pytest.approx(expected[name][point.unit].item(), abs=EXACT)
        i, f, g, o = (expected[name][point.unit].item() for name in GATE_NAMES)
        assert decomposition.previous["cell_state"] == pytest.approx(c[point.unit].item(), abs=EXACT)
        factors = [[factor.value for factor in term.factors] for term in cell.terms.values()]
        assert factors == [pytest.approx([f, c[point.unit].item()], abs=EXACT), pytest.approx([i, g], abs=EXACT)]
        forget_term, input_term = cell.terms["forget_term"].value, cell.terms["input_term"].value
        assert (forget_term, input_term) == pytest.approx((f * c[point.unit].item(), i * g), abs=EXACT)
        assert cell.value == pytest.approx(expected["cell_state"][point.unit].item(), abs=EXACT)
        output_gate, tanh_cell_state = hidden.terms["output_term"].factors
        assert output_gate.value == pytest.approx(o, abs=EXACT)
        assert tanh_cell_state.argument == cell.value
        assert tanh_cell_state.value == pytest.approx(expected["cell_state"][point.unit].tanh().item(), abs=EXACT)
        assert hidden.value == pytest.approx(o * expected["cell_state"][point.unit].tanh().item(), abs=EXACT)
        if spec.proj_size:
            torch.testing.assert_close(hidden.projected, expected["hidden_state"], rtol=0, atol=EXACT)
        else:
            assert hidden.projected is None
            assert hidden.value == pytest.approx(expected["hidden_state"][point.unit].item(), abs=EXACT)
        assert explained.residual <= EXACT


@pytest.mark.parametrize("arguments", GRID, ids=lambda arguments: "-".join(map(str, arguments.values())))
def test_contributions_add_up_to_the_gate_sum(seeded_lstm, random, sequence, arguments):
    module = seeded_lstm(3, 5, **arguments).double()
    spec = Spec.from_module(module)
    state = random_state(module, random)
    signals = reference.run(module, sequence, state)

    for point in points(spec):
        gates = explain(module, sequence, state, point).decomposition.gates
        weights = Weights.of(module, point.layer, point.direction)
        below = signals["hidden_state"][point.layer - 1, :, point.time_step].flatten()
        x = below if point.layer else sequence[point.time_step]
        h, _ = before(point, signals, state, spec)
        for index, name in enumerate(GATE_NAMES):
            row, gate = index * 5 + point.unit, gates[name]
            torch.testing.assert_close(gate.inputs.contributions, weights.weight_ih[row] * x, rtol=0, atol=EXACT)
            torch.testing.assert_close(gate.recurrent.contributions, weights.weight_hh[row] * h, rtol=0, atol=EXACT)
            biases = [] if weights.bias_ih is None else [weights.bias_ih[row].item(), weights.bias_hh[row].item()]
            assert [gate.bias_input, gate.bias_recurrent] == (biases or [None, None])
            parts = [*gate.inputs.contributions.tolist(), *gate.recurrent.contributions.tolist(), *biases]
            assert gate.sum == pytest.approx(sum(parts), abs=EXACT)
            assert gate.sum == pytest.approx(gate.inputs.total + gate.recurrent.total + sum(biases), abs=EXACT)
            activation = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[gate.activation.name]
            assert gate.value == pytest.approx(
                activation(torch.tensor(gate.sum, dtype=torch.float64)).item(), abs=EXACT
            )
        assert [gate.activation.name for gate in gates.values()] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]


def test_one_step_needs_only_weights_input_and_previous_states(random):
    x, h, c = (torch.randn(size, generator=random) for size in (2, 4, 4))
    weights = Weights(*(torch.randn(shape, generator=random) for shape in ((16, 2), (16, 4), (16,), (16,))), None)
    x64, h64, c64 = (value.double()[None] for value in (x, h, c))
    expected = LSTM.step(x64, (h64, c64), weights.to(x64))
    for unit in range(4):
        decomposition = decompose_step(LSTM, weights, x, (h, c), unit)
        assert {name: gate.value for name, gate in decomposition.gates.items()} == pytest.approx(
            {name: expected[name][0, unit].item() for name in GATE_NAMES}, abs=EXACT
        )
        for state, update in decomposition.updates.items():
            assert update.value == pytest.approx(expected[state][0, unit].item(), abs=EXACT)


def test_a_float32_module_is_decomposed_in_float64(seeded_lstm, random):
    module = seeded_lstm(3, 5, 2, bidirectional=True, proj_size=2)
    sequence = torch.randn(STEPS, 3, generator=random)
    state = State(*(value.float() for value in random_state(module, random)))
    traced = trace(module, [sequence], initial_state=state)
    for point in points(Spec.from_module(module)):
        explained = explain(module, sequence, state, point)
        at = (0, point.layer, ("forward", "reverse").index(point.direction), point.time_step, point.unit)
        for name, gate in explained.decomposition.gates.items():
            assert gate.value == pytest.approx(traced.signals[name][at].item(), abs=1e-5)
        assert explained.decomposition.updates["cell_state"].value == pytest.approx(
            traced.cell_state[at].item(), abs=1e-5
        )
        assert 0 < explained.residual < 1e-5


@pytest.mark.parametrize("proj_size", [0, 3])
def test_residual_is_the_distance_from_the_trace(seeded_lstm, random, sequence, monkeypatch, proj_size):
    module = seeded_lstm(3, 5, proj_size=proj_size).double()
    point = Point(0, "forward", 2, 1)

    def wrong(*args, **kwargs):
        traced = trace(*args, **kwargs)
        traced.signals["hidden_state"][0, 0, 0, -1, 1] += 0.25
        return traced

    monkeypatch.setattr("gatescope.decompose.trace", wrong)
    assert explain(module, sequence, random_state(module, random), point).residual == pytest.approx(0.25, abs=EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_formulas_contain_the_numbers(seeded_lstm, random, sequence, bias):
    module = seeded_lstm(3, 5, 2, bias=bias).double()
    state = random_state(module, random)
    for unit in range(5):
        decomposition = explain(module, sequence, state, Point(1, "forward", 3, unit)).decomposition
        for gate in decomposition.gates.values():
            assert re.fullmatch(rf"{gate.activation.name}\(.+\) = {re.escape(number(gate.value))}", gate.formula)
            parts = gate.formula.split("(")[1].split(")")[0].replace("− ", "−").replace("+ ", "").split(" ")
            assert parts == [number(term) for term in gate.terms.values()]
            assert len(parts) == (4 if bias else 2)
        for update in decomposition.updates.values():
            for factor in (factor for term in update.terms.values() for factor in term.factors):
                assert number(factor.argument) in update.formula
                assert number(factor.value) in update.formula
            assert update.formula.endswith(f"= {number(update.value)}")


def test_formulas_are_written_as_in_a_textbook():
    weights = Weights(
        weight_ih=torch.tensor([[0.1], [0.2], [0.3], [0.4]], dtype=torch.float64),
        weight_hh=torch.tensor([[-0.5], [0.6], [-0.7], [0.8]], dtype=torch.float64),
        bias_ih=torch.tensor([0.01, 0.02, 0.03, 0.04], dtype=torch.float64),
        bias_hh=torch.tensor([0.1, -0.1, 0.2, -0.2], dtype=torch.float64),
        weight_hr=None,
    )
    x, h, c = (torch.tensor([value], dtype=torch.float64) for value in (-1.5, -0.4, -0.9))
    decomposition = decompose_step(LSTM, weights, x, (h, c), 0)
    assert decomposition.gates["input_gate"].formula == "sigmoid(−0.15 + 0.2 + 0.01 + 0.1) = 0.5399"
    assert decomposition.gates["forget_gate"].formula == "sigmoid(−0.3 − 0.24 + 0.02 − 0.1) = 0.3498"
    assert decomposition.gates["cell_candidate"].formula == "tanh(−0.45 + 0.28 + 0.03 + 0.2) = 0.05993"
    assert decomposition.updates["cell_state"].formula == "0.3498 · (−0.9) + 0.5399 · 0.05993 = −0.2824"
    hidden = decomposition.updates["hidden_state"]
    assert hidden.formula == "0.2535 · tanh(−0.2824) = 0.2535 · (−0.2752) = −0.06976"
    assert number(-0.0) == "0"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.9999942, "0.999994"),
        (-0.9999942, "−0.999994"),
        (0.99996, "0.99996"),
        (1.00004, "1.00004"),
        (0.99994, "0.9999"),
        (1 - 2**-53, "0.9999999999999999"),
        (1.0, "1"),
        (-1.0, "−1"),
        (3e-9, "3e−09"),
    ],
)
def test_a_number_is_only_written_as_a_bound_that_it_reaches(value, written):
    assert number(value) == written


def test_largest_products_come_first_and_zeros_are_left_out():
    products = DotProduct(torch.tensor([1.0, 2.0, 0.0, -4.0, 1.0]), torch.tensor([0.5, -1.0, 9.0, 0.25, 0.5]))
    largest = products.largest(3)
    assert [(term.index, term.value, term.weight, term.contribution) for term in largest] == [
        (1, 2.0, -1.0, -2.0),
        (3, -4.0, 0.25, -1.0),
        (0, 1.0, 0.5, 0.5),
    ]
    assert [term.index for term in products.largest(9)] == [1, 3, 0, 4]
    assert products.total == -2.0


def test_previous_time_step_follows_the_direction():
    spec = Spec(3, 5, bidirectional=True)
    for direction, expected in (("forward", [None, 0, 1, 2]), ("reverse", [1, 2, 3, None])):
        resolved = [Point(0, direction, step, 0).resolve(spec, 4) for step in (0, 1, -2, -1)]
        assert [point.time_step for point in resolved] == [0, 1, 2, 3]
        assert [point.previous_time_step(4) for point in resolved] == expected


def test_selection_has_two_layers_at_two_steps_at_most():
    spec = Spec(3, 5, num_layers=9, bidirectional=True)
    for direction, step in itertools.product(spec.directions, (0, 500, 999)):
        selection = Point(7, direction, step, 0).selection(spec, 1000).resolve(spec)
        batch, layers, directions, time, units = selection.shape(1, 1000)
        assert (batch, layers, directions, units) == (1, 2, 2, 5)
        assert time <= 2
        assert selection.signals == ("hidden_state", "cell_state")


def test_every_missing_part_of_a_point_is_named():
    with pytest.raises(InvalidInput) as caught:
        Point(2, "reverse", 6, 5).resolve(Spec(3, 5, 2), 6)
    assert {place.loc: place.message for place in caught.value.places} == {
        ("layer",): "layer has no 2; this model has 0 to 1",
        ("direction",): "direction has no 'reverse'; this model has 'forward'",
        ("time_step",): "time_step has no 6; this sequence has 0 to 5, or -6 to -1 counted from its end",
        ("unit",): "unit has no 5; this model has 0 to 4",
    }
