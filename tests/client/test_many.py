"""Tables of many sequences are asked for in parts, a few at a time, and answered as one."""

import subprocess
import sys

import httpx
import numpy as np
import pandas as pd
import pytest

from gatescope.client import Prediction, endpoints, joining, many
from gatescope.errors import InvalidInput, ModelReplaced, Overloaded


@pytest.fixture(scope="module")
def series(shipped):
    """Seven weeks of `demand` of unequal lengths."""
    info = shipped.get("/v1/models/demand").json()
    values = np.array(info["examples"][1]["request"]["inputs"][0], dtype=float)
    frame = pd.DataFrame(values, columns=info["input"]["feature_names"])
    return {f"week {number}": frame.iloc[number : 30 + 3 * number] for number in range(7)}


@pytest.fixture
def one_by_one(monkeypatch):
    """Each sequence has a request of its own."""
    monkeypatch.setattr(endpoints, "MOST_NUMBERS", 1)


def posts(network):
    return [request for request in network.requests if request.method == "POST"]


def test_parts_are_joined_as_one_batch(client, network, monkeypatch, series):
    outputs = ["prediction", "output", "final_state"]
    whole = client.predict("demand", series, outputs=outputs)
    assert len(posts(network)) == 1
    states = whole.final_state
    again = client.predict("demand", series, outputs=outputs, initial_state=states)
    monkeypatch.setattr(endpoints, "MOST_NUMBERS", 400)
    found = client.predict("demand", series, outputs=outputs, initial_state=states, concurrency=2)
    assert 1 < len(posts(network)) - 2 < len(series)
    assert found.ids == list(series)
    for name in ("values", "output", "sequence_lengths"):
        np.testing.assert_allclose(getattr(found, name), getattr(again, name), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(found.final_state, again.final_state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert found.frames.keys() == series.keys()
    assert [len(frame) for frame in found.frames.values()] == [len(frame) for frame in series.values()]


def test_labels_are_joined_and_padded():
    def part(labels, values):
        said = {"model": {"name": "m", "version": "1"}, "sequence_lengths": [len(labels)]}
        return Prediction.of(said | {"prediction": {"labels": [labels], "values": np.ones((1, values, 2), np.float32)}})

    joined = joining.predictions([part(["a"], 1), part(["b", "long"], 2)], [["x"], ["y"]])
    assert joined.labels.tolist() == [["a", ""], ["b", "long"]]
    assert np.isnan(joined.values[0, 1]).all()


def test_notes_name_the_sequences_that_they_are_about():
    def part(version="1"):
        notes = [{"code": "filled", "message": "1 value"}, {"code": "unverified", "message": "never compared"}]
        return Prediction.of({"model": {"name": "m", "version": version}, "sequence_lengths": [2, 2], "notes": notes})

    joined = joining.predictions([part(), part()], [["a", "b"], ["c", "d"]])
    assert [note["message"] for note in joined.notes] == [
        "'a' to 'b': 1 value",
        "never compared",
        "'c' to 'd': 1 value",
    ]
    with pytest.raises(ModelReplaced, match="versions 1, 2 answered"):
        joining.predictions([part(), part("2")], [["a", "b"], ["c", "d"]])


class Counting(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Counts how many requests are under way together."""

    def __init__(self, network):
        self.network, self.now, self.most = network, 0, 0

    def _begin(self):
        self.now += 1
        self.most = max(self.most, self.now)

    def handle_request(self, request):
        self._begin()
        try:
            return self.network.handle_request(request)
        finally:
            self.now -= 1

    def close(self):
        self.network.close()

    async def aclose(self):
        await self.network.aclose()

    async def handle_async_request(self, request):
        self._begin()
        try:
            return await self.network.handle_async_request(request)
        finally:
            self.now -= 1


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_are_sent_together_than_was_said(connect, shipped, network, series, concurrency):
    counting = Counting(network)
    here = connect(str(shipped.base_url), transport=counting)
    assert len(here.predict("demand", series, concurrency=concurrency).frames) == 7
    assert counting.most <= concurrency
    assert len(posts(network)) == 7


@pytest.mark.usefixtures("one_by_one")
def test_a_part_that_is_refused_for_now_is_sent_again(client, network, waits, series):
    problem = {"title": "Overloaded", "detail": "too much", "status": 429}
    network.faults = [httpx.Response(429, json=problem, headers={"Retry-After": "2"})]
    found = client.predict("demand", series, concurrency=1)
    assert found.ids == list(series)
    assert len(posts(network)) == 8
    assert 2 <= waits[0] < 3


@pytest.mark.usefixtures("one_by_one")
def test_one_that_fails_is_named_and_ends_the_others(client, network, waits, series):
    problem = {"title": "Overloaded", "detail": "too much", "status": 429}
    network.faults = [None, None, *[httpx.Response(429, json=problem) for _ in range(9)]]
    with pytest.raises(Overloaded, match=r"^'week 1': too much"):
        client.predict("demand", series, concurrency=1)
    gap = series["week 3"].copy()
    gap.iloc[2, 0] = np.nan
    network.faults, network.requests = [], []
    with pytest.raises(InvalidInput, match=r"^'week 3': body\.inputs"):
        client.predict("demand", series | {"week 3": gap}, concurrency=1)
    assert len(posts(network)) == 4


@pytest.mark.usefixtures("one_by_one")
def test_progress_tells_how_many_sequences_are_done(client, series, capfd):
    client.predict("demand", series, progress=True)
    assert "7/7" in capfd.readouterr().err
    client.predict("demand", series)
    assert not capfd.readouterr().err


def test_progress_without_tqdm_is_not_even_asked_for(client, network, monkeypatch, series):
    monkeypatch.setattr(many, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gatescope\[progress\]'"):
        client.predict("demand", series, progress=True)
    with pytest.raises(InvalidInput, match="concurrency: must be 1 or more"):
        client.predict("demand", series, concurrency=0)
    assert not network.requests


def test_a_trace_of_many_is_one_dataset_with_their_names_and_times(client, network, series):
    times = pd.date_range("2000-06-05", periods=60, freq="h", tz="Europe/London", name="time")
    dated = {name: frame.set_axis(times[: len(frame)]) for name, frame in series.items()}
    asked = {"signals": ["cell_state"], "units": [3, 5]}
    traced = client.trace("demand", dated, **asked)
    assert len(posts(network)) == len(series)
    assert traced["ids"].values.tolist() == list(series)
    expected = client.trace("demand", [frame.to_numpy() for frame in series.values()], **asked)
    np.testing.assert_allclose(traced.cell_state, expected.cell_state, atol=1e-6)
    assert traced.sequence_lengths.values.tolist() == expected.sequence_lengths.values.tolist()
    assert traced["timestamps"].dims == ("batch", "time")
    assert traced["timestamps"].values[0, 1] == np.datetime64("2000-06-05T00:00")  # British summer time
    assert np.isnat(traced["timestamps"].values[0, -1])
    assert traced.attrs["residual"] < 1e-5
    lone = client.trace("demand", dated["week 6"], time=slice(-2, None), **asked)
    assert lone["timestamps"].dims == ("time",)
    assert lone["timestamps"].values[-1] == times[len(dated["week 6"]) - 1].tz_convert(None)
    picked = lone.swap_dims(time="timestamps").cell_state.sel(timestamps=lone["timestamps"].values[0])
    np.testing.assert_array_equal(picked, lone.cell_state.isel(time=0))


READ = """
import sys
assert not {"pandas", "polars", "xarray", "tqdm"} & set(sys.modules)
import gatescope.client
assert not {"pandas", "polars", "xarray", "tqdm", "pyarrow"} & set(sys.modules)
"""


def test_what_reads_tables_is_imported_by_whoever_gives_one():
    ran = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
