"""ONNX files that were made to read other files, to exhaust the process or to lie: one line each, nothing done."""

import os
import time

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from example_graphs import NodeGraph
from gatescope.errors import CheckpointError, ModelError, ModuleFailed
from gatescope.pipeline.onnx import model_file
from gatescope.pipeline.onnx.describe import describe
from gatescope.pipeline.onnx.graph import OnnxGraph
from gatescope.pipeline.onnx.model_file import read_onnx
from gatescope.pipeline.onnx.program import OnnxProgram
from gatescope.pipeline.program.graph_config import GraphConfig


@pytest.fixture
def model():
    return NodeGraph().model()


@pytest.fixture
def refusal(tmp_path):
    """`refusal(model or bytes)` saves it and says why it is refused, in one short line."""

    def refused(content):
        path = tmp_path / "m.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        began = time.monotonic()
        with pytest.raises((ModelError, ModuleFailed)) as found:
            _run(path)
        assert time.monotonic() - began < 20
        said = str(found.value)
        assert said.isprintable()
        assert len(said) < 600
        return said

    return refused


def _run(path):
    graph = OnnxGraph.of(read_onnx(path))
    program = OnnxProgram(graph, GraphConfig.model_validate(describe(graph).config))
    program.call(torch.zeros(1, 4, 3), torch.tensor([4]), None, ())


def external(model, location, offset=None, length=None):
    """The first weight in another file."""
    tensor = next(each for each in model.graph.initializer if each.name == "W")
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    said = {"location": location, "offset": offset, "length": length}
    for key, value in said.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return content


class TestExternalData:
    def test_data_in_a_file_beside_is_read(self, model, tmp_path):
        expected = numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == "W"))
        content = external(model, "weights.bin", offset=8)
        (tmp_path / "weights.bin").write_bytes(bytes(8) + content)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        read = read_onnx(tmp_path / "m.onnx")
        found = next(each for each in read.graph.initializer if each.name == "W")
        assert np.array_equal(numpy_helper.to_array(found), expected)

    @pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "link", ""])
    def test_data_outside_the_folder_is_not_read(self, location, model, refusal, tmp_path):
        (tmp_path.parent / "secret").write_bytes(bytes(10_000))
        (tmp_path / "link").symlink_to(tmp_path.parent / "secret")
        external(model, location)
        assert "outside the folder" in refusal(model)

    def test_missing_data_is_named(self, model, refusal):
        external(model, "weights.bin")
        assert "'weights.bin', which is not beside the file" in refusal(model)

    @pytest.mark.parametrize(("offset", "length"), [(-4, None), ("1e9", None), (0, "0x10"), (10**30, None)])
    def test_places_that_are_no_numbers_are_refused(self, offset, length, model, refusal, tmp_path):
        (tmp_path / "weights.bin").write_bytes(external(model, "weights.bin", offset, length))
        assert "of the tensor 'W' is" in refusal(model)

    def test_a_file_that_is_too_short_is_refused(self, model, refusal, tmp_path):
        (tmp_path / "weights.bin").write_bytes(external(model, "weights.bin")[:-1])
        assert "cut off" in refusal(model)

    def test_a_pipe_is_not_waited_for(self, model, refusal, tmp_path):
        external(model, "pipe")
        os.mkfifo(tmp_path / "pipe")
        assert "not beside the file" in refusal(model)


