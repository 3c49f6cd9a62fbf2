"""The table of answers that are kept to be replayed, and what is done with it in one transaction."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from kimi_magics.core.events import Replayed
from kimi_magics.core.recording import read_pieces
from kimi_magics.core.usage import Usage
from kimi_magics.store.ledger_tables import from_pico, to_pico, writer
from kimi_magics.store.replays_values import Answer

VERSION = 1
#: A page of the file, and what of it rows can have; what a row takes beside its pieces, in the table and in indexes.
_PAGE_BYTES, _USED_BYTES = 4096, 4000
_FACTS_BYTES, _INDEX_BYTES = 200, 180

metadata = MetaData()

#: The prompt is not in it: the key is a hash.
answers = Table(
    "kimi_answers",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("host", String, nullable=False),
    Column("model", String, nullable=False),
    #: The local day on which it was billed.
    Column("day", String(10), nullable=False),
    #: In a millionth of a millionth of the currency; NULL where the price was not known.
    Column("cost", BigInteger),
    Column("currency", String(3), nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("web_searches", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("pieces", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    #: Grows with every use; no clock, which may go backwards.
    Column("used", BigInteger, nullable=False),
)
Index("kimi_answers_used", answers.c.used, answers.c.bytes)

_FIND = select(answers).where(answers.c.key == bindparam("of_key"))
_FIND_FACTS = select(*(column for column in answers.c if column.name != "pieces")).where(
    answers.c.key == bindparam("of_key")
)
_NEWEST = select(func.coalesce(func.max(answers.c.used), 0))
_TOUCH = update(answers).where(answers.c.key == bindparam("of_key"))
_DELETE = delete(answers).where(answers.c.key == bindparam("of_key"))
_SIZE = select(func.count(), func.coalesce(func.sum(answers.c.bytes), 0))
_OLDEST = select(answers.c.key, answers.c.bytes).order_by(answers.c.used)


class NewerReplaysError(Exception):
    """The table was written by a later version of this package."""


def prepare(engine: Engine) -> None:
    """Make the table where there is none. Raises NewerReplaysError."""
    with engine.connect() as connection:
        if _find_version(connection) == VERSION:
            return
    with writer(engine).begin() as connection:
        version = _find_version(connection)
        if version > VERSION:
            raise NewerReplaysError
        if version == 0:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")


def _find_version(connection: Connection) -> int:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


def find(connection: Connection, key: str) -> Answer | None:
    """Return what is kept under a key. Raises ValueError for pieces that cannot be read."""
    row = connection.execute(_FIND, {"of_key": key}).mappings().first()
    return None if row is None else Answer(key, read_pieces(row["pieces"]), _read_facts(row))


def find_facts(connection: Connection, key: str) -> Replayed | None:
    """Return what an answer cost when it was billed, without the answer itself."""
    row = connection.execute(_FIND_FACTS, {"of_key": key}).mappings().first()
    return None if row is None else _read_facts(row)


def touch(connection: Connection, key: str) -> None:
    """Note that an answer was used."""
    newest: int = connection.execute(_NEWEST).scalar_one()
    connection.execute(_TOUCH, {"of_key": key, "used": newest + 1})


def put(connection: Connection, answer: Answer, pieces: bytes, *, host: str, model: str) -> None:
    """Keep an answer in the place of an older one."""
    first, usage = answer.first, answer.first.usage
    connection.execute(_DELETE, {"of_key": answer.key})
    newest: int = connection.execute(_NEWEST).scalar_one()
    values = {
        "key": answer.key,
        "host": host,
        "model": model,
        "day": first.date.isoformat(),
        "cost": None if first.cost is None else to_pico(first.cost),
        "currency": first.currency,
        **usage.as_dict(),
        "pieces": pieces,
        "bytes": estimate_bytes(len(pieces)),
        "used": newest + 1,
    }
    connection.execute(insert(answers), values)


def estimate_bytes(length: int) -> int:
    """Return about what pieces of this length take in the file: a page holds whole rows, a long row whole pages."""
    row = length + _FACTS_BYTES
    pages = 1 / (_USED_BYTES // row) if row < _USED_BYTES else -(-row // _USED_BYTES) + 0.2
    return int(_PAGE_BYTES * pages) + _INDEX_BYTES


def measure(connection: Connection) -> tuple[int, int]:
    """Return how many answers there are, and the bytes that they take."""
    count, size = connection.execute(_SIZE).one()
    return count, int(size)


def shrink(connection: Connection, most_bytes: int) -> None:
    """Take away what was not used for longest, until the rest has at most so many bytes."""
    _, size = measure(connection)
    if size <= most_bytes:
        return
    gone = []
    for key, taken in connection.execute(_OLDEST):
        if size <= most_bytes:
            break
        gone.append({"of_key": key})
        size -= taken
    connection.execute(_DELETE, gone)


def empty(connection: Connection) -> None:
    """Take all away."""
    connection.execute(delete(answers))


def _read_facts(row: Any) -> Replayed:
    usage = Usage(
        row["prompt_tokens"],
        row["completion_tokens"],
        row["cached_tokens"],
        row["cache_write_tokens"],
        bool(row["estimated"]),
        row["web_searches"],
    )
    cost: Decimal | None = None if row["cost"] is None else from_pico(row["cost"])
    return Replayed(usage, cost, row["currency"], date.fromisoformat(row["day"]))
