"""Reports of networks and of shipped models: what they say, and that their page stands alone."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

import gatescope
from gatescope import load_model, trace
from gatescope.errors import InvalidInput
from gatescope.pipeline.query import Query
from gatescope.pipeline.subject import subject_of
from gatescope.reporting import shifts
from gatescope.reporting.finding import LEVEL
from gatescope.reporting.following import Terms, follows
from gatescope.reporting.of_model import Given, report_on
from gatescope.reporting.partial import partial
from gatescope.reporting.recording import Recording
from gatescope.reporting.report import About
from gatescope.selection import Selection
from models.river.snow import snow_water
from models.river.train import load
from tests.reporting.planted import planted


def bracket_text(length, seed=3):
    """Brackets and fillers that are never broken."""
    generator, depth, made = np.random.default_rng(seed), 0, ""
    while len(made) < length:
        drawn = str(generator.choice(list("(()))x" if depth > 3 else "(()xx)")))
        made += "(" if drawn == ")" and depth == 0 else drawn
        depth = made.count("(") - made.count(")")
    return made


@pytest.fixture(scope="module")
def counter():
    """The report of the model that counts brackets."""
    model, text = load_model("models/brackets"), bracket_text(600)
    ids = torch.tensor([model.vocabulary.encode(text)])
    depths = np.cumsum([(each == "(") - (each == ")") for each in text])
    labels = ["open" if depth else "balanced" for depth in depths]
    return report_on(model, Query(ids, torch.tensor([len(text)])), Given(tokens=[list(text)], labels=[labels]))


def test_the_counting_unit_of_the_card_comes_first(counter):
    first = counter.found[0]
    assert (first.kind, first.place.unit) == ("counts", 2)
    assert first.figures["step"] == pytest.approx(1, abs=0.01)
    assert first.figures["changes"]["'('"][0] == pytest.approx(1, abs=0.01)
    assert first.figures["changes"]["')'"][0] == pytest.approx(-1, abs=0.01)
    assert "Unit 2 counts" in counter.sentences[0]


def test_the_depth_of_brackets_is_followed_beyond_both_controls(counter):
    follows = [each for each in counter.found if each.kind == "follows"]
    assert follows[0].place.unit == 2
    assert follows[0].figures["r"] > 0.999
    assert follows[0].figures["control"] < 0.9


def test_clamping_breaks_the_depth_and_other_units_do_not(counter):
    shut = next(each for each in counter.trials[counter.found[0].place] if each.edit.to == 0)
    held = next(each for each in counter.trials[counter.found[0].place] if each.edit.to == 1)
    assert shut.changed > 0.5 > shut.usual_changed  # the depth is forgotten at once
    assert held.changed == 0  # it is open as it is
    assert shut.percentile == 100
    assert shut.error == (0, shut.changed)  # all labels were right
    assert held.error == (0, 0)
    assert "share of wrong labels from 0 %" in counter.test_of(counter.found[0].place)


def asked_of_river():
    """All days of all rivers, and the snow of a degree-day model, which the model never sees."""
    rows, _, _ = load()
    snow = snow_water(rows[:, :, 0], rows[:, :, 2:4].mean(axis=2))
    model = load_model("models/river")
    query = Query(torch.from_numpy(rows), torch.tensor([rows.shape[1]] * len(rows)))
    return model, query, Given(series={"snow": snow.tolist()})


@pytest.mark.examples
@pytest.mark.timeout(600)
def test_river_names_the_snow_unit_of_its_card_first():
    told = report_on(*asked_of_river())
    first = next(each for each in told.found if each.kind == "follows")
    assert first.place.unit == 113
    assert first.figures["r"] > 0.85


def test_the_snow_unit_of_river_comes_first():
    model, query, given = asked_of_river()
    answer = model.pipeline.answer(query.evolve(trace=Selection(signals=()).resolve(model.pipeline.spec_of(None))))
    recording = Recording.of(subject_of(model, query, answer.trace, Selection()), "state")
    series = {name: np.concatenate(rows) for name, rows in given.series.items()}
    found = follows(recording, series, Terms(is_read=False, skipped=183, level=LEVEL)).findings
    assert next(each.place.unit for each in found if each.stands_out) == 113


def test_a_unit_of_the_season_comes_behind_one_of_the_series():
    generator, steps = np.random.default_rng(0), 1000
    angle = np.arange(steps) * 2 * np.pi / 250
    parts = []
    for scale in (1.0, 30.0):
        temperature = np.cos(angle) + 0.3 * generator.normal(size=steps)
        held = np.convolve(generator.normal(size=steps + 39), np.full(40, 0.16), "valid")
        series = scale * (1.5 * np.cos(angle) + 0.7 * held)
        season = np.cos(angle) + 0.1 * generator.normal(size=steps)
        unit = generator.uniform(0.5, 5) * (held + 0.3 * np.cos(angle) + 0.3 * generator.normal(size=steps))
        parts.append((np.stack([season, unit], axis=1), series, np.stack([temperature, np.cos(angle)], axis=1)))
    states, series, inputs = (np.concatenate(each) for each in zip(*parts, strict=True))
    plain = np.abs([np.corrcoef(states[steps:, column], series[steps:])[0, 1] for column in (0, 1)])
    assert plain[0] > plain[1]
    beyond = partial(states, series, inputs, [steps, steps], 3)
    assert abs(beyond[0]) < 0.2
    assert beyond[1] > 0.8


def test_partial_correlations_are_those_of_their_definition():
    generator = np.random.default_rng(1)
    inputs, states = generator.normal(size=(200, 2)), generator.normal(size=(200, 3)) + np.arange(200)[:, None] / 50
    series = inputs @ [1.0, 2.0] + states[:, 0] + generator.normal(size=200)
    series[[3, 50]] = np.nan
    beyond = partial(states, series, inputs, [200], 0)
    known = ~np.isnan(series)
    columns = np.column_stack([np.arange(200), inputs])[known]
    both = np.corrcoef(np.column_stack([states[known], series[known], columns]).T)
    precision = np.stack(
        [np.linalg.inv(both[np.ix_(own, own)]) for own in ([column, 3, 4, 5, 6] for column in range(3))]
    )
    expected = -precision[:, 0, 1] / np.sqrt(precision[:, 0, 0] * precision[:, 1, 1])
    assert beyond == pytest.approx(expected, abs=0.01)  # the states' regression has the two unknown steps, too
    assert partial(states[:20], series[:20], inputs[:20], [20], 0) is None


def test_nothing_in_noise_is_said_in_a_sentence():
    torch.manual_seed(0)
    told = gatescope.report(trace(nn.LSTM(3, 16), [torch.randn(300, 3)]))
    assert told.found == []
    assert told.sentences == ["Nothing stands out at the level of 0.01 for the whole report."]
    assert "Nothing stands out" in told.to_html()
    assert all(not each["findings"] or not each["findings"][0]["stands_out"] for each in told.to_dict()["looked_for"])


class Elements(HTMLParser):
    """Every tag, and what is not closed."""

    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "rect", "line", "path"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"rect", "line", "path"}:
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(2, 6, proj_size=3),
        nn.GRU(2, 5, 2, bidirectional=True, batch_first=True),
        nn.RNN(2, 5, nonlinearity="relu", bias=False),
        nn.LSTM(2, 1),
    ],
    ids=["projected", "gru", "rnn", "one unit"],
)
def test_every_cell_and_ragged_batches_have_a_report(module):
    torch.manual_seed(1)
    told = gatescope.report(trace(module, [torch.randn(length, 2) for length in (40, 25, 1)]))
    places = [family.findings[0].place for family in told.families if family.findings]
    assert all(0 <= place.unit < module.hidden_size for place in places)
    assert told.to_html().startswith("<!doctype html>")
    json.dumps(told.to_dict(), allow_nan=False)


def test_the_page_stands_alone_and_escapes_names():
    truth = planted("counts", 0, 0.05)
    about = About(title="<script>alert(1)</script>")
    page = gatescope.report(truth.subject, about=about).to_html()
    elements = Elements()
    elements.feed(page)
    tags = {tag for tag, _ in elements.seen}
    assert elements.open == []
    assert "svg" in tags
    assert not tags & {"script", "img", "link", "iframe"}
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert all("aria-label" in of for tag, of in elements.seen if tag == "svg")


def test_json_has_the_same_without_nan(tmp_path):
    truth = planted("slow", 1, 0.05)
    told = gatescope.report(truth.subject, series={"gaps": [[None, *range(150), *[None] * 149]]})
    told.save(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read["sentences"] == told.sentences
    assert [each["unit"] for each in read["units"]] == [place.unit for place in told.strips]
    assert read["units"][0]["trials"][0]["edit"] == {"signal": "forget_gate", "to": 0.0}
    with pytest.raises(InvalidInput, match=r"\.html or \.json"):
        told.save(tmp_path / "report.pdf")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"series": {"short": [[1.0, 2.0]]}}, "series"),
        ({"classes": [["a"]]}, "classes"),
        ({"targets": [[0.0], [1.0]]}, "targets"),
    ],
)
def test_what_does_not_fit_the_sequences_is_refused(given, place):
    with pytest.raises(InvalidInput) as refused:
        gatescope.report(trace(nn.GRU(2, 3), [torch.randn(30, 2)]), **given)
    assert refused.value.places[0].loc[0] == place


def test_shifted_correlations_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    states, series = generator.normal(size=(50, 3)), generator.normal(size=(2, 50))
    series[0, 7:11] = np.nan
    sums = shifts._Sums.of(states, series, [30, 20])
    found = sums.r(np.array([[4, -3]]))[0]
    for row in range(2):
        for column in range(3):
            left, right, whole = [], [], 0
            for start, length, offset in ((0, 30, 4), (30, 20, -3)):
                own = detrended(states[start : start + length, column], states[:, column])
                other = detrended(series[row, start : start + length], series[row])
                whole += int((~np.isnan(other)).sum())
                for step in range(length):
                    if 0 <= step - offset < length and not np.isnan(other[step - offset]):
                        left.append(own[step])
                        right.append(other[step - offset])
            expected = np.corrcoef(left, right)[0, 1] * np.sqrt(len(left) / whole)
            assert found[row, column] == pytest.approx(expected, abs=1e-9)


def detrended(values, everything):
    """Standardised as the whole is, less its slope over the steps that are known."""
    values = (values - np.nanmean(everything)) / np.nanstd(everything)
    known = np.flatnonzero(~np.isnan(values))
    slope = np.polyfit(known, values[known], 1)[0]
    made = values.copy()
    made[known] -= slope * (known - known.mean())
    return made
