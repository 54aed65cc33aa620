"""The device report, on the CPU and with a small grid."""

import json
import time

import pytest
import torch

from benchmarks import device, library
from benchmarks.device import forward, parity
from benchmarks.device.budget import Budget
from gatescope.cells import LSTM


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """The allocator of the tests' process stays as it is, and one thread suffices."""
    monkeypatch.setattr(library, "tune_process", lambda: None)
    monkeypatch.setenv("GATESCOPE_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def report(tmp_path):
    device.main(out=tmp_path, device="cpu", budget=0, quick=True)
    return json.loads((tmp_path / "device.json").read_text()), (tmp_path / "device.md").read_text()


@pytest.mark.examples
def test_a_quick_report_has_every_section(report):
    told, text = report
    assert set(told) == {"machine", "parity", "synchronisations", "trace", "served"}
    assert {row["backend"]: row["ok"] for row in told["parity"]["rows"]} == dict.fromkeys(LSTM.backends, True)
    assert all(row["trace / forward"] > 0 for row in told["trace"]["rows"])
    assert len(told["trace"]["rows"]) + len(told["trace"]["skipped"]) == len(forward.QUICK)
    assert "Not applicable" in told["synchronisations"]["note"]
    assert told["served"]["rows"] or told["served"]["skipped"]
    assert told["machine"]["card"] == "none" or told["machine"]["driver"]
    for section in ("Parity of the trace backends", "A full trace over the plain forward", "Served over HTTP"):
        assert f"## {section}" in text
    assert "| cpu | workspace |" in text


def test_what_does_not_fit_into_the_budget_is_named():
    began = time.monotonic()
    assert len(forward.measure("cpu", Budget(0), quick=False).skipped) == 36
    ended = parity.measure(Budget(0), quick=True)
    assert time.monotonic() - began < 1
    assert ended.rows == []
    assert all("the budget ended" in reason for reason in ended.skipped)


def test_a_share_of_a_budget_keeps_what_is_to_be_kept():
    assert Budget(100).share(0.25).left == pytest.approx(25, abs=1)
    assert Budget(100).share(1, keep=0.4).left == pytest.approx(60, abs=1)
    assert Budget(0).share(1).left == 0
