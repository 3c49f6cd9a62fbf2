"""The ledger of one user as a file: whose it is, what is not in it, and what happens when it cannot be used."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from kimi_magics.core.budget import Demand, Refusal, read_budgets
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_reports import read_calls
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

PRICE = Price(Decimal("0.95"), Decimal(4))
ENTRY = Entry("session-1", "api.moonshot.ai", "kimi-k2.6")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def ledger(tmp_path: Path, told: list[str]) -> Ledger:
    return Ledger(home=tmp_path, tell=told.append, user="ada")


def reserve(ledger: Ledger, budgets: str = "") -> Reservation:
    granted = ledger.reserve(ENTRY, Demand("kimi-k2.6", 1000, 2000, price=PRICE), read_budgets(budgets))
    assert isinstance(granted, Reservation)
    return granted


def settle(ledger: Ledger, reservation: Reservation) -> None:
    usage = Usage(1000, 100)
    ledger.settle(reservation, Outcome(usage, PRICE.cost_of(usage), "USD", price=PRICE))


def test_neither_prompt_nor_answer_has_a_column(ledger: Ledger) -> None:
    settle(ledger, reserve(ledger))
    with closing(sqlite3.connect(ledger.path)) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(kimi_calls)")}
    assert not columns & {"text", "prompt", "answer", "reply", "messages", "key_hash", "api_key"}


def test_the_file_is_its_owners_alone(ledger: Ledger) -> None:
    reserve(ledger)
    beside = [path for path in ledger.path.parent.iterdir() if path.name.startswith("ledger.sqlite")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in beside} == {0o600}


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_ledger_is_told_once_and_counted_on_in_memory(
    ledger: Ledger, told: list[str], content: bytes
) -> None:
    ledger.path.write_bytes(content)
    settle(ledger, reserve(ledger, "0.01 USD per day"))
    refused = ledger.reserve(ENTRY, Demand("kimi-k2.6", 5000, 2000, price=PRICE), read_budgets("0.002 USD per day"))

    assert isinstance(refused, Refusal)
    assert refused.standing.spent == PRICE.cost_of(Usage(1000, 100))
    assert len(told) == 1
    assert str(ledger.path) in told[0]
    assert "restart the kernel" in told[0]
    assert ledger.path.read_bytes() == content


def test_a_disk_that_gets_full_in_the_middle_of_a_call_costs_nothing(ledger: Ledger, told: list[str]) -> None:
    reservation = reserve(ledger)
    ledger.read(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1"))
    big = Entry("s" * 4_000_000, "h", "m")
    again = ledger.reserve(big, Demand("kimi-k2.6", 10, 10, price=PRICE), ())
    assert isinstance(again, Reservation)
    settle(ledger, reservation)

    assert len(told) == 1
    assert "full" in told[0]
    assert sum(call.state == "settled" for call in read_calls(ledger)) == 1


def test_a_home_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    told: list[str] = []
    ledger = Ledger(home=tmp_path / "file" / "home", tell=told.append)
    settle(ledger, reserve(ledger))
    assert [call.state for call in read_calls(ledger)] == ["settled"]
    assert len(told) == 1


def test_a_ledger_of_a_later_version_is_left_alone(ledger: Ledger, told: list[str], tmp_path: Path) -> None:
    reserve(ledger)
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as database:
        database.execute("UPDATE kimi_meta SET value = '999'")
        database.commit()
    later = Ledger(home=tmp_path, tell=told.append)
    reserve(later)
    assert "later version" in told[0]
    assert "pip install --upgrade" in told[0]
