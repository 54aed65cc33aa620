"""Which format a manifest is of, and files that are none."""

import pytest

from gatescope.errors import ManifestError
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.manifest_v1 import ManifestV1

LSTM = """
description = "an LSTM"

[input]
kind = "features"
features = [{ name = "a" }]
"""
LAYERS = LSTM + '[[layers]]\nname = "lstm"\ntype = "lstm"\n'


@pytest.mark.parametrize(
    ("manifest", "kind"), [(LSTM, ManifestV1), ("format = 1\n" + LSTM, ManifestV1), ("format = 2\n" + LAYERS, Manifest)]
)
def test_a_manifest_is_read_in_the_format_that_it_is_written_in(folder, manifest, kind):
    assert type(read_manifest(folder(manifest))) is kind


@pytest.mark.parametrize("number", ["3", "0", "-1", "2.0", "true", '"2"', "[2]"])
def test_another_format_is_refused_with_those_that_are_read(refusal, number):
    refused = refusal(f"format = {number}\n{LAYERS}")
    assert refused.startswith("river/model.toml has format ")
    assert "this version of Gatescope reads formats 1 to 2: a newer version may read it" in refused


def test_layers_belong_into_format_2(refusal):
    assert "river/model.toml: layers" in refusal(LAYERS)


def test_a_byte_order_mark_is_no_part_of_it(folder):
    assert read_manifest(folder(("\ufeff" + LSTM).encode())).description == "an LSTM"


def test_a_missing_manifest_is_named(tmp_path):
    (tmp_path / "river").mkdir()
    with pytest.raises(ManifestError, match=r"river/model\.toml cannot be read: No such file"):
        read_manifest(tmp_path / "river")


@pytest.mark.parametrize("text", ["description = ", "[input\n", "a = 1\na = 2\n", b"description = '\xff'"])
def test_what_is_not_toml_is_refused(refusal, text):
    assert "river/model.toml cannot be read" in refusal(text)


def test_what_is_nested_too_deeply_is_refused(refusal):
    assert "river/model.toml cannot be read" in refusal("a = " + "[" * 100_000)


@pytest.mark.parametrize("text", ["", "format = 2"])
def test_an_empty_manifest_lacks_its_description(refusal, text):
    assert "river/model.toml: description" in refusal(text)
