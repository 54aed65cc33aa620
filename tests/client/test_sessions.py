"""A stream in steps gives the numbers of the whole, also over a network that loses requests and replies."""

import numpy as np
import pytest
import torch

from gatescope.client import Unreachable
from gatescope.errors import InvalidInput, SessionExists, SessionNotFound, StepConflict

WEEK = "/v1/models/demand"


@pytest.fixture(scope="module")
def week(shipped):
    """The inputs of some hours, (time, feature)."""
    return np.array(shipped.get(WEEK).json()["examples"][1]["request"]["inputs"][0][:24], dtype=float)


@pytest.fixture(scope="module")
def whole(shipped, week):
    """What the model says of all of it: the values, and the state at its end."""
    reply = shipped.post(
        f"{WEEK}/predict", json={"inputs": week.tolist(), "outputs": ["prediction", "final_state"]}
    ).json()
    return np.float32(reply["prediction"]["values"]), np.float32(reply["final_state"]["cell_state"])


@pytest.fixture
def opened(shipped):
    """The sessions that were opened in this test and still are."""

    def ids():
        return {session["session_id"] for session in shipped.get("/v1/sessions").json()["sessions"]}

    before = ids()
    yield lambda: ids() - before
    assert ids() == before


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, np.ndarray.tolist])
def test_a_stream_in_steps_gives_the_numbers_of_the_whole(client, week, whole, kind):
    with client.session("demand") as stream:
        steps = [stream.step(kind(part)) for part in np.array_split(week, 5)]
        assert [step.steps for step in steps] == [1, 2, 3, 4, 5]
        assert stream.steps == 5
        state = stream.state()
    np.testing.assert_allclose(np.concatenate([step.values for step in steps], axis=1), whole[0], rtol=1e-6)
    np.testing.assert_allclose(state.cell_state, whole[1], atol=1e-6)
    assert state.cell_state.dtype == np.float32
    with pytest.raises(SessionNotFound):
        stream.info()


def test_a_step_may_be_traced(client, week):
    traced = client.trace("demand", week, signals=["cell_state", "forget_gate"], units=[7, 2])
    with client.session("demand") as stream:
        assert stream.step(week[:10]).trace is None
        step = stream.step(week[10:], trace={"signals": ["cell_state", "forget_gate"], "units": [7, 2]})
        everything = stream.step(week[:1], trace={})
    assert list(step.trace.data_vars)[:2] == ["cell_state", "forget_gate"]
    assert step.trace.unit.values.tolist() == [7, 2]
    assert step.trace.attrs["model"] == "demand"
    np.testing.assert_allclose(step.trace.cell_state, traced.cell_state.isel(time=slice(10, None)), atol=1e-6)
    assert everything.trace.hidden_state.sizes["unit"] == client.model("demand")["lstm"]["hidden_size"]


def test_a_stream_may_look_ahead_without_going_there(client, week, whole):
    with client.session("shakespeare") as stream:
        first = stream.step(text="ROMEO", horizon=8)
        second = stream.step(text=":", horizon=4)
    assert len(first.text[0]) == 8
    assert second.text == client.predict("shakespeare", text="ROMEO:", horizon=4).text


def test_a_stream_begins_and_goes_on_where_it_is_told(client, week, whole):
    half = client.predict("demand", week[:12], outputs=["final_state"]).final_state
    for given in (half, tuple(map(torch.tensor, half)), half._asdict()):
        with client.session("demand", version="1", initial_state=given) as stream:
            first = stream.step(week[12:])
            stream.set_state(given)
            again = stream.step(week[12:])
        np.testing.assert_allclose(first.values, whole[0][:, 12:], rtol=1e-6)
        np.testing.assert_array_equal(again.values, first.values)


def test_a_session_is_found_again_by_its_id(client, opened, week, whole):
    stream = client.session("demand", session_id="hall-3")
    stream.open()
    stream.step(week[:12])
    assert client.sessions()[-1] == stream.info()
    assert opened() == {"hall-3"}
    with pytest.raises(SessionExists):
        client.session("demand", session_id="hall-3").open()
    with client.resume("hall-3") as resumed:
        assert resumed.steps == 1
        np.testing.assert_allclose(resumed.step(week[12:]).values, whole[0][:, 12:], rtol=1e-6)
    told = client.get("/v1/sessions/hall-3")
    assert (told["steps"], told["time_steps"]) == (2, 24)
    with pytest.raises(StepConflict, match="the next is 2"):
        stream.step(week)
    assert stream.info()["steps"] == stream.steps == 2
    stream.step(week)
    stream.close()
    with pytest.raises(SessionNotFound), client.resume("hall-3"):
        pass


@pytest.mark.parametrize("fault", ["lost", "refused"])
def test_a_step_whose_answer_is_lost_is_taken_once(client, network, week, whole, fault):
    with client.session("demand") as stream:
        values = []
        for part in np.array_split(week, 4):
            network.faults += [fault, fault]
            values.append(stream.step(part).values)
        assert stream.info()["steps"] == 4
    assert len(network.requests) == 1 + 4 * 3 + 2
    np.testing.assert_allclose(np.concatenate(values, axis=1), whole[0], rtol=1e-6)


def test_a_step_that_failed_unclearly_may_be_taken_again_but_not_be_mistaken_for_another(client, network, week, whole):
    with client.session("demand") as stream:
        network.faults += ["lost"] * 4
        with pytest.raises(Unreachable):
            stream.step(week[:12])
        with pytest.raises(StepConflict, match="taken already, with other inputs"):
            stream.step(week[12:])
        np.testing.assert_allclose(stream.step(week[:12]).values, whole[0][:, :12], rtol=1e-6)
        np.testing.assert_allclose(stream.step(week[12:]).values, whole[0][:, 12:], rtol=1e-6)


def test_opening_and_ending_survive_a_lost_answer(client, network, opened, week, whole):
    network.faults += ["lost", "lost"]
    with client.session("demand") as stream:
        assert stream.steps == 0
        assert opened() == {stream.session_id}
        np.testing.assert_allclose(stream.step(week).values, whole[0], rtol=1e-6)
        network.faults += ["lost"]
    assert opened() == set()


def test_what_fails_inside_is_not_hidden_by_a_failing_end(client, network, opened):
    def fail():
        network.faults += ["refused"] * 4
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), client.session("demand") as stream:
        fail()
    assert opened() == {stream.session_id}
    client.resume(stream.session_id).close()


def test_a_session_may_be_ended_before_its_block(client, opened, week):
    with client.session("demand") as stream:
        stream.step(week)
        stream.close()
        assert opened() == set()
        with pytest.raises(RuntimeError, match="not open"):
            stream.step(week)


def test_a_failing_end_alone_is_told(client, network):
    with pytest.raises(SessionNotFound), client.session("demand") as stream:
        client.resume(stream.session_id).close()


def test_a_session_must_be_open(client, week):
    stream = client.session("demand")
    assert stream.session_id is stream.steps is None
    for ask in (lambda: stream.step(week), stream.info, stream.state, stream.close):
        with pytest.raises(RuntimeError, match="not open"):
            ask()


def test_a_bidirectional_model_cannot_be_streamed(client):
    with pytest.raises(InvalidInput, match="bidirectional"), client.session("pos-tagger"):
        pass
