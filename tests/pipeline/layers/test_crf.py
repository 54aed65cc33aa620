import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.layers.crf import CRF
from gatescope.pipeline.layers.layer import Shape, Steps


def weights_of(labels, generator):
    return {
        "transitions": torch.randn(labels, labels, generator=generator),
        "start_transitions": torch.randn(labels, generator=generator),
        "end_transitions": torch.randn(labels, generator=generator),
    }


def best_path(scores, weights):
    """Every path tried, in float64: (time, label) -> the one with the largest sum."""
    start, end = weights["start_transitions"].double(), weights["end_transitions"].double()

    def total(path):
        value = start[path[0]] + end[path[-1]] + sum(scores[step, label].double() for step, label in enumerate(path))
        return value + sum(weights["transitions"].double()[pair] for pair in itertools.pairwise(path))

    return max(itertools.product(range(scores.shape[1]), repeat=len(scores)), key=total)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    labels=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    garbage=st.sampled_from([torch.nan, 1e30, -1e30, 0.0]),
)
def test_the_best_path_is_found_among_all(seed, labels, lengths, garbage):
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(labels, generator)
    crf = CRF(*weights.values(), Shape(labels))
    scores = torch.full((len(lengths), max(lengths), labels), garbage)
    for row, length in enumerate(lengths):
        scores[row, :length] = torch.randn(length, labels, generator=generator) * 2
    paths = crf.decode(scores, torch.tensor(lengths))
    assert paths.shape == scores.shape[:2]
    for row, length in enumerate(lengths):
        assert tuple(paths[row, :length].tolist()) == best_path(scores[row, :length], weights)


def test_the_path_is_more_than_the_best_label_of_each_step(made, steps):
    weights = {
        "transitions": torch.tensor([[0.0, -9.0], [-9.0, 0.0]]),
        "start_transitions": torch.zeros(2),
        "end_transitions": torch.zeros(2),
    }
    layer = made({"type": "crf"}, weights, Shape(2))
    scores = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [2.0, 0.0]]])
    assert scores.argmax(-1).tolist() == [[0, 1, 0]]
    assert layer.decode(scores, torch.tensor([3])).tolist() == [[0, 0, 0]]


def test_it_passes_the_scores_on(made, random):
    layer = made({"type": "crf"}, weights_of(3, random), Shape(3, names=tuple("abc"), is_probability=True))
    scores = torch.randn(2, 4, 3, generator=random)
    assert torch.equal(layer(scores, steps=Steps(torch.tensor([4, 4]), 4, ragged=False)), scores)
    assert layer.shape == Shape(3, names=tuple("abc"), sums_up=True)


def test_another_number_of_labels_is_refused(made, random):
    with pytest.raises(WeightsError, match=r"'it\.transitions' has shape \[3, 3\], but layer 'it' needs 2 × 2"):
        made({"type": "crf"}, weights_of(3, random), Shape(2))


def test_a_vector_has_no_path(made, random):
    with pytest.raises(ManifestError, match="reads a sequence"):
        made({"type": "crf"}, weights_of(3, random), Shape(3, is_sequence=False))
