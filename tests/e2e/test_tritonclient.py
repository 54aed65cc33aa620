"""The stock Triton client, unmodified, against `gatescope serve` over the shipped models."""

import asyncio
import gzip
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tritonclient.http as sync
from safetensors.torch import load_file
from torch import nn
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from gatescope.backends import reference
from gatescope.cells import LSTM

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
TEXT = "ROMEO: O, she doth teach"
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
IDS = np.array([[CHARACTERS.index(character) for character in TEXT]])
CODINGS = [None, "gzip", "deflate"]
_ids = count(500_000)


@pytest.fixture(scope="module")
def address(shipped):
    return f"{shipped.base_url.host}:{shipped.base_url.port}"


@pytest.fixture
def triton(address):
    with sync.InferenceServerClient(address) as client:
        yield client


@pytest.fixture
def awaiting(address):
    """Run `question(client)` with the asyncio client."""

    def run(question):
        async def ask():
            async with aio.InferenceServerClient(address) as client:
                return await question(client)

        return asyncio.run(ask())

    return run


@pytest.fixture(scope="module")
def shakespeare():
    """The modules whose weights are shipped, as PyTorch runs them."""
    weights = load_file(MODELS / "shakespeare" / "1" / "model.safetensors")
    network = SimpleNamespace(embedding=nn.Embedding(65, 64), lstm=nn.LSTM(64, 256, 2), head=nn.Linear(256, 65))
    for name, module in vars(network).items():
        prefix = {"embedding": "embedding.", "lstm": "lstm.", "head": "head.0."}[name]
        module.load_state_dict({key.removeprefix(prefix): weights[key] for key in weights if key.startswith(prefix)})
        module.requires_grad_(requires_grad=False)
    return network


def tensor(name, values, datatype, *, binary=True):
    made = sync.InferInput(name, list(values.shape), datatype)
    return made.set_data_from_numpy(values, binary_data=binary)


def ids(values=IDS, **more):
    return tensor("inputs", values, "INT64", **more)


def wanted(*names, binary=True):
    return [sync.InferRequestedOutput(name, binary_data=binary) for name in names]


def test_the_server_and_its_models_are_described(triton, awaiting):
    async def ask(client):
        return [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready("shakespeare", "1"),
            await client.get_server_metadata(),
            await client.get_model_metadata("shakespeare"),
            await client.get_model_config("shakespeare", "1"),
            await client.get_model_repository_index(),
        ]

    told = [
        triton.is_server_live(),
        triton.is_server_ready(),
        triton.is_model_ready("shakespeare", "1"),
        triton.get_server_metadata(),
        triton.get_model_metadata("shakespeare"),
        triton.get_model_config("shakespeare", "1"),
        triton.get_model_repository_index(),
    ]
    assert told == awaiting(ask)
    assert told[:3] == [True, True, True]
    assert {"name": "forget_gate", "datatype": "FP32", "shape": [-1, 2, 1, -1, 256]} in told[4]["outputs"]
    assert "sequence_batching" in told[5]
    assert {model["name"]: model["state"] for model in told[6]}["shakespeare"] == "READY"
    assert not triton.is_model_ready("nobody")


@pytest.mark.parametrize("packed", CODINGS)
@pytest.mark.parametrize("unpacked", CODINGS)
@pytest.mark.parametrize("binary", [True, False])
def test_predictions_and_outputs_are_the_modules_own(triton, shakespeare, packed, unpacked, binary):
    output, _ = shakespeare.lstm(shakespeare.embedding(torch.from_numpy(IDS[0])))
    given = triton.infer(
        "shakespeare",
        [ids(binary=binary)],
        outputs=wanted("output", "prediction", binary=binary),
        request_compression_algorithm=packed,
        response_compression_algorithm=unpacked,
    )
    np.testing.assert_allclose(given.as_numpy("output")[0], output, atol=1e-5)
    np.testing.assert_allclose(given.as_numpy("prediction")[0], shakespeare.head(output), atol=1e-4)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_asyncio_client_gets_the_same(triton, awaiting, coding):
    async def ask(client):
        return await client.infer(
            "shakespeare",
            [ids()],
            outputs=wanted("forget_gate"),
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )

    expected = triton.infer("shakespeare", [ids()], outputs=wanted("forget_gate")).as_numpy("forget_gate")
    np.testing.assert_array_equal(awaiting(ask).as_numpy("forget_gate"), expected)


def test_any_gate_can_be_asked_for(triton, shipped, shakespeare):
    given = triton.infer("shakespeare", [ids()], outputs=wanted(*LSTM.signal_names))
    expected = reference.run(shakespeare.lstm, shakespeare.embedding(torch.from_numpy(IDS[0])).double())
    traced = shipped.post("/v1/models/shakespeare/trace", json={"text": TEXT, "units": [7]}).json()
    for name in LSTM.signal_names:
        np.testing.assert_allclose(given.as_numpy(name)[0], expected[name], atol=1e-5)
        np.testing.assert_array_equal(
            given.as_numpy(name)[..., 7:8], np.array(traced["signals"][name], dtype=np.float32)
        )
    assert given.get_response()["parameters"]["residual"] < 1e-5


