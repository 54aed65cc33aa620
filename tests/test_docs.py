"""Documentation cannot fall behind."""

import json
import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer
import yaml
from safetensors.torch import save_model
from torch import nn

from gatescope import errors
from gatescope.analysis.registry import analyses
from gatescope.checkpoints.structure.options import Options
from gatescope.cli import main
from gatescope.cli.commands import cli
from gatescope.cli.connection import Connection
from gatescope.client import Client, Session
from gatescope.pipeline.features import Feature, FeatureInputs, StaticInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.activation import FUNCTIONS
from gatescope.pipeline.layers.layer import LayerConfig as AnyLayer
from gatescope.pipeline.manifest import Example, Manifest, NotComputed
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.model import Model
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.query import Query
from gatescope.pipeline.sample import Sample
from gatescope.pipeline.tokens import TokenInputs
from gatescope.selection import Selection
from gatescope.server.api.routes import ROUTES
from gatescope.server.api.schema.corpora import CorpusReply, CorpusRequest, PatternRequest, SearchRequest
from gatescope.server.api.schema.intervene_reply import DifferenceReply, InterveneReply, PredictionDifference
from gatescope.server.api.schema.job_replies import JobReply
from gatescope.server.api.schema.replies import (
    ExplainReply,
    ModelInfo,
    PredictionReply,
    PredictReply,
    SampleReply,
    StoredTraceInfo,
    TraceReply,
    TraceValuesReply,
    UploadReply,
)
from gatescope.server.api.schema.requests import (
    ExplainRequest,
    InterveneRequest,
    InterventionRequest,
    PredictRequest,
    SamplingRequest,
    StoreTraceRequest,
    StreamedStepRequest,
    TraceRequest,
)
from gatescope.server.api.v2.schemas import InferParameters, InferReply, InferRequest, InputTensor
from gatescope.server.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))


def doc(name):
    return (ROOT / "docs" / name).read_text()


def subclasses(kind):
    return {kind, *(deeper for below in kind.__subclasses__() for deeper in subclasses(below))}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route):
    assert f"`{route.method} {route.path}`" in doc("api.md")


@pytest.mark.parametrize(
    "schema",
    [
        PredictRequest,
        SamplingRequest,
        StreamedStepRequest,
        TraceRequest,
        ExplainRequest,
        InterveneRequest,
        InterventionRequest,
        InterveneReply,
        DifferenceReply,
        PredictionDifference,
        StoreTraceRequest,
        PredictReply,
        PredictionReply,
        SampleReply,
        TraceReply,
        ExplainReply,
        StoredTraceInfo,
        TraceValuesReply,
        ModelInfo,
        UploadReply,
        JobReply,
        CorpusRequest,
        CorpusReply,
        PatternRequest,
        SearchRequest,
        InferRequest,
        InferParameters,
        InputTensor,
        InferReply,
    ],
)
def test_every_field_of_the_wire_is_documented(schema):
    for name in schema.model_fields:
        assert re.search(rf"`{name}[`.]", doc("api.md")), name


@pytest.mark.parametrize("name", Options.__dataclass_fields__)
def test_every_parameter_of_an_upload_is_documented(name):
    assert re.search(rf"^\|.*`{name}`.*\|.*\|$", doc("api.md").partition("## Administration")[2], re.MULTILINE)


@pytest.mark.parametrize("analysis", analyses().values(), ids=analyses())
def test_every_analysis_is_documented(analysis):
    section = doc("analyses.md").partition(f"### `{analysis.name}`")[2].partition("###")[0]
    for name in (*analysis.parameters.model_fields, *analysis.arrays):
        assert f"`{name}`" in section, name


def test_every_error_is_documented():
    for error in subclasses(errors.AppError) - {errors.AppError}:
        if error.__module__ == errors.__name__:
            assert f"`{error.__name__}`" in doc("api.md")


