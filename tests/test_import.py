"""Importing the library changes nothing in the process."""

import subprocess
import sys

import pytest


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_package_imports_neither_torch_nor_a_web_framework():
    code = "import sys, gatescope; print({'torch', 'fastapi', 'pydantic', 'numpy', 'httpx'} & sys.modules.keys())"
    assert run(code).strip() == "set()"


def test_public_names_come_from_the_library():
    code = "import gatescope; print([getattr(gatescope, name) is not None for name in gatescope.__all__])"
    assert "False" not in run(code)


@pytest.fixture(scope="module")
def effects():
    """What importing every module of the library changes, after its dependencies were imported."""
    return run(
        """
import gc, importlib, logging, pkgutil, sys, threading, warnings
import httpx, numpy, orjson, pydantic, safetensors.torch, torch

def process():
    return {
        "warning filters": list(warnings.filters),
        "threads": threading.active_count(),
        "garbage collection": (gc.get_threshold(), gc.isenabled()),
        "switch interval": sys.getswitchinterval(),
        "log handlers": list(logging.root.handlers),
        "torch threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "default type": torch.get_default_dtype(),
    }

before = process()
import gatescope
for found in pkgutil.walk_packages(gatescope.__path__, "gatescope."):
    if not found.name.startswith(("gatescope.server", "gatescope.cli")):
        importlib.import_module(found.name)
after = process()
print([name for name in before if before[name] != after[name]])
"""
    )


def test_importing_every_module_changes_nothing(effects):
    assert effects.strip() == "[]"
