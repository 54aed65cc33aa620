"""Documentation cannot fall behind."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from app import errors
from app.api.routes import ROUTES
from app.api.schemas import ModelInfo, PredictReply, PredictRequest, TraceReply, TraceRequest
from app.cli import cli
from app.pipeline.features import Feature
from app.pipeline.tokens import TokenInputs
from app.repository.manifest import Manifest
from app.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def doc(name):
    return (ROOT / "docs" / name).read_text()


def subclasses(kind):
    return {kind, *(deeper for below in kind.__subclasses__() for deeper in subclasses(below))}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route):
    assert f"`{route.method} {route.path}`" in doc("api.md")


@pytest.mark.parametrize("schema", [PredictRequest, TraceRequest, PredictReply, TraceReply, ModelInfo])
def test_every_field_of_the_wire_is_documented(schema):
    for name in schema.model_fields:
        assert re.search(rf"`{name}[`.]", doc("api.md")), name


def test_every_error_is_documented():
    for error in subclasses(errors.AppError) - {errors.AppError}:
        if error.__module__ == errors.__name__:
            assert f"`{error.__name__}`" in doc("api.md")


def test_every_setting_is_documented_with_its_default():
    for name, field in Settings.model_fields.items():
        row = next(line for line in doc("configuration.md").splitlines() if f"`GATESCOPE_{name.upper()}`" in line)
        assert field.default in ((), None) or f"`{field.default}`" in row


@pytest.mark.parametrize(
    ("prefix", "schema"),
    [
        ("", Manifest),
        *(
            (f"{name}.", field.annotation)
            for name, field in Manifest.model_fields.items()
            if name in ("lstm", "output")
        ),
        ("input.features.", Feature),
        ("input.", TokenInputs),
    ],
)
def test_every_field_of_the_manifest_is_documented(prefix, schema):
    sections = {"input", "lstm", "head", "output", "examples"}
    for name, field in schema.model_fields.items():
        assert field.description
        assert f"`{prefix}{name}`" in doc("models.md") or (not prefix and name in sections)


def test_the_manifests_in_the_documentation_are_valid():
    blocks = re.findall(r"```toml\n(.*?)```", doc("models.md"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        Manifest.model_validate(tomllib.loads(block))


def test_every_command_is_documented_and_every_documented_option_exists():
    commands = typer.main.get_command(cli).commands
    for name, command in commands.items():
        assert f"## `gatescope {name}" in doc("command-line.md")
        options = {option for parameter in command.params for option in parameter.opts}
        for line in re.findall(rf"^gatescope {name} .*$", doc("command-line.md") + README, re.MULTILINE):
            assert {word for word in shlex.split(line) if word.startswith("--")} <= options


def test_every_link_between_documents_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


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


@pytest.mark.parametrize("command", ["run", "test"])
def test_the_readmes_two_commands_exist(command):
    assert f"make {command}" in README
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
