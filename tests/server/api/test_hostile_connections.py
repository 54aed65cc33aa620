"""Connections made to hurt: slow, endless, silent, too many, never read, or speaking of other protocols.

The numbers are those of the attacks that were found: f01 to f17.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from gatescope.errors import InvalidInput
from gatescope.server.settings import Settings
from tests.server.api.helpers import GOOD, PREDICT, count, numbered, until

MB = 1_000_000
LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
TRACE = "/v1/models/founding/trace"
JSON_LINE = b"Content-Type: application/json"
PARTIAL = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n%b\r\nContent-Length: 9\r\n\r\n{" % JSON_LINE
LARGE = json.dumps({"inputs": [[[0.5] * 5] * 4000] * 20}, separators=(",", ":")).encode()  # 23 MB of trace
BINARY = "Accept: application/vnd.safetensors"


@pytest.fixture(scope="module")
def short(serve):
    """A server that waits for nobody for long."""
    with serve(head_timeout_s=0.6, body_timeout_s=0.6, keep_alive_timeout_s=0.6, send_timeout_s=1.0) as client:
        yield client


@pytest.fixture(scope="module")
def process(service, models_dir):
    """A process of its own, and a client of it."""
    with service(GATESCOPE_MODELS_DIR=str(models_dir), GATESCOPE_ALLOWED_HOSTS="a") as (client, running):
        client.post(PREDICT, content=GOOD, headers={"Content-Type": "application/json"})
        client.rss = lambda: _rss(running.pid)
        yield client


def _rss(pid):
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def assert_still_answers(client):
    began = time.monotonic()
    assert client.get("/health/live").status_code == 200
    assert time.monotonic() - began < 3


def connections(client):
    """How many the server holds."""
    return len(client.server.server_state.connections)


class TestHeads:
    """f04, f08: no head is endless, and none takes for ever."""

    @pytest.mark.parametrize(
        "begin",
        [
            LIVE + b"".join(b"X-%d: a\r\n" % number for number in range(101)),
            LIVE + b"X: " + b"a" * 33_000,
            LIVE + b"".join(b"X-%d: %b\r\n" % (number, b"a" * 900) for number in range(40)),
            b"GET /" + b"a" * 33_000,
            LIVE + b"a" * 33_000,
        ],
        ids=["lines", "a long one", "many long ones", "target", "name"],
    )
    def test_one_that_is_too_large_is_431(self, client, dial, begin):
        wire = dial(client)
        wire.send(begin)
        reply = wire.reply()
        assert (reply.status, reply.json()["title"], reply["connection"]) == (431, "HeadTooLarge", "close")
        assert reply["x-request-id"]
        assert wire.is_closed()

    def test_one_within_the_bounds_is_answered(self, client, dial):
        wire = dial(client)
        wire.send(LIVE, b"".join(b"X-%d: %b\r\n" % (number, b"a" * 300) for number in range(98)), b"\r\n")
        assert wire.reply().status == 200

    def test_who_sends_on_gets_to_read_why(self, process, dial):
        before, wire = process.rss(), dial(process)
        wire.send(LIVE)
        lines = b"".join(b"X-%d: a\r\n" % number for number in range(5000))
        with contextlib.suppress(ConnectionError):
            for _ in range(300):  # 15 MB
                wire.send(lines)
        with contextlib.suppress(ConnectionError):
            assert wire.reply().status == 431
        assert process.rss() - before < 30
        assert_still_answers(process)

    def test_behind_one_that_is_answered_it_is_bounded_too(self, client, dial):
        wire = dial(client)
        wire.send(LIVE, b"\r\n", LIVE, b"X: " + b"a" * 33_000)
        assert wire.reply().status == 200
        with contextlib.suppress(ValueError):  # it may say why before it closes
            assert wire.reply().status == 431
        assert wire.is_closed()

    @pytest.mark.parametrize("begin", [b"GET /health/live HTTP/1.1\r\nX-", LIVE, b"G", LIVE + b"\r\n" + LIVE])
    def test_one_that_is_not_ended_is_408(self, short, dial, begin):
        wire, began = dial(short), time.monotonic()
        wire.send(begin)
        if begin.endswith(LIVE) and begin != LIVE:
            assert wire.reply().status == 200
        reply = wire.reply()
        assert (reply.status, reply.json()["title"]) == (408, "TooSlow")
        assert 0.5 < time.monotonic() - began < 10
        assert wire.is_closed()

    def test_bytes_in_drops_win_no_time(self, short, dial):
        wire, began = dial(short), time.monotonic()
        wire.send(b"GET / HTTP/1.1\r\nX-A: ")
        wire.socket.setblocking(False)
        answer = b""
        while not answer and time.monotonic() - began < 10:
            time.sleep(0.1)
            with contextlib.suppress(BlockingIOError):
                answer = wire.socket.recv(12)
            with contextlib.suppress(OSError):
                wire.socket.send(b"a")
        assert answer == b"HTTP/1.1 408"

    def test_empty_lines_win_no_time(self, short, dial):
        wire, began = dial(short), time.monotonic()
        wire.socket.settimeout(0.1)
        while time.monotonic() - began < 2.5:
            try:
                wire.send(b"\r\n")
                if wire.socket.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        pytest.fail("the connection is still open")

    @pytest.mark.parametrize("path", [None, "/health/live"])
    def test_a_silent_connection_is_closed(self, short, dial, path):
        wire = dial(short)
        if path is not None:
            assert wire.post(path, b"", method="GET").status == 200
        assert wire.is_closed()

    def test_slow_ones_hold_up_nobody(self, short, dial):
        wires = [dial(short) for _ in range(100)]
        for wire in wires:
            wire.send(LIVE)
        assert dial(short).post(PREDICT, GOOD).status == 200
        assert [wire.reply().status for wire in wires] == [408] * 100


class TestBodies:
    @pytest.mark.parametrize("path", [PREDICT, "/v1/sessions"])
    def test_a_slow_one_is_408(self, short, dial, path):
        wire = dial(short)
        wire.send(wire.written(path, GOOD)[:-1])
        assert (reply := wire.reply()).status == 408
        assert "the body did not arrive within 0.6 seconds" in reply.content.decode()

    def test_one_of_a_framework_route_is_408_too(self, short, dial):
        wire = dial(short)
        wire.send(wire.written("/v1/models/founding/load", GOOD)[:-1])
        assert wire.reply().status in (200, 408)  # it may be answered without its body
        assert_still_answers(short)

    def test_f17_large_ones_of_nan_are_refused_soon(self, process):
        body = b'{"inputs":[' + b"[NaN,NaN,NaN,NaN,NaN]," * 600_000 + b"[1,2,3,4,5]]}"
        headers, waited, replies = {"Content-Type": "application/json"}, [], []

        def post():
            with httpx.Client(base_url=process.base_url, timeout=30) as client:
                replies.append(client.post(PREDICT, content=body, headers=headers))

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            process.get("/health/live")
            waited.append(time.monotonic() - began)
        assert [reply.json()["errors"][0]["loc"] for reply in replies] == [["body", "inputs", 0, 0]] * 4
        assert sorted(waited)[-3:][0] < 0.6


class TestUnread:
    """f03, f05: what nobody reads is not kept."""

    def test_f03_requests_by_the_thousand_are_read_no_further(self, process):
        before, sent = process.rss(), 0
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.connect((process.base_url.host, process.base_url.port))
            connection.settimeout(1)
            requests = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" * 2000
            with contextlib.suppress(TimeoutError):
                while sent < 40 * MB:
                    connection.sendall(requests)
                    sent += len(requests)
            assert sent < 40 * MB
            assert process.rss() - before < 60
            assert_still_answers(process)

    @staticmethod
    def unread(client, buffer=4096):
        """A connection that asks for a large reply and does not read it."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.connect((client.base_url.host, client.base_url.port))
        head = f"POST {TRACE} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{BINARY}\r\n"
        connection.sendall(f"{head}Content-Length: {len(LARGE)}\r\n\r\n".encode() + LARGE)
        connection.settimeout(20)
        assert connection.recv(12) == b"HTTP/1.1 200"
        return contextlib.closing(connection)

    def test_f05_a_reply_that_is_never_read_is_given_up(self, short):
        until(lambda: connections(short) <= 1)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(self.unread(short))
            assert connections(short) >= 1
            until(lambda: connections(short) <= 1, 15)
        assert_still_answers(short)

    def test_all_of_them_together_have_a_bound(self, serve):
        with serve(max_unsent_bytes=30 * MB) as client, contextlib.ExitStack() as stack:
            first, second = (stack.enter_context(self.unread(client)) for _ in range(2))
            with contextlib.suppress(ConnectionError):
                assert self.read(first) < 20 * MB
            assert self.read(second) > 20 * MB

    @staticmethod
    def read(connection):
        """The bytes that come until nothing does for a second."""
        connection.settimeout(1)
        size = 0
        with contextlib.suppress(TimeoutError):
            while piece := connection.recv(1 << 20):
                size += len(piece)
        return size

    def test_who_reads_slowly_but_reads_gets_it_all(self, short):
        with self.unread(short, 1 << 17) as connection:
            size, began = 0, time.monotonic()
            while time.monotonic() - began < 2:
                size += len(connection.recv(65536))
                time.sleep(0.02)
            size += self.read(connection)
        assert size > 20 * MB


