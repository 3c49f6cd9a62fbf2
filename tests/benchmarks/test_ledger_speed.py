"""A ledger of many calls is as quick as a new one; measured side by side, never against the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ledger as bench
import pytest

from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_reports import read_sums

ROWS = 200_000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = bench.fill(tmp_path_factory.mktemp("full"), ROWS)
    yield ledger
    ledger.close()


def test_a_call_takes_as_long_among_many_as_among_few(full: Ledger, tmp_path: Path) -> None:
    empty = Ledger(home=tmp_path, user="ada")
    bench.call(empty)
    bench.call(full)
    among_few = min(bench.measure(lambda: bench.call(empty), 40) for _ in range(3))
    among_many = min(bench.measure(lambda: bench.call(full), 40) for _ in range(3))
    empty.close()
    assert among_many < 2.5 * among_few


def test_a_report_over_all_days_reads_sums_and_not_calls(full: Ledger) -> None:
    plain = "SELECT day, sum(cost), sum(prompt_tokens), sum(completion_tokens) FROM kimi_calls GROUP BY day"
    scan = bench.measure(lambda: full.read(lambda connection: connection.exec_driver_sql(plain).fetchall()), 5)
    report = bench.measure(lambda: read_sums(full, ("day",)), 5)
    assert len(read_sums(full, ("day",))) > 50
    assert report < scan / 2
