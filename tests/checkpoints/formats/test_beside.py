"""The plain data beside the weights: from every level, bounded, and hashed only where that is quick."""

import time

import pytest
import torch
from safetensors.torch import save_file

from gatescope.checkpoints.formats import beside
from gatescope.checkpoints.formats.checkpoint import read
from gatescope.checkpoints.formats.plain import Entries

STATE = {"weight": torch.ones(2)}
MERSENNE = 2**61 - 1


@pytest.fixture
def kept(tmp_path):
    def save_and_read(saved):
        torch.save(saved, tmp_path / "a.pt")
        return read(tmp_path / "a.pt").beside

    return save_and_read


def test_every_level_is_looked_at_and_the_outermost_wins(kept):
    inner = {"state_dict": STATE, "epoch": 1, "id2label": {0: "no", 1: "yes"}}
    assert kept({"model": inner, "epoch": 2, "vocab": ["a", "b"]}) == {
        "epoch": 2,
        "vocab": ["a", "b"],
        "id2label": {0: "no", 1: "yes"},
    }


def test_what_stands_between_the_weights_is_kept(kept):
    assert kept({**STATE, "char_to_idx": {"a": 0}, "steps": 3}) == {"char_to_idx": {"a": 0}, "steps": 3}


def test_tensors_and_optimizers_are_left_out(kept):
    optimizer = {"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.1}]}
    saved = {"state_dict": STATE, "opt": optimizer, "opts": [optimizer], "loss": torch.ones(1), "mean": [torch.ones(1)]}
    assert kept(saved) == {}


def test_empty_containers_are_kept(kept):
    assert kept({"state_dict": STATE, "a": [], "b": {}, "c": (), "d": set()}) == {"a": [], "b": {}, "c": (), "d": set()}


def test_the_texts_of_safetensors_are_kept(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", metadata={"format": "pt", "labels": "a,b"})
    assert read(tmp_path / "a.safetensors").beside == {"format": "pt", "labels": "a,b"}


def test_a_large_vocabulary_is_kept(kept):
    words = {f"word{index}": index for index in range(100_000)}
    assert kept({"state_dict": STATE, "vocab": words, "words": {index: word for word, index in words.items()}}) == {
        "vocab": words,
        "words": {index: word for word, index in words.items()},
    }


def test_what_is_too_large_is_named_and_the_rest_kept(tmp_path):
    text = "x" * 2**20
    torch.save({"state_dict": STATE, "large": [text] * 100, "small": [text]}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert found.beside == {"small": [text]}
    assert "Too large to be looked at: 'large'." in found.notes


@pytest.mark.timeout(20)
def test_keys_that_hash_alike_are_not_hashed(kept):
    alike = {MERSENNE * key: key for key in range(-4, 5)}
    assert kept({"state_dict": STATE, "few": alike}) == {"few": alike}
    entries = Entries()
    entries.others = [(MERSENNE * key % 2**63, key) for key in range(20_000)]
    assert beside.plain([("many", entries), ("more", entries)]) == ({}, [])


@pytest.mark.parametrize("key", [2**64, -(2**63) - 1, tuple(range(9)), ((1,),)])
def test_other_keys_are_not_hashed(kept, key):
    assert kept({"state_dict": STATE, "x": {key: 1}, "y": {key}}) == {}


@pytest.mark.timeout(20)
def test_what_doubles_is_cut_off_in_time():
    doubled = ()
    for _ in range(100):
        doubled = (doubled, doubled, doubled)
    start = time.perf_counter()
    assert beside.plain([(f"x{index}", doubled) for index in range(50)])[0] == {}
    assert time.perf_counter() - start < 10
