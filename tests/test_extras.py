"""The extras that messages name are those of the package."""

import re
import tomllib
from pathlib import Path

from gatescope import extras

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"pysimdjson": "simdjson", "pyyaml": "yaml"}
OF_OTHERS = {"google", "starlette"}  # come with ONNX and FastAPI, and are imported, too


def test_every_package_of_an_extra_is_known():
    for extra, packages in extras.EXTRAS.items():
        names = [re.match(r"[\w-]+", line)[0] for line in PROJECT["optional-dependencies"][extra]]
        imported = {IMPORTED_AS.get(name, name).replace("-", "_") for name in names} - {"gatescope"}
        assert set(packages) - OF_OTHERS == imported


def test_what_no_extra_brings_is_left_to_the_traceback():
    assert extras.missing(ModuleNotFoundError(name="surprise")) is None
    assert extras.missing(ModuleNotFoundError()) is None
    line = "this needs xarray, which is not installed: pip install 'gatescope[xarray]'"
    assert extras.missing(ModuleNotFoundError(name="xarray.core")) == line
