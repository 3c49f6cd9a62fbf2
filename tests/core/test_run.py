"""One call: whatever happens, the reply holds what arrived and the view is told the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import date
from itertools import count

import pytest

from kimi_magics.core.events import (
    Completed,
    Event,
    Replayed,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.run import run
from kimi_magics.core.usage import Usage
from kimi_magics.errors import InterruptedReplyError, KimiError, MissingKeyError, ReplyBrokenError

KEPT = Replayed(Usage(50, 9), None, "USD", date(2026, 11, 20))
PROMPT = Prompt(Model("m"), (Message("user", "hello"),))


class Script:
    """A transport that plays events, and raises those that are exceptions."""

    def __init__(self, *steps: Event | BaseException) -> None:
        self.steps, self.is_closed = steps, False

    def send(self, _prompt: Prompt) -> Generator[Event, None, None]:
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                yield step
        finally:
            self.is_closed = True


class Watcher:
    """A view that remembers."""

    def __init__(self, *, fails_at: str | None = None) -> None:
        self.begins: list[str] = []
        self.texts: list[str] = []
        self.ends: list[KimiError | None] = []
        self.fails_at = fails_at

    def begin(self, reply: Reply) -> None:
        self.begins.append(reply.text)

    def show(self, reply: Reply, _event: Event) -> None:
        self.texts.append(reply.text)
        if reply.text == self.fails_at:
            raise KeyboardInterrupt

    def end(self, _reply: Reply, error: KimiError | None) -> None:
        self.ends.append(error)


def ticking() -> Iterator[float]:
    return (float(second) for second in count(10, 2))


def play(
    *steps: Event | BaseException, view: Watcher | None = None
) -> tuple[Reply, Watcher, Script, BaseException | None]:
    reply, view, script, times = Reply("m"), view or Watcher(), Script(*steps), ticking()
    try:
        run(PROMPT, reply=reply, transport=script, view=view, clock=lambda: next(times))
    except (KimiError, RuntimeError) as error:
        return reply, view, script, error
    return reply, view, script, None


def test_the_view_is_told_before_the_request_is_sent() -> None:
    _, view, *_ = play(TextDelta("a"), Completed())
    assert view.begins == [""]


def test_every_event_reaches_reply_and_view() -> None:
    reply, view, script, error = play(TextDelta("a"), TextDelta("b"), UsageReported(Usage(5, 2)), Completed())
    assert (reply.text, reply.usage, reply.seconds, error) == ("ab", Usage(5, 2), 2.0, None)
    assert (view.texts, view.ends, script.is_closed) == (["a", "ab", "ab", "ab"], [None], True)


def test_a_cut_reply_is_kept_with_estimated_usage_and_travels_on_the_error() -> None:
    failure = ReplyBrokenError("cut")
    reply, view, _, error = play(Started("req-7", "m"), TextDelta("hello"), failure)
    assert error is failure
    assert (failure.reply, failure.request_id, view.ends) == (reply, "req-7", [failure])
    # 4 for the message, 3 for the reply header, 1 for the word; 1 for the answer
    assert (reply.text, reply.is_partial, reply.usage) == ("hello", True, Usage(8, 1, estimated=True))


def test_figures_of_the_host_are_not_replaced_by_ours() -> None:
    reply, *_ = play(TextDelta("x"), UsageReported(Usage(50, 9)), ReplyBrokenError("cut"))
    assert reply.usage == Usage(50, 9)


def test_an_answer_without_figures_is_estimated_not_free() -> None:
    reply, *_ = play(TextDelta("hello"), Completed())
    assert reply.usage == Usage(8, 1, estimated=True)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((KeyboardInterrupt(),), "before the answer began"),
        ((ThinkingDelta("a"), KeyboardInterrupt()), "while the model was thinking"),
        ((TextDelta("a"), KeyboardInterrupt()), "the answer so far is kept"),
        ((KEPT, KeyboardInterrupt()), "nothing was sent"),
        ((KEPT, TextDelta("a"), KeyboardInterrupt()), "nothing was sent"),
        ((KEPT, ToolCallDelta(0, "f:0", "f", "{}"), KeyboardInterrupt()), "between the model and its tools"),
    ],
)
def test_an_interrupt_becomes_an_error_with_the_partial_reply(steps: tuple, says: str) -> None:
    reply, view, script, error = play(*steps)
    assert isinstance(error, InterruptedReplyError)
    assert says in error.message
    assert (error.reply, view.ends, script.is_closed, reply.is_partial) == (reply, [error], True, True)


@pytest.mark.parametrize("last", [Completed(), KeyboardInterrupt()])
def test_what_is_replayed_is_neither_estimated_nor_billed(last: Event | BaseException) -> None:
    reply, *_ = play(KEPT, TextDelta("hello"), last)
    assert (reply.usage, reply.cost, reply.replayed) == (Usage(), 0, KEPT)


def test_an_interrupt_while_showing_closes_the_call() -> None:
    _, _, script, error = play(TextDelta("a"), TextDelta("b"), view=Watcher(fails_at="a"))
    assert isinstance(error, InterruptedReplyError)
    assert script.is_closed


def test_a_refusal_is_told_to_the_view_and_leaves_no_usage() -> None:
    refusal = MissingKeyError("no key")
    reply, view, _, error = play(refusal)
    assert (error, view.ends, reply.has_usage) == (refusal, [refusal], False)


def test_a_bug_keeps_its_own_error_and_what_had_arrived() -> None:
    reply, view, _, error = play(TextDelta("a"), RuntimeError("ours"))
    assert isinstance(error, RuntimeError)
    assert (reply.text, view.ends) == ("a", [None])
