"""`interpret`: a table as sequences of what a model reads, with names, times, ids, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.gaps import SAID, GapRefused, Rule, filled
from gatescope.tables import ids, static, times
from gatescope.tables.columns import Columns, numbers, sentinels
from gatescope.tables.table import Table, all_of

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = frozenset({"regression", "quantile"})
"""Tasks whose values are quantities; those of the others are scores."""


_MOST_TOLD = 8


@dataclass(frozen=True)
class Wanted:
    """What a model reads and gives, as ModelInfo has it."""

    model: str
    features: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    feeds_back: bool = False
    """Whether predictions are of the next step, so that an output that is a feature can be fed back."""
    may_miss: frozenset[str] = frozenset()
    """Features of which the model knows what a missing value means."""
    quantiles: tuple[float, ...] = ()
    """Of a quantile task, which ones each output has, in ascending order; they stand side by side."""
    derived: frozenset[str] = frozenset()
    """Features that follow from the times of the steps, so that they need not be columns."""
    static: tuple[str, ...] = ()
    """Features that a sequence has once."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Wanted:
        """From ModelInfo, of a model of features."""
        output = info.get("output") or {}
        return cls(
            info["name"],
            tuple(info["input"]["feature_names"]),
            tuple(output.get("names") or ()),
            output.get("predicts") == "next_step",
            frozenset(info.get("missing") or ()),
            tuple(output.get("quantiles") or ()),
            derived=frozenset(info["input"].get("derived") or ()),
            static=tuple((info.get("static") or {}).get("feature_names", ())),
        )

    @property
    def value_names(self) -> tuple[str, ...]:
        """What the values of a prediction are called, in their order: `y`, or `y_0.1` of a quantile."""
        if not self.quantiles:
            return self.outputs
        return tuple(f"{name}_{quantile:g}" for name in self.outputs for quantile in self.quantiles)


@dataclass(frozen=True)
class Reading:
    """How a table is to be read, where it does not show it itself."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Feature or output -> the column that it is."""
    timestamps: str | None = None
    """The column of times."""
    id: str | None = None
    """The column that says which sequence a row belongs to."""
    day_first: bool | None = None
    fill: Mapping[str | None, Rule] = field(default_factory=dict)
    """Feature, None for all others -> how its gaps are filled, in place of what the model's manifest says."""
    static: Table | None = None
    """Static features, a row for each id; columns of the table itself when not given."""
    series: tuple[str, ...] = ()
    """Columns that no model reads, which the sequences are to have beside them."""


