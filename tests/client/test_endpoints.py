"""Models, predictions, traces and walk-throughs in NumPy's and xarray's terms, as the API has them in JSON."""

import json

import httpx
import numpy as np
import pytest
import torch

from gatescope import safetensors_file
from gatescope.client import ServiceError, State
from gatescope.errors import AnalysisNotFound, InvalidInput, ModelNotFound, TraceNotFound, VersionNotFound

WEEK = "/v1/models/demand"


@pytest.fixture(scope="module")
def week(shipped):
    """The inputs of a week, (time, feature)."""
    return np.array(shipped.get(WEEK).json()["examples"][1]["request"]["inputs"][0][:60], dtype=float)


def test_models_are_told_as_the_api_tells_them(client, shipped):
    assert client.models() == shipped.get("/v1/models").json()["models"]
    assert client.model("demand") == client.model("demand", "1") == shipped.get(WEEK).json()
    with pytest.raises(ModelNotFound, match="did you mean 'river'"):
        client.model("rivers")
    with pytest.raises(ModelNotFound, match=r"'ü\?#'"):
        client.model("ü?#")
    with pytest.raises(VersionNotFound):
        client.model("river", "99")


@pytest.mark.parametrize(
    "given",
    [
        np.float64,
        np.float32,
        np.asfortranarray,
        torch.tensor,
        list,
        lambda rows: [torch.tensor(rows)],
        lambda rows: rows[None],
    ],
    ids=["float64", "float32", "fortran", "tensor", "rows", "tensors", "batch"],
)
def test_inputs_may_be_arrays_tensors_and_lists(client, raw, week, given):
    said = client.predict("demand", given(week))
    expected = raw(f"{WEEK}/predict", {"inputs": week.tolist()})
    np.testing.assert_array_equal(said.values, np.float32(expected["prediction"]["values"]))
    assert (said.model, said.version, said.sequence_lengths.tolist()) == ("demand", "1", [60])
    assert said.values.dtype == np.float32
    assert said.values.flags.writeable
    assert said.labels is said.probabilities is said.text is said.tokens is said.output is said.final_state is None


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, np.ndarray.tolist], ids=["arrays", "tensors", "lists"])
def test_sequences_may_differ_in_length_and_are_padded_with_nan(client, raw, week, kind):
    parts = [week[:5], week[:9], week[3:4]]
    said = client.predict("demand", [kind(part) for part in parts], outputs=["prediction", "output", "final_state"])
    expected = raw(
        f"{WEEK}/predict",
        {"inputs": [part.tolist() for part in parts], "outputs": ["prediction", "output", "final_state"]},
    )
    assert said.sequence_lengths.tolist() == [5, 9, 1]
    for name, given in (("values", expected["prediction"]["values"]), ("output", expected["output"])):
        array = getattr(said, name)
        assert array.shape[:2] == (3, 9)
        for row, values, length in zip(array, given, (5, 9, 1), strict=True):
            np.testing.assert_array_equal(row[:length], np.float32(values))
            assert np.isnan(row[length:]).all()
    np.testing.assert_array_equal(said.final_state.cell_state, np.float32(expected["final_state"]["cell_state"]))


def test_padded_inputs_come_with_their_lengths(client, week):
    ragged = client.predict("demand", [week[:4], week[:9]])
    padded = client.predict("demand", np.stack([week[:9], week[:9]]), sequence_lengths=np.array([4, 9]))
    np.testing.assert_array_equal(padded.values, ragged.values)


def test_nn_lstms_own_layout_is_read_as_such(client, week):
    rows = [week[:9], week[9:18]]
    turned = client.predict("demand", np.stack(rows, axis=1), layout="time_batch_feature")
    np.testing.assert_array_equal(turned.values, client.predict("demand", rows).values)


@pytest.mark.parametrize("kind", [State, lambda h, c: (torch.tensor(h), torch.tensor(c)), lambda h, c: (h.tolist(), c)])
def test_a_final_state_is_the_initial_state_of_what_comes_next(client, week, kind):
    whole = client.predict("demand", week)
    first = client.predict("demand", week[:20], outputs=["final_state"])
    rest = client.predict("demand", week[20:], initial_state=kind(*first.final_state))
    np.testing.assert_allclose(rest.values, whole.values[:, 20:], rtol=1e-6)


@pytest.mark.parametrize("kind", [np.array, list])
def test_unknown_future_features_are_nan_or_none(client, raw, shipped, kind):
    request = shipped.get(WEEK).json()["examples"][0]["request"]
    future = request["future_inputs"]
    assert future[0][0][0] is None
    given = np.array(future, dtype=float) if kind is np.array else future
    said = client.predict("demand", np.array(request["inputs"]), horizon=request["horizon"], future_inputs=given)
    expected = raw(f"{WEEK}/predict", request)
    np.testing.assert_array_equal(said.values, np.float32(expected["prediction"]["values"]))


