"""The inspector's frame in a real browser: input, overview, one unit over time, saturation, and the address."""

import csv
import io
import json
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

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


@pytest.mark.parametrize("model", MODELS)
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
        clipped = field.evaluate("(field) => { field.value = 100000; return field.scrollWidth > field.clientWidth; }")
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


class TestInput:
    def test_text_is_edited_in_place_and_stands_in_the_address(self, inspector, traced):
        page = inspector(model="brackets")
        give(page, "((x)")
        expect(page.locator(".player-place")).to_contain_text("of 0 to 3")
        expect(page).to_have_url(re.compile("#request="))
        shown = np.array([row[2:] for row in exported(page, "overview")[1:]], dtype=float)
        expected = traced("brackets", {"text": "((x)"})["signals"]
        assert np.allclose(shown[:4].T, expected["input_gate"][0][0][0], atol=1e-6)
        page.reload()
        expect(page.locator(".player-place")).to_contain_text("of 0 to 3")
        expect(page.get_by_role("textbox", name="Text", exact=True)).to_have_value("((x)")
        expect(page.get_by_role("combobox", name="Example", exact=True)).to_have_value("")

    def test_one_sequence_of_a_batch_is_edited_and_the_others_stay(self, inspector):
        page = inspector(model="pos-tagger", example=2)
        page.get_by_role("combobox", name="Sequence").select_option("1")
        expect(page.locator("#values")).to_have_value("It's Mary's dog.")
        give(page, "Dogs bark.")
        expect(page.locator(".player-place")).to_contain_text("of 0 to 2")
        expect(page).to_have_url(re.compile("#request="))
        request = json.loads(unquote(urlsplit(page.url).fragment.removeprefix("request=")))
        assert request == {"text": ["You have to read what they have written.", "Dogs bark."]}

    def test_a_dropped_array_is_read_and_a_slice_of_it_taken(self, inspector, traced, tmp_path):
        values = np.stack([np.full(60, 30_000), *(np.arange(60) % 48 + at for at in (29_000, 29_001, 0, 0))], axis=1)
        np.save(tmp_path / "values.npy", np.asfortranarray(values.astype(float)))
        page = inspector(model="demand")
        page.set_input_files("#file", tmp_path / "values.npy")
        expect(page.locator(".player-place")).to_contain_text("of 0 to 59")
        page.get_by_role("textbox", name="Steps of it").fill("-48:")
        page.get_by_role("button", name="Show the gates").click()
        expect(page.locator(".player-place")).to_contain_text("of 0 to 47")
        shown = np.array([row[2:] for row in exported(page, "overview")[1:]], dtype=float)
        expected = traced("demand", {"inputs": [values[12:].tolist()]})["signals"]["input_gate"]
        assert np.allclose(shown[:32].T, expected[0][0][0], atol=1e-6)
        assert len(page.locator("#values").input_value().splitlines()) == 49

    def test_what_is_too_long_for_an_address_is_named_by_its_stored_trace(self, inspector, traced, tmp_path):
        values = np.full((20_000, 5), 29_000.0)
        values[:, 3:] = (np.arange(20_000) % 48)[:, None]
        np.save(tmp_path / "values.npy", values)
        page = inspector(model="demand", unit=7, expected=("willReadFrequently",))  # this test reads pictures twice
        page.set_input_files("#file", tmp_path / "values.npy")
        expect(page.locator("#status")).to_contain_text("20,000 steps")
        expect(page).to_have_url(re.compile(r"\?model=demand&trace=\w+&unit=7$"))
        page.locator("#strip .plot").focus()
        page.keyboard.press("PageDown")
        expect(page.locator("#overview .reading")).to_contain_text("Step 2000, unit 7: ")
        trace = traced("demand", {"inputs": [values[:2001].tolist()], "units": [7], "time": {"start": 2000}})["signals"]
        shown = re.findall(
            r" (−?\d[\d.]*(?:e−\d+)?)", page.locator("#overview .reading").inner_text().partition(": ")[2]
        )
        exact = [np.ravel(trace[signal])[0] for signal in SIGNALS]
        assert [float(number.replace("−", "-")) for number in shown] == pytest.approx(exact, rel=0.5, abs=0.006)
        before = seen(page)
        assert page.evaluate(INPUTS_DRAWN)
        expect(page).to_have_url(re.compile(r"&time=2000"))
        page.reload()
        expect(page.locator("#overview .reading")).to_contain_text("Step 2000, unit 7: ")
        assert seen(page) == before  # with what was read above the signals, though the page has only the trace's id

    def test_every_kind_of_file_is_read_and_what_cannot_be_is_said(self, inspector, shipped):
        described = shipped.get("/v1/models/demand").json()
        info = {part: described[part] for part in ("input", "lstm")}
        values = np.array([[3e4, 29e3, 29001, 0, 7], [3e4, 29001, 29002, 1, 8.5]])
        lines = [
            ["date", *reversed(info["input"]["feature_names"])],
            *(["2026-01-01", *row[::-1]] for row in values.tolist()),
        ]
        files = {
            "header.csv": "\n".join(",".join(map(str, line)) for line in lines).encode(),
            "semicolons.csv": "\r\n".join(";".join(map(str, line)) for line in lines).encode() + b"\r\n\r\n",
            "numbers.CSV": "\n".join(",".join(map(str, row)) for row in values.tolist()).encode(),
            "sequence.json": json.dumps(values.tolist()).encode(),
            "batch.json": json.dumps([values.tolist()]).encode(),
            **{f"{kind}.npy": npy(values.astype(kind)) for kind in ("<f4", ">f8")},
        }
        page = inspector(model="demand")
        for name, content in files.items():
            assert read(page, name, content, info) == {"sequence": values.tolist()}, name
        assert read(page, "whole.npy", npy(values.astype("<i8")), info) == {"sequence": np.floor(values).tolist()}
        assert read(page, "batch.npy", npy(np.stack([values] * 2)), info) == {"body": {"inputs": [values.tolist()] * 2}}
        assert read(page, "request.json", b'{"text": "x"}', info) == {"body": {"text": "x"}}
        for name, content, said in (
            ("x.csv", b"demand_mw, half_hour\n1, 2", "The header has no column 'demand_last_week_mw'"),
            ("x.csv", b"1, 2, 3, 4, 5\n1, 2, three, 4, 5", "At line 2, column 3: 'three' is no number."),
            ("x.csv", b"1, 2, 3, 4, 5\n1, 2, , 4, 5", "At line 2, column 3 a number is missing."),
            ("x.json", b"[[1, 2, 3", "x.json is no valid JSON"),
            ("x.json", b'{"input": 1}', "JSON is read as"),
            ("x.json", b"[[[[1]]]]", "The array has 4 axes"),
            ("x.npy", b"PK", "This is no .npy file."),
            ("x.npy", npy(np.array(["a"])), "plain numbers are wanted"),
            ("x.zip", b"", "a .csv, .json, .npy or .txt file is wanted"),
        ):
            assert said in read(page, name, content, info)
        give(page, "1, 2, 3, 4, 5\n1, 2, 3, 4, five")
        expect(page.locator(".wrong")).to_have_text("At line 2, column 5: 'five' is no number.")

    @pytest.mark.parametrize(
        ("model", "holds"),
        [
            (
                "demand",
                (
                    "a line of numbers for each time step: demand_mw, demand_last_week_mw, demand_last_week_next_mw, "
                    "half_hour, half_hour_of_week"
                ),
            ),
            ("brackets", "a text"),
        ],
    )
    def test_an_empty_file_is_told_from_what_the_model_takes(self, inspector, tmp_path, model, holds):
        page = inspector(model=model)
        before = exported(page, "overview")
        for name in ("nothing.csv", "nothing.json", "nothing.npy", "nothing.txt"):
            (tmp_path / name).write_text("")
            page.set_input_files("#file", tmp_path / name)
            expect(page.locator(".wrong")).to_have_text(f"{name} is empty; choose a file that holds {holds}.")
        expect(page.locator(".notice")).to_be_hidden()
        assert exported(page, "overview") == before
        if model == "demand":
            (tmp_path / "blank.csv").write_text("\n \n\n")
            page.set_input_files("#file", tmp_path / "blank.csv")
            expect(page.locator(".wrong")).to_have_text(f"blank.csv is empty; choose a file that holds {holds}.")

    def test_what_the_model_refuses_is_said_with_its_place_and_leaves_the_charts(self, inspector):
        page = inspector(model="brackets", expected=(REFUSED,))
        before = exported(page, "overview")
        give(page, "(a)")
        notice = page.get_by_role("alert").filter(has_text="InvalidInput (422)")
        expect(notice.locator("li")).to_have_text("text character 'a' at position 1 is not in the model's vocabulary")
        assert exported(page, "overview") == before
        expect(page.locator("#values")).to_have_value("(a)")
        give(page, "()")
        expect(page.locator(".player-place")).to_contain_text("of 0 to 1")
        expect(notice).to_be_hidden()
        give(page, "(b)")
        expect(notice).to_contain_text("'b'")
        expect(page).to_have_url(re.compile(r"#request=.*\(\)"))
        page.reload()
        expect(page.locator(".player-place")).to_contain_text("of 0 to 1")
        expect(page.locator("#values")).to_have_value("()")