@dataclass(frozen=True)
class Sequences:
    """What a model is asked with."""

    columns: tuple[str, ...]
    inputs: list[np.ndarray]
    """Of each sequence, (time, feature) float64; NaN where a value is missing that the model takes so."""
    future_inputs: list[np.ndarray] | None = None
    """Of each sequence, (horizon, feature); NaN where predictions are fed back."""
    timestamps: list[Sequence[str | float]] | None = None
    """Of each sequence, of the inputs: ISO 8601, or numbers."""
    future_timestamps: list[Sequence[str | float]] | None = None
    ids: tuple[str, ...] | None = None
    observed: Mapping[str, list[np.ndarray]] = field(default_factory=dict)
    """Outputs that are columns and no features, (time,) of each sequence; NaN where nothing was measured."""
    series: Mapping[str, list[np.ndarray]] = field(default_factory=dict)
    """Columns that were asked for beside the inputs, (time,) of each sequence; NaN where there is no value."""
    notes: tuple[str, ...] = ()
    """What was found or changed when the table was read, a sentence each."""
    filled: frozenset[str] = frozenset()
    """Those of the notes that tell of missing values."""
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Feature or output -> the column that it is."""
    static_columns: tuple[str, ...] = ()
    static_inputs: np.ndarray | None = None
    """(sequence, static feature) float64, of a model that takes them."""
    day_first: bool | None = None
    """Whether dates had the day first; None where that was not asked."""
    needs_times: bool = False
    """Whether features are left out that follow from the times."""

    @property
    def all_timestamps(self) -> list[list[str | float]]:
        """Of each sequence, of the inputs and of the further steps behind them."""
        known = self.timestamps or [[]] * len(self.inputs)
        further = self.future_timestamps or [[]] * len(self.inputs)
        return [[*row, *more] for row, more in zip(known, further, strict=True)]

    @property
    def horizon(self) -> int:
        """How many further steps are asked for."""
        return 0 if self.future_inputs is None else len(self.future_inputs[0])

    def parts(self, most_steps: int) -> Iterator[Sequences]:
        """The same, some sequences at a time, which have together no more steps than this, or one sequence.

        The steps are counted with the padding of the shorter ones.
        """
        first = longest = 0
        for row, values in enumerate(self.inputs):
            longest = max(longest, len(values))
            if row > first and (row + 1 - first) * longest > most_steps:
                yield self._rows(first, row)
                first, longest = row, len(values)
        yield self._rows(first, len(self.inputs))

    def first(self, count: int) -> Sequences:
        """No more than so many of the sequences."""
        return self._rows(0, count)

    def _rows(self, first: int, stop: int) -> Sequences:
        rows = slice(first, stop)
        return replace(
            self,
            inputs=self.inputs[rows],
            future_inputs=None if self.future_inputs is None else self.future_inputs[rows],
            timestamps=None if self.timestamps is None else self.timestamps[rows],
            future_timestamps=None if self.future_timestamps is None else self.future_timestamps[rows],
            ids=None if self.ids is None else self.ids[rows],
            observed={name: each[rows] for name, each in self.observed.items()},
            series={name: each[rows] for name, each in self.series.items()},
            static_inputs=None if self.static_inputs is None else self.static_inputs[rows],
        )

    def arrays(self) -> dict[str, Any]:
        """The predict body of these sequences as arrays: NaN where a number is missing."""
        body: dict[str, Any] = {"inputs": self.inputs, "columns": list(self.columns)}
        if self.future_inputs is not None:
            body |= {"horizon": self.horizon, "future_inputs": np.stack(self.future_inputs)}
        if self.needs_times:
            body["timestamps"] = self.all_timestamps
        if self.static_inputs is not None:
            body |= {"static_inputs": self.static_inputs, "static_columns": list(self.static_columns)}
        return body

    def request(self) -> dict[str, Any]:
        """The predict body as lists, null where a number is missing, with times, ids and measured values."""
        body: dict[str, Any] = {"inputs": list(map(with_null, self.inputs)), "columns": list(self.columns)}
        if self.future_inputs is not None:
            body["horizon"] = self.horizon
            body["future_inputs"] = list(map(with_null, self.future_inputs))
        if self.static_inputs is not None:
            body |= {"static_inputs": self.static_inputs.tolist(), "static_columns": list(self.static_columns)}
        return body | self.labels()

    def labels(self) -> dict[str, Any]:
        """What a predict body says of these sequences that no model reads: times, ids and measured values."""
        told: dict[str, Any] = {}
        if self.timestamps is not None:
            told["timestamps"] = self.all_timestamps
        if self.ids is not None:
            told["ids"] = list(self.ids)
        if self.observed:
            told["observed"] = {
                name: [[None if value != value else value for value in row.tolist()] for row in rows]  # noqa: PLR0124
                for name, rows in self.observed.items()
            }
        return told


def with_null(values: np.ndarray) -> list[list[float | None]]:
    """(time, feature) as JSON has it: null where a number is missing."""
    if not np.isnan(values).any():
        known: list[list[float | None]] = values.tolist()
        return known
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def interpret(table: Table, wanted: Wanted, reading: Reading | None = None) -> Sequences:
    """The sequences of a table: one, or one for each id, in the order of time.

    Raises:
        InvalidInput: a feature has no column, a cell no number, a time stands there twice; the place is named, and what
            would help.
    """
    return _Interpreter(table, wanted, reading or Reading()).made()


@dataclass
class _Interpreter:
    table: Table
    wanted: Wanted
    reading: Reading

    def __post_init__(self) -> None:
        self.notes, self.fills, self.problems = list(self.table.notes), set[str](), list[InvalidInput]()
        if not len(self.table.frame):
            raise self.table.refused("it has no rows: a table has a row for each time step")
        if self.table.blank is not None:
            raise self.table.refused(
                f"line {self.table.blank} is blank, which may be a missing value: write NA, or leave the line out"
            )
        if not self.table.has_names:
            self.table = self._named()
        self.features, self.outputs, self.static = self._columns()
        self.names = tuple(self.features)
        for name in self.reading.fill:
            if name is not None and name not in self.features:
                raise self.table.refused(
                    f"there is no feature '{name}' to fill; the model takes {', '.join(self.features)}"
                )

    def made(self) -> Sequences:
        mapping = {**self.static, **self.features, **self.outputs}
        values = {name: self._numbers(column) for name, column in mapping.items()}
        self.series = {name: self._numbers(name) for name in self.reading.series}
        if self.problems:
            raise all_of(self.problems)
        used = frozenset((*mapping.values(), *self.reading.series))
        found = self._times(used)
        self._check_derived(found)
        groups = self._groups(used, found)
        parts = [self._part(rows, values, found) for _, rows in groups]
        if self.problems:
            raise all_of(self.problems)
        future = {part.future for part in parts}
        if len(future) > 1:
            other = next(index for index, part in enumerate(parts) if part.future != parts[0].future)
            raise self.table.refused(
                f"'{groups[0][0]}' has {parts[0].future} rows without a target at its end, '{groups[other][0]}' has "
                f"{parts[other].future}; give each sequence as many, or ask for them in files of their own",
                row=int(groups[other][1][-1]),
            )
        names = tuple(str(name) for name, _ in groups) if groups[0][0] is not None else None
        made = Sequences(
            self.names,
            [part.inputs for part in parts],
            [part.further for part in parts] if future != {0} else None,
            None if found is None else [part.times for part in parts],
            None if found is None or future == {0} else [part.future_times for part in parts],
            names,
            {name: [part.observed[name] for part in parts] for name in self.outputs if name not in self.features},
            {name: [part.series[name] for part in parts] for name in self.series},
        )
        if self.wanted.static:
            made = replace(made, static_columns=self.wanted.static, static_inputs=self._static(groups, values, names))
        notes, day_first = tuple(dict.fromkeys(self.notes)), None if found is None else found.day_first
        made = replace(made, notes=notes, filled=frozenset(self.fills), mapping=mapping, day_first=day_first)
        return replace(made, needs_times=len(self.names) < len(self.wanted.features))

    def _static(
        self, groups: Sequence[tuple[Any, np.ndarray]], values: Mapping[str, np.ndarray], names: Sequence[str] | None
    ) -> np.ndarray:
        """(sequence, static feature), from the second table where there is one."""
        second = self.reading.static
        if second is None:
            return static.of_columns(self.table, self.static, groups, values)
        mapping = {name: column for name, column in self.reading.mapping.items() if name in self.wanted.static}
        found, notes = static.of_table(second, self.wanted.static, names, self.id_column, mapping)
        self.notes += notes
        return found

    def _numbers(self, column: str) -> np.ndarray:
        """Of a column, (row,); NaN where there is none, and where all rows are if the column has other cells."""
        try:
            values = numbers(self.table, column)
        except InvalidInput as error:
            self.problems.append(error)
            return np.full(len(self.table.frame), np.nan)
        if (codes := sentinels(values)).any():
            said = ", ".join(f"{code:g}" for code in np.unique(values[codes]))
            self.notes.append(f"{int(codes.sum()):,} cells of '{column}' are {said}: they are read as no value.")
            values = np.where(codes, np.nan, values)
        return values

    def _columns(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Feature -> column; output -> column where it is there; static feature -> column unless in a second table."""
        wanted, second, mapping = self.wanted, self.reading.static, self.reading.mapping
        if second is not None and not wanted.static:
            raise second.refused(f"model '{wanted.model}' takes no static features")
        own = wanted.static if second is None else ()
        others = frozenset(wanted.static) - frozenset(own)
        columns = Columns(self.table, {name: column for name, column in mapping.items() if name not in others})
        read = self._read(columns)
        found = dict(zip((*read, *own), columns.found((*read, *own), f"model '{wanted.model}'"), strict=True))
        outputs = {name: column for name in wanted.outputs if (column := columns.find(name)) is not None}
        self.notes += columns.notes
        Columns(self.table, {name: name for name in self.reading.series})  # refuses those that are not there
        return {name: found[name] for name in read}, outputs, {name: found[name] for name in own}

    def _read(self, columns: Columns) -> list[str]:
        """The features that are columns: all, or where one of the derived ones is missing, all others."""
        wanted = self.wanted
        there = {name for name in wanted.derived if columns.find(name) is not None}
        columns.notes.clear()
        if there == wanted.derived:
            return list(wanted.features)
        if there:
            listed = ", ".join(f"'{name}'" for name in wanted.features if name in there)
            self.notes.append(f"Columns of the calendar are left aside, for others follow from the times: {listed}.")
        return [name for name in wanted.features if name not in wanted.derived]

    def _check_derived(self, found: times.Times | None) -> None:
        """Refuse a table from whose times the features that it lacks cannot follow."""
        lacking = [f"'{name}'" for name in self.wanted.features if name not in self.features]
        if not lacking or (found is not None and found.series.dtype.kind == "M" and not found.is_moved):
            return
        what = "there is no column of times"
        if found is not None:
            what = f"the times in '{found.column}' are " + ("moved to UTC" if found.is_moved else "numbers, no dates")
        raise self.table.refused(
            f"{what}, from which {', '.join(lacking)} would follow; name another (--timestamps COLUMN), write times of "
            "one offset or of none, or add these columns"
        )

    def _named(self) -> Table:
        """A table without names, with those of the features; raises `InvalidInput` where there are not as many."""
        wanted, frame = self.wanted, self.table.frame
        if len(frame.columns) != len(wanted.features):
            raise self.table.refused(
                f"it has {len(frame.columns)} columns without names, but model '{wanted.model}' takes "
                f"{len(wanted.features)}: {', '.join(wanted.features)}; name them in a first line"
            )
        self.notes.append(f"Its columns have no names; they are read as {', '.join(wanted.features)}.")
        return replace(self.table, frame=frame.set_axis(list(wanted.features), axis=1), has_names=True)

    def _times(self, used: frozenset[str]) -> times.Times | None:
        exclude = used | ({self.reading.id} if self.reading.id is not None else frozenset())
        found = times.find(
            self.table, self.reading.timestamps, day_first=self.reading.day_first, exclude=frozenset(exclude)
        )
        if found is not None:
            self.notes += [f"Times are read from the column '{found.column}'.", *found.notes]
        return found

    def _groups(self, used: frozenset[str], found: times.Times | None) -> list[tuple[Any, np.ndarray]]:
        """Each id and its rows in the order of time; None as the id of a table of one sequence."""
        import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

        frame = self.table.frame
        self.id_column = name = self.reading.id or ids.find(self.table, used, found)
        self._tell_unused({*used, name, *(() if found is None else found.columns)})
        if name is None:
            return [(None, self._ordered(np.arange(len(frame)), found, None))]
        ids.check(self.table, name)
        self.notes.append(f"The column '{name}' says which sequence a row belongs to.")
        codes, found_ids = pd.factorize(frame[name], use_na_sentinel=False)
        parts = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        return [(each, self._ordered(part, found, each)) for each, part in zip(found_ids, parts, strict=True)]

    def _tell_unused(self, used: set[str | None]) -> None:
        if unused := [f"'{name}'" for name in self.table.frame.columns if name not in used]:
            more = f" and {len(unused) - _MOST_TOLD} more" if len(unused) > _MOST_TOLD else ""
            self.notes.append(f"Columns that are not read: {', '.join(unused[:_MOST_TOLD])}{more}.")

    def _ordered(self, rows: np.ndarray, found: times.Times | None, each: Any) -> np.ndarray:
        if found is None:
            return rows
        own = found.numbers[rows]
        steps = np.diff(own)
        if (steps < 0).any():
            order = np.argsort(own, kind="stable")
            rows, own = rows[order], own[order]
            self.notes.append("Its rows are not in the order of time; they are sorted.")
            steps = np.diff(own)
        if not steps.all():
            row, of = int(rows[np.flatnonzero(steps == 0)[0] + 1]), "" if each is None else f" of '{each}'"
            raise self.table.refused(
                f"the time {found.series.iloc[row]}{of} stands there twice; name the column that tells sequences apart "
                "(--id COLUMN), leave one of the rows out, or, where clocks were put back, write times with their "
                "offset",
                row=row,
                column=found.column,
            )
        if len(steps) > 1 and (steps != steps[0]).any():
            self._tell_irregular(found.series.iloc[rows], rows)
        return rows

    def _tell_irregular(self, own: pd.Series, rows: np.ndarray) -> None:
        steps = own.diff().iloc[1:]
        usual = steps.mode().iloc[0]
        odd = np.flatnonzero((steps != usual).to_numpy())
        if not (own.dtype.kind == "M" and _is_monthly(own)):
            place = self.table.place(int(rows[odd[0] + 1]))
            self.notes.append(
                f"Steps are irregular: most are {usual}, {len(odd)} others, first at {place} with {steps.iloc[odd[0]]}."
            )

    def _part(self, rows: np.ndarray, values: Mapping[str, np.ndarray], found: times.Times | None) -> _Part:
        future = self._future(rows, values)
        features = self._features(rows, values, len(rows) - future)
        known, further = features[: len(rows) - future], features[len(rows) - future :]
        if not len(known):
            raise self.table.refused("every row lacks its target, so nothing comes before the future")
        self._check_gaps(known, rows, range(features.shape[1]))
        fed_back = [self.names.index(name) for name in self._fed_back()]
        self._check_gaps(
            further, rows[len(known) :], [index for index in range(features.shape[1]) if index not in fed_back]
        )
        stamps = None if found is None else times.Stamps(found.index[rows])
        return _Part(
            known,
            further,
            future,
            [] if stamps is None else stamps[: len(known)],
            [] if stamps is None else stamps[len(known) :],
            {name: values[name][rows][: len(known)] for name in self.outputs},
            {name: each[rows][: len(known)] for name, each in self.series.items()},
        )

    def _features(self, rows: np.ndarray, values: Mapping[str, np.ndarray], known: int) -> np.ndarray:
        """(row, feature), with gaps filled as it was asked; of what is fed back, only in the rows that are known."""
        columns = []
        for name in self.names:
            own, rule = values[name][rows], self.reading.fill.get(name, self.reading.fill.get(None))
            stop = known if name in self._fed_back() else len(own)
            count = int(np.isnan(own[:stop]).sum())
            if rule is not None and count:
                own = np.concatenate((self._filled(own[:stop], rows, name, rule), own[stop:]))
                note = f"{count:,} missing in '{name}': {SAID.get(str(rule), f'each is {rule}')}."
                self.notes.append(note)
                self.fills.add(note)
            columns.append(own)
        return np.stack(columns, axis=1)

    def _filled(self, own: np.ndarray, rows: np.ndarray, name: str, rule: Rule) -> np.ndarray:
        try:
            return filled(own[:, None], [rule], [name])[:, 0]
        except GapRefused as error:
            step = int(error.place.loc[0])
            raise self.table.refused(str(error), row=int(rows[step]), column=self.features[name]) from None

    def _future(self, rows: np.ndarray, values: Mapping[str, np.ndarray]) -> int:
        """How many rows at the end lack every target."""
        targets = [values[name][rows] for name in self.outputs]
        if not targets:
            return 0
        blank = np.isnan(np.stack(targets)).all(axis=0)
        known = np.flatnonzero(~blank)
        last = int(known[-1]) + 1 if len(known) else 0
        if not self.wanted.feeds_back and not self._fed_back() and last == 0:
            return 0  # nothing was measured: every row is predicted
        return len(rows) - last

    def _fed_back(self) -> list[str]:
        return [name for name in self.outputs if name in self.features and self.wanted.feeds_back]

    def _check_gaps(self, features: np.ndarray, rows: np.ndarray, wanted: Sequence[int]) -> None:
        for index in wanted:
            missing = np.flatnonzero(np.isnan(features[:, index]))
            name = self.names[index]
            if len(missing) and name not in self.wanted.may_miss:
                remedy = (
                    f"say how it is filled (--fill {name}=hold, interpolate or a number), or leave the sequence out"
                )
                said = [(int(row), f"there is no value; {remedy}") for row in rows[missing]]
                self.problems.append(self.table.refused_cells(said, self.features[name]))


@dataclass(frozen=True)
class _Part:
    """One sequence."""

    inputs: np.ndarray  # (time, feature)
    further: np.ndarray  # (horizon, feature)
    future: int
    times: Sequence[str | float]
    future_times: Sequence[str | float]
    observed: Mapping[str, np.ndarray]
    series: Mapping[str, np.ndarray]


def _is_monthly(own: pd.Series) -> bool:
    """Whether times are equally many months apart, on one day of the month or at its end."""
    months = (own.dt.year * 12 + own.dt.month).diff().iloc[1:]
    is_one_day = (own.dt.day == own.dt.day.iloc[0]).all() or own.dt.is_month_end.all()
    return bool((months == months.iloc[0]).all() and months.iloc[0] > 0 and is_one_day)
