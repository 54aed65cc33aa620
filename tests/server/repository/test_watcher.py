"""The folder of models is looked at when it changes, and now and then; watching never dies and ends when told."""

import shutil
import threading
import time

import pytest

from gatescope.server.repository import watcher
from gatescope.server.repository.watcher import Watcher


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.fixture
def watched(folder, monkeypatch):
    """`seen = watched()` begins to watch; `seen(name)` waits until a look has seen that file."""
    monkeypatch.setattr(watcher, "SETTLE_S", 0.02)
    begun, looks = [], []

    def begin(look=None, glance_s=60.0):
        monkeypatch.setattr(watcher, "GLANCE_S", glance_s)

        def note():
            looks.append({path.name for path in folder.glob("**/*")})
            return bool(look and look())

        made = Watcher(folder, note)
        begun.append(made)
        made.start()
        until(lambda: looks)
        time.sleep(0.1)  # the first look is taken before the notifications begin
        return lambda name: until(lambda: name in looks[-1])

    begin.looks = looks
    yield begin
    for made in begun:
        made.stop()


def until(reached, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "nobody looked"
        time.sleep(0.01)


def test_whatever_changes_below_the_folder_is_looked_at(folder, watched):
    seen = watched()
    (folder / "a").mkdir()
    seen("a")
    (folder / "a" / "1").mkdir()
    seen("1")
    (folder / "a" / "1" / "weights").write_text("x")
    seen("weights")
    shutil.rmtree(folder / "a")
    until(lambda: watched.looks[-1] == set())


def test_a_look_that_asks_for_another_gets_it(watched):
    asked = iter([True, True, True, False])
    watched(lambda: next(asked, False))
    until(lambda: len(watched.looks) == 4)


def test_without_notifications_there_are_looks_all_the_same(folder, watched, monkeypatch):
    def refuse(*_, **__):
        raise OSError(24, "inotify: too many open files")

    monkeypatch.setattr(watcher, "watch", refuse)
    seen = watched(glance_s=0.05)
    (folder / "a").mkdir()
    seen("a")


def test_what_no_notification_tells_is_seen_at_the_next_glance(folder, watched, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    seen = watched(glance_s=0.1)
    (folder / "link").symlink_to(elsewhere)
    seen("link")
    (elsewhere / "file").touch()
    until(lambda: len(watched.looks) > 5)


def test_another_folder_in_the_place_of_the_first_is_watched(folder, watched):
    seen = watched(glance_s=0.2)
    folder.rename(folder.with_name("old"))
    time.sleep(0.3)
    folder.mkdir()
    (folder / "new").mkdir()
    seen("new")
    (folder / "new" / "later").touch()
    seen("later")


def test_a_look_that_fails_is_not_the_last(folder, watched):
    fails = iter([True])

    def look():
        if next(fails, False):
            raise RuntimeError("unforeseen")
        return False

    seen = watched(look, glance_s=0.05)
    (folder / "a").mkdir()
    seen("a")


def test_it_ends_at_once_whatever_it_is_doing(folder):
    looking, made = threading.Event(), None
    for look in (lambda: False, lambda: looking.set() or True):
        made = Watcher(folder, look)
        made.start()
        time.sleep(0.1)
        started = time.monotonic()
        made.stop()
        assert time.monotonic() - started < 5
    assert looking.is_set()
    Watcher(folder, lambda: False).stop()  # which never began
