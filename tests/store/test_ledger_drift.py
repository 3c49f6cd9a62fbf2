"""What the ledger tells of estimates and of the length of answers; in both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from kimi_magics.core.budget import Demand
from kimi_magics.core.usage import Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_drift import Drift, Span, read_drift
from kimi_magics.store.ledger_reports import read_answers
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

if TYPE_CHECKING:
    from .conftest import OpenLedger


def call(
    open_ledger: OpenLedger,
    day: int,
    usage: Usage,
    *,
    expected: int = 100,
    model: str = "kimi-k2.6",
    steps: int = 1,
    finish: str = "stop",
    user: str = "ada",
) -> Ledger:
    """Write a call of this day of November 2026."""
    ledger = open_ledger(clock=lambda: datetime(2026, 11, day, 12, tzinfo=UTC), user=user)
    granted = ledger.reserve(Entry("s", "h", model, expected_tokens=expected), Demand(model, 100, 10), ())
    assert isinstance(granted, Reservation)
    ledger.settle(granted, Outcome(usage, None, "USD", steps=steps, finish_reason=finish))
    return ledger


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("day", date(2026, 11, 4), date(2026, 11, 4)),
        ("week", date(2026, 11, 2), date(2026, 11, 8)),
        ("month", date(2026, 11, 1), date(2026, 11, 30)),
    ],
)
def test_drift_is_of_the_stretch_and_of_calls_with_both_figures(
    open_ledger: OpenLedger, span: Span, first: date, last: date
) -> None:
    call(open_ledger, 4, Usage(110, 5))
    call(open_ledger, 4, Usage(90, 5))
    call(open_ledger, 4, Usage(500, 5), steps=2)
    call(open_ledger, 4, Usage(500, 5, estimated=True))
    call(open_ledger, 4, Usage(500, 5), expected=0)
    call(open_ledger, 4, Usage(500, 5), user="grace")
    ledger = open_ledger()
    assert read_drift(ledger, span) == [Drift("kimi-k2.6", first, last, 2, 200, 200, 20)]
    assert read_drift(ledger, span, first_day=date(2026, 11, 5)) == []


def test_answers_are_the_latest_whole_ones_of_each_model(open_ledger: OpenLedger) -> None:
    call(open_ledger, 4, Usage(100, 5))
    call(open_ledger, 5, Usage(100, 7))
    call(open_ledger, 6, Usage(100, 500), finish="length")
    call(open_ledger, 7, Usage(100, 600, estimated=True))
    call(open_ledger, 8, Usage(100, 9), model="kimi-k3")
    ledger = call(open_ledger, 9, Usage(100, 9), user="grace")
    assert read_answers(open_ledger()) == {"kimi-k2.6": [7, 5], "kimi-k3": [9]}
    assert read_answers(ledger) == {"kimi-k2.6": [9]}
