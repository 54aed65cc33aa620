"""The inspector's frame in a real browser: input, overview, one unit over time, saturation, and the address."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SIGNALS = ("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state")
MODELS = ("brackets", "demand", "pos-tagger", "river", "shakespeare")
REFUSED = "Failed to load resource"  # how Chromium reports a reply of 4xx


@pytest.fixture
def traced(shipped):
    """What the API says of a predict body, by default of a shipped model's first example."""

    def trace(model, body=None):
        body = body or shipped.get(f"/v1/models/{model}").json()["examples"][0]["request"]
        return shipped.post(f"/v1/models/{model}/trace", json=body).json()

    return trace


@pytest.fixture
def locked(tmp_path):
    """The address of a server that wants a key and has one model."""
    shutil.copytree(ROOT / "models" / "brackets", tmp_path / "models" / "brackets")
    command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0"]
    environment = os.environ | {"GATESCOPE_API_KEYS": "open sesame"}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
        log = iter(process.stderr)
        url = next(found[1] for line in log if (found := re.search(r'"url": "(http://[\d.:]+)"', line)))
        drain = threading.Thread(target=lambda: [None for _ in log], daemon=True)
        drain.start()
        while httpx.get(f"{url}/health/ready", trust_env=False).status_code != HTTPStatus.OK:
            threading.Event().wait(0.05)
        yield url
        process.terminate()
        process.wait()
        drain.join()


@pytest.mark.parametrize("model", MODELS)
def test_the_overview_holds_every_value_of_the_trace(inspector, traced, model):
    reply = traced(model)
    layer = len(reply["layers"]) - 1
    page = inspector(model=model, layer=layer)
    header, *rows = exported(page, "overview")
    steps = [int(step) for step in header[2:]]
    width = len(reply["units"])
    assert [row[:2] for row in rows] == [[signal, str(unit)] for signal in SIGNALS for unit in range(width)]
    shown = np.array([row[2:] for row in rows], dtype=float).reshape(len(SIGNALS), width, -1)
    for index, signal in enumerate(SIGNALS):
        expected = np.array(reply["signals"][signal][0][layer][0])  # (time, unit)
        assert np.allclose(shown[index].T, binned(expected, steps), atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_one_unit_over_time_shows_the_arithmetic_of_the_cell(inspector, traced, model):
    signals = traced(model)["signals"]
    page = inspector(model=model, unit=1, time=2)
    values = {signal: np.array(signals[signal][0][0][0])[:, 1] for signal in SIGNALS}
    settled(page)
    text = page.locator("#strip .arithmetic").first.inner_text()
    numbers = [float(number.replace("−", "-").strip("()")) for number in re.findall(r"\(?[−\d.e]+\)?(?=[· =]|$)", text.split(" = ", 2)[2])]
    expected = [values["forget_gate"][2], values["cell_state"][1], values["input_gate"][2], values["cell_candidate"][2], values["cell_state"][2]]
    assert numbers == pytest.approx(expected, rel=0.5, abs=0.006)  # three significant digits at least, of the small ones one
    header, *rows = exported(page, "strip")
    assert header == ["time_step", "i", "f", "g", "o", "c", "h"]
    shown = np.array(rows, dtype=float)
    for column, signal in enumerate(SIGNALS, 1):
        assert np.allclose(shown[:, column], binned(values[signal][:, None], shown[:, 0].astype(int))[:, 0], atol=1e-6)


def test_a_press_moves_the_cursor_and_the_unit_in_every_view(inspector, traced):
    reply = traced("brackets")
    page = inspector(model="brackets")
    plot = page.locator("#overview .plot")
    box = plot.bounding_box()
    left, step = 102, (box["width"] - 110) / len(reply["tokens"][0])
    rows = page.locator("#overview .unit-mark").nth(1).bounding_box()  # the forget gate's first unit
    page.mouse.click(box["x"] + left + 4.5 * step, rows["y"] + 2.5 * rows["height"])
    page.locator(".player-place", has_text="time step 4").wait_for()
    page.locator("#overview .reading", has_text="Step 4, unit 2: ").wait_for()
    forget = reply["signals"]["forget_gate"][0][0][0][4][2]
    assert f"f {forget:.2f}" in page.locator("#overview .reading").inner_text()
    assert page.get_by_label("Unit", exact=True).input_value() == "2"
    for view in ("overview", "strip"):
        assert page.locator(f"#{view} .plot").get_attribute("aria-valuenow") == "4"
    assert page.locator("#scatter .plot").get_attribute("aria-valuenow") == "2"


def test_keys_move_the_cursor_the_unit_and_the_visible_time(inspector):
    page = inspector(model="river")
    page.locator("#overview .plot").focus()
    for key, query in (
        ("ArrowRight", "time=1"),
        ("Shift+ArrowRight", "time=11"),
        ("ArrowDown", "unit=1"),
        ("End", "time=637"),
        ("ArrowLeft", "time=636"),
        ("+", "from=319"),
        ("0", ""),
        ("Home", ""),
    ):
        page.keyboard.press(key)
        page.wait_for_function("part => location.search.includes(part)", arg=query)
    page.wait_for_function("location.search === '?model=river&unit=1'")


def test_the_cursor_stays_in_view_when_it_leaves_the_visible_time(inspector):
    page = inspector(model="river", **{"from": 100, "to": 110}, time=109)
    page.locator("#strip .plot").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('from=101') && location.search.includes('to=111')")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("timescale", lambda trace: -np.exp(np.log(trace["forget_gate"]).mean(axis=0))),
        ("variance", lambda trace: -trace["cell_state"].var(axis=0)),
        ("saturation", lambda trace: (trace["forget_gate"] < 0.1).mean(axis=0) - (trace["forget_gate"] > 0.9).mean(axis=0)),
    ],
)
def test_units_are_sorted_by_what_they_did(inspector, traced, sort, expected):
    trace = {signal: np.array(values[0][0][0]) for signal, values in traced("demand")["signals"].items()}
    page = inspector(model="demand", sort=sort)
    order = [int(row[1]) for row in exported(page, "overview")[1:]][:32]
    assert sorted(order) == list(range(32))
    assert np.diff(expected(trace)[order]).min() >= -1e-6


