"""Each family of operators gives what the module itself gives, also for other batches and lengths."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from gatescope.errors import CheckpointError
from gatescope.pipeline.export.allowed import RECURRENT_OPERATORS, TENSOR_OPERATORS
from gatescope.pipeline.export.operators import overload_of
from tests.bulk import IS_ALL
from tests.pipeline.export.conftest import widen

STEPS = 23  # of the sample: no number below is one that is computed from it
SIZES = ((1, 1), (3, 7), (2, STEPS), (4, 50))
WIDTH = 8


class Family(nn.Module):
    """An LSTM whose output goes through the functions of a family, with the layers that they call."""

    layers = ()

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, WIDTH, batch_first=True)
        for name, layer in self.make().items():
            self.add_module(name, layer)

    def make(self):
        return {}

    def forward(self, x):
        y = self.lstm(x)[0]
        return tuple(value.float() for value in self.run(x, y))


class Elementwise(Family):
    def run(self, _, y):
        p = y.abs() + 0.5
        yield y + 2.5 * y - y / 3.5 + (1 - y) + 2.5 / p
        yield y.exp() * p.log() + p.sqrt() - p.rsqrt() + p.log1p() + y.expm1() + p.log2() + p.log10() + y.exp2()
        yield y.sin() + y.cos() + y.tan() + y.atan() + y.sinh() + y.cosh() + y.erf() + p.reciprocal() + y.square()
        yield y.tanh() + y.sigmoid() + y.relu() + functional.gelu(y) + functional.gelu(y, approximate="tanh")
        yield functional.silu(y) + functional.elu(y) + functional.selu(y) + functional.celu(y) + functional.mish(y)
        yield functional.leaky_relu(y, 0.3) + functional.softplus(y) + functional.hardtanh(y, -0.1, 0.1)
        yield functional.hardswish(y) + functional.hardsigmoid(y) + functional.relu6(y) + functional.logsigmoid(y)
        yield functional.glu(y, -1)
        yield functional.softshrink(y, 0.1) + functional.hardshrink(y, 0.1) + functional.threshold(y, 0.1, 0.0)
        yield y.clamp(-0.1, 0.2) + y.clamp(min=0.05) + y.clamp_max(0.1) + torch.minimum(y, p) + torch.maximum(y, -p)
        yield p.pow(1.5) + y**2 + torch.pow(2.5, y) + p**p + y.neg() + y.sign() + y.abs()
        yield y.floor() + y.ceil() + y.round() + y.trunc() + y.frac() + torch.fmod(y, 0.3) + torch.remainder(y, 0.3)
        yield (y > 0) & (y < 0.2) | (y >= 0.3) | (y <= -0.3) | (y == p) ^ (y != p)
        yield (y > 0).logical_not().logical_and(y > -0.1).logical_or(y > 0.4)
        yield torch.where(y > 0, y, 0.25) + torch.where(y > 0, p, y) + y.masked_fill(y > 0.1, -7.0)
        yield torch.lerp(y, p, 0.3) + torch.addcmul(y, p, y, value=0.3) + torch.addcdiv(y, y, p, value=0.3)
        yield torch.atan2(y, p) + torch.logaddexp(y, p) + y.nan_to_num() + torch.div(y, 0.3, rounding_mode="floor")


class Reducing(Family):
    def run(self, _, y):
        yield y.sum(-1)
        yield y.mean(1)
        yield y.mean(dim=(1, 2))
        yield y.amax(1) + y.amin(1)
        yield y.max(dim=1)[0] + y.min(dim=1).values
        yield y.argmax(1) + y.argmin(-1).sum(1, keepdim=True)
        yield y.var(-1) + y.std(-1) + y.var(-1, correction=0)
        yield y.norm(dim=-1) + torch.linalg.vector_norm(y, dim=-1)
        yield y.softmax(-1) + y.log_softmax(-1) + y.softmax(1)
        yield y.logsumexp(1)
        yield y.cumsum(1) + y.flip(1).cumsum(1)
        yield (1 + 0.1 * y).cumprod(1) + y.cummax(1)[0]
        yield y.prod(-1)
        yield y.topk(3, dim=-1).values
        yield y.sort(-1)[0] + y.argsort(-1)
        yield (y > 0).any(1) | (y > 0.1).all(1)
        yield y.median(-1)[0]
        yield functional.cosine_similarity(y, y.flip(1), dim=-1)
        yield functional.normalize(y, dim=-1)
        yield torch.var_mean(y, -1)[1]
        yield torch.diff(y, dim=-1)


class Shapes(Family):
    def make(self):
        return {"start": nn.Embedding(1, WIDTH), "place": nn.Embedding(500, WIDTH)}

    def run(self, x, y):
        batch, steps = x.shape[:2]
        yield y[:, -1] + y[:, 0]
        yield y[:, -1:].expand(-1, steps, -1) + y
        yield y[:, -1:].repeat(1, steps, 1) + y
        yield y.reshape(batch * steps, WIDTH).view(batch, steps, 2, 4).permute(0, 2, 1, 3)
        yield y.transpose(1, 2).contiguous().view(batch, WIDTH, steps)
        yield y.flatten(1).unflatten(1, (steps, WIDTH))
        yield torch.cat([y, x], -1)
        yield torch.stack([y, -y], 2)
        yield torch.cat([y[:, 1:], y[:, :1]], 1)
        yield y.chunk(2, -1)[1] + y.split(4, -1)[0] + torch.split(y, [4, 4], dim=-1)[1] + y.unbind(-1)[0][..., None]
        yield y[..., ::2] + y[..., 1::2]
        yield y.unsqueeze(1).squeeze(1).movedim(0, 0).flip(2)
        yield functional.pad(y, (1, 2))
        yield functional.pad(y, (1, 2), value=0.3)
        yield y + torch.arange(steps)[None, :, None] * 0.3
        yield y + self.place(torch.arange(steps))
        yield y + self.place.weight[:steps]
        yield y.masked_fill(torch.ones(steps, WIDTH).triu(1).bool(), 0.25)
        yield torch.zeros(batch, WIDTH) + y[:, -1] + torch.full((batch, 1), 0.3) + torch.zeros_like(y[:, 0])
        yield y + torch.ones_like(y).cumsum(1) + y.new_zeros(batch, steps, 1) + torch.full_like(y, 0.3)
        yield torch.cat([self.start.weight.expand(batch, 1, WIDTH), y], 1)
        yield y.tile(1, 1, 2)
        yield y.repeat_interleave(2, -1)
        yield y.double().mul(2.5).to(torch.float32) + y.long()
        yield torch.einsum("btc,bsc->bts", y, y)
        yield y @ y.mT
        yield y.tril() + y.triu(1)
        yield torch.broadcast_to(y[:, :1], (batch, steps, WIDTH)) + y


class Products(Family):
    def make(self):
        return {
            "linear": nn.Linear(WIDTH, 5),
            "attention": nn.MultiheadAttention(WIDTH, 2, batch_first=True),
            "transformer": nn.TransformerEncoderLayer(WIDTH, 2, 12, batch_first=True),
        }

    def run(self, _, y):
        yield self.linear(y)
        yield torch.baddbmm(torch.zeros(1), y, y.mT)
        yield torch.bmm(y, y.mT) + torch.matmul(y, y.mT)
        yield self.attention(y, y, y)[0]
        yield self.attention(y, y, y, need_weights=False)[0]
        yield self.transformer(y)
        yield functional.scaled_dot_product_attention(y, y, y)
        causal = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool).tril()
        yield functional.scaled_dot_product_attention(y, y, y, attn_mask=causal)
        yield functional.scaled_dot_product_attention(y, y, y, is_causal=True)
        yield (y @ y.mT / math.sqrt(WIDTH)).masked_fill(~causal, -math.inf).softmax(-1) @ y


class Layers(Family):
    def make(self):
        return {
            "layer": nn.LayerNorm(WIDTH),
            "rms": nn.RMSNorm(WIDTH),
            "batch": nn.BatchNorm1d(WIDTH),
            "group": nn.GroupNorm(2, WIDTH),
            "conv": nn.Conv1d(WIDTH, 6, 3, padding=1),
            "same": nn.Conv1d(WIDTH, 6, 3, padding="same", dilation=2),
            "grouped": nn.Conv1d(WIDTH, WIDTH, 3, padding=2, groups=WIDTH),
            "transposed": nn.ConvTranspose1d(WIDTH, 3, 3, padding=1),
            "prelu": nn.PReLU(),
            "dropout": nn.Dropout(0.5),
            "dropout1d": nn.Dropout1d(0.5),
            "inplace": nn.ReLU(inplace=True),
        }

    def run(self, _, y):
        z = y.transpose(1, 2)
        yield self.layer(y) + self.rms(y) + self.dropout(y) + self.prelu(y) + self.dropout1d(y)
        yield self.batch(z)
        yield self.group(z)
        yield self.conv(z) + self.same(z)
        yield self.grouped(z)[..., :-2]
        yield self.conv(functional.pad(z, (2, 0)))
        yield self.transposed(z)
        yield functional.avg_pool1d(z, 3, 1, 1) + functional.max_pool1d(z, 3, 1, 1)
        yield functional.adaptive_avg_pool1d(z, 1)
        yield functional.adaptive_max_pool1d(z, 1)
        yield functional.layer_norm(y, (WIDTH,))
        yield self.inplace(y * 2.5)


class Picking(Family):
    def make(self):
        return {"table": nn.Embedding(7, 4)}

    def run(self, x, y):
        ids = (y[..., 0] > 0).long()
        rows = torch.arange(x.shape[0])
        yield self.table(ids)
        yield y.gather(1, ids[..., None])
        yield y[rows, -1]
        yield y[:, :, torch.tensor([3, 5, 7])]
        yield y.index_select(-1, torch.tensor([3, 5]))
        yield y.take_along_dim(ids[..., None], dim=-1)
        yield y[rows, ids.sum(1).clamp(max=0)]
        yield torch.zeros_like(y).scatter(2, ids[..., None], 0.3)
        yield torch.zeros_like(y).scatter_add(2, ids[..., None].expand(-1, -1, 3), x)
        yield functional.one_hot(ids, 7)


FAMILIES = (Elementwise, Reducing, Shapes, Products, Layers, Picking)
DECOMPOSED = (Layers,)
"""Those that `make test` also runs decomposed; the others take as long and change less."""


@pytest.mark.random
@pytest.mark.parametrize(
    ("family", "decompose"),
    [*((family, False) for family in FAMILIES), *((family, True) for family in (FAMILIES if IS_ALL else DECOMPOSED))],
)
def test_a_family_of_operators_gives_what_the_module_gives(load, family, decompose):
    module = widen(family())
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.uniform_(-0.3, 0.3)
            layer.running_var.uniform_(0.5, 2)
    served = load(module, torch.randn(2, STEPS, 3), decompose=decompose)
    assert served.fixed_batch is None
    assert served.fixed_steps is None, served.notes
    for batch, steps in SIZES:
        x = torch.randn(batch, steps, 3)
        with torch.no_grad():
            own, given = module(x), served(x)
        for index, (value, expected) in enumerate(zip(given, own, strict=True)):
            largest = float(expected.abs().nan_to_num(0, 0, 0).max())
            torch.testing.assert_close(
                value,
                expected,
                rtol=0,
                atol=1e-5 * (largest + 1e-3),
                equal_nan=True,
                msg=lambda m, i=index: f"{i}: {m}",
            )


def test_every_allowed_name_is_an_operator():
    missing = [name for name in sorted(TENSOR_OPERATORS) if overload_of(name) is None]
    assert not missing


def test_only_recurrent_and_dropping_operators_may_draw_at_random():
    """Those of dropout run as in evaluation; attention is refused with a probability."""
    drawing = {
        name
        for name in TENSOR_OPERATORS - RECURRENT_OPERATORS
        if torch.Tag.nondeterministic_seeded in overload_of(name).tags
    }
    assert drawing == {
        "aten._scaled_dot_product_flash_attention_for_cpu.default",
        "aten.alpha_dropout.default",
        "aten.dropout.default",
        "aten.dropout_.default",
        "aten.feature_dropout.default",
        "aten.scaled_dot_product_attention.default",
    }


class Random(Family):
    def run(self, _, y):
        yield functional.scaled_dot_product_attention(y, y, y, dropout_p=0.3)


class Drawn(Family):
    def run(self, _, y):
        yield y + torch.randn_like(y)


class Uneven(Family):
    def run(self, _, y):
        yield y[y > 0]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (Random, "drops values at random"),
        (Drawn, "operators that are not served: 'aten.randn_like.default'"),
        (Uneven, "cannot be run over its own sample"),
    ],
)
def test_what_is_random_or_depends_on_values_is_refused(load, family, reason):
    with pytest.raises(CheckpointError, match=reason):
        load(widen(family()), torch.randn(2, STEPS, 3))


class Writing(Family):
    def run(self, _, y):
        z = y * 1.5
        z[:, -1] = 0.25
        z[:, :, 0] += 0.3
        z.add_(y)
        yield z


class WritingInput(Family):
    def run(self, x, y):
        x.transpose(1, 2).mul_(2.5)
        yield y + x[..., :1]


def test_a_fresh_value_may_be_changed_in_place(load):
    module = widen(Writing())
    served, x = load(module, torch.randn(2, STEPS, 3)), torch.randn(3, 5, 3)
    before = x.clone()
    torch.testing.assert_close(served(x)[0], module(x)[0])
    assert torch.equal(x, before)


def test_an_input_that_is_changed_in_place_is_refused(load):
    with pytest.raises(CheckpointError, match="in place"):
        load(widen(WritingInput()), torch.randn(2, STEPS, 3))
