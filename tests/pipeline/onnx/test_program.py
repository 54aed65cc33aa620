"""An ONNX graph predicts what ONNX Runtime gives, and its recurrent nodes are traced as the equations have them."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from example_graphs import NodeGraph, exported
from gatescope.decompose import Point
from gatescope.errors import ManifestError, ModuleError
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.onnx.describe import describe
from gatescope.pipeline.onnx.graph import OnnxGraph
from gatescope.pipeline.onnx.model_file import read_onnx
from gatescope.pipeline.onnx.program import OnnxProgram
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.state import State
from tests.cells import equations

LENGTHS = [9, 4, 1, 9]
KINDS = {
    "LSTM": ({}, {"gate": "sigmoid", "candidate": "tanh", "output": "tanh"}),
    "LSTM with other functions": (
        {"activations": ["HardSigmoid", "Relu", "Softsign"]},
        {"gate": "hard_sigmoid", "candidate": "relu", "output": "softsign"},
    ),
    "GRU": ({"linear_before_reset": 1}, {"gate": "sigmoid", "candidate": "tanh", "reset_after": True}),
    "GRU with the reset first": ({}, {"gate": "sigmoid", "candidate": "tanh", "reset_after": False}),
    "GRU with other functions": (
        {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [1 / 6, 0.2], "activation_beta": [0.5]},
        {"gate": "hard_sigmoid(1/6, 0.5)", "candidate": "leaky_relu(0.2)", "reset_after": False},
    ),
    "RNN": ({}, {"candidate": "tanh"}),
    "RNN with relu": ({"activations": ["Relu"]}, {"candidate": "relu"}),
    "RNN with elu": ({"activations": ["Elu"], "activation_alpha": [0.5]}, {"candidate": "elu(0.5)"}),
}


def features(count):
    return FeatureInputs(kind="features", features=tuple(Feature(name=f"f{index}") for index in range(count)))


def pipeline_of(path, outputs=None, steps=16, **config):
    """The pipeline of a graph, a regression of so many outputs."""
    graph = OnnxGraph.of(read_onnx(path))
    found = describe(graph)
    program = OnnxProgram(graph, GraphConfig.model_validate(found.config | config))
    head = None if outputs is None else HeadConfig(task="regression", names=tuple(map(str, range(outputs))))
    return ProgramPipeline(features(found.width), None, head, program, steps)


def ragged(random, width, lengths=LENGTHS):
    values = torch.randn(len(lengths), max(lengths), width, generator=random)
    for row, length in enumerate(lengths):
        values[row, length:] = torch.nan  # whatever stands there must not be read
    return values, torch.tensor(lengths)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class TestNodes:
    """Every kind of node, direction and optional input."""

    @pytest.fixture(params=["forward", "reverse", "bidirectional"])
    def direction(self, request):
        return request.param

    @pytest.fixture(params=[(True, False, False), (False, True, False), (True, True, True), (True, False, True)])
    def graph(self, request, kind, direction):
        bias, lengths, states = request.param
        attributes = dict(KINDS[kind][0])
        if direction == "bidirectional":
            attributes = {name: each * 2 if isinstance(each, list) else each for name, each in attributes.items()}
        return NodeGraph(kind[:4].strip(), direction, 3, 4, bias, lengths, states, attributes)

    def test_a_ragged_batch_is_traced_as_the_equations_have_it(self, graph, kind, tmp_path, random):
        outputs = graph.directions * graph.hidden
        pipeline = pipeline_of(graph.saved(tmp_path / "model.onnx"), outputs)
        inputs, lengths = ragged(random, graph.features)
        state = self.state(graph, len(lengths), random)
        query = Query(inputs, lengths, state, output=True, final_state=True, trace=Selection(signals=self.names(kind)))
        answer = pipeline.answer(query)
        assert answer.trace.residual < 2e-6
        for row, length in enumerate(lengths.tolist()):
            sequence = inputs[row, :length].double().numpy()
            is_reverse = graph.direction == "reverse"
            begin = [tuple(each[d, row].double().numpy() for each in state) for d in range(graph.directions)]
            exact, output, final = equations.run(
                graph.kind.lower(),
                KINDS[kind][1],
                sequence[::-1] if is_reverse else sequence,
                graph.weights(),
                begin,
                directions=graph.directions,
            )
            for name, values in exact.items():
                found = answer.trace.signals[name][row, :, :, :length].numpy()
                assert np.abs(found - values).max() < 2e-6, name
            expected = output[::-1] if is_reverse else output
            assert np.abs(answer.prediction.values[row, :length].numpy() - expected).max() < 2e-6
            assert answer.prediction.values[row, length:].isnan().all()
            for given, value in zip(answer.final_state, final, strict=True):
                assert np.abs(given[:, row].numpy() - value).max() < 2e-6

    def state(self, graph, rows, random):
        count = 2 if graph.kind == "LSTM" else 1
        state = torch.zeros(count, graph.directions, rows, graph.hidden)
        return State(*(state.normal_(generator=random) if graph.states else state))

    def names(self, kind):
        return {"GRU": ("reset_gate", "update_gate", "candidate", "recurrent_candidate", "hidden_state")}.get(
            kind[:4].strip(), ("pre_activation", "hidden_state") if kind.startswith("RNN") else None
        )


class TestExports:
    """What PyTorch's exporter writes."""

    class Net(nn.Module):
        def __init__(self, cell):
            super().__init__()
            self.norm = nn.LayerNorm(5)
            self.rnn = cell(5, 6, 2, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(12, 3)

        def forward(self, x):
            return self.fc(self.rnn(self.norm(x))[0])

    @pytest.fixture(params=[nn.LSTM, nn.GRU, nn.RNN])
    def module(self, request):
        return self.Net(request.param).eval()

    def test_predictions_are_the_modules_own(self, module, tmp_path, random):
        path = exported(module, (torch.randn(2, 7, 5),), tmp_path / "m.onnx")
        pipeline = pipeline_of(path, 3)
        inputs, lengths = ragged(random, 5)
        answer = pipeline.answer(Query(inputs, lengths))
        with torch.no_grad():
            for row, length in enumerate(lengths.tolist()):
                expected = module(inputs[row : row + 1, :length])[0]
                assert torch.allclose(answer.prediction.values[row, :length], expected, atol=1e-6)

    def test_each_layer_is_a_module_that_is_traced(self, module, tmp_path, random):
        path = exported(module, (torch.randn(2, 7, 5),), tmp_path / "m.onnx")
        pipeline = pipeline_of(path, 3)
        inputs = torch.randn(2, 8, 5, generator=random)
        whole = module.rnn(module.norm(inputs))[0].detach()
        assert len(pipeline.lstms) == 2
        answer = pipeline.answer(Query(inputs, torch.tensor([8, 8]), module=list(pipeline.lstms)[1], trace=Selection()))
        top = answer.trace.signals["hidden_state"][:, 0]  # (batch, direction, time, unit)
        assert torch.allclose(torch.cat([top[:, 0], top[:, 1]], dim=-1), whole, atol=1e-6)
        assert answer.trace.residual < 1e-6


def test_prediction_is_what_onnx_runtime_gives(tmp_path, random):
    path = NodeGraph(direction="bidirectional").saved(tmp_path / "m.onnx")
    inputs = torch.randn(3, 5, 3, generator=random)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": inputs.numpy()})
    assert np.array_equal(pipeline_of(path, 8).answer(Query(inputs, torch.tensor([5] * 3))).prediction.values, expected)


def test_one_step_is_explained(tmp_path, random):
    pipeline = pipeline_of(NodeGraph().saved(tmp_path / "m.onnx"), 4)
    inputs = torch.randn(1, 6, 3, generator=random)
    lengths = torch.tensor([6])
    said = pipeline.answer(Query(inputs, lengths, explain=Point(0, "forward", 3, 2))).explained
    signals = pipeline.answer(Query(inputs, lengths, trace=Selection())).trace.signals
    assert said.decomposition.gates["forget_gate"].value == pytest.approx(
        float(signals["forget_gate"][0, 0, 0, 3, 2]), abs=1e-6
    )


class TestStates:
    """Graphs that take and give states."""

    class Stream(nn.Module):
        def __init__(self, cell):
            super().__init__()
            self.rnn, self.fc = cell(4, 8, 2, batch_first=True), nn.Linear(8, 2)

        def forward(self, x, *state):
            y, final = self.rnn(x, state if len(state) > 1 else state[0])
            return self.fc(y), *(final if isinstance(final, tuple) else (final,))

    @pytest.fixture(params=[nn.LSTM, nn.GRU])
    def module(self, request):
        return self.Stream(request.param).eval()

    @pytest.fixture
    def path(self, module, tmp_path):
        states = ("h0", "c0")[: 2 if isinstance(module.rnn, nn.LSTM) else 1]
        finals = tuple(f"{name[0]}n" for name in states)
        axes = {"x": {0: "b", 1: "t"}} | {name: {1: "b"} for name in states}
        inputs = (torch.randn(2, 5, 4), *(torch.zeros(2, 2, 8) for _ in states))
        return exported(module, inputs, tmp_path / "m.onnx", ("x", *states), ("y", *finals), axes)

    def test_parts_give_what_the_whole_gives(self, module, path, random):
        pipeline = pipeline_of(path, 2)
        inputs, lengths = torch.randn(2, 9, 4, generator=random), torch.tensor([9, 9])
        assert pipeline.parts_refusal is None
        whole = pipeline.answer(Query(inputs, lengths, final_state=True))
        state, parts = None, []
        for part in inputs.split(4, dim=1):
            steps = torch.full((2,), part.shape[1])
            answer = pipeline.answer(Query(part, steps, state, final_state=True))
            state = answer.final_state
            parts.append(answer.prediction.values)
        assert torch.allclose(torch.cat(parts, dim=1), whole.prediction.values, atol=1e-6)
        for given, expected in zip(state, State.from_hx(module.rnn(inputs)[1]), strict=True):
            assert torch.allclose(given, expected.detach(), atol=1e-6)

    def test_a_ragged_batch_keeps_each_rows_own_state(self, module, path, random):
        pipeline = pipeline_of(path, 2)
        inputs, lengths = ragged(random, 4)
        answer = pipeline.answer(Query(inputs, lengths, final_state=True))
        for row, length in enumerate(lengths.tolist()):
            final = module.rnn(inputs[row : row + 1, :length])[1]
            for given, expected in zip(
                answer.final_state, final if isinstance(final, tuple) else (final,), strict=True
            ):
                assert torch.allclose(given[:, row], expected[:, 0].detach(), atol=1e-6)


class TestRows:
    """How rows go into runs."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc = nn.LSTM(4, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)

        def forward(self, x, n):
            packed = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
            return self.fc(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    def test_a_node_that_reads_sorted_rows_is_traced_in_the_requests_order(self, tmp_path, random):
        module = self.Packed().eval()
        path = exported(
            module,
            (torch.randn(2, 5, 4), torch.tensor([5, 5])),
            tmp_path / "m.onnx",
            ("x", "n"),
            open_axes={"x": {0: "b", 1: "t"}, "n": {0: "b"}},
        )
        pipeline = pipeline_of(path, 3)
        inputs, lengths = ragged(random, 4)
        answer = pipeline.answer(Query(inputs, lengths, trace=Selection()))
        for row, length in enumerate(lengths.tolist()):
            own = inputs[row : row + 1, :length]
            expected = module.rnn(own)[0][0].detach()
            found = answer.trace.signals["hidden_state"][row, 0, :, :length]  # (direction, time, unit)
            assert torch.allclose(torch.cat([*found], dim=-1), expected, atol=1e-6)
            assert torch.allclose(answer.prediction.values[row, :length], module.fc(expected).detach(), atol=1e-6)

    def test_a_graph_of_one_row_runs_row_by_row(self, tmp_path, random):
        wrapped = _Alone(nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True))
        path = exported(wrapped, (torch.randn(1, 6, 3),), tmp_path / "m.onnx", open_axes={"x": {1: "time"}})
        pipeline = pipeline_of(path, 5)
        inputs, lengths = ragged(random, 3)
        answer = pipeline.answer(Query(inputs, lengths, trace=Selection()))
        for row, length in enumerate(lengths.tolist()):
            expected = wrapped(inputs[row : row + 1, :length])[0].detach()
            assert torch.allclose(answer.prediction.values[row, :length], expected, atol=1e-6)
            assert torch.allclose(answer.trace.signals["hidden_state"][row, 0, 0, :length], expected, atol=1e-6)

    def test_a_graph_of_a_fixed_length_takes_no_other(self, tmp_path):
        wrapped = _Alone(nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True))
        path = exported(wrapped, (torch.randn(1, 6, 3),), tmp_path / "m.onnx", open_axes={"x": {0: "batch"}})
        pipeline = pipeline_of(path, 5)
        assert pipeline.fixed_steps == 6
        assert "6 steps" in pipeline.horizon_refusal


class _Alone(nn.Module):
    def __init__(self, first, rnn):
        super().__init__()
        self.first, self.rnn = first, rnn

    def forward(self, x):
        return self.rnn(self.first(x))[0]


class TestRefusals:
    """What is not served, and why."""

    @pytest.mark.parametrize(
        ("attributes", "reason"),
        [
            ({"clip": 3.0}, "clips at 3"),
            ({"input_forget": 1}, "input_forget"),
            ({"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, "activation is ScaledTanh"),
        ],
    )
    def test_a_node_that_the_equations_do_not_know_is_named(self, attributes, reason, tmp_path):
        with pytest.raises(Exception, match=reason) as refused:
            pipeline_of(NodeGraph(attributes=attributes).saved(tmp_path / "m.onnx"))
        assert "'encoder'" in str(refused.value)

    def test_the_wrong_axes_are_noticed(self, tmp_path):
        path = NodeGraph().saved(tmp_path / "m.onnx")
        with pytest.raises(ModuleError, match="trial run failed"):
            pipeline_of(path, 4, layout="time_first")

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"input": "z"}, "'x' is not described"),
            ({"prediction": "z"}, "names the output 'z'"),
            ({"sequence_lengths": "n"}, "no such input"),
        ],
    )
    def test_names_that_the_graph_has_not_are_refused(self, config, message, tmp_path):
        with pytest.raises(ManifestError, match=message):
            pipeline_of(NodeGraph().saved(tmp_path / "m.onnx"), 4, **config)
