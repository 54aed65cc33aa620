"""Train the rainfall-to-river model (`make train MODEL=river`), measure it or write its examples.

2000 and 2001 train, 2002 is only measured. The settings below were chosen by holding out one of the two years in turn
(`--validate`). Several small LSTMs are trained from different seeds and laid side by side in one `nn.LSTM`.
"""

from __future__ import annotations

import argparse
import csv
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from safetensors.torch import load_file
from torch import Tensor, nn

from models import recipe

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NAME = "river"
PARTS, HIDDEN = 8, 16  # small LSTMs, and the units of each
STEPS, RATE, DECAY = 600, 1e-2, 0.05
DROPOUT, NOISE = 0.5, 0.1  # on the LSTM's output; standard deviation on the scaled weather
FORGET = 3.0  # the forget gates start open, so that a storage can be learnt from the first step
AVERAGE = 0.99  # the weights kept are a running mean of the weights passed through
WARM_UP = 30  # first days, which the loss leaves out
MANIFEST = recipe.manifest(NAME)
HEAD = MANIFEST["heads"][0]
FEATURES = MANIFEST["input"]["features"]
GAUGES = [f"{number:08d}" for number in FEATURES[-1]["categories"]]


class River(nn.Module):
    """The served pipeline without its scaling: an LSTM and a linear head."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        inputs = sum(len(feature.get("categories", "1")) for feature in FEATURES)
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 1))

    def discharge(self, inputs: Tensor, dropout: float = 0.0) -> Tensor:
        """Discharge in mm/day for every day, not yet clamped at zero."""
        hidden, _ = self.lstm(inputs)
        scaled: Tensor = self.head(nn.functional.dropout(hidden, dropout))[:, :, 0]
        return scaled * float(HEAD["std"][0]) + float(HEAD["mean"][0])


def load() -> tuple[Floats, Floats, npt.NDArray[np.datetime64]]:
    """Raw rows (gauge, day, feature), measured discharge (gauge, day) and the dates."""
    with (recipe.MODELS / NAME / "daily.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    days = [[row for row in table if row["gauge_id"] == gauge] for gauge in GAUGES]
    names = [feature["name"] for feature in FEATURES[:-1]]
    rows = [
        [[float(row[name]) for name in names] + [float(gauge)] for row in of_gauge]
        for gauge, of_gauge in zip(GAUGES, days, strict=True)
    ]
    discharge = [[float(row["discharge_mm"]) for row in of_gauge] for of_gauge in days]
    return np.array(rows), np.array(discharge), np.array([row["date"] for row in days[0]], dtype="datetime64[D]")


def encode(rows: Floats) -> Tensor:
    """Scale and encode the rows the way the service does, from the constants in the manifest."""
    parts: list[Floats] = []
    for index, feature in enumerate(FEATURES):
        column = rows[:, :, index : index + 1]
        if "categories" in feature:
            parts.append((column == np.array(feature["categories"])).astype(np.float64))
        else:
            parts.append((column - feature["mean"]) / feature["std"])
    return torch.tensor(np.concatenate(parts, axis=2), dtype=torch.float32)


def error(predicted: Tensor, measured: Tensor, days: Tensor) -> Tensor:
    """Squared error in mm and in √mm, each over its gauge's variance, so that every river counts and low water too."""
    counted = measured[:, days]
    spread = counted.std(dim=1, correction=0)[:, None] + 0.1
    spread_root = counted.sqrt().std(dim=1, correction=0)[:, None] + 0.033
    high = ((predicted[:, days] - counted) / spread) ** 2
    low = ((predicted[:, days].clamp(min=0.01).sqrt() - counted.sqrt()) / spread_root) ** 2
    below_zero = torch.relu(-predicted[:, days])
    return (0.5 * high + 0.5 * low + below_zero).mean()


def train_part(seed: int, inputs: Tensor, measured: Tensor, days: Tensor, bar: Progress) -> River:
    """Fit one small LSTM on the chosen days; the weather of the other days still runs through it."""
    torch.manual_seed(seed)
    model, average = River(HIDDEN), River(HIDDEN)
    with torch.no_grad():
        model.lstm.get_parameter("bias_ih_l0")[HIDDEN : 2 * HIDDEN] = FORGET
        model.lstm.get_parameter("bias_hh_l0")[HIDDEN : 2 * HIDDEN] = 0.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=STEPS, pct_start=0.1, final_div_factor=20
    )
    weather = len(FEATURES) - 1
    for step in range(STEPS):
        noisy = inputs.clone()
        noisy[:, :, :weather] += torch.randn_like(noisy[:, :, :weather]) * NOISE
        loss = error(model.discharge(noisy, DROPOUT), measured, days)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recipe.follow(average, model, step, AVERAGE)
        bar.update(bar.task_ids[0], loss=loss.item())
    return average


