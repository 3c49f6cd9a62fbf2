"""Balances that hosts told, beside what the ledger counts; in both databases, and in ledgers from before."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.engine import URL

from kimi_magics.core.budget import Demand
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store import ledger_tables
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_balances import Counted, Stretch, compare_looks, read_looks
from kimi_magics.store.ledger_books import MOST_BALANCES
from kimi_magics.store.ledger_reports import read_calls
from kimi_magics.store.ledger_values import LEASE_SECONDS, Entry, Outcome, Reservation

if TYPE_CHECKING:
    from .conftest import OpenLedger

PRICE = Price(Decimal(1), Decimal(4))
ACCOUNT = "0123456789abcdef"
HOST = "api.moonshot.ai"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)

#: The tables of version 1 as they were made; `{id}` is what numbers rows in each database.
VERSION_1 = """
CREATE TABLE kimi_meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (name));
CREATE TABLE kimi_calls (
  id {id}, key VARCHAR(32) NOT NULL, state VARCHAR(8) NOT NULL, started BIGINT NOT NULL, day VARCHAR(10) NOT NULL,
  lease BIGINT NOT NULL, settled BIGINT, "user" VARCHAR NOT NULL, session VARCHAR(32) NOT NULL,
  notebook VARCHAR NOT NULL, cell VARCHAR NOT NULL, host VARCHAR NOT NULL, model VARCHAR NOT NULL,
  prompt_hash VARCHAR NOT NULL, expected_tokens BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, cache_write_tokens BIGINT NOT NULL,
  web_searches BIGINT NOT NULL, estimated BOOLEAN NOT NULL, cost BIGINT, currency VARCHAR(3) NOT NULL,
  price VARCHAR NOT NULL, price_date VARCHAR(10) NOT NULL, steps BIGINT NOT NULL, retries BIGINT NOT NULL,
  finish_reason VARCHAR NOT NULL, request_id VARCHAR NOT NULL, seconds FLOAT, UNIQUE (key)
);
CREATE INDEX kimi_calls_started ON kimi_calls (started);
CREATE INDEX kimi_calls_day ON kimi_calls (day);
CREATE INDEX kimi_calls_session ON kimi_calls (session);
CREATE INDEX kimi_calls_open ON kimi_calls (lease) WHERE state = 'reserved';
CREATE TABLE kimi_sums (
  day VARCHAR(10) NOT NULL, "user" VARCHAR NOT NULL, notebook VARCHAR NOT NULL, model VARCHAR NOT NULL,
  currency VARCHAR(3) NOT NULL, calls BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, cost BIGINT NOT NULL, unpriced BIGINT NOT NULL,
  estimated BIGINT NOT NULL, PRIMARY KEY (day, "user", notebook, model, currency)
);
CREATE INDEX kimi_sums_notebook ON kimi_sums (notebook);
INSERT INTO kimi_meta VALUES ('version', '1');
INSERT INTO kimi_calls (key, state, started, day, lease, settled, "user", session, notebook, cell, host, model,
  prompt_hash, expected_tokens, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, web_searches,
  estimated, cost, currency, price, price_date, steps, retries, finish_reason, request_id, seconds)
VALUES ('k', 'settled', 1795000000000000, '2026-11-18', 0, 1795000001000000, 'ada', 's', '', '', 'h', 'kimi-k2.6', '',
  10, 10, 5, 0, 0, 0, FALSE, 29500000, 'USD', '', '', 1, 0, 'stop', 'r', 1.0);
