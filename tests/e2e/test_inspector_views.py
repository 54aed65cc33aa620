"""The inspector's cell, text, prediction and sharing, in a real browser: what stands there is what the API answers."""

import csv
import io
import json
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

SIGNALS = {
    "i": "input_gate",
    "f": "forget_gate",
    "g": "cell_candidate",
    "o": "output_gate",
    "c": "cell_state",
    "h": "hidden_state",
}
MODELS = ["brackets", "demand", "pos-tagger", "river", "shakespeare"]
LEAST_PNG = 1000  # bytes; an empty picture has fewer


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def inspector(chromium, shipped):
    opened, said = [], []

    def open_(width=1440, scheme="light", **view):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"])
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{shipped.base_url}/?{'&'.join(f'{k}={v}' for k, v in view.items())}")
        page.locator(".player-place", has_text="time step").wait_for()
        return page

    yield open_
    for context in opened:
        context.close()
    assert said == []


@pytest.fixture
def asked(shipped):
    """What the API says of a shipped model's first example: the request, and its trace."""

    def ask(model: str, example: int = 0, **fields) -> tuple[dict, dict]:
        request = shipped.get(f"/v1/models/{model}").json()["examples"][example]["request"]
        return request, shipped.post(f"/v1/models/{model}/trace", json=request | fields).json()

    return ask


@pytest.mark.parametrize("model", MODELS)
def test_the_cell_has_the_numbers_of_the_trace(inspector, asked, model):
    _, reply = asked(model)
    page = inspector(model=model, layer=len(reply["layers"]) - 1, unit=3, time=2)
    shown = {name: number(page.locator(f".cell-diagram .gate-{name} .value").text_content()) for name in "ifgo"}
    for name, value in shown.items():
        assert value == pytest.approx(at(reply, name, 2, 3, layer=-1), abs=0.006)
    assert page.locator(".cell-diagram").get_attribute("aria-label").startswith("The LSTM cell at step 2")


def test_arrow_keys_walk_the_cell_through_time_and_units(inspector, asked):
    _, reply = asked("brackets")
    page = inspector(model="brackets", unit=1, time=4)
    page.locator(".cell-part").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    cell(page, "time step 5")
    for name in "ifgo":
        assert number(page.locator(f".gate-{name} .value").text_content()) == pytest.approx(at(reply, name, 5, 0), abs=0.006)
    page.keyboard.press("End")
    cell(page, "time step 10")
    page.keyboard.press("Home")
    cell(page, "time step 0")


def test_play_walks_to_the_last_step_and_stops(inspector):
    page = inspector(model="pos-tagger", time=0)
    page.get_by_label("Speed").select_option("25")
    page.get_by_role("button", name="Play").click()
    cell(page, "time step 2")
    page.get_by_role("button", name="Play").wait_for()


