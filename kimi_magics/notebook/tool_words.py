"""The words for a call of a tool: the call as Python would write it, its outcome, and the whole within bounds.

The promise: whatever the model or the tool wrote, what is returned is bounded and holds no control characters.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kimi_magics.core.events import ToolReturned
from kimi_magics.core.messages import ToolCall
from kimi_magics.core.tools import WEB_SEARCH_NAME

#: So many characters are shown of arguments, of a result, and of what the model said between its calls.
MOST_CHARACTERS = 2_000
_MOST_LINE, _MOST_VALUE, _MOST_OUTCOME = 80, 40, 60
_DEEPEST = 3
#: Longer arguments are not worth the time of reading them as JSON.
_MOST_READ = 100_000
# Escape sequences could rewrite the terminal: only line breaks and tabs pass.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# These turn the order of letters around, so that a result could pass for something else.
_TURNING = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


def describe_call(call: ToolCall) -> str:
    """Return a call as Python would write it, short and on one line, as in `weather(city="Paris")`."""
    if is_search(call):
        return "searching the web"
    return f"{describe_name(call.name)}({_describe_keywords(call.arguments)})"


def printable(text: str) -> str:
    """Return text as a terminal may print it."""
    return _CONTROL.sub("", text)


def describe_name(name: str) -> str:
    """Return the name of a tool, which need not be one."""
    return one_line(name, _MOST_LINE)


def is_search(call: ToolCall) -> bool:
    """Tell whether the call is a search of the web by the host."""
    return call.kind == "builtin_function" and call.name == WEB_SEARCH_NAME


def describe_outcome(event: ToolReturned) -> str:
    """Return the first line of the result, as in `21 °C, sunny` or `failed: there is no such city`."""
    text = event.text.strip()
    first = text[:MOST_CHARACTERS].split("\n", 1)[0]
    line = one_line(first, _MOST_OUTCOME)
    if len(first) < len(text) and not line.endswith("…"):
        line += " …"
    images = "" if not event.images else "1 image" if event.images == 1 else f"{event.images:,} images"
    words = " + ".join(part for part in (line, images) if part) or "nothing"
    return f"failed: {words}" if event.is_error else words


def describe_time(event: ToolReturned) -> str:
    """Return how long it took, as in `0.3 s`; empty for a moment."""
    # A moment is not worth a figure, and least of all the figure 0.
    return f"{event.seconds:.1f} s" if event.seconds >= 0.05 else ""


def _describe_keywords(arguments: str) -> str:
    values = _read_object(arguments)
    if values is None or not all(name.isidentifier() for name in values):
        return one_line(arguments, _MOST_LINE)
    return one_line(", ".join(f"{name}={_literal(value)}" for name, value in values.items()), _MOST_LINE)


def describe_arguments(arguments: str) -> str:
    """Return the arguments to read, within bounds; empty where there are none."""
    values = _read_object(arguments)
    if values == {}:
        return ""
    try:
        return bound(arguments if values is None else json.dumps(values, ensure_ascii=False, indent=2))
    except RecursionError:
        return bound(arguments)


def _read_object(arguments: str) -> dict[str, Any] | None:
    if not arguments.strip():
        return {}
    if len(arguments) > _MOST_READ:
        return None
    try:
        values = json.loads(arguments)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _literal(value: Any, depth: int = 0) -> str:
    """Write a value of JSON as Python would, short."""
    if isinstance(value, str):
        return json.dumps(_cut(value, _MOST_VALUE), ensure_ascii=False)
    if isinstance(value, list | dict) and depth == _DEEPEST:
        return "…"
    if isinstance(value, list):
        return f"[{', '.join(_literal(one, depth + 1) for one in value[:_MOST_VALUE])}]"
    if isinstance(value, dict):
        pairs = list(value.items())[:_MOST_VALUE]
        return "{" + ", ".join(f"{_literal(name)}: {_literal(one, depth + 1)}" for name, one in pairs) + "}"
    return repr(value)


def bound(text: str) -> str:
    """Return the beginning of a long text, and how much of it is left out."""
    more = len(text) - MOST_CHARACTERS
    return _clean(text[:MOST_CHARACTERS]) + (f"\n… {more:,} more characters" if more > 0 else "")


def one_line(text: str, most: int) -> str:
    """Return text on one line of at most so many characters."""
    return _cut(join_lines(_clean(text[: 4 * MOST_CHARACTERS])), most)


def join_lines(text: str) -> str:
    """Return text on one line, with single spaces."""
    return " ".join(text.split())


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _clean(text: str) -> str:
    """Return text without what a page or a terminal would not show as a letter; half a character cannot be sent."""
    return _TURNING.sub("", printable(text)).encode("utf-8", "replace").decode()
