"""What a terminal shows is what was answered: every cell of a heatmap, every column of a table."""

import io

import pytest
from rich.console import Console

from gatescope.cli import list_models, terminal

INFO = {
    "signals": [
        {"name": "gate", "symbol": "i", "low": 0.0, "high": 1.0, "description": ""},
        {"name": "candidate", "symbol": "g", "low": -1.0, "high": 1.0, "description": ""},
        {"name": "state", "symbol": "c", "low": None, "high": None, "description": ""},
    ],
    "output": {"names": None},
}


def lines_of(renderable, width=80):
    """The lines as a terminal with all colours gets them, each a list of (character, colour)."""
    console = Console(width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    lines = console.render_lines(renderable, pad=False)
    return [
        [
            (character, segment.style.color.name if segment.style and segment.style.color else None)
            for segment in line
            for character in segment.text
        ]
        for line in lines
    ]


def texts_of(renderable, width=80):
    return ["".join(character for character, _ in line) for line in lines_of(renderable, width)]


def traced(name, values):
    """A trace reply with one signal, (time, unit)."""
    return {
        "model": {"name": "own", "version": "1"},
        "layers": [0],
        "directions": ["forward"],
        "signals": {name: [[[values]]]},
        "residual": 1e-7,
    }


def cells(reply, width=80):
    """The colours of the cells, (unit, time)."""
    lines = lines_of(terminal.trace(reply, INFO, width), width)
    return [row for line in lines if (row := [colour for character, colour in line if character == terminal.CELL])]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("gate", [[0.0], [0.5], [1.0]], [["#141406", "#8a8a2e", "#ffff55"]]),
        ("candidate", [[-1.0], [0.0], [1.0]], [["#0000ff", "#ffffff", "#ff0000"]]),
        ("state", [[-2.0], [0.0], [4.0]], [["#8080ff", "#ffffff", "#ff0000"]]),
        ("state", [[-8.0, 0.0], [8.0, 0.0]], [["#0000ff", "#ff0000"], ["#ffffff", "#ffffff"]]),
        ("unknown", [[0.0], [0.0]], [["#ffffff", "#ffffff"]]),
    ],
)
def test_every_cell_has_the_colour_of_its_value(name, values, expected):
    assert cells(traced(name, values)) == expected


def test_a_heatmap_has_a_cell_for_each_unit_and_step_that_fit():
    whole = cells(traced("gate", [[0.0, 0.25, 1.0]] * 10))
    assert [len(row) for row in whole] == [10, 10, 10]
    averaged = cells(traced("gate", [[0.0] * 100] * 500), width=40)
    assert [len(row) for row in averaged] == [36] * terminal.HEATMAP_ROWS


def test_the_scale_stands_below_each_heatmap():
    said = "".join(
        character for line in lines_of(terminal.trace(traced("state", [[-2.5]]), INFO, 80)) for character, _ in line
    )
    assert "blue -2.5 to red 2.5" in said
    assert "own version 1, residual 1.0e-07" in said


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_that_is_too_wide_is_folded_into_several(width):
    values = [[float(1000 * step + value) for value in range(40)] for step in range(2)]
    info = INFO | {"output": {"names": [f"quantity {value}" for value in range(40)]}}
    reply = {"sequence_lengths": [2], "prediction": {"values": [values]}}
    lines = [
        "".join(character for character, _ in line) for line in lines_of(terminal.prediction(reply, info, width), width)
    ]
    said = " ".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in said
    for value in range(40):
        assert f"quantity {value} " in said
        assert f" {1000 + value} " in said


HEADS = {
    "output": {
        "names": ["level"],
        "labels": None,
        "heads": [
            {"name": "prediction", "names": ["level"], "labels": None, "quantiles": None},
            {"name": "spread", "names": ["low", "high"], "labels": None, "quantiles": [0.1, 0.9]},
            {"name": "kinds", "names": None, "labels": ["rain", "snow", "hail"], "quantiles": None},
            {"name": "flood", "names": None, "labels": ["dry", "wet"], "quantiles": None},
        ],
    }
}


