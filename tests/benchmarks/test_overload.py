"""What `overload` and `hostile` make of what they measured."""

import http.server
import os
import threading
import time

import pytest

from benchmarks import attackers, health, overload, server, subject, usage
from benchmarks.health import Health
from benchmarks.trend import Trend
from benchmarks.wrk import Failed, Statuses


def test_two_runs_give_the_cost_of_a_refusal():
    few = 200 * 2.0 * 1e-3 + 10 * 2.0 * 30e-6, Statuses(200, 10, 0, 0, 2.0)
    many = 100 * 2.0 * 1e-3 + 9000 * 2.0 * 30e-6, Statuses(100, 9000, 0, 0, 2.0)
    assert overload._cost_of_refusal(few, many) == pytest.approx(30)
    with pytest.raises(Failed, match="refused nothing"):
        overload._cost_of_refusal(few, (*few[:1], Statuses(200, 0, 0, 0, 2.0)))


def test_goodput_is_of_the_peak_of_the_same_round():
    runs = [Statuses(rate, 0, 0, 0, 1.0) for rate in (80, 40, 30)]
    assert overload.Overloaded([100, 50, 60], runs).goodput == pytest.approx(0.8)


def test_a_trend_is_a_slope_with_its_error():
    assert Trend.of([0, 1, 2], [1, 3, 5]) == pytest.approx((2, 0))
    assert Trend.of([0, 1, 2, 3], [0, 1, 0, 1]).error > 0
    assert Trend.of([0, 1], [1, 3]) is None


def test_hostile_clients_stop_by_themselves_when_the_server_is_gone(tmp_path):
    requests = attackers.Requests.of(subject.write(tmp_path, ("small",))["small"])
    began = time.monotonic()
    counts = attackers.attack(f"http://127.0.0.1:{server.free_port()}", requests, seconds=0.3)
    assert time.monotonic() - began < 5
    assert set(counts) == set(attackers.KINDS)
    assert min(counts.values()) > 0


def test_the_usage_of_this_process_is_read():
    before = usage.main_thread_cpu_s(os.getpid())
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    assert usage.main_thread_cpu_s(os.getpid()) > before
    assert usage.rss_mb(os.getpid()) > 10


def test_the_health_check_notes_waits_and_failures():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.1)
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_):
            pass

    live = Health()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        with health.watch(f"http://127.0.0.1:{server.server_port}", live):
            time.sleep(0.5)
        server.shutdown()
    assert live.failures == len(live.waits) > 0
    assert live.median >= 0.1
