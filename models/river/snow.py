"""Look for snow inside the river model: `python -m models.river.snow`.

A degree-day bucket estimates the snow on the ground, which no input tells; every cell state is compared with it. The
unit is chosen on 2000 and 2001 and looked at again in 2002, so that the best of many units is not taken at its word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file

from models import recipe
from models.river.train import GAUGES, NAME, River, encode, load, predict

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SNOW_BELOW, MELT = 0.5, 2.5  # °C; mm per day and °C above zero
SNOWY = (GAUGES.index("01022500"), GAUGES.index("03015500"))
SETTLED = 60  # days left out at the start, while the state warms up


@dataclass
class Trace:
    """Everything the LSTM computes, each (gauge, day, unit)."""

    input_gate: Floats
    forget_gate: Floats
    output_gate: Floats
    cell: Floats


def trace(model: River, inputs: Floats) -> Trace:
    """Run the LSTM by its equations, to see the gates and cell states that nn.LSTM keeps to itself."""
    weights = {name: value.detach().double().numpy() for name, value in model.lstm.named_parameters()}
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    hidden = cell = np.zeros((inputs.shape[0], model.lstm.hidden_size))
    seen: list[tuple[Floats, ...]] = []
    for day in range(inputs.shape[1]):
        sums = inputs[:, day] @ weights["weight_ih_l0"].T + hidden @ weights["weight_hh_l0"].T + bias
        entry, forget, candidate, leave = np.split(sums, 4, axis=1)
        entry, forget, leave = (1 / (1 + np.exp(-value)) for value in (entry, forget, leave))
        cell = forget * cell + entry * np.tanh(candidate)
        hidden = leave * np.tanh(cell)
        seen.append((entry, forget, leave, cell))
    return Trace(*(np.stack(values, axis=1) for values in zip(*seen, strict=True)))


def snow_water(rain: Floats, temperature: Floats) -> Floats:
    """Snow water equivalent in mm, (gauge, day): cold precipitation piles up, warm days melt it."""
    store = np.zeros(len(rain))
    days = []
    for day in range(rain.shape[1]):
        store = store + np.where(temperature[:, day] < SNOW_BELOW, rain[:, day], 0.0)
        store = store - np.minimum(store, MELT * np.maximum(temperature[:, day], 0.0))
        days.append(store)
    return np.stack(days, axis=1)


def mean_before(values: Floats, days: int) -> Floats:
    """Mean of the last so many days, the day itself included (fewer at the start)."""
    total = np.cumsum(np.pad(values, (days, 0), mode="edge"))
    return np.asarray((total[days:] - total[:-days]) / days)


def season(rain: Floats, temperature: Floats, dates: npt.NDArray[np.datetime64]) -> Floats:
    """What the time of year and recent weather tell without a memory for snow, one column each, for one gauge."""
    angle = 2 * np.pi * (dates - dates.astype("datetime64[Y]")).astype(int) / 365.25
    waves = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
    means = [mean_before(temperature, days) for days in (1, 10, 30)] + [mean_before(rain, 30)]
    return np.stack([np.ones(len(dates)), *waves, *means], axis=1)


def correlation(cells: Floats, snow: Floats, known: Floats | None = None) -> Floats:
    """Pearson's r of every unit with the snow; with `known`, what those columns explain is first taken out of both."""
    both = np.column_stack([cells, snow])
    known = np.ones((len(both), 1)) if known is None else known
    rest = both - known @ np.linalg.lstsq(known, both, rcond=None)[0]
    squares = (rest**2).sum(axis=0)
    return np.asarray((rest[:, :-1] * rest[:, -1:]).sum(axis=0) / np.sqrt(squares[:-1] * squares[-1]))


def added_rain(model: River, rows: Floats, dates: npt.NDArray[np.datetime64], gauge: int, day: str) -> str:
    """What becomes of 20 mm more precipitation on one day: extra discharge within 10, 11 to 60 and 61 to 150 days."""
    at = int(np.flatnonzero(dates == np.datetime64(day))[0])
    wetter = rows.copy()
    wetter[gauge, at, 0] += 20.0
    extra = (predict(model, encode(wetter)) - predict(model, encode(rows)))[gauge, at:]
    mean = (rows[gauge, at, 2] + rows[gauge, at, 3]) / 2
    parts = [extra[:10].sum(), extra[10:60].sum(), extra[60:150].sum()]
    return f"  {GAUGES[gauge]} {day} ({mean:5.1f} °C): " + ", ".join(f"{part:5.2f}" for part in parts) + " mm"


@dataclass
class Look:
    """What is looked at: the weather, the bucket's snow and the model's insides, for every gauge and day."""

    model: River
    rows: Floats
    dates: npt.NDArray[np.datetime64]
    temperature: Floats
    snow: Floats
    inside: Trace

    def between(self, begin: str, end: str) -> Flags:
        """The days from `begin` up to, but not including, `end`."""
        return (self.dates >= np.datetime64(begin)) & (self.dates < np.datetime64(end))

    def follows(self, gauge: int, days: Flags, *, partial: bool) -> Floats:
        """Correlation of every cell state with the snow at a gauge."""
        known = season(self.rows[gauge, :, 0], self.temperature[gauge], self.dates)[days] if partial else None
        return correlation(self.inside.cell[gauge, days], self.snow[gauge, days], known)


