"""What every call took, for budgets and reports of all kernels of a user.

The promise: a call has its row before it is sent, and what it may take counts against the budgets from then on, for
all kernels at once; a kernel that dies leaves a row that counts in full, never a lost one; a ledger that cannot be
written is told of once, kept in memory from then on, and never costs an answer. Neither prompts nor answers are in it.

One transaction at a time writes. In it the sums by day follow the rows, so that neither a budget nor a report has to
read them all.
"""

from __future__ import annotations

import getpass
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kimi_magics.core.budget import Budget, Demand, Grant, Refusal, Standing, decide
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import KimiError
from kimi_magics.store.config import find_home

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

_Result = TypeVar("_Result")

#: Without a sign of life for so long, a call's kernel is taken to have ended.
LEASE_SECONDS = 120.0
_RENEW_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Which call it is: where it was made, and for which model. Texts that are not known are empty."""

    session: str
    host: str
    model: str
    notebook: str = ""
    cell: str = ""
    prompt_hash: str = ""
    expected_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call took in the end."""

    usage: Usage
    cost: Decimal | None
    currency: str
    price: Price | None = None
    #: The model that answered, where the host named another.
    model: str = ""
    steps: int = 1
    retries: int = 0
    finish_reason: str = ""
    request_id: str = ""
    seconds: float | None = None
    #: Whether anybody knows the figures; of a call that was lost on the way, what was put aside counts.
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be sent, under `key` in the ledger."""

    key: str
    entry: Entry
    grant: Grant


def find_user() -> str:
    """Return who pays: the hub's name of the user, else the machine's; empty when nobody tells."""
    hub = os.environ.get("JUPYTERHUB_USER", "").strip()
    if hub:
        return hub
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return ""


def now() -> datetime:
    """Return the time, with the offset of the local zone."""
    return datetime.now().astimezone()


class Ledger:
    """The ledger of a user, or of a hub by its `url`; opened at the first need, safe to use from several threads.

    `tell` is given one sentence when the ledger cannot be used; `clock` is for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        home: Path | None = None,
        tell: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], datetime] = now,
        user: str | None = None,
    ) -> None:
        self._url = url
        self._home = home
        self._tell = tell
        self._clock = clock
        self.user = find_user() if user is None else user
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        #: Why the ledger is kept in memory; empty while it is not.
        self.trouble = ""
        self._open: set[str] = set()
        self._pulse: threading.Thread | None = None
        self._end = threading.Event()

    @property
    def path(self) -> Path:
        """The file of the user's own ledger; it need not exist."""
        return (self._home or find_home()) / "ledger.sqlite"

    @property
    def place(self) -> str:
        """Where the ledger is, for a reader; without a password."""
        if self.trouble:
            return "memory"
        if self._url is None:
            return str(self.path)
        from kimi_magics.store.ledger_tables import read_url

        return read_url(self._url).render_as_string(hide_password=True)

    def close(self) -> None:
        """Let the database go; what is under way keeps its row."""
        self._end.set()
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    # ------------------------------------------------------------ a call

    def reserve(
        self, entry: Entry, demand: Demand, budgets: Sequence[Budget], *, is_over_allowed: bool = False
    ) -> Reservation | Refusal:
        """Put aside what a call may take, or return why the budgets forbid it; nobody can come between."""
        key = uuid.uuid4().hex

        def change(books: Books) -> Grant | Refusal:
            decision = decide(demand, books.standings(budgets, entry), is_over_allowed=is_over_allowed)
            if isinstance(decision, Grant):
                books.insert(key, entry, decision)
            return decision

        decision = self._write(change)
        if isinstance(decision, Refusal):
            return decision
        self._keep_alive(key)
        return Reservation(key, entry, decision)

    def extend(
        self, reservation: Reservation, demand: Demand, budgets: Sequence[Budget], *, is_over_allowed: bool = False
    ) -> Reservation | Refusal:
        """Put aside what a call takes with its next request, or return why the budgets forbid that."""

        def change(books: Books) -> Grant | Refusal:
            standings = books.standings(budgets, reservation.entry, besides=reservation.key)
            decision = decide(demand, standings, is_over_allowed=is_over_allowed)
            if isinstance(decision, Grant):
                books.regrant(reservation.key, reservation.entry, decision)
            return decision

        decision = self._write(change)
        return decision if isinstance(decision, Refusal) else replace(reservation, grant=decision)

    def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Write down what a call took; also of one that was taken for dead meanwhile."""
        self._open.discard(reservation.key)
        self._write(lambda books: books.settle(reservation, outcome))

    def release(self, reservation: Reservation) -> None:
        """Take away the row of a call that was not sent, or that the host refused."""
        self._open.discard(reservation.key)
        self._write(lambda books: books.remove(reservation.key))

    # ------------------------------------------------------------ what stands in it

    def standings(self, budgets: Sequence[Budget], entry: Entry) -> tuple[Standing, ...]:
        """Return what is gone of each budget, for a call of `entry`'s session and notebook."""
        return self._read(lambda books: books.standings(budgets, entry)) if budgets else ()

    def read(self, query: Callable[[Connection], _Result]) -> _Result:
        """Return what a query finds; calls whose kernel died are marked first."""
        if self._read(lambda books: books.has_dead()):
            self._write(lambda books: books.expire())
        return self._read(lambda books: query(books.connection))

    @property
    def today(self) -> date:
        """The local day."""
        return self._clock().date()

    # ------------------------------------------------------------ the database

    def _read(self, query: Callable[[Books], _Result]) -> _Result:
        return self._do(query, is_writing=False)

    def _write(self, change: Callable[[Books], _Result]) -> _Result:
        return self._do(change, is_writing=True)

    def _do(self, job: Callable[[Books], _Result], *, is_writing: bool) -> _Result:
        from sqlalchemy.exc import SQLAlchemyError

        from kimi_magics.store.ledger_tables import NewerLedgerError, writer

        for _ in range(2):
            try:
                engine = self._open_engine()
                with (writer(engine) if is_writing else engine).begin() as connection:
                    books = Books(connection, self._clock(), self.user)
                    if is_writing:
                        books.expire()
                    return job(books)
            except (SQLAlchemyError, OSError, NewerLedgerError, KimiError) as error:
                if self.trouble:
                    raise
                self._go_to_memory(error)
        raise AssertionError("the second try either returns or raises")

    def _open_engine(self) -> Engine:
        from sqlalchemy.engine import URL

        from kimi_magics.store import ledger_tables as tables

        with self._lock:
            if self._engine is None:
                url = URL.create("sqlite", database=str(self.path)) if self._url is None else tables.read_url(self._url)
                engine = tables.open_engine(url)
                try:
                    tables.prepare(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _go_to_memory(self, error: Exception) -> None:
        """Count on in memory, and say so once: an answer is worth more than its record."""
        from kimi_magics.store import ledger_tables as tables

        with self._lock:
            if self.trouble:
                return
            place = self.place
            if self._engine is not None:
                with suppress(Exception):
                    self._engine.dispose()
            self._engine = tables.open_memory()
            tables.prepare(self._engine)
            self.trouble = _describe(error, place)
        self._tell(self.trouble)

    # ------------------------------------------------------------ signs of life

    def _keep_alive(self, key: str) -> None:
        with self._lock:
            self._open.add(key)
            if self._pulse is None or not self._pulse.is_alive():
                self._end.clear()
                self._pulse = threading.Thread(target=self._beat, name="kimi-ledger", daemon=True)
                self._pulse.start()

    def _beat(self) -> None:
        while not self._end.wait(_RENEW_SECONDS):
            with self._lock:
                keys = list(self._open)
                if not keys:
                    self._pulse = None
                    return
            with suppress(Exception):  # a beat that is missed costs nothing; the next write says what is wrong
                self._write(lambda books, keys=keys: books.renew(keys))  # type: ignore[misc]


def _describe(error: Exception, place: str) -> str:
    """Return one sentence for a ledger that cannot be used: what is wrong, what holds meanwhile, and what to do."""
    from kimi_magics.store.ledger_tables import NewerLedgerError

    if isinstance(error, NewerLedgerError):
        reason, remedy = "was written by a later version of kimi_magics", "pip install --upgrade kimi-magics"
    elif isinstance(error, KimiError):
        reason, remedy = f"cannot be used: {error.message}", error.remedy
    else:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0:1]
        reason = f"cannot be used: {cause[0][:200] if cause else type(error).__name__}"
        remedy = "free the disk, mend or move the file away, or point KIMI_MAGICS_HOME to another folder"
    return (
        f"the ledger ({place}) {reason}; the calls of this kernel are counted in memory until it ends"
        f" — {remedy}, then restart the kernel"
    )


