"""Checkpoints in parts: one part alone is refused, an index is read whole, a folder's file is found."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gatescope.checkpoints.formats.checkpoint import read
from gatescope.errors import CheckpointError


@pytest.fixture
def state():
    torch.manual_seed(16)
    return nn.ModuleDict({"lstm": nn.LSTM(3, 4), "fc": nn.Linear(4, 2)}).state_dict()


@pytest.fixture(params=["safetensors", "bin"])
def index(request, tmp_path, state):
    """The index of two parts: the first has the matrices, the second the biases and the head."""
    stem, parts = ("model" if request.param == "safetensors" else "pytorch_model"), {}
    for number in (1, 2):
        part = {name: value for name, value in state.items() if ("lstm.weight" in name) == (number == 1)}
        parts[f"{stem}-0000{number}-of-00002.{request.param}"] = part
    for name, part in parts.items():
        if request.param == "safetensors":
            save_file(part, tmp_path / name, metadata={"format": "pt"})
        else:
            torch.save(part, tmp_path / name)
    path = tmp_path / f"{stem}.{request.param}.index.json"
    weight_map = {weight: name for name, part in parts.items() for weight in part}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return path


def refusal(path, **options):
    with pytest.raises(CheckpointError) as refused:
        read(path, **options)
    assert str(refused.value).isprintable()
    return str(refused.value)


def change(index, **weight_map):
    content = json.loads(index.read_text())
    content["weight_map"] |= weight_map
    index.write_text(json.dumps(content))


def part(index, number):
    return next(path for path in index.parent.iterdir() if f"-0000{number}-of-" in path.name)


def test_one_part_alone_is_refused(index):
    for number in (1, 2):
        refused = refusal(part(index, number))
        assert f"it is part {number} of 2 of a checkpoint; give its index" in refused


def test_the_only_part_is_the_whole(tmp_path, state):
    save_file(state, tmp_path / "model-00001-of-00001.safetensors")
    assert len(read(tmp_path / "model-00001-of-00001.safetensors").weights) == len(state)


def test_an_index_is_read_with_all_of_its_parts(index, state):
    found = read(index)
    assert found.weights.keys() == state.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in state.items())
    assert found.notes[0].startswith("Read from 2 parts: ")
    assert found.beside == ({"format": "pt"} if "safetensors" in index.name else {})


def test_an_index_is_told_by_its_content(index, state):
    assert len(read(index.rename(index.with_name("weights"))).weights) == len(state)


def test_a_part_that_is_missing_is_named(index):
    missing = part(index, 2)
    missing.unlink()
    assert f"its part '{missing.name}': it cannot be read: No such file" in refusal(index)


def test_a_weight_that_is_missing_is_named(index):
    change(index, **{"fc.extra": part(index, 2).name})
    assert "does not hold 'fc.extra', as the index says" in refusal(index)


def test_a_weight_that_the_index_does_not_name_is_not_read(index, state):
    content = json.loads(index.read_text())
    del content["weight_map"]["fc.bias"]
    index.write_text(json.dumps(content))
    found = read(index)
    assert found.weights.keys() == state.keys() - {"fc.bias"}
    assert "Not read, because the index does not name them: 'fc.bias'." in found.notes


@pytest.mark.parametrize(
    "name", ["../other.bin", "/etc/passwd", "", ".", "..", "a/b", "a\\b", "a\x00b", "a\nb", 3, None]
)
def test_a_part_outside_the_folder_is_refused(index, name):
    change(index, **{"fc.bias": name})
    assert "which is no file in the same folder" in refusal(index)


def test_an_index_that_names_itself_is_refused(index):
    change(index, **{"fc.bias": index.name})
    assert f"its part '{index.name}': it begins with" in refusal(index)


@pytest.mark.timeout(10)
def test_a_pipe_in_the_place_of_a_part_is_not_waited_for(index):
    pipe = part(index, 2)
    pipe.unlink()
    os.mkfifo(pipe)
    assert "it is no regular file" in refusal(index)


def test_sizes_are_bounded_together(index):
    sizes = [part(index, number).stat().st_size for number in (1, 2)]
    read(index, most_bytes=sum(sizes))
    assert f"at most {sizes[1] - 1} are read" in refusal(index, most_bytes=sum(sizes) - 1)


@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": {}}', '{"weight_map": 3}', "{", '{"a": ' + "[" * 100_000, "{\xff"]
)
def test_other_json_files_are_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    assert "without a weight_map" in refusal(tmp_path / "config.json")


def test_an_index_of_too_many_parts_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"weight_map": {f"w{part}": f"{part}.bin" for part in range(501)}}))
    assert "names 501 parts, and at most 500" in refusal(tmp_path / "a.json")
