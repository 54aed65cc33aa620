"""Requests that are answered without the application's layers are answered as those would answer, byte for byte."""

import json
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from safetensors.torch import save_file
from torch import nn

from gatescope.server.api import routes

SAFETENSORS = "application/vnd.safetensors"
SLOWLY = "X-Request-Timeout-Ms: 20000"
PREDICT = "/v1/models/founding/predict"
FORECAST = "/v1/models/forecaster/predict"
ROW = "[1,2,3,4,5]"
GOOD = f'{{"inputs":[{ROW}]}}'.encode()
ROWS = [[10.0 + hour % 3, float(hour % 24)] for hour in range(12)]

FIELDS = {
    "one": 'kind = "features"\nfeatures = [{name = "a"}]',
    "two": 'kind = "features"\nfeatures = [{name = "a", mean = 1.0, std = 4.0}, {name = "b"}]',
    "three": 'kind = "features"\nfeatures = [{name = "a"}, {name = "b"}, {name = "c"}]',
}
KINDS = {
    "single": ("one", 1, 0, "", ""),
    "verdict": ("two", 2, 3, 'task = "classification"', '[head]\nsteps = "last"\n[output]\nlabels = ["p", "q", "r"]'),
    "marks": ("two", 2, 3, 'task = "tagging"', '[head]\n[output]\nlabels = ["p", "q", "r"]'),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, serve_models):
    """A server of models that differ in what they say, and of two modules of their own."""
    from safetensors.torch import save_model  # noqa: PLC0415

    import example_modules  # noqa: PLC0415
    from example_modules.faulty import Faulty  # noqa: PLC0415

    torch.manual_seed(5)
    root = tmp_path_factory.mktemp("kinds")
    for name, (fields, width, outputs, task, rest) in KINDS.items():
        network = nn.Module()
        network.lstm = nn.LSTM(width, 4)
        if outputs:
            network.head = nn.Sequential(nn.Linear(4, outputs))
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(f'description = "a"\n{task}\n[input]\n{FIELDS[fields]}\n{rest}')
        save_file(network.state_dict(), root / name / "1" / "model.safetensors")
    for name, factory, module, more in (
        ("own", "example_modules:Stateful", example_modules.Stateful(), ""),
        ("failing", "example_modules.faulty:Faulty", Faulty("refuses_long"), 'how = "refuses_long"'),
    ):
        (root / name / "1").mkdir(parents=True)
        (root / name / "model.toml").write_text(
            f'description = "a"\ntask = "regression"\nfactory = "{factory}"\n[factory_arguments]\n{more}\n'
            f'[input]\n{FIELDS["three"]}\n[output]\nnames = ["x", "y"]'
        )
        save_model(module.eval(), root / name / "1" / "model.safetensors")
    with serve_models(root, allow_code=True) as client:
        yield client


@pytest.fixture
def same(dial, began):
    """`same(client, path, content, …)`: the reply, which is one and the same the first, the second and the slow way."""

    def compare(client, path, content, *headers, quick=None, **others):
        wire, before = dial(client), len(began)
        first, second = (wire.post(path, content, *headers, **others) for _ in range(2))
        assert quick is None or len(began) - before == 2 * quick
        before = len(began)
        slow = wire.post(path, content, *headers, SLOWLY, **others)
        assert len(began) == before
        assert first.alike == slow.alike
        assert second.alike == slow.alike
        return first

    return compare


def batch(*lengths, width=5):
    """Sequences of these lengths; no two numbers are the same."""
    numbers = iter(np.linspace(-2, 2, 3 * sum(lengths) * width).round(3).tolist())
    return [[[next(numbers) for _ in range(width)] for _ in range(length)] for length in lengths]


