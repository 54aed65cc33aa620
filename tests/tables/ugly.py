"""A generator of tables as people, countries and programs write them, each with what must come of it.

The numbers are made first, so that what is expected does not depend on anything that reads tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np

FEATURES = ("load", "temp")


@dataclass(frozen=True)
class Read:
    """The table is read: these numbers, and where they are not None these times and ids."""

    inputs: Sequence[np.ndarray]
    times: Sequence[Sequence[str | float]] | None = None
    ids: tuple[str, ...] | None = None
    note: str = ""
    """Part of a note."""
    future: Sequence[np.ndarray] | None = None


@dataclass(frozen=True)
class Refused:
    """The table is refused: the message has these parts, the place and the remedy among them."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Ugly:
    """A table and what must come of it."""

    name: str
    content: bytes
    expected: Read | Refused
    reading: Mapping[str, Any] = field(default_factory=dict)
    file: str = "t.csv"


def clean(rows: int = 12, seed: int = 0) -> np.ndarray:
    """(row, feature): loads of some thousands, temperatures on both sides of 0, in eighths."""
    generator = np.random.default_rng(seed)
    values = np.stack((generator.integers(100, 80_000, rows), generator.integers(-160, 320, rows)), axis=1) / 8
    values[0] = 1234.5, -0.125
    values[1] = 12.0, 0.875
    return values


def hours(rows: int = 12, start: datetime = datetime(2021, 2, 27, 20)) -> list[datetime]:  # noqa: DTZ001 - naive
    """Times over the end of a month, an hour each."""
    return [start + timedelta(hours=row) for row in range(rows)]


VALUES, HOURS = clean(), hours()
ISO = [time.isoformat() for time in HOURS]
DAYS = [(datetime(2021, 2, 25) + timedelta(days=row)).date() for row in range(len(VALUES))]  # noqa: DTZ001
AS_DAYS = [day.isoformat() for day in DAYS]


def lines(cells: Sequence[Sequence[Any]], header: Sequence[str] = ("time", *FEATURES), separator: str = ",") -> str:
    """A CSV text."""
    return "\n".join(separator.join(map(str, row)) for row in (header, *cells)) + "\n"


def rows(times: Sequence[Any], values: np.ndarray = VALUES) -> list[list[Any]]:
    """Each time with its numbers."""
    return [[time, *row] for time, row in zip(times, values.tolist(), strict=True)]


PLAIN = lines(rows(ISO))
SAME = Read([VALUES], [ISO])
SAME_DAYS = Read([VALUES], [AS_DAYS])
NUMBERS = lines(VALUES.tolist(), FEATURES)


def number(value: float, decimal: str, thousands: str) -> str:
    """A number as a country writes it."""
    written = f"{value:,.3f}" if value % 1 else f"{value:,.0f}"
    return written.translate({ord(","): thousands, ord("."): decimal})


def dialects() -> Iterator[Ugly]:
    """Every separator with every way to write numbers; line ends and encodings take turns."""
    ends = ["\n", "\r\n", "\r"]
    encodings = ["utf-8", "utf-8-sig", "utf-16", "cp1252"]
    turn = 0
    for separator, decimal, thousands, is_quoted in product(",;\t| ", ".,", ["", ".", ",", "'", " "], [False, True]):
        marks = {decimal, thousands}
        if thousands == decimal or (separator in marks and not is_quoted):
            continue
        cells = [[time, *(number(value, decimal, thousands) for value in row)] for time, *row in rows(ISO)]
        if is_quoted:
            cells = [[f'"{cell}"' for cell in row] for row in cells]
        # a blank separates more than once, as in columns of a fixed width
        text = lines(cells, separator=separator * (1 + 2 * (separator == " ") * (not is_quoted)))
        encoding, end = encodings[turn % len(encodings)], ends[turn % len(ends)]
        turn += 1
        spelled = {"\t": "tab", " ": "blank"}.get(separator, separator)
        name = f"{spelled} between, {decimal} decimal, {thousands or 'no'} thousands, {'quoted' * is_quoted} {encoding}"
        yield Ugly(name, text.replace("\n", end).encode(encoding), SAME)


