"""Train a character model of Shakespeare's plays: a two-layer nn.LSTM that predicts the next character."""

from __future__ import annotations

import argparse
import copy
import math
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models import recipe

NAME = "shakespeare"
FILE = "input.txt"
SOURCE = "https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare"
EMBEDDING, HIDDEN, LAYERS, DROPOUT = 64, 256, 2, 0.2
EPOCHS, STREAMS, STEPS = 12, 32, 64
EPOCHS_RENAMED, RATE_RENAMED, RENAMED, PAGES = 3, 2e-3, 0.9, 8000  # this share of speakers, anew every 8,000 characters
SPEAKER = re.compile(r"\n\n([A-Z][A-Za-z' ]*):\n")
NAME_LIKE = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}")  # capital within a sentence
RATE, RATE_AT_END, DECAY, CLIP = 3e-3, 3e-5, 0.01, 1.0
TRAIN_END, VALID_END = 0.85, 0.90  # fractions of the file; what follows is the test part, read only to report
NGRAM_ORDERS = (1, 2, 3, 6)


class CharacterModel(nn.Module):
    """Embedding, nn.LSTM and a linear head; dropout acts during training only and leaves no weights."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=DROPOUT)
        self.head = nn.Sequential(nn.Linear(hidden, vocabulary))
        for layer in range(layers):  # remember first, learn what to forget: converges in fewer epochs
            nn.init.ones_(self.lstm.get_parameter(f"bias_hh_l{layer}")[hidden : 2 * hidden])

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Ids (steps, streams) to logits (steps, streams, vocabulary) and the state after the last step."""
        hidden, state = self.lstm(self.embedding(ids), state)
        dropped = functional.dropout(hidden, DROPOUT, self.training)
        return self.head(dropped), state


def to_ids(text: str) -> Tensor:
    """Characters as their places in the manifest's vocabulary."""
    index = {character: i for i, character in enumerate(recipe.manifest(NAME)["input"]["characters"])}
    return torch.tensor([index[character] for character in text])


def read_parts() -> tuple[Tensor, Tensor, Tensor]:
    """The file as ids, cut in order of the text: training, validation, test."""
    text = recipe.original(NAME, FILE, SOURCE)
    if unknown := sorted(set(text) - set(recipe.manifest(NAME)["input"]["characters"])):
        raise SystemExit(f"{recipe.DATA / FILE} has {unknown[0]!r}, which tiny Shakespeare, from {SOURCE}, has not.")
    ids = to_ids(text)
    train_end, valid_end = int(len(ids) * TRAIN_END), int(len(ids) * VALID_END)
    return ids[:train_end], ids[train_end:valid_end], ids[valid_end:]


def to_text(ids: Tensor) -> str:
    """Ids as the characters they stand for."""
    characters: str = recipe.manifest(NAME)["input"]["characters"]
    return "".join(characters[identity] for identity in ids.tolist())


def load() -> CharacterModel:
    """The model as the files describe it, every size taken from the weights."""
    state = load_file(recipe.MODELS / NAME / "1" / "model.safetensors")
    layers = sum(key.startswith("lstm.weight_hh_l") for key in state)
    vocabulary, embedding = state["embedding.weight"].shape
    model = CharacterModel(vocabulary, embedding, state["lstm.weight_hh_l0"].shape[1], layers)
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def sample(model: CharacterModel) -> tuple[str, dict[str, Any], list[Tensor]]:
    """Two texts of unlike length, and the scores of every next character."""
    texts = ["To be", "\nI"]
    scores = [model(to_ids(text)[:, None], None)[0][:, 0] for text in texts]
    return "Two beginnings: what the model expects after each character", {"text": texts}, scores


