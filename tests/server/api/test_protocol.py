"""Connections: requests sent ahead or in pieces, heads that come again, slow readers, and how a connection ends."""

import asyncio
import json
import socket
import threading
from itertools import count as counted

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.server.api.helpers import FORECAST, GOOD, PREDICT, numbered, until, waiting

CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def output(reply):
    assert reply.status == 200, reply.content
    return np.array(reply.json()["output"][0])


def chunked(*pieces):
    return CHUNKED % PREDICT.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class TestAhead:
    def test_ten_requests_in_one_write_are_answered_in_order(self, client, dial, expected):
        wire = dial(client)
        wire.send(*(wire.written(PREDICT, numbered(i, i % 3 + 1)) for i in range(10)))
        for number in range(10):
            assert output(wire.reply()) == expected(number, number % 3 + 1)

    def test_refused_ones_and_other_routes_keep_their_place(self, client, dial, expected):
        wire = dial(client)
        wire.send(
            wire.written(PREDICT, numbered(1)),
            wire.written(PREDICT, b'{"inputs":[[1,2,3,4,01]]}'),
            wire.written("/v1/models/nobody/predict", GOOD),
            wire.written("/v1/models/founding", b"", method="GET"),
            wire.written(FORECAST, b'{"inputs":[[1,2]]}'),
            wire.written("/v1/models/founding/trace", GOOD, "Accept: application/json"),
            wire.written(PREDICT, numbered(2)),
            wire.written(PREDICT, numbered(3), "Connection: close"),
        )
        replies = [wire.reply() for _ in range(8)]
        assert [reply.status for reply in replies] == [200, 400, 404, 200, 200, 200, 200, 200]
        assert [output(replies[at]) == expected(number) for at, number in ((0, 1), (6, 2), (7, 3))] == [True] * 3
        assert wire.is_closed()

    @pytest.mark.parametrize("size", [1, 7, 64, 1000])
    def test_they_may_be_cut_anywhere(self, client, dial, expected, size):
        wire = dial(client)
        sent = b"".join(wire.written(PREDICT, numbered(i), *(["X: y"] if i == 2 else [])) for i in range(4))
        for start in range(0, len(sent), size):
            wire.send(sent[start : start + size])
        for number in range(4):
            assert output(wire.reply()) == expected(number)

    def test_they_wait_for_the_one_that_is_computed(self, serve, dial, gate, busy, expected):
        with serve() as client:
            wire = busy(client)
            wire.send(wire.written(PREDICT, numbered(1)), wire.written(PREDICT, numbered(2)))
            other = dial(client)
            other.send(other.written(PREDICT, numbered(3)))
            until(lambda: waiting(client) == 1)  # of the first connection only its first is begun
            gate.open.set()
            assert [output(wire.reply()) == expected(number) for number in range(3)] == [True] * 3
            assert output(other.reply()) == expected(3)

    def test_the_rest_of_a_body_may_come_later(self, client, dial, expected):
        wire = dial(client)
        for _ in range(3):
            ahead = wire.written(PREDICT, numbered(2))
            wire.send(wire.written(PREDICT, numbered(1)), ahead[:-9])
            assert output(wire.reply()) == expected(1)
            wire.send(ahead[-9:])
            assert output(wire.reply()) == expected(2)

    def test_a_hundred_small_ones_are_all_answered(self, serve, dial):
        with serve(max_pipelined_requests=4) as client:
            wire = dial(client)
            wire.send(wire.written("/health/live", b"", method="GET") * 100)
            assert [wire.reply().status for _ in range(100)] == [200] * 100


