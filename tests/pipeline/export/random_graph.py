"""`RandomNetwork`: a network with recurrent modules, norms, residuals, attention and convolutions, drawn by a seed."""

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 8
STATES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
ACTIVATIONS = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "leaky_relu": functional.leaky_relu,
}


class Recurrent(nn.Module):
    """A recurrent module of the width, of any kind, direction and depth."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        is_both = random.random() < 0.3
        options = {"bias": random.random() < 0.8, "num_layers": random.choice((1, 1, 2)), "bidirectional": is_both}
        kind = random.choice(list(STATES))
        if kind == "rnn":
            options["nonlinearity"] = random.choice(("tanh", "relu"))
        self.rnn = STATES[kind](WIDTH, WIDTH // 2 if is_both else WIDTH, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Attention(nn.Module):
    """Attention of one of the forms that scripts have."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.form = random.choice(("module", "weights", "own", "causal", "transformer"))
        heads = random.choice((1, 2, 4))
        self.heads = heads
        if self.form in {"module", "weights"}:
            self.attention = nn.MultiheadAttention(WIDTH, heads, batch_first=True)
        elif self.form == "transformer":
            self.attention = nn.TransformerEncoderLayer(WIDTH, heads, 12, batch_first=True)
        else:
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "transformer":
            return self.attention(x)
        if self.form in {"module", "weights"}:
            return self.attention(x, x, x, need_weights=self.form == "weights")[0]
        batch, steps, _ = x.shape
        q, k, v = (part.view(batch, steps, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        if self.form == "causal":
            mask = torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril()
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            y = (q @ k.transpose(-2, -1) * 0.7).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, steps, WIDTH))


class Convolution(nn.Module):
    """A convolution along time, padded on both sides or on the left alone."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.is_causal, kernel = random.random() < 0.5, random.choice((3, 5))
        self.conv = nn.Conv1d(WIDTH, WIDTH, kernel, padding=0 if self.is_causal else kernel // 2)
        self.left = kernel - 1

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.conv(functional.pad(x, (self.left, 0)) if self.is_causal else x).transpose(1, 2)


class Norm(nn.Module):
    """A norm over the features."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.kind = random.choice(("layer", "rms", "batch", "group", "l2"))
        self.norm = {
            "layer": nn.LayerNorm(WIDTH),
            "rms": nn.RMSNorm(WIDTH),
            "batch": nn.BatchNorm1d(WIDTH),
            "group": nn.GroupNorm(2, WIDTH),
            "l2": nn.Identity(),
        }[self.kind]

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "l2":
            return functional.normalize(x, dim=-1)
        if self.kind in {"batch", "group"}:
            return self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.norm(x)


class Feed(nn.Module):
    """Two linear layers and what stands between them."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.activation = random.choice(list(ACTIVATIONS))
        self.first, self.second = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(ACTIVATIONS[self.activation](self.first(x))))


BLOCKS = (Recurrent, Attention, Convolution, Norm, Feed)
POOLS = {
    "all": lambda x: x,
    "last": lambda x: x[:, -1],
    "mean": lambda x: x.mean(1),
    "max": lambda x: x.max(1)[0],
    "weighted": lambda x: (x.softmax(1) * x).sum(1),
    "last three": lambda x: x[:, -3:].sum(1),
    "length": lambda x: x.sum(1) / x.shape[1],
    "place": lambda x: x[:, x.shape[1] - 1],
}
"""The last two are served over the sample's number of steps alone."""
FIXING = frozenset({"length", "place"})


class RandomNetwork(nn.Module):
    """Blocks, some with a residual, around at least one recurrent module."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = Random(seed)  # noqa: S311 - reproducible
        self.tokens = random.choice((None, None, 9))
        self.begin = nn.Linear(3, WIDTH) if self.tokens is None else nn.Embedding(self.tokens, WIDTH)
        self.places = nn.Embedding(200, WIDTH) if random.random() < 0.2 else None
        kinds = [Recurrent, *random.choices(BLOCKS, k=random.randint(1, 4))]
        random.shuffle(kinds)
        self.blocks = nn.ModuleList([kind(random) for kind in kinds])
        self.residual = [random.random() < 0.5 for _ in kinds]
        self.pool = random.choice(list(POOLS))
        self.head = nn.Linear(WIDTH, random.randint(1, 4))
        self._disturb(seed)

    def _disturb(self, seed: int) -> None:
        """Weights as training leaves them."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in self.parameters():
                value.uniform_(-0.6, 0.6, generator=generator)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.running_mean.uniform_(-1, 1, generator=generator)
                    module.running_var.uniform_(0.5, 2, generator=generator)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, feature) or (batch, time) ids -> the prediction."""
        x = self.begin(x)
        if self.places is not None:
            x = x + self.places(torch.arange(x.shape[1], device=x.device))
        for block, is_residual in zip(self.blocks, self.residual, strict=True):
            x = x + block(x) if is_residual else block(x)
        return self.head(POOLS[self.pool](x))

    def inputs(self, seed: int, batch: int, steps: int) -> Tensor:
        """A batch that the network takes."""
        generator = torch.Generator().manual_seed(seed)
        if self.tokens is not None:
            return torch.randint(self.tokens, (batch, steps), generator=generator)
        return torch.randn(batch, steps, 3, generator=generator)
