"""Changes of a JSON text in place, judged by json itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.json_text import find_value, read_style, set_member, splice_string

STYLES: dict[str, dict[str, Any]] = {
    "one blank, as Jupyter": {"indent": 1, "sort_keys": True, "ensure_ascii": False},
    "two blanks": {"indent": 2},
    "four blanks, sorted": {"indent": 4, "sort_keys": True},
    "tabs": {"indent": "\t", "ensure_ascii": False},
    "lines without indentation": {"indent": 0},
    "one line": {},
    "compact": {"separators": (",", ":")},
}
TEXT = st.text(max_size=20)
LEAF = st.none() | st.booleans() | st.integers() | TEXT
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
TREE = st.dictionaries(TEXT, VALUE, min_size=1, max_size=4)


def objects_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all objects in a value."""
    found = [path] if isinstance(value, dict) else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [one for step, part in steps for one in objects_of(part, (*path, step))]


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize("style", STYLES.values(), ids=list(STYLES))
@given(tree=TREE, key=TEXT, value=VALUE, data=st.data())
def test_a_member_is_set_as_json_itself_would_write_it(
    style: dict[str, Any], tree: Any, key: str, value: Any, data: Any
) -> None:
    # A text of plain letters does not tell whether others would be escaped, nor one of one member what parts them.
    tree = {"é": 0, "~": 1, **tree}
    path = data.draw(st.sampled_from(objects_of(tree)))
    text = json.dumps(tree, **style)
    expected = copy.deepcopy(tree)
    at(expected, path)[key] = value
    changed = set_member(text, path, key, value, style=read_style(text))
    assert json.loads(changed) == expected
    # Members keep their order; a new one may stand anywhere among them.
    written = at(json.loads(changed), path)
    assert [name for name in written if name != key] == [name for name in at(json.loads(text), path) if name != key]
    assert changed == json.dumps(json.loads(changed), **style | {"sort_keys": False})


@given(before=TEXT, tree=TREE, old=TEXT, new=TEXT, data=st.data(), is_ascii=st.booleans())
def test_a_part_of_a_string_is_replaced_and_the_rest_stays(
    before: str, tree: Any, old: str, new: str, data: Any, is_ascii: bool
) -> None:
    text = json.dumps({"a": [tree, old], "z": before}, ensure_ascii=is_ascii, indent=1)
    start = data.draw(st.integers(0, len(old)))
    end = data.draw(st.integers(start, len(old)))
    changed = splice_string(text, ["a", 1], start=start, end=end, new=new, style=read_style(text))
    assert json.loads(changed) == {"a": [tree, old[:start] + new + old[end:]], "z": before}
    first, last = find_value(text, ["a", 1])
    assert (changed[:first], changed[len(changed) - len(text) + last :]) == (text[:first], text[last:])


def test_odd_spellings_stay_as_they_are() -> None:
    text = '{ "a" : "\\/ \\u0041 \\ud83d\\ude00 x", "n": 1e3,  "l": [ ] , "o":{ } }'
    changed = splice_string(text, ["a"], start=6, end=7, new='"é', style=read_style(text))
    assert changed == '{ "a" : "\\/ \\u0041 \\ud83d\\ude00 \\"\\u00e9", "n": 1e3,  "l": [ ] , "o":{ } }'
    assert json.loads(changed)["a"] == '/ A 😀 "é'


def test_windows_line_ends_are_kept() -> None:
    text = json.dumps({"a": {"b": 1}, "m": {}}, indent=2).replace("\n", "\r\n") + "\r\n"
    changed = set_member(text, ["m"], "x", {"y": ["z"]}, style=read_style(text))
    expected = json.dumps({"a": {"b": 1}, "m": {"x": {"y": ["z"]}}}, indent=2).replace("\n", "\r\n") + "\r\n"
    assert changed == expected


def test_of_two_members_with_one_name_the_last_is_meant() -> None:
    text = '{"a": {"x": 1}, "a": {"x": 2}}'
    assert set_member(text, ["a"], "x", 3, style=read_style(text)) == '{"a": {"x": 1}, "a": {"x": 3}}'


def test_a_line_written_by_hand_inside_an_indented_text_stays_a_line() -> None:
    text = '{\n "cells": [{"m": {"b": 1, "d": 2}}],\n "n": 4\n}'
    changed = set_member(text, ["cells", 0, "m"], "c", {"alt": "x"}, style=read_style(text))
    assert changed == '{\n "cells": [{"m": {"b": 1, "c": {"alt": "x"}, "d": 2}}],\n "n": 4\n}'


@pytest.mark.parametrize("path", [["b"], ["a", 3], ["a", "x"], ["a", 0, 0]])
def test_what_is_not_there_is_told(path: list[str | int]) -> None:
    with pytest.raises(KeyError):
        find_value('{"a": [1]}', path)
