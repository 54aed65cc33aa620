"""The inspector's cell, text, prediction and sharing, in a real browser: what stands there is what the API answers."""

import csv
import io
import json
import math
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe

from gatescope.server.main import create_app
from gatescope.server.settings import Settings

pytestmark = pytest.mark.inspector

SIGNALS = {
    "i": "input_gate",
    "f": "forget_gate",
    "g": "cell_candidate",
    "o": "output_gate",
    "c": "cell_state",
    "h": "hidden_state",
}
MODELS = ["brackets", "demand", "pos-tagger", "river", "shakespeare"]
BARE = """
description = "an LSTM alone"
[input]
kind = "features"
features = [{ name = "a" }, { name = "b" }, { name = "c" }]

[[examples]]
title = "two steps"
file = "example.json"
"""
STEPS = [[[1, 2, 3], [4, 5, 6]]]
LEAST_PNG = 1000  # bytes; an empty picture has fewer


@pytest.fixture
def asked(shipped):
    """What the API says of a shipped model's first example: the request, and its trace."""

    def ask(model: str, example: int = 0, **fields) -> tuple[dict, dict]:
        request = shipped.get(f"/v1/models/{model}").json()["examples"][example]["request"]
        return request, shipped.post(f"/v1/models/{model}/trace", json=request | fields).json()

    return ask


@pytest.fixture
def bare(model_folder):
    """A client of a server whose one model is projected, reads both ways and has no head."""
    folder = model_folder("bare", BARE, hidden_size=6, head=None, num_layers=2, bidirectional=True, proj_size=2)
    (folder.path / "example.json").write_text(json.dumps({"inputs": STEPS}), encoding="utf-8")
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Settings(models_dir=folder.models_dir, watch=False))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
        while client.get("/health/ready").status_code != HTTPStatus.OK:
            threading.Event().wait(0.02)
        yield client
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("model", MODELS)
def test_the_cell_has_the_numbers_of_the_trace_step_by_step_and_explains_them(inspector, asked, shipped, model):
    request, reply = asked(model)
    layer = len(reply["layers"]) - 1
    page = inspector(model=model, layer=layer, unit=3, time=1)
    page.get_by_role("button", name="Forget gate").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    place(page, 2)
    page.keyboard.press("Enter")
    page.locator(".cell-detail .formula.numbers").wait_for()
    assert "at step 2" in page.locator(".cell-diagram").get_attribute("aria-label")
    for name in "ifgo":
        shown = number(page.locator(f".cell-diagram .gate-{name} .value").text_content())
        assert shown == pytest.approx(at(reply, name, 2, 2, layer=layer), abs=0.006)
    point = {"layer": layer, "direction": "forward", "time_step": 2, "unit": 2}
    gate = shipped.post(f"/v1/models/{model}/explain", json=request | point).json()["gates"]["forget_gate"]
    assert page.locator(".formula.numbers").inner_text().replace("σ", "sigmoid").endswith(gate["formula"])
    for kind, terms in (("inputs", gate["largest_inputs"]), ("recurrent", gate["largest_recurrent"])):
        table = page.locator(".terms", has_text=f"Largest {kind}")
        assert table.locator("tbody th").all_inner_texts() == [term["name"] for term in terms[:5]]
        values = [number(text) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]
        assert values == pytest.approx([term["contribution"] for term in terms[:5]], rel=0.006)


@pytest.mark.parametrize("part", "ifgo")
def test_an_equation_its_numbers_and_its_table_have_their_terms_in_one_order(inspector, asked, shipped, part):
    request, _ = asked("brackets")
    page = inspector(model="brackets", unit=3, time=2, part=part)
    page.locator(".cell-detail .formula.numbers").wait_for()
    point = {"layer": 0, "time_step": 2, "unit": 3}
    gate = shipped.post("/v1/models/brackets/explain", json=request | point).json()["gates"][SIGNALS[part]]
    names = {
        "input_contribution": f"Wi{part} xt",
        "recurrent_contribution": f"Wh{part} ht−1",
        "bias_input": f"bi{part}",
        "bias_recurrent": f"bh{part}",
    }
    assert list(gate["terms"]) == list(names)
    equation = page.locator(".formula.structure").inner_text()
    assert re.search(r"\((.*)\)", equation)[1].split(" + ") == list(names.values())
    numbers = re.search(r"\((.*)\)", page.locator(".formula.numbers").inner_text())[1]
    assert [number(term) for term in re.sub(r" ([+−]) ", r" \1", numbers).replace("+", "").split()] == pytest.approx(
        list(gate["terms"].values()), rel=1e-3
    )
    table = page.locator(".terms", has_text="What is summed")
    assert table.locator("tbody th").all_inner_texts() == [*names.values(), "sum"]
    values = [number(text) for text in table.locator("td span:not(.bar)").all_inner_texts()]
    assert values == pytest.approx([*gate["terms"].values(), gate["sum"]], rel=1e-3)