QUICK_BODIES = {
    "numbers whose sum is too large": '{"inputs":[[3e38,3e38,0,0,-3e38]]}',
    "a lone sequence": GOOD,
    "two steps": f'{{"inputs":[{ROW},{ROW}]}}',
    "a batch of one": f'{{"inputs":[[{ROW}]]}}',
    "a batch": json.dumps({"inputs": batch(3, 3, 3)}),
    "spaces everywhere": '\r\n\t { "inputs" \n : [ [ 1 , 2\t,3 , 4 , 5 ] \r] } \n',
    "minus nothing": '{"inputs":[[-0,-0.0,0.0,0,-0e0]]}',
    "exponents": '{"inputs":[[1e-3,1E5,1.5e+2,-2E-2,0e9]]}',
    "tiny": '{"inputs":[[1e-400,-1e-400,1e-45,1e-46,4.9e-324]]}',
    "the largest": '{"inputs":[[3.4028234663852886e38,0,0,0,1]]}',
    "many digits": '{"inputs":[[0.1000000000000000055511151231257827021181583404541015625,1,2,3,4]]}',
    "whole numbers": '{"inputs":[[9007199254740993,-9223372036854775808,16777217,33554433,1]]}',
}
HEAD = {"inputs": [{"name": "inputs", "shape": [1, 3, 5], "datatype": "FP32", "parameters": {"binary_data_size": 60}}]}
SLOW_BODIES = {
    "nothing": "",
    "a space": " ",
    "null": "null",
    "a list": "[[1,2,3,4,5]]",
    "an empty object": "{}",
    "a ragged batch": json.dumps({"inputs": batch(1, 4, 2)}),
    "too large": '{"inputs":[[1,2,3,4,1e400]]}',
    "too large for float32": '{"inputs":[[1,2,3,4,1e39]]}',
    "just too large for float32": '{"inputs":[[1,2,3,4,3.4028236e38]]}',
    "more digits than a whole number has": '{"inputs":[[1,2,3,4,123456789012345678901234567890]]}',
    "a zero in front": '{"inputs":[[1,2,3,4,01]]}',
    "two zeros": '{"inputs":[[1,2,3,4,00]]}',
    "a plus": '{"inputs":[[1,2,3,4,+1]]}',
    "a dot in front": '{"inputs":[[1,2,3,4,.5]]}',
    "a dot behind": '{"inputs":[[1,2,3,4,1.]]}',
    "a sixteenth": '{"inputs":[[1,2,3,4,0x1]]}',
    "a lone minus": '{"inputs":[[1,2,3,4,-]]}',
    "two signs": '{"inputs":[[1,2,3,4,--1]]}',
    "a lone exponent": '{"inputs":[[1,2,3,4,e5]]}',
    "half an exponent": '{"inputs":[[1,2,3,4,1e]]}',
    "a difference": '{"inputs":[[1,2,3,4,1-1]]}',
    "two dots": '{"inputs":[[1,2,3,4,1.2.3]]}',
    "NaN": '{"inputs":[[1,2,3,4,NaN]]}',
    "Infinity": '{"inputs":[[1,2,3,4,-Infinity]]}',
    "a null": '{"inputs":[[1,2,3,4,null]]}',
    "a truth": '{"inputs":[[1,2,3,4,true]]}',
    "a text": '{"inputs":[[1,2,3,4,"5"]]}',
    "an object": '{"inputs":[[1,2,3,4,{}]]}',
    "no comma": '{"inputs":[[1,2,3,4 5]]}',
    "a comma twice and one missing": '{"inputs":[[1,2,,3 4,5]]}',
    "a comma at the end": '{"inputs":[[1,2,3,4,5,]]}',
    "only commas": '{"inputs":[[,,,,]]}',
    "a number behind a row": '{"inputs":[[1,2,3,4,5]6]}',
    "a number before a row": '{"inputs":[6[1,2,3,4,5]]}',
    "a number that moved out of its row": '{"inputs":[[1,2,3,4,]5]}',
    "a number before the body": '1{"inputs":[[1,2,3,4,5]]}',
    "a number behind the body": '{"inputs":[[1,2,3,4,5]]}1',
    "a number behind the field's name": '{"inputs"1:[[1,2,3,4,5]]}',
    "a bracket too few": '{"inputs":[[1,2,3,4,5]}',
    "a bracket too many": '{"inputs":[[1,2,3,4,5]]]}',
    "no end": '{"inputs":[[1,2,3,4,5]]',
    "brackets that do not fit": '{"inputs":[[1,2,3,4,5}]]',
    "something behind": GOOD + b"x",
    "two bodies": GOOD + GOOD,
    "two bodies in two lines": GOOD + b"\n" + GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "no UTF-8": b'{"inputs":[[1,2,3,4,5]],"\xff":1}',
    "no UTF-8 among the numbers": b'{"inputs":[[1,2,3,4,\xff5]]}',
    "a zero byte": GOOD.replace(b"5", b"5\x00"),
    "a space that JSON has not": GOOD.replace(b"5", b"5\x0b"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "another field": '{"inputs":[[1,2,3,4,5]],"outputs":["output","final_state"]}',
    "another field that says nothing": '{"inputs":[[1,2,3,4,5]],"horizon":null}',
    "another field before": '{"layout":"batch_time_feature","inputs":[[[1,2,3,4,5]]]}',
    "an unknown field": '{"inputs":[[1,2,3,4,5]],"input":1}',
    "another name": '{"input":[[1,2,3,4,5]]}',
    "a name in capitals": '{"INPUTS":[[1,2,3,4,5]]}',
    "a number in the name": '{"inputs1":[[1,2,3,4,5]]}',
    "a space in the name": '{"in puts":[[1,2,3,4,5]]}',
    "an e in the name": '{"inputse":[[1,2,3,4,5]]}',
    "a sign before the name": '{"-inputs":[[1,2,3,4,5]]}',
    "a name that is escaped": r'{"\u0069nputs":[[1,2,3,4,5]]}',
    "the same field twice": '{"inputs":[[1,2,3,4,5]],"inputs":[[1,2,3,4,6]]}',
    "single quotes": "{'inputs':[[1,2,3,4,5]]}",
    "no quotes": "{inputs:[[1,2,3,4,5]]}",
    "too few features": '{"inputs":[[1,2,3,4]]}',
    "too many features": '{"inputs":[[1,2,3,4,5,6]]}',
    "too few features once": '{"inputs":[[1,2,3,4,5],[1,2,3,4]]}',
    "a feature moved to the next step": '{"inputs":[[1,2,3,4],[5,1,2,3,4,5]]}',
    "too flat": '{"inputs":[1,2,3,4,5]}',
    "a number": '{"inputs":5}',
    "an array within": '{"inputs":[[1,2,3,4,[5]]]}',
    "too deep": '{"inputs":[[[[1,2,3,4,5]]]]}',
    "much too deep": '{"inputs":' + "[" * 2000 + "]" * 2000 + "}",
    "depths that differ": '{"inputs":[[1,2,3,4,5],[[1,2,3,4,5]]]}',
    "no sequences": '{"inputs":[]}',
    "no steps": '{"inputs":[[]]}',
    "no features": '{"inputs":[[[]]]}',
    "a sequence without steps": '{"inputs":[[[1,2,3,4,5]],[]]}',
    "inputs that are null": '{"inputs":null}',
    "text": '{"text":"abc"}',
}


def _bytes(body):
    return body if isinstance(body, bytes) else body.encode()


class TestBodies:
    @pytest.mark.parametrize("kind", QUICK_BODIES)
    def test_plain_ones_are_answered_quickly_and_as_ever(self, client, same, networks, kind):
        content = _bytes(QUICK_BODIES[kind])
        reply = same(client, PREDICT, content, quick=True)
        assert reply.status == 200
        inputs = torch.tensor(json.loads(content)["inputs"], dtype=torch.float32).double().reshape(-1, 5)
        rows = len(reply.json()["sequence_lengths"])
        expected, _ = nn.LSTM(5, 6, 2).double(), None
        expected.load_state_dict({name: each.double() for name, each in networks["founding"].lstm.state_dict().items()})
        output, _ = expected(inputs.reshape(rows, -1, 5).swapaxes(0, 1))
        assert np.array(reply.json()["output"]) == pytest.approx(output.swapaxes(0, 1).detach().numpy(), abs=2e-6)

    @pytest.mark.parametrize("kind", SLOW_BODIES)
    def test_all_others_get_the_answer_of_the_layers_also_beside_a_known_shape(self, client, same, kind):
        assert client.post(PREDICT, content=GOOD, headers={"Content-Type": "application/json"}).status_code == 200
        assert same(client, PREDICT, _bytes(SLOW_BODIES[kind]), quick=False).status < 500

    @pytest.mark.parametrize("kind", SLOW_BODIES)
    def test_the_same_with_one_feature(self, kinds, same, kind):
        body = _bytes(SLOW_BODIES[kind]).replace(b"1,2,3,4,", b"").replace(b"1,2,3,4", b"")
        assert same(kinds, "/v1/models/single/predict", body).status < 500

    @pytest.mark.parametrize(
        "broken",
        [
            "[[[1],[]],[[2],[3]]]",
            "[[[1],[2]],[[3],]]",
            "[[[1],[]2],[[3],[4]]]",
            "[[[1 2],[]],[[3],[4]]]",
            "[[[],[]],[[],[]]]",
        ],
    )
    def test_a_row_of_one_feature_is_not_taken_for_an_empty_one(self, kinds, same, broken):
        path, good = "/v1/models/single/predict", b'{"inputs":[[[1],[2]],[[3],[4]]]}'
        assert same(kinds, path, good, quick=True).status == 200
        assert same(kinds, path, f'{{"inputs":{broken}}}'.encode(), quick=False).status in (400, 422)
        assert same(kinds, path, good, quick=True).status == 200

    @pytest.mark.parametrize(
        "number",
        ["01", "+1", ".5", "1.", "1e", "-", "", "1e400", "1e39", "1 1", "--1", "1-1", "1.1.1", "e", "- 1", "1e 5"],
    )
    def test_a_shape_that_is_known_does_not_let_broken_numbers_pass(self, client, same, number):
        body = '{{"inputs":[[[1,2,3,4,{}],[6,7,8,9,0]]]}}'
        assert same(client, PREDICT, body.format("5").encode(), quick=True).status == 200
        refused = same(client, PREDICT, body.format(number).encode(), quick=False)
        assert refused.status in (400, 422)
        assert same(client, PREDICT, body.format("5").encode(), quick=True).status == 200

    def test_numbers_are_those_of_the_request_and_of_no_other_of_its_shape(self, client, same, networks):
        lstm = networks["founding"].lstm
        for number in range(5):
            inputs = np.full((3, 5), number / 8 - 0.3, dtype=np.float32)
            reply = same(client, PREDICT, json.dumps({"inputs": inputs.tolist()}).encode(), quick=True).json()
            expected, _ = lstm(torch.from_numpy(inputs)[:, None])
            assert np.array(reply["output"][0]) == pytest.approx(expected[:, 0].detach().numpy(), abs=1e-6)

    def test_a_body_that_is_larger_than_most_goes_the_other_way(self, client, same):
        long = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 2400}).encode()
        assert len(long) > 60_000
        assert same(client, PREDICT, long, quick=False).status == 200