class Books:
    """The ledger within one transaction; a connection that writes has it for itself."""

    def __init__(self, connection: Connection, moment: datetime, user: str) -> None:
        self.connection = connection
        self._moment = moment
        self._user = user

    @property
    def _micros(self) -> int:
        return int(self._moment.timestamp() * 1_000_000)

    @property
    def _lease(self) -> int:
        return self._micros + int(LEASE_SECONDS * 1_000_000)

    # ------------------------------------------------------------ rows

    def insert(self, key: str, entry: Entry, grant: Grant) -> None:
        """Write the row of a call that is about to be sent."""
        from sqlalchemy import insert

        from kimi_magics.store.ledger_tables import calls

        values = {
            "key": key,
            "state": "reserved",
            "started": self._micros,
            "day": self._moment.date().isoformat(),
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
        self.connection.execute(insert(calls).values(**values, **self._granted(entry, grant)))

    def regrant(self, key: str, entry: Entry, grant: Grant) -> None:
        """Put another amount aside for a call that is under way, and call it alive; it may have been taken for dead."""
        before = self._find(key)
        if before is None:
            self.insert(key, entry, grant)
            return
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
        from sqlalchemy import delete

        from kimi_magics.store.ledger_tables import calls

        before = self._find(key)
        if before is not None:
            self._count(before._mapping, -1)
            self.connection.execute(delete(calls).where(calls.c.key == key))

    def renew(self, keys: Sequence[str]) -> None:
        """Note that the kernels of these calls are alive."""
        from sqlalchemy import update

        from kimi_magics.store.ledger_tables import calls

        is_open = calls.c.key.in_(keys) & (calls.c.state == "reserved")
        self.connection.execute(update(calls).where(is_open).values(lease=self._lease))

    def has_dead(self) -> bool:
        """Whether there are calls whose kernel ended without a word."""
        return bool(self._dead(most=1))

    def expire(self) -> None:
        """Mark the calls whose kernel ended without a word; what was put aside for them counts as spent."""
        for row in self._dead():
            self._move(row, {"state": "unknown", "settled": self._micros})

    def _dead(self, most: int | None = None) -> Sequence[Row[Any]]:
        from sqlalchemy import select

        from kimi_magics.store.ledger_tables import calls

        dead = (calls.c.state == "reserved") & (calls.c.lease < self._micros)
        return self.connection.execute(select(calls).where(dead).limit(most)).all()

    def _find(self, key: str) -> Any:
        from sqlalchemy import select

        from kimi_magics.store.ledger_tables import calls

        return self.connection.execute(select(calls).where(calls.c.key == key)).one_or_none()

    # ------------------------------------------------------------ sums

    def _move(self, before: Any, values: dict[str, Any]) -> None:
        """Change a row, and the sums with it."""
        from sqlalchemy import update

        from kimi_magics.store.ledger_tables import calls

        self._count(before._mapping, -1)
        self.connection.execute(update(calls).where(calls.c.key == before.key).values(**values))
        self._count({**before._mapping, **values}, +1)

    def _count(self, row: Any, sign: int) -> None:
        """Add a row to the sums, or take it from them; one that is under way is in none."""
        from sqlalchemy import insert, update

        from kimi_magics.store.ledger_tables import KEYS, sums

        if row["state"] == "reserved":
            return
        figures = {
            "calls": 1,
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["completion_tokens"],
            "cached_tokens": row["cached_tokens"],
            "cost": row["cost"] or 0,
            "unpriced": int(row["cost"] is None),
            "estimated": int(row["estimated"]),
        }
        keys = {name: row[name] for name in KEYS}
        is_it = [sums.c[name] == value for name, value in keys.items()]
        added = {name: sums.c[name] + sign * figure for name, figure in figures.items()}
        if not self.connection.execute(update(sums).where(*is_it).values(**added)).rowcount:
            self.connection.execute(
                insert(sums).values(**keys, **{name: sign * figure for name, figure in figures.items()})
            )

    # ------------------------------------------------------------ budgets

    def standings(self, budgets: Sequence[Budget], entry: Entry, *, besides: str = "") -> tuple[Standing, ...]:
        """Return what is gone of each budget, without the call whose key is `besides`."""
        under_way = self._under_way(besides)
        return tuple(self._stand(budget, entry, under_way) for budget in budgets)

    def _under_way(self, besides: str) -> Sequence[Row[Any]]:
        from sqlalchemy import select

        from kimi_magics.store.ledger_tables import calls

        is_other = (calls.c.state == "reserved") & (calls.c.key != besides)
        return self.connection.execute(select(calls).where(is_other)).all()

    def _stand(self, budget: Budget, entry: Entry, under_way: Sequence[Row[Any]]) -> Standing:
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
                return bool(row.day >= first_day(budget, self._moment.date()))

    def _spent(self, budget: Budget, entry: Entry) -> tuple[Decimal, int]:
        """Return what settled calls took of a budget, and how many of them have no known cost."""
        from sqlalchemy import func, select

        from kimi_magics.store.ledger_tables import calls, from_pico, sums

        is_by_session = budget.scope == "session" or (budget.scope == "notebook" and not entry.notebook)
        table: Any = calls if is_by_session else sums
        if is_by_session:
            conditions = [calls.c.session == entry.session, calls.c.state != "reserved"]
            unpriced: Any = func.count().filter(calls.c.cost.is_(None))
        else:
            is_notebook = budget.scope == "notebook"
            first = first_day(budget, self._moment.date())
            conditions = [sums.c.notebook == entry.notebook if is_notebook else sums.c.day >= first]
            unpriced = func.coalesce(func.sum(sums.c.unpriced), 0)
        if not budget.is_shared:
            conditions.append(table.c.user == self._user)
        if budget.is_money:
            conditions.append(table.c.currency == budget.unit)
        figure = table.c.cost if budget.is_money else table.c.prompt_tokens + table.c.completion_tokens
        row = self.connection.execute(select(func.coalesce(func.sum(figure), 0), unpriced).where(*conditions)).one()
        return (from_pico(int(row[0])) if budget.is_money else Decimal(int(row[0]))), int(row[1])


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
    from kimi_magics.store.ledger_tables import to_pico

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
    from kimi_magics.store.ledger_tables import from_pico

    if budget.is_money:
        return from_pico(row.cost or 0)
    return Decimal(row.prompt_tokens + row.completion_tokens)
