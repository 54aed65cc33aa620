"""The inspector's predictions of every task, static inputs and notes, in a real browser, over small random models."""

import csv
import io
import json
import re
import sys
from pathlib import Path
from subprocess import run
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from safetensors.torch import save_file
from torch import nn

pytestmark = pytest.mark.inspector

REFUSED = "Failed to load resource"  # how Chromium reports a reply of 4xx
NOT_VERIFIED = (
    "Not verified: these predictions were never compared with numbers of the training code. Import it with --sample."
)
STEPS = [[0.5, 1.0], [2.0, -1.0], [1.0, 0.0], [-1.5, 2.0], [0.0, 3.0], [4.0, -2.0]]
WORDS = ["<unk>", "the", "cat", "sat", "on", "a", "mat"]
FEATURES = '[input]\nkind = "features"\nfeatures = [{ name = "rain_mm" }, { name = "q_mm" }]\n'
TOKENS = (
    '[input]\nkind = "tokens"\nvocabulary = "words"\nfile = "words.txt"\nunknown = "token"\nunknown_token = "<unk>"\n'
)
EMBEDDING = '[[layers]]\nname = "embedding"\ntype = "embedding"\n'
LSTM = '[[layers]]\nname = "lstm"\ntype = "lstm"\n'
LINEAR = '[[layers]]\nname = "fc"\ntype = "linear"\n'
MEAN = '[[layers]]\nname = "mean"\ntype = "pool"\nhow = "mean"\n'
SOFTMAX = '[[layers]]\nname = "softmax"\ntype = "activation"\nfunction = "softmax"\n'
CRF = '[[layers]]\nname = "crf"\ntype = "crf"\n'
QUANTILES = 'task = "quantile"\nquantiles = [0.1, 0.5, 0.9]\n'
TOPICS = 'task = "multi_label"\nlabels = ["animal", "place", "thing"]\n'
BASIN = """
[static]
features = [{ name = "area_km2" }, { name = "slope" }]

[[layers]]
name = "beside"
type = "concat"
inputs = ["inputs", "static"]

[[layers]]
name = "lower"
type = "lstm"

[[layers]]
name = "upper"
type = "lstm"

[[layers]]
name = "discharge"
type = "linear"

[[layers]]
name = "storms"
type = "linear"
inputs = ["upper"]

[[layers]]
name = "mean"
type = "pool"
how = "mean"
inputs = ["upper"]

[[layers]]
name = "flood"
type = "linear"

[[heads]]
name = "discharge"
layer = "discharge"
task = "quantile"
names = ["q_mm"]
quantiles = [0.1, 0.5, 0.9]

[[heads]]
name = "storms"
layer = "storms"
task = "multi_label"
labels = ["wind", "hail"]

[[heads]]
name = "flood"
layer = "flood"
task = "classification"
labels = ["no", "yes"]
"""
MISSING = """
[[not_computed]]
name = "attention"
kind = "nn.MultiheadAttention"
place = "behind"
"""
ONE = f'\n[[examples]]\ntitle = "six steps"\nrequest = {{ inputs = {STEPS} }}\n'
BATCH = f'\n[[examples]]\ntitle = "two sequences"\nrequest = {{ inputs = {[STEPS, STEPS[2:]]} }}\n'
TEXT = '\n[[examples]]\ntitle = "a sentence"\nrequest = { text = "the cat sat on a mat" }\n'
BASINS = f"""
[[examples]]
title = "one basin"
request = {{ inputs = {STEPS}, static_inputs = [1.5, -0.25] }}

[[examples]]
title = "two basins"
[examples.request]
inputs = {[STEPS, STEPS[2:]]}
static_columns = ["slope", "area_km2"]
static_inputs = [[0.5, 2.0], [-1.0, 3.0]]
"""
TOPIC_LABELS = ["animal", "place", "thing"]
QUANTILE_NAMES = ["0.1-quantile", "0.5-quantile", "0.9-quantile"]


def head(lines: str) -> str:
    return f"\n[[heads]]\n{lines}"


def weights(**modules: nn.Module | torch.Tensor) -> dict[str, torch.Tensor]:
    """The state dict of modules by name, random and seeded."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            found[f"{name}.{key}"] = torch.empty_like(value).uniform_(-0.7, 0.7, generator=generator)
    return found


class CRFWeights(nn.Module):
    """The weights of a CRF of three labels."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in (("transitions", (3, 3)), ("start_transitions", (3,)), ("end_transitions", (3,))):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