PIECES = [
    "[",
    "]",
    ",",
    "{",
    "}",
    ":",
    '"',
    "0",
    "7",
    "-",
    "+",
    ".",
    "e",
    "E",
    " ",
    "\n",
    "null",
    "1e39",
    "[1,2]",
    "],[",
]
STARTS = ["[[[1,2],[3,4]],[[5,6],[7,8]]]", "[[1.5,-2],[3e1,4]]", "[[[0,1]]]", "[[[1,2]],[[3,4]]]"]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(STARTS),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.sampled_from(["", *PIECES])), min_size=1, max_size=3),
)
def test_whatever_is_changed_in_an_array_both_ways_say_the_same(kinds, same, start, edits):
    text = start
    for place, removed, put in edits:
        place %= len(text) + 1  # noqa: PLW2901 - where it lies in what is left
        text = text[:place] + put + text[place + removed :]
    assert same(kinds, "/v1/models/marks/predict", b'{"inputs":%b}' % text.encode()).status in (200, 400, 422)


class TestHeaders:
    @pytest.mark.parametrize(
        "headers",
        [
            (),
            ("Accept: */*",),
            ("Accept: application/json",),
            ("Accept-Encoding: gzip, br",),
            (
                "User-Agent: curl/8",
                "Cookie: a=b; c=d",
                "Forwarded: for=1.2.3.4",
                "Range: bytes=0-1",
                "If-None-Match: x",
            ),
            ("Connection: keep-alive",),
        ],
        ids=" ".join,
    )
    def test_those_that_make_no_difference(self, client, same, headers):
        assert same(client, PREDICT, GOOD, *headers, quick=True).status == 200

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            (("Accept: text/html",), 406),
            (("Accept: application/x-npz",), 406),
            (("Accept: application/json;q=0.5, */*",), 200),
            (("Accept:",), 200),
            (("Accept: application/*",), 200),
            (("Accept: text/html", "Accept: application/json"), 200),
            (("Content-Encoding: gzip",), 415),
            (("Content-Encoding: identity",), 200),
            (("X-Request-Timeout-Ms: soon",), 422),
            (("Origin: https://a.example",), 200),
            (("Cookie: a=b", "Cookie: c=d"), 200),
            (("Content-Type: application/json",), 200),
        ],
    )
    def test_those_that_do(self, client, same, headers, status):
        assert same(client, PREDICT, GOOD, *headers, quick=False).status == status

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("application/json; charset=utf-8", 200),
            ("Application/JSON", 200),
            ("application/problem+json", 200),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("", 415),
        ],
    )
    def test_other_kinds_of_body(self, client, same, kind, status):
        assert same(client, PREDICT, GOOD, content_type=kind, quick=False).status == status

    def test_a_safetensors_reply_to_json(self, client, same):
        reply = same(client, PREDICT, GOOD, f"Accept: {SAFETENSORS}")
        assert (reply.status, reply["content-type"]) == (200, SAFETENSORS)
        plain = json.loads(same(client, PREDICT, GOOD).content)
        assert load(reply.content)["output"].tolist() == np.array(plain["output"], dtype=np.float32).tolist()

    def test_a_body_that_is_announced_is_waited_for(self, client, dial):
        wire = dial(client)
        before, after = wire.written(PREDICT, GOOD, "Expect: 100-continue").split(b"\r\n\r\n")
        wire.send(before, b"\r\n\r\n")
        assert wire.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(after)
        assert wire.reply().alike == wire.post(PREDICT, GOOD).alike

    def test_a_body_in_chunks(self, client, dial, began):
        wire = dial(client)
        head = wire.written(PREDICT, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        wire.send(head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD))
        chunked = wire.reply()
        assert began == []
        assert chunked.alike == wire.post(PREDICT, GOOD).alike

    def test_a_body_without_a_length_is_none(self, client, dial, began):
        wire = dial(client)
        wire.send(wire.written(PREDICT, b"").replace(b"Content-Length: 0\r\n", b""))
        assert wire.reply().alike == wire.post(PREDICT, b"", SLOWLY).alike
        assert began == []

    def test_an_upgrade_that_nobody_offers(self, client, dial):
        upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        replies = [dial(client).post(PREDICT, GOOD, *upgrade, *more) for more in ((), (SLOWLY,))]
        assert replies[0].alike == replies[1].alike

    def test_a_request_id_is_echoed_or_made(self, client, dial):
        wire = dial(client)
        assert wire.post(PREDICT, GOOD, "X-Request-ID: abc-1")["x-request-id"] == "abc-1"
        made = [wire.post(PREDICT, GOOD)["x-request-id"] for _ in range(2)]
        made += [wire.post(PREDICT, GOOD, f"X-Request-ID: {bad}")["x-request-id"] for bad in ('a"} b', "x" * 129, "")]
        assert len(set(made)) == 5
        assert all(len(each) == 16 for each in made)

    def test_they_stand_in_the_order_of_the_layers(self, client, dial, began):
        wire = dial(client)
        replies = [wire.post(PREDICT, GOOD), wire.post(PREDICT, GOOD, SLOWLY)]
        assert began == [PREDICT]
        names = [[name for name, _ in reply.headers] for reply in replies]
        assert names[0] == names[1] == ["date", "server", "content-length", "content-type", "x-request-id"]


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/models/founding/versions/1/predict",
            "/v1/models/found%69ng/predict",
            "/v1/models/founding/%70redict",
            "/v1/models/founding%2Fpredict",
            f"{PREDICT}?a=b&c",
            f"{PREDICT}?",
        ],
    )
    def test_that_lead_to_the_model(self, client, same, path):
        reply = same(client, path, GOOD, quick=True)
        assert (reply.status, reply.json()["model"]) == (200, {"name": "founding", "version": "1"})

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/models/nobody/predict",
            "/v1/models/weightless/predict",
            "/v1/models/contradicting/predict",
            "/v1/models/founding/versions/9/predict",
            "/v1/models/founding/versions//predict",
            "/v1/models//predict",
            f"{PREDICT}/",
            "/v1/models/founding/Predict",
            "/v1/models/a%2Fb/predict",
            "/v1/models/%FF%00/predict",
            f"/v1/models/{'x' * 5000}/predict",
            "/v1//models/founding/predict",
            "/predict",
            "/v1/sessions/none/steps",
        ],
        ids=lambda path: path[:40],
    )
    def test_that_lead_nowhere(self, client, same, path):
        assert same(client, path, GOOD, quick=False).status in (404, 503)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
    def test_that_are_asked_otherwise(self, client, same, method):
        reply = same(client, PREDICT, GOOD, method=method, quick=False)
        assert (reply.status, reply["allow"]) == (405, "POST")


