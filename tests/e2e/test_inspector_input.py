"""What the inspector is given: text, numbers and files, and what it says of those that cannot be read."""

import io
import json
import re
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.e2e.inspector_page import REFUSED, SIGNALS, exported, give, seen

pytestmark = pytest.mark.inspector


def test_text_is_edited_in_place_and_stands_in_the_address(inspector, traced):
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


def test_one_sequence_of_a_batch_is_edited_and_the_others_stay(inspector):
    page = inspector(model="pos-tagger", example=2)
    page.get_by_role("combobox", name="Sequence").select_option("1")
    expect(page.locator("#values")).to_have_value("It's Mary's dog.")
    give(page, "Dogs bark.")
    expect(page.locator(".player-place")).to_contain_text("of 0 to 2")
    expect(page).to_have_url(re.compile("#request="))
    request = json.loads(unquote(urlsplit(page.url).fragment.removeprefix("request=")))
    assert request == {"text": ["You have to read what they have written.", "Dogs bark."]}


def test_a_dropped_array_is_read_and_a_slice_of_it_taken(inspector, traced, tmp_path):
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


def test_what_is_too_long_for_an_address_is_named_by_its_stored_trace(inspector, traced, tmp_path):
    values = np.full((20_000, 5), 29_000.0)
    values[:, 3:] = (np.arange(20_000) % 48)[:, None]
    np.save(tmp_path / "values.npy", values)
    page = inspector(model="demand", unit=7, expected=("willReadFrequently",))  # this test reads pictures twice
    page.set_input_files("#file", tmp_path / "values.npy")
    expect(page.locator("#status")).to_contain_text("20,000 steps")
    expect(page).to_have_url(re.compile(r"\?model=demand&trace=[\w-]+&unit=7$"))
    page.locator("#strip .plot").focus()
    page.keyboard.press("PageDown")
    expect(page.locator("#overview .reading")).to_contain_text("Step 2000, unit 7: ")
    trace = traced("demand", {"inputs": [values[:2001].tolist()], "units": [7], "time": {"start": 2000}})["signals"]
    shown = re.findall(r" (−?\d[\d.]*(?:e−\d+)?)", page.locator("#overview .reading").inner_text().partition(": ")[2])
    exact = [np.ravel(trace[signal])[0] for signal in SIGNALS]
    assert [float(number.replace("−", "-")) for number in shown] == pytest.approx(exact, rel=0.5, abs=0.006)
    before = seen(page)
    assert page.evaluate(INPUTS_DRAWN)
    expect(page).to_have_url(re.compile(r"&time=2000"))
    page.reload()
    expect(page.locator("#overview .reading")).to_contain_text("Step 2000, unit 7: ")
    assert seen(page) == before  # with what was read above the signals, though the page has only the trace's id


def test_every_kind_of_file_is_read_and_what_cannot_be_is_said(inspector, shipped):
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
def test_an_empty_file_is_told_from_what_the_model_takes(inspector, tmp_path, model, holds):
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


def test_what_the_model_refuses_is_said_with_its_place_and_leaves_the_charts(inspector):
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


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def read(page, name, content, info):
    """What the page reads from a file, or why it does not."""
    return page.evaluate(READ, [name, list(content), info])


READ = """async ([name, bytes, info]) => {
    const { fromFile } = await import('/inspector/reading.js');
    try {
        return await fromFile(new File([new Uint8Array(bytes)], name), info);
    } catch (error) {
        return error.message;
    }
}"""

INPUTS_DRAWN = """() => document.querySelector('#strip canvas').getContext('2d')
    .getImageData(110, 0, 400, 40).data.some((value) => value > 0)"""