def write_models(models: Path) -> None:
    """Write every model below this folder."""
    lstm, fed = nn.LSTM(2, 8, batch_first=True), {"embedding": nn.Embedding(len(WORDS), 2)}

    def fc(count: int) -> nn.Linear:
        return nn.Linear(8, count)

    two = 'labels = ["calm", "storm"]\n'
    tags = 'task = "tagging"\nlabels = ["D", "N", "V"]\n'
    quantities = f'{QUANTILES}names = ["q_mm", "t_c"]\n'
    folders = {
        "basin": (
            FEATURES + BASIN + BASINS,
            weights(
                lower=nn.LSTM(4, 8),
                upper=nn.LSTM(8, 6),
                discharge=nn.Linear(6, 3),
                storms=nn.Linear(6, 2),
                flood=nn.Linear(6, 2),
            ),
        ),
        "spans": (
            FEATURES + LSTM + LINEAR + head(quantities + 'predicts = "next_step"\n') + BATCH,
            weights(lstm=lstm, fc=fc(6)),
        ),
        "total": (FEATURES + LSTM + MEAN + LINEAR + head(quantities) + ONE, weights(lstm=lstm, fc=fc(6))),
        "alarm": (
            FEATURES + LSTM + LINEAR + head(f'task = "binary"\nthreshold = 0.4\n{two}') + BATCH,
            weights(lstm=lstm, fc=fc(1)),
        ),
        "verdict": (
            FEATURES + LSTM + MEAN + LINEAR + head(f'task = "binary"\n{two}') + ONE,
            weights(lstm=lstm, fc=fc(1)),
        ),
        "topics": (TOKENS + EMBEDDING + LSTM + LINEAR + head(TOPICS) + TEXT, weights(**fed, lstm=lstm, fc=fc(3))),
        "genres": (
            TOKENS + EMBEDDING + LSTM + MEAN + LINEAR + head(TOPICS) + TEXT,
            weights(**fed, lstm=lstm, fc=fc(3)),
        ),
        "paths": (
            TOKENS + EMBEDDING + LSTM + LINEAR + CRF + head(tags) + TEXT,
            weights(**fed, lstm=lstm, fc=fc(3), crf=CRFWeights()),
        ),
        "shares": (
            FEATURES + LSTM + MEAN + LINEAR + SOFTMAX + head(f'task = "classification"\n{two}') + ONE,
            weights(lstm=lstm, fc=fc(2)),
        ),
        "missing": (FEATURES + LSTM + MISSING + ONE, weights(lstm=lstm)),
    }
    for name, (manifest, tensors) in folders.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "model.toml").write_text(f'format = 2\ndescription = "the model {name}"\n\n{manifest}')
        save_file(tensors, models / name / "1" / "model.safetensors")
        if "words.txt" in manifest:
            (models / name / "words.txt").write_text("\n".join(WORDS) + "\n")
    _write_sample(models / "shares" / "1", folders["shares"][1])


def _write_sample(version: Path, tensors: dict[str, torch.Tensor]) -> None:
    """What plain torch computes of the steps."""
    lstm, fc = nn.LSTM(2, 8, batch_first=True), nn.Linear(8, 2)
    nn.ModuleDict({"lstm": lstm, "fc": fc}).load_state_dict(tensors)
    with torch.no_grad():
        expected = fc(lstm(torch.tensor([STEPS]))[0].mean(dim=1)).softmax(dim=-1)
    sample = {"title": "as trained", "request": {"inputs": [STEPS]}, "expected": (expected * 1.000002).tolist()}
    (version / "sample.json").write_text(json.dumps(sample))


@pytest.fixture(scope="module")
def served(serve_models, tmp_path_factory):
    """A client of a server over the models below."""
    models = tmp_path_factory.mktemp("models")
    write_models(models)
    with serve_models(models) as client:
        yield client


@pytest.fixture
def shown(inspector, served):
    """Open a view of one of these models."""
    return lambda **view: inspector(url=str(served.base_url).rstrip("/"), **view)


@pytest.fixture
def predicted(served):
    """What the API says of one of a model's examples."""

    def predict(model, example=0):
        request = served.get(f"/v1/models/{model}").json()["examples"][example]["request"]
        return served.post(f"/v1/models/{model}/predict", json=request).json()

    return predict


@pytest.mark.parametrize("model", ["basin", "spans", "total", "alarm", "verdict", "topics", "genres", "paths"])
def test_a_model_that_is_not_verified_says_so_beside_its_prediction_and_description(shown, model):
    page = shown(model=model)
    for view in ("input", "prediction"):
        assert page.locator(f"#{view}").get_by_role("note").all_inner_texts() == [NOT_VERIFIED]
    assert "NaN" not in page.locator("body").inner_text()


