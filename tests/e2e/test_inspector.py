"""The inspector's frame in a real browser: input, overview, one unit over time, saturation, and the address."""

import re
from http import HTTPStatus

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.bulk import some
from tests.e2e.inspector_page import REFUSED, SIGNALS, binned, exported, give, ordered, seen, settled

MODELS = ("brackets", "demand", "river", "shakespeare", "pos-tagger")


@pytest.mark.random
@pytest.mark.parametrize("model", some(MODELS, 2))
def test_every_chart_holds_the_values_of_the_trace_and_a_reload_shows_the_same(inspector, shipped, traced, model):
    signals = {
        signal: np.array(values[0]) for signal, values in traced(model)["signals"].items()
    }  # (layer, direction, …)
    layer = len(signals["cell_state"]) - 1
    page = inspector(model=model, layer=layer, unit=1, time=2, scheme="dark")

    header, *rows = exported(page, "overview")
    steps, width = [int(step) for step in header[2:]], signals["cell_state"].shape[-1]
    assert [row[:2] for row in rows] == [[signal, str(unit)] for signal in SIGNALS for unit in range(width)]
    shown = np.array([row[2:] for row in rows], dtype=float).reshape(len(SIGNALS), width, -1)
    for index, signal in enumerate(SIGNALS):
        assert np.allclose(shown[index].T, binned(signals[signal][layer, 0], steps), atol=1e-6)

    header, *rows = exported(page, "strip")
    assert header == ["time_step", "i", "f", "g", "o", "c", "h"]
    shown = np.array(rows, dtype=float)
    for column, signal in enumerate(SIGNALS, 1):
        expected = binned(signals[signal][layer, 0, :, 1:2], shown[:, 0].astype(int))[:, 0]
        assert np.allclose(shown[:, column], expected, atol=1e-6)

    unit = {signal: values[layer, 0, :, 1] for signal, values in signals.items()}
    numbers = page.locator("#strip .arithmetic").first.inner_text().split(" = ", 1)[1]
    read = [
        float(number.replace("−", "-")) for number in re.findall(r"−?\d[\d.]*(?:e−\d+)?", numbers.split(" = ", 1)[1])
    ]
    forget, before, gate, candidate, cell = read
    expected = [unit["forget_gate"][2], unit["cell_state"][1], unit["input_gate"][2], unit["cell_candidate"][2]]
    assert [forget, before, gate, candidate, cell] == pytest.approx(
        [*expected, unit["cell_state"][2]], rel=0.5, abs=0.006
    )

    before = seen(page)
    page.reload()
    assert seen(page) == before
    asked = page.evaluate("performance.getEntriesByType('resource').map(({name}) => new URL(name).origin)")
    assert set(asked) == {str(shipped.base_url).rstrip("/")}


def test_a_press_moves_the_cursor_and_the_unit_in_every_view(inspector, traced):
    reply = traced("brackets")
    page = inspector(model="brackets")
    box = page.locator("#overview .plot").bounding_box()
    left, step = 102, (box["width"] - 110) / len(reply["tokens"][0])
    first = page.locator("#overview .unit-mark").nth(1).bounding_box()  # the forget gate's unit 0
    page.mouse.click(box["x"] + left + 4.5 * step, first["y"] + 2.5 * first["height"])
    forget = reply["signals"]["forget_gate"][0][0][0][4][2]
    expect(page.locator("#overview .reading")).to_contain_text("Step 4, unit 2: ")
    expect(page.locator("#overview .reading")).to_contain_text(f"f {forget:.6f}")  # not 1.00, which it is not
    expect(page.locator(".player-place")).to_contain_text("time step 4")
    expect(page.get_by_role("spinbutton", name="Unit", exact=True)).to_have_value("2")
    for view, now in (("overview", "4"), ("strip", "4"), ("scatter", "2")):
        expect(page.locator(f"#{view} .plot")).to_have_attribute("aria-valuenow", now)


def test_keys_move_the_cursor_the_unit_and_the_visible_time(inspector):
    page = inspector(model="river")
    page.locator("#overview .plot").focus()
    for key, query in (
        ("ArrowRight", "time=1"),
        ("Shift+ArrowRight", "time=11"),
        ("ArrowDown", "unit=1"),
        ("End", "time=637"),
        ("+", "from=319"),
        ("ArrowLeft", "time=636"),
        ("Home", r"from=0&to=319|to=319(?!.*time)"),  # what is visible follows the cursor
        ("0", r"\?model=river&unit=1$"),
    ):
        page.keyboard.press(key)
        expect(page).to_have_url(re.compile(query))