def test_units_that_did_alike_stand_together(inspector, traced):
    cells = np.array(traced("demand")["signals"]["cell_state"][0][0][0])
    page = inspector(model="demand", sort="similarity")
    order = [int(row[1]) for row in exported(page, "overview")[1:]][:32]
    alike = np.corrcoef(cells.T)
    neighbours = alike[order[:-1], order[1:]].mean()
    assert neighbours > alike[np.arange(31), np.arange(1, 32)].mean() + 0.2


def test_the_scatter_has_the_shares_of_time_and_opens_units(inspector, traced):
    signals = traced("shakespeare")["signals"]
    page = inspector(model="shakespeare")
    page.get_by_label("Gate", exact=True).select_option("output_gate")
    page.wait_for_function("location.search.includes('output_gate')")
    header, *rows = exported(page, "scatter")
    assert header == ["layer", "direction", "unit", "left", "right"]
    gates = np.array(signals["output_gate"][0])[:, 0]  # (layer, time, unit)
    assert np.allclose([float(row[3]) for row in rows], (gates < 0.1).mean(axis=1).ravel(), atol=1e-6)
    assert np.allclose([float(row[4]) for row in rows], (gates > 0.9).mean(axis=1).ravel(), atol=1e-6)
    plot = page.locator("#scatter .plot")
    plot.click(position={"x": 200, "y": 250})
    plot.focus()
    page.keyboard.press("End")
    page.wait_for_function("location.search.includes('unit=255')")


@pytest.mark.parametrize("model", MODELS)
def test_a_reload_gives_the_same_view(inspector, model):
    page = inspector(model=model, unit=3, time=2, signal="cell_state", sort="variance", scheme="dark")
    page.wait_for_function("document.querySelector('#overview .reading').textContent.startsWith('Step 2')")
    seen = settled(page)
    page.reload()
    page.wait_for_function("document.querySelector('#overview .reading')?.textContent.startsWith('Step 2')")
    assert settled(page) == seen


