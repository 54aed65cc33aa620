"""The service in this process: it is ready at once, where a process of its own takes three seconds."""

import contextlib
import socket
import threading
import time

import httpx
import uvicorn

from gatescope.server.api.protocol import HttpProtocol
from gatescope.server.main import create_app
from gatescope.server.settings import Settings

USUAL = {"watch": False, "allowed_hosts": ("a", "test")}
"""Settings of most tests; they ask by these names."""

NO_TLS = {"verify": False}
"""A client that reads the certificates of the world takes as long to make as a request or ten."""


@contextlib.contextmanager
def serving(models_dir, **settings):
    """A real uvicorn in a thread, ready; yields a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(Settings(models_dir=models_dir, **USUAL | settings))
    config = uvicorn.Config(app, http=HttpProtocol, host="127.0.0.1", port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, **NO_TLS) as client:
            _until_ready(client)
            client.app, client.server, client.thread = app, server, thread
            yield client
    finally:
        server.should_exit = True
        thread.join()


def _until_ready(client):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.ConnectError):
            if client.get("/health/ready").status_code == 200:
                return
        time.sleep(0.02)
    raise TimeoutError("the server did not become ready")
