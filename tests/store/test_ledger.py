"""The ledger: a row for each call from its sending on, sums that follow, budgets that hold; in both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from clocks import Clock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kimi_magics.core.budget import Demand, Refusal, read_budgets
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_reports import Call, read_calls, read_kept_price, read_sums
from kimi_magics.store.ledger_values import LEASE_SECONDS, Entry, Outcome, Reservation

PRICE = Price(Decimal("0.95"), Decimal(4), cached=Decimal("0.16"))
ENTRY = Entry("session-1", "api.moonshot.ai", "kimi-k2.6", notebook="/work/a.ipynb", cell="c1", expected_tokens=990)


if TYPE_CHECKING:
    from .conftest import OpenLedger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock, told: list[str]) -> Ledger:
    return open_ledger(clock=clock, tell=told.append)


def ask(prompt_tokens: int = 1000, answer_tokens: int = 2000, price: Price | None = PRICE) -> Demand:
    return Demand("kimi-k2.6", prompt_tokens, answer_tokens, price=price)


def outcome(prompt: int, completion: int, *, cached: int = 0, price: Price | None = PRICE) -> Outcome:
    usage = Usage(prompt, completion, cached)
    return Outcome(usage, price.cost_of(usage) if price else None, "USD", price=price, finish_reason="stop")


def reserve(ledger: Ledger, entry: Entry = ENTRY, demand: Demand | None = None, budgets: str = "") -> Reservation:
    granted = ledger.reserve(entry, demand or ask(), read_budgets(budgets))
    assert isinstance(granted, Reservation)
    return granted


def only(ledger: Ledger) -> Call:
    (call,) = read_calls(ledger)
    return call


# ---------------------------------------------------------------- the life of a row


def test_a_call_has_its_row_before_it_is_sent(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger)
    call = only(ledger)
    assert (call.state, call.usage) == ("reserved", Usage(1000, 2000, estimated=True))
    assert call.cost == PRICE.cost_of(Usage(1000, 2000))
    assert (call.time, call.notebook, call.cell) == (clock.moment, "/work/a.ipynb", "c1")


def test_a_settled_row_says_what_it_took_and_at_which_price(ledger: Ledger) -> None:
    ledger.settle(reserve(ledger), outcome(980, 55, cached=512))
    call = only(ledger)
    assert (call.state, call.usage, call.finish_reason) == ("settled", Usage(980, 55, 512), "stop")
    assert call.cost == PRICE.cost_of(Usage(980, 55, 512)) == Decimal("0.00074652")
    assert call.price is not None
    assert call.price.cost_of(call.usage) == call.cost
    assert call.expected_tokens == 990


def test_a_call_that_was_not_sent_leaves_no_row(ledger: Ledger) -> None:
    ledger.release(reserve(ledger))
    assert read_calls(ledger) == []
    assert read_sums(ledger, ("model",)) == []


def test_a_kernel_that_dies_leaves_a_row_that_counts_in_full(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger)
    clock.go(seconds=LEASE_SECONDS + 1)
    call = only(ledger)
    assert (call.state, call.usage.total_tokens, call.usage.estimated) == ("unknown", 3000, True)
    (standing,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
    assert (standing.spent, standing.reserved) == (call.cost, Decimal(0))


def test_a_call_that_was_taken_for_dead_is_settled_all_the_same(ledger: Ledger, clock: Clock) -> None:
    reservation = reserve(ledger)
    clock.go(hours=5)
    assert only(ledger).state == "unknown"
    ledger.settle(reservation, outcome(980, 55))
    assert (only(ledger).state, only(ledger).usage) == ("settled", Usage(980, 55))
    (total,) = read_sums(ledger, ())
    assert (total.calls, total.prompt_tokens, total.completion_tokens, total.estimated) == (1, 980, 55, 0)


def test_what_nobody_knows_stays_at_what_was_put_aside(ledger: Ledger) -> None:
    lost = Outcome(Usage(), None, "USD", is_known=False)
    ledger.settle(reserve(ledger), lost)
    assert (only(ledger).state, only(ledger).usage.total_tokens) == ("unknown", 3000)


def test_a_call_of_several_requests_stays_one_row(ledger: Ledger) -> None:
    first = reserve(ledger)
    more = Demand("kimi-k2.6", 1500, 2000, price=PRICE, taken=Usage(980, 55), taken_cost=PRICE.cost_of(Usage(980, 55)))
    second = ledger.extend(first, more, read_budgets("1 USD per day"))
    assert isinstance(second, Reservation)
    assert only(ledger).usage == Usage(2480, 2055, estimated=True)
    assert isinstance(ledger.extend(second, more, read_budgets("0.001 USD per day")), Refusal)
    assert only(ledger).usage == Usage(2480, 2055, estimated=True)


def test_a_price_is_read_back_as_it_was(ledger: Ledger) -> None:
    ledger.settle(reserve(ledger), outcome(10, 10, price=None))
    assert only(ledger).price is None
    assert only(ledger).cost is None
    assert read_kept_price("", "USD", "") is None


# ---------------------------------------------------------------- budgets


def test_what_is_under_way_counts_for_all_kernels(ledger: Ledger, open_ledger: OpenLedger, clock: Clock) -> None:
    other = open_ledger(clock=clock)
    reserve(ledger, budgets="0.01 USD per day")
    refused = other.reserve(ENTRY, ask(), read_budgets("0.01 USD per day"))
    assert isinstance(refused, Refusal)
    assert refused.standing.reserved == PRICE.cost_of(Usage(1000, 2000))


@pytest.mark.parametrize(
    ("budget", "entry", "counts"),
    [
        ("1 per session", ENTRY, True),
        ("1 per session", Entry("session-2", "h", "m", notebook="/work/a.ipynb"), False),
        ("1 per notebook", Entry("session-2", "h", "m", notebook="/work/a.ipynb"), True),
        ("1 per notebook", Entry("session-1", "h", "m", notebook="/work/b.ipynb"), False),
        ("1 per notebook", Entry("session-1", "h", "m"), True),
        ("1 per notebook", Entry("session-2", "h", "m"), False),
        ("1 per day", Entry("session-2", "h", "m"), True),
        ("1 CNY per day", ENTRY, False),
        ("1 per call", ENTRY, False),
    ],
)
@pytest.mark.parametrize("is_settled", [True, False])
def test_a_budget_counts_the_calls_that_it_is_about(
    ledger: Ledger, budget: str, entry: Entry, counts: bool, is_settled: bool
) -> None:
    reservation = reserve(ledger)
    if is_settled:
        ledger.settle(reservation, outcome(1000, 2000))
    (standing,) = ledger.standings(read_budgets(budget), entry)
    assert standing.spent + standing.reserved == (PRICE.cost_of(Usage(1000, 2000)) if counts else 0)


def test_days_are_those_of_the_user_also_when_the_clock_is_changed(open_ledger: OpenLedger) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    # The night in which the hour from two to three comes twice.
    clock = Clock(datetime(2026, 10, 25, 0, 30, tzinfo=berlin))
    ledger = open_ledger(clock=lambda: clock.moment.astimezone(berlin))
    clock.moment = clock.moment.astimezone(UTC)
    for _ in range(25):  # this day has as many hours
        (before,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
        ledger.settle(reserve(ledger), outcome(1000, 100))
        (after,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
        assert after.spent == before.spent + PRICE.cost_of(Usage(1000, 100))
        clock.go(hours=1)
    (next_day,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
    assert next_day.spent == PRICE.cost_of(Usage(1000, 100)) * 0
    assert {call.day.isoformat() for call in read_calls(ledger)} == {"2026-10-25"}


def test_weeks_begin_on_monday_and_months_on_the_first(ledger: Ledger, clock: Clock) -> None:
    clock.moment = datetime(2026, 11, 29, 23, 59, tzinfo=UTC)  # a Sunday
    ledger.settle(reserve(ledger), outcome(1000, 0))
    cost = PRICE.cost_of(Usage(1000, 0))
    clock.go(minutes=2)
    standings = ledger.standings(read_budgets("1 USD per day, 1 USD per week, 1 USD per month"), ENTRY)
    assert [one.spent for one in standings] == [0, 0, cost]
    clock.go(days=1)
    standings = ledger.standings(read_budgets("1 USD per month"), ENTRY)
    assert [one.spent for one in standings] == [0]


def test_a_clock_that_goes_backwards_loses_nothing(ledger: Ledger, clock: Clock) -> None:
    first = reserve(ledger)
    clock.go(days=-2)
    ledger.settle(first, outcome(1000, 100))
    second = reserve(ledger)
    ledger.settle(second, outcome(1000, 100))
    (standing,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
    assert standing.spent == 2 * PRICE.cost_of(Usage(1000, 100))
    assert len(read_calls(ledger)) == 2


def test_users_of_one_ledger_are_apart_but_for_what_is_shared(
    ledger: Ledger, open_ledger: OpenLedger, clock: Clock
) -> None:
    other = open_ledger(clock=clock, user="grace")
    ledger.settle(reserve(ledger), outcome(1000, 100))
    budgets = read_budgets("1 USD per day, 1 USD per day per hub")
    assert [one.spent for one in other.standings(budgets, ENTRY)] == [0, PRICE.cost_of(Usage(1000, 100))]
    assert read_calls(other) == []


# ---------------------------------------------------------------- reports


def test_sums_are_those_of_the_rows(ledger: Ledger, clock: Clock) -> None:
    for number in range(6):
        entry = Entry(f"s{number % 2}", "h", f"model-{number % 3}", notebook="n" * (number % 2), cell=f"c{number}")
        ledger.settle(reserve(ledger, entry), outcome(100 + number, number))
        clock.go(hours=9)
    reserve(ledger)
    calls = read_calls(ledger)
    for by in ((), ("model",), ("day", "model"), ("notebook", "cell"), ("day",)):
        found = read_sums(ledger, by)
        assert sum(one.calls for one in found) == 7
        assert sum(one.prompt_tokens for one in found) == sum(call.usage.prompt_tokens for call in calls)
        assert sum(one.cost for one in found) == sum(call.cost or 0 for call in calls)
        assert sum(one.estimated for one in found) == 1
    assert [one.key for one in read_sums(ledger, ("model",))] == [
        ("kimi-k2.6",),
        ("model-0",),
        ("model-1",),
        ("model-2",),
    ]


# ---------------------------------------------------------------- any order of things

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "release", "die", "lose", "extend"]),
        st.integers(0, 5),
        st.integers(1, 3000),
        st.integers(0, 4000),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
def test_in_any_order_no_budget_is_passed_and_no_token_lost(steps: list[tuple[str, int, int, int]]) -> None:
    clock = Clock()
    ledger = Ledger("sqlite://", clock=clock, user="ada")
    budgets = read_budgets("0.05 USD per day, 20k tokens per session")
    under_way: list[Reservation] = []
    kept: dict[str, Usage] = {}
    for step, which, prompt, completion in steps:
        if step == "reserve":
            granted = ledger.reserve(ENTRY, ask(prompt, completion + 1), budgets)
            if isinstance(granted, Reservation):
                under_way.append(granted)
                kept[granted.key] = granted.grant.usage
        elif step == "die":
            clock.go(seconds=LEASE_SECONDS + 1)
        elif under_way:
            reservation = under_way.pop(which % len(under_way))
            granted_usage = reservation.grant.usage
            used = Usage(min(prompt, granted_usage.prompt_tokens), min(completion, granted_usage.completion_tokens))
            if step == "settle":
                ledger.settle(reservation, outcome(used.prompt_tokens, used.completion_tokens))
                kept[reservation.key] = used
            elif step == "release":
                ledger.release(reservation)
                del kept[reservation.key]
            elif step == "lose":
                ledger.settle(reservation, Outcome(Usage(), None, "USD", is_known=False))
            else:
                taken = used
                more = Demand("m", prompt, completion + 1, price=PRICE, taken=taken, taken_cost=PRICE.cost_of(taken))
                extended = ledger.extend(reservation, more, budgets)
                if isinstance(extended, Reservation):
                    reservation = extended
                    kept[reservation.key] = extended.grant.usage
                under_way.append(reservation)
        day, session = ledger.standings(budgets, ENTRY)
        assert day.left >= 0
        assert session.left >= 0
        total = sum(usage.total_tokens for usage in kept.values())
        assert session.spent + session.reserved == total
        found = read_sums(ledger, ())
        assert sum(one.prompt_tokens + one.completion_tokens for one in found) == total
        assert sum(one.calls for one in found) == len(kept)
    ledger.close()


def test_the_zone_of_the_clock_is_the_users_own() -> None:
    tokyo = timezone(timedelta(hours=9))
    ledger = Ledger("sqlite://", clock=lambda: datetime(2026, 11, 23, 20, tzinfo=UTC).astimezone(tokyo), user="")
    reserve(ledger)
    assert only(ledger).day.isoformat() == "2026-11-24"
    assert only(ledger).time == datetime(2026, 11, 23, 20, tzinfo=UTC)