class TestLeaving:
    def test_f02_hundreds_that_leave_cost_no_memory(self, process, dial):
        body = json.dumps({"inputs": [[[0.5] * 5] * 200] * 50}).encode()  # 3 MB of trace
        written = dial(process).written(TRACE, body)
        for _ in range(20):
            self.leave(process, written)
        assert_still_answers(process)
        before = process.rss()
        for _ in range(200):
            self.leave(process, written)
        until(
            lambda: (
                count(process, 499, "/v1/models/{name}/trace") + count(process, 200, "/v1/models/{name}/trace") >= 200
            ),
            20,
        )
        assert process.rss() - before < 150
        assert process.post(PREDICT, content=GOOD, headers={"Content-Type": "application/json"}).status_code == 200

    @staticmethod
    def leave(client, written):
        with socket.create_connection((client.base_url.host, client.base_url.port)) as leaving:
            leaving.sendall(written)

    @pytest.mark.parametrize("version", ["1.1", "1.0"])
    @pytest.mark.parametrize("path", [PREDICT, "/v1/sessions", "/v2/models/founding/infer"])
    def test_f16_who_only_ends_sending_gets_a_reply(self, client, dial, version, path):
        wire = dial(client)
        wire.send(wire.written(path, GOOD, version=version))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.reply().status in (200, 400, 422)
        assert wire.is_closed()

    def test_who_ends_sending_within_the_body_is_counted_499(self, client, dial):
        before, wire = count(client, 499), dial(client)
        wire.send(wire.written(PREDICT, GOOD)[:-2])
        client.get("/health/live")
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed()
        until(lambda: count(client, 499) == before + 1)


