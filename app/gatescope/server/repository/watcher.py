"""`Watcher`: has the folder of models looked at whenever it changes, and every few seconds whether it does or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import watch

log = structlog.get_logger(__name__)

GLANCE_S = 5.0
"""Between two looks without a change: networks, limits and links hide some changes from the system's notifications."""

SETTLE_S = 0.4
"""Between two looks at something that still changes."""


class Watcher:
    """A thread that ends when it is told to.

    Args:
        folder: the folder of models; it may be missing at times, and another one may take its place.
        look: looks at it, and says whether to look again soon.
    """

    def __init__(self, folder: Path, look: Callable[[], bool]) -> None:
        self._folder, self._look = folder, look
        self._stopped = threading.Event()
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except Exception as error:  # noqa: BLE001 - watchfiles has errors of its own, and watching must go on
                self._complain(str(error))
                self._stopped.wait(GLANCE_S)

    def _watch(self) -> None:
        """Watch until another folder is in this one's place."""
        self._look_until_settled()
        watched = self._identity()
        for _ in watch(
            self._folder,
            watch_filter=None,
            stop_event=self._stopped,
            rust_timeout=round(GLANCE_S * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            self._trouble = ""
            self._look_until_settled()
            if self._identity() != watched:
                return

    def _look_until_settled(self) -> None:
        while not self._stopped.is_set() and self._look():
            self._stopped.wait(SETTLE_S)

    def _identity(self) -> tuple[int, int]:
        stat = self._folder.stat()
        return stat.st_dev, stat.st_ino

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("changes are not notified: models are looked at now and then", s=GLANCE_S, reason=trouble)
        self._trouble = trouble