def test_the_equations_of_the_states_have_the_terms_of_the_reply(inspector, asked, shipped):
    request, _ = asked("brackets")
    page = inspector(model="brackets", unit=3, time=2, part="c")
    page.locator(".cell-detail .formula.numbers").wait_for()
    point = {"layer": 0, "time_step": 2, "unit": 3}
    update = shipped.post("/v1/models/brackets/explain", json=request | point).json()["cell_update"]
    assert page.locator(".formula.structure").inner_text() == "ct = ft·ct−1 + it·gt"
    assert page.locator(".formula.numbers").inner_text() == f"ct = {update['formula']}"
    table = page.locator(".terms", has_text="The terms")
    assert table.locator("tbody th").all_inner_texts() == ["ft·ct−1", "it·gt", "ct"]
    values = [number(text) for text in table.locator("td span:not(.bar)").all_inner_texts()]
    assert values == pytest.approx([update["kept"], update["written"], update["cell_state"]], rel=1e-3)
    page.get_by_role("button", name="Hidden state").click()
    page.locator(".formula.structure", has_text="ht = ot·tanh(ct)").wait_for()


def test_no_number_is_written_as_a_bound_that_it_does_not_reach(inspector, asked):
    _, reply = asked("brackets")
    gates = np.array(reply["signals"]["forget_gate"])[0, 0, 0]  # (time, unit)
    time, unit = np.unravel_index(np.where(gates < 1, gates, 0).argmax(), gates.shape)
    value = float(gates[time, unit])
    assert 0.999 < value < 1
    page = inspector(model="brackets", unit=int(unit), time=int(time), part="f")
    page.locator(".cell-detail .formula.numbers").wait_for()
    decimals = math.ceil(-math.log10(1 - value))
    shown = page.locator(".cell-diagram .gate-f .value")
    assert shown.text_content() == f"{value:.{decimals}f}"
    box, frame = shown.bounding_box(), page.locator(".cell-diagram .gate-f .gate-box").bounding_box()
    assert box["x"] + box["width"] <= frame["x"] + frame["width"]
    assert not page.locator(".formula.numbers").inner_text().endswith("= 1")
    assert f"f {value:.{decimals}f}" in page.locator("#overview .reading").inner_text()
    assert page.evaluate(WRITTEN, [[0.9999942, -0.9999942, 0.996, 1.0, -1.0, 0.0], "short"]) == [
        *("0.999994", "−0.999994", "0.996", "1.00", "−1.00", "0")
    ]
    assert page.evaluate(WRITTEN, [[0.9999942, -0.9999942, 0.99996, 0.9, 1.0, -1.0, 0.0], "precise"]) == [
        *("0.999994", "−0.999994", "0.99996", "0.9", "1", "−1", "0")
    ]
    assert page.evaluate(WRITTEN, [[0.9999942, 0.9996, 0.996, 1.0, 0.0, 3e-9], "percent"]) == [
        *(">99.99%", "99.96%", "99.6%", "100.0%", "0.0%", "<0.01%")
    ]


WRITTEN = """async ([values, write]) => {
    const numbers = await import('/inspector/number.js');
    return values.map((value) => numbers[write](value));
}"""


SWAPPED = [
    {"name": "output_gate", "symbol": "z", "low": 0, "high": 1, "description": "the only gate here"},
    {"name": "hidden_state", "symbol": "h", "low": None, "high": None, "description": "the only state here"},
]


def test_the_views_take_the_cell_and_its_signals_from_the_service(inspector, tab, asked):
    def described(route):
        info = route.fetch().json()
        for module in (info, *info["modules"]):
            module.update(cell="other", signals=SWAPPED)
        route.fulfill(json=info)

    tab.route("**/v1/models/brackets", described)
    _, reply = asked("brackets")
    page = inspector(model="brackets", unit=3, time=2)
    page.locator("#overview .reading", has_text="Step 2, unit 3").wait_for()
    assert page.locator("#overview .toolbar label", has_text="Show").locator("option").all_inner_texts() == [
        "all signals",
        "output gate",
        "hidden state",
    ]
    sorts = page.locator("#overview .toolbar label", has_text="Units by").locator("option").all_inner_texts()
    assert sorts == ["number", "variance", "similarity"]  # the others need a forget gate
    assert re.fullmatch(r"Step 2, unit 3: z [−\d.]+, h [−\d.]+", page.locator("#overview .reading").inner_text())
    hidden = np.array(reply["signals"]["hidden_state"][0][0][0])
    legend = page.locator("#overview .legend > span").nth(1)
    reach = np.abs(hidden).max()
    assert legend.inner_text().split() == ["h", f"−{reach:.3g}", f"{reach:.3g}"]
    assert legend.get_attribute("title") == "hidden state: the only state here"
    assert re.fullmatch(r"z = [−\d.]+, h = [−\d.]+", page.locator("#strip .arithmetic").first.inner_text())
    assert page.locator("#scatter select option").all_inner_texts() == ["output gate"]
    assert not page.locator(".cell-diagram").is_visible()
    assert not page.get_by_role("button", name="Forget gate").is_visible()
    assert f"h = {written(hidden[2][3])}, tanh(h)" in page.locator("#text .token").nth(2).get_attribute("title")