def test_a_verified_model_says_by_what_and_how_closely(shown, served):
    error = served.get("/v1/models/shares").json()["verified"]["max_error"]
    page = shown(model="shares")
    for view in ("input", "prediction"):
        said = page.locator(f"#{view}").get_by_role("note").inner_text()
        assert said == f"Verified by a sample, to {error:.0e}".replace("e-0", "e−")


def test_what_is_not_computed_is_named_where_the_prediction_would_be(shown):
    page = shown(model="missing")
    what = "attention (nn.MultiheadAttention) behind the recurrent layers."
    assert page.locator("#input").get_by_role("note").all_inner_texts() == [f"Not computed: {what}"]
    said = page.locator("#prediction .none").inner_text()
    assert said == f"This model predicts nothing, because something is not computed: {what}"


def test_a_binary_prediction_marks_the_label_from_the_threshold_on(shown, predicted):
    reply = predicted("alarm")["prediction"]
    page = shown(model="alarm", time=4)
    assert page.locator(".tag .label").all_inner_texts() == reply["labels"][0]
    assert probabilities(page) == labelled(["calm", "storm"], reply["probabilities"][0][4])
    assert marked(page) == ["calm"]
    page.locator(".tag").first.click()
    expect(page.locator(".classes caption")).to_have_text("At step 0; given from 40% on")
    assert reply["probabilities"][0][0][0] > reply["probabilities"][0][0][1]
    assert marked(page) == ["storm"]


def test_a_binary_prediction_of_the_whole_sequence_is_a_table(shown, predicted):
    reply = predicted("verdict")["prediction"]
    page = shown(model="verdict")
    assert not page.locator(".tags").is_visible()
    assert probabilities(page) == labelled(["calm", "storm"], reply["probabilities"][0])
    assert marked(page) == reply["labels"]


def test_a_softmax_at_the_end_is_not_taken_twice(shown, predicted):
    values = predicted("shares")["prediction"]["values"][0]
    assert sum(values) == pytest.approx(1)
    assert probabilities(shown(model="shares")) == labelled(["calm", "storm"], values)


def test_several_labels_stand_under_a_step_and_are_marked(shown, predicted):
    reply = predicted("topics")["prediction"]
    page = shown(model="topics", time=2)
    tags = [tag.locator(".label").all_inner_texts() for tag in page.locator(".tag").all()]
    assert tags == [labels or ["–"] for labels in reply["labels"][0]]
    assert probabilities(page) == labelled(TOPIC_LABELS, reply["probabilities"][0][2])
    assert sorted(marked(page)) == reply["labels"][0][2]
    reply = predicted("genres")["prediction"]
    page = shown(model="genres")
    assert probabilities(page) == labelled(TOPIC_LABELS, reply["probabilities"][0])
    assert sorted(marked(page)) == reply["labels"][0]


def test_quantiles_over_time_have_a_band_and_a_line_each(shown, predicted):
    values = np.array(predicted("spans")["prediction"]["values"][0])
    page = shown(model="spans", time=2)
    assert page.locator(".curve-key .key").all_inner_texts() == ["observed", *QUANTILE_NAMES]
    assert page.locator(".curve-drawing .line").count() == 4
    assert page.locator(".curve-drawing .band").count() == 1
    page.get_by_label("Predicted quantity").select_option(label="t_c")
    expect(page.locator(".curve-key .key")).to_have_text(QUANTILE_NAMES)
    said = page.locator(".curve-reading").inner_text().replace("−", "-")
    shown_values = [float(number) for number in re.findall(r"quantile (-?[\d.]+)", said)]
    assert shown_values == pytest.approx(values[1, 3:].tolist(), abs=0.006)  # of the next step
    header, *rows = exported(page, "prediction")
    assert header == ["time_step", "t_c 0.1", "t_c 0.5", "t_c 0.9"]
    assert np.allclose([[float(value) for value in row[1:]] for row in rows[1:]], values[:, 3:])


def test_quantiles_of_the_whole_sequence_are_a_table(shown, predicted):
    values = predicted("total")["prediction"]["values"][0]
    page = shown(model="total")
    names = [f"{name} {quantile}" for name in ("q_mm", "t_c") for quantile in (0.1, 0.5, 0.9)]
    assert page.locator(".classes tbody th").all_inner_texts() == names
    told = [float(text.replace("−", "-")) for text in page.locator(".classes tbody td").all_inner_texts()]
    assert told == pytest.approx(values, abs=0.006)


