"""What hosts told of an account's balance, beside what the ledger counts for the stretches between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kimi_magics.store.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: No call takes longer: where a query may begin to look for those that ended in a stretch.
_LONGEST_CALL_MICROS = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """A balance that the host told at a time."""

    time: datetime
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What the ledger counts for a stretch of time, in one currency; calls in another one are `unpriced`, too."""

    calls: int
    cost: Decimal
    unpriced: int
    estimated: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What an account did between two looks: it fell by `fell` (below 0 when it rose) while `counted` was counted.

    `fell` is None where the looks are in two currencies.
    """

    before: Look
    after: Look
    fell: Decimal | None
    counted: Counted

    @property
    def elsewhere(self) -> Decimal | None:
        """What the ledger does not explain: spent elsewhere, or below 0; None where the account rose or nobody knows.

        A look that is higher than the one before hides what was spent meanwhile.
        """
        if self.fell is None or self.fell < 0 or self.counted.unpriced:
            return None
        return self.fell - self.counted.cost


def read_looks(ledger: Ledger, account: str, *, first_day: date | None = None, most: int = 10) -> list[Look]:
    """Return the last balances of the account of this mark, oldest first."""
    from sqlalchemy import select

    from kimi_magics.store.ledger_tables import balances, from_pico

    query = select(balances).where(balances.c.account == account).order_by(balances.c.at.desc()).limit(most)
    if first_day is not None:
        begin = datetime.combine(first_day, datetime.min.time(), ledger.moment.tzinfo)
        query = query.where(balances.c.at >= _micros(begin))

    def read(connection: Connection) -> list[Look]:
        rows = connection.execute(query).all()
        return [Look(_time(row.at), from_pico(row.amount), row.currency) for row in reversed(rows)]

    return ledger.read(read)


def compare_looks(ledger: Ledger, looks: Sequence[Look], *, host: str) -> list[Stretch]:
    """Return the stretches between looks, with what the user's calls to `host` cost in each.

    A call belongs to the stretch in which it ended, since that is when it is billed.
    """
    stretches = []
    for before, after in pairwise(looks):
        fell = before.amount - after.amount if before.currency == after.currency else None
        counted = _count(ledger, before, after, host=host)
        stretches.append(Stretch(before, after, fell, counted))
    return stretches


def _count(ledger: Ledger, before: Look, after: Look, *, host: str) -> Counted:
    from sqlalchemy import and_, case, func, literal_column, or_, select

    from kimi_magics.store.ledger_tables import calls, from_pico

    since, until = _micros(before.time), _micros(after.time)
    # A row whose kernel died was closed when somebody looked, perhaps much later.
    ended = case((calls.c.state == literal_column("'settled'"), calls.c.settled), else_=calls.c.started)
    is_priced = and_(calls.c.cost.is_not(None), calls.c.currency == after.currency)
    query = select(
        func.count(),
        func.coalesce(func.sum(case((is_priced, calls.c.cost), else_=0)), 0),
        func.count().filter(or_(calls.c.cost.is_(None), calls.c.currency != after.currency)),
        func.count().filter(calls.c.estimated),
    ).where(
        calls.c.user == ledger.user,
        calls.c.host == host,
        calls.c.state != literal_column("'reserved'"),
        calls.c.started > since - _LONGEST_CALL_MICROS,
        calls.c.started <= until,
        ended > since,
        ended <= until,
    )

    def read(connection: Connection) -> Counted:
        row: Any = connection.execute(query).one()
        return Counted(int(row[0]), from_pico(int(row[1])), int(row[2]), int(row[3]))

    return ledger.read(read)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
