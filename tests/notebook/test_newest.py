"""A job for the newest of many values."""

from __future__ import annotations

import threading
import time

from kimi_magics.notebook.newest import NewestOnly

SECONDS = 30
NAME = "kimi-test-newest"


def wait_for_end() -> None:
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(SECONDS)
    assert NAME not in {thread.name for thread in threading.enumerate()}


def test_while_a_job_is_done_only_the_newest_value_waits() -> None:
    done: list[int] = []
    has_begun, may_go_on = threading.Event(), threading.Event()

    def job(value: int) -> None:
        done.append(value)
        has_begun.set()
        assert may_go_on.wait(SECONDS)

    newest: NewestOnly[int] = NewestOnly(job, name=NAME)
    newest.take(1)
    assert has_begun.wait(SECONDS)
    for value in (2, 3, 4):
        newest.take(value)
    assert [thread.name for thread in threading.enumerate()].count(NAME) == 1
    may_go_on.set()
    wait_for_end()
    assert done == [1, 4]


def test_it_waits_until_no_value_came_for_a_while() -> None:
    done: list[tuple[int, float]] = []
    newest: NewestOnly[int] = NewestOnly(
        lambda value: done.append((value, time.monotonic())), name=NAME, wait_seconds=1
    )
    for value in range(5):
        newest.take(value)
        time.sleep(0.02)
        last = time.monotonic()
    wait_for_end()
    [(value, at)] = done
    assert value == 4
    assert at - last > 0.5


def test_a_value_that_was_dropped_is_not_taken_and_leaves_no_thread() -> None:
    done: list[int] = []
    newest: NewestOnly[int] = NewestOnly(done.append, name=NAME, wait_seconds=SECONDS)
    newest.take(1)
    newest.drop()
    wait_for_end()
    assert done == []


def test_after_the_end_nothing_is_taken() -> None:
    done: list[int] = []
    newest: NewestOnly[int] = NewestOnly(done.append, name=NAME, wait_seconds=SECONDS)
    newest.take(1)
    newest.close()
    newest.take(2)
    wait_for_end()
    assert done == []
