"""What the ledger tells: the calls of a stretch of time, and their sums by model, notebook, day or cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Connection

Period = Literal["today", "week", "month", "all"]
Grouping = Literal["model", "notebook", "day", "cell"]


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the ledger. `state` is reserved while the call is under way, settled, or unknown."""

    time: datetime
    day: date
    model: str
    usage: Usage
    cost: Decimal | None
    currency: str
    finish_reason: str
    notebook: str
    cell: str
    session: str
    state: str
    expected_tokens: int
    #: What it was settled with; None while it is not, or where no price was known.
    price: Price | None
    steps: int
    retries: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What the calls of one group took, in one currency; `key` has the names of the group, in the order asked for."""

    key: tuple[str, ...]
    currency: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: Decimal
    #: Of the calls, how many have no known cost, and how many figures are estimated.
    unpriced: int
    estimated: int


def find_first_day(period: Period, today: date) -> date | None:
    """Return the first day of a period; weeks begin on Monday; None for all."""
    match period:
        case "today":
            return today
        case "week":
            return today - timedelta(days=today.weekday())
        case "month":
            return today.replace(day=1)
        case _:
            return None


def read_calls(ledger: Ledger, *, first_day: date | None = None, session: str | None = None) -> list[Call]:
    """Return the user's calls, oldest first; those under way too."""
    from sqlalchemy import select

    from kimi_magics.store.ledger_tables import calls

    query = select(calls).where(calls.c.user == ledger.user).order_by(calls.c.started, calls.c.id)
    if first_day is not None:
        query = query.where(calls.c.day >= first_day.isoformat())
    if session is not None:
        query = query.where(calls.c.session == session)
    return ledger.read(lambda connection: [_read_call(row) for row in connection.execute(query)])


#: The latest calls tell how long answers are; older ones are of other work.
_LATEST_CALLS, _LATEST_OF_MODEL = 2_000, 50


def read_answers(ledger: Ledger) -> dict[str, list[int]]:
    """Return the completion tokens of the user's latest whole answers, by model."""
    from sqlalchemy import select

    from kimi_magics.store.ledger_tables import calls

    query = (
        select(calls.c.model, calls.c.completion_tokens, calls.c.state, calls.c.estimated, calls.c.finish_reason)
        .where(calls.c.user == ledger.user)
        .order_by(calls.c.started.desc())
        .limit(_LATEST_CALLS)
    )

    def read(connection: Connection) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for model, tokens, state, estimated, finish_reason in connection.execute(query):
            answers = found.setdefault(model, [])
            is_whole = state == "settled" and not estimated and finish_reason == "stop"
            if is_whole and len(answers) < _LATEST_OF_MODEL:
                answers.append(int(tokens))
        return found

    return ledger.read(read)


def _read_call(row: Any) -> Call:
    from kimi_magics.store.ledger_tables import from_pico

    usage = Usage(
        row.prompt_tokens,
        row.completion_tokens,
        row.cached_tokens,
        row.cache_write_tokens,
        row.estimated,
        row.web_searches,
    )
    return Call(
        time=datetime.fromtimestamp(row.started / 1_000_000, UTC),
        day=date.fromisoformat(row.day),
        model=row.model,
        usage=usage,
        cost=None if row.cost is None else from_pico(row.cost),
        currency=row.currency,
        finish_reason=row.finish_reason,
        notebook=row.notebook,
        cell=row.cell,
        session=row.session,
        state=row.state,
        expected_tokens=row.expected_tokens,
        price=read_kept_price(row.price, row.currency, row.price_date),
        steps=row.steps,
        retries=row.retries,
    )


def read_kept_price(text: str, currency: str, as_of: str) -> Price | None:
    """Return a price as `ledger.write_price` wrote it."""
    if not text:
        return None
    cached, cache_write, fresh, output, web = (Decimal(figure) if figure else None for figure in text.split("/"))
    if fresh is None or output is None:
        return None
    dated = date.fromisoformat(as_of) if as_of else None
    return Price(fresh, output, currency, cached, cache_write, dated, "ledger", web)


