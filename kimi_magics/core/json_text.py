r"""Change a JSON text in place: what is not meant stays as it is, byte for byte.

New values are written as the rest of the text is: indented like their neighbours, with the same ends of lines, and
with `\u00e9` or `é` as found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Path = Sequence[str | int]

_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])[0-9a-fA-F]{4}")
# One character of a string as it is written; a pair of surrogates is one character.
_WRITTEN = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Style:
    """How a JSON text is written; `unit` is the indentation of one level, None when all stands on one line."""

    unit: str | None
    newline: str
    colon: str
    comma: str
    is_ascii: bool


class _Member(NamedTuple):
    key: str
    start: int
    value_start: int
    end: int


def read_style(text: str) -> Style:
    """Return the style of a text that holds an object."""
    start = _skip(text, 0)
    members = list(_members(text, start))
    lead = text[start + 1 : members[0].start] if members else ""
    newline = "\r\n" if "\r\n" in text else "\n"
    unit = re.split(r"[\r\n]+", lead)[-1] if "\n" in lead else None
    first = members[0] if members else None
    colon = text[first.start : first.value_start][len(_key_text(text, first)) :] if first else ": "
    gap = text[members[0].end : members[1].start] if len(members) > 1 else ", "
    comma = "," if unit is not None or not gap.endswith(" ") else ", "
    return Style(unit, newline, colon, comma, text.isascii() and _ESCAPED.search(text) is not None)


def find_value(text: str, path: Path, *, origin: int = 0) -> tuple[int, int]:
    """Return where the value at `path` begins and ends, from the value that begins at `origin`.

    Raises KeyError when there is none.
    """
    start, end = _skip(text, origin), -1
    for step in path:
        start, end = _find_member(text, start, step) if isinstance(step, str) else _find_item(text, start, step)
    return start, end if path else _DECODER.raw_decode(text, start)[1]


def set_member(text: str, path: Path, key: str, value: Any, *, style: Style, origin: int = 0) -> str:
    """Return the text with `key` of the object at `path` set to `value`; a new one in its place by the alphabet.

    The path begins at the value that begins at `origin`, which is still its place in the text that is returned.
    """
    start, end = find_value(text, path, origin=origin)
    members = list(_members(text, start))
    old = next((member for member in reversed(members) if member.key == key), None)
    lead = text[start + 1 : members[0].start] if members else ""
    if old is not None:
        written = _write(value, style, _line_start(text, old.start) if "\n" in lead else None)
        return text[: old.value_start] + written + text[old.end :]
    if not members:
        return text[:start] + _write({key: value}, style, _line_start(text, start)) + text[end:]
    is_open = "\n" in lead
    indent = re.split(r"[\r\n]+", lead)[-1] if is_open else None
    member = _dump(key, style) + style.colon + _write(value, style, indent)
    gap = "," + lead if is_open else ", " if style.unit is not None else style.comma
    if len(members) > 1:
        gap = text[members[0].end : members[1].start]
    keys = [found.key for found in members]
    later = next((found for found in members if found.key > key), None) if keys == sorted(keys) else None
    if later is not None:
        return text[: later.start] + member + gap + text[later.start :]
    return text[: members[-1].end] + gap + member + text[members[-1].end :]


def splice_string(text: str, path: Path, *, start: int, end: int, new: str, style: Style) -> str:
    """Return the text with the characters from `start` to `end` of the string at `path` replaced by `new`."""
    opening, closing = find_value(text, path)
    ends, at = [opening + 1], opening + 1
    while len(ends) <= end and at < closing - 1:
        match = _WRITTEN.match(text, at)
        if match is None:  # a string that json has read holds no such thing
            raise KeyError(list(path))
        at = match.end()
        ends.append(at)
    return text[: ends[start]] + _dump(new, style)[1:-1] + text[ends[end] :]


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _members(text: str, start: int) -> Iterator[_Member]:
    """Yield the members of the object that begins at `start`."""
    at = _skip(text, start + 1)
    while text[at] == '"':
        key, key_end = _DECODER.raw_decode(text, at)
        value_start = _skip(text, _skip(text, key_end) + 1)
        end = _DECODER.raw_decode(text, value_start)[1]
        yield _Member(key, at, value_start, end)
        at = _skip(text, end)
        if text[at] != ",":
            return
        at = _skip(text, at + 1)


def _key_text(text: str, member: _Member) -> str:
    return text[member.start : _DECODER.raw_decode(text, member.start)[1]]


def _find_member(text: str, start: int, key: str) -> tuple[int, int]:
    found = None
    if text[start] == "{":
        for member in _members(text, start):
            found = member if member.key == key else found  # of two with one name, the last counts
    if found is None:
        raise KeyError(key)
    return found.value_start, found.end


def _find_item(text: str, start: int, index: int) -> tuple[int, int]:
    if text[start] != "[":
        raise KeyError(index)
    at = _skip(text, start + 1)
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        if index == 0:
            return at, end
        index, at = index - 1, _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    raise KeyError(index)


def _line_start(text: str, at: int) -> str:
    """Return the indentation of the line that holds `at`."""
    begin = text.rfind("\n", 0, at) + 1
    match = re.compile(r"[ \t]*").match(text, begin)
    return match[0] if match else ""


def _write(value: Any, style: Style, indent: str | None) -> str:
    """Write a value; over several lines where the text is, at the indentation `indent` (None: all on one line)."""
    if style.unit is None or indent is None:
        # Inside of a line that somebody wrote by hand into a text of many lines.
        comma = style.comma if style.unit is None else ", "
        return _dump(value, style, separators=(comma, style.colon))
    lines = _dump(value, style, indent=style.unit, separators=(",", style.colon))
    return lines.replace("\n", style.newline + indent)


def _dump(value: Any, style: Style, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=style.is_ascii, **options)
