"""The server answers as it did when the record was made, but for the differences that are wanted.

The conversations are held with real processes, one for each configuration; then each group of them is a test. A reply
that is another one is told by its name, with what was expected and what came.
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import differences
import normalise
import pytest
import scenarios
import stored
from replay import Replay
from servers import CONFIGURATIONS

pytestmark = pytest.mark.timeout(180)  # the first test waits for servers to start

COMMAND = [Path(sys.executable).with_name("gatescope")]
MOST_TOLD = 40
"""Of so many replies it is told what differs, of the others their names."""

CONVERSATIONS = list(scenarios.conversations())
GROUPS = {
    group: list(members)
    for group, members in groupby(sorted(CONVERSATIONS, key=lambda each: each.group), lambda each: each.group)
}


@pytest.fixture(scope="module")
def replay(request) -> Iterator[Replay]:
    """All conversations of the tests that are chosen, under way."""
    own = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    chosen = {item.callspec.params["group"] for item in own}
    with Replay([each for each in CONVERSATIONS if each.group in chosen], COMMAND) as running:
        yield running


@pytest.fixture(scope="module")
def record() -> dict[str, dict[str, normalise.Recorded]]:
    """The recorded replies, by configuration and name."""
    return {configuration: stored.read(configuration) for configuration in CONFIGURATIONS}


@pytest.mark.parametrize("group", GROUPS)
def test_replies_are_those_of_the_record(group, replay, record):
    used: set[str] = set()
    told: list[str] = []
    count = 0
    for conversation in GROUPS[group]:
        expected = record[conversation.configuration]
        for name, got in replay.of(conversation).items():
            count += 1
            if name not in expected:
                if got == {"left": "open"}:  # the reply that does not close it any more has told
                    continue
                told.append(f"{name}\n    is not in the record")
                continue
            wanted = differences.wanted(name, expected[name], used)
            if lines := list(normalise.differences(wanted, got)):
                told.append("\n    ".join([name, *lines]))
    if told:
        shown = [*told[:MOST_TOLD], *(each.partition("\n")[0] for each in told[MOST_TOLD:])]
        pytest.fail(f"{len(told)} of {count} replies differ from the record:\n" + "\n".join(shown), pytrace=False)


def test_the_record_holds_what_is_asked_and_nothing_else(record):
    asked = {name for each in CONVERSATIONS for step in each.steps for name in step.replies}
    recorded = {name for each in record.values() for name, reply in each.items() if "left" not in reply}
    assert recorded - asked == set()
    assert asked - recorded == set()


def test_every_wanted_difference_is_one(record):
    """None is left that has become the record, or that no reply has ever had."""
    used: set[str] = set()
    for each in record.values():
        for name, reply in each.items():
            differences.wanted(name, reply, used)
    assert differences.unused(used) == []
