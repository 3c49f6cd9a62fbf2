"""`{{name}}` is filled in once, from left to right; `{{a.b}}`, `{{a[0]}}` and `{{a['k']}}` as well.

Nothing is called, what was filled in is not looked at again, and every other brace is text. `{{name:all}}` asks for the
whole of a value that is otherwise shown by a sample.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kimi_magics.errors import VariableError

#: Writes a value in a way of its own, the whole of it where the second argument says so; None leaves it to `str`.
Write = Callable[[Any, bool], str | None]

_PLACE = re.compile(r"\{\{([^{}]{1,200})\}\}")
_WHOLE = ":all"
#: What IPython keeps of the cells that were run, by their number.
_HISTORY = {
    "In": "no cell with the number {} was run in this kernel",
    "Out": "the cell with the number {} left no result in this kernel",
}


def interpolate(text: str, variables: Mapping[str, Any], *, write: Write | None = None) -> str:
    """Fill in every `{{name}}` of `text` once. Raises VariableError for a name, attribute or key that is not there.

    `write` turns values that it knows, such as tables, into text; all others are written by `str`.
    """
    return _PLACE.sub(lambda match: _fill(match, variables, write), text)


def _fill(match: re.Match[str], variables: Mapping[str, Any], write: Write | None) -> str:
    place, path, is_whole = match[0], *_parse_place(match[1])
    if path is None:
        return place
    if isinstance(path, str):
        raise VariableError(
            f"{place} would call {path}, and a prompt calls nothing",
            remedy=f"put the result into a variable first, as in value = {match[1].strip()}, and write {{{{value}}}}"
            "; or send the braces as typed with --raw",
        )
    value = _walk(place, path, variables)
    try:
        text = write(value, is_whole) if write is not None else None
        return str(value) if text is None else text
    except Exception as error:  # noqa: BLE001 — str() runs the user's code, which may raise anything
        raise VariableError(f"{place} cannot be written as text: {type(error).__name__}: {error}") from None


def find_names(text: str) -> set[str]:
    """Return the names of the variables that `interpolate` would look up in `text`."""
    paths = (_parse_place(match[1])[0] for match in _PLACE.finditer(text))
    return {path[0][1] for path in paths if isinstance(path, list)}


def resolve(source: str, variables: Mapping[str, Any]) -> Any:
    """Return the value that a name, attribute or constant index stands for, as inside `{{…}}`. Raises VariableError."""
    path = _parse_path(source)
    if not isinstance(path, list):
        raise VariableError(f"{source} is not a name", remedy="write name, name.part, name[0] or name['key']")
    return _walk(source, path, variables)


def _walk(place: str, path: list[tuple[str, Any]], variables: Mapping[str, Any]) -> Any:
    value: Any = variables
    for at, (kind, key) in enumerate(path):
        if at == 1 and kind == "item" and isinstance(value, list | dict):
            _check_history(place, path[0][1], key, value)
        value = _step(place, kind, key, value)
    return value


def _check_history(place: str, name: str, key: Any, value: Any) -> None:
    """Say of `In[9]` and `Out[9]` what is missing: the words for lists and dictionaries would explain nothing."""
    if name not in _HISTORY or not isinstance(key, int):
        return
    is_there = -len(value) <= key < len(value) if isinstance(value, list) else key in value
    if not is_there:
        numbers = list(value) if isinstance(value, dict) else list(range(1, len(value)))
        known = f"those that are there: {_list_last(numbers)}" if numbers else f"{name} is empty"
        raise VariableError(f"{place}: {_HISTORY[name].format(key)}", remedy=f"run the cell first; {known}")


def _list_last(numbers: list[Any]) -> str:
    return ("… " if len(numbers) > 5 else "") + ", ".join(map(str, numbers[-5:]))


def _step(place: str, kind: str, key: Any, value: Any) -> Any:
    try:
        return getattr(value, key) if kind == "attribute" else value[key]
    except Exception as error:  # noqa: BLE001 — a property or __getitem__ of the user may raise anything
        if kind == "name":
            what, names = f"{place}: there is no variable {key!r}", value
        elif kind == "attribute":
            what, names = f"{place}: {type(value).__name__} has no attribute {key!r}", dir(value)
        else:
            what = f"{place}: {type(error).__name__} for [{key!r}] of {type(value).__name__}"
            names = value if isinstance(value, Mapping) else ()
        raise VariableError(what, remedy=_suggest(key, names)) from None


def _suggest(key: Any, names: Iterable[Any]) -> str:
    candidates = [name for name in names if isinstance(name, str) and not name.startswith("_")]
    close = difflib.get_close_matches(str(key), candidates, n=1, cutoff=0.6)
    advice = f"did you mean {close[0]!r}? " if close else "define it before this cell. "
    return advice + "With --raw the braces go as typed"


def _parse_place(source: str) -> tuple[list[tuple[str, Any]] | str | None, bool]:
    """Read what stands between the braces, and whether the whole value is wanted, as in `{{table:all}}`."""
    before = source.rstrip().removesuffix(_WHOLE)
    path = _parse_path(before) if before != source.rstrip() and before == before.rstrip() else None
    if isinstance(path, list):
        return path, True
    # Other colons are text, as in {{a:b}}.
    return _parse_path(source), False


def _parse_path(source: str) -> list[tuple[str, Any]] | str | None:
    """Read what stands between the braces: the steps of a path, the call that it makes, or None for plain text."""
    try:
        with warnings.catch_warnings():
            # A stray backslash between the braces is the user's text, not a slip in our code.
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    call = next((node for node in ast.walk(tree) if isinstance(node, ast.Call)), None)
    if call is not None:
        return f"{ast.unparse(call.func)}()"
    return _read_steps(tree)


def _read_steps(node: ast.expr) -> list[tuple[str, Any]] | None:
    if isinstance(node, ast.Name):
        return [("name", node.id)]
    if isinstance(node, ast.Attribute):
        before = _read_steps(node.value)
        return before and [*before, ("attribute", node.attr)]
    if isinstance(node, ast.Subscript):
        before = _read_steps(node.value)
        try:
            key = ast.literal_eval(node.slice)
        except (ValueError, TypeError):
            return None
        return before and [*before, ("item", key)] if isinstance(key, str | int) else None
    return None