@pytest.fixture(scope="module")
def keyed(serve):
    with serve(api_keys=("reader", "second"), admin_keys=("boss",)) as client:
        yield client


class TestKeys:
    @pytest.mark.parametrize(
        "header",
        ["X-API-Key: reader", "X-Api-Key: boss", "Authorization: Bearer second", "authorization: bearer reader"],
    )
    def test_who_has_one_is_answered(self, keyed, same, header):
        assert same(keyed, PREDICT, GOOD, header, quick=True).status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            (),
            ("X-API-Key: reade",),
            ("X-API-Key:",),
            ("Authorization: Basic reader",),
            ("Authorization: Bearer wrong", "X-API-Key: reader"),
            ("X-API-Key: wrong", "X-API-Key: reader"),
        ],
        ids=" ".join,
    )
    def test_who_has_none_is_not(self, keyed, same, headers):
        reply = same(keyed, PREDICT, GOOD, *headers, quick=False)
        assert (reply.status, reply["www-authenticate"]) == (401, "Bearer")


def test_pages_of_other_origins_get_the_headers_that_let_them_read(serve, same):
    with serve(cors_origins=("https://a.example",)) as client:
        reply = same(client, PREDICT, GOOD, "Origin: https://a.example", quick=False)
        assert reply["access-control-allow-origin"] == "https://a.example"
        stranger = same(client, PREDICT, GOOD, "Origin: https://b.example", quick=False)
        assert "access-control-allow-origin" not in dict(stranger.headers)