class TestBodies:
    @pytest.mark.parametrize("cut", [20, -len(numbered(4)), 1 - len(numbered(4)), -1])
    def test_a_request_that_pauses_is_waited_for(self, client, dial, expected, cut):
        wire, other = dial(client), dial(client)
        sent = wire.written(PREDICT, numbered(4))
        wire.send(sent[:cut])
        assert output(other.post(PREDICT, numbered(5))) == expected(5)
        wire.send(sent[cut:])
        assert output(wire.reply()) == expected(4)

    def test_a_body_may_come_in_chunks(self, client, dial, expected):
        wire, body = dial(client), numbered(4)
        for pieces in ([body], [body[:1], body[1:]], [bytes([byte]) for byte in body]):
            wire.send(chunked(*pieces), b"0\r\n\r\n")
            assert output(wire.reply()) == expected(4)

    def test_a_chunk_that_is_none_is_refused_at_once(self, client, dial):
        wire = dial(client)
        wire.socket.settimeout(5)
        wire.send(chunked(GOOD[:5]))
        client.get("/health/live")  # its body is waited for by now
        wire.send(b"zz\r\nnothing")
        assert wire.reply().status == 400
        assert wire.is_closed()

    def test_trailers_have_a_bound_too(self, client, dial):
        wire = dial(client)
        wire.socket.settimeout(5)
        wire.send(chunked(GOOD), b"0\r\nX: ", b"a" * 200_000)
        assert wire.reply().status in (400, 431)
        assert wire.is_closed()

    def test_a_client_may_ask_before_it_sends(self, client, dial, expected):
        wire = dial(client)
        head, _, body = wire.written(PREDICT, numbered(6), "Expect: 100-continue").partition(b"\r\n\r\n")
        wire.send(head, b"\r\n\r\n")
        assert wire.head()[0] == 100
        wire.send(body)
        assert output(wire.reply()) == expected(6)

    def test_who_asks_for_nothing_that_is_there_need_not_send(self, client, dial):
        wire = dial(client)
        sent = wire.written("/v1/models/nobody/predict", GOOD, "Expect: 100-continue")
        wire.send(sent.partition(b"\r\n\r\n")[0], b"\r\n\r\n")
        assert wire.head()[0] == 404

    def test_one_that_is_late_behind_its_reply_is_no_request(self, serve, dial):
        with serve(body_timeout_s=0.5) as client:
            wire = dial(client)
            wire.send(wire.written("/v1/models/nobody/predict", GOOD)[:-1])
            assert wire.reply().status == 404
            assert wire.is_closed()

    def test_one_that_is_too_large_is_refused_and_passed_over(self, serve, dial):
        with serve(max_body_bytes=200) as client:
            wire = dial(client)
            assert wire.post(PREDICT, GOOD).status == 200
            assert wire.post(PREDICT, numbered(1, steps=2000)).status == 413
            assert wire.post(PREDICT, GOOD).status == 200

    def test_large_ones_give_back_what_they_held(self, serve, dial):
        body = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 10_000}).encode()
        with serve(max_received_bytes=len(body) + 100_000, max_trace_bytes=1) as client:
            wire = dial(client)
            wire.socket.settimeout(10)
            leaving = dial(client)
            leaving.send(leaving.written(PREDICT, body)[:-1])
            until(lambda: client.app.state.edge.received_bytes > 0)
            leaving.close()
            until(lambda: client.app.state.edge.received_bytes == 0, 3)
            assert [wire.post(PREDICT, body).status for _ in range(4)] == [413] * 4
            assert client.app.state.edge.received_bytes == 0

    def test_large_ones_that_have_no_room_wait_for_it(self, serve, dial):
        body = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0, 5.0]] * 10_000}).encode()
        with serve(max_received_bytes=len(body), max_trace_bytes=1, request_timeout_s=5) as client:
            wires = [dial(client) for _ in range(4)]
            for wire in wires:
                wire.socket.settimeout(10)
                wire.send(wire.written(PREDICT, body)[:200_000])
            sending = [
                threading.Thread(target=wire.send, args=[wire.written(PREDICT, body)[200_000:]]) for wire in wires
            ]
            for thread in sending:
                thread.start()
            assert [wire.reply().status for wire in wires] == [413] * 4
            for thread in sending:
                thread.join(10)

    def test_bytes_that_are_no_request_are_refused_and_others_go_on(self, client, dial, expected):
        wire, other = dial(client), dial(client)
        assert output(wire.post(PREDICT, numbered(1))) == expected(1)
        wire.send(b"nonsense\r\n\r\n")
        assert wire.reply().status == 400
        assert wire.is_closed()
        assert output(other.post(PREDICT, numbered(2))) == expected(2)


