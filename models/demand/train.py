"""Train the day-ahead electricity demand model (`make train MODEL=demand`), measure it or look inside it.

The series comes with the package pmdarima. The settings below were chosen (`--validate`) by training on the first 50 %,
then on the first 65 %, and measuring on the 15 % that follow. The shipped weights are trained on the first 80 %; the
last fifth is only measured.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models import recipe

Floats = npt.NDArray[np.float64]
State = tuple[Tensor, Tensor]

NAME = "demand"
DAY, WEEK = 48, 336
HIDDEN = 32
STEPS, RATE, DECAY = 300, 5e-4, 1e-4
AVERAGE = 0.98  # the weights kept are a running mean of the weights passed through
WINDOWS, LENGTH = 16, 240  # windows per step, and the half-hours of each that are read before its last roll-out
FIRST, EVERY = 95, 24  # roll-outs start at this row of a window and at every so many rows after it
SHIFT, DEPARTURE, NOISE = 0.05, 0.2, 0.003  # standard deviations, in units of the scaled demand
NEXT_STEP = 0.3  # weight of the one-step loss beside the roll-out loss
MANIFEST = recipe.manifest(NAME)
HEAD = MANIFEST["heads"][0]
WIDTH = sum(2 if "period" in feature else 1 for feature in MANIFEST["input"]["features"])


class Demand(nn.Module):
    """The served pipeline without its scaling: an LSTM and a linear head."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, HIDDEN, batch_first=True)
        self.head = nn.Sequential(nn.Linear(HIDDEN, 1))

    def roll_out(self, state: State, first: Tensor, future: Tensor) -> Tensor:
        """Forecast a day: `first` is the prediction made by `state`, each forecast is the next row's demand."""
        forecasts = [first]
        for step in range(DAY - 1):
            row = torch.cat([forecasts[-1], future[:, step, 1:]], dim=1)
            hidden, state = self.lstm(row[:, None], state)
            forecasts.append(self.head(hidden[:, -1]))
        return torch.cat(forecasts, dim=1)


def series() -> Floats:
    """Demand in MW, 4,032 half-hours from Monday 5 June 2000, 00:00."""
    try:
        from pmdarima.datasets import load_taylor  # noqa: PLC0415 - the sample needs no data
    except ModuleNotFoundError:
        raise SystemExit(
            f"{NAME} is trained on a series of the package pmdarima, which is not installed: "
            "`make train MODEL=demand` installs it, and so does `pip install pmdarima`."
        ) from None

    return np.asarray(load_taylor(), dtype=np.float64)


def raw_rows(demand: Floats) -> Floats:
    """One row per half-hour, in the order of the manifest; the first week has no week before it and stays NaN."""
    time = np.arange(len(demand))
    last_week, last_week_next = np.full(len(demand), np.nan), np.full(len(demand), np.nan)
    last_week[WEEK:] = demand[:-WEEK]
    last_week_next[WEEK - 1 :] = demand[: len(demand) - WEEK + 1]
    return np.stack([demand, last_week, last_week_next, time % DAY, time % WEEK], axis=1)


def encode(raw: Floats) -> Tensor:
    """Scale the rows the way the service does, from the constants in the manifest."""
    columns: list[Floats] = []
    for column, feature in zip(raw.T, MANIFEST["input"]["features"], strict=True):
        if "period" in feature:
            angle = 2 * math.pi * column / feature["period"]
            columns += [np.sin(angle), np.cos(angle)]
        else:
            columns.append((column - feature["mean"]) / feature["std"])
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def start_at_last_week(model: Demand) -> None:
    """Start close to "the same half-hour last week, plus a part of today's departure from last week".

    The head sees nothing but the LSTM's output, so with so little data the model is slow to learn to let a number
    through. Three units pass on last week's next half-hour (input and output gate open, forget gate shut), three the
    present departure from last week, and four keep a running mean of that departure over about 4 to 56 half-hours.
    Training moves every weight from there.
    """
    lstm = model.lstm
    into, across = lstm.get_parameter("weight_ih_l0"), lstm.get_parameter("weight_hh_l0")
    biases = [model.get_parameter(name) for name in ("lstm.bias_ih_l0", "lstm.bias_hh_l0", "head.0.bias")]
    head = model.get_parameter("head.0.weight")
    gain = 0.1  # small enough for tanh to be nearly straight
    departure = {0: 0.5, 1: -0.5}
    units = [(4.0, -4.0, {2: gain}, 1 / gain / 3 / 0.96)] * 3 + [(4.0, -4.0, departure, 0.4 / 0.96)] * 3
    units += [(-forget, forget, departure, 0.2) for forget in (1.0, 2.0, 3.0, 4.0)]
    with torch.no_grad():
        for weight, factor in ((into, 0.5), (across, 0.5), (head, 0.0)):
            weight.mul_(factor)
        for bias in biases:
            bias.zero_()
        biases[0][HIDDEN : 2 * HIDDEN] = 1.0
        for unit, (input_gate, forget_gate, inputs, out) in enumerate(units):
            set_unit(lstm, unit, (input_gate, forget_gate, 0.0, 4.0), inputs)
            head[0, unit] = out


