"""`POST /v1/models/{name}/predict`."""

import math

import numpy as np
import pytest
import torch

FORECAST = [[10.0, 0.0], [11.0, 1.0], [12.5, 2.0]]
FUTURE = [[None, 3.0], [None, 4.0], [None, 5.0], [None, 6.0]]


def encode_forecaster(rows):
    return torch.tensor(
        [
            [(level - 10) / 2, math.sin(2 * math.pi * hour / 24), math.cos(2 * math.pi * hour / 24)]
            for level, hour in rows
        ]
    )


@torch.no_grad()
def forecast_by_hand(network, rows):
    output, _ = network.lstm(encode_forecaster(rows))
    return (network.head(output) * 2 + 10)[:, 0].tolist()


def test_a_lone_sequence_is_a_batch_of_one(call, networks):
    alone = call("forecaster/predict", {"inputs": FORECAST})
    batched = call("forecaster/predict", {"inputs": [FORECAST]})
    assert alone == batched
    assert alone.sequence_lengths == [3]
    np.testing.assert_allclose(
        np.array(alone.prediction["values"])[0, :, 0], forecast_by_hand(networks["forecaster"], FORECAST), atol=1e-4
    )


def test_the_reply_holds_what_is_asked_for_and_nothing_else(call):
    predicted = call("forecaster/predict", {"inputs": FORECAST})
    assert vars(predicted).keys() == {"model", "notes", "sequence_lengths", "prediction"}
    asked = call("forecaster/predict", {"inputs": FORECAST, "outputs": ["final_state"]})
    assert vars(asked).keys() == {"model", "sequence_lengths", "final_state"}
    assert vars(call("founding/predict", {"inputs": [[0.0] * 5]})).keys() == {"model", "sequence_lengths", "output"}


def test_a_ragged_batch_equals_its_sequences_alone(call):
    torch.manual_seed(1)
    sequences = [torch.randn(length, 3).tolist() for length in (5, 1, 9, 3)]
    wanted = ["output", "final_state"]
    batch = call("both-ways/predict", {"inputs": sequences, "outputs": wanted})
    assert batch.sequence_lengths == [5, 1, 9, 3]
    for row, sequence in enumerate(sequences):
        alone = call("both-ways/predict", {"inputs": sequence, "outputs": wanted})
        np.testing.assert_allclose(batch.output[row], alone.output[0], atol=1e-6)
        for name in ("hidden_state", "cell_state"):
            np.testing.assert_allclose(
                np.array(batch.final_state[name])[:, row], np.array(alone.final_state[name])[:, 0], atol=1e-6
            )


def test_padding_with_lengths_equals_the_ragged_batch(call):
    short, long = [[1.0, 2.0, 3.0]], [[0.5, 0.0, -1.0], [1.0, 1.0, 1.0]]
    ragged = call("both-ways/predict", {"inputs": [short, long]})
    padded = call("both-ways/predict", {"inputs": [[*short, [1e30, -1e30, 9.0]], long], "sequence_lengths": [1, 2]})
    assert padded == ragged


def test_time_first_layout_is_the_same_batch_transposed(call):
    torch.manual_seed(2)
    inputs = torch.randn(4, 2, 5)
    batch_first = call("founding/predict", {"inputs": inputs.transpose(0, 1).tolist()})
    time_first = call("founding/predict", {"inputs": inputs.tolist(), "layout": "time_batch_feature"})
    assert batch_first == time_first


def test_a_stream_cut_in_two_with_its_state_equals_the_whole(call):
    torch.manual_seed(3)
    whole = torch.randn(7, 5).tolist()
    wanted = ["output", "final_state"]
    first = call("founding/predict", {"inputs": whole[:4], "outputs": wanted})
    rest = call("founding/predict", {"inputs": whole[4:], "outputs": wanted, "initial_state": first.final_state})
    together = call("founding/predict", {"inputs": whole, "outputs": wanted})
    np.testing.assert_allclose(first.output[0] + rest.output[0], together.output[0], atol=1e-6)
    np.testing.assert_allclose(rest.final_state["cell_state"], together.final_state["cell_state"], atol=1e-6)


def test_a_forecast_feeds_its_predictions_back(call, networks):
    reply = call("forecaster/predict", {"inputs": FORECAST, "horizon": 4, "future_inputs": [FUTURE]})
    rows, forecasts = list(FORECAST), []
    for _, hour in FUTURE:
        forecasts.append(forecast_by_hand(networks["forecaster"], rows)[-1])
        rows.append([forecasts[-1], hour])
    assert np.shape(reply.prediction["values"]) == (1, 4, 1)
    np.testing.assert_allclose(np.array(reply.prediction["values"])[0, :, 0], forecasts, atol=1e-4)
    assert reply.sequence_lengths == [7]


