"""Other cells of the notebook, source and text output, for a prompt that names them with `--cell`.

A page that shows the notebook is asked first, since it has what is not saved yet; else the saved file is read; else the
kernel tells what it ran, where what was printed is not known.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_magics.core.messages import Message
from kimi_magics.errors import RefusedError
from kimi_magics.notebook.cell_outputs import fence, write_outputs, write_safely

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_ABOVE = re.compile(r"-[1-9]\d{0,4}")
_NUMBER = re.compile(r"[1-9]\d{0,8}")
_REMEDY = "name its id or the beginning of it, its number as in 3 for [3], or -1 for the cell above"
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the notebook: `kind` is code, markdown or raw; `label` is what messages call it."""

    id: str
    kind: str
    source: str
    outputs_text: str
    label: str


class NotebookCells:
    """Finds cells in the notebook of one kernel.

    `ask_page` gives a page's answer to a question, a list, or None when no page answers; `find_path` gives the saved
    notebook, or None; `shell` knows what it ran.
    """

    def __init__(
        self,
        ask_page: Callable[[dict[str, Any]], Any],
        find_path: Callable[[], Path | None],
        shell: InteractiveShell,
    ) -> None:
        self._ask_page = ask_page
        self._find_path = find_path
        self._shell = shell

    def find(self, wanted: str, *, running: str | None) -> Cell:
        """Return the cell that `wanted` names for the cell with the id `running`. Raises RefusedError.

        That is an id or the beginning of one, `-1` for the cell above, or the number of a cell that was run.
        """
        name = _shorten(wanted)
        if not wanted.strip() or re.fullmatch(r"[-+]?0+", wanted):
            raise RefusedError(f"--cell {name} names no cell", remedy=_REMEDY)
        cell = self._find_on_page(wanted, running) or self._find_in_file(wanted, running)
        cell = cell or self._find_in_history(wanted, is_running=True)
        if not cell.source.strip() and not cell.outputs_text:
            raise RefusedError(f"{cell.label} is empty", remedy="name another cell")
        return cell

    def peek(self, wanted: str) -> Cell | None:
        """Return the cell as far as it is known without asking anybody, as in a terminal; None when it is not.

        Raises RefusedError.
        """
        if getattr(self._shell, "kernel", None) is not None:
            return None
        return self._find_in_history(wanted, is_running=False)

    # ------------------------------------------------------------ on the page

    def _find_on_page(self, wanted: str, running: str | None) -> Cell | None:
        rows = self._ask({"what": "cells", "name": running or ""})
        has_running = bool(rows) and running is not None
        if rows == [] and running:
            # What asks may be no cell, as a composer.
            rows = self._ask({"what": "cells", "name": ""})
        if not rows:
            return None
        found = self._pick(wanted, rows, running if has_running else None, read=self._read_on_page)
        row = self._read_on_page(found)
        if row is None:
            raise RefusedError(f"{_name(found)} is no longer there", remedy=_REMEDY)
        return _make_cell(row)

    def _read_on_page(self, row: _Row) -> _Row | None:
        return next(iter(self._ask({"what": "cell", "name": row["id"]}) or ()), None)

    def _ask(self, question: dict[str, str]) -> list[_Row] | None:
        rows = self._ask_page({"op": "pictures", **question})
        if rows is None:
            return None
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]

    # ------------------------------------------------------------ in the file

    def _find_in_file(self, wanted: str, running: str | None) -> Cell | None:
        rows = self._read_file()
        if not rows:
            return None
        is_there = running is not None and any(row.get("id") == running for row in rows)
        if _ABOVE.fullmatch(wanted) and not is_there:
            # A front end may name cells by other ids than its file: then the text tells which one runs.
            typed = self._typed()
            same = [row for row in rows if typed and row.get("cell_type") == "code" and _source(row) == typed[-1]]
            if len(same) != 1:
                return None
            rows = [{**row, "runs": True} if row is same[0] else row for row in rows]
        elif self._is_outdated(wanted, rows):
            return None
        return _make_cell(self._pick(wanted, rows, running if is_there else None, read=lambda row: row))

    def _is_outdated(self, wanted: str, rows: Sequence[_Row]) -> bool:
        """Tell whether the kernel ran something else under the number that is wanted than the file has under it."""
        if not _NUMBER.fullmatch(wanted) or any(row.get("id") == wanted for row in rows):
            return False
        ran = self._ran(int(wanted))
        same = [row for row in rows if row.get("execution_count") == int(wanted) and _source(row) == ran]
        return ran is not None and not same

    def _read_file(self) -> list[_Row]:
        path = self._find_path()
        try:
            content = json.loads(path.read_text("utf-8")) if path is not None else None
        except (OSError, ValueError):
            return []
        cells = content.get("cells") if isinstance(content, dict) else None
        # A notebook of a format before version 4 has its cells elsewhere.
        return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []

    # ------------------------------------------------------------ which one is meant

    def _pick(
        self, wanted: str, rows: Sequence[_Row], running: str | None, *, read: Callable[[_Row], _Row | None]
    ) -> _Row:
        """Return the cell that is meant among those of a notebook, from top to bottom. Raises RefusedError."""
        if _ABOVE.fullmatch(wanted):
            return _pick_above(int(wanted), rows, running)
        found = [row for row in rows if row.get("id") == wanted]
        if not found and _NUMBER.fullmatch(wanted):
            found = [row for row in rows if row.get("execution_count") == int(wanted)]
            if len(found) > 1:
                # A number may be left from an earlier kernel: this one knows what it ran.
                ran = self._ran(int(wanted))
                found = [row for row in found if ran is not None and _source(read(row) or {}) == ran] or found
        found = found or [row for row in rows if str(row.get("id") or "").startswith(wanted)]
        if not found:
            raise RefusedError(f"--cell {_shorten(wanted)}: there is no such cell", remedy=_advise(wanted, rows))
        if len(found) > 1:
            names = ", ".join(str(row.get("id") or "(no id)") for row in found[:5])
            raise RefusedError(
                f"--cell {_shorten(wanted)} fits {len(found)} cells", remedy=f"name the one that is meant: {names}"
            )
        if running is not None and found[0].get("id") == running:
            raise RefusedError(f"--cell {_shorten(wanted)} is the cell that asks", remedy="name another one")
        return found[0]

    # ------------------------------------------------------------ what the kernel ran

    def _typed(self) -> list[str]:
        """Return what was typed into the cells, by their number; the running one is the last."""
        history = self._shell.history_manager
        return [] if history is None else list(history.input_hist_raw)

    def _ran(self, number: int) -> str | None:
        """Return what was run under a number before the cell that runs."""
        typed = self._typed()
        return typed[number] if number < len(typed) - 1 else None

    def _find_in_history(self, wanted: str, *, is_running: bool) -> Cell:
        typed = self._typed()
        count = len(typed) - 1 if is_running else len(typed)
        above = bool(_ABOVE.fullmatch(wanted))
        if not above and not _NUMBER.fullmatch(wanted):
            raise RefusedError(
                f"--cell {_shorten(wanted)}: no page shows the notebook, and no saved one is known",
                remedy="without them a cell is named by its number, as in 3 for In[3], or by -1 for the last that ran",
            )
        number = count + int(wanted) if above else int(wanted)
        if not 1 <= number < count:
            ran = f"cells 1 to {count - 1} were run" if count > 1 else "no cell was run before this one"
            raise RefusedError(f"--cell {wanted}: there is no such cell in this kernel", remedy=f"{ran}; {_REMEDY}")
        history = self._shell.history_manager
        shown = history.output_hist_reprs.get(number) if history is not None else None
        result = write_safely(shown) if isinstance(shown, str) else ""
        note = "(what the cell printed is not known, only its result)"
        return Cell("", "code", typed[number], f"{result}\n{note}".strip(), f"the cell [{number}]")


