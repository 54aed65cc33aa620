"""What holds for the clients as a whole."""

import inspect
import subprocess
import sys

import pytest

from gatescope import dataset
from gatescope.client import AsyncClient, AsyncSession, Client, Session

HEAVY = ("torch", "fastapi", "starlette", "pydantic", "uvicorn", "xarray", "gatescope.server.main")


def methods(kind):
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}


def test_the_client_needs_neither_torch_nor_a_web_framework():
    code = f"import gatescope.client, sys; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(("blocking", "awaiting"), [(Client, AsyncClient), (Session, AsyncSession)])
def test_both_clients_have_the_same_methods_with_the_same_parameters(blocking, awaiting):
    assert methods(blocking).keys() == methods(awaiting).keys()
    for name, method in methods(blocking).items():
        ours, theirs = inspect.signature(method), inspect.signature(methods(awaiting)[name])
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
