"""Large files are read in blocks of whole sequences, and say the same as when they are read at once."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from gatescope.errors import InvalidInput
from gatescope.tables import blocks, csv_file
from gatescope.tables.csv_file import read_csv
from gatescope.tables.csv_text import decoded, read_text
from gatescope.tables.files import read_table
from gatescope.tables.parts import sequences_in
from gatescope.tables.sequences import Reading, Wanted, interpret

WANTED = Wanted("river", ("rain", "temp"), ("discharge",))
IDS = ["a", "a", "a", "b", "c", "c", "d", "d", "d", "d"]


def rows(ids=IDS):
    days = pd.Series(ids).groupby(ids).cumcount()
    return [
        [each, f"2020-01-{day + 1:02}", row / 8, -row, 10 * row]
        for row, (each, day) in enumerate(zip(ids, days, strict=True))
    ]


def text(ids=IDS, **layout):
    file = io.StringIO()
    written = csv.writer(file, lineterminator="\n", **layout)
    written.writerows([["site", "date", "rain", "temp", "discharge"], *rows(ids)])
    return file.getvalue()


@pytest.fixture
def small(monkeypatch):
    """Blocks of some lines, of files of any size."""
    monkeypatch.setattr(blocks, "LARGE_BYTES", 0)
    monkeypatch.setattr(blocks, "BLOCK_CHARACTERS", 60)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 2)
    monkeypatch.setattr(blocks, "HEAD_LINES", 2)
    monkeypatch.setattr(blocks, "SAMPLE_BYTES", 60)


def parts_of(path, wanted=WANTED, **reading):
    return list(sequences_in(path, wanted, Reading(id="site", **reading)))


def same(parts, whole):
    """Whether the parts hold the sequences of the whole."""
    found = [part.sequences for part in parts]
    assert [each for part in found for each in part.ids] == list(whole.ids)
    assert [each for part in found for each in part.timestamps] == whole.timestamps
    for name in ("inputs", "observed"):
        made = [each for part in found for each in (part.inputs if name == "inputs" else part.observed["discharge"])]
        expected = whole.inputs if name == "inputs" else whole.observed["discharge"]
        for one, other in zip(made, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", [{}, {"delimiter": ";"}, {"quoting": csv.QUOTE_NONNUMERIC}, {"delimiter": "\t"}])
def test_blocks_of_a_text_say_what_the_whole_says(tmp_path, small, layout):
    file = tmp_path / "t.csv"
    file.write_text(text(**layout))
    parts = parts_of(file)
    assert len(parts) > 2
    assert [part.read for part in parts] == sorted(part.read for part in parts)
    assert parts[-1].read == 1
    same(parts, interpret(read_text(text(**layout), "t")[0], WANTED, Reading(id="site")))


def test_blocks_of_parquet_say_what_the_whole_says(tmp_path, small):
    file = tmp_path / "t.parquet"
    pd.read_csv(io.StringIO(text()), parse_dates=["date"]).to_parquet(file)
    parts = parts_of(file)
    assert len(parts) > 2
    same(parts, interpret(read_table(file), WANTED, Reading(id="site")))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_an_id_that_comes_back_is_refused_with_the_remedy(tmp_path, small, ending):
    file, content = tmp_path / f"t{ending}", text(["a", "a", "b", "b", "a", "c", "c"])
    file.write_text(content)
    if ending == ".parquet":
        pd.read_csv(io.StringIO(content), parse_dates=["date"]).to_parquet(file)
    place = "line 6" if ending == ".csv" else "row 5"
    with pytest.raises(InvalidInput, match=rf"{place}, column 'site': 'a' comes back here.*sort its rows by 'site'"):
        parts_of(file)


def test_a_small_file_may_be_unsorted(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(text(["a", "b", "a", "b"]))
    assert [len(each) for part in parts_of(file) for each in part.sequences.inputs] == [2, 2]


class TestCounted:
    def test_only_the_sequences_of_a_block_are_held(self):
        """A table without end: reading all of it before something comes out would never end."""
        drawn = 0

        def endless():
            nonlocal drawn
            while True:
                frame = pd.DataFrame({"site": [f"s{drawn // 2}"] * 10})
                drawn += 1
                yield blocks.Block(blocks.Table(frame, "t"), 0.5)

        found = blocks.whole_sequences(endless(), "site")
        for count in range(1, 50):
            table = next(found).table
            assert table.frame["site"].tolist() == [f"s{count - 1}"] * 20
            assert drawn == 2 * count + 1


def refusal(path, **reading):
    with pytest.raises(InvalidInput) as refused:
        parts_of(path, **reading)
    return str(refused.value)


def test_what_a_later_block_contradicts_is_refused(tmp_path, small):
    file = tmp_path / "t.csv"
    lines = text(delimiter=";").splitlines()
    file.write_text("\n".join([*lines[:8], lines[8].replace("-7", "-7,5"), *lines[9:]]))
    assert "line 9, column 'temp'" in refusal(file)
    file.write_text("\n".join([*lines[:8], lines[8] + ";1", *lines[9:]]))
    assert "line 9: there are 6 cells, but the first line has 5" in refusal(file)
    file.write_bytes("\n".join(lines).encode() + "\ne;2020-01-01;1;é;1\n".encode("cp1252"))
    assert "is no utf-8-sig throughout" in refusal(file)
    dates = text().replace("2020-01-01", "01/13/2020").replace("2020-01-02", "01/14/2020")
    dates = dates.replace("2020-01-03", "01/15/2020").replace("d,2020-01-04", "d,16/01/2020")
    file.write_text(dates)
    assert "line 11, column 'date': '16/01/2020' is no time" in refusal(file)


def test_comments_blank_lines_and_breaks_in_quotes_keep_the_lines_numbers(tmp_path, small):
    file = tmp_path / "t.csv"
    lines = text().splitlines()
    lines = [f"{line},note" if row == 0 else f'{line},"a\nb"' for row, line in enumerate(lines)]
    lines.insert(5, "\n# a comment")
    file.write_text("\n".join(lines))
    found = parts_of(file)
    assert [len(each) for part in found for each in part.sequences.inputs] == [3, 1, 2, 4]
    file.write_text("\n".join(lines).replace("-9,90", "x,90"))
    number = next(n for n, line in enumerate(file.read_text().split("\n"), start=1) if "x,90" in line)
    assert f"line {number}, column 'temp': 'x' is not a number" in refusal(file)


def test_times_with_zones_are_told_in_utc(tmp_path, small):
    file = tmp_path / "t.csv"
    frame = pd.read_csv(io.StringIO(text()))
    frame["date"] += "T00:00+01:00"
    frame.to_csv(file, index=False)
    stamps = [each for part in parts_of(file) for each in part.sequences.timestamps]
    assert stamps[0] == ["2019-12-31T23:00:00+00:00", "2020-01-01T23:00:00+00:00", "2020-01-02T23:00:00+00:00"]


TAILS = {
    "plain": "1.5;2\n-3;4e5\n",
    "no line break at the end": "1.5;2\n-3;4",
    "old line ends": "1.5;2\r\n-3;4\r\n",
    "blanks": "1.5 ; 2\n -3;4\n",
    "quotes": '"1.5";"2"\n-3;"4"\n',
    "a quote inside": '1.5;"2""3"\n-3;4\n',
    "a break in quotes": '1.5;"2\n3"\n-3;4\n',
    "a comment": "1.5;2\n# no\n-3;4\n",
    "a blank line": "1.5;2\n\n-3;4\n",
    "gaps": "1.5;\nNA;4\n",
    "thousands": "1.5;2,345\n-3;4\n",
    "decimal commas": "1,5;2\n-3,25;4\n",
    "thousands of a decimal comma": "1.234,5;2\n-3;1.234\n",
    "dates": "31.12.2020;2\n01.01.2021;4\n",
    "empty rows at the end": "1.5;2\n-3;4\n;\n;\n",
    "too few": "1.5;2\n-3\n",
    "too many": "1.5;2\n-3;4;5\n",
    "an open quote": '1.5;2\n-3;"4\n',
}


@pytest.mark.parametrize("head", ["0.5;1\n", "1;1\n", "0,5;1\n", '"0.5";1\n'])
@pytest.mark.parametrize("tail", TAILS)
def test_what_is_read_at_once_is_what_is_read_line_by_line(monkeypatch, head, tail):
    monkeypatch.setattr(csv_file, "HEAD_LINES", 2)
    content = f"a;b\n{head}{TAILS[tail]}".encode()

    def outcome(read):
        try:
            table = read()
        except InvalidInput as error:
            return str(error)
        return table.frame.values.tolist(), list(table.lines), table.decimal, table.notes

    whole, notes = decoded(content, "t")
    assert outcome(lambda: read_csv(content, "t")) == outcome(lambda: read_text(whole, "t", notes)[0])
