"""The inspector of models around `nn.GRU` and `nn.RNN`, in a real browser."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.cells.equations import run as run_equations
from tests.server.api import recurrent, variants
from tests.server.api.recurrent import equations, fed

pytestmark = pytest.mark.inspector

ROWS = np.random.default_rng(12).normal(0, 1, (9, 3)).astype(np.float32).tolist()


@pytest.fixture(scope="module")
def made():
    return recurrent.made()


@pytest.fixture(scope="module")
def served(made, serve_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("recurrent")
    recurrent.write(root, made, {"inputs": ROWS})
    with serve_models(root) as client:
        yield client


def number(text):
    return float(text.replace("−", "-"))


def shown(page, symbol):
    """The value of a signal that the cell's view shows."""
    return number(
        page.locator(".cell-value", has=page.locator(f"i:text-is('{symbol}')")).locator(".value").inner_text()
    )


def open_at(inspector, served, **view):
    page = inspector(url=str(served.base_url), **view)
    page.locator(".cell-detail .formula.numbers").wait_for()
    return page


@pytest.mark.parametrize(("model", "direction"), [("gru", "forward"), ("gru-both", "reverse")])
def test_the_hidden_state_of_a_gru_is_put_together_from_its_terms(inspector, served, made, model, direction):
    page = open_at(inspector, served, model=model, layer=1, unit=2, time=3, direction=direction)
    expected = equations(made[model].module, fed(ROWS))
    at = (1, int(direction == "reverse"), 3, 2)
    for symbol, name in (("r", "reset_gate"), ("z", "update_gate"), ("n", "candidate"), ("h", "hidden_state")):
        assert shown(page, symbol) == pytest.approx(expected[name][at], abs=0.006)
    before = "t+1" if direction == "reverse" else "t−1"
    detail = page.locator(".cell-detail")
    assert detail.locator(".structure").inner_text() == f"ht = (1 − zt)·nt + zt·h{before}"
    assert number(detail.locator(".numbers").inner_text().split("=")[-1].strip()) == pytest.approx(
        expected["hidden_state"][at], rel=2e-3
    )
    z, n = expected["update_gate"][at], expected["candidate"][at]
    values = [number(text) for text in detail.locator(".terms td span:not(.bar)").all_inner_texts()]
    assert values == pytest.approx(
        [(1 - z) * n, expected["hidden_state"][at] - (1 - z) * n, expected["hidden_state"][at]], abs=2e-4
    )
    assert not page.locator(".cell-diagram").is_visible()
    line = page.locator("#strip .arithmetic").inner_text()
    assert line.startswith(f"h = (1 − z)·n + z·h({before}) = ")
    assert number(line.split(" = ")[-2].split(",")[0]) == pytest.approx(expected["hidden_state"][at], abs=0.006)


def test_gates_of_a_gru_are_explained_when_they_are_pressed(inspector, served):
    page = open_at(inspector, served, model="gru", unit=1, time=4)
    point = {"inputs": ROWS, "layer": 0, "time_step": 4, "unit": 1}
    gates = served.post("/v1/models/gru/explain", json=point).json()["gates"]
    structures = {
        "reset gate": "rt = σ(Wir xt + Whr ht−1 + bir + bhr)",
        "update gate": "zt = σ(Wiz xt + Whz ht−1 + biz + bhz)",
        "candidate": "nt = tanh(Win xt + rt·Whn ht−1 + bin + rt·bhn)",
    }
    for name, structure in structures.items():
        page.get_by_role("button", name=name).click()
        detail = page.locator(".cell-detail")
        detail.locator("h3", has_text=re.compile(name, re.IGNORECASE)).wait_for()
        gate = gates[name.replace(" ", "_")]
        assert detail.locator(".structure").inner_text() == structure
        assert detail.locator(".numbers").inner_text().replace("σ", "sigmoid").endswith(gate["formula"])
        table = detail.locator(".terms", has_text="Largest recurrent")
        assert table.locator("tbody th").all_inner_texts() == [term["name"] for term in gate["largest_recurrent"]]
        summed = detail.locator(".terms", has_text="What is summed").locator("td span:not(.bar)").all_inner_texts()
        *terms, total = map(number, summed)
        assert sum(terms) == pytest.approx(total, abs=1e-3)
        assert page.get_by_role("button", name=name).get_attribute("aria-pressed") == "true"
    acts = page.locator(".cell-detail .acts").inner_text()
    assert acts.startswith("(1 − zt)·nt = ")
    page.get_by_role("button", name="reset gate").click()
    page.locator(".cell-detail .acts", has_text="rt·(Whn ht−1 + bhn) = ").wait_for()
    assert number(page.locator(".cell-detail .acts").inner_text().split(" = ")[-1]) == pytest.approx(
        gates["candidate"]["recurrent_term"], rel=2e-3
    )


