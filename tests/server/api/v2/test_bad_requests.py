"""What cannot be read or does not fit is answered with the protocol's error, and nothing worse."""

import gzip
import struct
import zlib

import numpy as np
import pytest

from gatescope.cells import LSTM

pytestmark = pytest.mark.usefixtures("on_device")

INFER = "/v2/models/founding/infer"
STEP = [[[1.0, 2.0, 3.0, 4.0, 5.0]]]
FRAME = {"name": "inputs", "shape": [1, 1, 5], "datatype": "FP32"}
GOOD = FRAME | {"data": [1, 2, 3, 4, 5]}
LENGTHS = {"name": "sequence_lengths", "shape": [1], "datatype": "INT64", "data": [1]}
HIDDEN = {"name": "initial_hidden_state", "shape": [1, 2, 6], "datatype": "FP32", "data": [0.0] * 12}
CELL = HIDDEN | {"name": "initial_cell_state"}
NUMBERS = np.arange(5, dtype=np.float32).tobytes()


def binary(size):
    return {"parameters": {"binary_data_size": size}}


TENSORS = {
    "another name": (
        [GOOD | {"name": "input"}],
        "inputs: model 'founding' has no input 'input'; did you mean 'inputs'?",
    ),
    "a name that is near to none": (
        [GOOD | {"name": "x" * 1_000_000}],
        "it has inputs, sequence_lengths, initial_hidden_state",
    ),
    "text for a model of features": ([GOOD | {"name": "text"}], "has no input 'text'"),
    "one twice": ([GOOD, GOOD], "inputs: is given twice"),
    "too few features": (
        [FRAME | {"shape": [1, 1, 3], "data": [1, 2, 3]}],
        "inputs: has shape [1, 1, 3]; model 'founding' takes (batch, time, feature = 5)",
    ),
    "too few axes": ([FRAME | {"shape": [1, 5], "data": [1, 2, 3, 4, 5]}], "takes (batch, time, feature = 5)"),
    "no sequences": ([FRAME | {"shape": [0, 1, 5], "data": []}], "has shape [0, 1, 5]: its axis 'batch' is empty"),
    "no time steps": ([FRAME | {"shape": [1, 0, 5], "data": []}], "its axis 'time' is empty"),
    "no sequences, and very many steps": ([FRAME | {"shape": [0, 10**15, 5], "data": []}], "is empty"),
    "more sequences than may be": (
        [FRAME | {"shape": [10**15, 1, 5], "data": []}],
        "this server takes at most 200,000",
    ),
    "a type that is none of numbers": (
        [GOOD | {"datatype": "BOOL"}],
        "comes as BOOL; model 'founding' takes FP32 or one",
    ),
    "a type that there is not": ([GOOD | {"datatype": "FP8"}], "comes as FP8"),
    "lengths as floats": ([GOOD, LENGTHS | {"datatype": "FP32"}], "sequence_lengths: comes as FP32"),
    "a length of 0": ([GOOD, LENGTHS | {"data": [0]}], "sequence_lengths.0: sequence length 0 lies outside 1 to 1"),
    "more lengths than sequences": ([GOOD, LENGTHS | {"shape": [2], "data": [1, 1]}], "2 lengths for 1 sequences"),
    "lengths alone": ([LENGTHS], "inputs: 'inputs' is missing"),
    "half a state": ([GOOD, HIDDEN], "initial_cell_state: 'cell_state' is missing"),
    "a state of another size": (
        [GOOD, HIDDEN | {"shape": [1, 2, 5], "data": [0.0] * 10}, CELL],
        "takes (batch, layer_direction = 2, unit = 6)",
    ),
    "a state of another batch": (
        [GOOD, *(state | {"shape": [2, 2, 6], "data": [0.0] * 24} for state in (HIDDEN, CELL))],
        "initial_hidden_state: has a batch of 2, but there are 1 sequences",
    ),
    "a text for a number": (
        [FRAME | {"data": [1, 2, 3, 4, "5"]}],
        "inputs.0.0.4: must be a number, not the string '5'",
    ),
    "null for a number": ([FRAME | {"data": [[[1, 2, None, 4, 5]]]}], "inputs.0.0.2: must be a number, not null"),
    "a number too large": ([FRAME | {"data": [1, 2, 3, 4, 1e300]}], "inputs.0.0.4: must be a finite float32 number"),
    "fewer numbers than the shape says": ([FRAME | {"data": [1, 2]}], "'data' has 2 elements; a tensor of shape"),
    "no data": ([FRAME], "inputs: has no data"),
    "shared memory": ([FRAME | {"parameters": {"shared_memory_region": "a"}}], "this server reads no shared memory"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_does_not_fit_is_named_with_what_would(ask, wire, kind):
    tensors, message = TENSORS[kind]
    said = wire.refusal(ask("founding", tensors))
    assert message in said
    assert len(said) < 500


def test_a_nan_of_a_state_stands_where_it_was_sent(client, wire):
    values = np.zeros((1, 2, 6), np.float32)
    values[0, 1, 4] = np.inf
    tensors = [GOOD, CELL, {key: HIDDEN[key] for key in ("name", "shape", "datatype")} | binary(48)]
    content, headers = wire.framed({"inputs": tensors}, values.tobytes())
    reply = client.post(INFER, content=content, headers=headers)
    assert wire.refusal(reply) == "initial_hidden_state.0.1.4: must be a finite float32 number, not inf"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_in_binary(client, wire, value):
    numbers = np.array([1, 2, 3, value, 5], np.float32)
    content, headers = wire.framed({"inputs": [FRAME | binary(20)]}, numbers.tobytes())
    reply = client.post(INFER, content=content, headers=headers)
    assert "inputs.0.0.3: must be a finite float32 number" in wire.refusal(reply)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_in_json(client, wire, literal):
    text = f'{{"inputs":[{{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,{literal}]}}]}}'
    said = wire.refusal(client.post(INFER, content=text))
    assert "finite" in said or "not JSON" in said


OUTPUTS = {
    "one that there is not": ([{"name": "forget_gates"}], "no output 'forget_gates'; did you mean 'forget_gate'?"),
    "a prediction without a head": ([{"name": "prediction"}], "model 'founding' has no output 'prediction'"),
    "one twice": ([{"name": "output"}, {"name": "output"}], "'output' is asked for twice"),
    "classes": ([{"name": "output", "parameters": {"classification": 3}}], "this server ranks no classes"),
    "shared memory": ([{"name": "output", "parameters": {"shared_memory_region": "r"}}], "writes no shared memory"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_that_cannot_be_is_named(client, wire, kind):
    outputs, message = OUTPUTS[kind]
    assert message in wire.refusal(client.post(INFER, json={"inputs": [GOOD], "outputs": outputs}))


MESSAGES = {
    "nothing": (b"", "not JSON"),
    "a list": (b"[]", "must be a JSON object"),
    "no inputs": (b"{}", "body.inputs: 'inputs' is missing"),
    "an empty list of inputs": (b'{"inputs":[]}', "body.inputs"),
    "inputs that are none": (b'{"inputs":5}', "body.inputs"),
    "very many inputs": (b'{"inputs":[' + b",".join([b"1"] * 100_000) + b"]}", "body.inputs"),
    "a tensor without a shape": (b'{"inputs":[{"name":"inputs","datatype":"FP32"}]}', "body.inputs.0.shape"),
    "a negative size": (b'{"inputs":[{"name":"inputs","shape":[-1],"datatype":"FP32"}]}', "body.inputs.0.shape.0"),
    "very many axes": (
        b'{"inputs":[{"name":"inputs","shape":[' + b",".join([b"9"] * 100_000) + b'],"datatype":"FP32"}]}',
        "body.inputs.0.shape",
    ),
    "an id that is a number": (b'{"id":7,"inputs":[]}', "body.id"),
    "depth": (b'{"inputs":' + b"[" * 100_000, "not JSON"),
    "depth that ends": (b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
    "no UTF-8": (b'{"id":"\xff"}', "not JSON"),
    "half a character": (b'{"id":"\\ud800"}', "not JSON"),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_cannot_be_read_says_why(client, wire, kind):
    content, message = MESSAGES[kind]
    said = wire.refusal(client.post(INFER, content=content))
    assert message in said
    assert len(said) < 500


@pytest.mark.parametrize("deep", ["[" * 900 + "]" * 900, "[[[[[1,2,3,4,5]]]]]"])
def test_data_deeper_than_its_shape_is_no_number(client, wire, deep):
    text = f'{{"inputs":[{{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":{deep}}}]}}'
    wire.refusal(client.post(INFER, content=text))


@pytest.mark.parametrize("length", ["-1", "1.5", "ten", "99999", "9" * 5000, "+5", "0x10", ""])
def test_a_header_that_is_no_length_of_the_json_is_refused(client, wire, length):
    content, _ = wire.framed({"inputs": [GOOD]})
    reply = client.post(INFER, content=content, headers={"Inference-Header-Content-Length": length})
    said = wire.refusal(reply)
    assert "header.Inference-Header-Content-Length" in said
    assert len(said) < 300


@pytest.mark.parametrize("by", [-1, 1, -20])
def test_a_header_that_ends_elsewhere_than_the_json_is_refused(client, wire, by):
    content, headers = wire.framed({"inputs": [FRAME | binary(20)]}, NUMBERS)
    length = int(headers["Inference-Header-Content-Length"]) + by
    wire.refusal(client.post(INFER, content=content, headers={"Inference-Header-Content-Length": str(length)}))


@pytest.mark.parametrize(
    ("size", "blob", "message"),
    [
        (20, NUMBERS + b"x", "state 20 bytes of binary data, but 21 stand behind the JSON"),
        (20, NUMBERS[:-1], "state 20 bytes of binary data, but 19 stand"),
        (19, NUMBERS[:-1], "inputs: has 19 bytes; FP32 of shape [1, 1, 5] has 20"),
        (10**18, NUMBERS, "bytes of binary data, but 20 stand"),
        (-20, b"", "binary_data_size"),
        (0, b"", "inputs: has 0 bytes"),
        ("20", NUMBERS, "binary_data_size"),
    ],
)
def test_sizes_that_are_not_those_of_the_bytes_are_refused(client, wire, size, blob, message):
    content, headers = wire.framed({"inputs": [FRAME | binary(size)]}, blob)
    assert message in wire.refusal(client.post(INFER, content=content, headers=headers))


def test_bytes_without_the_header_are_no_json(client, wire):
    content, _ = wire.framed({"inputs": [FRAME | binary(20)]}, NUMBERS)
    assert "not JSON" in wire.refusal(client.post(INFER, content=content))


def test_binary_and_data_do_not_go_together(client, wire):
    content, headers = wire.framed({"inputs": [GOOD | binary(20)]}, NUMBERS)
    reply = client.post(INFER, content=content, headers=headers)
    assert "with 'data' and with 'binary_data_size'" in wire.refusal(reply)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequence_id": -1}, "must be a whole number from 0 to 2^64 - 1, or a string"),
        ({"sequence_id": 2**64}, "must be a whole number"),
        ({"sequence_id": 1.5}, "must be a whole number"),
        ({"sequence_id": True}, "must be a whole number"),
        ({"sequence_start": True}, "parameters.sequence_id: is missing"),
        ({"sequence_end": True, "sequence_id": 0}, "parameters.sequence_id: is missing"),
        ({"sequence_id": 1, "sequence_start": 1}, "body.parameters.sequence_start"),
        ({"timeout": -1}, "body.parameters.timeout"),
        ({"priority": "high"}, "body.parameters.priority"),
        ({"binary_data_output": "yes"}, "body.parameters.binary_data_output"),
        ([], "body.parameters"),
    ],
)
def test_parameters_that_cannot_be_are_named(client, wire, parameters, message):
    reply = client.post(INFER, json={"inputs": [GOOD], "parameters": parameters})
    assert message in wire.refusal(reply)


@pytest.mark.parametrize(
    ("ids", "datatype", "message"),
    [
        ([0, 6], "INT64", "inputs.0.1: token id 6 is outside the vocabulary of model 'ids', 0 to 5"),
        ([0, -1], "INT32", "inputs.0.1: token id -1 is outside"),
        ([0, 2**64 - 1], "UINT64", "inputs.0.1: token id 9223372036854775807 is outside"),
        ([0.0, 1.0], "FP32", "inputs: comes as FP32; model 'ids' takes INT64 or one of"),
        ([0, 1.5], "INT64", "inputs.0.1: must be a whole number of INT64, not 1.5"),
    ],
)
def test_token_ids_are_held_against_the_vocabulary(ask, wire, ids, datatype, message):
    tensor = {"name": "inputs", "shape": [1, 2], "datatype": datatype, "data": ids}
    assert message in wire.refusal(ask("ids", [tensor]))


@pytest.mark.parametrize(
    ("model", "tensors", "message"),
    [
        (
            "letters",
            [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["ab", "x"]}],
            "text.1: character 'x'",
        ),
        (
            "letters",
            [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [""]}],
            "text.0: the text has no tokens",
        ),
        ("letters", [{"name": "text", "shape": [0], "datatype": "BYTES", "data": []}], "text: has shape [0]"),
        ("letters", [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}], "takes (batch)"),
        ("letters", [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1]}], "takes BYTES"),
        ("ids", [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "has no input 'text'"),
        (
            "letters",
            [
                {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]},
                {"name": "inputs", "shape": [1, 1], "datatype": "INT64", "data": [0]},
            ],
            "give either 'inputs' or 'text', not both",
        ),
        (
            "river",
            [{"name": "inputs", "shape": [1, 1, 2], "datatype": "FP32", "data": [1, 8]}],
            "inputs.0.0.1: 'gauge'",
        ),
    ],
)
def test_texts_and_categories_are_held_against_what_the_model_knows(ask, wire, model, tensors, message):
    assert message in wire.refusal(ask(model, tensors))


