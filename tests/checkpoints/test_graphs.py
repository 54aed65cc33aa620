"""`gatescope import` of ONNX graphs: what is found, what is asked, and what a sample is held against."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from example_graphs import NodeGraph, exported
from gatescope.checkpoints.importer import Options, import_checkpoint
from gatescope.checkpoints.report import report
from gatescope.errors import CheckpointError, InvalidInput, WeightsError
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.model import load_model
from gatescope.pipeline.query import Query
from gatescope.pipeline.sample import predicted, to_query


class Net(nn.Module):
    """A forecaster, or with tokens a classifier that ends in a softmax."""

    def __init__(self, tokens=None, *, time_first=False):
        super().__init__()
        self.table = None if tokens is None else nn.Embedding(tokens, 4)
        self.rnn = nn.LSTM(4, 6, batch_first=not time_first)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        y = self.fc(self.rnn(x if self.table is None else self.table(x))[0])
        return y if self.table is None else y.mean(dim=1).softmax(-1)


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def graph(tmp_path):
    torch.manual_seed(3)
    module = Net()
    return module, exported(module, (torch.randn(2, 7, 4),), tmp_path / "forecast.onnx")


@pytest.fixture
def tokens(tmp_path):
    torch.manual_seed(4)
    module = Net(tokens=11)
    return module, exported(module, (torch.zeros(2, 7, dtype=torch.int64),), tmp_path / "tokens.onnx", ("ids",))


def save_sample(path, module, inputs, change=0.0):
    with torch.no_grad():
        np.savez(path, inputs=inputs.numpy(), expected=module(inputs).numpy() + change)
    return path


def test_a_graph_becomes_a_model_whose_predictions_are_its_own(graph, models, random):
    module, path = graph
    imported = import_checkpoint(path, models, "it")
    assert imported.verified.by == "graph"
    assert "Sequences go into 'x'." in imported.notes
    manifest = read_manifest(models / "it")
    assert manifest.graph.input == "x"
    assert manifest.head.names == ("output_0", "output_1", "output_2")
    inputs = torch.randn(1, 5, 4, generator=random)
    model = load_model(models / "it")
    query_inputs = {"inputs": inputs.tolist()}
    (found,) = predicted(model.pipeline, to_query(query_inputs, model.pipeline, None))
    assert np.abs(found - module(inputs)[0].detach().numpy()).max() < 1e-6


def test_a_sample_is_held_against_the_graph(graph, models, tmp_path, random):
    module, path = graph
    inputs = torch.randn(2, 6, 4, generator=random)
    right = save_sample(tmp_path / "right.npz", module, inputs)
    imported = import_checkpoint(path, models, "it", sample=right)
    assert imported.verified.by == "sample"
    assert imported.verified.max_error < 1e-6
    wrong = save_sample(tmp_path / "wrong.npz", module, inputs, change=0.1)
    with pytest.raises(InvalidInput, match="off by"):
        import_checkpoint(path, models, "other", sample=wrong)
    assert not (models / "other").exists()


def test_a_graph_with_the_time_first_takes_its_sample_so(models, tmp_path, random):
    torch.manual_seed(5)
    module = Net(time_first=True)
    path = exported(module, (torch.randn(7, 2, 4),), tmp_path / "m.onnx", open_axes={"x": {0: "t", 1: "b"}})
    sample = save_sample(tmp_path / "s.npz", module, torch.randn(6, 3, 4, generator=random))
    imported = import_checkpoint(path, models, "it", sample=sample)
    assert imported.verified.max_error < 1e-6
    assert read_manifest(models / "it").graph.layout == "time_first"


def test_tokens_and_probabilities_are_found(tokens, models):
    module, path = tokens
    import_checkpoint(path, models, "it", Options(labels=("a", "b", "c")))
    manifest = read_manifest(models / "it")
    assert (manifest.input.kind, manifest.input.size) == ("tokens", 11)
    assert manifest.graph.is_probability
    assert manifest.task == "classification"
    pipeline = load_model(models / "it").pipeline
    ids = torch.tensor([[1, 5, 10]])
    values = pipeline.answer(Query(ids, torch.tensor([3]))).prediction.values
    assert torch.allclose(pipeline.head.probabilities(values), module(ids), atol=1e-6)


def test_a_scaler_and_names_are_taken(graph, models):
    _, path = graph
    scaler = '{"inputs": {"mean": [1, 2, 3, 4], "std": [2, 2, 2, 2]}}'
    import_checkpoint(
        path, models, "it", Options(features=("a", "b", "c", "d"), outputs=("x", "y", "z"), scaler=scaler)
    )
    manifest = read_manifest(models / "it")
    assert [(each.name, each.mean) for each in manifest.input.features] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert manifest.head.names == ("x", "y", "z")


@pytest.mark.parametrize("option", ["prefix", "head", "steps", "output_activation"])
def test_options_about_weights_are_refused(option, graph, models):
    value = ("fc",) if option in {"prefix", "head"} else "mean" if option == "steps" else "relu"
    with pytest.raises(InvalidInput, match="a graph says itself") as refused:
        import_checkpoint(graph[1], models, "it", Options(**{option: value}))
    assert refused.value.places[0].loc == (option,)


def test_a_version_is_added_under_the_manifest(graph, models, tmp_path):
    import_checkpoint(graph[1], models, "it")
    torch.manual_seed(9)
    further = exported(Net(), (torch.randn(2, 7, 4),), tmp_path / "more.onnx")
    assert import_checkpoint(further, models, "it").version == "2"
    first, second = (load_model(models / "it", version) for version in "12")
    assert first.fingerprint != second.fingerprint


def test_weights_are_no_version_of_a_graph(graph, models, tmp_path):
    import_checkpoint(graph[1], models, "it")
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InvalidInput, match="made of a graph \\(onnx\\), but the file holds weights of layers"):
        import_checkpoint(tmp_path / "weights.pt", models, "it")


def test_a_graph_is_no_version_of_weights(graph, models, tmp_path):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    import_checkpoint(tmp_path / "weights.pt", models, "it")
    with pytest.raises(InvalidInput, match="made of weights of layers, but the file holds a graph \\(onnx\\)"):
        import_checkpoint(graph[1], models, "it")


def test_a_graph_is_known_by_its_content(graph, models, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(graph[1].read_bytes())
    assert import_checkpoint(path, models, "it").verified.by == "graph"


def test_data_beside_the_file_is_taken_along(graph, models, tmp_path):
    model = onnx.load(graph[1])
    apart = tmp_path / "apart"
    apart.mkdir()
    onnx.save(model, apart / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    import_checkpoint(apart / "m.onnx", models, "it")
    assert sorted(path.name for path in (models / "it" / "1").iterdir()) == ["model.onnx"]
    load_model(models / "it")


def test_what_is_inside_is_reported(graph):
    found = report(graph[1])
    assert [each["path"] for each in found["lstms"]] == ["rnn"]
    assert found["import"]["graph"] == {"format": "onnx", "input": "x", "prediction": "y"}


def test_two_inputs_of_sequences_are_refused_by_name(models, tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(4, 6, batch_first=True)

        def forward(self, x, z):
            return self.rnn(x + z)[0]

    axes = {"x": {0: "b", 1: "t"}, "z": {0: "b", 1: "t"}}
    inputs = (torch.randn(2, 7, 4), torch.randn(2, 7, 4))
    path = exported(Two(), inputs, tmp_path / "m.onnx", ("x", "z"), open_axes=axes)
    with pytest.raises(CheckpointError, match="one input, the sequences; it has 'x'"):
        import_checkpoint(path, models, "it")


def test_a_model_that_was_changed_on_disk_is_not_served(graph, models):
    import_checkpoint(graph[1], models, "it")
    file = models / "it" / "1" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises((CheckpointError, WeightsError), match=r"model\.onnx"):
        load_model(models / "it")


def test_a_node_that_cannot_be_looked_into_is_told(models, tmp_path):
    clipped = NodeGraph(attributes={"clip": 0.3}).model()
    plain = NodeGraph(features=4, seed=1).model()
    for node in plain.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = f"second_{name}" if name and name != "x" else "y" if name == "x" else name
    for tensor in plain.graph.initializer:
        tensor.name = f"second_{tensor.name}"
    clipped.graph.node.extend(plain.graph.node)
    clipped.graph.initializer.extend(plain.graph.initializer)
    plain.graph.node[1].name = "top"
    clipped.graph.node[5].name = "top"
    clipped.graph.output[0].name = "second_y"
    path = tmp_path / "m.onnx"
    onnx.save(clipped, path)
    imported = import_checkpoint(path, models, "it")
    assert "'encoder' is computed, but cannot be looked into: it clips at 0.3." in imported.notes
    assert list(load_model(models / "it").pipeline.lstms) == ["top"]
