"""A state is a tuple of tensors in the module's own layout."""

import copy
import itertools
import pickle

import pytest
import torch

from gatescope.spec import Spec
from gatescope.state import State

SPECS = [
    Spec(3, 4, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    for num_layers, bidirectional, proj_size in itertools.product((1, 2), (False, True), (0, 2))
]


@pytest.fixture(params=SPECS, ids=str)
def spec(request):
    return request.param


def random_state(spec, batch):
    return State(*(torch.randn(shape) for shape in spec.state_shapes(batch).values()))


def assert_equal(given, expected):
    assert type(given) is State
    for mine, other in zip(given, expected, strict=True):
        assert mine.shape == other.shape
        assert torch.equal(mine, other)


def test_tensors_have_the_names_of_the_cells_states():
    h, c = torch.zeros(1), torch.ones(1)
    state = State(h, c)
    assert state.hidden_state is h
    assert state.cell_state is c
    assert state.names == ("hidden_state", "cell_state")
    assert state.named() == {"hidden_state": h, "cell_state": c}
    with pytest.raises(AttributeError, match="no 'memory'; it has hidden_state, cell_state"):
        state.memory  # noqa: B018


def test_zeros_have_the_shapes_of_the_spec(spec):
    state = State.zeros(spec, 3, torch.empty(0, dtype=torch.float64))
    assert {name: tuple(value.shape) for name, value in state.named().items()} == spec.state_shapes(3)
    assert all(value.dtype == torch.float64 and not value.any() for value in state)


def test_packed_rows_are_unpacked_again(spec):
    state = random_state(spec, 3)
    rows = state.packed()
    assert {len(row) for row in rows} == {4 * spec.state_entries * sum(spec.state_sizes)}
    assert_equal(State.unpacked(rows, spec), state)
    assert_equal(State.unpacked(rows[1:2], spec), [value[:, 1:2] for value in state])


def test_entries_join_to_the_whole(spec):
    state = random_state(spec, 3)
    entries = state.entries()
    assert len(entries) == spec.state_entries
    assert_equal(entries[-1], [value[-1:] for value in state])
    assert_equal(State.joined(entries), state)


def test_hx_is_what_the_module_takes_and_returns(spec):
    module, state = spec.build(), random_state(spec, 2)
    with torch.no_grad():
        _, final = module(torch.randn(2, 5, 3), state.hx)
        _, lone = module(torch.randn(5, 3), tuple(value[:, 0] for value in state))
    assert_equal(State.from_hx(final), final)
    assert_equal(State.from_hx(lone), [value[:, None] for value in lone])


def test_copies_are_states():
    state = random_state(SPECS[0], 2)
    pickled = pickle.loads(pickle.dumps(state))  # noqa: S301 - its own
    for copied in (copy.copy(state), copy.deepcopy(state), pickled):
        assert_equal(copied, state)


def test_to_takes_type_and_device():
    state = random_state(SPECS[0], 2)
    assert_equal(state.to(torch.empty(0, dtype=torch.float64)), [value.double() for value in state])