class TestKinds:
    @pytest.mark.parametrize(
        ("model", "inputs", "quick"),
        [
            ("founding", batch(4, 4), True),
            ("both-ways", batch(4, 4, width=3), True),
            ("both-ways", batch(6, width=3)[0], True),
            ("forecaster", [ROWS, ROWS[::-1]], True),
            ("river", [[[1.0, 7.0], [2.0, 9.0]]], False),
            ("letters", [[0, 1, 2]], False),
            ("letters", [0, 1, 2], False),
            ("mood", [[1, 2], [3, 4]], False),
            ("ids", [[1, 2], [3, 4]], False),
        ],
    )
    def test_of_models(self, client, same, model, inputs, quick):
        assert (
            same(client, f"/v1/models/{model}/predict", json.dumps({"inputs": inputs}).encode(), quick=quick).status
            == 200
        )

    @pytest.mark.parametrize(
        ("model", "inputs", "quick"),
        [
            ("single", [[0.5], [1.5]], True),
            ("verdict", batch(3, 3, width=2), True),
            ("verdict", batch(5, width=2)[0], True),
            ("marks", batch(2, 2, width=2), True),
            ("own", batch(5, width=3)[0], None),
            ("own", batch(4, 4, width=3), None),
        ],
    )
    def test_of_answers(self, kinds, same, model, inputs, quick):
        assert (
            same(kinds, f"/v1/models/{model}/predict", json.dumps({"inputs": inputs}).encode(), quick=quick).status
            == 200
        )

    def test_a_module_of_its_own_that_fails(self, kinds, same):
        long = json.dumps({"inputs": batch(50, width=3)}).encode()
        refused = same(kinds, "/v1/models/failing/predict", long)
        assert (refused.status, refused.json()["title"]) == (500, "ModuleFailed")
        assert (
            same(kinds, "/v1/models/failing/predict", json.dumps({"inputs": batch(5, width=3)}).encode()).status == 200
        )

    def test_a_category_that_is_none_and_a_token_that_is_none(self, client, same):
        assert same(client, "/v1/models/river/predict", b'{"inputs":[[1,8]]}', quick=False).status == 422
        assert same(client, "/v1/models/ids/predict", b'{"inputs":[[6]]}', quick=False).status == 422
        assert same(client, "/v1/models/letters/predict", b'{"inputs":[[1.5]]}', quick=False).status == 422


class TestSafetensors:
    @pytest.mark.parametrize("shape", [(3, 5), (1, 5), (2, 4, 5), (1, 1, 5)])
    @pytest.mark.parametrize("accept", ["application/json", SAFETENSORS])
    def test_a_tensor_is_read_as_in_json(self, client, same, shape, accept):
        inputs = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        reply = same(client, PREDICT, save({"inputs": inputs}), f"Accept: {accept}", content_type=SAFETENSORS)
        told = same(client, PREDICT, json.dumps({"inputs": inputs.tolist()}).encode(), f"Accept: {accept}")
        assert reply.alike == told.alike

    @pytest.mark.parametrize(
        ("arrays", "metadata"),
        [
            ({"inputs": np.ones((2, 5), dtype=np.float64)}, None),
            ({"inputs": np.ones((2, 5), dtype=np.float16)}, None),
            ({"inputs": np.ones((2, 5), dtype=np.int64)}, None),
            ({"inputs": np.ones((2, 4), dtype=np.float32)}, None),
            ({"inputs": np.ones(5, dtype=np.float32)}, None),
            ({"inputs": np.ones((1, 1, 1, 5), dtype=np.float32)}, None),
            ({"inputs": np.ones((0, 5), dtype=np.float32)}, None),
            ({"inputs": np.full((2, 5), np.nan, dtype=np.float32)}, None),
            ({"inputs": np.full((2, 5), -np.inf, dtype=np.float32)}, None),
            ({"inputs": np.full((2, 5), 3e38, dtype=np.float32)}, None),
            ({"inputs": np.ones((2, 3, 5), dtype=np.float32), "sequence_lengths": np.array([3, 1])}, None),
            ({"inputs": np.ones((2, 3, 5), dtype=np.float32)}, {"sequence_lengths": "[3,1]"}),
            ({"inputs": np.ones((2, 5), dtype=np.float32)}, {"outputs": '["final_state"]'}),
            ({"inputs": np.ones((2, 5), dtype=np.float32)}, {"horizon": "3"}),
            ({"inputs": np.ones((2, 5), dtype=np.float32)}, {"inputs": "[[1,2,3,4,5]]"}),
            ({"inputs": np.ones((2, 5), dtype=np.float32)}, {"unknown": "1"}),
            ({"input": np.ones((2, 5), dtype=np.float32)}, None),
            ({}, None),
        ],
    )
    def test_what_differs_is_answered_as_ever(self, client, same, arrays, metadata):
        assert same(client, PREDICT, save(arrays, metadata), content_type=SAFETENSORS).status < 500

    @pytest.mark.parametrize(
        "change",
        [
            lambda good: good[:-1],
            lambda good: good[:-4],
            lambda good: good + b"\0\0\0\0",
            lambda good: good[:8],
            lambda good: good[:20],
            lambda _: b"",
            lambda good: b"\xff" * 8 + good[8:],
            lambda good: good.replace(b"F32", b"I32"),
            lambda good: good.replace(b"[2,5]", b"[5,2]"),
            lambda good: good.replace(b"[0,40]", b"[0,36]"),
            lambda good: good[:-4] + np.float32("nan").tobytes(),
        ],
        ids=[
            "short",
            "a number short",
            "long",
            "length",
            "head",
            "nothing",
            "size",
            "type",
            "turned",
            "offsets",
            "nan",
        ],
    )
    def test_a_head_that_is_known_does_not_let_a_broken_body_pass(self, client, same, change):
        good = save({"inputs": np.arange(10, dtype=np.float32).reshape(2, 5)})
        assert same(client, PREDICT, good, content_type=SAFETENSORS).status == 200
        assert same(client, PREDICT, change(good), content_type=SAFETENSORS).status < 500
        assert same(client, PREDICT, good, content_type=SAFETENSORS).status == 200