def test_every_setting_is_documented_with_its_default():
    for name, field in Settings.model_fields.items():
        row = next(line for line in doc("configuration.md").splitlines() if f"`GATESCOPE_{name.upper()}`" in line)
        assert field.default in ((), None) or f"`{field.default}`" in row


SECTIONS = [
    ("input", FeatureInputs),
    ("input.features", Feature),
    ("input", TokenInputs),
    ("static", StaticInputs),
    ("layers", AnyLayer),
    ("graph", GraphConfig),
    ("heads", HeadConfig),
    ("not_computed", NotComputed),
    ("examples", Example),
    ("sample", Sample),
]
LAYERS = {kind.model_fields["type"].annotation.__args__[0]: kind for kind in get_args(get_args(LayerConfig)[0])}


@pytest.mark.parametrize(("section", "schema"), SECTIONS)
def test_every_field_of_a_manifests_section_is_documented(section, schema):
    for name, field in schema.model_fields.items():
        assert field.description
        assert f"| `{section}.{name}` |" in doc("models.md")


def test_every_section_and_field_of_the_manifest_is_documented():
    sections = {section for section, _ in SECTIONS}
    for name, field in Manifest.model_fields.items():
        assert field.description
        assert name in sections or f"| `{name}` |" in doc("models.md")


@pytest.mark.parametrize("kind", LAYERS)
def test_every_type_of_layer_and_its_fields_are_documented(kind):
    assert f"| `{kind}` |" in doc("models.md")
    for name, field in LAYERS[kind].model_fields.items():
        assert field.description
        if name not in (*AnyLayer.model_fields, "type"):
            assert f"| `{kind}.{name}` |" in doc("models.md")


def test_every_activation_is_documented():
    row = next(line for line in doc("models.md").splitlines() if line.startswith("| `activation.function` |"))
    assert set(re.findall(r"`(\w+)`", row)) == set(FUNCTIONS)


def test_the_manifests_in_the_documentation_are_valid(tmp_path):
    manifests = blocks(doc("models.md"), "toml")
    assert len(manifests) >= 4
    for block in manifests:
        (tmp_path / "model.toml").write_text(block)
        read_manifest(tmp_path)


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The section on manifests: its manifests, and what its scripts have made when they were run in an empty folder."""
    section = doc("models.md").partition("## The weights")[2].partition("## What a checkpoint may be")[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(section, "python"):
        exec(block, names)  # noqa: S102 - our own documentation
    return blocks(section, "toml"), names


def served(manifest, name="mine"):
    Path(f"models/{name}/model.toml").write_text(manifest)
    return Model.load(Path("models", name).resolve(), "1", torch.device("cpu"))


def test_the_model_in_the_documentation_is_served_and_verified_as_it_stands(documented):
    (manifest, *_), _ = documented
    model = served(manifest)
    inputs = torch.tensor(model.examples[0]["request"]["inputs"])
    answer = model.pipeline.answer(Query(inputs, torch.tensor([2])))
    assert answer.prediction.values.shape == (1, 2, 1)
    assert model.verified.max_error <= 1e-6


def test_the_layers_in_the_documentation_compute_what_their_module_does(documented):
    (_, _, manifest), names = documented
    module = names["Basin"]().eval().requires_grad_(requires_grad=False)
    Path("models/basin/1").mkdir(parents=True)
    save_model(module, "models/basin/1/model.safetensors")
    pipeline = served(manifest, "basin").pipeline
    weather, basin = torch.randn(2, 9, 3), torch.randn(2, 2)
    discharge, flood = module(weather, basin)
    answer = pipeline.answer(Query(weather, torch.tensor([9, 9]), static_inputs=basin))
    torch.testing.assert_close(answer.prediction.values, discharge, rtol=0, atol=1e-6)
    torch.testing.assert_close(answer.heads["flood"].values, flood, rtol=0, atol=1e-6)


def test_a_text_in_the_documentation_is_read(documented):
    (_, manifest, _), _ = documented
    Path("models/text/1").mkdir(parents=True)
    parts = {"embedding": nn.Embedding(4, 3), "lstm": nn.LSTM(3, 5), "head": nn.Sequential(nn.Linear(5, 4))}
    save_model(nn.ModuleDict(parts), "models/text/1/model.safetensors")
    assert served(manifest, "text").reads_text


def blocks(section, kind):
    return re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)


def of_the_forecaster(model, body):
    """What its own forward says of the hours ahead, each read back as the next one's input."""
    scaled = (torch.tensor(body["inputs"]) - 20.0) / 3.6
    for _ in range(body["horizon"]):
        scaled = torch.cat((scaled, model(scaled)[:, -1:]), dim=1)
    return scaled[:, -body["horizon"] :] * 3.6 + 20.0


