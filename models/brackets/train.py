"""Train a four-unit nn.LSTM to count brackets, so exactly that it still counts far beyond its training strings."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models import recipe

NAME = "brackets"
OPENING, CLOSING, FILLER = 0, 1, 2
BALANCED, OPEN, BROKEN = 0, 1, 2
UNITS, SIBLINGS = 4, 6  # several models learn side by side from the same strings; validation picks one
DEEPEST, LONGEST = 8, 64  # of the training strings
STEPS, BATCH, RATE, NOISE = 3000, 64, 2e-2, 2.0
VALIDATION_DEPTH, VALIDATION_LENGTH = 12, 192
TEST_DEPTHS, TEST_LENGTHS = (8, 16, 20, 24, 30, 40, 60, 100), (64, 128, 256, 512, 1024, 2048)


class Strings(NamedTuple):
    """Generated strings, each tensor (length, count)."""

    ids: Tensor
    labels: Tensor
    depths: Tensor


class Gates(NamedTuple):
    """The parameters of all siblings, the first dimension counting them; gates in nn.LSTM's order i, f, g, o."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    head_weight: Tensor
    head_bias: Tensor


class BracketModel(nn.Module):
    """One-hot characters, nn.LSTM, linear head."""

    def __init__(self, characters: int, units: int, labels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(characters, units)
        self.head = nn.Sequential(nn.Linear(units, labels))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (length, count) to logits (length, count, labels)."""
        logits: Tensor = self.head(self.lstm(one_hot(ids))[0])
        return logits


def one_hot(ids: Tensor) -> Tensor:
    """Ids to the LSTM's input."""
    return functional.one_hot(ids, 3).float()


def generate(length: int, deepest: Tensor, break_share: float, generator: torch.Generator) -> Strings:
    """Wander between random depths up to `deepest` (one per string); some strings close what was never opened."""
    count = len(deepest)

    def draw() -> Tensor:
        return torch.rand(count, generator=generator)

    filler_share = draw() * 0.5
    break_rate = torch.where(draw() < break_share, draw() * 0.2, 0.0)
    depth, target, broken = torch.zeros_like(deepest), deepest.clone(), torch.zeros(count, dtype=torch.bool)
    steps = []
    for _ in range(length):
        chosen = torch.where(draw() < 0.4, 0, (draw() * (deepest + 1)).long())  # the ground is a frequent target
        target = torch.where(depth == target, chosen, target)
        opens = ((draw() < torch.where(target > depth, 0.85, 0.15)) | (depth == 0)) & (depth < deepest)
        fills = draw() < filler_share
        breaks = (depth == 0) & (draw() < break_rate) & ~fills
        broken = broken | breaks
        ids = torch.where(fills, FILLER, torch.where(opens & ~breaks, OPENING, CLOSING))
        depth = torch.where(fills | breaks, depth, torch.where(opens, depth + 1, depth - 1))
        labels = torch.where(broken, BROKEN, torch.where(depth > 0, OPEN, BALANCED))
        steps.append((ids, labels, depth))
    return Strings(*(torch.stack(column) for column in zip(*steps, strict=True)))


def generate_reaching(count: int, length: int, depth: int, break_share: float, seed: int) -> Strings | None:
    """Strings that do reach `depth` before they break, if any; None where the length hardly allows it."""
    generator = torch.Generator().manual_seed(seed)
    drawn = generate(length, torch.full((4 * count,), depth), break_share, generator)
    reached = (drawn.depths * (drawn.labels != BROKEN)).amax(0) == depth
    kept = reached.nonzero()[:count, 0]
    return Strings(*(part[:, kept] for part in drawn)) if len(kept) == count else None


def start_gates() -> Gates:
    """Usual uniform starts, and a forget gate that begins nearly open: a count must first be kept."""
    reach = 1 / math.sqrt(UNITS)

    def draw(*shape: int) -> Tensor:
        return (torch.rand(SIBLINGS, *shape) * 2 - 1) * reach

    bias = draw(1, 4 * UNITS)
    bias[:, :, UNITS : 2 * UNITS] += 3.0
    gates = Gates(draw(3, 4 * UNITS), draw(UNITS, 4 * UNITS), bias, draw(UNITS, 3), torch.zeros(SIBLINGS, 1, 3))
    for parameter in gates:
        parameter.requires_grad_()
    return gates


def noisy_logits(gates: Gates, ids: Tensor, noise: float) -> Tensor:
    """The LSTM written out, with noise before the gates: only saturated gates, exact in counting, withstand it."""
    inputs = (gates.weight_ih + gates.bias)[:, ids]
    inputs = inputs + noise * torch.randn_like(inputs)
    hidden = cell = torch.zeros(SIBLINGS, ids.shape[1], UNITS)
    outputs = []
    for step in inputs.unbind(1):
        i, f, g, o = torch.baddbmm(step, hidden, gates.weight_hh).chunk(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs, 1).flatten(1, 2) @ gates.head_weight + gates.head_bias


def clip(gates: Gates) -> None:
    """Scale each sibling's gradient to norm 1 at most, so that none disturbs the others."""
    gradients = [parameter.grad for parameter in gates if parameter.grad is not None]
    norm = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
    for gradient in gradients:
        gradient.mul_((1 / (norm + 1e-6)).clamp(max=1).view(-1, 1, 1))


def train() -> BracketModel:
    """Longer and deeper strings over the first half, more and more noise from a fifth on, then a decaying rate."""
    gates, generator = start_gates(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(gates, lr=RATE)
    for step, bar in recipe.progress(STEPS, NAME):
        done = step / STEPS
        length = int(8 + (LONGEST - 8) * min(1.0, done / 0.5))
        deepest = max(2, round(DEEPEST * min(1.0, done / 0.4)))
        noise = NOISE * min(1.0, max(0.0, (done - 0.2) / 0.4))
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * max(0.0, (done - 0.5) / 0.5)))
        optimiser.param_groups[0]["lr"] = RATE * decay
        batch = generate(length, torch.randint(1, deepest + 1, (BATCH,), generator=generator), 0.3, generator)
        logits = noisy_logits(gates, batch.ids, noise)
        losses = functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten().repeat(SIBLINGS), reduction="none"
        )
        loss = losses.view(SIBLINGS, -1).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip(gates)
        optimiser.step()
        bar.update(bar.task_ids[0], loss=float(loss.detach()) / SIBLINGS)
    return choose([to_module(gates, sibling) for sibling in range(SIBLINGS)])


