"""`gatescope report`, as a user runs it."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Where the shipped models are found."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def table(tmp_path):
    """Two weeks' ends of what `demand` reads, as two sequences, with a series and classes that are no inputs."""
    generator = np.random.default_rng(0)
    lines = ["site,demand_mw,demand_last_week_mw,demand_last_week_next_mw,half_hour,half_hour_of_week,wind,kind"]
    for site in "ab":
        load = 22_000 + 2_000 * np.sin(np.arange(121) / 48 * 2 * np.pi) + generator.normal(0, 50, 121)
        lines += [
            f"{site},{load[step]:.0f},{load[step]:.0f},{load[step + 1]:.0f},{step % 48},{step},"
            f"{generator.normal():.3f},{'' if step < 3 else 'storm' if step % 7 else 'calm'}"
            for step in range(120)
        ]
    path = tmp_path / "demand.csv"
    path.write_text("\n".join(lines))
    return path


def test_texts_become_a_page_and_sentences(run, tmp_path):
    status, said, told = run(
        "report", "brackets", "--text", "((x)()x)" * 12, "--text", "(((())))" * 6, "--out", tmp_path / "report.html"
    )
    assert status == 0, told
    assert "Unit 2 counts" in said
    assert "Clamping the forget gate of unit 2 to 0" in said
    page = (tmp_path / "report.html").read_text()
    assert "Read here</dt><dd>144 steps in 2 sequences" in page


def test_the_body_of_an_example_becomes_json(run, tmp_path):
    example = ROOT / "models" / "brackets" / "examples" / "deep.json"
    status, _, told = run("report", "brackets", "--input", example, "--out", tmp_path / "report.json")
    assert status == 0, told
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["about"]["facts"]["Predicts"] == "balanced, open, broken (tagging)"
    assert {each["kind"] for each in read["looked_for"]} >= {"counts", "slow", "needed"}


def test_columns_are_series_and_classes_and_never_inputs(run, table, tmp_path):
    columns = ("--id", "site", "--series", "wind", "--classes", "kind")
    status, _, told = run("report", "demand", "--input", table, *columns, "--out", tmp_path / "report.json")
    assert status == 0, told
    read = json.loads((tmp_path / "report.json").read_text())
    strongest = {each["kind"]: each["findings"][0]["figures"] for each in read["looked_for"] if each["findings"]}
    assert strongest["follows"]["series"] == "wind"
    assert strongest["tells_apart"]["series"] in {"storm", "calm"}
    assert strongest["tells_apart"]["steps"] in {2 * 17, 2 * 100}
    assert read["about"]["ids"] == ["a", "b"]
    for option, column, said in (
        ("--series", "demand_mw", "is an input of the model"),
        ("--series", "snow", "there is no column 'snow'"),
    ):
        status, _, told = run("report", "demand", "--input", table, "--id", "site", option, column)
        assert status == 1
        assert said in told


TAGGING = """
description = "whether a step is wet"
task = "tagging"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}, {name = "c"}]
[head]
steps = "all"
[output]
labels = ["dry", "wet"]
"""


def test_a_column_or_a_file_has_the_true_labels(run, model_folder, tmp_path):
    folder = model_folder("weather", TAGGING)
    numbers = np.random.default_rng(0).normal(size=(40, 3))
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{'dry' if index % 4 else 'wet'}" for index, (a, b, c) in enumerate(numbers)]
    table, file = tmp_path / "days.csv", tmp_path / "labels.json"
    table.write_text("\n".join(["a,b,c,state", *rows]))
    file.write_text(json.dumps([["dry" if index % 4 else "wet" for index in range(40)]]))
    said = []
    for targets in ("state", file):
        status, _, told = run(
            *("report", "weather", "--models", folder.models_dir, "--input", table, "--targets", targets),
            *("--out", tmp_path / "report.json"),
        )
        assert status == 0, told
        read = json.loads((tmp_path / "report.json").read_text())
        assert read["about"]["quality"]["label"]["majority"] == 0.75
        assert read["about"]["by_label"]["wet"]["share"] == 0.25
        said.append(read["how_well"])
    assert said[0] == said[1]
    assert "of 40 cases; the most frequent one alone would be in 75 %" in said[0][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "(", "--targets", "kind"), "name columns of a table"),
        (("--text", "(", "--targets", "none.json"), "cannot be read"),
        (("--text", "(", "--out", "report.pdf"), "written as .html or .json"),
        ((), "either --input FILE or --text"),
        (("--text", "(", "--series", "snow"), "name columns of a table"),
        (("--text", "(]"), "not in the model's vocabulary"),
    ],
)
def test_what_cannot_be_is_refused(run, arguments, said):
    status, _, told = run("report", "brackets", *arguments)
    assert status == 1
    assert said in told
