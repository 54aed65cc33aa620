"""The command, as a user runs it, and the inspector, as a browser shows it."""

import os
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import ConsoleMessage, Error, Page, sync_playwright

from gatescope.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gatescope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="module")  # Playwright's event loop must not run on into the tests of other modules
def tab(needed) -> Iterator[Page]:
    """The one tab of one browser: another would cost each test more than its page does."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needed("chromium"), args=sandbox)
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        yield tab
        browser.close()


@pytest.fixture
def inspector(tab, shipped) -> Iterator[Callable[..., Page]]:
    """`inspector(model="brackets", unit=2)` opens that view and waits for its picture.

    `expected` are words of what the browser may report; whatever else it reports fails the test.
    """
    reports: list[str] = []
    allowed: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            reports.append(message.text)

    def fail(error: Error) -> None:
        reports.append(str(error))

    def open_view(
        *,
        url: str = "",
        width: int = 1440,
        scheme: str = "light",
        expected: tuple[str, ...] = (),
        **view: object,
    ) -> Page:
        allowed.extend(expected)
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme)
        tab.goto(f"{url or shipped.base_url}/?{urlencode(view)}")
        tab.locator(".player-place", has_text="time step").wait_for()
        return tab

    tab.on("console", hear)
    tab.on("pageerror", fail)
    yield open_view
    tab.unroute_all()
    tab.evaluate("[localStorage, sessionStorage].forEach((storage) => storage.clear())")
    tab.goto("about:blank")
    tab.remove_listener("console", hear)
    tab.remove_listener("pageerror", fail)
    assert [report for report in reports if not any(words in report for words in allowed)] == []


@pytest.fixture
def traced(shipped):
    """What the API says of a predict body, by default of a shipped model's first example."""

    def trace(model, body=None):
        body = body or shipped.get(f"/v1/models/{model}").json()["examples"][0]["request"]
        return shipped.post(f"/v1/models/{model}/trace", json=body).json()

    return trace