def test_the_labels_of_a_path_have_no_probabilities(shown, predicted):
    labels = predicted("paths")["prediction"]["labels"][0]
    page = shown(model="paths", time=1)
    assert page.locator(".tag .label").all_inner_texts() == labels
    assert page.locator(".tag").nth(1).get_attribute("title") == f"step 1: {labels[1]}"
    assert not page.locator(".classes").is_visible()
    assert "best path" in page.locator("#prediction").inner_text()
    assert exported(page, "prediction") == [
        ["time_step", "label"],
        *([str(at), each] for at, each in enumerate(labels)),
    ]


def test_every_head_is_shown_and_follows_the_cursor(shown, predicted):
    heads = predicted("basin")["heads"]
    page = shown(model="basin", time=1)
    assert page.locator("#prediction h3:visible").all_inner_texts() == ["discharge", "storms", "flood"]
    storms, flood = page.locator(".others .head").all()
    for time in (1, 3):
        page.locator(".others .tag").nth(time).click()
        expect(storms.locator("caption")).to_have_text(f"At step {time}; given from 50% on")
        assert probabilities(storms) == labelled(["wind", "hail"], heads["storms"]["probabilities"][0][time])
        assert marked(storms) == heads["storms"]["labels"][0][time]
        expect(page.locator(".curve-reading").first).to_contain_text(f"Step {time}: ")
    assert probabilities(flood) == labelled(["no", "yes"], heads["flood"]["probabilities"][0])


class TestStaticInputs:
    def test_they_are_edited_sent_and_kept_in_the_link(self, shown, served, tmp_path):
        page = shown(model="basin", unit=3)
        field = page.get_by_label("Once for the sequence: area_km2, slope")
        expect(field).to_have_value("1.5, -0.25")
        field.fill("0.5 2")
        field.press("Enter")
        expect(page).to_have_url(re.compile("#request="))
        request = asked(page)
        assert request == {"inputs": [STEPS], "static_inputs": [[0.5, 2]]}
        page.reload()
        expect(field).to_have_value("0.5, 2")
        expected = served.post("/v1/models/basin/trace", json=request).json()["signals"]["forget_gate"][0][0][0]
        page.get_by_role("button", name="Copy as Python").click()
        page.get_by_text("Copied as Python.").wait_for()
        (tmp_path / "script.py").write_text(page.evaluate("navigator.clipboard.readText()"))
        told = run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True).stdout
        line = next(line for line in told.splitlines() if line.startswith("forget_gate"))
        assert json.loads(line.removeprefix("forget_gate ")) == [step[3] for step in expected]

    def test_each_sequence_has_its_own_in_the_order_of_the_model(self, shown):
        page = shown(model="basin", example=1)
        field = page.get_by_label("Once for the sequence")
        expect(field).to_have_value("2, 0.5")
        page.get_by_role("combobox", name="Sequence").select_option("1")
        expect(field).to_have_value("3, -1")
        field.fill("4, -1")
        page.get_by_role("button", name="Show the gates").click()
        expect(page).to_have_url(re.compile("#request="))
        assert asked(page) == {"inputs": [STEPS, STEPS[2:]], "static_inputs": [[2, 0.5], [4, -1]]}

    def test_what_cannot_be_sent_or_is_refused_is_said_and_stays(self, inspector, served):
        page = inspector(url=str(served.base_url).rstrip("/"), model="basin", expected=(REFUSED,))
        field = page.get_by_label("Once for the sequence")
        field.fill("1.5, steep")
        field.press("Enter")
        expect(page.locator(".wrong")).to_have_text("At slope: 'steep' is no number.")
        for given, said in (
            ("1.5, 2, 3", "has 3 static features; model 'basin' takes 2"),
            ("", "is missing: model 'basin'"),
        ):
            field.fill(given)
            field.press("Enter")
            expect(page.locator(".notice")).to_contain_text(said)
            expect(page.locator(".notice code")).to_contain_text("static_inputs")
            expect(field).to_have_value(given)
        field.fill("1, 2")
        field.press("Enter")
        expect(page.locator(".notice")).to_be_hidden()

    def test_they_are_changed_beside_a_sequence_too_long_for_the_field(self, shown, tmp_path):
        steps = np.full((40_000, 2), 0.25)
        np.save(tmp_path / "long.npy", steps)
        page = shown(model="basin")
        page.set_input_files("#file", tmp_path / "long.npy")
        expect(page.locator("#status")).to_contain_text("40,000 steps")
        page.reload()  # only the stored trace is known: its static inputs are shown
        expect(page.locator("#status")).to_contain_text("40,000 steps")
        expect(page.get_by_label("Once for the sequence")).to_have_value("1.5, -0.25")
        page.set_input_files("#file", tmp_path / "long.npy")
        expect(page.locator("#values")).to_have_attribute("placeholder", re.compile("too many to be edited"))
        page.get_by_label("Once for the sequence").fill("3, 4")
        with page.expect_request("**/v1/traces") as sent:
            page.get_by_role("button", name="Show the gates").click()
        body = sent.value.post_data_json
        assert (len(body["inputs"][0]), body["static_inputs"]) == (40_000, [[3, 4]])
        expect(page.locator("#status")).to_contain_text("40,000 steps")

    def test_a_request_without_them_takes_those_of_the_field(self, shown):
        page = shown(model="basin")
        page.locator("#values").fill(json.dumps([STEPS, STEPS[3:]]))
        page.get_by_role("button", name="Show the gates").click()
        expect(page).to_have_url(re.compile("#request="))
        assert asked(page) == {"inputs": [STEPS, STEPS[3:]], "static_inputs": [[1.5, -0.25]] * 2}


