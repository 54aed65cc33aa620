"""Answers about tables, written as they come: predictions, those of windows, signals; of one file or of many."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatescope.cli.asking import model_path
from gatescope.cli.output import Notes, say
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from gatescope.cli.connection import Connection
    from gatescope.tables.sequences import Reading, Sequences
    from gatescope.tables.windows import Rolling

LOCAL_STEPS, REMOTE_STEPS = 500_000, 50_000
"""Time steps of the sequences that are asked for together, at most, with their padding: here, and of a server."""
TRACED_STEPS, TRACED_BYTES = 50_000, 2**27
"""The same of traces, and how large the signals of one reply are, about."""
FILE = "file"
"""The column that says which file a row is of."""

Tell = Callable[[float], None]
Frames = Iterator[tuple["pd.DataFrame", float]]
"""Parts of a table, each with which part of the file is done, 0…1."""


@dataclass(frozen=True)
class Asked:
    """What is asked about the tables."""

    files: Sequence[Path]
    reading: Reading
    horizon: int | None = None
    rolling: Rolling | None = None
    selection: Mapping[str, Any] | None = None
    """Which signals are traced; None of predictions."""


def files_of(given: Sequence[Path]) -> list[Path]:
    """The files that paths or patterns such as `data/*.csv` name, in order.

    Raises:
        InvalidInput: a pattern names none, or two name one.
    """
    made: list[Path] = []
    for each in given:
        found = [each] if each.exists() or not glob.has_magic(str(each)) else _matching(str(each))
        if not found:
            raise InvalidInput(f"--input {each}: there is no such file")
        made += found
    if twice := next((each for index, each in enumerate(made) if each in made[:index]), None):
        raise InvalidInput(f"--input {twice}: it is there twice")
    return made


def _matching(pattern: str) -> list[Path]:
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 - a pattern may be absolute


def write_tables(connection: Connection, info: Any, asked: Asked, out: Path, tell: Tell) -> None:
    """Ask about each table, and write what comes to one file, or to one of each in a folder.

    Args:
        connection: asks.
        info: the model's ModelInfo.
        asked: which tables, and what about them.
        out: a file, or a folder; with several tables the file's first column says of which each row is.
        tell: is told which part is done, 0…1.

    Raises:
        InvalidInput: a table cannot be read or does not fit the model.
    """
    from gatescope.tables.writing import SINKS, table_writer

    writing = _Writing(connection, info, asked)
    count = len(asked.files)
    targets = _targets(asked.files, out) if out.is_dir() or out.suffix not in SINKS else [out] * count
    with table_writer(out) if targets[0] == out else nullcontext() as whole:
        for index, (file, target) in enumerate(zip(asked.files, targets, strict=True)):
            with nullcontext(whole) if whole is not None else table_writer(target) as table:
                for frame, done in writing.frames(file):
                    if whole is not None and count > 1:
                        frame.insert(0, FILE, str(file))
                    table.write(frame)
                    tell((index + done) / count)
    writing.notes.end()
    say(*(f"wrote {each}" for each in dict.fromkeys(targets)))


def _targets(files: Sequence[Path], folder: Path) -> list[Path]:
    """Where the answers about these files go; raises `InvalidInput` where two would go to one place."""
    from gatescope.tables.writing import SINKS

    made = [folder / (file.name if file.suffix.lower() in SINKS else f"{file.stem}.csv") for file in files]
    for index, (file, each) in enumerate(zip(files, made, strict=True)):
        if each in made[:index]:
            raise InvalidInput(f"--out {folder}: two files would be written to '{each.name}', the second of {file}")
        if each.exists() and each.samefile(file):
            raise InvalidInput(f"--out {folder}: '{file}' itself would be written over")
    folder.mkdir(exist_ok=True)
    return made


class _Writing:
    def __init__(self, connection: Connection, info: Any, asked: Asked) -> None:
        from gatescope.tables.sequences import QUANTITIES, Wanted
        from gatescope.tables.windows import check

        if info["input"] is None:
            raise InvalidInput(f"model '{info['name']}' is {info['state']}: {info['reason']}")
        if info["input"]["kind"] != "features":
            raise InvalidInput(f"model '{info['name']}' reads tokens, of which no table is written; take .json")
        if asked.selection is None and (info["output"] or {}).get("kind") not in QUANTITIES:
            raise InvalidInput("a table is written of a regression over a table; take .json or .npz")
        self._connection, self._asked, self._path = connection, asked, model_path(info["name"])
        self._wanted = Wanted.of(info)
        self._most_steps = REMOTE_STEPS if connection.is_remote else LOCAL_STEPS
        self.notes = Notes()
        if asked.selection is not None:
            self._most_steps = min(self._most_steps, _most_traced(info["lstm"], len(info["signals"]), asked.selection))
        if asked.rolling is not None:
            check(asked.rolling, self._wanted)

    def frames(self, file: Path) -> Frames:
        """What comes of one file; raises `InvalidInput` where nothing does."""
        from gatescope.tables.parts import sequences_in

        answered = self._traced if self._asked.selection is not None else self._predicted
        if self._asked.rolling is not None:
            answered = self._rolled
        before, is_empty = 0.0, True
        for sequences, read in sequences_in(file, self._wanted, self._asked.reading):
            self.notes.say(*(f"{file}: {note}" for note in sequences.notes))
            self._check_horizon(sequences, file)
            for frame, done in answered(sequences):
                is_empty = False
                yield frame, before + (read - before) * done
            before = read
        if is_empty:
            raise InvalidInput(f"{file}: no sequence has as many steps as a window with what is predicted behind it")

    def _check_horizon(self, sequences: Sequences, file: Path) -> None:
        if self._asked.rolling is None and self._asked.horizon and sequences.horizon not in {0, self._asked.horizon}:
            raise InvalidInput(
                f"--horizon {self._asked.horizon}: {file} has {sequences.horizon} rows without a target at its end, "
                "which are the further steps; leave the option out"
            )

    def _predicted(self, sequences: Sequences) -> Frames:
        from gatescope.tables.answers import prediction_frame

        horizon = self._asked.horizon
        for part, done in _parts(sequences, self._most_steps):
            reply = self._reply("predict", part.arrays() | ({} if horizon is None else {"horizon": horizon}))
            yield prediction_frame(reply, part, self._wanted, horizon), done

    def _rolled(self, sequences: Sequences) -> Frames:
        from gatescope.tables import windows

        rolling: Any = self._asked.rolling
        found, done = list(rolling.windows(sequences)), 0
        short = len(sequences.inputs) - len({each.row for each in found})
        if short and found:
            self.notes.say(f"{short} sequences have no window: they have fewer steps than {rolling.window}")
        for part in windows.batches(found, lambda _: rolling.window + (rolling.horizon or 0), self._most_steps):
            done += len(part)
            reply = self._reply("predict", windows.request(sequences, self._wanted, part, rolling.horizon))
            yield (
                windows.window_frame(reply, part, sequences, self._wanted, rolling.horizon),
                done / len(found),
            )

    def _traced(self, sequences: Sequences) -> Frames:
        from gatescope.tables.recorded import signals_in
        from gatescope.tables.signals import signal_frame

        horizon = self._asked.horizon
        for part, done in _parts(sequences, self._most_steps):
            body = part.arrays() | dict(self._asked.selection or {})
            reply = self._reply("trace", body | ({} if horizon is None else {"horizon": horizon}))
            yield signal_frame(reply, signals_in(reply), part), done

    def _reply(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = self._connection.ask(f"{self._path}/{what}", body)
        said = (note["message"] for note in reply.get("notes", ()) if note["code"] != "unverified")
        self.notes.say(*(f"note: {each}" for each in said))
        return reply


def _most_traced(spec: Mapping[str, Any], signals: int, selection: Mapping[str, Any]) -> int:
    """How many steps are traced together, of a recurrent module with these arguments."""
    directions = 2 if spec["bidirectional"] else 1
    sizes = {"signals": signals, "layers": spec["num_layers"], "units": spec["hidden_size"]}
    width = directions * prod(len(selection[name]) if name in selection else size for name, size in sizes.items())
    return max(1, min(TRACED_STEPS, TRACED_BYTES // (4 * width)))


def _parts(sequences: Sequences, most_steps: int) -> Iterator[tuple[Sequences, float]]:
    """Some sequences at a time, each with which part of them is done then."""
    done = 0
    for part in sequences.parts(most_steps):
        done += len(part.inputs)
        yield part, done / len(sequences.inputs)