class TestContents:
    @pytest.mark.parametrize(
        "content", [b"", b"\x08", b"PK\x03\x04", b"\x80\x02}q\x00.", bytes(100), b"\x08\x09\x12\xff"]
    )
    def test_what_is_no_model_is_refused(self, content, refusal):
        assert "no ONNX model" in refusal(content)

    def test_a_file_that_is_cut_off_is_refused(self, model, refusal):
        content = model.SerializeToString()
        for end in (len(content) // 3, len(content) // 2, len(content) - 1):
            refusal(content[:end])

    def test_a_cycle_is_refused(self, model, refusal):
        model.graph.node[0].input[0] = "y"
        assert "sorted" in refusal(model)

    def test_a_lying_shape_is_refused_before_memory_is_taken(self, model, refusal):
        tensor = next(each for each in model.graph.initializer if each.name == "W")
        tensor.dims[1] = 10**12
        assert "needs" in refusal(model)

    def test_a_lying_shape_of_unpacked_numbers_is_refused(self, model, refusal):
        tensor = helper.make_tensor("more", TensorProto.FLOAT, [1], [1.0])
        tensor.dims[0] = 10**13
        model.graph.initializer.append(tensor)
        assert "fewer numbers" in refusal(model)

    def test_too_many_nodes_are_refused(self, model, refusal, monkeypatch):
        monkeypatch.setattr(model_file, "MOST_NODES", 3)
        assert "it has 4 nodes, more than 3" in refusal(model)

    def test_a_large_file_is_refused_unread(self, model, tmp_path):
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(CheckpointError, match="at most 100 are read"):
            read_onnx(path, most_bytes=100)

    def test_deep_nesting_is_refused(self, model, refusal):
        for _ in range(40):
            inner = helper.make_graph(list(model.graph.node), "inner", [], list(model.graph.output))
            condition = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
            del model.graph.node[:]
            model.graph.node.append(condition)
            if len(model.SerializeToString()) > 10_000_000:
                break
        refusal(model)


class TestOperators:
    @pytest.mark.parametrize("domain", ["com.microsoft", "evil.ops", "ai.onnx.ml"])
    def test_other_domains_are_refused(self, domain, model, refusal):
        model.graph.node.append(helper.make_node("Run", ["x"], ["z"], domain=domain, name="runs"))
        model.opset_import.append(helper.make_opsetid(domain, 1))
        assert f"the node 'runs' is of the domain '{domain}'" in refusal(model)

    def test_functions_are_refused(self, model, refusal):
        node = helper.make_node("Identity", ["a"], ["b"])
        made = helper.make_function("own", "Twice", ["a"], ["b"], [node], [helper.make_opsetid("", 20)])
        model.functions.append(made)
        assert "functions of its own" in refusal(model)

    @pytest.mark.parametrize("kind", ["Loop", "Scan"])
    def test_loops_are_refused(self, kind, model, refusal):
        model.graph.node.append(helper.make_node(kind, ["x"], ["z"], name="again"))
        assert f"'again' is a {kind}" in refusal(model)

    @pytest.mark.parametrize("kind", ["RandomNormalLike", "Bernoulli", "Multinomial"])
    def test_random_numbers_are_refused(self, kind, model, refusal):
        model.graph.node.append(helper.make_node(kind, ["x"], ["z"], name="draw"))
        assert "'draw' draws random numbers" in refusal(model)

    def test_a_dropout_that_trains_is_refused(self, model, refusal):
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ratio"))
        model.graph.node.append(helper.make_node("Dropout", ["x", "ratio", "on"], ["z"], name="drop"))
        assert "evaluation mode" in refusal(model)

    def test_a_dropout_that_does_not_train_is_served(self, model, tmp_path):
        model.graph.initializer.append(numpy_helper.from_array(np.array(False), "on"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ratio"))
        model.graph.node.append(helper.make_node("Dropout", ["x", "ratio", "on"], ["z"], name="drop"))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        _run(tmp_path / "m.onnx")

    def test_memory_is_bounded_when_the_graph_runs(self, model, refusal):
        sizes = numpy_helper.from_array(np.array([1 << 20, 1 << 14, 3], np.int64), "sizes")
        model.graph.initializer.append(sizes)
        model.graph.node.insert(0, helper.make_node("Expand", ["first", "sizes"], ["large"], name="bomb"))
        model.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["first"], keepdims=0))
        model.graph.node.insert(2, helper.make_node("ReduceSum", ["large"], ["small"], keepdims=0))
        model.graph.node.insert(3, helper.make_node("Add", ["x", "small"], ["more"]))
        model.graph.node[4].input[0] = "more"
        assert "failed" in refusal(model)

    def test_memory_is_bounded_when_constants_are_folded(self, model, refusal):
        sizes = numpy_helper.from_array(np.array([1 << 20, 1 << 14, 3], np.int64), "sizes")
        model.graph.initializer.append(sizes)
        model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["sizes"], ["large"], name="bomb"))
        model.graph.node.insert(1, helper.make_node("ReduceSum", ["large"], ["small"], keepdims=0))
        model.graph.node.insert(2, helper.make_node("Add", ["x", "small"], ["more"]))
        model.graph.node[3].input[0] = "more"
        refusal(model)

    def test_a_graph_without_recurrent_nodes_is_refused(self, model, refusal):
        del model.graph.node[1:]
        model.graph.output[0].name = "X"
        assert "no LSTM, GRU or RNN node" in refusal(model)


class TestWeights:
    def test_weights_that_the_inputs_change_are_not_traced(self, model, refusal):
        model.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0))
        model.graph.node.insert(1, helper.make_node("Mul", ["W", "s"], ["W2"]))
        model.graph.node[3].input[1] = "W2"
        assert "depend on the graph's inputs" in refusal(model)

    def test_computed_constants_are_weights(self, model, tmp_path):
        model.graph.node.insert(0, helper.make_node("Neg", ["W"], ["W2"]))
        model.graph.node[2].input[1] = "W2"
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        graph = OnnxGraph.of(read_onnx(tmp_path / "m.onnx"))
        plain = OnnxGraph.of(read_onnx(NodeGraph().saved(tmp_path / "plain.onnx")))
        negated = graph.nodes["encoder"].module.weight_ih_l0
        assert np.array_equal(-negated.numpy(), plain.nodes["encoder"].module.weight_ih_l0.numpy())

    def test_peepholes_of_zeros_are_none(self, tmp_path):
        model = NodeGraph().model()
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 12), np.float32), "P"))
        model.graph.node[1].input.extend(["", "", "P"])
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        _run(tmp_path / "m.onnx")

    def test_peepholes_are_refused_by_name(self, model, refusal):
        model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 12), np.float32), "P"))
        model.graph.node[1].input.extend(["", "", "P"])
        assert "of 'encoder', it has peepholes" in refusal(model)


def test_nothing_is_left_behind(model, refusal, tmp_path):
    model.graph.node[0].input[0] = "y"
    refusal(model)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
