"""The client of models with several heads, recurrent modules and static inputs."""

import numpy as np
import pytest
import torch

from gatescope.client import State
from gatescope.errors import InvalidInput
from tests.server.api import layered
from tests.server.api.layered import basin

ROWS = np.array([[2451545.123456, 1.0], [2451545.223456, -0.5], [2451546.0, 0.25], [2451542.75, 2.0]])
STATIC = np.array([130.5, 2])
ATOL = 2e-6


@pytest.fixture(scope="module")
def made():
    return layered.modules()


@pytest.fixture(scope="module")
def url(made, serve_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("layered")
    layered.write(root, made)
    with serve_models(root) as client:
        yield str(client.base_url)


@pytest.fixture
def client(connect, url):
    return connect(url)


def test_a_prediction_has_every_head(client, made):
    said, _, _ = basin(made["basin"], ROWS, STATIC)
    given = client.predict("basin", [ROWS, ROWS[:1]], static_inputs=np.stack([STATIC, STATIC]))
    np.testing.assert_allclose(given.values[0], said["level"], atol=ATOL)
    assert given.heads.keys() == {"flood", "kinds", "spread"}
    for name, head in given.heads.items():
        np.testing.assert_allclose(head.values[0], said[name], atol=ATOL)
        assert np.isnan(head.values[1, 1:]).all()
    assert given.heads["flood"].labels.shape == (2, 4)
    assert given.heads["flood"].labels[1, 1:].tolist() == [""] * 3
    kinds = given.heads["kinds"]
    assert kinds.labels.shape == (2, 4)
    for step, scores in enumerate(said["kinds"]):
        expected = tuple(label for label, score in zip(["rain", "snow", "hail"], scores, strict=True) if score >= 0)
        assert kinds.labels[0, step] == expected
    assert kinds.labels[1, 1] == ()


def test_a_prediction_says_whether_it_is_verified_and_what_was_assumed(client):
    unverified = client.predict("basin", ROWS, static_inputs=STATIC)
    assert unverified.verified is False
    assert [note["code"] for note in unverified.notes] == ["unverified"]
    verified = client.predict("verified", [[1.0, 2.0]])
    assert (verified.verified, tuple(verified.notes)) == (True, ())
    text = client.predict("path", text="moon is here", outputs=["output"])
    assert text.verified is True  # no prediction is in it
    assert text.notes[0]["loc"] == ["body", "text", 0]


def test_columns_are_matched_by_name(client):
    named = client.predict(
        "basin", ROWS[:, ::-1], columns=["rain", "day"], static_inputs=STATIC[::-1], static_columns=["soil", "area"]
    )
    np.testing.assert_array_equal(named.values, client.predict("basin", ROWS, static_inputs=STATIC).values)
    with pytest.raises(InvalidInput, match="did you mean 'rain'"):
        client.predict("basin", ROWS, columns=["day", "rein"], static_inputs=STATIC)


@pytest.mark.parametrize("kind", ["states", "pairs", "tensors", "modules"])
def test_states_of_several_modules_go_on_by_name(client, kind):
    whole = client.predict("basin", ROWS, static_inputs=STATIC)
    half = client.predict("basin", ROWS[:2], static_inputs=STATIC, outputs=["final_state"]).final_state
    assert half.keys() == {"encoder", "decoder.rnn"}
    assert isinstance(half["decoder.rnn"], State)
    given = {
        "states": half,
        "pairs": {name: tuple(state) for name, state in half.items()},
        "tensors": {name: tuple(map(torch.tensor, state)) for name, state in half.items()},
        "modules": {"modules": {name: state._asdict() for name, state in half.items()}},
    }[kind]
    rest = client.predict("basin", ROWS[2:], static_inputs=STATIC, initial_state=given)
    np.testing.assert_allclose(rest.values[0], whole.values[0, 2:], atol=ATOL)


def test_a_session_keeps_its_static_inputs_and_states(client, made):
    said, ends, _ = basin(made["basin"], ROWS, STATIC)
    with client.session("basin", static_inputs=STATIC[::-1], static_columns=["soil", "area"]) as stream:
        first = stream.step(ROWS[:1])
        middle = stream.state()
        rest = stream.step(ROWS[1:])
        assert (first.verified, rest.verified) == (False, False)
        np.testing.assert_allclose(np.concatenate([first.values[0], rest.values[0]]), said["level"], atol=ATOL)
        np.testing.assert_allclose(stream.state()["decoder.rnn"].cell_state, ends["decoder.rnn"][1], atol=ATOL)
        stream.set_state(middle)
        np.testing.assert_allclose(stream.step(ROWS[1:]).values, rest.values, atol=ATOL)


def test_a_sequence_of_labels_that_do_not_exclude_each_other_may_be_empty():
    from gatescope.client.prediction import _padded  # noqa: PLC0415 - no model here predicts so little

    labels = _padded([["a"], []], np.zeros((2, 3)))
    assert (labels.shape, labels.tolist()) == ((2,), [("a",), ()])
