"""What holds for the clients as a whole."""

import inspect
import subprocess
import sys

import pytest

from gatescope import dataset
from gatescope.client import AsyncClient, AsyncSession, Client, Session

FORBIDDEN = ("torch", "pydantic", "pydantic_core", "fastapi", "starlette", "uvicorn", "orjson", "safetensors", "xarray")
ASK = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Forbidden())
import numpy as np
from gatescope import AsyncClient, Client

with Client(URL) as client:
    week = np.array(client.model("demand")["examples"][1]["request"]["inputs"][0][:20], dtype=np.float32)
    said = client.predict("demand", week, outputs=["prediction", "final_state"])
    assert said.values.shape == (1, 20, 1)
    with client.session("demand", initial_state=said.final_state) as stream:
        assert stream.step(week.tolist()).steps == 1
assert not set(sys.modules) & set(FORBIDDEN)
"""


def methods(kind):
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def test_the_client_asks_with_numpy_and_httpx_alone(shipped):
    code = f"FORBIDDEN, URL = {FORBIDDEN!r}, {str(shipped.base_url)!r}\n{ASK}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("sync", "asynchronous"), [(Client, AsyncClient), (Session, AsyncSession)])
def test_both_clients_have_the_same_methods_with_the_same_parameters(sync, asynchronous):
    assert methods(sync).keys() == methods(asynchronous).keys()
    for name, method in methods(sync).items():
        ours, theirs = inspect.signature(method), inspect.signature(methods(asynchronous)[name])
        assert list(ours.parameters) == list(theirs.parameters)
        assert next(iter(ours.parameters)) == "self"
        assert "Call[" not in str(ours.return_annotation)
        assert method.__name__ == name


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.trace("brackets", text="x"),
        lambda client: client.trace_values("any"),
        lambda client: client.resume("any").step(text="x", trace={}),
    ],
)
def test_without_xarray_a_trace_is_not_even_asked_for(client, network, monkeypatch, ask):
    monkeypatch.setattr(dataset, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gatescope\[xarray\]'"):
        ask(client)
    assert not network.requests
