"""The row of an account's requests: who came first goes first, limits are learnt, the dead hold nobody up."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from clocks import Clock

from kimi_magics.core.messages import Message
from kimi_magics.core.ports import Turn
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.rates import NO_LIMITS, Hold, RateLimits
from kimi_magics.errors import CallError, DailyLimitError, OverloadedError, RateLimitError
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_queue import LEARNED_SECONDS, LEASE_SECONDS, WAITING_LEASE_SECONDS
from kimi_magics.store.rate_gate import RateGate

if TYPE_CHECKING:
    from .conftest import OpenLedger

PROMPT = Prompt(load_catalog().get("kimi-k2.6"), (Message("user", "Hi"),))


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 11, 23, 12, tzinfo=UTC))


class Account:
    """One account whose kernels share a ledger; each has a gate of its own."""

    def __init__(self, open_ledger: OpenLedger, clock: Clock) -> None:
        self._open, self.clock = open_ledger, clock
        self.limits: RateLimits | None = NO_LIMITS

    def gate(self, account: str = "0123456789abcdef", *, tokens: int = 10) -> RateGate:
        ledger: Ledger = self._open(clock=self.clock)
        return RateGate(lambda: ledger, account, count=lambda _prompt: tokens, limits=lambda: self.limits)

    def enter(self, *, tokens: int = 10) -> Turn:
        return self.gate(tokens=tokens).enter(PROMPT)


@pytest.fixture
def account(open_ledger: OpenLedger, clock: Clock) -> Account:
    return Account(open_ledger, clock)


def ask(turn: Turn) -> Hold | None:
    """Look once whether it is the turn of a request."""
    return next(iter(islice(turn.wait(), 1)), None)


def refuse(kind: str, limit: int, *, wait: float | None = 1.0) -> RateLimitError:
    return RateLimitError("too many", status=429, wait_seconds=wait, limit=(kind, limit))


def test_without_limits_nobody_waits(account: Account) -> None:
    turns = [account.enter() for _ in range(20)]
    assert [ask(turn) for turn in turns] == [None] * 20
    assert account.gate().look().traffic.in_flight == 20
    for turn in turns:
        turn.leave()
    assert account.gate().look().traffic.in_flight == 0


def test_who_came_first_goes_first_also_among_kernels(account: Account) -> None:
    account.limits = RateLimits(concurrency=1)
    first, second, third = account.enter(), account.enter(), account.enter()
    assert ask(first) is None
    held = ask(second)
    assert held is not None
    assert held.reason == "1 request at a time"
    held = ask(third)
    assert held is not None
    assert held.reason == "1 request at a time, 1 ahead"
    first.leave()
    # The third looks before the second does.
    assert ask(third) is not None
    assert ask(second) is None
    second.leave()
    assert ask(third) is None


def test_requests_of_a_minute_are_counted_over_all_kernels(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(rpm=3)
    for _ in range(3):
        turn = account.enter()
        assert ask(turn) is None
        turn.leave()
        clock.go(seconds=10)
    waiting = account.enter()
    held = ask(waiting)
    assert held is not None
    assert held.seconds == pytest.approx(30, abs=0.5)
    clock.go(seconds=31)
    assert ask(waiting) is None


def test_the_minute_of_a_request_begins_when_the_host_answers(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(rpm=1)
    slow = account.enter()
    assert ask(slow) is None
    clock.go(seconds=20)
    slow.answered()
    clock.go(seconds=5)
    slow.leave()
    held = ask(account.enter())
    assert held is not None
    assert held.seconds == pytest.approx(55, abs=0.5)


def test_accounts_do_not_wait_for_each_other(account: Account) -> None:
    account.limits = RateLimits(rpm=1)
    assert ask(account.enter()) is None
    assert ask(account.gate("fedcba9876543210").enter(PROMPT)) is None
    assert ask(account.enter()) is not None


def test_a_limit_is_learnt_from_a_refusal_and_forgotten_after_a_while(account: Account, clock: Clock) -> None:
    refused = account.enter()
    assert ask(refused) is None
    refused.end(refuse("rpm", 1), again_after=2.0)
    other = account.enter()
    held = ask(other)
    assert held is not None
    known = account.gate().look()
    assert known.learned == RateLimits(rpm=1)
    assert known.learned_at == {"rpm": clock.moment}
    clock.go(seconds=LEARNED_SECONDS + 1)
    assert account.gate().look().learned == NO_LIMITS
    assert ask(account.enter()) is None


def test_one_that_was_refused_goes_when_the_host_said(account: Account, clock: Clock) -> None:
    for _ in range(2):
        turn = account.enter()
        assert ask(turn) is None
        turn.leave()
    refused = account.enter()
    for _ in range(7):
        assert ask(refused) is None
        refused.end(refuse("rpm", 2), again_after=1.0)
        clock.go(seconds=1)
    held = ask(account.enter())
    assert held is not None
    assert held.seconds == pytest.approx(53, abs=0.5)
    assert ask(refused) is None


def test_of_those_that_were_refused_no_more_go_when_the_host_said_than_it_surely_has_room_for(
    account: Account, clock: Clock
) -> None:
    for _ in range(2):
        turn = account.enter()
        assert ask(turn) is None
        turn.leave()
        clock.go(seconds=2)
    both = account.enter(), account.enter()
    for refused in both:
        assert ask(refused) is None
        clock.go(seconds=1)
    for refused in both:
        refused.end(refuse("rpm", 2), again_after=1.0)
    clock.go(seconds=1)
    assert ask(both[0]) is None
    held = ask(both[1])
    assert held is not None
    assert held.reason == "2 requests a minute"
    # The second of those that were answered: the first one's place was the one that the host spoke of.
    assert held.seconds == pytest.approx(55, abs=0.5)
    both[0].end(refuse("rpm", 2), again_after=1.0)
    assert ask(both[1]) is not None, "the host asked all to wait"
    clock.go(seconds=1)
    assert ask(both[1]) is None, "nobody has taken the place"


def test_tokens_that_others_took_are_not_there_for_one_that_was_refused(account: Account, clock: Clock) -> None:
    turn = account.enter(tokens=80)
    assert ask(turn) is None
    turn.leave()
    clock.go(seconds=1)
    first, second = account.enter(tokens=60), account.enter(tokens=60)
    assert [ask(first), ask(second)] == [None, None]
    clock.go(seconds=1)
    for refused in (first, second):
        refused.end(refuse("tpm", 100), again_after=1.0)
    clock.go(seconds=1)
    assert ask(first) is None
    held = ask(second)
    assert held is not None
    assert held.reason == "100 tokens a minute"
    assert held.seconds == pytest.approx(60, abs=0.5)


def test_limits_that_the_user_stated_hold_also_for_one_that_was_refused(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(rpm=1)
    turn = account.enter()
    assert ask(turn) is None
    turn.leave()
    clock.go(seconds=61)
    refused, other = account.enter(), account.enter()
    assert ask(refused) is None
    refused.end(refuse("rpm", 1), again_after=1.0)
    clock.go(seconds=1)
    assert ask(other) is None, "a refused request took nothing"
    held = ask(refused)
    assert held is not None
    assert held.seconds == pytest.approx(60, abs=0.5)


def test_one_that_was_refused_waits_while_as_many_are_under_way_as_may_be(account: Account, clock: Clock) -> None:
    running, refused = account.enter(), account.enter()
    assert [ask(running), ask(refused)] == [None, None]
    refused.end(refuse("concurrency", 1), again_after=1.0)
    clock.go(seconds=1)
    held = ask(refused)
    assert held is not None
    assert held.reason == "1 request at a time"
    running.leave()
    assert ask(refused) is None


def test_one_that_failed_for_another_reason_is_not_let_past_the_limits(account: Account, clock: Clock) -> None:
    turn = account.enter()
    assert ask(turn) is None
    turn.end(refuse("rpm", 1, wait=None), again_after=1.0)
    assert ask(turn) is None
    turn.end(OverloadedError("busy", status=429, wait_seconds=1.0), again_after=1.0)
    clock.go(seconds=1)
    assert ask(turn) is not None


def test_all_kernels_keep_the_wait_that_the_host_asks_of_one(account: Account, clock: Clock) -> None:
    refused = account.enter()
    assert ask(refused) is None
    refused.end(refuse("tpm", 10**9, wait=20.0), again_after=None)
    other = account.enter()
    held = ask(other)
    assert held is not None
    assert held.seconds == pytest.approx(20)
    clock.go(seconds=21)
    assert ask(other) is None


def test_an_overloaded_engine_holds_nobody_else_up(account: Account) -> None:
    refused = account.enter()
    assert ask(refused) is None
    refused.end(OverloadedError("busy", status=429, wait_seconds=20.0), again_after=20.0)
    assert ask(account.enter()) is None
    assert account.gate().look().learned == NO_LIMITS


def test_who_tries_again_goes_before_those_who_came_later(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(rpm=1)
    first, second = account.enter(), account.enter()
    assert ask(first) is None
    first.end(OverloadedError("busy", status=429), again_after=65.0)
    assert ask(second) is not None
    clock.go(seconds=66)
    held = ask(first)
    assert held is None
    held = ask(second)
    assert held is not None
    assert held.seconds == pytest.approx(60, abs=0.5)


def test_a_kernel_that_died_waiting_holds_nobody_up_for_long(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(concurrency=1)
    running, dead, last = account.enter(), account.enter(), account.enter()
    assert ask(running) is None
    assert ask(dead) is not None
    clock.go(seconds=WAITING_LEASE_SECONDS - 1)
    assert ask(last) is not None
    running.leave()
    assert ask(last) is not None, "the one before may still live"
    clock.go(seconds=2)
    assert ask(last) is None


def test_a_kernel_that_died_in_a_request_gives_its_place_back(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(concurrency=1)
    assert ask(account.enter()) is None
    waiting = account.enter()
    assert ask(waiting) is not None
    for _ in range(int(LEASE_SECONDS) // 5 + 1):
        clock.go(seconds=5)
        held = ask(waiting)
    assert held is None


def test_a_kernel_that_slept_goes_to_the_end_of_the_row(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(concurrency=1)
    running, slept, awake = account.enter(), account.enter(), account.enter()
    assert ask(running) is None
    assert ask(slept) is not None
    clock.go(seconds=WAITING_LEASE_SECONDS + 1)
    assert ask(awake) is not None
    assert ask(slept) is not None
    running.leave()
    assert ask(slept) is not None
    assert ask(awake) is None


def test_the_tokens_of_a_day_are_counted_from_the_latest_midnight(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(tpd=100)
    for _ in range(2):
        turn = account.enter(tokens=50)
        assert ask(turn) is None
        turn.leave()
    held = ask(account.enter(tokens=50))
    assert held is not None
    assert held.is_for_today
    assert held.reason.startswith("100 of 100 tokens a day are used")
    clock.go(hours=5)  # 17:00 UTC is 1:00 of the next day in China
    assert ask(account.enter(tokens=50)) is None


def test_a_daily_limit_is_learnt_too_and_asks_nobody_to_wait(account: Account) -> None:
    turn = account.enter()
    assert ask(turn) is None
    turn.end(DailyLimitError("no more", status=429, limit=("tpd", 15), wait_seconds=3.0), again_after=None)
    held = ask(account.enter(tokens=10))
    assert held is not None
    assert held.is_for_today


def test_nothing_is_kept_where_it_is_switched_off(account: Account) -> None:
    account.limits = None
    turn = account.enter()
    assert ask(turn) is None
    turn.end(refuse("rpm", 1), again_after=None)
    turn.leave()
    account.limits = NO_LIMITS
    known = account.gate().look()
    assert (known.learned, len(known.traffic.sent)) == (NO_LIMITS, 0)


def test_switched_off_while_it_waits_a_request_goes_at_once(account: Account) -> None:
    account.limits = RateLimits(concurrency=1)
    assert ask(account.enter()) is None
    waiting = account.enter()
    assert ask(waiting) is not None
    account.limits = None
    assert ask(waiting) is None


def test_a_clock_that_is_put_back_stops_nobody(account: Account, clock: Clock) -> None:
    account.limits = RateLimits(rpm=1)
    turn = account.enter()
    assert ask(turn) is None
    turn.end(refuse("rpm", 1, wait=30.0), again_after=None)
    clock.go(hours=-2)
    assert ask(account.enter()) is None


def test_leaving_twice_and_without_having_come_is_harmless(account: Account) -> None:
    turn = account.enter()
    turn.leave()
    assert ask(turn) is None
    turn.leave()
    turn.leave()
    assert account.gate().look().waiting == 0


def test_requests_of_the_day_before_are_forgotten(account: Account, clock: Clock) -> None:
    from kimi_magics.store.ledger_tables import requests

    gate = account.gate()
    for _ in range(3):
        turn = gate.enter(PROMPT)
        assert ask(turn) is None
        turn.leave()
        clock.go(hours=13)
    ledger = account._open(clock=clock)
    rows = ledger.read(lambda connection: connection.execute(requests.select()).all())
    assert len(rows) == 2


def test_errors_without_a_limit_teach_nothing(account: Account) -> None:
    turn = account.enter()
    assert ask(turn) is None
    turn.end(CallError("lost"), again_after=None)
    assert account.gate().look().learned == NO_LIMITS
