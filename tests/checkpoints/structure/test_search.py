"""Many chains at once give what each gives alone."""

import numpy as np
import torch
from torch import nn

from gatescope import padding
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.search import Evaluator, Inputs, Question, errors_of, impossible, search, tree
from gatescope.pipeline.layers.layer import Shape, Steps

MODULE = nn.ModuleDict({"proj": nn.Linear(3, 4), "lstm": nn.LSTM(4, 5, batch_first=True), "fc": nn.Linear(5, 2)}).eval()
CHAINS = [
    ("proj", "lstm", "fc"),
    ("proj", "relu", "lstm", "fc"),
    ("proj", "tanh", "lstm", "last", "fc"),
    ("proj", "lstm", "mean", "fc", "softmax"),
    ("lstm", "fc"),  # cannot be: it takes 4 values
    ("proj", "nothing", "lstm"),
    ("proj", "residual(lstm)"),
    ("proj", "lstm", "max", "fc"),
]


def alone(chain, row):
    """One sequence through PyTorch's own modules."""
    values = row
    for token in chain:
        values = {
            "proj": MODULE["proj"],
            "fc": MODULE["fc"],
            "lstm": lambda x: MODULE["lstm"](x)[0],
            "relu": torch.relu,
            "tanh": torch.tanh,
            "last": lambda x: x[-1],
            "mean": lambda x: x.mean(0),
            "max": lambda x: x.amax(0),
            "softmax": lambda x: x.softmax(-1),
        }[token](values)
    return values


def asked(rows):
    values, lengths = padding.pad(rows)
    return Inputs(
        {"inputs": (Shape(3), values)}, Steps(lengths, values.shape[1], ragged=len(set(lengths.tolist())) > 1)
    )


def evaluator(inputs):
    weights = MODULE.state_dict()
    parts = {part.path: part for part in Contents.of(weights).parts}
    return Evaluator(weights, parts, {}, inputs)


def test_chains_together_give_what_each_gives_alone(random):
    rows = [torch.randn(length, 3, generator=random) for length in (7, 3, 1)]
    found = {}
    for indices, values in evaluator(asked(rows)).values(tree(CHAINS)):
        found |= dict(zip(indices, values, strict=True))
    assert sorted(found) == [0, 1, 2, 3, 7]
    for index, values in found.items():
        for row, own in zip(rows, values, strict=True):
            with torch.no_grad():
                expected = alone(CHAINS[index], row)
            cut = own[: len(row)] if own.dim() > 1 else own
            torch.testing.assert_close(cut, expected, rtol=0, atol=1e-5)


def test_matches_are_in_the_order_of_the_chains_and_the_nearest_is_kept(random):
    rows = [torch.randn(6, 3, generator=random) for _ in range(2)]
    with torch.no_grad():
        expected = np.stack([alone(CHAINS[7], row).double().numpy() for row in rows])
    question = Question(asked(rows), expected)
    found = search([CHAINS[7], CHAINS[2], CHAINS[7]], [(question, evaluator(question.inputs))], 1e-5)
    assert [match.tokens for match in found.matches] == [CHAINS[7], CHAINS[7]]
    far = search(CHAINS[:3], [(question, evaluator(question.inputs))], 1e-5)
    assert not far.matches
    assert far.nearest.tokens == CHAINS[2]
    assert far.nearest.error > 1e-3


def test_nan_is_never_a_match():
    question = Question(asked([torch.zeros(2, 3), torch.zeros(2, 3)]), np.zeros((2, 1)))
    values = torch.tensor([[[0.0], [0.0]], [[torch.nan], [0.0]], [[0.0], [torch.nan]]])
    assert errors_of(values, question).tolist() == [0.0, np.inf, np.inf]


def test_the_range_of_what_is_expected_rules_functions_out():
    def ruled_out(*values):
        return impossible([Question(asked([torch.zeros(2, 3)]), np.array([values]))], 1e-5)

    assert {"relu", "sigmoid", "softplus", "exp", "softmax", "tanh"} <= ruled_out(-2.0, 3.0)
    assert ruled_out(0.2, 0.8) == {"log_softmax"}
    assert "relu" not in ruled_out(-1e-7, 1.0)