def set_unit(lstm: nn.LSTM, unit: int, biases: tuple[float, ...], inputs: dict[int, float]) -> None:
    """Give one unit its gate biases (input, forget, candidate, output) and the inputs of its candidate."""
    for gate, bias in enumerate(biases):
        row = gate * HIDDEN + unit
        for name in ("weight_ih_l0", "weight_hh_l0"):
            lstm.get_parameter(name)[row] *= 0.0 if gate == 2 else 0.2
        lstm.get_parameter("bias_ih_l0")[row] = bias
    for column, value in inputs.items():
        lstm.get_parameter("weight_ih_l0")[2 * HIDDEN + unit, column] = value


def batch(rows: Tensor, end: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows of the training part and the demand that follows each row, each window moved up or down at random.

    Moving both weeks keeps the model from learning the level by heart; moving the last week by more or less than this
    one shows it departures that stay, of which eight weeks hold only a few.
    """
    starts = random.integers(WEEK, end - LENGTH - DAY, size=WINDOWS)
    windows = torch.stack([rows[start : start + LENGTH + DAY] for start in starts]).clone()
    shift = torch.randn(WINDOWS, 1) * SHIFT
    shift_last_week = shift + torch.randn(WINDOWS, 1) * DEPARTURE
    windows[:, :, 0] += shift
    windows[:, :, 1:3] += shift_last_week[:, :, None]
    following = windows[:, 1:, 0].clone()
    windows[:, :, :3] += torch.randn(WINDOWS, LENGTH + DAY, 3) * NOISE
    return windows, following


def loss_of(model: Demand, windows: Tensor, following: Tensor) -> Tensor:
    """Roll out a day from many rows of every window, and add the one-step error along the window."""
    state: State | None = None
    read, outputs, states, first, future, truth = 0, [], [], [], [], []
    for origin in range(FIRST, LENGTH, EVERY):
        hidden, state = model.lstm(windows[:, read : origin + 1], state)
        read = origin + 1
        outputs.append(model.head(hidden)[:, :, 0])
        states.append(state)
        first.append(outputs[-1][:, -1:])
        future.append(windows[:, read : read + DAY])
        truth.append(following[:, origin : origin + DAY])
    start = (torch.cat([h for h, _ in states], dim=1), torch.cat([c for _, c in states], dim=1))
    forecasts = model.roll_out(start, torch.cat(first), torch.cat(future))
    one_step = (torch.cat(outputs, dim=1)[:, DAY:] - following[:, DAY:read]).abs().mean()
    return nn.functional.smooth_l1_loss(forecasts, torch.cat(truth), beta=0.05) + NEXT_STEP * one_step


def train(rows: Tensor, end: int) -> Demand:
    """Fit on the rows before `end`."""
    random = np.random.default_rng(0)
    model, average = Demand(rows.shape[1]), Demand(rows.shape[1])
    start_at_last_week(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.1)
    for step, bar in recipe.progress(STEPS, NAME):
        loss = loss_of(model, *batch(rows, end, random))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recipe.follow(average, model, step, AVERAGE)
        bar.update(bar.task_ids[0], loss=loss.item())
    return average


def evaluate(model: Demand, rows: Tensor, demand: Floats, begin: int, end: int) -> None:
    """Forecast 48 half-hours from every half-hour, after a week of inputs, and print the mean absolute errors.

    Origins: every row from the last before `begin` to the last whose 48 forecasts end before `end`.
    """
    origins = np.arange(begin - 1, end - DAY)
    with torch.no_grad():
        hidden, state = model.lstm(torch.stack([rows[origin - WEEK + 1 : origin + 1] for origin in origins]))
        future = torch.stack([rows[origin + 1 : origin + 1 + DAY] for origin in origins])
        scaled = model.roll_out(state, model.head(hidden[:, -1]), future).double().numpy()
    forecasts = scaled * HEAD["std"][0] + HEAD["mean"][0]
    coming = origins[:, None] + np.arange(1, DAY + 1)
    print(f"{len(origins)} origins, half-hours {begin} to {end - 1}; MAE in MW (after 1, 12, 24, 48 half-hours)")
    report("this model", forecasts, demand[coming], origins)
    report("same half-hour last week", demand[coming - WEEK], demand[coming], origins)
    report("same half-hour yesterday", demand[coming - DAY], demand[coming], origins)
    departure = (demand[origins] - demand[origins - WEEK])[:, None]
    report("last week plus present departure", demand[coming - WEEK] + departure, demand[coming], origins)


def look_inside(model: Demand, rows: Tensor, demand: Floats, begin: int) -> None:
    """Print which cell states of the last fifth follow the departure from last week, and its mean over the last day."""
    state: State | None = None
    seen: list[Tensor] = []
    with torch.no_grad():
        for row in rows[WEEK:]:
            _, state = model.lstm(row[None, None], state)
            seen.append(state[1][0, 0])
    cells = torch.stack(seen).double().numpy()[begin - WEEK :]
    departure = demand[WEEK:] - demand[:-WEEK]
    day = np.convolve(departure, np.full(DAY, 1 / DAY))[: len(departure)]
    for name, values in (("departure", departure), ("mean departure of the last day", day), ("demand", demand[WEEK:])):
        against = np.array([np.corrcoef(cell, values[begin - WEEK :])[0, 1] for cell in cells.T])
        best = np.argsort(-np.abs(against))[:4]
        print(f"  {name}: " + ", ".join(f"unit {unit} {against[unit]:.2f}" for unit in best))


def report(name: str, forecasts: Floats, truth: Floats, origins: npt.NDArray[np.int64]) -> None:
    """One line: the mean over all origins and horizons, over the midnight origins, and at some horizons."""
    error = np.abs(forecasts - truth)
    midnight = error[(origins + 1) % DAY == 0]
    parts = " ".join(f"{error[:, step - 1].mean():5.0f}" for step in (1, 12, 24, 48))
    share = 100 * (error / truth).mean()
    print(
        f"  {name:33} {error.mean():5.0f} ({share:.2f} %), {len(midnight)} midnights {midnight.mean():5.0f} ({parts})"
    )


def examples(raw: Floats) -> None:
    """Write the two requests: 14 to 20 August with the 21st asked for, and 21 to 27 August."""
    monday = 70 * DAY
    week = raw[monday : monday + WEEK].astype(int).tolist()
    last = raw[monday + WEEK : monday + 2 * WEEK].astype(int).tolist()
    future = [[None, *row[1:]] for row in last[:DAY]]
    write("week", {"inputs": [week], "horizon": DAY, "future_inputs": [future]})
    write("half-hours", {"inputs": [last]})


@torch.no_grad()
def sample(model: Demand) -> tuple[str, dict[str, Any], list[Tensor]]:
    """The first day of an example and twelve half-hours of its third, and the demand in the half-hour after each."""
    (week,) = recipe.example(NAME, "half-hours.json")["inputs"]
    rows = [week[:DAY], week[2 * DAY + 14 : 2 * DAY + 26]]
    scaled = [model.head(model.lstm(encode(np.array(row, dtype=np.float64))[None])[0])[0] for row in rows]
    expected = [values.double() * HEAD["std"][0] + HEAD["mean"][0] for values in scaled]
    return "Monday 21 August 2000, and the morning of the Wednesday behind it", {"inputs": rows}, expected


def load(features: int) -> Demand:
    """The model with the weights that are there."""
    model = Demand(features)
    model.load_state_dict(load_file(recipe.MODELS / NAME / "1" / "model.safetensors"))
    return model


def write(name: str, request: dict[str, Any]) -> None:
    """JSON with one row per line, for people who open the file."""
    text = json.dumps(request).replace("], [", "],\n[").replace("[[[", "[[\n[")
    (recipe.MODELS / NAME / "examples" / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Train and save unless told otherwise, then print the quality on the last fifth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluate", action="store_true", help="only measure the existing weights")
    parser.add_argument("--validate", action="store_true", help="measure settings on training data; save nothing")
    parser.add_argument("--examples", action="store_true", help="only write the example requests")
    parser.add_argument("--sample", action="store_true", help="only write the sample of the weights that are there")
    parser.add_argument("--inside", action="store_true", help="only correlate the cell states of the existing weights")
    options = parser.parse_args()
    recipe.prepare()
    if options.sample:
        recipe.save_sample(NAME, *sample(load(WIDTH)))
        return
    demand = series()
    raw = raw_rows(demand)
    rows = encode(raw)
    early, middle, test = (len(demand) * share // 100 for share in (50, 65, 80))
    if options.examples:
        examples(raw)
        return
    if options.validate:
        evaluate(train(rows, early), rows, demand, early, middle)
        torch.manual_seed(0)
        evaluate(train(rows, middle), rows, demand, middle, test)
        return
    if not (options.evaluate or options.inside):
        recipe.save(train(rows, test), NAME)
        recipe.save_sample(NAME, *sample(load(WIDTH)))
    model = load(WIDTH)
    if options.inside:
        look_inside(model, rows, demand, test)
        return
    evaluate(model, rows, demand, test, len(demand))


if __name__ == "__main__":
    main()
