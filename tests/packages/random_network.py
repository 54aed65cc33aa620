"""`RandomNetwork`: a network around a recurrent module as research code has them, drawn by a seed, to be exported."""

from random import Random

import torch
from torch import nn
from torch.nn import functional

WIDTH = 8
KINDS = ("norm", "residual", "attention", "conv", "softmax", "feed_forward")


class Attention(nn.Module):
    """Scaled dot products of every step with every step, added to the step."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.shape[-1] ** 0.5
        return x + scores.softmax(-1) @ self.value(x)


class Convolution(nn.Module):
    """Over time, with as many steps as it is given."""

    def __init__(self, width, kernel):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, x):
        return torch.relu(self.conv(x.transpose(1, 2)).transpose(1, 2))


class Residual(nn.Module):
    """A linear layer whose input is added."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + functional.gelu(self.linear(x))


class Gating(nn.Module):
    """Each step weighted by a softmax over its own numbers."""

    def forward(self, x):
        return x * x.softmax(-1)


class BatchNorm(nn.Module):
    """Over the numbers of a step, with statistics that look trained."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def _layer(kind, random):
    if kind == "norm":
        return BatchNorm(WIDTH) if random.random() < 0.5 else nn.LayerNorm(WIDTH)
    if kind == "attention":
        return Attention(WIDTH)
    if kind == "conv":
        return Convolution(WIDTH, random.choice((1, 3, 5)))
    if kind == "residual":
        return Residual(WIDTH)
    if kind == "softmax":
        return Gating()
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(2 * WIDTH, WIDTH))


class RandomNetwork(nn.Module):
    """Layers of the kinds above, one recurrent module among them, and a prediction per step or per sequence."""

    def __init__(self, seed):
        super().__init__()
        random = Random(seed)  # noqa: S311 - reproducible
        torch.manual_seed(seed)
        self.features = random.randint(1, 5)
        self.first = nn.Linear(self.features, WIDTH)
        before = random.sample(KINDS, random.randint(0, 2))
        behind = random.sample(KINDS, random.randint(0, 2))
        self.before = nn.ModuleList(_layer(kind, random) for kind in before)
        cell = random.choice((nn.LSTM, nn.LSTM, nn.GRU, nn.RNN))
        is_bidirectional = random.random() < 0.4
        self.rnn = cell(
            WIDTH,
            WIDTH // 2 if is_bidirectional else WIDTH,
            random.choice((1, 1, 2)),
            batch_first=True,
            bidirectional=is_bidirectional,
            bias=random.random() < 0.8,
        )
        self.adds = random.random() < 0.4
        self.behind = nn.ModuleList(_layer(kind, random) for kind in behind)
        self.pool = random.choice(("all", "last", "mean", "max", "attention"))
        self.score = nn.Linear(WIDTH, 1)
        self.last = nn.Linear(WIDTH, random.randint(1, 3))
        self.ends = random.choice((None, None, "softmax", "sigmoid", "tanh"))
        self.eval()

    def forward(self, x):
        x = self.first(x)
        for layer in self.before:
            x = layer(x)
        y = self.rnn(x)[0]
        y = y + x if self.adds else y
        for layer in self.behind:
            y = layer(y)
        if self.pool == "last":
            y = y[:, -1]
        elif self.pool == "mean":
            y = y.mean(dim=1)
        elif self.pool == "max":
            y = y.amax(dim=1)
        elif self.pool == "attention":
            y = (self.score(y).softmax(dim=1) * y).sum(dim=1)
        y = self.last(y)
        if self.ends == "softmax":
            return y.softmax(-1)
        if self.ends is not None:
            return getattr(torch, self.ends)(y)
        return y