@pytest.mark.parametrize("binary", [True, False])
def test_text_goes_in_as_bytes(triton, shipped, binary):
    texts = np.array(["I love China", "Grüße"], dtype=object)
    given = triton.infer("pos-tagger", [tensor("text", texts, "BYTES", binary=binary)], request_id="a-7")
    told = shipped.post("/v1/models/pos-tagger/predict", json={"text": list(texts)}).json()["prediction"]["values"]
    np.testing.assert_array_equal(given.as_numpy("prediction")[0], np.array(told[0], dtype=np.float32))
    np.testing.assert_array_equal(given.as_numpy("prediction")[1, :1], np.array(told[1], dtype=np.float32))
    assert np.isnan(given.as_numpy("prediction")[1, 1:]).all()
    assert given.get_response()["id"] == "a-7"


@pytest.mark.parametrize("binary", [True, False])
def test_lengths_and_states_go_in_and_come_out(triton, binary):
    both = np.concatenate([IDS, IDS[:, ::-1]])
    lengths = tensor("sequence_lengths", np.array([24, 10]), "INT64", binary=binary)
    names = ("output", "final_hidden_state", "final_cell_state")
    given = triton.infer("shakespeare", [ids(both), lengths], outputs=wanted(*names, binary=binary))
    assert np.isnan(given.as_numpy("output")[1, 10:]).all()
    states = [
        tensor(name.replace("final", "initial"), given.as_numpy(name)[1:], "FP32", binary=binary) for name in names[1:]
    ]
    rest = triton.infer("shakespeare", [ids(both[1:, 10:]), *states], outputs=wanted("output"))
    whole = triton.infer("shakespeare", [ids(both[1:])], outputs=wanted("output"))
    np.testing.assert_allclose(rest.as_numpy("output"), whole.as_numpy("output")[:, 10:], atol=1e-5)


def test_fifty_at_once_get_each_their_own(triton, awaiting):
    lines = [IDS[:, : 1 + index % 24] for index in range(50)]

    async def ask(client):
        return await asyncio.gather(*(client.infer("shakespeare", [ids(line)]) for line in lines))

    for line, given in zip(lines[:24], awaiting(ask), strict=False):
        alone = triton.infer("shakespeare", [ids(line)])
        np.testing.assert_allclose(given.as_numpy("prediction"), alone.as_numpy("prediction"), atol=1e-5)


def test_fifty_clients_of_greenlets_get_each_their_own(address):
    with sync.InferenceServerClient(address, concurrency=50) as client:
        asked = [client.async_infer("shakespeare", [ids(IDS[:, : 1 + index % 24])]) for index in range(50)]
        shapes = [each.get_result().as_numpy("prediction").shape for each in asked]
    assert shapes == [(1, 1 + index % 24, 65) for index in range(50)]


