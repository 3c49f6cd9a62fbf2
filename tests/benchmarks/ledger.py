"""What the ledger costs a call and a report with a million calls: `uv run python tests/benchmarks/ledger.py`."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

from kimi_magics.core.budget import Demand, read_budgets
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_reports import read_sums
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

PRICE = Price(Decimal("0.95"), Decimal(4), cached=Decimal("0.16"))
BUDGETS = "1000 USD per day, 100M tokens per session, 5000 USD per month, 1000 USD per notebook"
ENTRY = Entry("session-1", "api.moonshot.ai", "kimi-k2.6", notebook="/n1.ipynb")
#: A year of calls: 5 models, 20 notebooks, every half minute.
_FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows})
INSERT INTO kimi_calls
SELECT NULL, printf('%032d', n), 'settled', (1732000000 + n * 31.536) * 1000000,
  date(1732000000 + n * 31.536, 'unixepoch'), 0, 0, 'ada', printf('s%d', n / 100), printf('/n%d.ipynb', n % 20), 'c',
  'h', printf('model-%d', n % 5), '', 100, 100 + n % 1000, n % 500, 0, 0, 0, 0, 1000000 + n % 777, 'USD', '', '', 1, 0,
  'stop', '', 1.0
FROM numbers
"""
_SUM = """
INSERT INTO kimi_sums
SELECT day, user, notebook, model, currency, count(*), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),
  sum(cost), 0, 0 FROM kimi_calls GROUP BY 1, 2, 3, 4, 5
"""


def fill(home: Path, rows: int) -> Ledger:
    """Return a ledger that holds so many calls of one user."""
    ledger = Ledger(home=home, user="ada")
    granted = reserve(ledger)
    ledger.release(granted)
    with closing(sqlite3.connect(ledger.path)) as database:
        database.execute(_FILL.format(rows=rows))
        database.execute(_SUM)
        database.commit()
    return ledger


def reserve(ledger: Ledger) -> Reservation:
    """Put a call aside, under four budgets."""
    granted = ledger.reserve(ENTRY, Demand("kimi-k2.6", 400, 100, price=PRICE), read_budgets(BUDGETS))
    assert isinstance(granted, Reservation)
    return granted


def call(ledger: Ledger) -> None:
    """Do all that a call does in the ledger."""
    usage = Usage(400, 55)
    ledger.settle(reserve(ledger), Outcome(usage, PRICE.cost_of(usage), "USD", price=PRICE))


def measure(job: Callable[[], object], times: int) -> float:
    """Return the median milliseconds of a job."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        job()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def main(rows: int = 1_000_000) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Ledger(home=Path(folder, "empty"), user="ada"), fill(Path(folder, "full"), rows)
        call(empty)
        print(f"reserve + settle, four budgets: {measure(lambda: call(empty), 200):.2f} ms in an empty ledger")
        print(f"  with {rows:,} calls: {measure(lambda: call(full), 200):.2f} ms")
        print(f"report by day, all: {measure(lambda: read_sums(full, ('day',)), 9):.1f} ms")
        today = date(2025, 11, 1)
        print(f"report of a day by model: {measure(lambda: read_sums(full, ('model',), first_day=today), 9):.1f} ms")
        scan = "SELECT sum(cost) FROM kimi_calls"
        print(f"a plain sum over all rows: {measure(lambda: full.read(lambda c: c.exec_driver_sql(scan)), 5):.1f} ms")
        print(f"size: {full.path.stat().st_size / 1e6:.0f} MB")
        empty.close()
        full.close()


if __name__ == "__main__":
    main()