class TestKnownHeads:
    """Requests whose head is that of an earlier one on their connection."""

    def test_are_answered_whatever_their_length(self, client, dial, expected):
        wire = dial(client)
        for number in range(8):
            steps = number**2 + 1
            assert output(wire.post(PREDICT, numbered(number, steps))) == expected(number, steps)

    @pytest.mark.parametrize("header", ["X-Request-ID: mine", "x-other: \xfc", "Content-Language:de"])
    def test_are_answered_as_the_first_was(self, client, dial, header):
        wire = dial(client)
        first, second = (wire.post(PREDICT, GOOD, header) for _ in range(2))
        assert first.alike == second.alike
        assert first["x-request-id"] == second["x-request-id"] or "Request" not in header

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'{"inputs":[[1,2,3,4,01]]}', 400),
            (b'{"inputs":[[1,2,3,4]]}', 422),
            (b'{"inputs":[[1,2,3,4,5]],"output":true}', 422),
            (b"", 400),
            (b"1", 422),
        ],
    )
    def test_with_a_body_that_is_wrong_are_refused(self, client, dial, body, status):
        wire, other = dial(client), dial(client)
        wire.post(PREDICT, GOOD)
        replies = [wire.post(PREDICT, each) for each in (body, GOOD, body)]
        assert [reply.status for reply in replies] == [status, 200, status]
        assert replies[0].alike == replies[2].alike == other.post(PREDICT, body, "X: y").alike

    def test_are_known_again_after_other_heads(self, client, dial, expected):
        wire = dial(client)
        for number in range(12):
            assert output(wire.post(PREDICT, numbered(number))) == expected(number)
            assert wire.post("/v1/models/founding", b"", method="GET").status == 200
            assert output(wire.post(PREDICT, numbered(2), f"X: {number}")) == expected(2)

    @pytest.mark.parametrize("cut", [1, 30, -20, -1])
    def test_may_come_in_pieces(self, client, dial, expected, cut):
        wire = dial(client)
        for number in range(3):
            wire.post(PREDICT, numbered(9))
            sent = wire.written(PREDICT, numbered(number))
            wire.send(sent[:cut])
            client.get("/health/live")  # the piece is there
            wire.send(sent[cut:])
            assert output(wire.reply()) == expected(number)

    def test_may_be_followed_by_the_beginning_of_another(self, client, dial, expected):
        wire = dial(client)
        wire.post(PREDICT, GOOD)
        sent = [wire.written(PREDICT, numbered(number)) for number in range(4)]
        wire.send(*sent[:3], sent[3][:20])
        assert [output(wire.reply()) == expected(number) for number in range(3)] == [True] * 3
        wire.send(sent[3][20:])
        assert output(wire.reply()) == expected(3)

    @pytest.mark.parametrize("length", ["+26", "-26", " 26 6", "0x1a", "2６", "000026", "26, 26", "", "25", "27"])  # noqa: RUF001
    def test_are_not_known_by_another_kind_of_length(self, client, dial, length):
        fresh, wire = dial(client), dial(client)
        wire.post(PREDICT, GOOD)
        sent = wire.written(PREDICT, GOOD).replace(b"Length: 24", f"Length: {length}".encode())
        replies = []
        for each in (fresh, wire):
            each.send(sent)
            each.socket.shutdown(socket.SHUT_WR)
            replies.append(each.rest().partition(b"\r\n")[0])
        assert replies[0] == replies[1]


class TestEnds:
    def test_a_connection_is_kept_for_the_next_request(self, client, dial, expected):
        wire = dial(client)
        for number in range(5):
            reply = wire.post(PREDICT, numbered(number))
            assert "connection" not in dict(reply.headers)
            assert output(reply) == expected(number)

    @pytest.mark.parametrize(
        ("version", "headers"),
        [("1.1", ("Connection: close",)), ("1.0", ()), ("1.0", ("Connection: keep-alive",))],
    )
    def test_it_is_closed_where_the_client_says_so(self, client, dial, version, headers):
        wire = dial(client)
        reply = wire.post(PREDICT, GOOD, *headers, version=version)
        assert (reply.status, reply["connection"]) == (200, "close")
        assert wire.is_closed()

    def test_what_follows_the_last_request_is_not_read(self, client, dial):
        wire = dial(client)
        wire.send(wire.written(PREDICT, GOOD, "Connection: close"), wire.written(PREDICT, GOOD))
        assert wire.reply().status == 200
        assert wire.is_closed()

    @pytest.mark.parametrize("path", [PREDICT, "/v1/models/founding"])
    def test_an_idle_one_is_closed_after_a_while(self, serve, dial, path):
        with serve(keep_alive_timeout_s=0.3) as client:
            wire = dial(client)
            for _ in range(3):
                assert wire.post(path, GOOD, method="POST" if path == PREDICT else "GET").status == 200
            assert wire.is_closed()

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_head_has_no_body(self, client, dial, method):
        wire = dial(client)
        for path in ("/v1/models", "/health/live", "/nowhere", PREDICT):
            wire.send(wire.written(path, b"", method=method))
            reply = wire.reply(has_content=method == "GET")
            assert (len(reply.content) > 0) == (method == "GET")
        assert wire.post(PREDICT, GOOD).status == 200