def block_diagonal(blocks: list[Tensor]) -> Tensor:
    """The blocks along the diagonal, zeros elsewhere."""
    whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return whole


def side_by_side(parts: list[River]) -> River:
    """One model whose output is the mean of the parts' outputs: its recurrent weights are block-diagonal."""
    merged = River(sum(part.lstm.hidden_size for part in parts))

    def by_gate(name: str, join: Any) -> Tensor:
        gates = [part.lstm.get_parameter(name).detach().chunk(4) for part in parts]
        return torch.cat([join([part[gate] for part in gates]) for gate in range(4)])

    with torch.no_grad():
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            merged.lstm.get_parameter(name).copy_(by_gate(name, torch.cat))
        blocks = by_gate("weight_hh_l0", block_diagonal)
        merged.lstm.get_parameter("weight_hh_l0").copy_(blocks)
        merged.get_parameter("head.0.weight").copy_(
            torch.cat([part.get_parameter("head.0.weight") for part in parts], dim=1) / len(parts)
        )
        merged.get_parameter("head.0.bias").copy_(
            torch.stack([part.get_parameter("head.0.bias") for part in parts]).mean(dim=0)
        )
    return merged


def train(inputs: Tensor, measured: Floats, days: Flags) -> River:
    """Fit all parts on the flagged days and lay them side by side."""
    counted = torch.tensor(np.flatnonzero(days & (np.arange(len(days)) >= WARM_UP)))
    truth = torch.tensor(measured, dtype=torch.float32)
    parts = [train_part(seed, inputs, truth, counted, bar) for seed, bar in recipe.progress(PARTS, NAME)]
    return side_by_side(parts)


def predict(model: River, inputs: Tensor) -> Floats:
    """Discharge of every day, clamped like the served output."""
    with torch.no_grad():
        return model.discharge(inputs).clamp(min=HEAD["minimum"][0]).double().numpy()