def ugly(name: str, text: str | bytes, expected: Read | Refused, encoding: str = "utf-8", **reading: Any) -> Ugly:
    """One table."""
    return Ugly(name, text if isinstance(text, bytes) else text.encode(encoding), expected, reading)


def refused(name: str, text: str | bytes, *parts: str, **reading: Any) -> Ugly:
    """One table that must be refused."""
    return ugly(name, text, Refused(parts), **reading)


def headers() -> Iterator[Ugly]:
    """Names, units and what stands around them."""

    def with_header(*header: str) -> str:
        return lines(rows(ISO), header)

    yield ugly("another case", with_header("Time", "LOAD", " Temp "), SAME)
    yield ugly("units in brackets", with_header("Time", "Load [MW]", "temp (°C)"), SAME)
    yield ugly("units in Latin-1", with_header("time", "load", "temp [°C]"), SAME, "latin-1")
    yield ugly("units in quotes", with_header("time", '"load (MW, net)"', "temp"), SAME)
    yield ugly("names in quotes with a line break", with_header('"time"', '"load\n(MW)"', '"temp"'), SAME)
    yield ugly(
        "a line of units", PLAIN.replace("\n", "\n-,MW,°C\n", 1), Read([VALUES], [ISO], note="Line 2 is read as units")
    )
    yield ugly("a comment of names", "# t, 2021\n# time,load,temp\n" + PLAIN.partition("\n")[2], SAME)
    swapped = lines(VALUES[:, ::-1].tolist(), ("#temp", "load"), "\t")
    yield ugly("names of np.savetxt in another order", swapped, Read([VALUES]))
    yield ugly("a separator in the first line", "sep=;\r\n" + PLAIN.replace(",", ";"), SAME)
    yield ugly("trailing separators everywhere", PLAIN.replace("\n", ",,\n"), SAME)
    yield ugly("trailing separators below the names", PLAIN.replace("\n", ",\n").replace("temp,", "temp"), SAME)
    yield ugly(
        "an index without a name", lines([[n, *row] for n, row in enumerate(rows(ISO))], ("", "time", *FEATURES)), SAME
    )
    yield ugly(
        "further columns",
        lines([[*row, "x", 7] for row in rows(ISO)], ("time", *FEATURES, "flag", "qc")),
        Read([VALUES], [ISO], note="not read: 'flag', 'qc'"),
    )
    wide = [f"c{index}" for index in range(3000)]
    yield ugly(
        "three thousand further columns",
        lines([[*row, *range(3000)] for row in rows(ISO)], ("time", *FEATURES, *wide)),
        SAME,
    )
    yield refused(
        "a name twice", with_header("time", "load", "load"), "line 1", "'load' stands there twice", "another name"
    )
    yield refused(
        "a title above the names", "Station 7, hourly\n" + PLAIN, "line 2", "line above the names begins with #"
    )
    yield refused("another unit than is wanted", lines(rows(ISO), ("time", "load", "tmp")), "'temp'", "--map temp=tmp")
    yield refused("two headers of pandas", "time,load,temp\n,a,b\nx,y,z\n" + PLAIN.partition("\n")[2], "line 2")
    yield refused("no names and one column more", PLAIN.partition("\n")[2], "3 columns without names", "first line")