class TestMany:
    def test_two_hundred_connections_get_their_own_answers(self, client, call, expected):
        names = [client.post("/v1/sessions", json={"model": "founding"}).json()["session_id"] for _ in range(8)]
        models = {"forecaster": [[1.0, 2.0]], "both-ways": [[0.1, 0.2, 0.3]]}
        known = {name: call(f"{name}/predict", {"inputs": rows}) for name, rows in models.items()}
        paths = {
            0: lambda index: (f"/v1/sessions/{names[index // 4 % 8]}/steps", {"inputs": [[0.1] * 5]}),
            1: lambda _: (FORECAST, {"inputs": models["forecaster"]}),
            2: lambda _: ("/v1/models/both-ways/predict", {"inputs": models["both-ways"]}),
            3: lambda index: (PREDICT, json.loads(numbered(index, index % 7 + 1))),
        }
        answers = asyncio.run(self.ask(client, lambda index: paths[index % 4](index), 200))
        taken = {name: {} for name in names}
        for index, told in answers.items():
            if index % 4 == 0:
                taken[told["session_id"]][told["steps"]] = told["output"][0][0]
            elif index % 4 == 1:
                assert told["prediction"]["values"] == pytest.approx(np.array(known["forecaster"].prediction["values"]))
            elif index % 4 == 2:
                assert np.array(told["output"]) == pytest.approx(np.array(known["both-ways"].output), abs=1e-5)
            else:
                assert np.array(told["output"][0]) == expected(index, index % 7 + 1)
        whole = np.array(call("founding/predict", {"inputs": [[0.1] * 5] * 20}).output[0])
        for name, steps in taken.items():
            assert sorted(steps) == [*range(1, len(steps) + 1)]
            for step, row in steps.items():
                assert np.array(row) == pytest.approx(whole[step - 1], abs=1e-5)
            client.delete(f"/v1/sessions/{name}")

    @staticmethod
    async def ask(client, request, connections):
        """What two requests on each connection were answered, all under way together, by their index."""
        numbers, together, answers = counted(), asyncio.Barrier(connections), {}

        async def one():
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            await together.wait()
            for _ in range(2):
                index = next(numbers)
                path, fields = request(index)
                body = json.dumps(fields).encode()
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                )
                writer.write(head.encode() + b"\r\n\r\n" + body)
                answered = await reader.readuntil(b"\r\n\r\n")
                assert answered.startswith(b"HTTP/1.1 200"), answered
                size = int(answered.split(b"content-length: ")[1].split(b"\r\n")[0])
                answers[index] = json.loads(await reader.readexactly(size))
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(one() for _ in range(connections)))
        return answers


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A folder with a model whose replies are large."""
    root = tmp_path_factory.mktemp("wide")
    network = nn.Module()
    torch.manual_seed(1)
    network.lstm = nn.LSTM(1, 64)
    (root / "wide" / "1").mkdir(parents=True)
    (root / "wide" / "model.toml").write_text(
        'description = "a"\n[input]\nkind = "features"\nfeatures = [{name = "a"}]'
    )
    save_file(network.state_dict(), root / "wide" / "1" / "model.safetensors")
    return root


def test_who_reads_late_harms_nobody_and_gets_all(serve_models, wide, dial):
    path, times = "/v1/models/wide/predict", 8
    body = json.dumps({"inputs": [[0.5]] * 1500}, separators=(",", ":")).encode()
    with serve_models(wide) as client:
        slow, other = dial(client), dial(client)
        once = other.post(path, body)
        assert len(once.content) > 1_000_000
        sending = threading.Thread(target=slow.send, args=[slow.written(path, body) * times])
        sending.start()
        for _ in range(20):
            assert other.post(path, b'{"inputs":[[1]]}').status == 200
        assert [slow.reply().alike == once.alike for _ in range(times)] == [True] * times
        sending.join()
        assert slow.post(path, b'{"inputs":[[1]]}').status == 200
