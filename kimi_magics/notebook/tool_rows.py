"""What is told of the tools that a model calls: one row per call, short, with the whole to unfold.

The promise: names, arguments and results are somebody else's text; they are bounded and hold no control characters, and
whoever writes them into HTML escapes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kimi_magics.core.events import Completed, Event, NextStep, ToolCallDelta, ToolCalled, ToolReturned
from kimi_magics.core.messages import ToolCall
from kimi_magics.core.reply import Reply
from kimi_magics.core.tools import WEB_SEARCH_NAME
from kimi_magics.notebook.tool_words import (
    bound,
    describe_arguments,
    describe_call,
    describe_name,
    describe_outcome,
    describe_time,
    is_search,
    join_lines,
    one_line,
)

#: So many rows are shown of one reply.
MOST_ROWS = 20
_MOST_REMARK = 300

State = Literal["", "running", "done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One row: a call, what the model said before its calls, or a remark of ours on the next step."""

    kind: Literal["call", "said", "remark"]
    text: str
    #: Of a call; `stopped` when it has no result and will get none.
    state: State = ""
    #: What became of it, as in `→ 21 °C, sunny`, and how long it took, as in `0.3 s`; empty for a moment.
    outcome: str = ""
    took: str = ""
    arguments: str = ""
    result: str = ""

    @property
    def line(self) -> str:
        """The row as one line, as in `weather(city="Paris") → 21 °C, sunny · 0.3 s`."""
        line = " ".join(part for part in (join_lines(self.text), self.outcome) if part)
        return f"{line} · {self.took}" if self.took else line


class ToolLog:
    """The rows of a reply that grows, in order; a row once made keeps its place."""

    def __init__(self) -> None:
        self.rows: list[ToolRow] = []
        # Of this step: the rows of calls that still come, by their index, and of those that have no result yet.
        self._coming: dict[int, int] = {}
        self._open: dict[int, ToolCall] = {}
        self._said_characters = 0

    def take(self, reply: Reply, event: Event) -> list[int]:
        """Take an event that was added to the reply; return which rows are new or another."""
        if isinstance(event, ToolCallDelta):
            return [] if event.index in self._coming else self._begin(reply, event)
        if isinstance(event, Completed):
            return self._read_calls(reply)
        if isinstance(event, ToolCalled):
            changed = self._read_calls(reply)
            return changed if event.call in self._open.values() else [*changed, *self._open_row(reply, event.call)]
        if isinstance(event, ToolReturned):
            changed = self._read_calls(reply)
            number = next((row for row, call in self._open.items() if call == event.call), None)
            if number is None:
                return [*changed, *self._move_text(reply), self._add(_returned_row(event))]
            del self._open[number]
            self.rows[number] = _returned_row(event)
            return [*changed, number]
        return self._end_step(event) if isinstance(event, NextStep) else []

    def _begin(self, reply: Reply, event: ToolCallDelta) -> list[int]:
        # What the model says comes before its calls: from here on it has its place there.
        moved = self._move_text(reply)
        text = "searching the web" if event.name == WEB_SEARCH_NAME else f"{describe_name(event.name)}(…)"
        self._coming[event.index] = self._add(ToolRow("call", text, "running", "…"))
        return [*moved, self._coming[event.index]]

    def _read_calls(self, reply: Reply) -> list[int]:
        """Fill in the calls that came piece by piece and are whole now."""
        numbers = [self._coming[index] for index in sorted(self._coming)]
        self._coming = {}
        for number, call in zip(numbers, reply.step_calls, strict=False):
            self._open[number] = call
            self.rows[number] = _running_row(call)
        return numbers

    def _open_row(self, reply: Reply, call: ToolCall) -> list[int]:
        moved = self._move_text(reply)
        number = self._add(_running_row(call))
        self._open[number] = call
        return [*moved, number]

    def _end_step(self, event: NextStep) -> list[int]:
        changed = list(self._open)
        for number, call in self._open.items():
            self.rows[number] = _stopped_row(call)
        said = next((message.text for message in event.messages if message.role == "assistant"), "")
        if said[self._said_characters :].strip():
            changed.append(self._add(_said_row(said[self._said_characters :])))
        if event.reason:
            changed.append(self._add(ToolRow("remark", one_line(event.reason, _MOST_REMARK))))
        self._coming, self._open, self._said_characters = {}, {}, 0
        return changed

    def _move_text(self, reply: Reply) -> list[int]:
        said = reply.step_text[self._said_characters :]
        self._said_characters += len(said)
        return [self._add(_said_row(said))] if said.strip() else []

    def _add(self, row: ToolRow) -> int:
        self.rows.append(row)
        return len(self.rows) - 1


class CallLines:
    """The same for a terminal, where what is printed stays: a line where a call begins and one where it ends."""

    def __init__(self) -> None:
        self._running: list[ToolCall] = []
        self._last: ToolCall | None = None

    def take(self, event: Event) -> Iterator[str]:
        """Yield the lines that an event brings."""
        if isinstance(event, ToolCalled):
            self._running.append(event.call)
            self._last = event.call
            yield f"→ {describe_call(event.call)}"
        elif isinstance(event, ToolReturned):
            if event.call in self._running:
                self._running.remove(event.call)
            else:
                yield f"→ {describe_call(event.call)}"
                self._last = event.call
            # Of several calls at once it must be said which one this is.
            which = "" if event.call == self._last else f"{describe_call(event.call)}: "
            self._last = None
            if not is_search(event.call) or event.is_error:
                took = f" ({time})" if (time := describe_time(event)) else ""
                yield f"← {which}{describe_outcome(event)}{took}"
        elif isinstance(event, NextStep) and event.reason:
            yield one_line(event.reason, _MOST_REMARK)


def list_rows(reply: Reply) -> list[ToolRow]:
    """Return the rows of a reply that is over: its calls, and what the model said before them.

    What is the answer's text is not said again, nor an answer that was refused and asked for anew.
    """
    rows: list[ToolRow] = []
    returned = list(reply.calls)
    for message in reply.earlier_messages:
        if message.role != "assistant" or not message.calls:
            continue
        if message.text.strip() and message.text != reply.text:
            rows.append(_said_row(message.text))
        for call in message.calls:
            done = next((one for one in returned if one.call == call), None)
            if done is not None:
                returned.remove(done)
                rows.append(_returned_row(done))
    rows += [_returned_row(done) for done in returned]
    # Calls without an id get another one when more of them have returned: the names and arguments tell enough.
    ended = [(done.call.name, done.call.arguments) for done in returned]
    for call in reply.step_calls:
        if (call.name, call.arguments) in ended:
            ended.remove((call.name, call.arguments))
        else:
            rows.append(_stopped_row(call))
    return rows


# ---------------------------------------------------------------- rows


def _running_row(call: ToolCall) -> ToolRow:
    return ToolRow("call", describe_call(call), "running", "…", arguments=describe_arguments(call.arguments))


def _stopped_row(call: ToolCall) -> ToolRow:
    return replace(_running_row(call), state="stopped", outcome="· no result")


def _returned_row(event: ToolReturned) -> ToolRow:
    row = _running_row(event.call)
    if is_search(event.call) and not event.is_error:
        # The result is the arguments, which go back to the host as they came.
        return replace(row, text="searched the web", state="done", outcome="")
    outcome = describe_outcome(event)
    return replace(
        row,
        state="failed" if event.is_error else "done",
        outcome=outcome if event.is_error else f"→ {outcome}",
        took=describe_time(event),
        result=bound(event.text),
    )


def _said_row(text: str) -> ToolRow:
    return ToolRow("said", bound(text.strip()))
