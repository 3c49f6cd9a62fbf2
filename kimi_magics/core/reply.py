"""The reply of a call: one fold over its events, the same object for the view, the variable and the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol

from kimi_magics.core.events import (
    Completed,
    DataRead,
    Event,
    Finished,
    NextStep,
    Replayed,
    Sending,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
    Waiting,
)
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.safe_markdown import safe_markdown
from kimi_magics.core.tools import ToolKind
from kimi_magics.core.usage import Price, Usage


class _Pretty(Protocol):
    def text(self, text: str) -> None: ...


class Reply:
    """What came back: `str(reply)` is the text.

    It is partial until its end was proven; one that was cut or interrupted stays partial. `cost` is a Decimal in
    `currency`, None while the price or the usage is unknown. `usage` and `cost` are what was billed for this reply;
    what was replayed stands in `replayed`, and costs nothing. `find_price` is asked once, at the first need of a price:
    a price list is slow to load, and the first delta must not wait for it.
    """

    def __init__(
        self,
        model: str,
        *,
        find_price: Callable[[], Price | None] = lambda: None,
        currency: str = "USD",
        prompt_hash: str = "",
    ) -> None:
        self.model = model
        self.prompt_hash = prompt_hash
        self._find_price = find_price
        self._host_currency = currency
        self.request_id: str | None = None
        self.finish_reason: str | None = None
        self.is_partial = True
        #: Seconds from sending to the end, set by `run`.
        self.seconds: float | None = None
        #: The answer as an object, where JSON was asked for and came; else None.
        self.data: Any = None
        #: The requests that were sent for this reply: more than one where tools were called or an answer was refused.
        self.steps = 1
        #: The messages of the earlier steps, as they stand in the request of the last.
        self.earlier_messages: tuple[Message, ...] = ()
        #: Which budget made the answer shorter than it might have been; empty when none did.
        self.limit_note = ""
        #: Whether it waits for its turn or for another try: what went before was refused, and nothing is under way.
        self.is_waiting = False
        #: How often a request was sent again because the host refused it, failed, or could not be reached.
        self.retries = 0
        self._is_refused = False
        #: Why an answer was asked for again, once for each time.
        self.remarks: tuple[str, ...] = ()
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._usage: Usage | None = None
        self._call_parts: dict[int, _CallParts] = {}
        self._returned: list[ToolReturned] = []
        self._searches = 0
        #: What is known of the steps that were replayed, all together; None when none was.
        self.replayed: Replayed | None = None
        self._is_step_replayed = False
        # What the steps before this one took, said and thought.
        self._earlier_usage: Usage | None = None
        self._earlier_text = self._earlier_thinking = ""

    def add(self, event: Event) -> None:
        """Take one event in."""
        # Ordered by how often each comes: a long answer has tens of thousands of text deltas.
        kind = type(event)
        if kind is TextDelta:
            self._text.append(event.text)  # type: ignore[union-attr]
        elif kind is ThinkingDelta:
            self._thinking.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCallDelta):
            self._call_parts.setdefault(event.index, _CallParts()).add(event)
        elif isinstance(event, ToolCalled | ToolReturned | NextStep):
            self._take_step(event)
        else:
            self._take_state(event)

    def _take_state(self, event: Event) -> None:
        if isinstance(event, Waiting | Sending):
            self._count_retry(event)
        elif isinstance(event, UsageReported):
            self._usage = event.usage
        elif isinstance(event, Finished):
            self.finish_reason = event.reason
        elif isinstance(event, Started):
            self.request_id = event.request_id or self.request_id
            self.model = event.model or self.model
        elif isinstance(event, Completed):
            self.is_partial = False
        elif isinstance(event, DataRead):
            self.data = event.data
        elif isinstance(event, Replayed):
            self.replayed = self.replayed + event if self.replayed else event
            self._is_step_replayed = True

    def _count_retry(self, event: Waiting | Sending) -> None:
        self.is_waiting = isinstance(event, Waiting)
        if isinstance(event, Waiting):
            self._is_refused = self._is_refused or not event.is_for_turn
        elif self._is_refused:
            self._is_refused, self.retries = False, self.retries + 1

    def _take_step(self, event: ToolCalled | ToolReturned | NextStep) -> None:
        """Take in what tools do: a reply whose tools were called is not whole until the model has answered to them."""
        self.is_partial = True
        if isinstance(event, ToolReturned):
            self._returned.append(event)
            # A search costs its fee with the step that asked for it.
            self._searches += event.call.kind == "builtin_function" and not self._is_step_replayed
        elif isinstance(event, NextStep):
            self.steps += 1
            self.earlier_messages += event.messages
            self.remarks += (event.reason,) if event.reason else ()
            self._earlier_usage = self.usage
            self._earlier_text, self._earlier_thinking = self.text, self.thinking
            self._text, self._thinking, self._call_parts, self._usage = [], [], {}, None
            self.finish_reason = None
            self._is_step_replayed = False

    @property
    def text(self) -> str:
        """The answer so far; of several steps the text of the last one that said something."""
        return self.step_text or self._earlier_text

    @property
    def thinking(self) -> str:
        """The reasoning so far, that of several steps parted by an empty line; empty when there was none."""
        if self._earlier_thinking and self._thinking:
            return f"{self._earlier_thinking}\n\n{_joined(self._thinking)}"
        return self._earlier_thinking or _joined(self._thinking)

    @property
    def usage(self) -> Usage:
        """The tokens that were billed, of all steps together."""
        usage = self._usage or Usage(estimated=self._earlier_usage is None and self.replayed is None)
        if self._earlier_usage is not None:
            usage = replace(self._earlier_usage, web_searches=0) + usage
        return replace(usage, web_searches=self._searches) if self._searches else usage

    @property
    def whole_usage(self) -> Usage:
        """The tokens of all steps, also of those that were replayed."""
        return self.usage if self.replayed is None else self.usage + self.replayed.usage

    @property
    def calls(self) -> tuple[ToolReturned, ...]:
        """The calls of tools that were made, each with its result."""
        return tuple(self._returned)

    # ------------------------------------------------------------ the step of the moment

    @property
    def step_text(self) -> str:
        """The text of the request that is under way or was the last."""
        return _joined(self._text)

    @property
    def step_thinking(self) -> str:
        """The reasoning of the same."""
        return _joined(self._thinking)

    @property
    def step_calls(self) -> tuple[ToolCall, ...]:
        """What the model calls in this step, in its order."""
        parts = [self._call_parts[index] for index in sorted(self._call_parts)]
        return tuple(part.build(number) for number, part in enumerate(parts, start=len(self._returned)))

    @property
    def step_message(self) -> Message | None:
        """What the model said in this step as a message of the conversation; None when it said nothing."""
        if not self.step_text.strip() and not self._call_parts:
            return None
        return Message("assistant", self.step_text, thinking=self.step_thinking, calls=self.step_calls)

    @property
    def has_step_usage(self) -> bool:
        """Whether this step has figures, billed or estimated, or needs none since it was replayed."""
        return self._is_step_replayed or (self._usage is not None and self._usage.total_tokens > 0)

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer, the reasoning or a tool's call has arrived."""
        return self.has_step_begun or self.steps > 1

    @property
    def has_step_begun(self) -> bool:
        """Whether anything of this step has arrived."""
        return bool(self._text or self._thinking or self._call_parts)

    @property
    def has_usage(self) -> bool:
        """Whether there are figures, billed or estimated."""
        return self.usage.total_tokens > 0

    @property
    def is_replayed(self) -> bool:
        """Whether all of it was replayed: nothing was sent for it, and nothing billed."""
        return self.replayed is not None and self.replayed.steps == self.steps

    @cached_property
    def price(self) -> Price | None:
        """What a million tokens cost; None when it is not known."""
        return self._find_price()

    @property
    def currency(self) -> str:
        """The currency of `cost`."""
        if self.replayed is not None and self.is_replayed:
            return self.replayed.currency
        return self.price.currency if self.price else self._host_currency

    @property
    def cost(self) -> Decimal | None:
        """What the call cost in `currency`; None when the price or the usage is unknown."""
        if self.is_replayed:
            return Decimal(0)
        usage = self.usage
        return self.price.cost_of(usage) if self.price and self.has_usage and self.price.covers(usage) else None

    def receipt(self) -> dict[str, Any]:
        """Return the figures of the call as JSON-ready values; neither the prompt nor the answer is in it."""
        price = None if self.is_replayed else self.price
        return {
            "model": self.model,
            "prompt_hash": self.prompt_hash,
            "usage": self.usage.as_dict(),
            "cost": None if self.cost is None else str(self.cost),
            "currency": self.currency,
            "price_date": price.as_of.isoformat() if price and price.as_of else None,
            "price_source": price.source if price else None,
            "request_id": self.request_id,
            "finish_reason": self.finish_reason,
            "is_partial": self.is_partial,
            "steps": self.steps,
            "replayed": self.replayed.as_dict() if self.replayed else None,
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        start = self.text[:60] + ("…" if len(self.text) > 60 else "")
        state = "partial" if self.is_partial else self.finish_reason
        was = ", replayed" if self.is_replayed else ""
        return f"Reply({start!r}, model={self.model!r}, {state}, {self.whole_usage.total_tokens} tokens{was})"

    def _repr_markdown_(self) -> str:
        return safe_markdown(self.text)

    def _repr_pretty_(self, printer: _Pretty, cycle: bool) -> None:  # noqa: FBT001 — IPython's protocol
        printer.text(self.text)


class _CallParts:
    """A call while it comes, piece by piece."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.is_builtin = False
        self._arguments: list[str] = []

    def add(self, piece: ToolCallDelta) -> None:
        self.id, self.name = self.id or piece.id, self.name or piece.name
        self.is_builtin = self.is_builtin or piece.is_builtin
        self._arguments.append(piece.arguments)

    def build(self, number: int) -> ToolCall:
        # A call without an id could not be answered.
        kind: ToolKind = "builtin_function" if self.is_builtin else "function"
        return ToolCall(self.id or f"{self.name}:{number}", self.name, _joined(self._arguments), kind)


def _joined(parts: list[str]) -> str:
    """Join in place, so that reading a growing text again and again stays cheap."""
    if len(parts) > 1:
        parts[:] = ["".join(parts)]
    return parts[0] if parts else ""