def efficiency(predicted: Floats, measured: Floats) -> Floats:
    """Nash and Sutcliffe's efficiency per gauge: 1 is perfect, 0 is no better than the measured mean."""
    rest = ((predicted - measured) ** 2).sum(axis=1)
    return np.asarray(1 - rest / ((measured - measured.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))


def monthly_mean(measured: Floats, dates: npt.NDArray[np.datetime64], known: Flags) -> Floats:
    """Baseline: each gauge's mean discharge of the month, from the known days."""
    month = dates.astype("datetime64[M]").astype(int) % 12
    means = np.stack([measured[:, known & (month == number)].mean(axis=1) for number in range(12)], axis=1)
    return np.asarray(means[:, month])


def report(name: str, predicted: Floats, measured: Floats) -> None:
    """One line of efficiencies: each gauge and the median gauge."""
    values = efficiency(predicted, measured)
    each = ", ".join(f"{gauge} {value:5.2f}" for gauge, value in zip(GAUGES, values, strict=True))
    print(f"  {name:28} median {np.median(values):5.2f} ({each})")


def evaluate(model: River, rows: Floats, measured: Floats, dates: npt.NDArray[np.datetime64]) -> None:
    """Print the efficiencies on 2002; the model runs through from 1 January 2000, or from a year before 2002."""
    test = dates >= np.datetime64("2002-01-01")
    first, inputs = int(np.flatnonzero(test)[0]), encode(rows)
    truth = measured[:, test]
    print("Nash-Sutcliffe efficiency on 2002")
    report("this model", predict(model, inputs)[:, test], truth)
    report("… started on 2001-01-01", predict(model, inputs[:, first - 365 :])[:, 365:], truth)
    report("… started on 2002-01-01", predict(model, inputs[:, first:]), truth)
    report("monthly mean of 2000 and 2001", monthly_mean(measured, dates, ~test)[:, test], truth)
    warm = predict(model, inputs)[:, test]
    for begin in ("2001-07-01", "2001-10-01", "2002-01-01"):
        cold = predict(model, inputs[:, dates >= np.datetime64(begin)])[:, -warm.shape[1] :]
        apart = np.abs(cold - warm)
        parts = ", ".join(f"{part.mean():.3f}" for part in (apart[:, :30], apart[:, 30:90], apart[:, 90:]))
        print(f"  started on {begin}: mm/day from the run from 2000 in January, to March, later: {parts}")
    trained = slice(WARM_UP, first)
    report("training days, for comparison", predict(model, inputs)[:, trained], measured[:, trained])


def validate(rows: Floats, measured: Floats, dates: npt.NDArray[np.datetime64]) -> None:
    """Hold out 2001, then March to December 2000; train on the rest of the two years and measure on the held-out."""
    known = dates < np.datetime64("2002-01-01")
    inputs, measured, dates = encode(rows)[:, known], measured[:, known], dates[known]
    held = np.zeros(len(dates), dtype=bool)
    predicted = np.zeros_like(measured)
    for begin, end in (("2001-01-01", "2002-01-01"), ("2000-03-01", "2001-01-01")):
        fold = (dates >= np.datetime64(begin)) & (dates < np.datetime64(end))
        predicted[:, fold] = predict(train(inputs, measured, ~fold), inputs)[:, fold]
        held |= fold
    print("Nash-Sutcliffe efficiency on the held-out days of 2000 and 2001")
    report("trained on the other year", predicted[:, held], measured[:, held])


def examples(rows: Floats, dates: npt.NDArray[np.datetime64]) -> None:
    """Write two requests: 21 months of Brokenstraw Creek, and two gauges of unlike length."""

    def stretch(gauge: str, begin: str, end: str) -> list[list[float]]:
        days = (dates >= np.datetime64(begin)) & (dates < np.datetime64(end))
        part: list[list[float]] = rows[GAUGES.index(gauge), days].tolist()
        return [[*row[:-1], int(row[-1])] for row in part]

    write("two-winters", [stretch("03015500", "2000-10-01", "2002-07-01")])
    maine, virginia = stretch("01022500", "2001-01-01", "2002-07-01"), stretch("02064000", "2001-07-01", "2002-07-01")
    write("two-rivers", [maine, virginia])


def sample(model: River) -> tuple[str, dict[str, Any], list[Tensor]]:
    """Twenty days of one river and twelve of another, and the discharge of each day in mm."""
    first, second = recipe.example(NAME, "two-rivers.json")["inputs"]
    rows = [first[:20], second[200:212]]
    predicted = [torch.tensor(predict(model, encode(np.array([row], dtype=np.float64)))[0, :, None]) for row in rows]
    return "Twenty days of the Narraguagus River and twelve of the Falling River", {"inputs": rows}, predicted


def load_model() -> River:
    """The model with the weights that are there."""
    state = load_file(recipe.MODELS / NAME / "1" / "model.safetensors")
    model = River(state["lstm.weight_hh_l0"].shape[1])
    model.load_state_dict(state)
    return model


def write(name: str, sequences: list[list[list[float]]]) -> None:
    """JSON with one row per line, for people who open the file."""
    text = json.dumps({"inputs": sequences}).replace("], [", "],\n[").replace("[[[", "[[\n[")
    (recipe.MODELS / NAME / "examples" / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Train and save unless told otherwise, then print the quality on 2002."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="only measure the existing weights")
    parser.add_argument("--validate", action="store_true", help="train on one year, measure on the other; save nothing")
    parser.add_argument("--examples", action="store_true", help="only write the example requests")
    parser.add_argument("--sample", action="store_true", help="only write the sample of the weights that are there")
    options = parser.parse_args()
    recipe.prepare()
    if options.sample:
        recipe.save_sample(NAME, *sample(load_model()))
        return
    rows, measured, dates = load()
    if options.examples:
        examples(rows, dates)
        return
    if options.validate:
        validate(rows, measured, dates)
        return
    if not options.evaluate:
        known = dates < np.datetime64("2002-01-01")
        recipe.save(train(encode(rows)[:, known], measured[:, known], np.ones(known.sum(), dtype=bool)), NAME)
        recipe.save_sample(NAME, *sample(load_model()))
    evaluate(load_model(), rows, measured, dates)


if __name__ == "__main__":
    main()