def test_a_value_given_for_a_future_step_replaces_the_prediction(call, networks):
    future = [[None, 3.0], [14.0, 4.0], [None, 5.0]]
    reply = call("forecaster/predict", {"inputs": FORECAST, "horizon": 3, "future_inputs": future})
    first = forecast_by_hand(networks["forecaster"], FORECAST)[-1]
    third = forecast_by_hand(networks["forecaster"], [*FORECAST, [first, 3.0], [14.0, 4.0]])[-1]
    assert reply.prediction["values"][0][2][0] == pytest.approx(third, abs=1e-4)


def test_forecasts_of_a_ragged_batch_equal_each_alone(call):
    inputs = [FORECAST, FORECAST[:1]]
    both = call("forecaster/predict", {"inputs": inputs, "horizon": 4, "future_inputs": [FUTURE, FUTURE]})
    alone = call("forecaster/predict", {"inputs": FORECAST[:1], "horizon": 4, "future_inputs": FUTURE})
    np.testing.assert_allclose(both.prediction["values"][1], alone.prediction["values"][0], atol=1e-5)
    assert both.sequence_lengths == [7, 5]


def test_a_model_of_the_same_step_runs_on_over_known_inputs(call):
    known, coming = [[1.0, 7], [0.0, 7]], [[2.0, 7], [3.0, 7]]
    ahead = call("river/predict", {"inputs": known, "horizon": 2, "future_inputs": coming})
    whole = call("river/predict", {"inputs": known + coming})
    np.testing.assert_allclose(ahead.prediction["values"][0], whole.prediction["values"][0][2:], atol=1e-6)
    assert min(value for row in whole.prediction["values"][0] for value in row) >= 0


def test_a_classifier_gives_one_label_a_sequence_with_probabilities(call, networks):
    reply = call("mood/predict", {"text": ["sun is here.", "rain"]})
    assert reply.tokens == [["sun", "is", "here", "."], ["rain"]]
    network = networks["mood"]
    with torch.no_grad():
        output, _ = network.lstm(network.embedding(torch.tensor([1, 3, 4, 5])))
        scores = network.head(output.mean(dim=0))
    np.testing.assert_allclose(reply.prediction["values"][0], scores, atol=1e-5)
    np.testing.assert_allclose(reply.prediction["probabilities"][0], scores.softmax(-1), atol=1e-5)
    assert reply.prediction["labels"][0] == ["glad", "sad", "neither"][int(scores.argmax())]


def test_token_ids_and_text_are_the_same_request(call):
    by_text = call("letters/predict", {"text": ["abc", "c a"]})
    by_ids = call("letters/predict", {"inputs": [[0, 1, 2], [2, 3, 0]]})
    assert by_text == by_ids


def test_unknown_words_are_read_as_the_unknown_token(call):
    assert call("mood/predict", {"text": "moon"}).prediction == call("mood/predict", {"inputs": [[0]]}).prediction


def test_text_writes_itself_the_same_way_alone_in_a_batch_and_again(call):
    batch = call("letters/predict", {"text": ["ab", "c"], "horizon": 12})
    again = call("letters/predict", {"text": "c", "horizon": 12})
    shorter = call("letters/predict", {"text": "c", "horizon": 5})
    assert batch.prediction["text"][1] == again.prediction["text"][0]
    assert again.prediction["text"][0].startswith(shorter.prediction["text"][0])
    assert len(again.prediction["text"][0]) == 12
    assert "".join(again.tokens[0]) == "c" + again.prediction["text"][0]


def test_a_version_of_the_path_is_the_one_that_answers(call):
    versioned = call("forecaster/versions/1/predict", {"inputs": FORECAST})
    assert versioned == call("forecaster/predict", {"inputs": FORECAST})
    assert versioned.model == {"name": "forecaster", "version": "1", "verified": False}


def test_numbers_read_back_to_the_float32_that_was_computed(client, networks):
    inputs = torch.linspace(-1, 1, 10).reshape(2, 5)
    text = client.post("/v1/models/founding/predict", json={"inputs": inputs.tolist()}).text
    with torch.no_grad():
        output, _ = networks["founding"].lstm(inputs[:, None])
    read = np.array(httpx_json(text)["output"][0], dtype=np.float32)
    np.testing.assert_allclose(read, output[:, 0], atol=1e-7)
    assert all(float(np.float32(value)) == pytest.approx(value, rel=1e-7) for value in read.ravel().tolist())


def httpx_json(text):
    import json  # noqa: PLC0415

    return json.loads(text)
