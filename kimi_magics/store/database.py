"""SQLAlchemy and what is built on it, imported late, and by one thread at a time.

Its modules import each other in circles. A thread that wants one of them (`sqlalchemy.exc`) while another is still at
the package gets what is there so far, and one of both fails: Python waits for a module, not for the packages around it.
Between our threads a lock helps. Against an import in a cell that runs meanwhile nothing does but to leave the import
to the thread that runs the cells.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from kimi_magics.store.interrupts import uninterrupted

RunOnMain = Callable[[Callable[[], None]], object]

#: How long another thread waits for the main one, which may run a long cell.
_PATIENCE_SECONDS = 2.0

_lock = threading.Lock()
_is_loaded = threading.Event()
_is_promised = threading.Event()


def load() -> None:
    """Import what the ledger and the replays need, unless it is there; call it before anything of SQLAlchemy."""
    if _is_loaded.is_set():
        return
    if _is_promised.is_set() and threading.current_thread() is not threading.main_thread():
        _is_loaded.wait(_PATIENCE_SECONDS)
    with uninterrupted(), _lock:
        if not _is_loaded.is_set():
            from sqlalchemy.dialects import sqlite  # noqa: F401 — what is asked for by name only later

            from kimi_magics.store import ledger_books, ledger_queue, replays_tables  # noqa: F401

            _is_loaded.set()


def load_soon(run_on_main: RunOnMain | None = None) -> None:
    """Have it imported before the first call needs it: it takes longer than all else that a call waits for.

    `run_on_main` has a job done on the main thread when no cell runs; without it a thread does it now.
    """
    if _is_loaded.is_set():
        return
    if run_on_main is None:
        threading.Thread(target=_try, name="kimi-database", daemon=True).start()
    else:
        _is_promised.set()
        run_on_main(_try)


def _try() -> None:
    with suppress(Exception):  # whoever needs it is told
        load()
