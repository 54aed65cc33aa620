import itertools
import re

import pytest
import torch

from gatescope import cells
from gatescope.backends import reference
from gatescope.decompose import GATE_NAMES, Point, Products, explain, number, walk
from gatescope.errors import InvalidInput
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace
from gatescope.weights import Weights

STEPS = 6
EXACT = 1e-12
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
def test_every_number_is_what_the_equations_give(seeded_lstm, random, sequence, arguments, given_state):
    module = seeded_lstm(3, 5, **arguments).double()
    spec = Spec.from_module(module)
    state = random_state(module, random) if given_state else State.zeros(spec, 1, sequence)
    signals = reference.run(module, sequence, state)

    for point in points(spec):
        explained = explain(module, sequence, state, point)
        at = (point.layer, spec.directions.index(point.direction), point.time_step)
        walked = explained.walkthrough
        cell, hidden = walked.cell_update, walked.hidden_update
        expected = {name: values[at] for name, values in signals.items() if name != "output"}
        _, c = before(point, signals, state, spec)

        for name in GATE_NAMES:
            assert walked.gates[name].value == pytest.approx(expected[name][point.unit].item(), abs=EXACT)
        i, f, g, o = (expected[name][point.unit].item() for name in GATE_NAMES)
        assert cell.previous_cell_state == pytest.approx(c[point.unit].item(), abs=EXACT)
        assert (cell.input_gate, cell.forget_gate, cell.cell_candidate) == pytest.approx((i, f, g), abs=EXACT)
        assert (cell.kept, cell.written) == pytest.approx((f * c[point.unit].item(), i * g), abs=EXACT)
        assert cell.cell_state == pytest.approx(expected["cell_state"][point.unit].item(), abs=EXACT)
        assert hidden.cell_state == cell.cell_state
        assert hidden.tanh_cell_state == pytest.approx(expected["cell_state"][point.unit].tanh().item(), abs=EXACT)
        assert hidden.value == pytest.approx(o * expected["cell_state"][point.unit].tanh().item(), abs=EXACT)
        if spec.proj_size:
            torch.testing.assert_close(hidden.projected, expected["hidden_state"], rtol=0, atol=EXACT)
        else:
            assert hidden.projected is None
            assert hidden.value == pytest.approx(expected["hidden_state"][point.unit].item(), abs=EXACT)
        assert explained.residual <= EXACT


@pytest.mark.parametrize("arguments", GRID, ids=lambda arguments: "-".join(map(str, arguments.values())))
def test_contributions_add_up_to_what_the_gate_is_the_activation_of(seeded_lstm, random, sequence, arguments):
    module = seeded_lstm(3, 5, **arguments).double()
    spec = Spec.from_module(module)
    state = random_state(module, random)
    signals = reference.run(module, sequence, state)

    for point in points(spec):
        walked = explain(module, sequence, state, point).walkthrough
        weights = Weights.of(module, point.layer, point.direction)
        below = signals["hidden_state"][point.layer - 1, :, point.time_step].flatten()
        x = below if point.layer else sequence[point.time_step]
        h, _ = before(point, signals, state, spec)
        for index, name in enumerate(GATE_NAMES):
            row, gate = index * 5 + point.unit, walked.gates[name]
            torch.testing.assert_close(gate.inputs.contributions, weights.weight_ih[row] * x, rtol=0, atol=EXACT)
            torch.testing.assert_close(gate.recurrent.contributions, weights.weight_hh[row] * h, rtol=0, atol=EXACT)
            biases = [] if weights.bias_ih is None else [weights.bias_ih[row].item(), weights.bias_hh[row].item()]
            assert [gate.bias_input, gate.bias_recurrent] == (biases or [None, None])
            parts = [*gate.inputs.contributions.tolist(), *gate.recurrent.contributions.tolist(), *biases]
            assert gate.sum == pytest.approx(sum(parts), abs=EXACT)
            assert gate.sum == pytest.approx(gate.inputs.total + gate.recurrent.total + sum(biases), abs=EXACT)
            activation = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[gate.activation]
            assert gate.value == pytest.approx(
                activation(torch.tensor(gate.sum, dtype=torch.float64)).item(), abs=EXACT
            )
        assert [gate.activation for gate in walked.gates.values()] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]


def test_a_walk_needs_no_more_than_weights_and_what_came_before(random):
    x, h, c = (torch.randn(size, generator=random) for size in (2, 4, 4))
    weights = Weights(*(torch.randn(shape, generator=random) for shape in ((16, 2), (16, 4), (16,), (16,))), None)
    expected = cells.step(*(value.double()[None] for value in (x, h, c)), weights.to(x.double()))
    for unit in range(4):
        walked = walk(weights, x, h, c, unit)
        assert [gate.value for gate in walked.gates.values()] == pytest.approx(
            [getattr(expected, name)[0, unit].item() for name in GATE_NAMES], abs=EXACT
        )
        assert walked.cell_update.cell_state == pytest.approx(expected.cell_state[0, unit].item(), abs=EXACT)
        assert walked.hidden_update.value == pytest.approx(expected.hidden_state[0, unit].item(), abs=EXACT)


