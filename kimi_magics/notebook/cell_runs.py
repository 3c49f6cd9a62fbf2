"""Whether a cell runs, and how many have: what is known of variables is true until the next one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class CellRuns:
    """Watches the cells of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        #: The extension is loaded by a cell, or before there is any.
        self.is_busy = False
        self.count = 0

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

    def _end(self, _result: object = None) -> None:
        self.is_busy = False
        self.count += 1


def cell_id(shell: InteractiveShell) -> str | None:
    """Return the id of the running cell as a live front end names it, or None."""
    get_parent = getattr(shell, "get_parent", None)
    if get_parent is None:
        return None
    parent: dict[str, Any] = get_parent() or {}
    found = (parent.get("metadata") or {}).get("cellId")
    return found if isinstance(found, str) else None