def test_labels_are_padded_with_nothing(client, raw):
    said = client.predict("brackets", text=["((x))", "x"])
    expected = raw("/v1/models/brackets/predict", {"text": ["((x))", "x"]})
    assert said.labels.shape == (2, 5)
    assert said.labels[0].tolist() == expected["prediction"]["labels"][0]
    assert said.labels[1].tolist() == [*expected["prediction"]["labels"][1], "", "", "", ""]
    np.testing.assert_array_equal(said.probabilities[0], np.float32(expected["prediction"]["probabilities"][0]))
    assert said.tokens == [list("((x))"), ["x"]]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_token_ids_are_whole_numbers(client, kind):
    assert client.predict("brackets", kind([0, 2, 1])).tokens == [["(", "x", ")"]]


def test_text_that_writes_itself_is_text(client, raw):
    said = client.predict("shakespeare", text="ROMEO:", horizon=5)
    assert said.text == raw("/v1/models/shakespeare/predict", {"text": "ROMEO:", "horizon": 5})["prediction"]["text"]
    assert len(said.text[0]) == 5
    assert said.labels.shape == (1, 5)


def test_a_trace_is_a_dataset_with_named_axes(client, raw):
    traced = client.trace("pos-tagger", text=["I love China", "Yes"])
    expected = raw("/v1/models/pos-tagger/trace", {"text": ["I love China", "Yes"]})
    assert list(traced.data_vars)[:6] == list(expected["signals"])
    assert traced.forget_gate.dims == ("batch", "layer", "direction", "time", "unit")
    assert traced.direction.values.tolist() == ["forward", "reverse"]
    assert traced.sequence_lengths.values.tolist() == [3, 1]
    assert traced.attrs["model"] == "pos-tagger"
    assert traced.attrs["residual"] < 1e-5
    for signal, values in expected["signals"].items():
        np.testing.assert_array_equal(traced[signal].values[0], np.float32(values[0]))
    assert np.isnan(traced.cell_state.sel(time=slice(1, None)).isel(batch=1)).all()
    hidden = traced.output_gate * np.tanh(traced.cell_state)
    np.testing.assert_allclose(hidden, traced.hidden_state, atol=1e-6)


RANGES = {
    "input_gate": "0 to 1",
    "forget_gate": "0 to 1",
    "cell_candidate": "-1 to 1",
    "output_gate": "0 to 1",
    "cell_state": "unbounded",
    "hidden_state": "-1 to 1",
}


def test_signals_have_the_ranges_that_the_model_states(client, network, week):
    kept = client.store_trace("demand", week[:5])["trace_id"]
    with client.session("demand") as stream:
        traces = [
            client.trace("demand", week[:5]),
            client.trace_values(kept),
            stream.step(week[:5], trace={}).trace,
            stream.step(week[:5], trace={}).trace,
        ]
    for traced in traces:
        assert {name: traced[name].attrs["range"] for name in RANGES} == RANGES
        assert traced.forget_gate.attrs["symbol"] == "f"
        assert traced.forget_gate.attrs["description"]
    assert [request.url.path for request in network.requests].count("/v1/models/demand/versions/1") == 1


def test_a_model_that_is_gone_leaves_its_stored_traces_without_ranges(connect):
    def answer(request):
        if "/traces/" not in request.url.path:
            return httpx.Response(404, json={"title": "ModelNotFound", "detail": "there is no model 'm'"})
        described = {
            "model": {"name": "m", "version": "1"},
            "axes": ["batch", "layer", "direction", "time", "unit"],
            "layers": [0],
            "directions": ["forward"],
            "units": [0],
            "time_steps": [0],
        }
        arrays = {"sequence_lengths": np.array([1]), "any": np.ones((1, 1, 1, 1, 1), np.float32)}
        content = safetensors_file.write(arrays, {name: json.dumps(value) for name, value in described.items()})
        headers = {"content-type": "application/vnd.safetensors"}
        return httpx.Response(200, content=bytes(content), headers=headers)

    traced = connect("http://there", transport=httpx.MockTransport(answer)).trace_values("t")
    assert traced["any"].attrs == {}


def test_a_reply_that_is_no_trace_is_a_service_error(connect):
    here = connect("http://there", transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"a": 1})))
    with pytest.raises(ServiceError):
        here.trace_values("t")


def test_a_part_of_a_trace_is_chosen_with_slices_lists_and_arrays(client, week):
    whole = client.trace("demand", week)
    part = client.trace(
        "demand", week, signals=["hidden_state", "cell_state"], units=slice(4, 8), time=slice(-10, None, 2), layers=[0]
    )
    assert list(part.data_vars)[:2] == ["hidden_state", "cell_state"]
    assert part.time.values.tolist() == list(range(50, 60, 2))
    np.testing.assert_array_equal(part.cell_state, whole.cell_state.sel(unit=slice(4, 7), time=slice(50, None, 2)))
    few = client.trace("demand", week, signals=("cell_state",), units=np.array([5, 3]), directions=["forward"])
    assert few.unit.values.tolist() == [5, 3]
    strided = client.trace("demand", week, signals=["cell_state"], units=slice(None, 9, 4))
    assert strided.unit.values.tolist() == [0, 4, 8]