def test_every_head_has_a_table():
    reply = {
        "model": {"name": "own", "version": "1"},
        "sequence_lengths": [2],
        "notes": [
            {"code": "unverified", "message": "said elsewhere"},
            {"code": "unknown_token", "message": "as another"},
        ],
        "prediction": {"values": [[[1.5], [2.5]]]},
        "heads": {
            "spread": {"values": [[[1, 2, 3, 4], [5, 6, 7, 8]]]},
            "kinds": {
                "values": [[[0, 0, 0]] * 2],
                "labels": [[["rain", "hail"], []]],
                "probabilities": [[[0.9, 0.1, 0.6]] * 2],
            },
            "flood": {"values": [[0.3]], "labels": ["wet"], "probabilities": [[0.4, 0.6]]},
        },
    }
    text = "\n".join(texts_of(terminal.prediction(reply, HEADS, 100), 100))
    for shown in (
        "sequence 0, spread",
        "low 0.1",
        "high 0.9",
        "rain, hail",
        "0.900, 0.600",
        "0.600",
        "note: as another",
    ):
        assert shown in text
    assert "said elsewhere" not in text


def test_a_path_has_labels_without_probabilities():
    reply = {"sequence_lengths": [2], "prediction": {"values": [[[1, 2], [3, 4]]], "labels": [["X", "Y"]]}}
    lines = texts_of(terminal.prediction(reply, HEADS, 80))
    assert any("X" in line for line in lines)
    assert any("Y" in line for line in lines)


def test_every_sample_of_a_text_is_shown():
    samples = [{"text": "to be", "tokens": [], "finish_reason": "length"}, {"text": "or not", "tokens": []}]
    reply = {"sequence_lengths": [5], "prediction": {"text": ["to be"], "values": [[]], "samples": [samples]}}
    shown = "\n".join(texts_of(terminal.prediction(reply, INFO, 80)))
    assert "sequence 0, sample 0" in shown
    assert "sequence 0, sample 1" in shown
    assert "to be" in shown
    assert "or not" in shown


@pytest.mark.parametrize("width", [40, 60, 120])
def test_lists_and_measures_fold_and_lose_nothing(width):
    description = "daily discharge of four rivers, from the weather of the day and of the days before"
    model = {"name": "a-river-with-a-long-name", "version": "1", "state": "ready", "task": "regression"}
    listed = list_models._table([model | {"verified": None, "reason": None, "description": description}])
    measures = {"mae": 0.123456, "rmse": 1234.5678, "kge": None}
    summary = {
        "target": "discharge",
        "pairs": 365,
        "origins": 12,
        "quantiles": None,
        "point": None,
        "model": measures,
        "baselines": {"naive": measures, "seasonal_naive": measures, "mean": measures},
    }
    for drawn, said in (
        (listed, [model["name"], *description.split()]),
        (terminal.backtest(summary), ["seasonal_naive", "0.1235", "1235"]),
    ):
        lines = texts_of(drawn, width)
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
        rows = [line.replace("┃", "│").split("│") for line in lines]
        columns = zip(*(row for row in rows if len(row) > 1), strict=True)
        whole = ["".join(cell.strip() for cell in column) for column in columns]
        assert all(any(word in column for column in whole) for word in said)


def test_the_largest_changes_of_an_intervention_stand_on_top():
    runs = {
        "baseline": [[1.0, 2.0], [3.0, 4.0]],
        "intervened": [[1.5, 2.0], [3.0, 2.0]],
        "difference": [[0.5, 0.0], [0.0, -2.0]],
    }
    reply = {name: {"prediction": {"values": [values]}} for name, values in runs.items()}
    info = INFO | {"name": "levels", "output": {"names": ["x", "y"]}}
    rows = [line.split() for line in texts_of(terminal.intervention(reply, info, 80)) if "│" in line]
    assert rows[0] == ["│", "0", "│", "1", "│", "y", "│", "4", "│", "2", "│", "-2", "│"]
    assert rows[1] == ["│", "0", "│", "0", "│", "x", "│", "1", "│", "1.5", "│", "0.5", "│"]
    whole = {name: {"output": [[values]]} for name, values in (("baseline", [1.0]), ("intervened", [2.0]))}
    lines = texts_of(terminal.intervention(whole | {"difference": {"output": [[[1.0]]]}}, info, 80))
    assert any("unit 0" in line for line in lines)
