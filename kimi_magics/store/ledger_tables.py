"""The tables of the ledger, and how their database is opened: SQLite in a file of the user's, or PostgreSQL by URL.

Amounts of money are whole numbers of a millionth of a millionth of the currency, so that sums are exact on both.
Times are whole microseconds since 1970, in UTC. The day of a call is the local one when it began, as its user saw it:
sums by day hold through time zones and daylight-saving time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from kimi_magics.errors import ConfigError
from kimi_magics.store.files import hold_file

VERSION = 2
#: How long a writer waits for the others.
BUSY_SECONDS = 30.0
#: An interrupt waits for a transaction: a server that is gone must not hold it for long. In s, and in ms.
_PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 20_000}
#: In the transaction of a writer nobody else writes; any number, the same for all.
_PG_LOCK = 0x6B696D69
_WRITES = "kimi_writes"

_PICO = Decimal(10) ** 12
#: More is a mistake in a price, and would make sums overflow.
_MOST_PICO = 10**16
#: No sum is made of balances: what a column holds.
_MOST_BALANCE_PICO = 9 * 10**18

metadata = MetaData()

meta = Table("kimi_meta", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))

#: The calls, one row each from the moment of sending. Neither prompts nor answers are in it.
calls = Table(
    "kimi_calls",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(32), nullable=False, unique=True),
    #: `reserved` while the call is under way, then `settled`; `unknown` when its kernel ended without a word.
    Column("state", String(8), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("day", String(10), nullable=False),
    #: Until when a call that is under way is taken to be alive.
    Column("lease", BigInteger, nullable=False),
    Column("settled", BigInteger),
    Column("user", String, nullable=False),
    Column("session", String(32), nullable=False),
    Column("notebook", String, nullable=False),
    Column("cell", String, nullable=False),
    Column("host", String, nullable=False),
    Column("model", String, nullable=False),
    Column("prompt_hash", String, nullable=False),
    #: What the prompt was taken to have before it was sent.
    Column("expected_tokens", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("web_searches", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    #: NULL where the price is not known.
    Column("cost", BigInteger),
    Column("currency", String(3), nullable=False),
    #: The price that the row was settled with, per million tokens, as `cached/cache_write/input/output/web_search`.
    Column("price", String, nullable=False),
    Column("price_date", String(10), nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("retries", BigInteger, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("seconds", Float),
)
Index("kimi_calls_started", calls.c.started)
Index("kimi_calls_day", calls.c.day)
Index("kimi_calls_session", calls.c.session)
_OPEN = Index("kimi_calls_open", calls.c.lease, sqlite_where=calls.c.state == "reserved")

#: The sums of all calls that are not under way, kept in the transaction that changes a call: a budget or a report over
#: a million calls reads a few thousand rows.
sums = Table(
    "kimi_sums",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("user", String, primary_key=True),
    Column("notebook", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    #: Of the calls, how many have no known cost, and how many have figures of ours.
    Column("unpriced", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
)
Index("kimi_sums_notebook", sums.c.notebook)

#: Since version 2: the requests that still wait for their turn, or that are under way; who came first goes first.
tickets = Table(
    "kimi_tickets",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    #: The mark of the account, which does not lead to its key.
    Column("account", String(16), nullable=False),
    Column("key", String(32), nullable=False, unique=True),
    Column("waits", Boolean, nullable=False),
    Column("lease", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
#: Since version 2: the requests of the last day, each try of its own.
requests = Table(
    "kimi_requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("account", String(16), nullable=False),
    Column("key", String(32), nullable=False),
    Column("sent", BigInteger, nullable=False),
    #: As the host's gateway counts: the prompt, and the longest answer that is allowed.
    Column("tokens", BigInteger, nullable=False),
    #: Until when it is taken to be under way; 0 when it has ended.
    Column("lease", BigInteger, nullable=False),
)
Index("kimi_requests_sent", requests.c.account, requests.c.sent)
Index("kimi_requests_lease", requests.c.account, requests.c.lease)
#: Since version 2: what the host said of an account's limits, and when; `pause` is until when it wants no request.
limits = Table(
    "kimi_limits",
    metadata,
    Column("account", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
    Column("learned", BigInteger, nullable=False),
)
#: Since version 2: what hosts told of the balances of accounts; an account is known by its mark, never by its key.
balances = Table(
    "kimi_balances",
    metadata,
    Column("account", String(16), primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
)

KEYS = ("day", "user", "notebook", "model", "currency")
FIGURES = ("calls", "prompt_tokens", "completion_tokens", "cached_tokens", "cost", "unpriced", "estimated")

#: What brings the tables of the version before to this one; each is given the connection of a transaction.
MIGRATIONS: dict[int, Callable[[Connection], None]] = {
    2: lambda connection: _create(connection, tickets, requests, limits, balances),
}


class NewerLedgerError(Exception):
    """The tables were written by a later version of this package."""


def to_pico(amount: Decimal) -> int:
    """Return an amount of money as the ledger keeps it."""
    return min(_MOST_PICO, int((amount * _PICO).to_integral_value()))


def balance_to_pico(amount: Decimal) -> int:
    """Return a balance as the ledger keeps it; it may be below 0."""
    most = _MOST_BALANCE_PICO / _PICO
    return int((max(-most, min(most, amount)) * _PICO).to_integral_value())


def from_pico(units: int) -> Decimal:
    """Return an amount of money without zeros at its end."""
    amount = (Decimal(units) / _PICO).normalize()
    return amount.quantize(Decimal(1)) if amount == amount.to_integral() else amount


def read_url(text: str) -> URL:
    """Return the address of a shared ledger. Raises ConfigError; the password that may be in it is not repeated."""
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ConfigError(
            "the address of the ledger cannot be used",
            remedy="write %kimi_config ledger=postgresql+psycopg://USER@HOST/DATABASE, or ledger=file for your own",
        )
    return url


def open_engine(url: URL) -> Engine:
    """Return an engine whose transactions are those of one writer after the other. Raises ConfigError, OSError."""
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url) if url.database else open_memory()
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args=_PATIENCE)
    except ImportError:
        raise ConfigError(
            "the ledger's database needs psycopg, which is not installed",
            remedy='pip install "kimi-magics[postgresql]"',
        ) from None
    # Said only here: whoever names PostgreSQL above loads it, with all of its drivers, for SQLite too.
    _OPEN.dialect_options["postgresql"]["where"] = calls.c.state == "reserved"
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def open_memory() -> Engine:
    """Return an engine of a database that lasts as long as the kernel."""
    return _listen(
        create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}), is_file=False
    )


def _open_sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_file(path):
        # For its owner alone; what SQLite lays beside it gets the same rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = _listen(create_engine(url, connect_args={"timeout": BUSY_SECONDS}), is_file=True)
        # Made the first time alone: while others write, a change of the journal is refused at once.
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    return engine


def _listen(engine: Engine, *, is_file: bool) -> Engine:
    def connect(connection: Any, _record: Any) -> None:
        # The driver's own transactions begin too late: https://docs.sqlalchemy.org/20/dialects/sqlite.html
        connection.isolation_level = None
        if is_file:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    def begin(connection: Connection) -> None:
        is_writer = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_PG_LOCK})")


def writer(engine: Engine) -> Engine:
    """Return the engine for transactions that write: each has the ledger for itself."""
    return engine.execution_options(**{_WRITES: True})


def _create(connection: Connection, *tables: Table) -> None:
    metadata.create_all(connection, tables=tables)


def prepare(engine: Engine, migrations: Mapping[int, Callable[[Connection], None]] = MIGRATIONS) -> None:
    """Make the tables where there are none, and bring older ones up to date. Raises NewerLedgerError."""
    with engine.connect() as connection:
        if _find_version(connection) == VERSION:
            return
    with writer(engine).begin() as connection:
        version = _find_version(connection)
        if version is None:
            metadata.create_all(connection)
            connection.execute(insert(meta).values(name="version", value=str(VERSION)))
            return
        if version > VERSION:
            raise NewerLedgerError
        for step in range(version + 1, VERSION + 1):
            migrations[step](connection)
        connection.execute(update(meta).where(meta.c.name == "version").values(value=str(VERSION)))


def _find_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(meta.name):
        return None
    value = connection.execute(select(meta.c.value).where(meta.c.name == "version")).scalar()
    return None if value is None else int(value)
