"""The ledger within one transaction: rows, the sums that follow them, and what is gone of budgets.

The statements are built once: to build one takes longer than to run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from kimi_magics.core.budget import Budget, Grant, Standing
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger_tables import FIGURES, KEYS, balance_to_pico, balances, calls, from_pico, sums, to_pico
from kimi_magics.store.ledger_values import LEASE_SECONDS, Entry, Outcome, Reservation

#: As a literal, since an index of a part of the rows is not used for a parameter.
_RESERVED: ColumnElement[str] = literal_column("'reserved'")
_INSERT = insert(calls)
_FIND = select(calls).where(calls.c.key == bindparam("of_key"))
_UPDATE = update(calls).where(calls.c.key == bindparam("of_key"))
_DELETE = delete(calls).where(calls.c.key == bindparam("of_key"))
_UNDER_WAY = select(calls).where(calls.c.state == _RESERVED)
_RENEW = update(calls).where(calls.c.key == bindparam("of_key"), calls.c.state == _RESERVED)
_ADD = (
    update(sums)
    .where(*(sums.c[name] == bindparam(f"of_{name}") for name in KEYS))
    .values({name: sums.c[name] + bindparam(f"add_{name}") for name in FIGURES})
)
_BEGIN_SUM = insert(sums)

_MINUTE = 60 * 1_000_000
#: Of each account so many balances are kept, and none for longer than some 13 months.
MOST_BALANCES = 1_000
_OLDEST_BALANCE = 400 * 24 * 60 * _MINUTE


class Books:
    """The ledger within one transaction; a connection that writes has it for itself."""

    def __init__(self, connection: Connection, moment: datetime, user: str) -> None:
        self.connection = connection
        self.moment = moment
        self._user = user
        self._today = moment.date()
        self._micros = int(moment.timestamp() * 1_000_000)
        self._lease = self._micros + int(LEASE_SECONDS * 1_000_000)

    # ------------------------------------------------------------ rows

    def insert(self, key: str, entry: Entry, grant: Grant) -> None:
        """Write the row of a call that is about to be sent."""
        values = {
            "key": key,
            "state": "reserved",
            "started": self._micros,
            "day": self._today.isoformat(),
            "user": self._user,
            "session": entry.session,
            "notebook": entry.notebook,
            "cell": entry.cell,
            "host": entry.host,
            "prompt_hash": entry.prompt_hash,
            "expected_tokens": entry.expected_tokens,
            "price": "",
            "price_date": "",
            "steps": 1,
            "retries": 0,
            "finish_reason": "",
            "request_id": "",
        }
        self.connection.execute(_INSERT, {**values, **self._granted(entry, grant)})

    def regrant(self, key: str, entry: Entry, grant: Grant) -> None:
        """Put another amount aside for a call that is under way, and call it alive; it may have been taken for dead."""
        before = self._find(key)
        if before is None:
            self.insert(key, entry, grant)
        else:
            self._move(before, {"state": "reserved", **self._granted(entry, grant)})

    def _granted(self, entry: Entry, grant: Grant) -> dict[str, Any]:
        return {
            "model": entry.model,
            "lease": self._lease,
            "currency": grant.currency,
            "cost": _units(grant.cost),
            **_tokens(grant.usage),
            "estimated": True,
        }

    def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Write down what a call took in the end."""
        before = self._find(reservation.key)
        if before is None:  # the file was taken away meanwhile
            self.insert(reservation.key, reservation.entry, reservation.grant)
            before = self._find(reservation.key)
        values: dict[str, Any] = {
            "state": "settled" if outcome.is_known else "unknown",
            "settled": self._micros,
            "steps": outcome.steps,
            "retries": outcome.retries,
            "finish_reason": outcome.finish_reason,
            "request_id": outcome.request_id,
            "seconds": outcome.seconds,
            "price": write_price(outcome.price),
            "price_date": outcome.price.as_of.isoformat() if outcome.price and outcome.price.as_of else "",
        }
        if outcome.is_known:
            values |= {"cost": _units(outcome.cost), "currency": outcome.currency, **_tokens(outcome.usage)}
            values["estimated"] = outcome.usage.estimated
        if outcome.model:
            values["model"] = outcome.model
        self._move(before, values)

    def remove(self, key: str) -> None:
        """Take a row away, as if the call had never been."""
        before = self._find(key)
        if before is not None:
            self._count(before._mapping, -1)
            self.connection.execute(_DELETE, {"of_key": key})

    def renew(self, keys: Sequence[str]) -> None:
        """Note that the kernels of these calls are alive."""
        self.connection.execute(_RENEW, [{"of_key": key, "lease": self._lease} for key in keys])

    def has_dead(self) -> bool:
        """Whether there are calls whose kernel ended without a word."""
        return any(row.lease < self._micros for row in self._under_way())

    def expire(self) -> None:
        """Mark the calls whose kernel ended without a word; what was put aside for them counts as spent."""
        for row in self._under_way():
            if row.lease < self._micros:
                self._move(row, {"state": "unknown", "settled": self._micros})

    def _under_way(self) -> Sequence[Any]:
        return self.connection.execute(_UNDER_WAY).all()

    def _find(self, key: str) -> Any:
        return self.connection.execute(_FIND, {"of_key": key}).one_or_none()

    # ------------------------------------------------------------ sums

    def _move(self, before: Any, values: dict[str, Any]) -> None:
        """Change a row, and the sums with it."""
        self._count(before._mapping, -1)
        self.connection.execute(_UPDATE, {**values, "of_key": before.key})
        self._count({**before._mapping, **values}, +1)

    def _count(self, row: Any, sign: int) -> None:
        """Add a row to the sums, or take it from them; one that is under way is in none."""
        if row["state"] == "reserved":
            return
        figures = {
            "calls": sign,
            "prompt_tokens": sign * row["prompt_tokens"],
            "completion_tokens": sign * row["completion_tokens"],
            "cached_tokens": sign * row["cached_tokens"],
            "cost": sign * (row["cost"] or 0),
            "unpriced": sign * (row["cost"] is None),
            "estimated": sign * bool(row["estimated"]),
        }
        added = {f"add_{name}": figure for name, figure in figures.items()}
        if not self.connection.execute(_ADD, {**{f"of_{name}": row[name] for name in KEYS}, **added}).rowcount:
            self.connection.execute(_BEGIN_SUM, {**{name: row[name] for name in KEYS}, **figures})

    # ------------------------------------------------------------ balances

    def note_balance(self, account: str, amount: Decimal, currency: str) -> None:
        """Keep what the host told of an account, one figure a minute; old ones go."""
        of_account = balances.c.account == account
        # On both sides: the clock may have been set back.
        is_near = balances.c.at.between(self._micros - _MINUTE + 1, self._micros + _MINUTE - 1)
        if self.connection.execute(select(balances.c.at).where(of_account, is_near).limit(1)).first() is not None:
            return
        values = {"account": account, "at": self._micros, "amount": balance_to_pico(amount), "currency": currency}
        self.connection.execute(insert(balances), values)
        newest = select(balances.c.at).where(of_account).order_by(balances.c.at.desc())
        first_gone = self.connection.execute(newest.offset(MOST_BALANCES).limit(1)).scalar()
        oldest = max(self._micros - _OLDEST_BALANCE, -1 if first_gone is None else first_gone + 1)
        self.connection.execute(delete(balances).where(of_account, balances.c.at < oldest))

    # ------------------------------------------------------------ budgets

    def standings(self, budgets: Sequence[Budget], entry: Entry, *, besides: str = "") -> tuple[Standing, ...]:
        """Return what is gone of each budget, without the call whose key is `besides`."""
        if not budgets:
            return ()
        under_way = [row for row in self._under_way() if row.key != besides]
        return tuple(self._stand(budget, entry, under_way) for budget in budgets)

    def _stand(self, budget: Budget, entry: Entry, under_way: Sequence[Any]) -> Standing:
        if budget.scope == "call":
            return Standing(budget)
        reserved = [row for row in under_way if self._is_within(row, budget, entry)]
        spent, unpriced = self._spent(budget, entry)
        unpriced += sum(1 for row in reserved if row.cost is None)
        return Standing(budget, spent, sum((_figure(row, budget) for row in reserved), Decimal(0)), unpriced)

    def _is_within(self, row: Any, budget: Budget, entry: Entry) -> bool:
        if not budget.is_shared and row.user != self._user:
            return False
        if budget.is_money and row.currency != budget.unit:
            return False
        match budget.scope:
            case "session":
                return bool(row.session == entry.session)
            case "notebook":
                # A notebook that nobody names is as long as its session.
                same = row.notebook == entry.notebook if entry.notebook else row.session == entry.session
                return bool(same)
            case _:
                return bool(row.day >= first_day(budget, self._today))

    def _spent(self, budget: Budget, entry: Entry) -> tuple[Decimal, int]:
        """Return what settled calls took of a budget, and how many of them have no known cost."""
        name = "session" if budget.scope == "notebook" and not entry.notebook else budget.scope
        by = name if name in ("session", "notebook") else "day"
        value = first_day(budget, self._today) if by == "day" else getattr(entry, by)
        query = _spent_query(by, is_money=budget.is_money, is_shared=budget.is_shared)
        row = self.connection.execute(query, {"value": value, "of_user": self._user, "unit": budget.unit}).one()
        return (from_pico(int(row[0])) if budget.is_money else Decimal(int(row[0]))), int(row[1])