def windows(ids: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Consecutive windows of parallel streams; each epoch starts elsewhere, so that the cuts do not repeat."""
    offset = epoch * 37 % STEPS
    length = (len(ids) - 1 - offset) // STREAMS
    inputs = ids[offset : offset + length * STREAMS].view(STREAMS, length).t()
    targets = ids[offset + 1 : offset + 1 + length * STREAMS].view(STREAMS, length).t()
    for start in range(0, length - STEPS + 1, STEPS):
        yield inputs[start : start + STEPS], targets[start : start + STEPS]


@torch.no_grad()
def losses(model: CharacterModel, ids: Tensor) -> Tensor:
    """Nats at every character but the first: one unbroken reading from a zero state, the state carried all the way."""
    model.eval()
    state: tuple[Tensor, Tensor] | None = None
    pieces = []
    for start in range(0, len(ids) - 1, 4096):
        piece = ids[start : start + 4097]
        logits, state = model(piece[:-1, None], state)
        pieces.append(functional.cross_entropy(logits[:, 0], piece[1:], reduction="none"))
    return torch.cat(pieces).double()


def rate_at(done: float, rate: float) -> float:
    """Cosine decay, after a short linear rise, over the fraction of a phase done."""
    cosine = RATE_AT_END + (rate - RATE_AT_END) * 0.5 * (1 + math.cos(math.pi * done))
    return cosine * min(1.0, done / 0.02 + 0.02)


def invent(known: list[str], words: list[str], chance: random.Random) -> str:
    """A name nobody has: the head of one and the tail of another, of speakers or of words in capitals."""
    head, tail = (chance.choice(known if chance.random() < 0.5 else words) for _ in range(2))
    cut = chance.uniform(0.2, 0.8)
    return head[: round(cut * len(head))] + tail[round(cut * len(tail)) :]


def rename(text: str, chance: random.Random) -> str:
    """Give nearly all speakers invented names, anew every few pages: to be spelt out, not known by heart."""
    known = sorted(set(SPEAKER.findall(text)))
    words = sorted({word.upper() for word in NAME_LIKE.findall(text)})
    renamed: dict[str, str] = {}
    page = 0

    def new_name(found: re.Match[str]) -> str:
        nonlocal page
        if found.start() // PAGES != page:
            page = found.start() // PAGES
            renamed.clear()
        name = found.group(1)
        if name not in renamed:
            renamed[name] = invent(known, words, chance) if chance.random() < RENAMED else name
        return f"\n\n{renamed[name]}:\n"

    return SPEAKER.sub(new_name, text)


def learn(model: CharacterModel, epochs: list[Tensor], valid: Tensor, rate: float, max_steps: int | None) -> None:
    """Truncated backpropagation with the state carried on; the epoch with the best validation loss is kept."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    total = sum(1 for epoch, ids in enumerate(epochs) for _ in windows(ids, epoch))
    steps = recipe.progress(min(total, max_steps or total), NAME)
    best, best_state = math.inf, copy.deepcopy(model.state_dict())
    for epoch, ids in enumerate(epochs):
        scheduled = ((bar, rate_at(step / total, rate)) for step, bar in steps)
        if not learn_epoch(model, optimiser, windows(ids, epoch), scheduled):
            return
        loss = float(losses(model, valid).mean())
        print(f"epoch {epoch + 1}: validation {loss:.4f} nats a character", flush=True)
        if loss < best:
            best, best_state = loss, copy.deepcopy(model.state_dict())
    next(steps, None)
    model.load_state_dict(best_state)


def learn_epoch(
    model: CharacterModel,
    optimiser: torch.optim.Optimizer,
    pairs: Iterator[tuple[Tensor, Tensor]],
    scheduled: Iterator[tuple[Progress, float]],
) -> bool:
    """One pass; False when the scheduled steps are used up before it is complete."""
    model.train()
    state: tuple[Tensor, Tensor] | None = None
    for inputs, targets in pairs:
        step = next(scheduled, None)
        if step is None:
            return False
        bar, optimiser.param_groups[0]["lr"] = step
        logits, state = model(inputs, state)
        state = (state[0].detach(), state[1].detach())
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        bar.update(bar.task_ids[0], loss=float(loss.detach()))
    return True


def learn_text(max_steps: int | None = None) -> CharacterModel:
    """First phase: the plays as they are."""
    train_ids, valid, _ = read_parts()
    model = CharacterModel(len(recipe.manifest(NAME)["input"]["characters"]), EMBEDDING, HIDDEN, LAYERS)
    learn(model, [train_ids] * EPOCHS, valid, RATE, max_steps)
    return model


def learn_names(model: CharacterModel, max_steps: int | None = None) -> CharacterModel:
    """Second phase: the same text with renamed speakers, for plays whose speakers are new."""
    recipe.prepare(seed=1)
    train_ids, valid, _ = read_parts()
    text, chance = to_text(train_ids), random.Random(1)  # noqa: S311 - nothing secret
    learn(model, [to_ids(rename(text, chance)) for _ in range(EPOCHS_RENAMED)], valid, RATE_RENAMED, max_steps)
    return model


def ngram_nats(train_ids: Tensor, test_ids: Tensor, order: int) -> float:
    """Nats a character of an n-gram model with Witten-Bell smoothing down to the uniform distribution."""
    vocabulary = len(recipe.manifest(NAME)["input"]["characters"])
    known, asked = train_ids.tolist(), test_ids.tolist()
    probabilities = [1.0 / vocabulary] * (len(asked) - 1)
    for before in range(order):
        followers: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i in range(before, len(known)):
            followers[tuple(known[i - before : i])][known[i]] += 1
        totals = {context: counts.total() for context, counts in followers.items()}
        for i in range(max(1, before), len(asked)):
            context = tuple(asked[i - before : i])
            if context in followers:
                kinds = len(followers[context])
                counted = followers[context][asked[i]] + kinds * probabilities[i - 1]
                probabilities[i - 1] = counted / (totals[context] + kinds)
    return -sum(map(math.log, probabilities)) / len(probabilities)


@torch.no_grad()
def cell_states(model: CharacterModel, ids: Tensor) -> Tensor:
    """The cell states of both layers after every character of one unbroken reading, (steps, layers, units)."""
    state: tuple[Tensor, Tensor] | None = None
    cells = []
    for embedded in model.embedding(ids):
        _, state = model.lstm(embedded[None, None], state)
        cells.append(state[1][:, 0])
    return torch.stack(cells)


def facts(text: str) -> dict[str, Tensor]:
    """What could be kept track of, at every character, from the text read so far."""
    told: dict[str, list[float]] = {name: [] for name in ("characters since the line began", "in a speaker's name")}
    told |= {name: [] for name in ("lines since the speaker's name", "letters since the word began")}
    before, spoken, word = "-", 0, 0
    for line in text.split("\n"):
        name = before == "" and line != ""
        spoken = 0 if name else spoken + 1
        for position, character in enumerate(line + "\n", start=1):
            word = word + 1 if character.isalpha() else 0
            values = (position if character != "\n" else 0, name and character != "\n", spoken, word)
            for column, value in zip(told.values(), values, strict=True):
                column.append(float(value))
        before = line
    return {name: torch.tensor(column[: len(text)]) for name, column in told.items()}


def correlations(cells: Tensor, fact: Tensor) -> Tensor:
    """Pearson's correlation of every unit's cell state with one fact, (layers, units)."""
    cells, fact = cells - cells.mean(0), fact - fact.mean()
    covariance = torch.einsum("slu,s->lu", cells, fact)
    return covariance / (cells.square().sum(0).sqrt() * fact.square().sum().sqrt())


def report_inside(model: CharacterModel, valid: Tensor, test: Tensor) -> None:
    """Units picked by correlation on the validation part, their correlation on the test part."""
    cells = [cell_states(model, ids) for ids in (valid, test)]
    known = [facts(to_text(ids)) for ids in (valid, test)]
    print("fact: layer unit, correlation on validation part (which picked it), on test part")
    for name in known[0]:
        picked = correlations(cells[0], known[0][name])
        measured = correlations(cells[1], known[1][name]).flatten()
        for place in picked.flatten().abs().topk(3).indices.tolist():
            layer, unit = divmod(place, picked.shape[1])
            print(f"{name}: {layer} {unit}, {float(picked[layer, unit]):+.3f}, {float(measured[place]):+.3f}")


def report(model: CharacterModel) -> None:
    """Nats a character on each part, n-gram models beside, then what single units keep."""
    train_ids, valid, test = read_parts()
    for name, ids in (("training", train_ids), ("validation", valid), ("test", test)):
        nats, speaker = losses(model, ids), facts(to_text(ids))["in a speaker's name"][1:].bool()
        told = f"{float(nats[speaker].mean()):.4f} in speakers' names, {float(nats[~speaker].mean()):.4f} elsewhere"
        print(f"{name}: {float(nats.mean()):.4f} nats a character ({told})")
    for order in NGRAM_ORDERS:
        print(f"{order}-gram, Witten-Bell: test {ngram_nats(train_ids, test, order):.4f} nats a character")
    report_inside(model, valid, test)


def main() -> None:
    """Train and write the weights, or only evaluate those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the weights that are there")
    parser.add_argument("--sample", action="store_true", help="only write the sample of the weights that are there")
    parser.add_argument("--steps", type=int, help="only so many first steps, then a checksum; writes nothing")
    options = parser.parse_args()
    recipe.prepare()
    if options.steps:
        model = learn_text(options.steps)
        print("checksum", sum(float(value.double().abs().sum()) for value in model.state_dict().values()))
        return
    if not (options.evaluate or options.sample):
        started = time.monotonic()
        recipe.save(learn_names(learn_text()), NAME)
        print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes")
    model = load()
    if not options.evaluate:
        recipe.save_sample(NAME, *sample(model))
    if options.sample:
        return
    report(model)


if __name__ == "__main__":
    main()