class TestProtocolOfInference:
    """`/v2/models/{name}/infer` in binary."""

    def infer(self, same, client, head, numbers, *headers, path="/v2/models/founding/infer"):
        told = json.dumps(head).encode()
        length = f"Inference-Header-Content-Length: {len(told)}"
        return same(client, path, told + numbers, length, *headers, content_type="application/octet-stream")

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"parameters": {"binary_data_output": True}},
            {"parameters": {"binary_data_output": False}},
            {"id": "7"},
            {"outputs": [{"name": "final_hidden_state"}, {"name": "output", "parameters": {"binary_data": True}}]},
            {"outputs": [{"name": "forget_gate"}]},
            {"outputs": [{"name": "nothing"}]},
            {"parameters": {"sequence_id": 0}},
            {"parameters": {"timeout": 5_000_000}},
            {"parameters": {"priority": 1}},
            {"unknown": 1},
        ],
        ids=json.dumps,
    )
    def test_one_tensor_is_answered_as_ever(self, client, same, networks, more):
        for shift in (0.0, 0.5):
            inputs = np.linspace(-1, 1, 15, dtype=np.float32).reshape(1, 3, 5) + np.float32(shift)
            reply = self.infer(same, client, HEAD | more, inputs.tobytes())
            assert reply.status in (200, 400)
            if more == {"parameters": {"binary_data_output": False}}:
                expected, _ = networks["founding"].lstm(torch.from_numpy(inputs[0])[:, None])
                given = reply.json()["outputs"][0]
                assert given["data"] == pytest.approx(expected.detach().flatten().tolist(), abs=1e-6)

    @pytest.mark.parametrize(
        "numbers",
        [
            b"",
            b"\0" * 59,
            b"\0" * 56,
            b"\0" * 64,
            np.full(15, np.nan, "<f4").tobytes(),
            np.full(15, 3e38, "<f4").tobytes(),
        ],
        ids=["nothing", "short", "a number short", "long", "nan", "a large sum"],
    )
    def test_a_head_that_is_known_does_not_let_a_broken_body_pass(self, client, same, numbers):
        assert self.infer(same, client, HEAD, b"\0" * 60).status == 200
        assert self.infer(same, client, HEAD, numbers).status < 500
        assert self.infer(same, client, HEAD, b"\0" * 60).status == 200

    DATA = (
        "[1,2,3,4,5]",
        "[ 1.0, 2e0 ,-0,\n0.5,1e-3 ]",
        "[[1,2,3,4,5]]",
        "[[[1,2,3,4,5]]]",
        "[[1,2],[3,4,5]]",
        "[[1,2,3],4,5]",
        "[1,2,3,4]",
        "[1,2,3,4,5,6]",
        "[]",
        "[1,2,3,4,01]",
        "[1,2,,3 4,5]",
        "[1,2,3,4,1e39]",
        "[1,2,3,4,1e400]",
        "[1,2,3,4,NaN]",
        "[1,2,3,4,null]",
        "[1,2,3,4,true]",
        '[1,2,3,4,"5"]',
        "[1,2,3,4,5",
        "[1,2,3,4,5]]",
        "null",
        "5",
        '"AAAA"',
        "{}",
        '[1,2,3,4,5],"data":[5,4,3,2,1]',
        '[1,2,3,4,5],"parameters":{"data":[5,4,3,2,1]}',
    )

    @pytest.mark.parametrize("data", DATA)
    def test_data_in_json_is_answered_as_ever(self, client, same, data):
        body = '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":%s}]}'
        path = "/v2/models/founding/infer"
        known = same(client, path, (body % "[5,4,3,2,1]").encode())
        assert known.status == 200
        assert same(client, path, (body % data).encode()).status in (200, 400)
        assert same(client, path, (body % "[5,4,3,2,1]").encode()).alike == known.alike

    @pytest.mark.parametrize(
        "body",
        [
            '{"inputs":[{"data":[1,2,3,4,5],"name":"inputs","shape":[1,1,5],"datatype":"FP32"}]}',
            '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP64","data":[1,2,3,4,5]}]}',
            '{"inputs":[{"name":"inputs","shape":[1,1,4],"datatype":"FP32","data":[1,2,3,4]}]}',
            '{"inputs":[{"name":"inputs","shape":[-1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
            '{"inputs":[{"name":"inputs","shape":[1,2,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
            '{"inputs":[{"name":"inputs","shape":[5,1],"datatype":"FP32","data":[1,2,3,4,5]}]}',
            '{"inputs":[{"name":"input","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
            '{"id":"a","inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}',
            '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32","data":[1,2,3,4,5]}],"outputs":[]}',
            '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32"}]}',
            '{"inputs":[],"data":[1,2,3,4,5]}',
            '{"data":[1,2,3,4,5]}',
            '"data":[1]',
            "",
        ],
    )
    def test_so_are_messages_that_differ(self, client, same, body):
        assert same(client, "/v2/models/founding/infer", body.encode()).status in (200, 400)
        shifted = body.replace("[1,2,3,4,5]", "[5,4,3,2,1]")
        assert same(client, "/v2/models/founding/infer", shifted.encode()).status in (200, 400)

    def test_replies_are_compressed_where_that_is_asked_for(self, client, same):
        assert self.infer(same, client, HEAD, b"\0" * 60, "Accept-Encoding: gzip").status == 200

    @pytest.mark.parametrize("length", ["0", "-1", "5", "100000", "99999999999999999999999", "x", "", " 7 ", "\xb2"])
    def test_a_length_of_the_head_that_is_none(self, client, same, length):
        content = json.dumps(HEAD).encode() + b"\0" * 60
        line = f"Inference-Header-Content-Length: {length}"
        reply = same(client, "/v2/models/founding/infer", content, line, content_type="application/octet-stream")
        assert reply.status < 500

    def test_a_model_that_is_not_there(self, client, same):
        assert self.infer(same, client, HEAD, b"\0" * 60, path="/v2/models/nobody/infer").status == 404


class TestLimits:
    def test_refuse_what_is_longer_also_beside_a_known_shape(self, serve, same):
        good, long = (json.dumps({"inputs": batch(length)}).encode() for length in (4, 5))
        wide = json.dumps({"inputs": batch(3, 3, 3)}).encode()
        with serve(max_time_steps=4, max_batch_steps=8, max_trace_bytes=150) as client:
            assert same(client, PREDICT, good, quick=True).status == 200
            assert "takes at most 4" in same(client, PREDICT, long, quick=False).json()["detail"]
            assert "at most 8" in same(client, PREDICT, wide, quick=False).json()["detail"]
            large = same(client, PREDICT, json.dumps({"inputs": batch(4, 4)}).encode(), quick=False)
            assert (large.status, large.json()["title"]) == (413, "ReplyTooLarge")
            assert same(client, PREDICT, good, quick=True).status == 200

    def test_refuse_bodies_of_more_bytes(self, serve, same):
        with serve(max_body_bytes=len(GOOD)) as client:
            assert same(client, PREDICT, GOOD, quick=True).status == 200
            assert same(client, PREDICT, GOOD + b" ", quick=False).status == 413

    def test_of_what_is_computed_together_refuse_nothing(self, serve, same):
        with serve(max_batch_size=1) as client:
            assert same(client, PREDICT, json.dumps({"inputs": batch(2, 2, 2)}).encode(), quick=True).status == 200


