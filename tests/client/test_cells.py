"""The client of models around `nn.GRU` and `nn.RNN`, whose states and signals are others than an `nn.LSTM`'s."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from gatescope.client import State
from gatescope.errors import InvalidInput
from tests.server.api import recurrent
from tests.server.api.recurrent import ALL, SIGNALS, equations, fed

ROWS = np.random.default_rng(5).normal(0, 1, (7, 3))
ATOL = 2e-6


@pytest.fixture(scope="module")
def made():
    return recurrent.made()


@pytest.fixture(scope="module")
def url(made, serve_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("recurrent")
    recurrent.write(root, made)
    with serve_models(root) as client:
        yield str(client.base_url)


@pytest.fixture
def client(connect, url):
    return connect(url)


@pytest.mark.parametrize("name", ["gru", "gru-both", "relu"])
def test_a_state_has_what_the_cell_has(client, made, name):
    state = client.predict(name, ROWS, outputs=["final_state"]).final_state
    (hidden,) = state
    (end,) = made[name].run(ROWS)[2].values()
    np.testing.assert_allclose(hidden, end, atol=ATOL)
    assert state.hidden_state is hidden
    assert not hasattr(state, "cell_state")
    with pytest.raises(AttributeError, match="it has hidden_state"):
        _ = state.cell_state


GIVEN = {
    "state": lambda state: state,
    "array": lambda state: state.hidden_state,
    "tensor": lambda state: torch.tensor(state.hidden_state),
    "lists": lambda state: state.hidden_state.tolist(),
    "tuple": lambda state: (torch.tensor(state.hidden_state),),
    "named": lambda state: {"hidden_state": state.hidden_state},
    "named lists": lambda state: {"hidden_state": state.hidden_state.tolist()},
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("name", ["gru", "tanh"])
def test_it_is_taken_as_pytorch_has_it_or_by_name(client, made, name, given):
    half = client.predict(name, ROWS[:3], outputs=["final_state"]).final_state
    rest = client.predict(name, ROWS[3:], initial_state=given(half))
    np.testing.assert_allclose(rest.values[0], made[name].run(ROWS)[0][3:], atol=ATOL)
    with client.session(name, initial_state=given(half)) as stream:
        np.testing.assert_allclose(stream.step(ROWS[3:]).values, rest.values, atol=ATOL)
        stream.set_state(given(half))
        np.testing.assert_allclose(stream.step(ROWS[3:]).values, rest.values, atol=ATOL)


@pytest.mark.parametrize("kind", ["states", "arrays"])
def test_states_of_modules_of_several_cells_go_on_by_name(client, made, kind):
    half = client.predict("mixed", ROWS[:3], outputs=["final_state"]).final_state
    assert {name: len(state) for name, state in half.items()} == {"first": 1, "second": 2, "third": 1}
    given = {name: tuple(state) if len(state) > 1 else state.hidden_state for name, state in half.items()}
    rest = client.predict("mixed", ROWS[3:], initial_state=half if kind == "states" else given)
    np.testing.assert_allclose(rest.values[0], made["mixed"].run(ROWS)[0][3:], atol=ATOL)


def test_a_cell_state_is_refused_by_the_server(client):
    pair = (np.zeros((2, 1, 5)), np.zeros((2, 1, 5)))
    with pytest.raises(InvalidInput, match="model 'gru' is a gru: it has no cell_state"):
        client.predict("gru", ROWS, initial_state=pair)


def test_more_arrays_than_any_cell_has_are_refused(client):
    with pytest.raises(InvalidInput, match="not 3 arrays"):
        client.predict("gru", ROWS, initial_state=(np.zeros((2, 1, 5)),) * 3)


@pytest.mark.parametrize("name", ["gru", "relu-both"])
def test_a_trace_has_the_signals_of_the_cell(client, made, name):
    each = made[name]
    assert list(client.trace(name, ROWS).data_vars) == [*SIGNALS[each.cell], "sequence_lengths"]
    traced, expected = client.trace(name, ROWS, signals=ALL[each.cell]), equations(each.module, fed(ROWS))
    for signal in ALL[each.cell]:
        np.testing.assert_allclose(traced[signal].values[0], expected[signal], atol=5e-6)
        assert traced[signal].attrs["description"]
    assert traced.attrs["residual"] < 1e-6
    kept = client.store_trace(name, ROWS)
    values = client.trace_values(kept["trace_id"], signals=["hidden_state"], layers=[0])
    np.testing.assert_allclose(values.hidden_state[0], expected["hidden_state"][:1], atol=5e-6)


def test_steps_of_a_stream_are_traced_and_explained(client, made):
    expected = equations(made["gru"].module, fed(ROWS))
    with client.session("gru") as stream:
        stream.step(ROWS[:4])
        step = stream.step(ROWS[4:], trace={"signals": ["candidate", "recurrent_candidate"]})
        np.testing.assert_allclose(step.trace.candidate[0], expected["candidate"][:, :, 4:], atol=5e-6)
    unit = client.explain("gru", ROWS, unit=3, time_step=-1)
    assert unit["hidden_update"]["value"] == pytest.approx(expected["hidden_state"][0, 0, -1, 3], abs=5e-6)
    assert list(unit["gates"]) == ["reset_gate", "update_gate", "candidate"]


def test_a_state_is_a_tuple_with_names():
    hidden, cell = np.zeros((1, 1, 2)), np.ones((1, 1, 2))
    for state in (State(hidden), State(hidden, cell), State(hidden_state=hidden, cell_state=cell)):
        assert repr(state).startswith("State(hidden_state=array(")
        again = deepcopy(state)
        assert type(again) is State
        np.testing.assert_array_equal(np.stack(again), np.stack(state))
    h, c = State(hidden, cell)
    assert (h is hidden, c is cell, State(hidden, cell)._asdict().keys()) == (
        True,
        True,
        {"hidden_state", "cell_state"},
    )
