"""Answers that are kept in `replays.sqlite` of `KIMI_MAGICS_HOME`: the same request costs nothing the next time.

The promise: only whole answers are kept, under a hash of their request, never the request itself; the file is its
owner's alone and stays within its bound, what was not used for longest goes first; a file that cannot be used is told
of once, and never costs an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kimi_magics.core.events import Replayed
from kimi_magics.store.config import find_home
from kimi_magics.store.database import load
from kimi_magics.store.interrupts import uninterrupted
from kimi_magics.store.ledger import now
from kimi_magics.store.replays_values import Answer

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection, Engine

_Result = TypeVar("_Result")


class Replays:
    """The answers of a user; opened at the first need, safe to use from several threads.

    `limit_bytes` is asked before an answer is kept; `tell` is given one sentence when the file cannot be used; `clock`
    is for tests.
    """

    def __init__(
        self,
        *,
        limit_bytes: Callable[[], int],
        home: Path | None = None,
        tell: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._home = home
        self._tell = tell
        self._clock = clock
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        #: Why nothing is kept or replayed; empty while it is.
        self.trouble = ""

    @property
    def path(self) -> Path:
        """The file; it need not exist."""
        return (self._home or find_home()) / "replays.sqlite"

    @property
    def today(self) -> date:
        """The local day."""
        return self._clock().date()

    def close(self) -> None:
        """Let the database go."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def find(self, key: str, *, is_use: bool = True) -> Answer | None:
        """Return the answer that is kept under a key, or None; `is_use` notes that it was used."""
        if not self._is_there():
            return None

        def query(connection: Connection) -> Answer | None:
            from kimi_magics.store import replays_tables as tables

            return tables.find(connection, key)

        answer = self._do(query, is_writing=False)
        if answer is not None and is_use:
            self._touch(key)
        return answer

    def find_facts(self, key: str) -> Replayed | None:
        """Return what the answer under a key cost when it was billed, or None; that is no use of it."""
        if not self._is_there():
            return None

        def query(connection: Connection) -> Replayed | None:
            from kimi_magics.store import replays_tables as tables

            return tables.find_facts(connection, key)

        return self._do(query, is_writing=False)

    def put(self, answer: Answer, pieces: bytes, *, host: str, model: str) -> None:
        """Keep an answer in the place of an older one; one that has more than the whole bound is not kept."""
        limit = self._limit_bytes()
        if len(pieces) > limit:
            return

        def change(connection: Connection) -> None:
            from kimi_magics.store import replays_tables as tables

            tables.put(connection, answer, pieces, host=host, model=model)
            tables.shrink(connection, limit)

        self._do(change, is_writing=True)

    def clear(self) -> tuple[int, int] | None:
        """Forget all answers; return how many there were and their bytes, or None when the file cannot be used."""
        if not self._is_there():
            return 0, 0

        def change(connection: Connection) -> tuple[int, int]:
            from kimi_magics.store import replays_tables as tables

            size = tables.measure(connection)
            tables.empty(connection)
            return size

        size = self._do(change, is_writing=True)
        if size is not None:
            self._compact()
        return size

    def measure(self) -> tuple[int, int] | None:
        """Return how many answers are kept and their bytes, or None when the file cannot be used."""
        if not self._is_there():
            return 0, 0

        def query(connection: Connection) -> tuple[int, int]:
            from kimi_magics.store import replays_tables as tables

            return tables.measure(connection)

        return self._do(query, is_writing=False)

    # ------------------------------------------------------------ the database

    def _is_there(self) -> bool:
        """Tell whether there is a file; where that cannot be told, to open it says why."""
        try:
            return self.path.exists()
        except OSError:
            return True

    def _touch(self, key: str) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from kimi_magics.store import replays_tables as tables
        from kimi_magics.store.ledger_tables import writer

        # An answer that is there is worth more than the note that it was used.
        with suppress(SQLAlchemyError, OSError), uninterrupted(), writer(self._open()).begin() as connection:
            tables.touch(connection, key)

    def _compact(self) -> None:
        """Give what is free back to the disk, so that nothing of the answers stays in the file."""
        import sqlite3

        from sqlalchemy.exc import SQLAlchemyError

        # On the driver's connection, since it cannot be done within a transaction.
        troubles = (SQLAlchemyError, sqlite3.Error, OSError)
        with suppress(*troubles), uninterrupted(), self._open().connect() as connection:
            driver = connection.connection.driver_connection
            if driver is not None:
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _do(self, job: Callable[[Connection], _Result], *, is_writing: bool) -> _Result | None:
        """Return what a job finds; None when the file cannot be used."""
        if self.trouble:
            return None
        load()
        from sqlalchemy.exc import SQLAlchemyError

        from kimi_magics.store.ledger_tables import writer
        from kimi_magics.store.replays_tables import NewerReplaysError

        try:
            with uninterrupted():
                engine = self._open()
                with (writer(engine) if is_writing else engine).begin() as connection:
                    return job(connection)
        except (SQLAlchemyError, OSError, NewerReplaysError, ValueError) as error:
            self._give_up(error)
            return None

    def _open(self) -> Engine:
        from sqlalchemy.engine import URL

        from kimi_magics.store import replays_tables as tables
        from kimi_magics.store.ledger_tables import open_engine

        with self._lock:
            if self._engine is not None and not self._is_there():
                self.close()  # deleted by hand
            if self._engine is None:
                engine = open_engine(URL.create("sqlite", database=str(self.path)))
                try:
                    tables.prepare(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _give_up(self, error: Exception) -> None:
        """Go on without, and say so once."""
        from kimi_magics.store.replays_tables import NewerReplaysError

        with self._lock:
            if self.trouble:
                return
            if isinstance(error, NewerReplaysError):
                reason, remedy = "were written by a later version of kimi_magics", "pip install --upgrade kimi-magics"
            else:
                cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0:1]
                reason = f"cannot be used: {cause[0][:200] if cause else type(error).__name__}"
                remedy = "free the disk, mend or delete the file, or point KIMI_MAGICS_HOME to another folder"
            self.trouble = (
                f"the answers that are kept ({self.path}) {reason}; this kernel neither replays nor keeps any"
                f" — {remedy}, then restart the kernel"
            )
            self.close()
        self._tell(self.trouble)