def cells() -> Iterator[Ugly]:
    """What stands in a cell."""

    def with_cell(cell: str, separator: str = ",") -> str:
        return lines(
            [[*row[:2], cell] if index == 4 else row for index, row in enumerate(rows(ISO))], separator=separator
        )

    def with_value(value: float) -> Read:
        values = VALUES.copy()
        values[4, 1] = value
        return Read([values], [ISO])

    for cell, value in {
        "1e1": 10,
        "1.5E-1": 0.15,
        "+3": 3,
        ".5": 0.5,
        "5.": 5,
        "\u22124.25": -4.25,
        '"7"': 7,
        "007": 7,
    }.items():
        yield ugly(f"a number {cell}", with_cell(cell), with_value(value))
    for cell in ["", "NA", "N/A", "NaN", "nan", "-", "?", "null", "NULL", "None", "#N/A", " "]:
        yield refused(
            f"a gap {cell!r}", with_cell(cell), "line 6, column 'temp'", "there is no value", "--fill temp=hold"
        )
    for code in ["-9999", "-999.9", "-9999.0", "1e20", "9.96921e+36"]:
        yield refused(
            f"a code of a gap {code}", with_cell(code), "line 6, column 'temp'", "there is no value", "--fill"
        )
    odd = [
        "0x10",
        "inf",
        "-Infinity",
        "1_000",
        "12%",
        "1.2.3",
        "1,5",
        "12 34",
        "1,23,456",
        "--1",
        "abc",
        "#DIV/0!",
        "true",
        "1e999",
        "(3)",
        "3-",
    ]
    for cell in odd:
        yield refused(f"no number {cell}", with_cell(f'"{cell}"'), "line 6, column 'temp'", "is not a number")
    yield refused(
        "a gap at the beginning of a line",
        lines([["#N/A", 2.5], [3, 4]], FEATURES),
        "line 2, column 'load'",
        "no value",
    )
    german = [[time, *(number(value, ",", "") for value in row)] for time, *row in rows(ISO)]
    german[4][2] = "1.5"
    yield refused(
        "a point among decimal commas",
        lines(german, separator=";"),
        "line 6, column 'temp'",
        "'1.5' is not a number",
        "decimal comma",
    )
    yield refused(
        "a comma that may be both",
        lines([["1,234", 1], ["2,345", 2]], FEATURES, ";"),
        "decimals or thousands",
        "'1,234'",
    )
    yield refused(
        "a quoted comma that may be both", lines([['"1,234"', 1], ['"2,345"', 2]], FEATURES), "decimals or thousands"
    )
    yield refused(
        "a point that may be both", lines([["1.050", 1], ["950", 2]], FEATURES, ";"), "decimals or thousands", "'1.050'"
    )
    yield ugly(
        "a text with the separator and a line break in quotes",
        lines([[*row, '"a, ""b""\nc"'] for row in rows(ISO)], ("time", *FEATURES, "remark")),
        SAME,
    )
    yield refused(
        "a text with the separator without quotes",
        lines([*rows(ISO)[:3], [*rows(ISO)[3], "x"]]),
        "line 5",
        "4 cells",
        "quotes",
    )
    yield refused("a line with too few cells", PLAIN + "2021-03-01T00:00,5\n", "line 14", "2 cells")
    yield refused("a quote that is never closed", PLAIN.replace(",12.0,", ',"12.0,'), "line 3", "a quote is not closed")
    yield refused(
        "a blank line in a table of one column", "load\n1\n\n3\n", "line 3", "write NA, or leave the line out"
    )
    yield ugly("comments between rows", PLAIN.replace("\n", "\n# break\n\n", 5), SAME)
    yield ugly("blank lines at the end", PLAIN + "\n\n  \n", SAME)
    yield ugly("lines of separators at the end", PLAIN + ",,\n,,\n", SAME)


def files() -> Iterator[Ugly]:
    """What a file as a whole is."""
    yield refused("no line", b"", "has no lines", "a line of names")
    yield refused("blank lines alone", b"\n \n\n", "has no lines")
    yield refused("comments alone", b"# nothing\n", "has no lines")
    yield refused("names alone", b"time,load,temp\n", "has no rows")
    yield refused("a spreadsheet", b"PK\x03\x04\x14\x00\x06\x00", "no text but a spreadsheet", "write it as CSV")
    yield refused("gzip", b"\x1f\x8b\x08\x00abc", "a gzip file")
    yield refused("Parquet", b"PAR1\x15\x04\x15", "a Parquet file", "name it as what it is")
    yield refused("bytes", bytes(range(256)), "is no text")
    yield refused("a page", "<html>\n<body>Sign in</body>\n</html>\n", "'load', 'temp', which the table lacks")
    yield ugly("one row", lines(rows(ISO[:1], VALUES[:1])), Read([VALUES[:1]], [ISO[:1]]))
    yield ugly("no names", NUMBERS.partition("\n")[2], Read([VALUES], note="no names"))
    yield ugly(
        "Excel in Germany",
        (
            "\ufeffsep=;\n"
            + lines(
                [[f"{day:%d.%m.%Y}", *(number(value, ",", ".") for value in row)] for day, *row in rows(DAYS)],
                ("Datum", "Load", "Temp"),
                ";",
            )
        ).replace("\n", "\r\n"),
        SAME_DAYS,
    )
    yield ugly("Excel's Unicode text", lines(rows(ISO), separator="\t"), SAME, "utf-16")
    serial = [44252 + row for row in range(len(VALUES))]
    yield ugly(
        "serial numbers of Excel",
        lines(rows(serial), ("Date", *FEATURES)),
        Read([VALUES], [serial], note="Times are numbers"),
    )