def of_the_classifier(model, body):
    words = Path("words.txt").read_text().split()
    return model(torch.tensor([[words.index(word) for word in body["text"].split()]]))


def of_the_tagger(model, body):
    return model(torch.tensor(body["inputs"]))


def shape_of(reply):
    """A reply without its numbers, which differ between processors."""
    if isinstance(reply, dict):
        return {key: shape_of(value) for key, value in reply.items()}
    return (
        [shape_of(item) for item in reply] if isinstance(reply, list) else float if isinstance(reply, float) else reply
    )


@pytest.mark.parametrize("own", [of_the_forecaster, of_the_classifier, of_the_tagger], ids=lambda own: own.__name__)
def test_the_walk_throughs_lead_from_a_script_to_the_answers_of_its_own_forward(own, tmp_path, monkeypatch, capsys):
    title = own.__name__.replace("of_the_", "### A ")
    section = doc("models.md").partition(f"{title}\n")[2].partition("\n### ")[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(blocks(section, "python")[0], names)  # noqa: S102 - our own documentation
    importing, asking = blocks(section, "bash")
    monkeypatch.setattr("sys.argv", shlex.split(importing))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    words = shlex.split(asking.replace("\\\n", " "))
    path, body = next(word for word in words if word.startswith("http")), json.loads(words[words.index("-d") + 1])
    for manifest in blocks(section, "toml"):
        (Path("models") / path.split("/")[-2] / "model.toml").write_text(manifest)
    with Connection(None, Settings()) as connection:
        reply = json.loads(connection.post("/" + path.split("/", 3)[3], body))
    assert shape_of(reply) == shape_of(json.loads(blocks(section, "json")[0]))
    with torch.no_grad():
        expected = own(names["model"].eval(), body)
    torch.testing.assert_close(torch.tensor(reply["prediction"]["values"]), expected, rtol=0, atol=1e-5)


def test_the_custom_module_in_the_documentation_is_served_as_it_stands(tmp_path, monkeypatch):
    section = doc("models.md").partition("## Custom modules")[2]
    manifest, code = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)[1] for kind in ("toml", "python"))
    (tmp_path / "classifiers.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("classifiers").Attention(hidden=16).eval()
    folder = tmp_path / "models" / "steps"
    (folder / "1").mkdir(parents=True)
    (folder / "model.toml").write_text(manifest)
    save_model(module, folder / "1" / "model.safetensors")
    model = Model.load(folder, "1", torch.device("cpu"), allow_code=True)
    inputs = torch.randn(1, 20, 3)
    answer = model.pipeline.answer(Query(inputs, torch.tensor([20]), trace=Selection()))
    torch.testing.assert_close(answer.prediction.values, module(inputs).detach(), atol=1e-5, rtol=0)
    assert answer.trace.residual < 1e-6


def of_notebook(path, kind):
    """The sources of a notebook's cells of this kind."""
    return "\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind
    )


COMMANDS = "\n".join(
    [doc("command-line.md"), doc("index.md"), README, *(of_notebook(path, "code") for path in NOTEBOOKS)]
)


def test_every_command_is_documented_and_every_documented_option_exists():
    commands = typer.main.get_command(cli).commands
    for name, command in commands.items():
        assert f"## `gatescope {name}" in doc("command-line.md")
        options = {option for parameter in command.params for option in parameter.opts}
        for line in re.findall(rf"^\S*gatescope {name} .*$", COMMANDS, re.MULTILINE):
            assert {word for word in shlex.split(line) if word.startswith("--")} <= options