def test_texts_in_binary_that_lie_about_their_length_are_refused(client, wire):
    for blob in (struct.pack("<I", 2**31) + b"a", struct.pack("<I", 0), b"\x01"):
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES"} | binary(len(blob))
        content, headers = wire.framed({"inputs": [tensor]}, blob)
        wire.refusal(client.post("/v2/models/letters/infer", content=content, headers=headers))


class TestStatus:
    """Whatever goes wrong below /v2 is told in the protocol's form."""

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v2/nothing", 404),
            ("GET", "/v2/", 404),
            ("GET", "/v2/models/founding/trace/setting", 404),
            ("POST", "/v2/models/founding", 405),
            ("GET", INFER, 405),
        ],
    )
    def test_unknown_paths_and_methods(self, client, wire, method, path, status):
        assert path in wire.refusal(client.request(method, path), status)

    @pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/versions/1", "/versions/1/stats"])
    def test_unknown_models(self, client, wire, path):
        said = wire.refusal(client.get(f"/v2/models/nobody{path}"), 404)
        assert said.startswith("Request for unknown model: there is no model 'nobody'")

    @pytest.mark.parametrize("path", ["nobody/infer", "founding/versions/9/infer"])
    def test_unknown_models_and_versions_to_infer(self, client, wire, path):
        reply = client.post(f"/v2/models/{path}", json={"inputs": [GOOD]})
        assert wire.refusal(reply, 404).startswith("Request for unknown model: ")

    def test_a_model_that_could_not_be_loaded(self, client, wire):
        reply = client.post("/v2/models/contradicting/infer", json={"inputs": [GOOD]})
        assert "hidden_size" in wire.refusal(reply, 503)
        assert "hidden_size" in wire.refusal(client.get("/v2/models/contradicting/ready"), 503)

    def test_no_key(self, serve, wire):
        with serve(api_keys=("reader",)) as keyed:
            for path in ("/v2", "/v2/models/founding", "/v2/nothing"):
                reply = keyed.get(path)
                assert "send one of this server's keys" in wire.refusal(reply, 401)
                assert reply.headers["www-authenticate"] == "Bearer"
            assert keyed.get("/v2", headers={"X-API-Key": "reader"}).status_code == 200
            for path in ("/v2/health/live", "/v2/health/ready"):
                assert keyed.get(path).status_code == 200

    def test_an_unforeseen_error(self, serve, wire, monkeypatch):
        from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

        def fail(self, query):
            raise RuntimeError("a secret")

        with serve() as client:
            monkeypatch.setattr(Pipeline, "answer", fail)
            said = wire.refusal(client.post(INFER, json={"inputs": [GOOD]}), 500)
        assert "secret" not in said

    def test_a_deadline_that_is_no_number(self, client, wire):
        reply = client.post(INFER, json={"inputs": [GOOD]}, headers={"X-Request-Timeout-Ms": "soon"})
        assert "X-Request-Timeout-Ms" in wire.refusal(reply)

    @pytest.mark.parametrize("how", ["header", "parameter"])
    def test_an_answer_that_is_too_late(self, serve, wire, monkeypatch, how):
        import time  # noqa: PLC0415

        from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

        answer = Pipeline.answer
        with serve() as client:
            monkeypatch.setattr(Pipeline, "answer", lambda self, query: time.sleep(0.3) or answer(self, query))
            headers, parameters = {
                "header": ({"X-Request-Timeout-Ms": "50"}, {}),
                "parameter": ({}, {"timeout": 50_000}),
            }[how]
            reply = client.post(INFER, json={"inputs": [GOOD], "parameters": parameters}, headers=headers)
            assert "0.05 seconds" in wire.refusal(reply, 504)

    def test_too_many_requests_at_once(self, serve, wire, monkeypatch):
        import time  # noqa: PLC0415
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        from gatescope.pipeline.pipeline import Pipeline  # noqa: PLC0415

        answer = Pipeline.answer
        with serve(max_queue_size=1, max_batch_size=1) as client, ThreadPoolExecutor(8) as pool:
            monkeypatch.setattr(Pipeline, "answer", lambda self, query: time.sleep(0.1) or answer(self, query))
            replies = list(pool.map(lambda _: client.post(INFER, json={"inputs": [GOOD]}), range(8)))
        late = [reply for reply in replies if reply.status_code != 200]
        assert late
        for reply in late:
            wire.refusal(reply, 429)
            assert reply.headers["retry-after"]