@cache
def _spent_query(by: str, *, is_money: bool, is_shared: bool) -> Select[Any]:
    """Return the query for what was spent in one session, in one notebook, or since a day, and the calls unpriced."""
    table: Any = calls if by == "session" else sums
    column = table.c[by]
    conditions = [column >= bindparam("value") if by == "day" else column == bindparam("value")]
    unpriced: Any = func.coalesce(func.sum(sums.c.unpriced), 0)
    if by == "session":
        conditions.append(calls.c.state != _RESERVED)
        unpriced = func.count().filter(calls.c.cost.is_(None))
    if not is_shared:
        conditions.append(table.c.user == bindparam("of_user"))
    if is_money:
        conditions.append(table.c.currency == bindparam("unit"))
    figure = table.c.cost if is_money else table.c.prompt_tokens + table.c.completion_tokens
    return select(func.coalesce(func.sum(figure), 0), unpriced).where(*conditions)


def first_day(budget: Budget, today: date) -> str:
    """Return the first day of the stretch of time that a budget is about now; weeks begin on Monday."""
    match budget.scope:
        case "week":
            return (today - timedelta(days=today.weekday())).isoformat()
        case "month":
            return today.replace(day=1).isoformat()
        case _:
            return today.isoformat()


def write_price(price: Price | None) -> str:
    """Return a price as the ledger keeps it, so that a row can be understood when the list has changed."""
    if price is None:
        return ""
    figures = (price.cached, price.cache_write, price.input, price.output, price.web_search)
    return "/".join("" if figure is None else f"{figure:f}" for figure in figures)


def _units(cost: Decimal | None) -> int | None:
    return None if cost is None else to_pico(cost)


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "web_searches": usage.web_searches,
    }


def _figure(row: Any, budget: Budget) -> Decimal:
    return from_pico(row.cost or 0) if budget.is_money else Decimal(row.prompt_tokens + row.completion_tokens)
