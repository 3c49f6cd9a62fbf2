"""The receipts that answers leave in the metadata of saved outputs, and their sums.

The promise: a notebook is somebody else's. Whatever stands in it, nothing fails, no text reaches a terminal that could
steer it, and no figure is believed that a call cannot have.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kimi_magics.core.usage import Usage

#: The name under which a receipt stands in the metadata of an output.
NAME = "kimi_magics"
_MOST_TOKENS = 10**12
_MOST_LETTERS = 120
#: Shorter ids come again: some servers number their calls, or choose among a thousand.
_LEAST_ID = 16
#: A decimal as `str` writes it; an exponent where it is very small.
_COST = re.compile(r"\d{1,9}(?:\.\d{1,30})?(?:E-\d{1,2})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}")
_FIGURES = ("prompt_tokens", "completion_tokens", "cached_tokens")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one call took, as its notebook says; `cost` is None where it is not known. Cells count from 0."""

    notebook: str
    cell: int
    cell_id: str
    model: str
    usage: Usage
    cost: Decimal | None
    currency: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that was replayed at no cost; `cost` is what it took when it was billed, None where nobody knows."""

    notebook: str
    cell: int
    cost: Decimal | None
    currency: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """A receipt that cannot be read, and why."""

    notebook: str
    cell: int
    reason: str


@dataclass(slots=True)
class Found:
    """The receipts of notebooks, each call once, and what is to be told of the others."""

    receipts: list[Receipt] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    #: Answers for which nothing was sent: they are no calls.
    replays: list[Replay] = field(default_factory=list)
    #: Receipts of calls that are among `receipts` already, as those of copied cells.
    copies: list[Receipt] = field(default_factory=list)
    #: Of `receipts`, those with the request id of another one and other figures: one of them was changed.
    changed: list[Receipt] = field(default_factory=list)
    _seen: dict[str, set[Hashable]] = field(default_factory=dict)

    def add(self, receipt: Receipt) -> None:
        """Take a receipt in; a call that is known by its request id does not count again."""
        if len(receipt.request_id) >= _LEAST_ID:
            figures = (receipt.model, receipt.usage, receipt.cost, receipt.currency)
            seen = self._seen.setdefault(receipt.request_id, set())
            if figures in seen:
                self.copies.append(receipt)
                return
            if seen:
                self.changed.append(receipt)
            seen.add(figures)
        self.receipts.append(receipt)


@dataclass(frozen=True, slots=True)
class Sum:
    """What the calls of one group took, in one currency."""

    key: tuple[Any, ...]
    currency: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: Decimal
    #: Of the calls, how many have no known cost, and how many figures are estimated.
    unpriced: int
    estimated: int


def find_receipts(cells: Sequence[Any], *, notebook: str, found: Found) -> int:
    """Add the receipts in the outputs of a notebook's cells to `found`; return how many there were, readable or not."""
    count = 0
    for number, cell in enumerate(cells):
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        for output in outputs if isinstance(outputs, list) else ():
            metadata = output.get("metadata") if isinstance(output, dict) else None
            if not isinstance(metadata, dict) or NAME not in metadata:
                continue
            row, cell_id = metadata[NAME], cell.get("id")
            # Others may keep something of their own there.
            if isinstance(row, dict) and not row.keys() & {"usage", "cost"}:
                continue
            count += 1
            try:
                receipt = _read(row, notebook, number, clean(cell_id) if isinstance(cell_id, str) else "")
                if (replay := _read_replay(row, receipt)) is not None:
                    found.replays.append(replay)
                else:
                    found.add(receipt)
            except ValueError as error:
                found.flaws.append(Flaw(notebook, number, str(error)))
    return count


def _read(row: Any, notebook: str, cell: int, cell_id: str) -> Receipt:
    """Return a receipt. Raises ValueError with what is wrong; nothing of the receipt itself is in it."""
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    model, request_id = row.get("model"), row.get("request_id")
    if not isinstance(model, str) or not model.strip():
        raise ValueError("it names no model")
    usage = row.get("usage")
    figures = usage if isinstance(usage, dict) else {}
    prompt, completion, cached = (_read_tokens(figures.get(name)) for name in _FIGURES)
    cost, currency = _read_cost(row)
    return Receipt(
        notebook,
        cell,
        cell_id,
        clean(model),
        Usage(prompt, completion, cached, estimated=figures.get("estimated") is True),
        cost,
        currency,
        request_id[:_MOST_LETTERS] if isinstance(request_id, str) else "",
    )


def _read_replay(row: dict[str, Any], receipt: Receipt) -> Replay | None:
    """Return what was replayed, if nothing of the answer was billed; of one that was billed in part, that counts."""
    replayed = row.get("replayed")
    if not isinstance(replayed, dict) or receipt.cost != 0 or receipt.usage.total_tokens:
        return None
    return Replay(receipt.notebook, receipt.cell, *_read_cost(replayed))


def _read_cost(row: dict[str, Any]) -> tuple[Decimal | None, str]:
    cost, currency = row.get("cost"), row.get("currency")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ValueError("its currency is none")
    if cost is not None and not (isinstance(cost, str) and _COST.fullmatch(cost)):
        raise ValueError("its cost is no amount")
    return None if cost is None else Decimal(cost), currency


def _read_tokens(count: Any) -> int:
    if type(count) is not int or not 0 <= count <= _MOST_TOKENS:
        raise ValueError("its tokens are no figures")
    return count


def clean(text: str) -> str:
    """Return a text of somebody else's for a terminal: one line, without what steers it, not too long."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text[: _MOST_LETTERS + 1])
    return shown if len(shown) <= _MOST_LETTERS else f"{shown[: _MOST_LETTERS - 1]}…"


def sum_up(receipts: Iterable[Receipt], by: Sequence[str]) -> list[Sum]:
    """Return the sums by these fields of the receipts together, a row for each currency, in the order of the calls."""
    sums: dict[tuple[tuple[Any, ...], str], Sum] = {}
    for receipt in receipts:
        key = tuple(getattr(receipt, name) for name in by)
        before = sums.get((key, receipt.currency), Sum(key, receipt.currency, 0, 0, 0, 0, Decimal(0), 0, 0))
        usage = receipt.usage
        sums[key, receipt.currency] = Sum(
            key,
            receipt.currency,
            before.calls + 1,
            before.prompt_tokens + usage.prompt_tokens,
            before.completion_tokens + usage.completion_tokens,
            before.cached_tokens + usage.cached_tokens,
            before.cost + (receipt.cost or 0),
            before.unpriced + (receipt.cost is None),
            before.estimated + usage.estimated,
        )
    return list(sums.values())
