"""The calls that an exception went through, and their code as far as it stands in cells of the notebook.

Of other code only the names are told: neither its text nor where it lies on this machine.
"""

from __future__ import annotations

import ast
import linecache
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from traceback import walk_tb
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_MOST_CALLS, _FIRST_CALLS, _MOST_FUNCTIONS = 12, 4, 4
#: A longer cell is shown around the line that failed; a longer line is data.
_MOST_LINES, _LINES_AROUND, _MOST_LINE_LETTERS = 400, 100, 1_000


@dataclass(frozen=True, slots=True, eq=False)  # the variables are anything
class Call:
    """A step of the traceback; `cell` is the number of the cell whose code it is, None for a library."""

    name: str
    line: int
    where: str
    cell: int | None = None
    code: CodeType | None = None
    variables: Mapping[str, Any] | None = None


def list_calls(shell: InteractiveShell, error: BaseException) -> Iterator[Call]:
    """Yield the calls of an exception, the outermost first; for code that does not compile also its place."""
    for frame, line in walk_tb(error.__traceback__):
        yield _read_call(shell, frame, line)
    if isinstance(error, SyntaxError) and error.filename:
        number = _find_number(shell, error.filename)
        if number is not None:
            yield Call("<module>", error.lineno or 1, error.filename, number)


def _read_call(shell: InteractiveShell, frame: FrameType, line: int) -> Call:
    code = frame.f_code
    number = _find_number(shell, code.co_filename)
    if number is None:
        module = frame.f_globals.get("__name__")
        # Not the path, which tells of the machine.
        where = module if isinstance(module, str) and module != "__main__" else PurePath(code.co_filename).name
        return Call(code.co_qualname, line, where)
    return Call(code.co_qualname, line, code.co_filename, number, code, ChainMap(frame.f_locals, frame.f_globals))


def _find_number(shell: InteractiveShell, filename: str) -> int | None:
    """Return the number of the cell that was compiled under a file's name; None for other code."""
    if not hasattr(shell.compile, "format_code_name"):  # IPython before 8.7
        number: int | None = getattr(shell.compile, "_filename_map", {}).get(filename)
        return number
    label = shell.compile.format_code_name(filename)
    found = re.search(r"\d+", label[1]) if label else None
    return int(found[0]) if found else None


def name_calls(calls: list[Call]) -> list[str]:
    """Return the calls as the items of a list; of very many the first and the last."""
    if len(calls) <= _MOST_CALLS:
        return [_name_call(call) for call in calls]
    last = _MOST_CALLS - _FIRST_CALLS
    between = f"- … {len(calls) - _MOST_CALLS:,} more calls"
    return [*map(_name_call, calls[:_FIRST_CALLS]), between, *map(_name_call, calls[-last:])]


def _name_call(call: Call) -> str:
    inside = "" if call.name == "<module>" else f"{call.name} in "
    if call.cell is None:
        return f"- {inside}{call.where}, line {call.line}"
    text = linecache.getline(call.where, call.line).strip()
    return f"- {inside}In[{call.cell}], line {call.line}" + (f": {text[:200]}" if text else "")


# ---------------------------------------------------------------- the code


def read_cell(shell: InteractiveShell, call: Call) -> str:
    """Return the cell of a call as typed; where that is not known, as it was compiled."""
    compiled = "".join(linecache.getlines(call.where))
    history = shell.history_manager
    typed = list(history.input_hist_raw) if history is not None else []
    source = typed[call.cell] if call.cell is not None and call.cell < len(typed) else ""
    if not compiled or source.strip() == compiled.strip():
        return source or compiled
    try:
        # A cell that was run without a trace in the history has the number of another one.
        compiled_now: str = shell.transform_cell(source)  # type: ignore[no-untyped-call]
        is_same = compiled_now.strip() == compiled.strip()
    except Exception:  # noqa: BLE001 — transformers are also those of others, and the text may be no Python
        is_same = False
    return source if is_same else compiled.rstrip("\n")


def list_functions(calls: list[Call], failed: str) -> list[tuple[Call, str, int]]:
    """Return the functions of other cells than the `failed` one: a call, the text, and which line of it was reached.

    Each comes once, with its last call.
    """
    found = {call.code: call for call in calls if call.code is not None and call.where != failed}
    return [(call, *_read_function(call)) for call in list(found.values())[-_MOST_FUNCTIONS:]]


def _read_function(call: Call) -> tuple[str, int]:
    """Return the text of the function that holds the line, and the line in it; outside of any the line alone."""
    lines = linecache.getlines(call.where)
    try:
        nodes = list(ast.walk(ast.parse("".join(lines))))
    except (SyntaxError, ValueError, RecursionError):
        nodes = []
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            end = node.end_lineno or node.lineno
            if start <= call.line <= end:
                return "".join(lines[start - 1 : end]).rstrip("\n"), call.line - start + 1
    return "".join(lines[call.line - 1 : call.line]).rstrip("\n"), 1


def cut_lines(source: str, line: int) -> str:
    """Return the lines around `line`, and where lines were left out."""
    lines = [
        text if len(text) <= _MOST_LINE_LETTERS else f"{text[:_MOST_LINE_LETTERS]} # … the line is cut"
        for text in source.split("\n")
    ]
    if len(lines) <= _MOST_LINES:
        return "\n".join(lines)
    start, end = max(0, line - 1 - _LINES_AROUND), line + _LINES_AROUND
    before = [f"# … {start} lines left out"] if start else []
    after = [f"# … {len(lines) - end} lines left out"] if end < len(lines) else []
    return "\n".join([*before, *lines[start:end], *after])
