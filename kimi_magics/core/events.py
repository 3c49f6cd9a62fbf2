"""What can happen while a call runs, as frozen events; a reply is the fold of them.

The wire's many shapes end in `wire.py`: a view, a ledger or a test sees only these.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.usage import Usage


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The host accepted the request."""

    request_id: str | None
    model: str | None


class ThinkingDelta(msgspec.Struct, frozen=True, tag="thinking"):
    """A piece of the reasoning."""

    text: str


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """A piece of the answer."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, tag="call"):
    """A piece of the call at place `index`: the id and the name come with the first piece, the arguments bit by bit."""

    index: int
    id: str
    name: str
    arguments: str
    is_builtin: bool = False


class ToolCalled(msgspec.Struct, frozen=True):
    """A call begins here, on the user's machine; a builtin one is the host's."""

    call: ToolCall


class ToolReturned(msgspec.Struct, frozen=True):
    """A call is done: `text` is what the model is told; `is_error` when the tool failed or was not allowed."""

    call: ToolCall
    text: str
    is_error: bool
    seconds: float
    #: How many images go with the text.
    images: int = 0

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.call.name

    @property
    def arguments(self) -> Any:
        """What it was called with: the model's JSON as a dict, or its text where that is none."""
        try:
            return msgspec.json.decode(self.call.arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            return self.call.arguments

    def __repr__(self) -> str:
        start = self.text[:60] + ("…" if len(self.text) > 60 else "")
        state = ", failed" if self.is_error else ""
        return f"ToolReturned({self.name}, {self.arguments!r:.60}, {start!r}{state}, {self.seconds:.1f} s)"


class NextStep(msgspec.Struct, frozen=True):
    """The request is followed by another one of the same reply; `reason` says why, in a few words."""

    messages: tuple[Message, ...]
    reason: str = ""


class DataRead(msgspec.Struct, frozen=True):
    """The JSON that was asked for is there, as an object of the user's type."""

    data: Any


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The host says why the answer ended: `stop`, `length`, `tool_calls`, or a word that we do not know."""

    reason: str


class UsageReported(msgspec.Struct, frozen=True):
    """The figures of the call; a later report replaces an earlier one."""

    usage: Usage


class Waiting(msgspec.Struct, frozen=True):
    """The call is tried again in `seconds`; `attempt` counts the tries so far, `reason` is one sentence.

    With `is_for_turn` it has not been sent: the account's limits let it go in about `seconds`, 0 when nobody can tell.
    """

    seconds: float
    attempt: int
    reason: str
    is_for_turn: bool = False


class Sending(msgspec.Struct, frozen=True):
    """The request that waited goes now."""


class Uploading(msgspec.Struct, frozen=True):
    """Before the request goes, `sent_bytes` of `total_bytes` of an image or video have gone up."""

    label: str
    sent_bytes: int
    total_bytes: int


class Completed(msgspec.Struct, frozen=True):
    """The end of the reply was proven: `[DONE]` of a stream, or a whole body."""


class Replayed(msgspec.Struct, frozen=True):
    """The answer to this request is one that was kept: nothing is sent, nothing billed.

    `usage`, `cost` in `currency` (None when it was not known) and `date` are those of when it was billed.
    """

    usage: Usage
    cost: Decimal | None
    currency: str
    date: date
    #: How many requests of a reply were answered so.
    steps: int = 1

    def __add__(self, other: Replayed) -> Replayed:
        """Return both together, as of two steps of one reply: of the earlier day; one unknown cost makes it unknown."""
        is_known = self.cost is not None and other.cost is not None and self.currency == other.currency
        return Replayed(
            self.usage + other.usage,
            (self.cost or 0) + (other.cost or Decimal(0)) if is_known else None,
            self.currency,
            min(self.date, other.date),
            self.steps + other.steps,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON-ready values."""
        return {
            "usage": self.usage.as_dict(),
            "cost": None if self.cost is None else str(self.cost),
            "currency": self.currency,
            "date": self.date.isoformat(),
            "steps": self.steps,
        }


Event = (
    Started
    | ThinkingDelta
    | TextDelta
    | ToolCallDelta
    | ToolCalled
    | ToolReturned
    | NextStep
    | DataRead
    | Finished
    | UsageReported
    | Waiting
    | Sending
    | Uploading
    | Completed
    | Replayed
)