class TestTrouble:
    def test_a_trace_that_the_server_dropped_is_stored_again(self, tab, inspector, shipped):
        with tab.expect_request(re.compile("/values")) as asked:
            page = inspector(model="brackets", expected=(REFUSED,))
        settled(page)
        shipped.delete(re.search(r"/v1/traces/\w+", asked.value.url)[0]).raise_for_status()
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


def give(page, text):
    """Type this in place of the input, and have it traced."""
    page.locator("#values").fill(text)
    page.get_by_role("button", name="Show the gates").click()


def ordered(page, sort):
    """The units from the top of the heatmaps, sorted anew."""
    page.get_by_role("combobox", name="Units by").select_option(sort)
    expect(page).to_have_url(re.compile(f"sort={sort}"))
    return [int(row[1]) for row in exported(page, "overview")[1:]][:32]


def exported(page, view):
    """The rows of a view's chart, as it saves them."""
    settled(page)
    page.locator(f"#{view} .export summary").click()
    with page.expect_download() as download:
        page.locator(f"#{view} .export").get_by_role("button", name="CSV").click()
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))


def settled(page):
    """Wait until no request is under way and every view has drawn."""
    page.wait_for_function(DRAWN)


def seen(page):
    """What the page says in words and shows in pictures."""
    settled(page)
    return page.evaluate(SEEN)