@torch.no_grad()
def to_module(gates: Gates, sibling: int) -> BracketModel:
    """One sibling as a plain nn.LSTM, which has two biases where one is enough."""
    model = BracketModel(3, UNITS, 3)
    learnt = {
        "lstm.weight_ih_l0": gates.weight_ih[sibling].t(),
        "lstm.weight_hh_l0": gates.weight_hh[sibling].t(),
        "lstm.bias_ih_l0": gates.bias[sibling, 0],
        "lstm.bias_hh_l0": torch.zeros(4 * UNITS),
        "head.0.weight": gates.head_weight[sibling].t(),
        "head.0.bias": gates.head_bias[sibling, 0],
    }
    model.load_state_dict(learnt)
    return model


@torch.no_grad()
def choose(models: list[BracketModel]) -> BracketModel:
    """The sibling with the smallest validation loss, on strings longer and deeper than those of training."""
    valid = generate_reaching(400, VALIDATION_LENGTH, VALIDATION_DEPTH, 0.3, seed=2)
    assert valid is not None
    losses = []
    for sibling, model in enumerate(models):
        logits = model(valid.ids).flatten(0, 1)
        losses.append(float(functional.cross_entropy(logits, valid.labels.flatten())))
        right = float((logits.argmax(-1) == valid.labels.flatten()).double().mean())
        print(f"sibling {sibling}: validation loss {losses[-1]:.3g}, right {right:.4%}")
    return models[losses.index(min(losses))]


