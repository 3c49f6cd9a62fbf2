"""An interrupt comes at any moment, and finds nothing half done: neither in the ledger nor in the row of requests."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.rates import RateLimits
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.interrupts import uninterrupted
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.rate_gate import RateGate

PROMPT = Prompt(load_catalog().get("kimi-k2.6"), (Message("user", "Hi"),))
SECONDS = 30

pytestmark = pytest.mark.usefixtures("interrupts")
TIMES = 60


def interrupt() -> None:
    """Interrupt the main thread, as a front end does."""
    signal.raise_signal(signal.SIGINT)


@contextmanager
def interrupting(after: Callable[[], object]) -> Iterator[None]:
    """Interrupt the block once `after` has returned, in a thread."""

    def run() -> None:
        after()
        interrupt()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_an_interrupt_comes_at_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        interrupt()
        done.append("whole")
    assert done == ["whole"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_waits_for_the_outer_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        with uninterrupted():
            interrupt()
        done.append("whole")
    assert done == ["whole"]


def test_an_error_of_the_block_is_not_lost_for_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        interrupt()
        raise ValueError("ours")
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_are_left_alone() -> None:
    found = []

    def run() -> None:
        with uninterrupted():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_at_any_moment_leaves_ledger_and_row_usable(tmp_path: Path) -> None:
    told: list[str] = []
    ledger = Ledger(home=tmp_path, user="ada", tell=told.append)
    limits = RateLimits(concurrency=1)
    gate = RateGate(lambda: ledger, "0123456789abcdef", count=lambda _prompt: 1, limits=lambda: limits)
    running = gate.enter(PROMPT)
    assert list(running.wait()) == []
    chance = random.Random(7)

    def come() -> None:
        time.sleep(chance.random() * 0.02)
        gate.look()  # so that the other thread often waits for the database

    for _ in range(TIMES):
        turn = gate.enter(PROMPT)
        end = time.monotonic() + SECONDS
        with pytest.raises(KeyboardInterrupt), interrupting(come):
            for _hold in turn.wait():
                assert time.monotonic() < end, "the interrupt was lost"
                time.sleep(0.001)
            pytest.fail("two requests went at a time")
        turn.leave()
        known = gate.look()
        assert (known.traffic.in_flight, known.waiting) == (1, 0)
    running.leave()
    ledger.close()
    assert told == []