@pytest.fixture(scope="module")
def narrow(serve):
    with serve(max_body_bytes=10_000, max_trace_bytes=10_000, max_time_steps=50, max_batch_steps=60) as client:
        yield client


class TestTooLarge:
    """What has more bytes than the server takes or makes."""

    def test_a_body(self, narrow, wire):
        assert "10,000 bytes" in wire.refusal(narrow.post(INFER, content=b" " * 10_001), 413)

    @pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_a_bomb(self, narrow, wire, coding, pack):
        bomb = pack(b" " * 5_000_000)
        assert len(bomb) < 10_000
        reply = narrow.post(INFER, content=bomb, headers={"Content-Encoding": coding})
        assert "unpacked" in wire.refusal(reply, 413)

    def test_what_is_not_compressed_as_it_says(self, narrow, wire):
        for content in (b"plain", b"", gzip.compress(b"{}")[:-4]):
            wire.refusal(narrow.post(INFER, content=content, headers={"Content-Encoding": "gzip"}))

    def test_another_compression(self, narrow, wire):
        assert "br" in wire.refusal(narrow.post(INFER, content=b"x", headers={"Content-Encoding": "br"}), 415)

    @pytest.mark.parametrize(
        ("shape", "message"), [([1, 51, 5], "at most 50"), ([3, 30, 5], "at most 60"), ([61, 1, 5], "at most 60")]
    )
    def test_too_many_steps(self, narrow, wire, shape, message):
        content = np.zeros(shape, np.float32).tobytes()
        frame = {"name": "inputs", "shape": shape, "datatype": "FP32"} | binary(len(content))
        body, headers = wire.framed({"inputs": [frame]}, content)
        assert message in wire.refusal(narrow.post(INFER, content=body, headers=headers))

    def test_a_trace(self, narrow, wire):
        tensor = wire.tensor("inputs", np.zeros((1, 50, 5)))
        body = {"inputs": [tensor], "outputs": [{"name": name} for name in LSTM.signal_names]}
        said = wire.refusal(narrow.post(INFER, json=body), 413)
        assert "the trace has 14,400 bytes (6 signals of shape [1, 2, 1, 50, 6])" in said
        wire.opened(narrow.post(INFER, json=body | {"outputs": body["outputs"][:1]}))


def test_a_client_that_leaves_is_no_error(client, wire):
    import socket  # noqa: PLC0415

    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(head.encode() + b'{"inputs":')
    assert client.post(INFER, json={"inputs": [GOOD]}).status_code == 200
