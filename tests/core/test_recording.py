"""What is kept of an answer: fewer pieces that make the same reply, and none of an answer that is not whole."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
    Waiting,
)
from kimi_magics.core.recording import Recorder, Recording, read_pieces
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage

DELTAS = st.one_of(
    st.builds(TextDelta, st.text(max_size=30)),
    st.builds(ThinkingDelta, st.text(max_size=30)),
    st.builds(ToolCallDelta, st.integers(0, 2), st.text(max_size=3), st.text(max_size=3), st.text(max_size=9)),
)


def record(events: Iterable[Event]) -> Recording | None:
    recorder = Recorder()
    for event in events:
        recorder.add(event)
    return recorder.take()


def fold(events: Iterable[Event]) -> Reply:
    reply = Reply("m")
    for event in events:
        reply.add(event)
    return reply


def facts(reply: Reply) -> tuple[object, ...]:
    return (reply.text, reply.thinking, reply.step_calls, reply.finish_reason, reply.model, reply.request_id)


@given(st.lists(DELTAS))
def test_pieces_make_the_reply_that_the_events_made(deltas: list[Event]) -> None:
    events = [Started("req-1", "kimi-k2.6"), *deltas, Finished("length"), UsageReported(Usage(3, 4)), Completed()]
    recording = record(events)
    assert recording is not None
    assert facts(fold(read_pieces(recording.encode()))) == facts(fold(events))
    assert recording.usage == Usage(3, 4)
    assert len(recording.pieces) <= len(events) - 2


def test_a_long_answer_becomes_pieces_between_which_an_interrupt_is_heard() -> None:
    recording = record([*[TextDelta("word ")] * 20_000, Finished("stop"), Completed()])
    assert recording is not None
    assert 90 <= len(recording.pieces) <= 110
    assert "".join(piece.text for piece in recording.pieces[:-1]) == "word " * 20_000


def test_waiting_is_left_out() -> None:
    recording = record([Waiting(1.0, 1, "busy"), TextDelta("x"), Completed()])
    assert recording == Recording((TextDelta("x"),))


def test_searches_that_are_asked_for_are_part_of_the_figures() -> None:
    calls = [ToolCallDelta(at, f"s:{at}", "$web_search", "{}", is_builtin=True) for at in range(2)]
    recording = record([*calls, Finished("tool_calls"), UsageReported(Usage(3, 4)), Completed()])
    assert recording is not None
    assert recording.usage == Usage(3, 4, web_searches=2)


@pytest.mark.parametrize(
    "events",
    [
        [TextDelta("half of it")],
        [TextDelta("half"), Finished("stop")],
        [Completed()],
        [TextDelta(" \n"), Finished("stop"), Completed()],
        [ThinkingDelta("Hm"), Finished("stop"), Completed()],
        [TextDelta("sk-abcdefgh"), TextDelta("ijklmnop12345678"), Completed()],
        [ToolCallDelta(0, "a", "f", '{"key": "sk-abcdefghijklmnop12345678"}'), Completed()],
    ],
    ids=["cut", "no end", "nothing", "blank", "reasoning alone", "a key", "a key for a tool"],
)
def test_what_is_not_worth_to_be_kept(events: list[Event]) -> None:
    assert record(events) is None


def test_reasoning_that_the_user_s_limit_cut_is_an_answer() -> None:
    assert record([ThinkingDelta("Hm"), Finished("length"), Completed()]) is not None


@pytest.mark.parametrize("data", [b"", b"[", b'[{"type":"weather"}]', b'[{"type":"text"}]', b"\xff"])
def test_damaged_pieces_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_pieces(data)