def test_a_float32_model_is_walked_in_float64_and_agrees_with_its_trace(seeded_lstm, random):
    module = seeded_lstm(3, 5, 2, bidirectional=True, proj_size=2)
    sequence = torch.randn(STEPS, 3, generator=random)
    state = State(*(value.float() for value in random_state(module, random)))
    traced = trace(module, sequence[None], initial_state=state)
    for point in points(Spec.from_module(module)):
        explained = explain(module, sequence, state, point)
        at = (0, point.layer, ("forward", "reverse").index(point.direction), point.time_step, point.unit)
        for name, gate in explained.walkthrough.gates.items():
            assert gate.value == pytest.approx(traced.signals[name][at].item(), abs=1e-5)
        assert explained.walkthrough.cell_update.cell_state == pytest.approx(traced.cell_state[at].item(), abs=1e-5)
        assert 0 < explained.residual < 1e-5


@pytest.mark.parametrize("proj_size", [0, 3])
def test_the_residual_is_how_far_the_trace_is_off(seeded_lstm, random, sequence, monkeypatch, proj_size):
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
        walked = explain(module, sequence, state, Point(1, "forward", 3, unit)).walkthrough
        for gate in walked.gates.values():
            assert re.fullmatch(rf"{gate.activation}\(.+\) = {re.escape(number(gate.value))}", gate.formula)
            parts = gate.formula.split("(")[1].split(")")[0].replace("− ", "−").replace("+ ", "").split(" ")
            assert parts == [number(term) for term in gate.terms]
            assert len(parts) == (4 if bias else 2)
        cell, hidden = walked.cell_update, walked.hidden_update
        for value in (cell.forget_gate, cell.previous_cell_state, cell.input_gate, cell.cell_candidate):
            assert number(value) in cell.formula
        assert cell.formula.endswith(f"= {number(cell.cell_state)}")
        for value in (hidden.output_gate, hidden.cell_state, hidden.tanh_cell_state):
            assert number(value) in hidden.formula
        assert hidden.formula.endswith(f"= {number(hidden.value)}")


def test_a_formula_reads_as_one_writes_it():
    weights = Weights(
        weight_ih=torch.tensor([[0.1], [0.2], [0.3], [0.4]], dtype=torch.float64),
        weight_hh=torch.tensor([[-0.5], [0.6], [-0.7], [0.8]], dtype=torch.float64),
        bias_ih=torch.tensor([0.01, 0.02, 0.03, 0.04], dtype=torch.float64),
        bias_hh=torch.tensor([0.1, -0.1, 0.2, -0.2], dtype=torch.float64),
        weight_hr=None,
    )
    x, h, c = (torch.tensor([value], dtype=torch.float64) for value in (-1.5, -0.4, -0.9))
    walked = walk(weights, x, h, c, 0)
    assert walked.gates["input_gate"].formula == "sigmoid(−0.15 + 0.2 + 0.01 + 0.1) = 0.5399"
    assert walked.gates["forget_gate"].formula == "sigmoid(−0.3 − 0.24 + 0.02 − 0.1) = 0.3498"
    assert walked.gates["cell_candidate"].formula == "tanh(−0.45 + 0.28 + 0.03 + 0.2) = 0.05993"
    assert walked.cell_update.formula == "0.3498 · (−0.9) + 0.5399 · 0.05993 = −0.2824"
    assert walked.hidden_update.formula == "0.2535 · tanh(−0.2824) = 0.2535 · (−0.2752) = −0.06976"
    assert number(-0.0) == "0"


def test_the_largest_terms_come_first_by_absolute_value_and_idle_ones_not_at_all():
    products = Products(torch.tensor([1.0, 2.0, 0.0, -4.0, 1.0]), torch.tensor([0.5, -1.0, 9.0, 0.25, 0.5]))
    terms = products.largest(3)
    assert [(term.index, term.value, term.weight, term.contribution) for term in terms] == [
        (1, 2.0, -1.0, -2.0),
        (3, -4.0, 0.25, -1.0),
        (0, 1.0, 0.5, 0.5),
    ]
    assert [term.index for term in products.largest(9)] == [1, 3, 0, 4]
    assert products.total == -2.0


def test_a_point_knows_the_step_that_its_direction_read_before():
    spec = Spec(3, 5, bidirectional=True)
    for direction, expected in (("forward", [None, 0, 1, 2]), ("reverse", [1, 2, 3, None])):
        resolved = [Point(0, direction, step, 0).resolve(spec, 4) for step in (0, 1, -2, -1)]
        assert [point.time_step for point in resolved] == [0, 1, 2, 3]
        assert [point.previous_time_step(4) for point in resolved] == expected


def test_no_more_of_a_trace_is_kept_than_two_layers_at_two_steps():
    spec = Spec(3, 5, num_layers=9, bidirectional=True)
    for direction, step in itertools.product(spec.directions, (0, 500, 999)):
        selection = Point(7, direction, step, 0).selection(spec, 1000).resolve(spec)
        batch, layers, directions, time, units = selection.shape(1, 1000)
        assert (batch, layers, directions, units) == (1, 2, 2, 5)
        assert time <= 2
        assert selection.signals == ("cell_state", "hidden_state")


def test_every_part_of_a_point_that_is_not_there_is_named():
    with pytest.raises(InvalidInput) as caught:
        Point(2, "reverse", 6, 5).resolve(Spec(3, 5, 2), 6)
    assert {place.loc: place.message for place in caught.value.places} == {
        ("layer",): "layer has no 2; this model has 0 to 1",
        ("direction",): "direction has no 'reverse'; this model has 'forward'",
        ("time_step",): "time_step has no 6; this sequence has 0 to 5, or -6 to -1 counted from its end",
        ("unit",): "unit has no 5; this model has 0 to 4",
    }
