"""Every backend is exact, and one that is not is disabled."""

import logging

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from gatescope.backends import chunk, onednn, probe, reference
from gatescope.cells import lstm
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import trace


@pytest.fixture(autouse=True)
def _reset(use_backend):
    """Each test has its own probes and disabled backends."""


def worst_difference(module, traced, inputs, state):
    """The largest distance from the equations in float64, over all signals and rows."""
    worst = 0.0
    for row, sequence in enumerate(inputs):
        of_row = State(*(value[:, row : row + 1].double() for value in state))
        oracle = reference.run(module, sequence.double(), of_row)
        for signal, values in traced.signals.items():
            worst = max(worst, float((values[row, :, :, : len(sequence)] - oracle[signal]).abs().max()))
    return worst


def random_run(module, lengths, seed=0):
    random = torch.Generator().manual_seed(seed)
    spec = Spec.from_module(module)
    inputs = [torch.randn(length, spec.input_size, generator=random) for length in lengths]
    return inputs, State(*(torch.randn(s, generator=random) for s in spec.state_shapes(len(lengths)).values()))


def test_float32_on_a_cpu_uses_the_workspace():
    assert probe.backend_of(nn.LSTM(3, 5)) == "workspace"
    assert trace(nn.LSTM(3, 5), torch.zeros(1, 2, 3)).backend == "workspace"


@pytest.mark.parametrize("module", [nn.LSTM(3, 5, proj_size=2), nn.LSTM(3, 5).double()], ids=["projected", "float64"])
def test_modules_that_onednn_does_not_run_are_replayed(module):
    assert probe.backend_of(module) == "replay"


