"""The command, as a user runs it, and the inspector, as a browser shows it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from app.cli import main


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
def chromium(needed) -> Iterator[Browser]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needed("chromium"), args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def inspector(chromium, shipped) -> Iterator[Callable[..., Page]]:
    """`inspector(model="brackets", unit=2)` opens that view and waits for its picture, unless it is not to be `drawn`.

    `expected` are words of what the browser may report; whatever else it reports fails the test.
    """
    reports: list[str] = []
    allowed: list[str] = []
    with ExitStack() as stack:

        def open_view(
            *,
            url: str = "",
            width: int = 1440,
            scheme: str = "light",
            expected: tuple[str, ...] = (),
            drawn: bool = True,
            **view: object,
        ) -> Page:
            allowed.extend(expected)
            context = chromium.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,
                permissions=["clipboard-read", "clipboard-write"],
            )
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.on("console", lambda message: message.type in ("error", "warning") and reports.append(message.text))
            page.on("pageerror", lambda error: reports.append(str(error)))
            page.goto(f"{url or shipped.base_url}/?{urlencode(view)}")
            if drawn:
                page.locator(".player-place", has_text="time step").wait_for()
            return page

        yield open_view
    assert [report for report in reports if not any(words in report for words in allowed)] == []