def test_every_link_between_documents_leads_somewhere():
    pages = [page for below in ("", "docs/**/", "models/*/", "examples/*/") for page in ROOT.glob(f"{below}*.md")]
    texts = {page: page.read_text() for page in pages} | {path: of_notebook(path, "markdown") for path in NOTEBOOKS}
    for page, text in texts.items():
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def pages_in(nav):
    if isinstance(nav, str):
        return {nav}
    entries = nav.values() if isinstance(nav, dict) else nav
    return {page for entry in entries for page in pages_in(entry)}


def test_the_sites_navigation_lists_every_page():
    listed = pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert {page.name for page in ROOT.glob("docs/*.md")} <= listed
    assert {f"examples/{path.stem}.md" for path in NOTEBOOKS} <= listed
    assert {str(card.relative_to(ROOT)) for card in ROOT.glob("models/*/*.md")} <= listed
    assert {"docs/decisions/0*.md", "examples/*/README.md"} <= listed


def test_the_readme_and_the_five_ways_in_link_to_every_notebook():
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        assert f"](examples/{path.name})" in README
        assert f"](../examples/{path.name})" in doc("index.md")


def test_the_readmes_request_gets_the_readmes_answer(shipped):
    command, answer = re.search(r"```bash\n(curl [^`]*?)```\s+```json\n(.*?)```", README, re.DOTALL).groups()
    words = shlex.split(command.replace("\\\n", " "))
    url, body = next(word for word in words if word.startswith("http")), words[words.index("-d") + 1]
    reply = shipped.post("/" + url.split("/", 3)[3], json=json.loads(body)).json()
    assert_close(reply, json.loads(answer))


def assert_close(given, expected):
    """Equal, but for the last digits of floats, which differ between processors."""
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for key in expected:
            if key != "residual":
                assert_close(given[key], expected[key])
    elif isinstance(expected, list):
        assert len(given) == len(expected)
        for ours, theirs in zip(given, expected, strict=True):
            assert_close(ours, theirs)
    elif isinstance(expected, float):
        assert given == pytest.approx(expected, abs=2e-4)
    else:
        assert given == expected


@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/(gatescope .*)$", README, re.MULTILINE))
def test_the_readmes_commands_work_where_the_models_are(line, tmp_path, monkeypatch, capsys):
    words = shlex.split(line, comments=True)
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    for option, file in pairwise(words):
        assert option not in ("--out", "--plot") or Path(file).stat().st_size
    assert "--out" in words or json.loads(capsys.readouterr().out)


def test_the_readme_runs_commands_and_python():
    assert len(re.findall(r"^\.venv/bin/gatescope ", README, re.MULTILINE)) >= 3
    names = {}
    exec(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], names)  # noqa: S102 - our own documentation
    assert names["t"].forget_gate.shape == (2, 2, 2, 10, 6)


@pytest.mark.parametrize("command", ["run", "test"])
def test_the_readmes_two_commands_exist(command):
    assert f"make {command}" in README
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_clients_guide_runs_as_it_stands(shipped):
    names = {}
    for block in blocks(doc("client.md"), "python"):
        exec(block.replace("http://127.0.0.1:8000", str(shipped.base_url)), names)  # noqa: S102 - our own documentation
    names["client"].close()
    assert names["message"] in doc("client.md")
    assert names["overview"].cell_state.sizes["time"] == 20
    assert names["step"].values.shape == (1, 48, 1)
    assert names["brackets"].labels.shape == (1, 5)


@pytest.mark.parametrize("kind", [Client, Session])
def test_every_method_of_the_client_is_documented(kind):
    for name, method in vars(kind).items():
        if callable(method) and not name.startswith("_") and name != "send":
            assert re.search(rf"\b{name}\b", doc("client.md")), name
