import pytest
import torch
from torch import nn

from gatescope.errors import WeightsError
from gatescope.pipeline.head import Head, HeadConfig

LENGTHS = torch.tensor([5, 1, 3])


@pytest.fixture
def output(random):
    """(3, 5, 4), NaN in the padding."""
    values = torch.randn(3, 5, 4, generator=random)
    for row, length in enumerate(LENGTHS.tolist()):
        values[row, length:] = torch.nan
    return values


def weights_of(layers):
    return {f"head.{name}": value for name, value in layers.state_dict().items()}


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_head_is_applied_to_every_step(output, bias):
    layers = nn.Sequential(nn.Linear(4, 2, bias=bias)).requires_grad_(requires_grad=False)
    head = Head(HeadConfig(), weights_of(layers))
    values = head(output, LENGTHS).detach()
    assert head.per_step
    assert (head.input_size, head.output_size) == (4, 2)
    torch.testing.assert_close(values, layers(output), rtol=0, atol=0, equal_nan=True)
    assert values.isnan().any(dim=-1).sum(dim=-1).tolist() == [0, 4, 2]


@pytest.mark.parametrize(("name", "activation"), [("relu", nn.ReLU), ("tanh", nn.Tanh)])
def test_an_mlp_has_its_activation_between_the_layers_only(output, name, activation):
    layers = nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, 5), activation(), nn.Linear(5, 2))
    layers[-1].bias.data.fill_(-1.0)
    head = Head(HeadConfig(activation=name), weights_of(layers))
    expected = layers(output)
    torch.testing.assert_close(head(output, LENGTHS), expected, rtol=0, atol=1e-6, equal_nan=True)
    assert bool((expected < 0).any())  # a rectified output would show
    assert (head.input_size, head.output_size) == (4, 2)


def test_layers_are_taken_by_number_not_by_name(output):
    numbered = [nn.Linear(4, 4) for _ in range(11)]
    weights = {
        f"head.{2 * n}.{key}": value for n, layer in enumerate(numbered) for key, value in layer.named_parameters()
    }
    expected = numbered[0](output)
    for layer in numbered[1:]:
        expected = layer(expected.tanh())
    head = Head(HeadConfig(activation="tanh"), dict(sorted(weights.items())))
    torch.testing.assert_close(head(output, LENGTHS), expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("steps", "pool"),
    [
        ("last", lambda row: row[-1]),
        ("mean", lambda row: row.mean(dim=0)),
        ("max", lambda row: row.amax(dim=0)),
    ],
)
def test_a_summary_reads_each_rows_own_steps_only(output, steps, pool):
    layers = nn.Sequential(nn.Linear(4, 2))
    head = Head(HeadConfig(steps=steps), weights_of(layers))
    assert not head.per_step
    expected = torch.stack([layers(pool(row[:length])) for row, length in zip(output, LENGTHS, strict=True)])
    torch.testing.assert_close(head(output, LENGTHS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_final_reads_h_n_of_the_top_layer(seeded_lstm, random, layers, bidirectional):
    lstm = seeded_lstm(3, 4, layers, bidirectional=bidirectional, batch_first=True)
    directions = 2 if bidirectional else 1
    linear = nn.Sequential(nn.Linear(4 * directions, 2))
    rows = [torch.randn(length, 3, generator=random) for length in LENGTHS]
    padded = torch.full((len(rows), max(LENGTHS), 4 * directions), torch.nan)
    expected = []
    for index, row in enumerate(rows):
        output, (h_n, _) = lstm(row[None])
        padded[index, : len(row)] = output[0]
        expected.append(linear(torch.cat(list(h_n[-directions:, 0]))))
    head = Head(HeadConfig(steps="final"), weights_of(linear), directions)
    assert not head.per_step
    torch.testing.assert_close(head(padded, LENGTHS), torch.stack(expected), rtol=0, atol=1e-6)


def test_no_layers_are_refused():
    with pytest.raises(WeightsError, match=r"no 'head\.0\.weight'"):
        Head(HeadConfig(), {"lstm.weight_ih_l0": torch.zeros(4, 1)})


def test_layers_that_do_not_fit_each_other_are_refused_with_both_sizes():
    weights = {"head.0.weight": torch.zeros(6, 4), "head.2.weight": torch.zeros(2, 5)}
    with pytest.raises(WeightsError, match=r"'head\.0\.weight' gives 6 values, but 'head\.2\.weight' takes 5"):
        Head(HeadConfig(), weights)


@pytest.mark.parametrize(
    "weights",
    [
        {"head.0.weight": torch.zeros(6)},
        {"head.0.weight": torch.zeros(6, 4, 1)},
        {"head.0.weight": torch.zeros(6, 4), "head.0.bias": torch.zeros(4)},
        {"head.0.weight": torch.zeros(6, 4), "head.0.bias": torch.zeros(6, 1)},
    ],
    ids=["vector", "convolution", "bias of the inputs", "bias of two axes"],
)
def test_what_is_no_linear_layer_is_refused(weights):
    with pytest.raises(WeightsError, match="is no linear layer"):
        Head(HeadConfig(), weights)