def test_columns_of_a_request_are_shown_in_the_order_of_the_model(shown):
    page = shown(model="total")
    body = {"columns": ["q_mm", "rain_mm"], "inputs": [[1, 2], [3, 4]]}
    page.locator("#values").fill(json.dumps(body))
    page.get_by_role("button", name="Show the gates").click()
    expect(page.locator("#values")).to_have_value("rain_mm, q_mm\n2, 1\n4, 3")


def test_unknown_tokens_are_told_under_the_text(shown):
    request = json.dumps({"text": ["the dog sat", "a zebra on the unicorn"]})
    page = shown(model="topics")
    page.goto(f"{page.url.partition('?')[0]}?model=topics&unit=1#request={quote(request)}")
    notes = page.locator("#text").get_by_role("note").locator("li")
    message = "'{}' is not in the model's vocabulary; it was read as '<unk>'"
    expect(notes).to_have_text([f"step 1: {message.format('dog')}"])
    assert page.locator(".token.unknown").all_inner_texts() == ["dog"]
    page.get_by_role("combobox", name="Sequence").select_option("1")
    expect(notes).to_have_text([f"step {at}: {message.format(word)}" for at, word in ((1, "zebra"), (4, "unicorn"))])
    page.locator("#values").fill("the cat sat")
    page.get_by_role("button", name="Show the gates").click()
    expect(notes).to_have_count(0)
    expect(page.locator(".text-notes")).to_be_hidden()


def test_each_module_is_looked_at_with_its_own_states_and_explained(shown, served):
    request = served.get("/v1/models/basin").json()["examples"][0]["request"]
    page = shown(model="basin", unit=2, time=1, part="f")
    for module in ("upper", "lower"):
        page.get_by_role("combobox", name="Module").select_option(module)
        trace = served.post("/v1/models/basin/trace", json=request | {"module": module}).json()
        gate = trace["signals"]["input_gate"][0][0][0][1][2]
        expect(page.locator("#overview .reading")).to_contain_text(f"Step 1, unit 2: i {gate:.2f}, ")
        point = {"module": module, "layer": 0, "time_step": 1, "unit": 2}
        explained = served.post("/v1/models/basin/explain", json=request | point).json()["gates"]["forget_gate"]
        expect(page.locator(".formula.numbers")).to_contain_text(explained["formula"].replace("sigmoid", "σ"))
    page.locator("#overview .plot").press("Home")
    expect(page.locator("#strip .arithmetic").first).to_contain_text("·0 + ")  # it began with zeros
    assert "NaN" not in page.locator("body").inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 400)])
@pytest.mark.parametrize("model", ["basin", "topics", "spans"])
def test_the_predictions_are_accessible_and_fit_their_width(shown, model, scheme, width):
    page = shown(model=model, time=1, width=width, scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def asked(page) -> dict:
    """The request in the address."""
    return json.loads(unquote(urlsplit(page.url).fragment.removeprefix("request=")))


def probabilities(place) -> dict[str, str]:
    """The table of labels, without its marks."""
    rows = place.locator(".classes tbody tr").all()
    return {row.locator("th").inner_text().split()[0]: row.locator("td").inner_text().strip() for row in rows}


def labelled(labels: list[str], shares: list[float]) -> dict[str, str]:
    return {label: f"{100 * share:.1f}%" for label, share in zip(labels, shares, strict=True)}


def marked(place) -> list[str]:
    """The labels that the table marks as given."""
    return [text.split()[0] for text in place.locator(".classes tr.given th").all_inner_texts()]


def exported(page, view: str) -> list[list[str]]:
    """The rows of a view's chart, as it saves them."""
    page.locator(f"#{view} .export summary").click()
    with page.expect_download() as download:
        page.locator(f"#{view} .export").get_by_role("button", name="CSV").click()
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))