class TestInput:
    def test_text_is_edited_in_place_and_stands_in_the_address(self, inspector, traced):
        page = inspector(model="brackets")
        give(page, "((x)")
        page.locator(".player-place", has_text="of 0 to 3").wait_for()
        page.wait_for_function("location.hash.startsWith('#request=')")
        shown = np.array([row[2:] for row in exported(page, "overview")[1:]], dtype=float)
        expected = traced("brackets", {"text": "((x)"})["signals"]
        assert np.allclose(shown[:4].T, expected["input_gate"][0][0][0], atol=1e-6)
        page.goto(page.url)
        page.locator(".player-place", has_text="of 0 to 3").wait_for()
        assert page.get_by_label("Text", exact=True).input_value() == "((x)"
        assert page.get_by_label("Example", exact=True).input_value() == ""

    def test_one_sequence_of_a_batch_is_edited_and_the_others_stay(self, inspector):
        page = inspector(model="pos-tagger", example=2)
        page.get_by_label("Sequence").select_option("1")
        page.wait_for_function("document.querySelector('#values').value === \"It's Mary's dog.\"")
        give(page, "Dogs bark.")
        page.locator(".player-place", has_text="of 0 to 2").wait_for()
        page.wait_for_function("location.hash.startsWith('#request=')")
        hash_ = unquote(urlsplit(page.url).fragment.removeprefix("request="))
        assert json.loads(hash_) == {"text": ["You have to read what they have written.", "Dogs bark."]}

    @pytest.mark.parametrize("kind", ["csv", "semicolons.csv", "json", "request.json", "npy", "fortran.npy", "int.npy"])
    def test_a_file_is_read(self, inspector, traced, tmp_path, kind):
        names = ["demand_mw", "demand_last_week_mw", "demand_last_week_next_mw", "half_hour", "half_hour_of_week"]
        values = np.stack([np.full(7, 30_000), *(np.arange(7) + at for at in (29_000, 29_001, 0, 0))], axis=1).astype(float)
        path = tmp_path / f"values.{kind}"
        written(path, values, names)
        page = inspector(model="demand")
        page.set_input_files("#file", path)
        page.locator(".player-place", has_text="of 0 to 6").wait_for()
        page.wait_for_function("location.hash.startsWith('#request=')")
        shown = np.array([row[2:] for row in exported(page, "overview")[1:]], dtype=float)
        expected = traced("demand", {"inputs": [values.tolist()]})["signals"]["input_gate"]
        assert np.allclose(shown[:32].T, expected[0][0][0], atol=1e-6)

    def test_a_slice_of_it_is_taken(self, inspector):
        page = inspector(model="demand", example=1)
        page.get_by_label("Steps of it").fill("-48:")
        page.get_by_role("button", name="Show the gates").click()
        page.locator(".player-place", has_text="of 0 to 47").wait_for()
        assert len(page.get_by_label("One line for each time step").input_value().splitlines()) == 49

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "There is nothing to read"),
            ("demand_mw, half_hour\n1, 2", "The header has no column 'demand_last_week_mw'"),
            ("1, 2, 3, 4, five", "no column 'demand_mw'"),
            ("1, 2, 3, 4, 5\n1, 2, three, 4, 5", "At line 2, column 3: 'three' is no number."),
            ("[[1, 2, 3", "The input is no valid JSON"),
            ('{"input": 1}', "JSON is read as"),
            ("[[[[1]]]]", "The array has 4 axes"),
        ],
    )
    def test_what_cannot_be_read_is_said_beside_it(self, inspector, text, said):
        page = inspector(model="demand")
        page.get_by_label("One line for each time step").fill(text)
        page.get_by_role("button", name="Show the gates").click()
        page.locator(".wrong", has_text=said).wait_for()

    def test_what_the_model_refuses_is_said_with_its_place_and_changes_nothing(self, inspector):
        page = inspector(model="brackets", expected=(REFUSED,))
        seen = settled(page)
        give(page, "(a)")
        notice = page.get_by_role("alert").filter(has_text="InvalidInput (422)")
        notice.wait_for()
        assert notice.locator("li").inner_text() == "text character 'a' at position 1 is not in the model's vocabulary"
        assert settled(page) == seen
        give(page, "()")
        page.locator(".player-place", has_text="of 0 to 1").wait_for()
        notice.wait_for(state="hidden")