WEBSOCKET = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


class TestUpgrades:
    """f01, f07: other protocols are not spoken, and harm nobody."""

    OFFERS = (
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Connection: upgrade", "Upgrade: h2c"),
        ("Upgrade: TLS/1.0", "Connection: Upgrade, keep-alive"),
    )

    @pytest.mark.parametrize("offer", OFFERS)
    def test_f07_an_offer_is_ignored_and_the_body_read(self, client, dial, expected, offer):
        wire = dial(client)
        for number in range(3):
            reply = wire.post(PREDICT, numbered(number), *offer)
            assert np.array(reply.json()["output"][0]) == expected(number)
        wire.send(*(wire.written(PREDICT, numbered(number), *offer) for number in range(3)))
        for number in range(3):
            assert np.array(wire.reply().json()["output"][0]) == expected(number)

    @pytest.mark.parametrize("cut", [1, 30, 150, -60, -1])
    def test_however_it_is_cut(self, client, dial, expected, cut):
        wire = dial(client)
        sent = wire.written(PREDICT, numbered(4), *self.OFFERS[0])
        wire.send(sent[:cut])
        client.get("/health/live")
        wire.send(sent[cut:])
        assert np.array(wire.reply().json()["output"][0]) == expected(4)

    def test_a_chunked_body_behind_an_offer_is_read(self, client, dial, expected):
        wire, body = dial(client), numbered(4)
        head = wire.written(PREDICT, body, *self.OFFERS[0]).partition(b"\r\n\r\n")[0]
        head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        wire.send(head, b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert np.array(wire.reply().json()["output"][0]) == expected(4)

    @pytest.mark.parametrize(
        "begin",
        [
            b"POST /x HTTP/1.1\r\n%bContent-Length: 2\r\n\r\n{}" % WEBSOCKET,
            b"GET /x HTTP/1.1\r\n%bContent-Length: 2\r\n\r\n{}" % WEBSOCKET,
            b"GET /x HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % WEBSOCKET,
            b"POST /x HTTP/1.1\r\n%b\r\n" % WEBSOCKET,
            b"CONNECT evil.example:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_f01_what_can_be_no_websocket_is_refused_at_once(self, client, dial, begin):
        wire = dial(client)
        wire.send(begin)
        assert wire.reply().status == 400
        assert wire.is_closed()

    def test_f01_it_does_not_disturb_the_end(self, running, dial, gate, busy, expected, caplog):
        with running(shutdown_timeout_s=20) as client:
            bad = dial(client)
            bad.send(b"POST /x HTTP/1.1\r\n%bContent-Length: 2\r\n\r\n{}" % WEBSOCKET)
            held = busy(client)
            client.server.handle_exit(signal.SIGTERM, None)
            assert bad.reply().status == 400
            gate.open.set()
            assert np.array(held.reply().json()["output"][0]) == expected(0)
            client.thread.join(10)
            assert not client.thread.is_alive()
        assert [record.msg for record in caplog.records if record.levelno >= logging.ERROR] == []


class TestMany:
    def test_beyond_the_bound_connections_are_503(self, serve, dial):
        with serve(max_connections=5) as client:
            until(lambda: connections(client) == 1)  # the client's own
            wires = [dial(client) for _ in range(4)]
            assert [wire.post(PREDICT, GOOD).status for wire in wires] == [200] * 4
            for _ in range(3):
                one_more = dial(client)
                reply = one_more.reply()
                assert (reply.status, reply.json()["title"]) == (503, "NotReady")
                assert one_more.is_closed()
                one_more.close()
            assert [wire.post(PREDICT, GOOD).status for wire in wires] == [200] * 4
            for wire in wires:
                wire.close()
            until(lambda: connections(client) == 1)
            assert dial(client).post(PREDICT, GOOD).status == 200


class TestEnd:
    """f14: of a real process."""

    BOUNDS = ("GATESCOPE_MAX_TIME_STEPS", "GATESCOPE_MAX_BATCH_STEPS", "GATESCOPE_MAX_TRACE_BYTES")

    @pytest.fixture
    def ending(self, models_dir):
        """A process that is to end, and its address."""
        command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0", "--models", str(models_dir)]
        bounds = dict.fromkeys(self.BOUNDS, "1000000000")
        environment = os.environ | bounds | {"GATESCOPE_SHUTDOWN_TIMEOUT_S": "60", "GATESCOPE_LOG_FORMAT": "json"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                url = httpx.URL(next(json.loads(line)["url"] for line in process.stderr if '"listening"' in line))
                until(lambda: httpx.get(url.join("/health/ready")).status_code == 200, 30)
                yield process, url
            finally:
                process.kill()

    def test_a_second_signal_ends_it_at_once_with_503(self, ending):
        process, url = ending
        long, replies = {"text": ["a"] * 30, "horizon": 1_000_000}, []  # minutes of work
        asking = threading.Thread(
            target=lambda: replies.append(httpx.post(url.join("/v1/models/letters/predict"), json=long, timeout=30))
        )
        asking.start()
        with socket.create_connection((url.host, url.port), timeout=20) as partial:
            partial.sendall(PARTIAL)
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert (replies, process.poll()) == ([], None)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            asking.join(20)
            assert (replies[0].status_code, replies[0].json()["title"]) == (503, "NotReady")
            assert partial.recv(12) == b"HTTP/1.1 503"
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 10
        assert "Traceback" not in process.stderr.read()


class TestSettings:
    """f12: what looks like a setting and is none is an error, not silence."""

    @pytest.mark.parametrize("keys", [",", " ", "a,,b", ", a"])
    @pytest.mark.parametrize("name", ["API_KEYS", "ADMIN_KEYS"])
    def test_keys_that_are_none_are_refused(self, monkeypatch, name, keys):
        monkeypatch.setenv(f"GATESCOPE_{name}", keys)
        with pytest.raises(InvalidInput, match=f"GATESCOPE_{name}"):
            Settings.of_environment()

    def test_keys_beyond_ascii_are_taken(self, monkeypatch):
        monkeypatch.setenv("GATESCOPE_API_KEYS", "schlüssel, ключ")
        assert Settings.of_environment().api_keys == ("schlüssel", "ключ")

    def test_a_misspelt_one_names_the_right_one(self, monkeypatch):
        monkeypatch.setenv("GATESCOPE_MAX_SESIONS", "5")
        with pytest.raises(InvalidInput, match=r"GATESCOPE_MAX_SESIONS.*GATESCOPE_MAX_SESSIONS"):
            Settings.of_environment()

    def test_what_kubernetes_injects_is_passed_over(self, monkeypatch):
        injected = {
            "PORT": "tcp://10.0.0.1:80",
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "80",
            "SERVICE_PORT_HTTP": "80",
            "PORT_80_TCP": "tcp://10.0.0.1:80",
            "PORT_80_TCP_PROTO": "tcp",
            "PORT_80_TCP_PORT": "80",
            "PORT_80_TCP_ADDR": "10.0.0.1",
        }
        for name, value in injected.items():
            monkeypatch.setenv(f"GATESCOPE_{name}", value)
        assert Settings.of_environment().port == 8000
        assert Settings.of_environment(port=81).port == 81

    def test_the_command_says_so_and_does_not_start(self):
        command = [Path(sys.executable).with_name("gatescope"), "serve", "--port", "0"]
        ended = subprocess.run(
            command,
            env=os.environ | {"GATESCOPE_API_KEYS": ","},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert ended.returncode not in (0, -signal.SIGTERM)
        assert "GATESCOPE_API_KEYS" in ended.stderr
        assert "Traceback" not in ended.stderr
