"""How an answer in JSON is read.

Whatever text comes, reading it gives a value or a BadJsonError that says where it went wrong.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: Deeper ones are not read: whatever walks through them afterwards would run out of stack.
MAX_DEPTH = 100
# An object, or a list of objects, in the middle of a text; other braces and brackets are prose.
_BEGINNING = re.compile(r'\{(?=\s*["}])|\[(?=\s*\{)')
# What may be left of a word or number of which the end is missing.
_STUMP = re.compile(r"[\w.+\\-]*\s*")


class BadJsonError(ValueError):
    """A text is not the JSON that it should be: the message says where; `is_cut` tells whether its end is missing."""

    def __init__(self, message: str, *, is_cut: bool = False) -> None:
        super().__init__(message)
        self.is_cut = is_cut


def find_json(text: str) -> tuple[Any, str]:
    """Return the JSON value in a text, and the part of the text that it is.

    The value may stand in a fence or between words, when it is the only one. Raises BadJsonError when there is none or
    more than one, when it is broken or cut, nested deeper than MAX_DEPTH, has a key twice, or a number without bounds.
    """
    start = len(text) - len(text.lstrip(" \t\r\n\ufeff"))
    if start == len(text):
        raise BadJsonError("it is empty", is_cut=True)
    trouble = None
    try:
        value, end = _decode(text, start)
    except json.JSONDecodeError as error:
        trouble = _explain(error)
    else:
        if not text[end:].strip():
            return _bound(value), text[start:end]
    return _find_between_words(text, trouble if text[start] in "{[" else None)


def _find_between_words(text: str, trouble: BadJsonError | None) -> tuple[Any, str]:
    found: list[tuple[Any, int, int]] = []
    end = 0
    while match := _BEGINNING.search(text, end):
        try:
            value, end = _decode(text, match.start())
        except json.JSONDecodeError as error:
            # What stands inside of a broken object is not the answer.
            raise _explain(error) from None
        found.append((value, match.start(), end))
    if len(found) > 1:
        lines = [str(text.count("\n", 0, start) + 1) for _, start, _ in found]
        raise BadJsonError(f"it holds {len(found)} JSON values instead of one, in the lines {', '.join(lines[:5])}")
    if not found:
        raise trouble or BadJsonError(f"it holds no JSON object, it begins {_quote(text.lstrip())}")
    value, start, end = found[0]
    return _bound(value), text[start:end]


def _explain(error: json.JSONDecodeError) -> BadJsonError:
    rest = error.doc[error.pos :]
    is_string = error.msg.startswith("Unterminated string")
    is_cut = is_string or _STUMP.fullmatch(rest) is not None
    what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
    where = f"at {_quote(rest)}" if rest.strip() else "at the end"
    return BadJsonError(f"line {error.lineno}, column {error.colno}: {what} {where}", is_cut=is_cut)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 24 else text[:23] + "…")


def _decode(text: str, start: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError:
        raise BadJsonError(f"it is nested deeper than {MAX_DEPTH} levels") from None


def _bound(value: Any) -> Any:
    level, depth = [value], 0
    while held := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadJsonError(f"it is nested deeper than {MAX_DEPTH} levels")
        level = [part for node in held for part in (node.values() if isinstance(node, dict) else node)]
    return value


def _read_constant(word: str) -> Any:
    raise BadJsonError(f"{word} is not a number in JSON")


def _read_integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's own bound on the length, against which a long one takes for ever
        raise BadJsonError(f"it holds a number of {len(digits)} digits") from None


def _read_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadJsonError(f"it holds the number {digits[:24]}, which is too large")
    return number


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJsonError(f"the key {_quote(twice)} stands twice in one object")
    return members


_DECODER = json.JSONDecoder(
    parse_constant=_read_constant,
    parse_int=_read_integer,
    parse_float=_read_float,
    object_pairs_hook=_read_object,
)
