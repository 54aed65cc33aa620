"""What several test modules ask for, and how they wait."""

import json
import time

PREDICT = "/v1/models/founding/predict"
FORECAST = "/v1/models/forecaster/predict"
GOOD = b'{"inputs":[[1,2,3,4,5]]}'


def until(reached, seconds=10.0):
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def count(client, status, route="/v1/models/{name}/predict", method="POST"):
    """How many requests to a route were answered so."""
    named = f'gatescope_requests_total{{method="{method}",route="{route}",status="{status}"}} '
    return next((float(line[len(named) :]) for line in client.get("/metrics").text.splitlines() if named in line), 0.0)


def numbered(number, steps=1):
    """A body, and what can be told of it in a reply: no two numbers give the same output."""
    return json.dumps({"inputs": [[[number / 10, 0.1, 0.2, 0.3, 0.4]] * steps]}).encode()


def waiting(client):
    """How many queries wait for the device."""
    return client.app.state.context.engine.waiting


def queued(client):
    """How many requests wait for a place."""
    named = "gatescope_requests_waiting "
    return next(
        int(float(line[len(named) :])) for line in client.get("/metrics").text.splitlines() if line.startswith(named)
    )
