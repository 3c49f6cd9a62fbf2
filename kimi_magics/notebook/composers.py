"""The composers that are open in one notebook: which cell opened which, and when they end."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from kimi_magics.core.ask import Ask
from kimi_magics.notebook.cell_runs import cell_id
from kimi_magics.notebook.comms import LatestParents
from kimi_magics.notebook.composer import Composer, Services
from kimi_magics.notebook.composer_parts import Fields, write_flags

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: In a front end that does not name its cells, one cannot tell which composer a cell opened before.
_MOST_COMPOSERS = 16


class Composers:
    """The composers of one shell; the newest one of each cell is open."""

    def __init__(self, shell: InteractiveShell, services: Services) -> None:
        self._shell = shell
        self._services = services
        self._parents = LatestParents(shell)
        #: By the cell's id: what its line said, and the composer.
        self._open: dict[str, tuple[str, Composer]] = {}
        self._parents.open()
        shell.events.register("post_run_cell", self._take_cell_end)

    def open(self, ask: Ask, *, typed: str) -> Composer:
        """Show a composer in place of the cell's last one; where `typed` is the same, it goes on with the draft."""
        fields = Fields(ask.text, ask.model or "", write_flags(ask))
        key = cell_id(self._shell) or f"nameless-{uuid4().hex}"
        if key in self._open:
            typed_before, before = self._open.pop(key)
            fields = before.fields if typed == typed_before else fields
            before.close()
        composer = Composer(self._shell, self._services, fields, parents=self._parents)
        self._open[key] = typed, composer
        if len(self._open) > _MOST_COMPOSERS:
            self._open.pop(next(iter(self._open)))[1].close()
        composer.display()
        return composer

    def close(self) -> None:
        """Take all of them away."""
        self._parents.close()
        with suppress(ValueError):
            self._shell.events.unregister("post_run_cell", self._take_cell_end)
        while self._open:
            self._open.popitem()[1][1].close()

    def _take_cell_end(self, _result: object = None) -> None:
        for _typed, composer in list(self._open.values()):
            composer.take_cell_end()