def binned(values, steps):
    """The means of (time, unit) over the spans that begin at these steps."""
    return np.stack([part.mean(axis=0) for part in np.split(values, steps[1:])])


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def read(page, name, content, info):
    """What the page reads from a file, or why it does not."""
    return page.evaluate(READ, [name, list(content), info])


DRAWN = """() => document.querySelector('#progress').hidden
    && ['#overview .reading', '#strip .arithmetic', '#scatter .hint'].every(
        (part) => document.querySelector(part)?.textContent)"""

SEEN = """async () => [
    ...[...document.querySelectorAll('.reading, .arithmetic, .hint, .unit-mark, .cell-where, .player-place')].map(
        (part) => part.textContent + part.style.transform),
    ...[...document.querySelectorAll('select, input:not([type=file]), textarea')].map((field) => field.value),
    ...(await Promise.all([...document.querySelectorAll('canvas')].map(async (canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return new Uint8Array(await crypto.subtle.digest('SHA-256', data)).join();
    }))),
]"""

INPUTS_DRAWN = """() => document.querySelector('#strip canvas').getContext('2d')
    .getImageData(110, 0, 400, 40).data.some((value) => value > 0)"""

READ = """async ([name, bytes, info]) => {
    const { fromFile } = await import('/inspector/reading.js');
    try {
        return await fromFile(new File([new Uint8Array(bytes)], name), info);
    } catch (error) {
        return error.message;
    }
}"""
