"""The reply of a call: one fold over its events, the same object for the view, the variable and the records."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    UsageReported,
)
from kimi_magics.core.safe_markdown import safe_markdown
from kimi_magics.core.usage import Price, Usage


class _Pretty(Protocol):
    def text(self, text: str) -> None: ...


class Reply:
    """What came back: `str(reply)` is the text.

    It is partial until its end was proven; one that was cut or interrupted stays partial. `cost` is a Decimal in
    `currency`, None while the price or the usage is unknown. `find_price` is asked once, at the first need of a price:
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
        self.usage = Usage(estimated=True)
        #: Seconds from sending to the end, set by `run`.
        self.seconds: float | None = None
        self._text: list[str] = []
        self._thinking: list[str] = []

    def add(self, event: Event) -> None:
        """Take one event in."""
        # Ordered by how often each comes: a long answer has tens of thousands of text deltas.
        kind = type(event)
        if kind is TextDelta:
            self._text.append(event.text)  # type: ignore[union-attr]
        elif kind is ThinkingDelta:
            self._thinking.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, UsageReported):
            self.usage = event.usage
        elif isinstance(event, Finished):
            self.finish_reason = event.reason
        elif isinstance(event, Started):
            self.request_id = event.request_id or self.request_id
            self.model = event.model or self.model
        elif isinstance(event, Completed):
            self.is_partial = False

    @property
    def text(self) -> str:
        """The answer so far."""
        return _joined(self._text)

    @property
    def thinking(self) -> str:
        """The reasoning so far; empty when there was none."""
        return _joined(self._thinking)

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer or the reasoning has arrived."""
        return bool(self._text or self._thinking)

    @property
    def has_usage(self) -> bool:
        """Whether there are figures, billed or estimated."""
        return self.usage.total_tokens > 0

    @cached_property
    def price(self) -> Price | None:
        """What a million tokens cost; None when it is not known."""
        return self._find_price()

    @property
    def currency(self) -> str:
        """The currency of `cost`."""
        return self.price.currency if self.price else self._host_currency

    @property
    def cost(self) -> Decimal | None:
        """What the call cost in `currency`; None when the price or the usage is unknown."""
        return self.price.cost_of(self.usage) if self.price and self.has_usage else None

    def receipt(self) -> dict[str, Any]:
        """Return the figures of the call as JSON-ready values; neither the prompt nor the answer is in it."""
        return {
            "model": self.model,
            "prompt_hash": self.prompt_hash,
            "usage": self.usage.as_dict(),
            "cost": None if self.cost is None else str(self.cost),
            "currency": self.currency,
            "price_date": self.price.as_of.isoformat() if self.price and self.price.as_of else None,
            "price_source": self.price.source if self.price else None,
            "request_id": self.request_id,
            "finish_reason": self.finish_reason,
            "is_partial": self.is_partial,
        }

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        start = self.text[:60] + ("…" if len(self.text) > 60 else "")
        state = "partial" if self.is_partial else self.finish_reason
        return f"Reply({start!r}, model={self.model!r}, {state}, {self.usage.total_tokens} tokens)"

    def _repr_markdown_(self) -> str:
        return safe_markdown(self.text)

    def _repr_pretty_(self, printer: _Pretty, cycle: bool) -> None:  # noqa: FBT001 — IPython's protocol
        printer.text(self.text)


def _joined(parts: list[str]) -> str:
    """Join in place, so that reading a growing text again and again stays cheap."""
    if len(parts) > 1:
        parts[:] = ["".join(parts)]
    return parts[0] if parts else ""