def test_overview_orders_and_saturation_are_those_of_its_signals(inspector, served):
    page = open_at(inspector, served, model="gru", sort="timescale")
    options = page.locator("#overview .toolbar label", has_text="Show").locator("option").all_inner_texts()
    assert options == ["all signals", "reset gate", "update gate", "candidate", "hidden state"]
    sorts = page.locator("#overview .toolbar label", has_text="Units by").locator("option").all_inner_texts()
    assert sorts == ["number", "saturation", "timescale", "variance", "similarity"]
    page.get_by_text("Sorted by how long the unit remembers, by its update gate").wait_for()
    assert page.locator("#scatter select option").all_inner_texts() == ["reset gate", "update gate"]


@pytest.mark.parametrize(("model", "function"), [("tanh", "tanh"), ("relu", "relu")])
def test_a_plain_network_has_its_one_signal_and_its_sum(inspector, served, made, model, function):
    page = open_at(inspector, served, model=model, unit=2, time=3)
    expected = equations(made[model].module, fed(ROWS))
    assert shown(page, "h") == pytest.approx(expected["hidden_state"][0, 0, 3, 2], abs=0.006)
    detail = page.locator(".cell-detail")
    assert detail.locator(".structure").inner_text() == f"ht = {function}(Wih xt + Whh ht−1 + bih + bhh)"
    summed = detail.locator(".terms", has_text="What is summed").locator("td span:not(.bar)").all_inner_texts()
    assert number(summed[-1]) == pytest.approx(expected["pre_activation"][0, 0, 3, 2], rel=2e-3)
    assert not page.locator("#scatter").is_visible()
    legend = page.locator("#overview .legend > span").inner_text().split()
    assert legend == ["h", "−1", "1"] if model == "tanh" else legend[:2] == ["h", "0"]


def test_modules_of_several_cells_are_looked_at_in_turn(inspector, served):
    page = open_at(inspector, served, model="mixed", time=2)
    assert shown(page, "z") > 0
    page.get_by_label("Module").select_option("second")
    page.locator(".cell-diagram").wait_for()
    assert not page.locator(".cell-values").is_visible()
    page.get_by_label("Module").select_option("third")
    page.locator(".structure", has_text="ht = tanh(").wait_for()


@pytest.mark.parametrize(
    ("model", "scheme", "width"), [("gru", "light", 1440), ("gru", "dark", 390), ("relu", "light", 390)]
)
def test_the_page_is_accessible_and_fits_its_width(inspector, served, model, scheme, width):
    page = open_at(inspector, served, model=model, time=1, unit=2, width=width, scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def of_other_functions(serve_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("variants")
    variants.write(root, {"inputs": [variants.ROWS.tolist()]})
    with serve_models(root) as client:
        yield client


STRUCTURES = [
    ("relu", "output gate", "ot = hard_sigmoid(Wio xt + Who ht−1 + bio + bho)"),
    ("relu", "cell state", "ct = ft·ct−1 + it·gt"),
    ("relu", "hidden state", "ht = ot·relu(ct)"),
    ("before", "candidate", "nt = tanh(Win xt + Whn (rt⊙ht−1) + bin + bhn)"),
    ("soft", "hidden state", "ht = softsign(Wih xt + Whh ht−1 + bih + bhh)"),
]


@pytest.mark.parametrize(("model", "signal", "structure"), STRUCTURES)
def test_cells_of_other_functions_are_explained_with_them(inspector, of_other_functions, model, signal, structure):
    """PyTorch's figure of an LSTM is not shown for them: it says tanh."""
    page = open_at(inspector, of_other_functions, model=model, unit=2, time=4)
    assert not page.locator(".cell-diagram").is_visible()
    button = page.get_by_role("button", name=signal)
    if button.get_attribute("aria-pressed") != "true":
        button.click()
    detail = page.locator(".cell-detail")
    detail.locator("h3", has_text=re.compile(signal, re.IGNORECASE)).wait_for()
    assert detail.locator(".structure").inner_text() == structure
    cell, functions, _ = variants.MODELS[model]
    zeros = [np.zeros(variants.HIDDEN)] * (2 if cell == "lstm" else 1)
    rows = variants.ROWS.astype(np.float64)
    expected = run_equations(cell, functions, rows, [variants.weights(cell)], [zeros])[0]
    name = signal.replace(" ", "_")
    symbol = {"output gate": "o", "cell state": "c", "candidate": "n"}.get(signal, "h")
    assert shown(page, symbol) == pytest.approx(expected[name][0, 0, 4, 2], abs=0.006)