def test_colours_without_a_range_cover_all_but_a_few_units_and_the_legend_says_so(inspector, asked):
    _, reply = asked("river")
    cell = np.abs(np.array(reply["signals"]["cell_state"][0][0][0])).max(axis=0)
    reach = np.sort(cell)[math.ceil(0.95 * (len(cell) - 1))]
    assert reach < cell.max()
    page = inspector(model="river")
    legend = page.locator("#overview .legend > span").nth(2)
    assert legend.inner_text().split() == ["c", "≤", f"−{reach:.3g}", "≥", f"{reach:.3g}"]


def test_play_walks_to_the_last_step_and_stops(inspector):
    page = inspector(model="pos-tagger", time=0)
    page.get_by_label("Speed").select_option("25")
    page.get_by_role("button", name="Play").click()
    place(page, 2)
    page.get_by_role("button", name="Play").wait_for()


def test_both_readings_of_a_bidirectional_model_are_spliced_in_input_time(inspector, asked):
    _, reply = asked("pos-tagger")
    page = inspector(model="pos-tagger", direction="reverse", unit=7, time=0)
    shown = [number(text) for text in page.locator(".lane-value").all_text_contents()]
    expected = [at(reply, "h", time, 7, direction=direction) for direction in (0, 1) for time in range(3)]
    assert shown == pytest.approx(expected, abs=0.006)
    before = page.locator(".cell-diagram text.name", has_text="ct+1")
    assert before.count() == 1  # the reverse direction comes from the step after


def test_the_text_is_coloured_by_the_cell_with_the_likeliest_next_tokens_beneath(inspector, asked, shipped):
    vocabulary = shipped.get("/v1/models/shakespeare").json()["output"]["labels"]
    _, reply = asked("shakespeare", 1)
    page = inspector(model="shakespeare", example=1, unit=9, layer=1)
    tokens = page.locator("#text .token")
    assert tokens.count() == reply["sequence_lengths"][0]
    for time in (0, 20):
        value = at(reply, "c", time, 9, layer=1)
        assert f"tanh(c) = {written(math.tanh(value))}" in tokens.nth(time).get_attribute("title")
        best = np.argsort(reply["prediction"]["probabilities"][0][time])[::-1][:5]
        assert tokens.nth(time).locator(".guess").all_inner_texts() == [visible(vocabulary[index]) for index in best]
    tokens.nth(20).click()
    place(page, 20)


def test_a_forecast_is_drawn_where_it_was_run_on(inspector, asked):
    _, reply = asked("demand")
    page = inspector(model="demand", time=336 + 10)
    said = page.locator(".curve-reading").inner_text()
    assert number(said.split()[-1].replace(",", "")) == pytest.approx(reply["prediction"]["values"][0][10][0], abs=0.51)
    page.locator(".curve-slider").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.curve-reading').textContent.startsWith('Step 347')")


def test_tags_stand_under_the_words_and_probabilities_beside(inspector, asked):
    _, reply = asked("pos-tagger", 1)
    page = inspector(model="pos-tagger", example=1, time=3)
    assert page.locator(".tag .label").all_inner_texts() == reply["prediction"]["labels"][0]
    assert page.locator(".tag .word").all_inner_texts() == reply["tokens"][0]
    shown = number(page.locator(".classes tbody td").first.inner_text().strip("%>")) / 100
    assert shown == pytest.approx(max(reply["prediction"]["probabilities"][0][3]), abs=0.001)


def test_text_that_was_written_on_stands_behind_what_was_given(inspector, asked):
    request, reply = asked("shakespeare")
    page = inspector(model="shakespeare", time=30)
    assert page.locator(".written").text_content() == request["text"] + reply["prediction"]["text"][0]


