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
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kimi_magics.core.budget import Budget, Demand, Grant, Refusal, Standing, decide
from kimi_magics.errors import KimiError
from kimi_magics.store.config import find_home
from kimi_magics.store.database import load
from kimi_magics.store.interrupts import uninterrupted
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from kimi_magics.store.ledger_books import Books

_Result = TypeVar("_Result")

_RENEW_SECONDS = 15.0


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
        self._requests: set[str] = set()
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
        load()
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
        self._keep_alive(key, self._open)
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

    def note_balance(self, account: str, amount: Decimal, currency: str) -> None:
        """Keep what the host told of the account of this mark; of a minute only the first figure."""
        self._write(lambda books: books.note_balance(account, amount, currency))

    # ------------------------------------------------------------ what stands in it

    def standings(self, budgets: Sequence[Budget], entry: Entry) -> tuple[Standing, ...]:
        """Return what is gone of each budget, for a call of `entry`'s session and notebook."""
        return self._read(lambda books: books.standings(budgets, entry)) if budgets else ()

    def change(self, job: Callable[[Connection, datetime], _Result]) -> _Result:
        """Return what a job does in a transaction of its own: nobody else writes meanwhile."""
        return self._write(lambda books: job(books.connection, books.moment))

    def read(self, query: Callable[[Connection], _Result]) -> _Result:
        """Return what a query finds; calls whose kernel died are marked first."""
        if self._read(lambda books: books.has_dead()):
            self._write(lambda books: books.expire())
        return self._read(lambda books: query(books.connection))

    def now(self) -> datetime:
        """Return the time."""
        return self._clock()

    @property
    def today(self) -> date:
        """The local day."""
        return self._clock().date()

    @property
    def moment(self) -> datetime:
        """The time, as rows are dated by it."""
        return self._clock()

    # ------------------------------------------------------------ the database

    def _read(self, query: Callable[[Books], _Result]) -> _Result:
        return self._do(query, is_writing=False)

    def _write(self, change: Callable[[Books], _Result]) -> _Result:
        return self._do(change, is_writing=True)

    def _do(self, job: Callable[[Books], _Result], *, is_writing: bool) -> _Result:
        load()
        from sqlalchemy.exc import SQLAlchemyError

        from kimi_magics.store.ledger_books import Books
        from kimi_magics.store.ledger_tables import NewerLedgerError, writer

        for _ in range(2):
            try:
                with uninterrupted():
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

    def keep_request(self, key: str) -> None:
        """Show signs of life for a request that is under way, until `drop_request`."""
        self._keep_alive(key, self._requests)

    def drop_request(self, key: str) -> None:
        """Show no more signs of life for a request."""
        self._requests.discard(key)

    def _keep_alive(self, key: str, kept: set[str]) -> None:
        with self._lock:
            kept.add(key)
            if self._pulse is None or not self._pulse.is_alive():
                self._end.clear()
                self._pulse = threading.Thread(target=self._beat, name="kimi-ledger", daemon=True)
                self._pulse.start()

    def _beat(self) -> None:
        while not self._end.wait(_RENEW_SECONDS):
            with self._lock:
                keys, requests = list(self._open), list(self._requests)
                if not keys and not requests:
                    self._pulse = None
                    return
            with suppress(Exception):  # a beat that is missed costs nothing; the next write says what is wrong
                self._write(lambda books, keys=keys, requests=requests: _renew(books, keys, requests))  # type: ignore[misc]


def _renew(books: Books, keys: Sequence[str], requests: Sequence[str]) -> None:
    from kimi_magics.store.ledger_queue import renew

    if keys:
        books.renew(keys)
    renew(books.connection, books.moment, requests)


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