def cell_message(cell: Cell) -> Message:
    """Return a cell as the message that goes before the prompt."""
    parts = [f"This is {cell.label} of the notebook, of the kind {cell.kind}.", fence(write_safely(cell.source))]
    if cell.outputs_text:
        parts += ["Its output:", fence(cell.outputs_text)]
    return Message("system", "\n\n".join(parts))


def _pick_above(offset: int, rows: Sequence[_Row], running: str | None) -> _Row:
    at = next((at for at, row in enumerate(rows) if row.get("runs") or (running and row.get("id") == running)), None)
    if at is None:
        raise RefusedError(
            f"--cell {offset}: it is not known which cell asks", remedy="name the cell by its id or its number"
        )
    if at + offset < 0:
        above = f"there are {at} cells above" if at > 1 else "there is one cell above" if at else "no cell is above"
        raise RefusedError(f"--cell {offset}: {above}", remedy=_REMEDY)
    return rows[at + offset]


def _make_cell(row: _Row) -> Cell:
    outputs = row.get("outputs")
    text = write_outputs([one for one in outputs if isinstance(one, dict)]) if isinstance(outputs, list) else ""
    return Cell(str(row.get("id") or ""), str(row.get("cell_type") or "code"), _source(row), text, _name(row))


def _name(row: _Row) -> str:
    number = row.get("execution_count")
    parts = [f"[{number}]"] if isinstance(number, int) else []
    parts += [f"with the id {row['id']}"] if row.get("id") else []
    return " ".join(["the cell", *parts])


def _source(row: _Row) -> str:
    source = row.get("source")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source or "")
    return text.rstrip("\n")  # as the history of IPython has it


def _advise(wanted: str, rows: Sequence[_Row]) -> str:
    names = [str(row["id"]) for row in rows if row.get("id")]
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    numbers = [row["execution_count"] for row in rows if isinstance(row.get("execution_count"), int)]
    known = f"the cells that were run are {', '.join(map(str, sorted(set(numbers))[:20]))}; " if numbers else ""
    return known + _REMEDY


def _shorten(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
