"""`{{name}}` is filled in once, from left to right; `{{a.b}}`, `{{a[0]}}` and `{{a['k']}}` as well.

Nothing is called, what was filled in is not looked at again, and every other brace is text.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from kimi_magics.errors import VariableError

_PLACE = re.compile(r"\{\{([^{}]{1,200})\}\}")


def interpolate(text: str, variables: Mapping[str, Any]) -> str:
    """Fill in every `{{name}}` of `text` once. Raises VariableError for a name, attribute or key that is not there."""
    return _PLACE.sub(lambda match: _fill(match, variables), text)


def _fill(match: re.Match[str], variables: Mapping[str, Any]) -> str:
    place, path = match[0], _parse_path(match[1])
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
        return str(value)
    except Exception as error:  # noqa: BLE001 — str() runs the user's code, which may raise anything
        raise VariableError(f"{place} cannot be written as text: {type(error).__name__}: {error}") from None


def find_names(text: str) -> set[str]:
    """Return the names of the variables that `interpolate` would look up in `text`."""
    paths = (_parse_path(match[1]) for match in _PLACE.finditer(text))
    return {path[0][1] for path in paths if isinstance(path, list)}


def resolve(source: str, variables: Mapping[str, Any]) -> Any:
    """Return the value that a name, attribute or constant index stands for, as inside `{{…}}`. Raises VariableError."""
    path = _parse_path(source)
    if not isinstance(path, list):
        raise VariableError(f"{source} is not a name", remedy="write name, name.part, name[0] or name['key']")
    return _walk(source, path, variables)


def _walk(place: str, path: list[tuple[str, Any]], variables: Mapping[str, Any]) -> Any:
    value: Any = variables
    for kind, key in path:
        value = _step(place, kind, key, value)
    return value


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
