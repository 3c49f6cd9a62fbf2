"""How far the prompt tokens that were expected are from those that were billed, by model and stretch of time.

Only calls of which both are known count: settled, billed by the host, of one request, expected before they were sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

from kimi_magics.store.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Connection

Span = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Drift:
    """The calls of a model in the stretch from `first` to `last`: prompt tokens expected and billed.

    `off` is the sum of what each call was off by, in tokens, whatever the direction.
    """

    model: str
    first: date
    last: date
    calls: int
    expected_tokens: int
    billed_tokens: int
    off_tokens: int

    @property
    def ratio(self) -> float:
        """Billed by expected: above 1 when estimates were too low."""
        return self.billed_tokens / self.expected_tokens

    @property
    def error(self) -> float:
        """What a call was off by, as a part of what was billed."""
        return self.off_tokens / self.billed_tokens


def read_drift(ledger: Ledger, span: Span, *, first_day: date | None = None) -> list[Drift]:
    """Return the drift of the user's calls by model and day, week or month; each model's oldest stretch first."""
    from sqlalchemy import false, func, literal_column, select

    from kimi_magics.store.ledger_tables import calls

    off = func.abs(calls.c.prompt_tokens - calls.c.expected_tokens)
    figures = (func.count(), func.sum(calls.c.expected_tokens), func.sum(calls.c.prompt_tokens), func.sum(off))
    query = (
        select(calls.c.model, calls.c.day, *figures)
        .where(
            calls.c.user == ledger.user,
            calls.c.state == literal_column("'settled'"),
            calls.c.estimated == false(),
            calls.c.steps == 1,
            calls.c.expected_tokens > 0,
            calls.c.prompt_tokens > 0,
        )
        .group_by(calls.c.model, calls.c.day)
    )
    if first_day is not None:
        query = query.where(calls.c.day >= first_day.isoformat())

    def read(connection: Connection) -> list[Drift]:
        return _merge(connection.execute(query), span)

    return ledger.read(read)


def _merge(rows: Iterable[Any], span: Span) -> list[Drift]:
    merged: dict[tuple[str, date], list[int]] = {}
    for model, day, *figures in rows:
        before = merged.setdefault((model, _begin(date.fromisoformat(day), span)), [0, 0, 0, 0])
        before[:] = [one + int(other) for one, other in zip(before, figures, strict=True)]
    return [Drift(model, first, _end(first, span), *merged[model, first]) for model, first in sorted(merged)]


def _begin(day: date, span: Span) -> date:
    if span == "month":
        return day.replace(day=1)
    return day if span == "day" else day - timedelta(days=day.weekday())


def _end(first: date, span: Span) -> date:
    if span == "day":
        return first
    if span == "week":
        return first + timedelta(days=6)
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