def times() -> Iterator[Ugly]:
    """How times are written."""

    def written(
        name: str, texts: Sequence[str], expected: Sequence[Any] = AS_DAYS, note: str = "", **reading: Any
    ) -> Ugly:
        return ugly(name, lines(rows(texts), ("when", *FEATURES)), Read([VALUES], [expected], note=note), **reading)

    def days(form: str) -> list[str]:
        return [day.strftime(form) for day in DAYS]

    def as_hours(form: str) -> list[str]:
        return [time.strftime(form) for time in HOURS]

    for form in [
        "%Y-%m-%d",
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%d/%m/%Y",
        "%d-%m-%Y",
        "%d.%m.%y",
        "%m/%d/%y",
        "%Y/%m/%d",
        "%Y%m%d",
        "%d-%b-%Y",
        '"%B %d, %Y"',
        "%d %b %Y",
    ]:
        yield replaced(written(form, days(form)), b"when", b"date")
    for form in [
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S.000",
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %I:%M %p",
        "%Y%m%d%H",
        "%Y%m%d%H%M",
        "%Y%m%d%H%M%S",
        "%Y-%m-%d %H",
    ]:
        yield replaced(written(form, as_hours(form), ISO), b"when", b"time")
    first = [f"0{month}/0{month + 1}/2021" for month in range(1, 7)]
    short = lines(rows(first, VALUES[:6]), ("date", *FEATURES))
    yield refused("days or months first", short, "column 'date'", "--day-first or --month-first")
    yield ugly(
        "days first as stated",
        short,
        Read([VALUES[:6]], [[f"2021-0{month + 1}-0{month}" for month in range(1, 7)]]),
        day_first=True,
    )
    yield ugly(
        "months first as stated",
        short,
        Read([VALUES[:6]], [[f"2021-0{month}-0{month + 1}" for month in range(1, 7)]]),
        day_first=False,
    )
    yield refused(
        "a year of two digits that may come first",
        lines(rows(days("%y-%m-%d")), ("date", *FEATURES)),
        "has the year first",
        "2001-12-31",
    )
    yield refused(
        "days and months first",
        lines(rows(["31.01.2021", "02/13/2021"], VALUES[:2]), ("date", *FEATURES)),
        "line 3, column 'date'",
        "both orders",
    )
    yield refused(
        "a day that is none", PLAIN.replace(ISO[3], "2021-02-30"), "line 5, column 'time'", "'2021-02-30' is no time"
    )
    yield refused("24 o'clock", PLAIN.replace(ISO[3], "2021-02-27 24:00"), "line 5, column 'time'", "is no time")
    yield refused("the word now", PLAIN.replace(ISO[3], "now"), "line 5, column 'time'", "'now' is no time")
    yield refused(
        "no time", PLAIN.replace(ISO[3], ""), "line 5, column 'time'", "there is no time", "leave the row out"
    )
    yield refused(
        "months in another language",
        lines(rows([f"{day.day} März 2021" for day in DAYS]), ("date", *FEATURES)),
        "line 2",
        "is no time",
        "2020-12-31",
    )
    yield refused(
        "a total at the end", PLAIN + "Total,1,2\n", "line 14, column 'time'", "'Total' is no time", "leave the row out"
    )
    yield refused("times of day alone", lines(rows(as_hours("%H:%M"))), "line 2, column 'time'", "it has no date")
    split = [[f"{time:%d.%m.%Y}", f"{time:%H:%M}", *row] for time, row in zip(HOURS, VALUES.tolist(), strict=True)]
    yield ugly(
        "date and time of day apart",
        lines(split, ("date", "time", *FEATURES)),
        Read([VALUES], [ISO], note="time of day is read from the column 'time'"),
    )
    parts = [
        [time.year, time.month, time.day, time.hour, *row] for time, row in zip(HOURS, VALUES.tolist(), strict=True)
    ]
    dawn = [[day, *row, f"0{6 + n % 2}:1{n % 10}"] for n, (day, *row) in enumerate(rows(AS_DAYS))]
    yield ugly("a time of day that is something else", lines(dawn, ("date", *FEATURES, "sunrise")), SAME_DAYS)
    yield refused("a day apart that is none", "year,month,day,load,temp\n2020,2,30,1,2\n", "line 2", "no such day")
    yield ugly("a quote in a comment", '# 5" of rain\n' + PLAIN, SAME)
    yield refused("names in a comment that are others", '# 5" a,b\n' + NUMBERS.partition("\n")[2], "'load', 'temp'")
    yield ugly(
        "year, month, day and hour apart",
        lines(parts, ("YYYY", "MM", "DD", "HH", *FEATURES), " "),
        Read([VALUES], [ISO]),
    )
    epoch = [(time.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() for time in HOURS]
    yield ugly(
        "seconds since 1970",
        lines(rows([f"{second:.0f}" for second in epoch])),
        Read([VALUES], [epoch], note="Times are numbers"),
    )
    yield ugly(
        "milliseconds since 1970",
        lines(rows([f"{second * 1000:.0f}" for second in epoch])),
        Read([VALUES], [[second * 1000 for second in epoch]]),
    )
    yield from zones()
    yield from orders()


def zones() -> Iterator[Ugly]:
    """Zones, and the two nights when clocks are put on and back."""
    for zone, told in {
        "Z": "+00:00",
        "+02:00": "+02:00",
        "-0330": "-03:30",
        "+01": "+01:00",
        " +01:00": "+01:00",
    }.items():
        texts = [time.isoformat() + zone for time in HOURS]
        yield ugly(f"zone {zone}", lines(rows(texts)), Read([VALUES], [[time + told for time in ISO]]))
    yield ugly(
        "days without a zone that end in four digits",
        lines(rows([f"{day:%d-%m-%Y}" for day in DAYS]), ("date", *FEATURES)),
        SAME_DAYS,
    )
    yield refused(
        "the name of a zone", lines(rows([f"{time} CET" for time in ISO])), "line 2", "is no time", "as an offset"
    )
    yield refused(
        "a zone in some rows", PLAIN.replace(ISO[5], ISO[5] + "Z"), "line 7, column 'time'", "has a time zone"
    )
    back = hours(6, datetime(2021, 10, 31, 0))  # noqa: DTZ001
    utc = [(time - timedelta(hours=2)).isoformat() + "+00:00" for time in back]
    offsets = ["+02:00"] * 3 + ["+01:00"] * 3
    local = [
        (time - timedelta(hours=offset == "+01:00")).isoformat() for time, offset in zip(back, offsets, strict=True)
    ]
    six = VALUES[:6]
    zoned = [time + offset for time, offset in zip(local, offsets, strict=True)]
    yield ugly("clocks put back, with offsets", lines(rows(zoned, six)), Read([six], [utc], note="told in UTC"))
    yield refused(
        "clocks put back, without",
        lines(rows(local, six)),
        "line 5, column 'time'",
        "stands there twice",
        "with their offset",
    )
    names = ["CEST"] * 3 + ["CET"] * 3
    with_names = [[*row, name] for row, name in zip(rows(local, six), names, strict=True)]
    yield refused(
        "clocks put back, and a column of zones",
        lines(with_names, ("time", *FEATURES, "zone")),
        "line 5",
        "stands there twice",
    )
    with_wind = [[*row, wind / 7] for wind, row in enumerate(rows(local, six))]
    yield refused(
        "clocks put back, and a column of numbers", lines(with_wind, ("time", *FEATURES, "wind")), "stands there twice"
    )
    on = [time for time in hours(7, datetime(2021, 3, 28, 0)) if time.hour != 2]  # noqa: DTZ001
    expected = [time.isoformat() for time in on]
    yield ugly(
        "clocks put on",
        lines(rows(expected, six)),
        Read([six], [expected], note="irregular: most are 0 days 01:00:00, 1 others, first at line 4"),
    )


def orders() -> Iterator[Ugly]:
    """The order of rows, and several series in one file."""
    yield ugly("newest first", lines(rows(ISO)[::-1]), Read([VALUES], [ISO], note="they are sorted"))
    shuffled = [rows(ISO)[row] for row in np.random.default_rng(1).permutation(len(ISO))]
    yield ugly("in no order", lines(shuffled), Read([VALUES], [ISO], note="they are sorted"))
    yield refused(
        "a row twice", lines([*rows(ISO), rows(ISO)[4]]), "line 14, column 'time'", "stands there twice", "--id COLUMN"
    )
    left = [row for row in range(len(ISO)) if row not in {3, 4}]
    told = [ISO[row] for row in left]
    yield ugly(
        "rows left out",
        lines(rows(told, VALUES[left])),
        Read([VALUES[left]], [told], note="first at line 5 with 0 days 03:00:00"),
    )
    both = [["b", *row] for row in rows(ISO[:5], VALUES[:5])] + [["a", *row] for row in rows(ISO[2:8], VALUES[2:8])]
    two = Read([VALUES[:5], VALUES[2:8]], [ISO[:5], ISO[2:8]], ("b", "a"))
    for name in ("station_id", "Gauge", "who"):
        yield ugly(f"two series below each other, {name}", lines(both, (name, "time", *FEATURES)), two)
    mixed = [both[row] for row in np.random.default_rng(2).permutation(len(both))]
    ids = tuple(dict.fromkeys(row[0] for row in mixed))
    by_id = {"b": (VALUES[:5], ISO[:5]), "a": (VALUES[2:8], ISO[2:8])}
    yield ugly(
        "two series mixed",
        lines(mixed, ("site", "time", *FEATURES)),
        Read([by_id[each][0] for each in ids], [by_id[each][1] for each in ids], ids),
    )
    apart = [["01", *row] for row in rows(ISO[:5], VALUES[:5])] + [["1", *row] for row in rows(ISO[5:], VALUES[5:])]
    yield ugly(
        "two series one after the other in time",
        lines(apart, ("basin", "time", *FEATURES)),
        Read([VALUES[:5], VALUES[5:]], [ISO[:5], ISO[5:]], ("01", "1")),
    )
    untimed = [[row[0], *row[2:]] for row in both]
    yield ugly("two series without times", lines(untimed, ("id", *FEATURES)), Read(two.inputs, None, two.ids))
    yield refused(
        "two columns that may be ids",
        lines([[*row, row[0] * 2] for row in both], ("one", "time", *FEATURES, "two")),
        "stands there twice",
        "--id COLUMN",
    )
    yield refused(
        "a row without an id",
        lines([*both, ["", *rows(ISO)[9]]], ("site", "time", *FEATURES)),
        "line 13, column 'site'",
        "there is no id",
    )
    numbered = [[n, *row] for n, row in enumerate(rows(ISO))]
    yield ugly("numbers of rows called id", lines(numbered, ("id", "time", *FEATURES)), SAME)
    further = [[time, "" if row > 8 else load, temp] for row, (time, load, temp) in enumerate(rows(ISO))]
    future = VALUES[9:].copy()
    future[:, 0] = np.nan
    yield ugly("targets blank at the end", lines(further), Read([VALUES[:9]], [ISO[:9]], future=[future]))


def replaced(table: Ugly, old: bytes, new: bytes) -> Ugly:
    """The same with other bytes."""
    return Ugly(table.name, table.content.replace(old, new), table.expected, table.reading, table.file)


ALL: tuple[Ugly, ...] = (*dialects(), *headers(), *cells(), *files(), *times())
