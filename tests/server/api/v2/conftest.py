"""Requests of the Open Inference Protocol, by hand and by its stock client."""

import json

import numpy as np
import pytest
import tritonclient.http as stock


def json_tensor(name, array, datatype="FP32"):
    array = np.asarray(array)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def framed(message, *blobs):
    """JSON, and the bytes behind it: a body and its header."""
    text = json.dumps(message).encode()
    return b"".join([text, *blobs]), {"Inference-Header-Content-Length": str(len(text))}


def opened(reply):
    """The arrays of a reply by name, from JSON or from the bytes behind it."""
    assert reply.status_code == 200, reply.text
    stated = reply.headers.get("inference-header-content-length")
    text, behind = (
        (reply.content, b"") if stated is None else (reply.content[: int(stated)], reply.content[int(stated) :])
    )
    arrays = {}
    for output in json.loads(text)["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(output["data"], dtype=np.float32)
        else:
            values, behind = np.frombuffer(behind[:size], dtype=np.float32), behind[size:]
        arrays[output["name"]] = values.reshape(output["shape"])
    assert not behind
    return arrays


def refusal(reply, status=400):
    """What an error says, which must be in the protocol's form."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.json().keys() == {"error"}
    return reply.json()["error"]


@pytest.fixture(scope="session")
def wire():
    """The functions above."""
    from types import SimpleNamespace  # noqa: PLC0415

    return SimpleNamespace(tensor=json_tensor, framed=framed, opened=opened, refusal=refusal)


@pytest.fixture(scope="session")
def ask(client):
    """POST a request in JSON to a model: the reply."""

    def post(model, inputs, outputs=(), **more):
        body = {"inputs": inputs} | ({"outputs": [{"name": name} for name in outputs]} if outputs else {})
        return client.post(f"/v2/models/{model}/infer", json=body | more)

    return post


@pytest.fixture
def stock_client():
    """`stock_client(httpx_client)`: tritonclient on the same server."""
    opened_here = []

    def connect(client):
        opened_here.append(stock.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}"))
        return opened_here[-1]

    yield connect
    for each in opened_here:
        each.close()