def look() -> Look:
    """Load the data and the weights and run one through the other."""
    rows, _, dates = load()
    temperature = rows[:, :, 2:4].mean(axis=2)
    state = load_file(recipe.MODELS / NAME / "1" / "model.safetensors")
    model = River(state["lstm.weight_hh_l0"].shape[1])
    model.load_state_dict(state)
    inside = trace(model, encode(rows).double().numpy())
    return Look(model, rows, dates, temperature, snow_water(rows[:, :, 0], temperature), inside)


def rank(seen: Look, *, partial: bool) -> int:
    """Print the units that follow the snow best in 2000 and 2001, and give the first of them."""
    settled = np.arange(len(seen.dates)) >= SETTLED
    later = seen.dates >= np.datetime64("2002-01-01")
    early = np.stack([seen.follows(gauge, settled & ~later, partial=partial) for gauge in SNOWY])
    agreed = np.where(np.sign(early[0]) == np.sign(early[1]), np.abs(early).min(axis=0), 0.0)
    order = np.argsort(-agreed)
    print(
        f"best {'partial ' if partial else ''}correlation with the snow in 2000 and 2001, where it is weaker of the two"
    )
    print("  (each: whole period, 2000 and 2001, 2002)")
    for unit in order[:6]:
        cells = []
        for gauge in SNOWY:
            periods = (settled, settled & ~later, later)
            plain = " ".join(f"{seen.follows(gauge, days, partial=False)[unit]:5.2f}" for days in periods)
            rest = " ".join(f"{seen.follows(gauge, days, partial=True)[unit]:5.2f}" for days in periods)
            cells.append(f"{GAUGES[gauge]} r {plain}, partial {rest}")
        print(f"  unit {unit:3}: " + " | ".join(cells))
    return int(order[0])


def seasons(seen: Look, unit: int) -> None:
    """Print the unit's mean cell state in summers and winters, beside the bucket's snow."""
    print(f"unit {unit}: mean cell state of three months, with the bucket's mean snow in mm")
    summers_and_winters = ("2000-07-01", "2000-10-01"), ("2001-01-01", "2001-04-01"), ("2002-01-01", "2002-04-01")
    for gauge, name in enumerate(GAUGES):
        parts = []
        for begin, end in summers_and_winters:
            days = seen.between(begin, end)
            cell, snow = seen.inside.cell[gauge, days, unit].mean(), seen.snow[gauge, days].mean()
            parts.append(f"{begin[:7]} {cell:5.2f} ({snow:5.1f})")
        print(f"  {name}: " + ", ".join(parts))


def gates(seen: Look, unit: int) -> None:
    """Print the unit's mean gates by kind of day."""
    print(f"unit {unit}: mean input, forget and output gate")
    settled = np.arange(len(seen.dates)) >= SETTLED
    summer = np.isin(seen.dates.astype("datetime64[M]").astype(int) % 12, (5, 6, 7))
    for gauge in SNOWY:
        temperature, lying, rain = seen.temperature[gauge], seen.snow[gauge] > 5, seen.rows[gauge, :, 0]
        kinds = {
            "frost on snow": (temperature < 0) & lying,
            "snowfall over 5 mm": (temperature < 0) & (rain > 5),
            "thaw over 3 °C on snow": (temperature > 3) & lying,
            "June to August": summer,
        }
        for name, kind in kinds.items():
            days = kind & settled
            means = [
                gate[gauge, days, unit].mean()
                for gate in (seen.inside.input_gate, seen.inside.forget_gate, seen.inside.output_gate)
            ]
            print(f"  {GAUGES[gauge]} {name:22} {days.sum():4} days: " + " ".join(f"{mean:.3f}" for mean in means))


def what_if(seen: Look, unit: int) -> None:
    """Print what the winter's cell state becomes without snowfall, and without frost."""
    print(f"unit {unit}: mean cell state from January to March 2001: as was, no snowfall, frost 8 °C warmer")
    frost, quarter = seen.temperature < SNOW_BELOW, seen.between("2001-01-01", "2001-04-01")
    dry, warm = seen.rows.copy(), seen.rows.copy()
    dry[:, :, 0] = np.where(frost, 0.0, dry[:, :, 0])
    warm[:, :, 2:4] += np.where(frost, 8.0, 0.0)[:, :, None]
    traces = [seen.inside, *(trace(seen.model, encode(rows).double().numpy()) for rows in (dry, warm))]
    for gauge in SNOWY:
        print(f"  {GAUGES[gauge]}: " + ", ".join(f"{one.cell[gauge, quarter, unit].mean():5.2f}" for one in traces))
    print("20 mm more precipitation on one day: extra discharge within 10 days, days 11 to 60, days 61 to 150")
    for gauge in SNOWY:
        for day in ("2001-01-25", "2001-07-25", "2001-10-20", "2002-01-19"):
            print(added_rain(seen.model, seen.rows, seen.dates, gauge, day))


def main() -> None:
    """Print the correlations, the winters, the gates and the what-ifs of the unit that follows the snow best."""
    recipe.prepare()
    seen = look()
    rank(seen, partial=True)
    unit = rank(seen, partial=False)
    for show in (seasons, gates, what_if):
        show(seen, unit)


if __name__ == "__main__":
    main()