class TestSequences:
    """Streams, as the client drives them."""

    @pytest.mark.parametrize("name", [next(_ids), "a-stream"])
    def test_in_steps_they_equal_the_whole(self, triton, shakespeare, name):
        given = [
            triton.infer(
                "shakespeare",
                [ids(IDS[:, index : index + 4])],
                sequence_id=name,
                sequence_start=index == 0,
                sequence_end=index == 20,
            ).as_numpy("prediction")[0]
            for index in range(0, 24, 4)
        ]
        output, _ = shakespeare.lstm(shakespeare.embedding(torch.from_numpy(IDS[0])))
        np.testing.assert_allclose(np.concatenate(given), shakespeare.head(output), atol=1e-4)

    def test_fifty_of_them_do_not_mix(self, awaiting, shakespeare):
        async def run(client, name, line):
            parts = []
            for index in range(3):
                flags = {"sequence_start": index == 0, "sequence_end": index == 2}
                part = ids(line[:, index : index + 1])
                parts.append(await client.infer("shakespeare", [part], sequence_id=name, **flags))
            return np.concatenate([part.as_numpy("prediction")[0] for part in parts])

        lines = [IDS[:, index % 20 : index % 20 + 3] for index in range(50)]

        async def ask(client):
            return await asyncio.gather(*(run(client, next(_ids), line) for line in lines))

        for line, given in zip(lines, awaiting(ask), strict=True):
            output, _ = shakespeare.lstm(shakespeare.embedding(torch.from_numpy(line[0])))
            np.testing.assert_allclose(given, shakespeare.head(output), atol=1e-4)

    def test_before_its_start_and_after_its_end_one_is_refused(self, triton):
        name = next(_ids)
        for flags in ({}, {"sequence_end": True}):
            with pytest.raises(InferenceServerException, match="must specify the START flag") as caught:
                triton.infer("shakespeare", [ids()], sequence_id=name, **flags)
            assert caught.value.status() == "400"
            triton.infer("shakespeare", [ids()], sequence_id=name, sequence_start=True, sequence_end=True)

    def test_a_batch_is_no_step(self, triton):
        with pytest.raises(InferenceServerException, match="a batch of 1, not of 2"):
            triton.infer("shakespeare", [ids(np.repeat(IDS, 2, 0))], sequence_id=next(_ids), sequence_start=True)

    def test_a_bidirectional_model_is_refused(self, triton):
        text = tensor("text", np.array(["I love China"], dtype=object), "BYTES")
        with pytest.raises(InferenceServerException, match="is bidirectional") as caught:
            triton.infer("pos-tagger", [text], sequence_id=next(_ids), sequence_start=True)
        assert caught.value.status() == "400"


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "message", "status"),
    [
        ("nobody", ids(), None, "Request for unknown model", "404"),
        ("shakespeare", ids(np.zeros((0, 3), np.int64)), None, r"has shape \[0, 3\]", "400"),
        ("shakespeare", ids(np.array([[65]])), None, "token id 65 is outside the vocabulary", "400"),
        ("shakespeare", tensor("inputs", np.zeros((1, 3), np.float32), "FP32"), None, "takes INT64", "400"),
        ("shakespeare", ids(), wanted("forgot_gate"), "did you mean 'forget_gate'", "400"),
        ("river", tensor("inputs", np.full((1, 2, 7), np.nan, np.float32), "FP32"), None, "must be a finite", "400"),
    ],
)
def test_what_does_not_fit_is_told_in_words(triton, awaiting, model, inputs, outputs, message, status):
    with pytest.raises(InferenceServerException, match=message) as caught:
        triton.infer(model, [inputs], outputs=outputs)
    assert caught.value.status() == status
    with pytest.raises(InferenceServerException, match=message):
        awaiting(lambda client: client.infer(model, [inputs], outputs=outputs))


def test_statistics_count_what_was_asked(triton, awaiting):
    (before,) = triton.get_inference_statistics("demand")["model_stats"]
    width = triton.get_model_metadata("demand")["inputs"][0]["shape"][2]
    triton.infer("demand", [tensor("inputs", np.zeros((3, 2, width), np.float32), "FP32")])
    (after,) = awaiting(lambda client: client.get_inference_statistics("demand", "1"))["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    listed = triton.get_inference_statistics()["model_stats"]
    assert "demand" in {told["name"] for told in listed}


def test_a_model_goes_and_comes_back(triton):
    triton.unload_model("brackets")
    try:
        assert not triton.is_model_ready("brackets")
        with pytest.raises(InferenceServerException, match="it was unloaded"):
            triton.infer("brackets", [ids(np.zeros((1, 2), np.int64))])
    finally:
        triton.load_model("brackets")
    assert triton.is_model_ready("brackets")
    with pytest.raises(InferenceServerException, match="failed to load"):
        triton.load_model("nobody")


def test_the_documentations_example_works(address):
    section = (ROOT / "docs" / "api.md").read_text().partition("## Open Inference Protocol")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert "127.0.0.1:8000" in code
    names = {}
    exec(code.replace("127.0.0.1:8000", address), names)  # noqa: S102 - our own documentation
    assert names["answer"].as_numpy("forget_gate").shape == (1, 1, 2, 3, 160)
    names["client"].close()


def test_lies_do_not_hurt_those_who_come_after(shipped, triton):
    body, size = triton.generate_request_body([ids()])
    path, name = "/v2/models/shakespeare/infer", "Inference-Header-Content-Length"
    lies = [
        (body, {name: str(size + 1)}, 400),
        (body, {name: "-1"}, 400),
        (body, {name: "1e3"}, 400),
        (body, {name: str(len(body) + 1)}, 400),
        (body, {}, 400),
        (body + b"surplus", {name: str(size)}, 400),
        (body[:-1], {name: str(size)}, 400),
        (gzip.compress(bytes(20_000_000), 1), {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(body)[:-9], {"Content-Encoding": "gzip", name: str(size)}, 400),
        (body, {"Content-Encoding": "deflate", name: str(size)}, 400),
        (body, {"Content-Encoding": "br", name: str(size)}, 415),
    ]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda lie: shipped.post(path, content=lie[0], headers=lie[1]), lies))
    assert [reply.status_code for reply in replies] == [status for _, _, status in lies]
    assert all(reply.json().keys() == {"error"} for reply in replies)
    assert triton.infer("shakespeare", [ids()]).as_numpy("prediction").shape == (1, 24, 65)