@pytest.mark.parametrize("model", ["river", "shakespeare"])
def test_a_pressed_gate_tells_its_formula_and_its_largest_contributors(inspector, asked, shipped, model):
    request, _ = asked(model)
    point = {"layer": 0, "direction": "forward", "time_step": 5, "unit": 2}
    explained = shipped.post(f"/v1/models/{model}/explain", json=request | point).json()
    page = inspector(model=model, unit=2, time=5)
    page.get_by_role("button", name="Forget gate").click()
    page.locator(".cell-detail .formula.numbers").wait_for()
    gate = explained["gates"]["forget_gate"]
    assert page.locator(".formula.numbers").inner_text().replace("σ", "sigmoid").endswith(gate["formula"])
    table = page.locator(".terms", has_text="Largest inputs")
    names = table.locator("tbody th").all_inner_texts()
    assert names == [term["name"] for term in gate["largest_inputs"][:5]]
    values = [number(text) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert values == pytest.approx([term["contribution"] for term in gate["largest_inputs"][:5]], rel=0.006)


def test_both_readings_of_a_bidirectional_model_are_spliced_in_input_time(inspector, asked):
    _, reply = asked("pos-tagger")
    page = inspector(model="pos-tagger", direction="reverse", unit=7, time=0)
    shown = [number(text) for text in page.locator(".lane-value").all_text_contents()]
    expected = [at(reply, "h", time, 7, direction=direction) for direction in (0, 1) for time in range(3)]
    assert shown == pytest.approx(expected, abs=0.006)
    before = page.locator(".cell-diagram text.name", has_text="ct+1")
    assert before.count() == 1  # the reverse direction comes from the step after


def test_the_text_is_coloured_by_the_cell_with_the_likeliest_next_tokens_beneath(inspector, asked):
    _, reply = asked("shakespeare", 1)
    page = inspector(model="shakespeare", example=1, unit=9, layer=1)
    tokens = page.locator("#text .token")
    assert tokens.count() == reply["sequence_lengths"][0]
    for time in (0, 20):
        value = at(reply, "c", time, 9, layer=1)
        assert f"tanh(c) = {written(math.tanh(value))}" in tokens.nth(time).get_attribute("title")
        best = np.argsort(reply["prediction"]["probabilities"][0][time])[::-1][:5]
        vocabulary = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        assert tokens.nth(time).locator(".guess").all_inner_texts() == [visible(vocabulary[index]) for index in best]
    tokens.nth(20).click()
    cell(page, "time step 20")


def test_a_forecast_is_drawn_where_it_was_run_on(inspector, asked):
    _, reply = asked("demand")
    page = inspector(model="demand", time=336 + 10)
    said = page.locator(".curve-reading").inner_text()
    assert number(said.split()[-1].replace(",", "")) == pytest.approx(reply["prediction"]["values"][0][10][0], abs=0.51)
    page.locator(".curve-slider").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.curve-reading').textContent.startsWith('Step 347')")


def test_tags_stand_under_the_words_and_probabilities_beside(inspector, asked):
    _, reply = asked("pos-tagger", 1)
    page = inspector(model="pos-tagger", example=1, time=3)
    assert page.locator(".tag .label").all_inner_texts() == reply["prediction"]["labels"][0]
    assert page.locator(".tag .word").all_inner_texts() == reply["tokens"][0]
    shown = number(page.locator(".classes tbody td").first.inner_text().rstrip("%")) / 100
    assert shown == pytest.approx(max(reply["prediction"]["probabilities"][0][3]), abs=0.001)


def test_text_that_was_written_on_stands_behind_what_was_given(inspector, asked):
    request, reply = asked("shakespeare")
    page = inspector(model="shakespeare", time=30)
    assert page.locator(".written").text_content() == request["text"] + reply["prediction"]["text"][0]


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_copied_request_runs_and_gives_what_the_page_shows(inspector, asked, tmp_path, language):
    _, reply = asked("demand")
    page = inspector(model="demand", unit=5)
    page.get_by_role("button", name=f"Copy as {language}").click()
    page.get_by_text(f"Copied as {language}.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    if language == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    script = tmp_path / "request"
    script.write_text(copied, encoding="utf-8")
    interpreter = "sh" if language == "curl" else sys.executable
    output = subprocess.run([interpreter, script], capture_output=True, text=True, check=True).stdout
    if language == "curl":
        values = json.loads(output)["signals"]["forget_gate"][0][0][0]
        assert [step[0] for step in values] == [step[5] for step in reply["signals"]["forget_gate"][0][0][0]]
    else:
        values = next(line for line in output.splitlines() if line.startswith("forget_gate"))
        assert json.loads(values.removeprefix("forget_gate ")) == [step[5] for step in reply["signals"]["forget_gate"][0][0][0]]


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
    assert [np.float32(row[2]) for row in rows[1:]] == [np.float32(step[4]) for step in reply["signals"]["cell_state"][0][0][0]]
    told = json.loads(saved(page, "cell", "JSON"))
    assert dict(told["rows"])["f"] == pytest.approx(at(reply, "f", 6, 4))
    assert told["model"] == reply["model"]
    assert told["link"] == page.url


def test_the_link_opens_the_same_view(inspector):
    page = inspector(model="shakespeare", example=1, layer=1, unit=30, time=12)
    page.get_by_role("button", name="Output gate").click()
    page.locator(".cell-detail .formula.numbers").wait_for()
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied link.").wait_for()
    seen = page.locator("#cell").inner_text()
    page.goto(page.evaluate("navigator.clipboard.readText()"))
    page.locator(".cell-detail .formula.numbers").wait_for()
    assert page.locator("#cell").inner_text() == seen


@pytest.mark.parametrize(
    ("model", "scheme", "width"),
    [("demand", "dark", 1440), ("pos-tagger", "light", 390), ("river", "light", 1440), ("shakespeare", "dark", 390)],
)
def test_the_page_is_accessible_and_fits_its_width(inspector, model, scheme, width):
    page = inspector(model=model, part="f", time=1, unit=2, width=width, scheme=scheme)
    page.locator(".cell-detail .formula.numbers").wait_for()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def cell(page, place: str) -> None:
    """Wait until the cell is there."""
    page.locator(".player-place", has_text=place).wait_for()


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
    """A number as the page writes it in little room, down to a thousandth."""
    return f"{value:.{3 if abs(value) < 0.1 else 2}f}".replace("-", "−")


def visible(token: str) -> str:
    return token.replace("\n", "⏎").replace(" ", "␣")