class TestOtherWeights:
    SCALE = (torch.tensor([1.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 1.0]))  # as the manifest of `tiny` feeds it

    def values(self, module):
        return module((torch.tensor([batch(2, width=3)[0]]) - self.SCALE[0]) / self.SCALE[1]).tolist()

    def test_a_known_shape_is_answered_by_the_weights_that_are_served_now(
        self, model_folder, serve_models, plain, same
    ):
        folder, other, body = model_folder(seed=1), plain(seed=2), json.dumps({"inputs": batch(2, width=3)}).encode()
        path, versioned = "/v1/models/tiny/predict", "/v1/models/tiny/versions/1/predict"
        with serve_models(folder.models_dir) as client:
            for module in (folder.module, other, folder.module):
                folder.save(module.state_dict())
                assert client.post("/v1/models/tiny/load").status_code == 200
                for each in (path, versioned):
                    values = same(client, each, body, quick=True).json()["prediction"]["values"]
                    assert np.array(values) == pytest.approx(np.array(self.values(module)), abs=1e-6)
            folder.save(other.state_dict(), "2")
            assert client.post("/v1/models/tiny/load").status_code == 200
            reply = same(client, path, body, quick=True).json()
            assert reply["model"]["version"] == "2"
            assert np.array(reply["prediction"]["values"]) == pytest.approx(np.array(self.values(other)), abs=1e-6)
            assert same(client, versioned, body, quick=True).json()["model"]["version"] == "1"
            assert client.post("/v1/models/tiny/unload").status_code == 200
            refused = same(client, path, body, quick=False)
            assert (refused.status, refused.json()["title"]) == (503, "ModelUnavailable")
            assert client.post("/v1/models/tiny/load").status_code == 200
            assert same(client, path, body, quick=True).status == 200


