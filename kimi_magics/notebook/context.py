"""What `--file` and `--cell` name, as the messages that go right before the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kimi_magics.client.files import Tell
from kimi_magics.core.ask import Ask
from kimi_magics.core.messages import Message

if TYPE_CHECKING:
    from kimi_magics.notebook.cells import NotebookCells
    from kimi_magics.notebook.documents import Documents


class Context:
    """Finds documents and cells for one kernel; `tell` is told how far an upload is."""

    def __init__(
        self, documents: Callable[[], Documents], cells: Callable[[], NotebookCells], *, tell: Tell = lambda event: None
    ) -> None:
        self._documents, self._cells, self._tell = documents, cells, tell

    def find(self, ask: Ask, variables: Mapping[str, Any], *, cell: str | None) -> tuple[Message, ...]:
        """Return the messages for a run in the cell of this id. Raises RefusedError, and CallError of an upload."""
        # Cells first: they cost nothing, and what is wrong with one should stop an upload.
        cells = self._find_cells(ask, cell)
        return (*self._find_documents(ask, variables), *cells)

    def peek(
        self, ask: Ask, variables: Mapping[str, Any], *, cell: str | None, is_draft: bool
    ) -> tuple[tuple[Message, ...], tuple[str, ...]]:
        """Return the same as far as it is known without the host, and the names of what only a run reads.

        For a draft no page is asked either. Raises RefusedError.
        """
        messages: list[Message] = []
        pending: list[str] = []
        if ask.file:
            from kimi_magics.notebook.documents import document_message

            documents, unread = self._documents().peek(ask.file, variables)
            messages += map(document_message, documents)
            pending += unread
        if ask.cell and not is_draft:
            messages += self._find_cells(ask, cell)
        elif ask.cell:
            from kimi_magics.notebook.cells import cell_message

            for name in ask.cell:
                found = self._cells().peek(name)
                if found is None:
                    pending.append(f"cell {name}")
                else:
                    messages.append(cell_message(found))
        return tuple(messages), tuple(pending)

    def _find_documents(self, ask: Ask, variables: Mapping[str, Any]) -> tuple[Message, ...]:
        if not ask.file:
            return ()
        from kimi_magics.notebook.documents import document_message

        return tuple(map(document_message, self._documents().find(ask.file, variables, tell=self._tell)))

    def _find_cells(self, ask: Ask, cell: str | None) -> tuple[Message, ...]:
        if not ask.cell:
            return ()
        from kimi_magics.notebook.cells import cell_message

        return tuple(cell_message(self._cells().find(name, running=cell)) for name in ask.cell)