def test_the_copied_request_runs_and_gives_what_the_page_shows(inspector, asked, tmp_path):
    expected = [step[5] for step in asked("demand")[1]["signals"]["forget_gate"][0][0][0]]
    page = inspector(model="demand", unit=5)
    told = ran(tmp_path, sys.executable, copied(page, "as Python"))
    line = next(line for line in told.splitlines() if line.startswith("forget_gate"))
    assert json.loads(line.removeprefix("forget_gate ")) == expected
    if shutil.which("curl"):
        reply = json.loads(ran(tmp_path, "sh", copied(page, "as curl")))
        assert [step[0] for step in reply["signals"]["forget_gate"][0][0][0]] == expected


def test_every_chart_is_saved_as_a_picture_and_as_its_data(inspector, asked):
    _, reply = asked("shakespeare", 1)
    page = inspector(model="shakespeare", example=1, unit=4, time=6)
    for view in ("cell", "prediction", "text"):
        picture = saved(page, view, "PNG")
        assert picture.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", picture[16:24])
        assert min(width, height) > 0
        assert len(picture) > LEAST_PNG
    rows = list(csv.reader(io.StringIO(saved(page, "text", "CSV").decode(), newline="")))
    assert rows[0] == ["time_step", "token", "cell_state", "tanh(cell_state)"]
    assert [row[1] for row in rows[1:]] == reply["tokens"][0]
    assert [np.float32(row[2]) for row in rows[1:]] == [
        np.float32(step[4]) for step in reply["signals"]["cell_state"][0][0][0]
    ]
    told = json.loads(saved(page, "cell", "JSON"))
    assert dict(told["rows"])["f"] == pytest.approx(at(reply, "f", 6, 4))
    assert told["model"] == reply["model"]
    assert told["link"] == page.url


def test_the_link_opens_the_same_view(inspector):
    page = inspector(model="shakespeare", example=1, layer=1, unit=30, time=12)
    page.get_by_role("button", name="Output gate").click()
    page.locator(".cell-detail .formula.numbers").wait_for()
    seen = page.locator("#cell").inner_text()
    page.goto(copied(page, "link"))
    page.locator(".cell-detail .formula.numbers").wait_for()
    assert page.locator("#cell").inner_text() == seen


def test_a_projection_and_a_missing_head_are_said(inspector, bare):
    page = inspector(url=str(bare.base_url), layer=1, unit=4, time=1, part="h")
    page.locator(".cell-detail .formula.numbers").wait_for()
    body = {"inputs": STEPS, "layer": 1, "time_step": 1, "unit": 4}
    update = bare.post("/v1/models/bare/explain", json=body).json()["hidden_update"]
    assert page.locator(".formula.numbers").inner_text().endswith(update["formula"])
    shown = page.locator(".cell-diagram g", has_text="o·tanh(c)").locator(".value").text_content()
    assert number(shown) == pytest.approx(update["unprojected_hidden_state"], abs=0.006)
    assert "2 forward units, then 2 reverse units" in page.locator(".splice-words").inner_text()
    assert page.locator("#prediction .none").inner_text() == "This model has no head: it predicts nothing."


@pytest.mark.parametrize(
    ("model", "scheme", "width"),
    [("demand", "light", 1440), ("pos-tagger", "light", 390), ("shakespeare", "dark", 390)],
)
def test_the_page_is_accessible_and_fits_its_width(inspector, model, scheme, width):
    page = inspector(model=model, example=1, part="f", time=1, unit=2, width=width, scheme=scheme)
    page.locator(".cell-detail .formula.numbers").wait_for()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def place(page, time: int) -> None:
    """Wait until the cell shows this step."""
    page.locator(".player-place", has_text=f"time step {time},").wait_for()


def copied(page, what: str) -> str:
    page.get_by_role("button", name=f"Copy {what}").click()
    page.get_by_text(f"Copied {what}.").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


def ran(folder: Path, interpreter: str, script: str) -> str:
    (folder / "script").write_text(script, encoding="utf-8")
    return subprocess.run([interpreter, folder / "script"], capture_output=True, text=True, check=True).stdout


def saved(page, view: str, kind: str) -> bytes:
    page.locator(f"#{view} .export summary").click()
    with page.expect_download() as download:
        page.locator(f"#{view} .export").get_by_role("button", name=kind).click()
    return Path(download.value.path()).read_bytes()


def at(reply: dict, name: str, time: int, unit: int, layer: int = 0, direction: int = 0) -> float:
    return reply["signals"][SIGNALS[name]][0][layer][direction][time][unit]


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def written(value: float) -> str:
    """A number as the page writes it in little room, down to a thousandth; never as a bound that it does not reach."""
    text = f"{value:.{3 if abs(value) < 0.1 else 2}f}"
    if text in ("1.00", "-1.00"):
        text = f"{value:.{math.ceil(-math.log10(1 - abs(value)))}f}"
    return text.replace("-", "−")


def visible(token: str) -> str:
    return token.replace("\n", "⏎").replace(" ", "␣")