@pytest.mark.parametrize("name", ["workspace", "replay", "loop"])
@pytest.mark.parametrize("hidden_size", [1, 15, 16, 64, 128, 192, 256])  # 4H around multiples of 16 and 256
@pytest.mark.parametrize("lengths", [(1,), (2,), (9, 9, 9), (150, 3, 77)], ids=str)
def test_each_backend_equals_the_equations(use_backend, name, hidden_size, lengths):
    use_backend(name)
    module = nn.LSTM(hidden_size // 2 + 1, hidden_size, bidirectional=True)
    inputs, state = random_run(module, lengths)
    traced = trace(module, inputs, initial_state=state)
    assert traced.backend == name
    assert worst_difference(module, traced, inputs, state) <= 2e-5
    assert traced.residual <= 1e-5


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    input_size=st.integers(1, 40),
    hidden_size=st.integers(1, 40),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
)
def test_backends_agree_on_any_shape(
    use_backend, input_size, hidden_size, num_layers, bidirectional, bias, lengths, seed
):
    torch.manual_seed(seed)
    module = nn.LSTM(input_size, hidden_size, num_layers, bidirectional=bidirectional, bias=bias)
    inputs, state = random_run(module, lengths, seed)
    traces = {}
    for name in lstm.LSTM.backends:
        use_backend(name)
        traces[name] = trace(module, inputs, initial_state=state)
        assert traces[name].backend == name
    for traced in traces.values():
        for signal, values in traces["loop"].signals.items():
            torch.testing.assert_close(traced.signals[signal], values, rtol=0, atol=2e-5, equal_nan=True)
        torch.testing.assert_close(traced.output, traces["loop"].output, rtol=0, atol=2e-5, equal_nan=True)
        for ours, theirs in zip(traced.final_state, traces["loop"].final_state, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("part", ["gates", "gates_row", "cell_state"])
def test_a_wrong_layout_fails_its_probe(monkeypatch, caplog, part):
    right = onednn.layout
    shift = {"gates": 64, "gates_row": 16, "cell_state": 5}[part]

    def wrong(*shape):
        where = right(*shape)
        return where._replace(**{part: getattr(where, part) + shift})

    monkeypatch.setattr(onednn, "layout", wrong)
    module = nn.LSTM(4, 8, 2)
    inputs, state = random_run(module, (6, 3))
    with caplog.at_level(logging.ERROR):
        traced = trace(module, inputs, initial_state=state)
    assert traced.backend == "replay"
    assert worst_difference(module, traced, inputs, state) <= 2e-5
    assert "'workspace'" in caplog.text


@pytest.mark.parametrize("part", ["gates", "cell_state"])
def test_a_layout_that_changes_later_is_disabled_before_it_is_returned(monkeypatch, caplog, part):
    module = nn.LSTM(4, 8)
    assert probe.backend_of(module) == "workspace"  # proved
    right = onednn.layout
    monkeypatch.setattr(onednn, "layout", lambda *shape: right(*shape)._replace(**{part: 0 if part != "gates" else 32}))
    inputs, state = random_run(module, (6, 3))
    with caplog.at_level(logging.ERROR):
        traced = trace(module, inputs, initial_state=state)
    assert traced.backend == "replay"
    assert worst_difference(module, traced, inputs, state) <= 2e-5
    assert "is disabled" in caplog.text
    assert probe.backend_of(module) == "replay"  # from now on


def test_a_wrong_middle_step_is_found_in_a_shapes_first_run(monkeypatch, caplog):
    module = nn.LSTM(4, 8)
    assert probe.backend_of(module) == "workspace"  # proved
    right = onednn.Chunk

    def spoilt(start, blocks, states, final):
        blocks[0][len(blocks[0]) // 2, 0, 3] += 0.01
        return right(start, blocks, states, final)

    monkeypatch.setattr(onednn, "Chunk", spoilt)
    inputs, state = random_run(module, (19, 19))
    with caplog.at_level(logging.ERROR):
        traced = trace(module, inputs, initial_state=state)
    assert traced.backend == "replay"
    assert worst_difference(module, traced, inputs, state) <= 2e-5
    assert "is disabled" in caplog.text


def test_a_kernel_with_other_arguments_is_not_used(monkeypatch, caplog):
    def gone(*args):
        raise TypeError("unexpected keyword argument 'train'")

    monkeypatch.setattr(onednn, "_run", gone)
    with caplog.at_level(logging.ERROR):
        assert probe.backend_of(nn.LSTM(4, 8)) == "replay"
    assert "cannot be used" in caplog.text


def test_the_loop_is_used_where_replay_is_wrong(monkeypatch):
    right = lstm._scan
    monkeypatch.setattr(lstm, "_scan", lambda decay, added, initial: right(decay, added, initial) + 0.01)
    module = nn.LSTM(4, 8, proj_size=3)
    inputs, state = random_run(module, (6, 3))
    traced = trace(module, inputs, initial_state=state)
    assert traced.backend == "loop"
    assert worst_difference(module, traced, inputs, state) <= 2e-5


@pytest.mark.parametrize("name", ["workspace", "replay", "loop"])
def test_chunks_of_time_give_the_same_trace(use_backend, monkeypatch, name):
    use_backend(name)
    module = nn.LSTM(4, 8, 2, bidirectional=True)
    inputs, state = random_run(module, (50, 13, 40))
    whole = trace(module, inputs, initial_state=state)
    monkeypatch.setattr(chunk, "CHUNK_FLOATS", 7 * chunk.FLOATS_PER_UNIT * 3 * 16)
    monkeypatch.setattr(chunk, "SINGLE_CHUNK_FLOATS", 0)
    cut = trace(module, inputs, initial_state=state)
    for signal, values in whole.signals.items():
        torch.testing.assert_close(cut.signals[signal], values, rtol=0, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(cut.final_state.cell_state, whole.final_state.cell_state, rtol=0, atol=1e-6)


def test_an_overflow_disables_nothing():
    module = nn.LSTM(2, 3)
    trace(module, torch.full((1, 4, 2), 3e38))
    assert probe.backend_of(module) == "workspace"


def test_traces_in_inference_mode_are_the_same():
    module, inputs = nn.LSTM(3, 5), torch.randn(2, 4, 3)
    with torch.inference_mode():
        inside = trace(module, inputs)
    assert inside.backend == "workspace"
    assert torch.equal(inside.cell_state, trace(module, inputs).cell_state)


@pytest.mark.parametrize(
    "time", [slice(None, None, -1), slice(5, None, -2), slice(1, 6, 2), slice(-3, None), slice(6, 8)]
)
def test_slices_of_a_ragged_batch_equal_the_whole(time):
    module = nn.LSTM(3, 4, bidirectional=True)
    inputs, _ = random_run(module, (7, 2, 5))
    whole, part = trace(module, inputs), trace(module, inputs, selection=Selection(time=time))
    for signal, values in whole.signals.items():
        expected = values[:, :, :, list(range(7))[time]]
        torch.testing.assert_close(part.signals[signal], expected, rtol=0, atol=0, equal_nan=True)


def test_a_residual_computed_later_can_disable_the_workspace(caplog):
    module = nn.LSTM(3, 5, batch_first=True)
    traced = trace(module, torch.randn(1, 4, 3))
    traced.signals["cell_state"][0, 0, 0, 2, 1] += 1.0  # as a layout would that is right at a chunk's last step only
    with caplog.at_level(logging.ERROR):
        assert traced.residual > 1e-3
    assert "is disabled" in caplog.text
    assert probe.backend_of(module) == "replay"
