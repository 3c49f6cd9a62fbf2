"""Which cell runs, how many have, and how cells stand: what is known of variables is true until the next one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: Takes the id of a cell, None where the front end names none.
Watcher = Callable[[str | None], None]


class CellRuns:
    """Watches the cells of one shell.

    A cell that runs others, by `get_ipython().run_cell`, is one run: it begins and ends once.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        #: The extension is loaded by a cell, or before there is any.
        self.is_busy = False
        #: How many cells have ended, those that other cells ran included.
        self.count = 0
        #: How many runs have begun.
        self.begun = 0
        self._depth = 0
        self._request: str | None = None
        self._watchers: list[tuple[Watcher, Watcher]] = []

    def watch(self, begin: Watcher, end: Watcher) -> None:
        """Have `begin` and `end` called with the cell's id, at the beginning and the end of each run."""
        self._watchers.append((begin, end))

    def open(self) -> None:
        """Begin to watch."""
        self._shell.events.register("pre_run_cell", self._begin)
        self._shell.events.register("post_run_cell", self._end)

    def close(self) -> None:
        """Watch no more."""
        for name, callback in (("pre_run_cell", self._begin), ("post_run_cell", self._end)):
            with contextlib.suppress(ValueError):
                self._shell.events.unregister(name, callback)

    def _begin(self, _info: object = None) -> None:
        self.is_busy = True
        request = _request_id(self._shell)
        # Counted anew with each request of the front end: a run may begin and never be said to end.
        is_inner = request is not None and request == self._request and self._depth > 0
        self._depth = self._depth + 1 if is_inner else 1
        self._request = request
        if not is_inner:
            self.begun += 1
            for begin, _ in self._watchers:
                begin(cell_id(self._shell))

    def _end(self, _result: object = None) -> None:
        self.count += 1
        if self._depth > 1:
            self._depth -= 1
            return
        self.is_busy = False
        if self._depth == 1:
            self._depth = 0
            for _, end in self._watchers:
                end(cell_id(self._shell))


class CellOrders:
    """The cells of each notebook from top to bottom, as its page told last; safe to use from several threads."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._orders: dict[str, tuple[int, tuple[str, ...]]] = {}

    def take(self, page: str, seq: int, cells: Sequence[str]) -> None:
        """Take what a page tells; `seq` grows, since one message may overtake another.

        What another page told of the same cells is outdated. A page that is gone may come back: what it told stays.
        """
        with self._lock:
            if seq <= self._orders.get(page, (-1, ()))[0]:
                return
            self._orders.pop(page, None)
            told = set(cells)
            others = {other: row for other, row in self._orders.items() if told.isdisjoint(row[1])}
            self._orders = {**dict(list(others.items())[1 - self._most :]), page: (seq, tuple(cells))}

    def find(self, cell: str) -> tuple[str, ...] | None:
        """Return the cells of the notebook that holds `cell`; None when no page told of it."""
        with self._lock:
            return next((cells for _, cells in self._orders.values() if cell in cells), None)


def cell_id(shell: InteractiveShell) -> str | None:
    """Return the id of the running cell as a live front end names it, or None."""
    found = (_parent(shell).get("metadata") or {}).get("cellId")
    return found if isinstance(found, str) else None


def _request_id(shell: InteractiveShell) -> str | None:
    """Return the id of the request that runs a cell; None in a terminal."""
    found = (_parent(shell).get("header") or {}).get("msg_id")
    return found if isinstance(found, str) else None


def _parent(shell: InteractiveShell) -> dict[str, Any]:
    get_parent = getattr(shell, "get_parent", None)
    parent: dict[str, Any] = (get_parent() or {}) if get_parent is not None else {}
    return parent