INSERT INTO kimi_sums VALUES ('2026-11-18', 'ada', '', 'kimi-k2.6', 'USD', 1, 10, 5, 0, 29500000, 0, 0)
"""
_IDS = {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "BIGSERIAL PRIMARY KEY"}


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.moment = START

    def __call__(self) -> datetime:
        return self.moment

    def go(self, **amounts: float) -> None:
        self.moment += timedelta(**amounts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    return open_ledger(clock=clock)


def look(ledger: Ledger, amount: str, currency: str = "USD") -> None:
    ledger.note_balance(ACCOUNT, Decimal(amount), currency)


def spend(ledger: Ledger, tokens: int = 1_000_000, *, host: str = HOST, price: Price | None = PRICE) -> Reservation:
    """Make a call that costs a dollar for a million tokens."""
    reservation = begin(ledger, host)
    usage = Usage(tokens)
    ledger.settle(reservation, Outcome(usage, price and price.cost_of(usage), "USD", price=price))
    return reservation


def begin(ledger: Ledger, host: str = HOST) -> Reservation:
    granted = ledger.reserve(Entry("s", host, "kimi-k2.6"), Demand("kimi-k2.6", 1_000_000, 0, price=PRICE), ())
    assert isinstance(granted, Reservation)
    return granted


def stretches(ledger: Ledger) -> list[Stretch]:
    return compare_looks(ledger, read_looks(ledger, ACCOUNT), host=HOST)


# ---------------------------------------------------------------- looks


def test_what_was_told_is_kept_to_the_last_digit_oldest_first(ledger: Ledger, clock: Clock) -> None:
    for amount in ("49.58894", "-3.000000000001", "123456.78"):
        look(ledger, amount)
        clock.go(minutes=1)
    told = read_looks(ledger, ACCOUNT)
    assert [str(one.amount) for one in told] == ["49.58894", "-3.000000000001", "123456.78"]
    assert [one.time for one in told] == [START + timedelta(minutes=number) for number in range(3)]
    assert read_looks(ledger, "another account.") == []


def test_of_a_minute_one_figure_is_kept_for_each_account(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "5")
    clock.go(seconds=59)
    look(ledger, "4")
    ledger.note_balance("another account.", Decimal(9), "CNY")
    clock.go(seconds=1)
    look(ledger, "3")
    assert [one.amount for one in read_looks(ledger, ACCOUNT)] == [5, 3]
    assert [one.amount for one in read_looks(ledger, "another account.")] == [9]


def test_a_clock_that_goes_back_stops_no_figure(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "5")
    clock.go(hours=-2)
    look(ledger, "4")
    look(ledger, "3")
    assert [one.amount for one in read_looks(ledger, ACCOUNT)] == [4, 5]


def test_old_figures_go_by_their_age(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "5")
    clock.go(days=399)
    look(ledger, "4")
    clock.go(days=2)
    look(ledger, "3")
    assert [one.amount for one in read_looks(ledger, ACCOUNT)] == [4, 3]


def test_old_figures_go_by_their_number(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger(clock=clock)
    begun = int((START - timedelta(days=1)).timestamp())
    rows = [
        {"account": ACCOUNT, "at": (begun + number) * 1_000_000, "amount": number, "currency": "USD"}
        for number in range(MOST_BALANCES + 5)
    ]
    look(ledger, "1")
    ledger.read(lambda connection: connection.execute(ledger_tables.balances.insert(), rows))
    clock.go(minutes=5)
    look(ledger, "2")
    count = select(func.count()).select_from(ledger_tables.balances)
    assert ledger.read(lambda connection: connection.execute(count).scalar()) == MOST_BALANCES
    assert read_looks(ledger, ACCOUNT)[-1].amount == 2


def test_a_period_takes_the_looks_since_its_first_day(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "5")
    clock.go(days=1)
    look(ledger, "4")
    assert [one.amount for one in read_looks(ledger, ACCOUNT, first_day=date(2026, 11, 24))] == [4]


# ---------------------------------------------------------------- beside the ledger


def test_what_the_ledger_counts_and_what_it_does_not_are_told_apart(ledger: Ledger, clock: Clock) -> None:
    spend(ledger)  # before the first look
    clock.go(minutes=5)
    look(ledger, "10")
    clock.go(minutes=1)
    spend(ledger)
    spend(ledger, host="other.host")
    clock.go(minutes=1)
    look(ledger, "8.25")
    clock.go(minutes=1)
    spend(ledger)  # after the last
    (stretch,) = stretches(ledger)
    assert (stretch.fell, stretch.counted) == (Decimal("1.75"), Counted(1, Decimal(1), 0, 0))
    assert stretch.elsewhere == Decimal("0.75")


def test_a_call_belongs_to_the_stretch_in_which_it_ended(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "10")
    clock.go(minutes=2)
    reservation = begin(ledger)
    clock.go(minutes=2)
    look(ledger, "10")
    clock.go(minutes=2)
    usage = Usage(1_000_000)
    ledger.settle(reservation, Outcome(usage, PRICE.cost_of(usage), "USD", price=PRICE))
    clock.go(minutes=2)
    look(ledger, "9")
    first, second = stretches(ledger)
    assert (first.counted.calls, first.elsewhere) == (0, 0)
    assert (second.counted.calls, second.elsewhere) == (1, 0)


def test_a_call_that_died_belongs_to_where_it_began(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "10")
    clock.go(minutes=2)
    begin(ledger)
    clock.go(seconds=LEASE_SECONDS + 60)
    look(ledger, "9")
    clock.go(minutes=5)
    look(ledger, "9")
    assert [row.state for row in read_calls(ledger)] == ["unknown"]
    assert [(one.counted.calls, one.counted.estimated) for one in stretches(ledger)] == [(1, 1), (0, 0)]


def test_money_that_came_in_leaves_the_rest_unknown(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "1")
    clock.go(minutes=2)
    spend(ledger)
    look(ledger, "20")
    (stretch,) = stretches(ledger)
    assert (stretch.fell, stretch.counted.cost, stretch.elsewhere) == (Decimal(-19), Decimal(1), None)


def test_what_has_no_known_cost_or_another_currency_leaves_the_rest_unknown(ledger: Ledger, clock: Clock) -> None:
    look(ledger, "10")
    clock.go(minutes=2)
    spend(ledger, price=None)
    look(ledger, "9")
    clock.go(minutes=2)
    spend(ledger)
    look(ledger, "60", "CNY")
    first, second = stretches(ledger)
    assert (first.counted.unpriced, first.elsewhere) == (1, None)
    assert (second.fell, second.counted.unpriced, second.elsewhere) == (None, 1, None)


def test_calls_of_others_are_not_counted(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger, other = open_ledger(clock=clock), open_ledger(clock=clock, user="grace")
    look(ledger, "10")
    clock.go(minutes=2)
    spend(other)
    look(ledger, "9")
    (stretch,) = stretches(ledger)
    assert (stretch.counted.calls, stretch.elsewhere) == (0, 1)


# ---------------------------------------------------------------- ledgers from before


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str | URL:
    """The address of a ledger as version 1 left it."""
    name = request.param
    url: str | URL = URL.create("sqlite", database=str(tmp_path / "ledger.sqlite"))
    if name == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in VERSION_1.format(id=_IDS[name]).split(";\n"):
            connection.execute(text(statement))
    engine.dispose()
    return url


def test_a_ledger_of_version_1_keeps_its_calls_and_takes_balances(old: str | URL, tmp_path: Path) -> None:
    with closing(Ledger(str(old), home=tmp_path, user="ada", clock=Clock())) as ledger:
        look(ledger, "7")
        assert [one.amount for one in read_looks(ledger, ACCOUNT)] == [7]
        (call,) = read_calls(ledger)
        assert (call.model, call.cost, call.usage.total_tokens) == ("kimi-k2.6", Decimal("0.0000295"), 15)
        spend(ledger)
        assert len(read_calls(ledger)) == 2
        assert not ledger.trouble
    engine = create_engine(old)
    with engine.connect() as connection:
        version = connection.execute(text("SELECT value FROM kimi_meta WHERE name = 'version'")).scalar()
        assert version == str(ledger_tables.VERSION)
    engine.dispose()


def test_the_migrated_tables_have_the_columns_of_new_ones(old: str | URL, tmp_path: Path) -> None:
    with closing(Ledger(str(old), home=tmp_path, user="ada", clock=Clock())) as ledger:
        look(ledger, "7")
    engine = create_engine(old)
    found = inspect(engine)
    for table in ledger_tables.metadata.sorted_tables:
        columns = found.get_columns(table.name)
        assert {column["name"] for column in columns} == set(table.columns.keys())
        assert {column["name"]: column["nullable"] for column in columns if column["name"] != "id"} == {
            column.name: column.nullable for column in table.columns if column.name != "id"
        }
        assert set(found.get_pk_constraint(table.name)["constrained_columns"]) == set(table.primary_key.columns.keys())
    engine.dispose()


def test_every_version_has_its_step() -> None:
    assert set(ledger_tables.MIGRATIONS) == set(range(2, ledger_tables.VERSION + 1))
