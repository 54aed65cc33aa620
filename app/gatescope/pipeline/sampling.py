"""How the next token is drawn from the scores of all tokens, and which tokens end a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

LARGEST_SEED = 2**32 - 1
"""The generator takes the lowest 32 bits of a seed; larger ones would repeat smaller ones."""

_SEED_STEP = 0x9E3779B9
"""Odd, so that all samples of one seed have different generators; 2^32 divided by the golden ratio, so that those of
neighbouring seeds have, too."""

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: the temperature is applied first, then `top_k`, then `top_p`."""

    temperature: float = 0.0
    """The scores are divided by it; 0 takes the likeliest token."""
    top_k: int | None = None
    """Only so many of the likeliest tokens are drawn."""
    top_p: float | None = None
    """Only the fewest likeliest tokens are drawn whose probabilities sum up to at least this."""
    seed: int = 0
    samples: int = 1
    """How many texts each sequence is continued with."""
    stop: tuple[tuple[int, ...], ...] = ()
    """Token ids: a text ends when its last tokens are one of these."""


class Drawn(NamedTuple):
    """One token that was drawn."""

    sequence: int
    sample: int
    step: int
    """Counted from 0."""
    token: int
    finish_reason: FinishReason | None
    """Why the text ends here; None where it goes on."""


@dataclass(frozen=True)
class Generated:
    """The texts that were written."""

    sampling: Sampling
    tokens: Tensor
    """(batch, sample, step) token ids; what stands behind the end of a text has no meaning."""
    lengths: Tensor
    """(batch, sample) how many tokens each text has."""
    is_stopped: Tensor
    """(batch, sample) whether a stop ended it."""


def finish_reason(*, is_stopped: bool) -> FinishReason:
    """Why a text ended."""
    return "stop" if is_stopped else "length"


class Sampler:
    """Draws the next token of each row.

    A draw adds the same Gumbel noise to the scores of every row, step by step from a generator that the seed and the
    sample alone determine: so a row writes the same text in any batch, and a shorter horizon writes the beginning of
    a longer one.

    Args:
        sampling: how tokens are drawn.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generators = [_generator(sampling.seed, sample) for sample in range(sampling.samples)]

    def draw(self, scores: Tensor) -> Tensor:
        """The next tokens (batch · sample), of the scores (batch · sample, token), logits."""
        sampling = self._sampling
        if not sampling.temperature:
            return scores.argmax(dim=-1)
        scaled = scaled_scores(scores, sampling.temperature)
        noise = self._noise(scores.shape[-1]).to(scores.device)
        by_sample = scaled.reshape(-1, sampling.samples, scaled.shape[-1])  # (batch, sample, token)
        noisy = (by_sample - noise).flatten(0, 1)
        return noisy.masked_fill(~allowed(scaled, sampling.top_k, sampling.top_p), -torch.inf).argmax(dim=-1)

    def _noise(self, tokens: int) -> Tensor:
        """(sample, token)."""
        return torch.stack([torch.empty(tokens).exponential_(generator=each).log() for each in self._generators])


def scaled_scores(scores: Tensor, temperature: float) -> Tensor:
    """(row, token) float64, the largest 0: so the smallest temperature overflows nothing but what is never drawn."""
    exact = scores.double()
    return (exact - exact.amax(dim=-1, keepdim=True)) / temperature


def allowed(scores: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Which tokens may be drawn, (row, token); of tokens with equal scores the lower id comes first.

    Args:
        scores: (row, token) logits, divided by the temperature.
        top_k: only so many of the likeliest tokens.
        top_p: of these, only the fewest likeliest ones whose probabilities sum up to at least this.
    """
    possible = scores > -torch.inf
    if top_k is None and top_p is None:
        return possible
    order = scores.argsort(dim=-1, descending=True, stable=True)
    kept = possible.gather(-1, order)
    if top_k is not None:
        kept[:, top_k:] = False
    if top_p is not None and top_p < 1:
        probabilities = scores.gather(-1, order).masked_fill(~kept, -torch.inf).softmax(dim=-1)
        kept &= probabilities.cumsum(dim=-1) - probabilities < top_p
    return torch.zeros_like(kept).scatter(-1, order, kept)


class Ends:
    """Where the text of each row ends.

    Args:
        stop: token ids that end a text.
        rows: how many texts there are.
        device: of the tokens.
    """

    def __init__(self, stop: tuple[tuple[int, ...], ...], rows: int, device: torch.device) -> None:
        self._stop = [torch.tensor(ids, device=device) for ids in stop]
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        """(row,) how many tokens each text has."""
        self.is_stopped = torch.zeros(rows, dtype=torch.bool, device=device)
        """(row,) whether a stop ended it."""

    def add(self, tokens: list[Tensor]) -> None:
        """Look at the last step; `tokens` (row,) are those of every step so far."""
        self.lengths += ~self.is_stopped
        for ids in self._stop:
            if len(ids) <= len(tokens):
                last = torch.stack(tokens[-len(ids) :], dim=1)  # (row, len(ids))
                self.is_stopped |= (last == ids).all(dim=1)

    @property
    def are_all_stopped(self) -> bool:
        """Whether no text goes on."""
        return bool(self._stop) and bool(self.is_stopped.all())


def _generator(seed: int, sample: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed + sample * _SEED_STEP) % (LARGEST_SEED + 1))