def test_up_and_down_go_to_the_row_above_and_below_in_the_order_shown(inspector):
    page = inspector(model="demand")
    order = ordered(page, "variance")
    assert order != sorted(order)
    unit = page.get_by_role("spinbutton", name="Unit", exact=True)
    unit.fill(str(order[3]))
    unit.press("Enter")
    for view in ("overview", "strip"):
        page.locator(f"#{view} .plot").focus()
        for key, place in (("ArrowDown", 4), ("ArrowDown", 5), ("ArrowUp", 4), ("Shift+ArrowDown", 14)):
            page.keyboard.press(key)
            expect(unit).to_have_value(str(order[place]))
        mark = page.locator("#overview .unit-mark").first
        above = page.locator("#overview canvas").bounding_box()
        assert mark.bounding_box()["y"] > above["y"]
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("ArrowUp")
        expect(unit).to_have_value(str(order[3]))
    page.get_by_role("button", name="Forget gate").focus()
    page.keyboard.press("ArrowDown")
    expect(unit).to_have_value(str(order[4]))
    page.locator("#overview .plot").focus()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowDown")
    expect(unit).to_have_value(str(order[-1]))
    page.keyboard.press("ArrowDown")
    expect(unit).to_have_value(str(order[-1]))


@pytest.mark.parametrize("width", [1440, 390])
def test_number_fields_show_six_digits_whole(inspector, width):
    page = inspector(model="demand", width=width)
    fields = page.locator("input[type=number]")
    assert fields.count() == 4  # unit, from, to, further steps
    for field in fields.all():
        clipped = field.evaluate(
            "(field) => { field.value = 100000; return field.scrollWidth > field.clientWidth + 1; }"
        )
        assert not clipped
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_units_are_sorted_by_what_they_did(inspector, traced):
    trace = {signal: np.array(values[0][0][0]) for signal, values in traced("demand")["signals"].items()}
    forget, cell = trace["forget_gate"], trace["cell_state"]
    descending = {
        "timescale": np.exp(np.log(forget).mean(axis=0)),
        "variance": cell.var(axis=0),
        "saturation": (forget > 0.9).mean(axis=0) - (forget < 0.1).mean(axis=0),
    }
    page = inspector(model="demand")
    for sort, values in descending.items():
        order = ordered(page, sort)
        assert sorted(order) == list(range(32))
        assert np.diff(values[order]).max() <= 1e-6
    alike = np.corrcoef(cell.T)
    order = ordered(page, "similarity")
    assert alike[order[:-1], order[1:]].mean() > alike[np.arange(31), np.arange(1, 32)].mean() + 0.2


def test_the_scatter_has_the_shares_of_time_and_opens_units(inspector, traced):
    gates = np.array(traced("pos-tagger")["signals"]["output_gate"][0])[0]  # (direction, time, unit)
    page = inspector(model="pos-tagger")
    page.get_by_role("combobox", name="Gate", exact=True).select_option("output_gate")
    expect(page.locator("#scatter .hint")).to_contain_text("output gate")
    header, *rows = exported(page, "scatter")
    assert header == ["layer", "direction", "unit", "left", "right"]
    assert np.allclose([float(row[3]) for row in rows], (gates < 0.1).mean(axis=1).ravel(), atol=1e-6)
    assert np.allclose([float(row[4]) for row in rows], (gates > 0.9).mean(axis=1).ravel(), atol=1e-6)
    page.locator("#scatter .plot").focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("unit=159"))


class TestTrouble:
    def test_a_trace_that_the_server_dropped_is_stored_again(self, tab, inspector, shipped):
        with tab.expect_request(re.compile("/values")) as asked:
            page = inspector(model="brackets", expected=(REFUSED,))
        settled(page)
        shipped.delete(re.search(r"/v1/traces/[\w-]+", asked.value.url)[0]).raise_for_status()
        page.get_by_role("combobox", name="Show", exact=True).select_option("cell_state")
        page.get_by_role("button", name="Show less time").click()
        expect(page).to_have_url(re.compile("to=6"))
        assert exported(page, "overview")[0] == ["signal", "unit", *"012345"]
        expect(page.locator(".notice")).to_be_hidden()

    def test_a_server_that_is_gone_or_empty_is_said(self, inspector):
        page = inspector(model="brackets", expected=(REFUSED,))
        page.route("**/v1/traces", lambda route: route.abort())
        give(page, "()")
        expect(page.locator(".notice")).to_contain_text("The server cannot be reached")
        page.route("**/v1/models", lambda route: route.fulfill(json={"models": []}))
        page.goto(page.url.partition("?")[0])
        expect(page.locator(".notice")).to_contain_text("There is no model to look at")


def test_a_key_is_asked_for_until_it_fits(inspector):
    def locked(route):
        if route.request.headers.get("x-api-key") == "open sesame":
            route.continue_()
        else:
            route.fulfill(status=HTTPStatus.UNAUTHORIZED, json={"title": "Unauthorized", "status": 401})

    page = inspector(model="brackets", expected=(REFUSED,))
    page.route("**/v1/**", locked)
    page.reload()
    page.get_by_label("This server answers only those who have one of its keys").fill("guess")
    page.get_by_role("button", name="Use it").click()
    page.get_by_label("The server does not know this key").fill("open sesame")
    page.get_by_role("button", name="Use it").click()
    settled(page)
    page.reload()
    settled(page)
    expect(page.locator(".notice")).to_be_hidden()
