"""Fed-back steps and the warm-up are marked in every picture of the inspector, in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from safetensors.torch import save_file
from torch import nn

pytestmark = pytest.mark.inspector

FED_BACK = "fed back, steps {}: the model read its own predictions"
WARMUP = "warm-up, steps {}: not to be believed: the model has read too little"
VIEWS = ("overview", "strip", "prediction")
WARMING = """
format = 2
description = "a level that needs six steps"
warmup_steps = 6

[input]
kind = "features"
features = [{ name = "level" }]

[[layers]]
name = "lstm"
type = "lstm"
POOL
[[layers]]
name = "fc"
type = "linear"

[[heads]]
task = "regression"
names = ["level"]
PREDICTS

[[examples]]
title = "four steps"
request = { inputs = [[0.1], [0.2], [0.3], [0.4]] }

[[examples]]
title = "nine steps and two further ones"
request = { inputs = [[[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [0.8], [0.9]]], horizon = 2 }

[[examples]]
title = "four steps and four further ones"
request = { inputs = [[0.1], [0.2], [0.3], [0.4]], horizon = 4 }

[[examples]]
title = "nine steps from a given state"
[examples.request]
inputs = [[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [0.8], [0.9]]
initial_state = { hidden_state = [[[0.1, 0.2, 0.3]]], cell_state = [[[0.1, 0.2, 0.3]]] }

[[examples]]
title = "nine steps"
request = { inputs = [[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [0.8], [0.9]] }
"""
READ_BACK = ("willReadFrequently",)  # what Chromium says of a picture that a test reads
SHORT, AHEAD, BOTH, GIVEN, LONG = range(5)


@pytest.fixture(scope="module")
def served(serve_models, tmp_path_factory):
    """A client of a server with a model of predictions per step, and one of a prediction per sequence."""
    models = tmp_path_factory.mktemp("models")
    tensors = nn.ModuleDict({"lstm": nn.LSTM(1, 3), "fc": nn.Linear(3, 1)}).state_dict()
    pool = '[[layers]]\nname = "last"\ntype = "pool"\nhow = "last"\n'
    for name, layer, predicts in (("steps", "", 'predicts = "next_step"'), ("whole", pool, "")):
        (models / name / "1").mkdir(parents=True)
        manifest = WARMING.replace("POOL", layer).replace("PREDICTS", predicts)
        (models / name / "model.toml").write_text(manifest)
        save_file(tensors, models / name / "1" / "model.safetensors")
    with serve_models(models) as client:
        yield client


@pytest.fixture
def shown(inspector, served):
    """Open a view of one of these models."""
    return lambda model="steps", **view: inspector(url=str(served.base_url).rstrip("/"), model=model, **view)


def keys(page, view):
    """What the legend of a view says."""
    return page.locator(f"#{view} .span-keys:visible .span-key").all_inner_texts()


def marks(page):
    """What the cell's view says of the step in it."""
    return page.locator("#cell .cell-where .span-key").all_inner_texts()


def test_the_steps_of_a_forecast_are_marked_in_every_picture(inspector):
    page = inspector(model="demand", time=350, expected=READ_BACK)
    expect(page.locator("#overview .reading")).to_contain_text("Step 350 (fed back), unit 0: ")
    expect(page.locator("#strip .arithmetic").first).to_be_visible()
    for view in VIEWS:
        assert keys(page, view) == [FED_BACK.format("336 to 383")]
    assert marks(page) == ["fed back: the model read its own predictions"]
    assert page.locator(".curve-drawing .ground.fed-back").count() == 1
    expect(page.locator(".curve-reading")).to_contain_text("Step 350 (fed back): predicted ")
    for view in ("overview", "strip"):
        assert tints(page, view, [100, 330, 340, 380]) == [False, False, True, True]
    page.locator("#overview .plot").focus()
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#overview .reading")).to_contain_text("Step 330, unit 0: ")
    expect(page.locator("#cell .cell-where .span-key")).to_have_count(0)
    expect(page.locator(".curve-reading")).not_to_contain_text("fed back")


def test_heatmaps_keep_their_colours_under_the_marks(inspector, shipped):
    request = shipped.get("/v1/models/demand").json()["examples"][0]["request"]
    trace = shipped.post("/v1/models/demand/trace", json=request | {"signals": ["forget_gate"]}).json()
    page = inspector(model="demand", signal="forget_gate", time=360, expected=READ_BACK)
    expect(page.locator("#overview .reading")).to_contain_text("Step 360 (fed back), unit 0: f ")
    for time in (100, 360):
        value = trace["signals"]["forget_gate"][0][0][0][time][3]
        drawn, wanted = page.evaluate(COLOURS, [time, 3, value])
        assert drawn == wanted


def test_text_that_was_written_on_is_marked_token_by_token(inspector, shipped):
    request = shipped.get("/v1/models/shakespeare").json()["examples"][0]["request"]
    given, written = len(request["text"]), request["horizon"]
    page = inspector(model="shakespeare", time=30)
    said = FED_BACK.format(f"{given} to {given + written - 1}")
    for view in (*VIEWS, "text"):
        assert keys(page, view) == [said]
    tokens = page.locator("#text .token")
    assert tokens.count() == given + written
    assert page.locator("#text .token.fed-back").count() == written
    assert "fed-back" not in tokens.nth(given - 1).get_attribute("class")
    assert tokens.nth(given).get_attribute("title").startswith(f"step {given} (fed back): ")
    expect(page.locator(".classes caption")).to_contain_text("(fed back)")


def test_a_stored_trace_alone_tells_what_was_fed_back(inspector, shipped):
    request = shipped.get("/v1/models/demand").json()["examples"][0]["request"]
    body = {"model": "demand", **request, "outputs": ["output"]}
    stored = shipped.post("/v1/traces", json=body).json()
    page = inspector(model="demand", trace=stored["trace_id"], time=340)
    for view in ("overview", "strip"):
        assert keys(page, view) == [FED_BACK.format("336 to 383")]
    assert marks(page) == ["fed back: the model read its own predictions"]


def test_the_warm_up_of_river_is_shaded_with_its_note(inspector):
    page = inspector(model="river", time=100)
    for view in VIEWS:
        assert keys(page, view) == [WARMUP.format("0 to 182")]
    note = "Predictions at time steps 0 to 182 are not to be believed: the model needs 183 time steps to warm up"
    expect(page.locator("#prediction .note.warning")).to_have_text(note)
    expect(page.locator(".curve-reading")).to_contain_text("Step 100 (warm-up): predicted ")
    assert marks(page) == ["warm-up: not to be believed: the model has read too little"]
    assert page.locator(".curve-drawing .ground.warmup").count() == 1
    page.locator("#overview .plot").focus()
    for _ in range(9):
        page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#overview .reading")).to_contain_text("Step 190, unit 0: ")
    expect(page.locator("#cell .cell-where .span-key")).to_have_count(0)


class TestWarmup:
    def test_a_sequence_that_is_shorter_lies_in_it_as_a_whole(self, shown):
        page = shown(example=SHORT)
        assert keys(page, "overview") == [WARMUP.format("0 to 3")]
        expect(page.locator("#prediction .note.warning").last).to_contain_text("Predictions at time steps 0 to 3 are")

    def test_further_steps_are_marked_beside_it(self, shown):
        page = shown(example=AHEAD)
        for view in VIEWS:
            assert keys(page, view) == [WARMUP.format("0 to 5"), FED_BACK.format("9 to 10")]
        assert page.locator("#prediction .note", has_text="not to be believed").count() == 0  # of what is predicted

    def test_a_further_step_may_lie_in_it(self, shown):
        page = shown(example=BOTH, time=5)
        assert keys(page, "strip") == [WARMUP.format("0 to 5"), FED_BACK.format("4 to 7")]
        expect(page.locator("#overview .reading")).to_contain_text("Step 5 (warm-up, fed back), unit 0")
        expect(page.locator("#prediction .note.warning").last).to_contain_text("Predictions at time steps 4 to 5 are")

    def test_a_given_state_has_none(self, shown):
        page = shown(example=GIVEN)
        assert keys(page, "overview") == []
        assert page.locator("#prediction .note", has_text="not to be believed").count() == 0

    def test_a_prediction_of_the_next_step_is_shaded_where_it_stands(self, shown):
        page = shown(example=LONG)
        shaded = page.locator(".curve-drawing .ground.warmup").bounding_box()
        dots = []
        for time in (6, 7):
            page = shown(example=LONG, time=time)
            named = f"Step {time} (warm-up): " if time == 6 else f"Step {time}: "
            expect(page.locator(".curve-reading")).to_contain_text(named)
            dots.append(page.locator(".curve-drawing .dot.predicted").bounding_box()["x"])
        end = shaded["x"] + shaded["width"]
        assert dots[0] < end < dots[1]  # what is predicted at step 5 is the value of step 6

    def test_a_prediction_of_the_whole_sequence_has_its_note(self, shown):
        page = shown("whole", example=SHORT)
        note = (
            "Predictions of sequence 0 (4 time steps) are not to be believed: the model needs 6 time steps to warm up"
        )
        expect(page.locator("#prediction .note", has_text="warm up")).to_have_text(note)
        assert keys(page, "prediction") == []
        page = shown("whole", example=LONG)
        assert keys(page, "overview") == [WARMUP.format("0 to 5")]
        assert page.locator("#prediction .note", has_text="warm up").count() == 0

    @pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
    def test_the_marks_are_accessible_and_fit_their_width(self, shown, scheme, width):
        page = shown(example=BOTH, time=5, width=width, scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def tints(page, view, steps):
    """Whether the ground under what was read is tinted at these steps, of a light page."""
    return page.evaluate(TINTS, [view, steps])


TINTS = """([view, steps]) => {
    const canvas = document.querySelector(`#${view} canvas`);
    const scale = canvas.width / canvas.clientWidth;
    const width = canvas.clientWidth - 110;
    const length = 384;
    return steps.map((step) => {
        const x = Math.round((102 + (step + 0.5) * width / length) * scale);
        const [red, , blue, alpha] = canvas.getContext('2d').getImageData(x, 1, 1, 1).data;
        return alpha > 0 && blue > red;
    });
}"""

COLOURS = """async ([time, unit, value]) => {
    const { Colours } = await import('/inspector/colours.js');
    const canvas = document.querySelector('#overview canvas');
    const scale = canvas.width / canvas.clientWidth;
    const x = 102 + (time + 0.5) * (canvas.clientWidth - 110) / 384;
    const height = canvas.clientHeight - 48 - 22;
    const y = 48 + (unit + 0.5) * height / 32;
    const drawn = canvas.getContext('2d').getImageData(Math.round(x * scale), Math.round(y * scale), 1, 1).data;
    const wanted = new Colours('light').pixels('sequential').slice(Math.round(value * 255)).slice(0, 1);
    return [[...drawn], [...new Uint8Array(wanted.buffer)]];
}"""