class TestSteps:
    """Of sessions."""

    @pytest.fixture
    def open_(self, client):
        names = []

        def make(server=client, model="forecaster"):
            reply = server.post("/v1/sessions", json={"model": model})
            assert reply.status_code == 201, reply.text
            if server is client:
                names.append(reply.json()["session_id"])
            return reply.json()["session_id"]

        yield make
        for name in names:
            client.delete(f"/v1/sessions/{name}")

    @staticmethod
    def steps(name):
        return f"/v1/sessions/{name}/steps"

    @staticmethod
    def body(rows, **fields):
        return json.dumps({"inputs": rows} | fields).encode()

    @pytest.mark.parametrize("model", ["forecaster", "founding"])
    def test_give_the_numbers_of_the_other_way_and_of_the_whole(self, client, call, dial, began, open_, model):
        rows = ROWS if model == "forecaster" else batch(12)[0]
        wire, (quick, slow, mixed) = dial(client), (open_(model=model) for _ in range(3))
        parts = [rows[start:stop] for start, stop in ((0, 1), (1, 6), (6, 7), (7, 12))]
        values = []
        for index, part in enumerate(parts):
            replies = [
                wire.post(self.steps(quick), self.body(part)),
                wire.post(self.steps(slow), self.body(part), SLOWLY),
            ]
            replies.append(wire.post(self.steps(mixed), self.body(part), *([SLOWLY] if index % 2 else [])))
            told = [reply.json() for reply in replies]
            assert [each.pop("session_id") for each in told] == [quick, slow, mixed]
            assert told[0] == told[1] == told[2]
            assert replies[0].alike[:2] == replies[1].alike[:2]
            assert told[0]["steps"] == index + 1
            values += told[0]["prediction"]["values"][0] if model == "forecaster" else told[0]["output"][0]
        assert began.count(self.steps(quick)) == 4
        assert began.count(self.steps(slow)) == 0
        whole = call(f"{model}/predict", {"inputs": rows})
        expected = whole.prediction["values"][0] if model == "forecaster" else whole.output[0]
        assert np.array(values) == pytest.approx(np.array(expected), abs=1e-6)
        states = [client.get(f"/v1/sessions/{name}/state").json() for name in (quick, slow, mixed)]
        assert states[0] == states[1] == states[2]
        told = [client.get(f"/v1/sessions/{name}").json() for name in (quick, slow)]
        assert [(each["steps"], each["time_steps"]) for each in told] == [(4, 12)] * 2

    @pytest.mark.parametrize(
        "content",
        [
            b'{"inputs":[[1]]}',
            b'{"inputs":[[[1,2]],[[3,4]]]}',
            b'{"inputs":[]}',
            b'{"inputs":[[1,01]]}',
            b'{"inputs":[[1,1e39]]}',
            b"{",
            b'{"inputs":[[1,2]],"initial_state":null,"horizon":0}',
            b'{"inputs":[[1,2]],"step_number":7}',
        ],
    )
    def test_that_are_refused_are_refused_alike_and_change_nothing(self, client, same, open_, content):
        name = open_()
        refused = same(client, self.steps(name), content, quick=False)
        assert 400 <= refused.status < 500
        assert client.get(f"/v1/sessions/{name}").json()["steps"] == 0

    def test_numbered_ones_go_between_the_others(self, client, dial, began, open_):
        wire, (name, other) = dial(client), (open_(), open_())
        for index, row in enumerate(ROWS[:6]):
            numbered = self.body([row], step_number=index) if index % 2 else self.body([row])
            reply = wire.post(self.steps(name), numbered)
            assert (reply.status, reply.json()["steps"]) == (200, index + 1)
            assert (
                reply.json()["prediction"]
                == wire.post(self.steps(other), self.body([row]), SLOWLY).json()["prediction"]
            )
        assert began == [self.steps(name)] * 3
        again = wire.post(self.steps(name), self.body([ROWS[5]], step_number=5))
        assert again.json() == reply.json()
        assert wire.post(self.steps(name), self.body([ROWS[4]], step_number=4)).status == 409
        assert wire.post(self.steps(name), self.body([ROWS[6]])).json()["steps"] == 7
        refused = wire.post(self.steps(name), self.body([ROWS[6]], step_number=6))
        assert (refused.status, refused.json()["title"]) == (409, "StepConflict")

    def test_of_one_session_are_taken_one_after_another_whichever_way_they_come(self, client, call, dial, open_):
        name, wires = open_(), [dial(client) for _ in range(8)]
        replies = []

        def ask(wire, index):
            for turn in range(4):
                headers = [SLOWLY] if (index + turn) % 3 == 0 else []
                reply = wire.post(self.steps(name), self.body([[10.0, 0.0]]), *headers)
                replies.append(reply)

        threads = [threading.Thread(target=ask, args=(wire, index)) for index, wire in enumerate(wires)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {reply.status for reply in replies} == {200}
        told = sorted((reply.json() for reply in replies), key=lambda each: each["steps"])
        assert [each["steps"] for each in told] == list(range(1, 33))
        expected = call("forecaster/predict", {"inputs": [[10.0, 0.0]] * 32}).prediction["values"][0]
        assert [each["prediction"]["values"][0][0] for each in told] == [
            pytest.approx(row, abs=1e-5) for row in expected
        ]

    def test_sent_ahead_on_one_connection_are_taken_in_order(self, client, call, dial, open_):
        wire, name = dial(client), open_()
        wire.send(
            *(wire.written(self.steps(name), self.body([row]), *([SLOWLY] if row[1] % 3 == 0 else [])) for row in ROWS)
        )
        told = [wire.reply().json() for _ in ROWS]
        assert [each["steps"] for each in told] == list(range(1, 13))
        expected = call("forecaster/predict", {"inputs": ROWS}).prediction["values"][0]
        assert np.array([each["prediction"]["values"][0][0] for each in told]) == pytest.approx(
            np.array(expected), abs=1e-6
        )

    def test_go_on_from_a_state_that_was_put(self, client, call, dial, open_):
        wire, name = dial(client), open_()
        wire.post(self.steps(name), self.body(ROWS[:3]))
        state = call("forecaster/predict", {"inputs": ROWS[5:9], "outputs": ["final_state"]}).final_state
        assert client.put(f"/v1/sessions/{name}/state", json=state).status_code == 200
        reply = wire.post(self.steps(name), self.body(ROWS[9:])).json()
        expected = call("forecaster/predict", {"inputs": ROWS[9:], "initial_state": state}).prediction["values"]
        assert np.array(reply["prediction"]["values"]) == pytest.approx(np.array(expected), abs=1e-6)
        assert reply["steps"] == 2

    def test_of_a_session_that_was_ended_or_idle_are_refused_alike(self, client, serve, same, open_):
        name = open_()
        client.delete(f"/v1/sessions/{name}")
        refused = same(client, self.steps(name), self.body(ROWS), quick=False)
        assert (refused.status, refused.json()["title"]) == (404, "SessionNotFound")
        with serve(session_idle_timeout_s=0.05) as other:
            idle = open_(other)
            threading.Event().wait(0.06)
            refused = same(other, self.steps(idle), self.body(ROWS), quick=False)
            assert (refused.status, refused.json()["title"]) == (404, "SessionNotFound")

    def test_of_a_model_with_other_weights_are_refused_alike(self, model_folder, serve_models, plain, same):
        folder = model_folder(seed=1)
        with serve_models(folder.models_dir) as client:
            name = client.post("/v1/sessions", json={"model": "tiny"}).json()["session_id"]
            body = self.body(batch(1, width=3)[0])
            assert (
                client.post(self.steps(name), content=body, headers={"Content-Type": "application/json"}).status_code
                == 200
            )
            folder.save(plain(seed=2).state_dict())
            client.post("/v1/models/tiny/load")
            refused = same(client, self.steps(name), body, quick=False)
            assert (refused.status, refused.json()["title"]) == (409, "ModelReplaced")


_TENSOR = '{"inputs":[{"name":"inputs","shape":[1,1,5],"datatype":"FP32",'


@pytest.mark.parametrize(
    "body",
    [
        _TENSOR + '"data":%s,"data":[1,2,3,4,5]}]}',
        _TENSOR + '"data":%s,"d\\u0061ta":[1,2,3,4,5]}]}',
        _TENSOR + '"parameters":{"data":%s},"data":[1,2,3,4,5]}]}',
        _TENSOR + '"parameters":{"data":%s},"data" :[1,2,3,4,5]}]}',
        _TENSOR + '"x\\"data":%s,"data":[1,2,3,4,5]}]}',
        '{"parameters":{"data":%s},' + _TENSOR[1:] + '"data":[1,2,3,4,5]}]}',
        '{"data":%s,' + _TENSOR[1:] + '"data":[1,2,3,4,5]}]}',
        _TENSOR + '"data":[1,2,3,4,5],"data":%s}]}',
    ],
)
def test_only_the_tensors_own_data_are_its_numbers(client, same, body):
    for numbers in ("[1,2,3,4,5]", "[9,9,9,9,9]", "[2,2,2,2,2]"):
        same(client, "/v2/models/founding/infer", (body % numbers).encode())


def test_pages_of_other_origins_are_told_of_in_every_reply(serve, same):
    with serve(cors_origins=("https://a.example",)) as client:
        same(client, PREDICT, GOOD, quick=True)
        same(client, PREDICT, b'{"inputs":[[1,2,3,4]]}')


@pytest.mark.parametrize("zeros", [1, 20, 5000])
def test_a_length_with_zeros_in_front_is_as_long_as_the_layers_say(client, dial, zeros):
    quick, slow = dial(client), dial(client)

    def post(wire, *headers):
        sent = wire.written(PREDICT, GOOD, *headers).replace(b"Content-Length: ", b"Content-Length: " + b"0" * zeros)
        wire.send(sent)
        return wire.reply()

    assert post(quick).alike == post(slow, SLOWLY).alike


def test_long_paths_are_not_remembered():
    ways = routes.ways()
    for index in range(20):
        assert ways.of(f"/v1/models/{'x' * 100_000}{index}/predict") is not None
    assert ways._known.cache_info().currsize == 0