class TestTrouble:
    def test_a_trace_that_the_server_dropped_is_stored_again(self, inspector, shipped):
        page = inspector(model="brackets", expected=(REFUSED,))
        with page.expect_request(re.compile("/values")) as asked:
            page.reload()
        shipped.delete(re.search(r"/v1/traces/\w+", asked.value.url)[0]).raise_for_status()
        page.get_by_label("Show", exact=True).select_option("cell_state")
        page.get_by_label("Show less time").click()
        page.wait_for_function("document.querySelector('#overview .reading').textContent.endsWith('c −0.54')")
        page.locator(".notice").wait_for(state="hidden")

    def test_a_server_that_does_not_answer_is_told_apart_from_an_error(self, inspector):
        page = inspector(model="brackets", expected=(REFUSED,))
        page.route("**/v1/traces", lambda route: route.abort())
        give(page, "()")
        page.locator(".notice", has_text="The server cannot be reached").wait_for()

    def test_a_folder_without_models_is_said(self, inspector):
        page = inspector(model="brackets")
        page.route("**/v1/models", lambda route: route.fulfill(json={"models": []}))
        page.goto(page.url.partition("?")[0])
        page.locator(".notice", has_text="There is no model to look at").wait_for()


def test_a_key_is_asked_for_until_it_fits(inspector, locked):
    page = inspector(url=locked, drawn=False, expected=(REFUSED,))
    page.get_by_label("This server answers only those who have one of its keys").fill("guess")
    page.get_by_role("button", name="Use it").click()
    page.get_by_label("The server does not know this key").fill("open sesame")
    page.get_by_role("button", name="Use it").click()
    page.locator(".player-place", has_text="time step").wait_for()
    page.reload()
    page.locator(".player-place", has_text="time step").wait_for()


def test_the_page_asks_nobody_but_its_own_server(inspector, shipped):
    page = inspector(model="shakespeare", drawn=False)
    asked = page.evaluate("performance.getEntriesByType('resource').map(({name}) => new URL(name).origin)")
    assert set(asked) == {str(shipped.base_url).rstrip("/")}


def test_every_file_may_be_kept_and_is_asked_for_again(shipped):
    first = shipped.get("/inspector/main.js")
    assert first.headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in shipped.get("/").headers["content-security-policy"]
    again = shipped.get("/inspector/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == HTTPStatus.NOT_MODIFIED
    assert shipped.get("/inspector/../main.py").status_code == HTTPStatus.NOT_FOUND


def give(page, text):
    """Type this in place of the input, and have it traced."""
    page.locator("#values").fill(text)
    page.get_by_role("button", name="Show the gates").click()


def exported(page, view):
    """The rows of a view's chart, as it saves them."""
    settled(page)
    page.locator(f"#{view} .export summary").click()
    with page.expect_download() as download:
        page.locator(f"#{view} .export").get_by_role("button", name="CSV").click()
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))


def settled(page):
    """What the page says in words and shows in pictures, once every view has drawn."""
    parts = ("#overview .reading", "#strip .arithmetic", "#scatter .hint")
    page.wait_for_function("parts => parts.every((part) => document.querySelector(part)?.textContent)", arg=parts)
    return page.evaluate("""() => [
        ...[...document.querySelectorAll('main .reading, .arithmetic, .hint, .unit-mark, .cell-where, .player-place')].map((part) => part.textContent + part.style.transform),
        ...[...document.querySelectorAll('main select, main input:not([type=file]), textarea')].map((field) => field.value),
        ...[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL()),
    ]""")


def binned(values, steps):
    """The means of (time, unit) over the spans that begin at these steps."""
    return np.stack([part.mean(axis=0) for part in np.split(values, steps[1:])])


def written(path, values, names):
    """Write a file of the kind that its name says."""
    lines = [["date", *reversed(names)], *(["2026-01-01", *row[::-1]] for row in values.tolist())]
    if path.suffix == ".npy":
        np.save(path, np.asfortranarray(values) if "fortran" in path.name else values.astype("<i8" if "int" in path.name else "<f4"))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"inputs": values.tolist()} if "request" in path.name else values.tolist()))
    else:
        path.write_text("\n".join((";" if "semi" in path.name else ",").join(map(str, line)) for line in lines))