def read_sums(
    ledger: Ledger, by: Sequence[Grouping], *, first_day: date | None = None, session: str | None = None
) -> list[Sum]:
    """Return the sums of the user's calls by these names together, a row for each currency; calls under way too."""
    from sqlalchemy import literal_column, select

    from kimi_magics.store.ledger_tables import calls

    def query(connection: Connection) -> list[Sum]:
        if "cell" in by or session is not None:
            found = _sum_rows(connection, ledger.user, by, first_day, session)
        else:
            found = _sum_sums(connection, ledger.user, by, first_day)
        under_way = connection.execute(select(calls).where(calls.c.state == literal_column("'reserved'")))
        open_calls = [
            _read_call(row)
            for row in under_way
            if row.user == ledger.user
            and (first_day is None or row.day >= first_day.isoformat())
            and session in (None, row.session)
        ]
        return _merge([*found, *sum_up(open_calls, by)])

    return ledger.read(query)


def _sum_sums(connection: Connection, user: str, by: Sequence[Grouping], first_day: date | None) -> list[Sum]:
    from sqlalchemy import func, select

    from kimi_magics.store.ledger_tables import FIGURES, sums

    names = [sums.c[name] for name in by]
    figures = [func.coalesce(func.sum(sums.c[name]), 0) for name in FIGURES]
    query = select(*names, sums.c.currency, *figures).where(sums.c.user == user).group_by(*names, sums.c.currency)
    if first_day is not None:
        query = query.where(sums.c.day >= first_day.isoformat())
    # A row that was taken away may leave a sum of nothing.
    return [found for row in connection.execute(query) if (found := _read_sum(row, len(by))).calls]


def _sum_rows(
    connection: Connection,
    user: str,
    by: Sequence[Grouping],
    first_day: date | None,
    session: str | None,
) -> list[Sum]:
    from sqlalchemy import func, select

    from kimi_magics.store.ledger_tables import calls

    names = [calls.c[name] for name in by]
    figures = [
        func.count(),
        func.sum(calls.c.prompt_tokens),
        func.sum(calls.c.completion_tokens),
        func.sum(calls.c.cached_tokens),
        func.coalesce(func.sum(calls.c.cost), 0),
        func.count().filter(calls.c.cost.is_(None)),
        func.count().filter(calls.c.estimated),
    ]
    query = select(*names, calls.c.currency, *figures).where(calls.c.user == user, calls.c.state != "reserved")
    if first_day is not None:
        query = query.where(calls.c.day >= first_day.isoformat())
    if session is not None:
        query = query.where(calls.c.session == session)
    query = query.group_by(*names, calls.c.currency)
    return [_read_sum(row, len(by)) for row in connection.execute(query)]


def _read_sum(row: Any, names: int) -> Sum:
    from kimi_magics.store.ledger_tables import from_pico

    key, currency = tuple(str(name) for name in row[:names]), row[names]
    calls, prompt, completion, cached, cost, unpriced, estimated = (int(figure) for figure in row[names + 1 :])
    return Sum(key, currency, calls, prompt, completion, cached, from_pico(cost), unpriced, estimated)


def _merge(sums: Sequence[Sum]) -> list[Sum]:
    """Add up what has the same key and currency, in the order of the keys."""
    merged: dict[tuple[tuple[str, ...], str], Sum] = {}
    for one in sums:
        before = merged.get((one.key, one.currency))
        merged[one.key, one.currency] = one if before is None else _add(before, one)
    return [merged[name] for name in sorted(merged)]


def _add(one: Sum, other: Sum) -> Sum:
    return Sum(
        one.key,
        one.currency,
        one.calls + other.calls,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.cost + other.cost,
        one.unpriced + other.unpriced,
        one.estimated + other.estimated,
    )


def reprice(call: Call, find_price: Callable[[str], Price | None]) -> tuple[Decimal | None, str]:
    """Return what a call would cost at the price of today, and in which currency; the ledger stays as it is."""
    price = find_price(call.model)
    if price is None or not price.covers(call.usage):
        return None, call.currency
    return price.cost_of(call.usage), price.currency


def sum_up(calls: Sequence[Call], by: Sequence[Grouping]) -> list[Sum]:
    """Return the sums of these calls, as `read_sums` does for those of the ledger."""
    return _merge([_as_sum(call, tuple(_name(call, one) for one in by)) for call in calls])


def _name(call: Call, by: Grouping) -> str:
    return {"model": call.model, "notebook": call.notebook, "day": call.day.isoformat(), "cell": call.cell}[by]


def _as_sum(call: Call, key: tuple[str, ...]) -> Sum:
    usage = call.usage
    return Sum(
        key,
        call.currency,
        1,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        call.cost or Decimal(0),
        int(call.cost is None),
        int(usage.estimated),
    )
