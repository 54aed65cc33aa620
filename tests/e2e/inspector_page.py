"""What tests do with the inspector's page, and what they see of it."""

import csv
import io
import re
from pathlib import Path

import numpy as np
from playwright.sync_api import expect

SIGNALS = ("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state")
REFUSED = "Failed to load resource"  # how Chromium reports a reply of 4xx

DRAWN = """() => document.querySelector('#progress').hidden
    && ['#overview .reading', '#strip .arithmetic', '#scatter .hint'].every(
        (part) => document.querySelector(part)?.textContent)"""

SEEN = """async () => [
    ...[...document.querySelectorAll('.reading, .arithmetic, .hint, .unit-mark, .cell-where, .player-place')].map(
        (part) => part.textContent + part.style.transform),
    ...[...document.querySelectorAll('select, input:not([type=file]), textarea')].map((field) => field.value),
    ...(await Promise.all([...document.querySelectorAll('canvas')].map(async (canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return new Uint8Array(await crypto.subtle.digest('SHA-256', data)).join();
    }))),
]"""


def give(page, text):
    """Type this in place of the input, and have it traced."""
    page.locator("#values").fill(text)
    page.get_by_role("button", name="Show the gates").click()


def ordered(page, sort):
    """The units from the top of the heatmaps, sorted anew."""
    page.get_by_role("combobox", name="Units by").select_option(sort)
    expect(page).to_have_url(re.compile(f"sort={sort}"))
    return [int(row[1]) for row in exported(page, "overview")[1:]][:32]


def exported(page, view):
    """The rows of a view's chart, as it saves them."""
    settled(page)
    page.locator(f"#{view} .export summary").click()
    with page.expect_download() as download:
        page.locator(f"#{view} .export").get_by_role("button", name="CSV").click()
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))


def settled(page):
    """Wait until no request is under way and every view has drawn."""
    page.wait_for_function(DRAWN)


def seen(page):
    """What the page says in words and shows in pictures."""
    settled(page)
    return page.evaluate(SEEN)


def binned(values, steps):
    """The means of (time, unit) over the spans that begin at these steps."""
    return np.stack([part.mean(axis=0) for part in np.split(values, steps[1:])])
