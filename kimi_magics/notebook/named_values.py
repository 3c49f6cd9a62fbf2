"""The variables that a piece of code names, in few words: name, type, and a short form of the value.

Nothing else is told of the kernel, and nothing that looks like a key or a password. Whatever the values, nothing is
raised.
"""

from __future__ import annotations

import ast
import inspect
import io
import keyword
import re
import reprlib
import tokenize
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from kimi_magics.core.fixing import HIDDEN, is_secret_name
from kimi_magics.notebook.frames import write_frame

_MOST_LETTERS = 300
_MOST_FRAME_LETTERS = 1_500
_FRAME_ROWS = 6
_MAGIC_LINE = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdeque = _SHORT.maxarray = 10
_SHORT.maxdict, _SHORT.maxlevel, _SHORT.maxlong = 15, 3, 60
_SHORT.maxstring = _SHORT.maxother = _MOST_LETTERS


def find_names(source: str, *, line: int = 1) -> list[str]:
    """Return the names that code reads, those nearest to `line` first; of broken code as far as it goes."""
    # What stands in a cell beside Python: the magics.
    code = _MAGIC_LINE.sub(r"\1pass", source)
    try:
        found = list(_parse_names(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = list(_scan_names(code))
    found.sort(key=lambda one: abs(one[1] - line))
    return list(dict.fromkeys(name for name, _ in found))


def _parse_names(code: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.lineno


def _scan_names(code: str) -> Iterator[tuple[str, int]]:
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.NAME and before != "." and not keyword.iskeyword(token.string):
                yield token.string, token.start[0]
            before = token.string
    except (tokenize.TokenError, SyntaxError):
        return


def write_variable(name: str, value: Any) -> str:
    """Return a variable as an item of a list, of several lines for a table."""
    try:
        text = _write_value(name, value)
    except Exception as error:  # noqa: BLE001 — values are foreign code, down to their attributes
        text = f"{type(value).__name__}, which cannot be shown: {type(error).__name__}"
    return f"- `{name}`: {text}"


def _write_value(name: str, value: Any) -> str:
    if isinstance(value, str | bytes) and is_secret_name(name):
        return f"{type(value).__name__}, {HIDDEN}"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if isinstance(value, type):
        return f"the class {_name_type(value)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"{type(value).__name__} {value.__name__}{_write_signature(value)}"
    table = write_frame(value, rows=_FRAME_ROWS)
    if table is not None:
        return _indent(_cut(table, _MOST_FRAME_LETTERS))
    kind = _name_type(type(value))
    if isinstance(value, str | bytes | list | tuple | set | frozenset | Mapping):
        kind += f" of length {len(value):,}"
    return f"{kind}, {_cut(_ADDRESS.sub('', _SHORT.repr(value)), 2 * _MOST_LETTERS)}"


def _write_signature(value: Any) -> str:
    try:
        # Defaults may be anything, so that only the names are told.
        return f"({', '.join(inspect.signature(value).parameters)})"
    except (TypeError, ValueError):
        return ""


def _name_type(kind: type) -> str:
    module = str(kind.__module__)
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
