"""What is told of the tools that a model calls: short, in order, bounded, and harmless."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    NextStep,
    TextDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
)
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.reply import Reply
from kimi_magics.notebook.tool_rows import CallLines, ToolLog, ToolRow, list_rows
from kimi_magics.notebook.tool_words import MOST_CHARACTERS, describe_call

PARIS = ToolCall("weather:0", "weather", '{"city": "Paris"}')
ROME = ToolCall("weather:1", "weather", '{"city": "Rome"}')
SEARCH = ToolCall("search:0", "$web_search", '{"search_result": {"id": 1}}', "builtin_function")
SUNNY = ToolReturned(PARIS, "21 °C, sunny", is_error=False, seconds=0.31)
NO_CITY = ToolReturned(ROME, "no such city", is_error=True, seconds=0.02)
PARIS_RUNNING = ToolRow("call", 'weather(city="Paris")', "running", "…", "", '{\n  "city": "Paris"\n}')
PARIS_DONE = ToolRow(
    "call", 'weather(city="Paris")', "done", "→ 21 °C, sunny", "0.3 s", '{\n  "city": "Paris"\n}', "21 °C, sunny"
)


def pieces(call: ToolCall, index: int = 0) -> list[Event]:
    """Return a call as a host sends it, in three pieces."""
    middle = len(call.arguments) // 2
    is_builtin = call.kind == "builtin_function"
    return [
        ToolCallDelta(index, call.id, call.name, "", is_builtin),
        ToolCallDelta(index, "", "", call.arguments[:middle]),
        ToolCallDelta(index, "", "", call.arguments[middle:]),
    ]


def next_step(*calls: ToolCall, said: str = "", reason: str = "") -> NextStep:
    return NextStep((Message("assistant", said, calls=calls),), reason)


#: One step: the model says something, calls one tool, and goes on.
STEP: list[Event] = [
    TextDelta("Let me "),
    TextDelta("look."),
    *pieces(PARIS),
    Finished("tool_calls"),
    Completed(),
    ToolCalled(PARIS),
    SUNNY,
    next_step(PARIS, said="Let me look."),
]


def replay(events: list[Event], log: ToolLog | None = None) -> tuple[Reply, list[list[int]]]:
    """Return the reply of the events, and which rows each changed."""
    reply, log = Reply("kimi-k2.6"), log or ToolLog()
    changes = []
    for event in events:
        reply.add(event)
        changes.append(log.take(reply, event))
    return reply, changes


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", "f3()"),
        ("{}", "f3()"),
        ('{"city": "Paris", "days": 3}', 'f3(city="Paris", days=3)'),
        ('{"a": true, "b": null, "c": [1, "x"], "d": {"k": 1.5}}', 'f3(a=True, b=None, c=[1, "x"], d={"k": 1.5})'),
        ('{"a": [[[[1]]]]}', "f3(a=[[[…]]])"),
        ('{"text": "' + "x" * 100 + '"}', 'f3(text="' + "x" * 39 + '…")'),
        ('{"code": "a\\n  b"}', r'f3(code="a\n b")'),
        ('{"no name": 1}', 'f3({"no name": 1})'),
        ("[1, 2]", "f3([1, 2])"),
        ('{"city": "Par', 'f3({"city": "Par)'),
        ("a\n\nb\x1b[2J\u202ec", "f3(a b[2Jc)"),
        ('{"a": "\\ud800"}', 'f3(a="?")'),
        ("[" * 5_000, "f3(" + "[" * 79 + "…)"),
        ('{"a": ' * 5_000, "f3(" + ('{"a": ' * 20)[:79] + "…)"),
        ('{"a": ' + "9" * 5_000 + "}", 'f3({"a": ' + "9" * 73 + "…)"),
    ],
)
def test_a_call_reads_as_python_would_write_it(arguments: str, shown: str) -> None:
    assert describe_call(ToolCall("1", "f3", arguments)) == shown


@given(st.text(), st.text() | st.dictionaries(st.text(), st.text() | st.lists(st.integers())).map(json.dumps))
def test_whatever_is_called_is_one_short_line(name: str, arguments: str) -> None:
    shown = describe_call(ToolCall("1", name, arguments))
    assert len(shown) <= 162
    assert len(shown.splitlines()) == 1
    assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in shown)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "images", "outcome"),
    [
        ("21 °C", 0, "→ 21 °C"),
        ("", 0, "→ nothing"),
        ("a  b\nc", 0, "→ a b …"),
        ("x" * 70, 0, "→ " + "x" * 59 + "…"),
        ("a plot", 1, "→ a plot + 1 image"),
        ("", 2, "→ 2 images"),
        ("a\x1b[2J\u202eb", 0, "→ a[2Jb"),
    ],
)
def test_of_a_result_the_first_line_is_told(text: str, images: int, outcome: str) -> None:
    log = ToolLog()
    replay([ToolReturned(PARIS, text, is_error=False, seconds=0.0, images=images)], log)
    assert [row.outcome for row in log.rows] == [outcome]


def test_a_row_is_one_line_with_the_call_its_outcome_and_the_time() -> None:
    assert PARIS_DONE.line == 'weather(city="Paris") → 21 °C, sunny · 0.3 s'
    assert PARIS_RUNNING.line == 'weather(city="Paris") …'
    log = ToolLog()
    replay([NO_CITY], log)
    assert [(row.state, row.line) for row in log.rows] == [("failed", 'weather(city="Rome") failed: no such city')]


def test_what_is_long_is_cut_and_the_rest_is_counted() -> None:
    log = ToolLog()
    call = ToolCall("1", "run", "a" * 3_000)
    replay([ToolReturned(call, "b" * 2_345_678, is_error=False, seconds=1.0)], log)
    [row] = log.rows
    assert row.arguments == "a" * MOST_CHARACTERS + "\n… 1,000 more characters"
    assert row.result == "b" * MOST_CHARACTERS + "\n… 2,343,678 more characters"


def test_details_hold_no_control_characters_and_no_half_letters() -> None:
    log = ToolLog()
    replay([ToolReturned(ToolCall("1", "run", "a\x1b\ud800\nb"), "c\x9b\x00\td\r\n\u2066", False, 1.0)], log)
    [row] = log.rows
    assert (row.arguments, row.result) == ("a?\nb", "c\td\n")


# ---------------------------------------------------------------- while the reply grows


def test_a_call_comes_runs_and_ends_in_one_row_after_what_was_said() -> None:
    log, seen = ToolLog(), []
    reply = Reply("kimi-k2.6")
    for event in STEP:
        reply.add(event)
        if log.take(reply, event):
            seen.append([row.line for row in log.rows])
    assert seen == [
        ["Let me look.", "weather(…) …"],
        ["Let me look.", 'weather(city="Paris") …'],
        ["Let me look.", 'weather(city="Paris") → 21 °C, sunny · 0.3 s'],
    ]
    assert log.rows == [ToolRow("said", "Let me look."), PARIS_DONE]


def test_rows_that_changed_are_named() -> None:
    _, changes = replay(STEP)
    assert changes == [[], [], [0, 1], [], [], [], [1], [], [1], []]


def test_calls_of_one_step_end_in_any_order_each_in_its_row() -> None:
    log = ToolLog()
    replay([*pieces(PARIS), *pieces(ROME, 1), Completed(), ToolCalled(PARIS), ToolCalled(ROME), NO_CITY, SUNNY], log)
    assert [row.line for row in log.rows] == [
        'weather(city="Paris") → 21 °C, sunny · 0.3 s',
        'weather(city="Rome") failed: no such city',
    ]


def test_the_same_call_twice_has_two_rows() -> None:
    log = ToolLog()
    replay([ToolCalled(PARIS), SUNNY, next_step(PARIS), ToolCalled(PARIS), SUNNY, next_step(PARIS)], log)
    assert log.rows == [PARIS_DONE, PARIS_DONE]


def test_a_call_that_was_not_announced_has_a_row() -> None:
    log = ToolLog()
    replay([SUNNY], log)
    assert log.rows == [PARIS_DONE]


def test_a_search_of_the_web_is_told_in_words() -> None:
    log, seen = ToolLog(), []
    done = ToolReturned(SEARCH, SEARCH.arguments, is_error=False, seconds=0.0)
    reply = Reply("kimi-k2.6")
    for event in [*pieces(SEARCH), Completed(), ToolCalled(SEARCH), done]:
        reply.add(event)
        if log.take(reply, event):
            seen.append(log.rows[0].line)
    assert seen == ["searching the web …", "searching the web …", "searched the web"]
    assert log.rows[0].result == ""
    assert "search_result" in log.rows[0].arguments


def test_an_answer_that_is_asked_for_again_is_followed_by_the_reason() -> None:
    log = ToolLog()
    replay([TextDelta("{"), Completed(), next_step(said="{", reason="asked again: the JSON\nends early")], log)
    assert log.rows == [ToolRow("said", "{"), ToolRow("remark", "asked again: the JSON ends early")]


def test_text_after_the_calls_keeps_its_place_and_nothing_is_said_twice() -> None:
    log = ToolLog()
    events = [TextDelta("A"), *pieces(PARIS), TextDelta("B"), Completed(), ToolCalled(PARIS), SUNNY]
    replay([*events, next_step(PARIS, said="AB")], log)
    assert [row.text for row in log.rows] == ["A", 'weather(city="Paris")', "B"]


def test_blank_text_before_a_call_has_no_row() -> None:
    log = ToolLog()
    replay([TextDelta("\n\n"), *pieces(PARIS)], log)
    assert [row.kind for row in log.rows] == ["call"]


def test_a_call_without_a_result_is_told_to_have_none() -> None:
    log = ToolLog()
    replay([*pieces(PARIS), Completed(), ToolCalled(PARIS), next_step(PARIS)], log)
    assert [row.line for row in log.rows] == ['weather(city="Paris") · no result']


# ---------------------------------------------------------------- when it is over


def test_the_rows_of_a_reply_that_is_over_are_those_seen_while_it_grew() -> None:
    log = ToolLog()
    reply, _ = replay([*STEP, TextDelta("Sunny."), Completed()], log)
    assert list_rows(reply) == log.rows == [ToolRow("said", "Let me look."), PARIS_DONE]


def test_what_is_shown_as_the_answer_is_not_said_again() -> None:
    reply, _ = replay([*STEP, Completed()])
    assert reply.text == "Let me look."
    assert list_rows(reply) == [PARIS_DONE]


def test_an_answer_that_was_refused_has_no_row_in_the_end() -> None:
    reply, _ = replay([TextDelta("{"), Completed(), next_step(said="{", reason="no"), TextDelta("{}"), Completed()])
    assert list_rows(reply) == []


@pytest.mark.parametrize("ids", [("weather:0", "weather:1"), ("", "")])
def test_an_interrupt_between_two_calls_leaves_one_with_a_result_and_one_without(ids: tuple[str, str]) -> None:
    first, second = (ToolCall(name, call.name, call.arguments) for name, call in zip(ids, (PARIS, ROME), strict=True))
    reply = Reply("kimi-k2.6")
    for event in [*pieces(first), *pieces(second, 1), Completed()]:
        reply.add(event)
    called = reply.step_calls[0]
    for event in [ToolCalled(called), ToolReturned(called, "21 °C, sunny", is_error=False, seconds=0.31)]:
        reply.add(event)
    assert [row.line for row in list_rows(reply)] == [
        'weather(city="Paris") → 21 °C, sunny · 0.3 s',
        'weather(city="Rome") · no result',
    ]


def test_a_reply_without_tools_has_no_rows() -> None:
    reply, changes = replay([TextDelta("Hi"), Finished("stop"), Completed()])
    assert list_rows(reply) == []
    assert changes == [[], [], []]


# ---------------------------------------------------------------- terminal


def lines(*events: Any) -> list[str]:
    calls = CallLines()
    return [line for event in events for line in calls.take(event)]


def test_a_terminal_is_told_when_a_call_begins_and_when_it_ends() -> None:
    assert lines(ToolCalled(PARIS), SUNNY, ToolCalled(ROME), NO_CITY, next_step(PARIS, ROME)) == [
        '→ weather(city="Paris")',
        "← 21 °C, sunny (0.3 s)",
        '→ weather(city="Rome")',
        "← failed: no such city",
    ]


def test_of_several_calls_at_once_the_terminal_says_which_one_ended() -> None:
    assert lines(ToolCalled(PARIS), ToolCalled(ROME), NO_CITY, SUNNY) == [
        '→ weather(city="Paris")',
        '→ weather(city="Rome")',
        "← failed: no such city",
        '← weather(city="Paris"): 21 °C, sunny (0.3 s)',
    ]


def test_a_terminal_is_told_of_an_unannounced_call_a_search_and_the_reason_of_a_step() -> None:
    done = ToolReturned(SEARCH, SEARCH.arguments, is_error=False, seconds=0.0)
    assert lines(SUNNY, ToolCalled(SEARCH), done, next_step(said="{", reason="asked again:\x1b it is no JSON")) == [
        '→ weather(city="Paris")',
        "← 21 °C, sunny (0.3 s)",
        "→ searching the web",
        "asked again: it is no JSON",
    ]
