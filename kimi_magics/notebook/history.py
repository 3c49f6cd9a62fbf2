"""What this kernel's calls took, cell by cell: for the totals, the budget, and what to expect of the next answer.

It lasts as long as the kernel; neither prompts nor answers are in it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal

from kimi_magics.core.reply import Reply

_RUNS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the calls of a session; `costs` by currency, `unpriced` calls are in none of them."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    costs: dict[str, Decimal]
    unpriced: int


class History:
    """The calls of one kernel."""

    def __init__(self) -> None:
        self._calls = self._prompt_tokens = self._completion_tokens = self._unpriced = 0
        self._costs: dict[str, Decimal] = {}
        self._by_cell: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_RUNS_KEPT))
        self._by_model: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_RUNS_KEPT))

    def add(self, reply: Reply, *, model: str, cell: str | None) -> None:
        """Take in a call that was sent to `model`; one that was refused or replayed took nothing."""
        if not reply.is_partial and (answer_tokens := reply.whole_usage.completion_tokens):
            if cell:
                self._by_cell[cell].append(answer_tokens)
            self._by_model[model].append(answer_tokens)
        if not reply.has_usage:
            return
        self._calls += 1
        self._prompt_tokens += reply.usage.prompt_tokens
        self._completion_tokens += reply.usage.completion_tokens
        if reply.cost is None:
            self._unpriced += 1
        else:
            self._costs[reply.currency] = self.spent(reply.currency) + reply.cost

    def spent(self, currency: str) -> Decimal:
        """Return what was spent in `currency`."""
        return self._costs.get(currency, Decimal(0))

    def runs_of_cell(self, cell: str | None) -> list[int]:
        """Return the completion tokens of earlier whole answers to this cell."""
        return list(self._by_cell.get(cell, ())) if cell else []

    def runs_of_model(self, model: str) -> list[int]:
        """Return the completion tokens of earlier whole answers of this model."""
        return list(self._by_model.get(model, ()))

    def totals(self) -> Totals:
        """Return the sums so far."""
        return Totals(self._calls, self._prompt_tokens, self._completion_tokens, dict(self._costs), self._unpriced)
