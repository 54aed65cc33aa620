import contextlib
import socket
import threading
import time

import pytest

from benchmarks import closed_loop, open_loop
from benchmarks.connection import Refused
from benchmarks.form import Request

REQUEST = Request("/anything", b"{}", {"Content-Type": "application/json"}).raw
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def answering(answer):
    """A server of one connection after the other, whose requests `answer(connection)` answers; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    while connection.recv(65536):
                        answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def one_connection(monkeypatch):
    """Without a warm-up."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    monkeypatch.setattr(open_loop, "WARM_UP_S", 0.0)


def test_the_open_loop_counts_from_the_intended_send_so_one_stall_is_everybodys(one_connection):
    stall_s, answered = 0.5, []

    def answer(connection):
        if len(answered) == 20:
            time.sleep(stall_s)
        answered.append(connection)
        connection.sendall(OK)

    with answering(answer) as url:
        sample = open_loop.run(url, REQUEST, rate=200, seconds=1)

    assert len(answered) == 200
    p50_ms, p90_ms, _, p999_ms = sample.latencies_ms
    assert p999_ms >= 0.9 * stall_s * 1e3
    assert p90_ms >= 0.5 * stall_s * 1e3  # 100 were due during the stall, though one alone was on its way
    assert p50_ms < p90_ms


def test_the_closed_loop_counts_whole_answers_even_if_they_come_in_pieces(monkeypatch):
    monkeypatch.setattr(closed_loop, "WARM_UP_S", 0.0)
    answered = []

    def answer(connection):
        for piece in (OK[:20], OK[20:-1]):
            connection.sendall(piece)
            time.sleep(0.005)
        connection.sendall(OK[-1:])
        answered.append(connection)

    with answering(answer) as url:
        began = time.perf_counter()
        rate = closed_loop.rate(url, [REQUEST], seconds=0.3)
        took = time.perf_counter() - began

    assert len(answered) - 1 <= rate * took
    assert rate <= 1 / 0.01


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", None])
def test_neither_loop_counts_what_is_refused(answer, one_connection):
    def refuse(connection):
        connection.sendall(answer) if answer else connection.close()

    with answering(refuse) as url, pytest.raises(Refused, match="503" if answer else "lost"):
        closed_loop.rate(url, [REQUEST], seconds=5)
    with answering(refuse) as url, pytest.raises(Refused, match="503" if answer else "lost"):
        open_loop.run(url, REQUEST, rate=50, seconds=0.2)