def load() -> BracketModel:
    """The model as the files describe it: sizes from the weights, characters and labels from the manifest."""
    state = load_file(recipe.MODELS / NAME / "1" / "model.safetensors")
    manifest = recipe.manifest(NAME)
    characters, labels = len(manifest["input"]["characters"]), len(manifest["heads"][0]["labels"])
    model = BracketModel(characters, state["lstm.weight_hh_l0"].shape[1], labels)
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def sample(model: BracketModel) -> tuple[str, dict[str, Any], list[Tensor]]:
    """Three texts of unlike length, and the scores of the three labels after each character."""
    texts = ["(()x)x", "())(", "(" * 12]
    characters: str = recipe.manifest(NAME)["input"]["characters"]
    ids = [torch.tensor([characters.index(character) for character in text]) for text in texts]
    return "Three short strings: balanced, broken, open", {"text": texts}, [model(row[:, None])[:, 0] for row in ids]


def scores(answers: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Share of steps right, the mean of that over the classes present, share of strings with every step right."""
    right = (answers == labels).double()
    classes = [float(right[labels == label].mean()) for label in torch.unique(labels).tolist()]
    return float(right.mean()), sum(classes) / len(classes), float(right.amin(0).mean())


def capped_counter(ids: Tensor, cap: int) -> Tensor:
    """What a machine with one state per training depth answers: its count stops at `cap`."""
    depth, broken, answers = torch.zeros_like(ids[0]), torch.zeros_like(ids[0], dtype=torch.bool), []
    for step in ids:
        broken = broken | ((step == CLOSING) & (depth == 0))
        depth = (depth + (step == OPENING).long() - (step == CLOSING).long()).clamp(0, cap)
        answers.append(torch.where(broken, BROKEN, torch.where(depth > 0, OPEN, BALANCED)))
    return torch.stack(answers)


@torch.no_grad()
def report_quality(model: BracketModel) -> None:
    """Every depth against every length, 400 strings each: the model, then two naive answers."""
    print("depth length: steps right, mean over classes, strings all right | counter capped at 8 | always open")
    for depth in TEST_DEPTHS:
        for length in TEST_LENGTHS:
            test = generate_reaching(400, length, depth, 0.3, seed=1000 * depth + length)
            if test is None:
                continue
            answers = (model(test.ids).argmax(-1), capped_counter(test.ids, DEEPEST), torch.full_like(test.ids, OPEN))
            told = (" ".join(f"{score:8.2%}" for score in scores(answer, test.labels)) for answer in answers)
            print(f"{depth:5d} {length:6d}: " + " | ".join(told))


@torch.no_grad()
def cell_states(model: BracketModel, ids: Tensor) -> Tensor:
    """The cell states after every step, (length, count, units)."""
    state, cells = None, []
    for step in one_hot(ids):
        _, state = model.lstm(step[None], state)
        cells.append(state[1][0])
    return torch.stack(cells)


def report_inside(model: BracketModel) -> None:
    """Which unit counts: correlation of its cell state with the true depth, and its change at each character."""
    test = generate_reaching(400, 512, 24, 0.0, seed=3)
    assert test is not None
    cells, depths = cell_states(model, test.ids), test.depths.flatten().float()
    changes = cells[1:] - cells[:-1]
    print("unit: correlation of cell state and depth; change at ( ) x, mean ± deviation; at depths 0, 1, 8, 24")
    for unit in range(cells.shape[-1]):
        flat = cells[..., unit].flatten()
        correlation = float(torch.corrcoef(torch.stack([flat, depths]))[0, 1])
        by_character = [changes[..., unit][test.ids[1:] == character] for character in (OPENING, CLOSING, FILLER)]
        told = ", ".join(f"{float(change.mean()):+.3f} ± {float(change.std()):.3f}" for change in by_character)
        levels = ", ".join(f"{float(flat[depths == depth].mean()):.2f}" for depth in (0, 1, 8, 24))
        print(f"{unit}: {correlation:+.5f}; {told}; {levels}")


def main() -> None:
    """Train and write the weights, or only evaluate those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the weights that are there")
    parser.add_argument("--sample", action="store_true", help="only write the sample of the weights that are there")
    options = parser.parse_args()
    recipe.prepare()
    if not (options.evaluate or options.sample):
        started = time.monotonic()
        recipe.save(train(), NAME)
        print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes")
    model = load()
    if not options.evaluate:
        recipe.save_sample(NAME, *sample(model))
    if options.sample:
        return
    report_quality(model)
    report_inside(model)


if __name__ == "__main__":
    main()