def test_a_unit_is_explained(client, raw, week):
    said = client.explain("demand", week, unit=3, time_step=-1)
    assert said == raw(f"{WEEK}/explain", {"inputs": week.tolist(), "unit": 3, "time_step": -1})
    assert said["residual"] < 1e-5


def test_signals_are_edited(client, raw, week):
    edit = {"signal": "forget_gate", "units": slice(0, 3), "time": slice(-24, None)}
    patch = {"signal": "cell_state", "units": [7], "time": slice(5, 8), "patch": np.full((3, 1), 0.5)}
    edits = [edit | {"set": 1.0}, patch]
    said = client.intervene(
        "demand", week, interventions=edits, inputs_edited=week[::-1].copy(), signals=["cell_state"]
    )
    sent = [edit | {"units": "0:3", "time": {"start": -24, "stop": None}, "set": 1.0}]
    sent += [patch | {"time": {"start": 5, "stop": 8}, "patch": [[0.5]] * 3}]
    body = {"inputs": week.tolist(), "interventions": sent, "inputs_edited": week[::-1].tolist()}
    assert said == raw(f"{WEEK}/intervene", body | {"signals": ["cell_state"]})
    assert said["intervened"]["signals"]["cell_state"][0][0][0][6][7] == 0.5
    with pytest.raises(InvalidInput, match="takes no step"):
        client.intervene("demand", week, interventions=[{"signal": "cell_state", "set": 0, "time": slice(0, 9, 2)}])


def test_a_stored_trace_is_looked_at_part_by_part(client, week):
    kept = client.store_trace("demand", [week, week[:30]])
    told = client.stored_trace(kept["trace_id"])
    assert told["sequence_lengths"] == [60, 30]
    whole = client.trace("demand", [week, week[:30]])
    view = {"signals": ["cell_state"], "units": slice(2, 4), "sequence": 0}
    values = client.trace_values(kept["trace_id"], **view, start=10, stop=20)
    np.testing.assert_array_equal(
        values.cell_state, whole.cell_state.isel(batch=[0], unit=slice(2, 4), time=slice(10, 20))
    )
    binned = client.trace_values(kept["trace_id"], **view, layers=[0], bins=6, reduce="max")
    expected = whole.cell_state.isel(batch=0, unit=slice(2, 4)).coarsen(time=10).max()
    np.testing.assert_array_equal(binned.cell_state.isel(batch=0), expected)
    assert binned.time.values.tolist() == [0, 10, 20, 30, 40, 50]
    assert (binned.attrs["bins"], binned.attrs["reduce"]) == (6, "max")
    said = client.explain("demand", trace_id=kept["trace_id"], sequence=1, unit=3, time_step=-1)
    again = client.explain("demand", week[:30], unit=3, time_step=-1)
    assert said["cell_update"]["cell_state"] == pytest.approx(again["cell_update"]["cell_state"], abs=1e-5)
    with pytest.raises(InvalidInput) as refused:
        client.trace_values(kept["trace_id"], bins=0)
    assert refused.value.places[0].loc == ("query", "bins")
    client.delete_trace(kept["trace_id"])
    with pytest.raises(TraceNotFound):
        client.stored_trace(kept["trace_id"])


def test_what_has_no_method_is_asked_by_its_path(client, shipped):
    assert client.get("/health/live") == {"status": "live"}
    reply = client.post("/v1/models/brackets/trace", {"text": "x"}, "application/x-ndjson")
    assert (
        reply
        == shipped.post(
            "/v1/models/brackets/trace", json={"text": "x"}, headers={"Accept": "application/x-ndjson"}
        ).content
    )


def test_an_analysis_is_told_as_the_api_tells_it(client, shipped, week):
    found = client.analyse("demand", "timescales", week, units=[0, 2])
    body = {"inputs": week.tolist(), "units": [0, 2]}
    expected = shipped.post(f"{WEEK}/analyses/timescales", json=body).json()
    np.testing.assert_allclose(found["half_life"], expected["arrays"]["half_life"]["values"], rtol=1e-6)
    assert found["coordinates"] == expected["coordinates"]
    assert found["axes"]["half_life"] == ["layer", "direction", "unit"]
    assert client.analyse("demand", "saturation", week, {"left": 0.4})["parameters"]["left"] == 0.4
    with pytest.raises(AnalysisNotFound, match="did you mean 'timescales'"):
        client.analyse("demand", "timescale", week)
