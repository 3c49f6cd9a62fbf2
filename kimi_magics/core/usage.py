"""Tokens and money: what was used, what a token costs, what that makes.

The promise: money is Decimal, tokens are int, and an unknown price gives an unknown cost, never 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any

_MILLION = Decimal(1_000_000)
_SYMBOLS = {"USD": "$", "CNY": "¥"}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, by attribute or by key.

    `cached_tokens` and `cache_write_tokens` are parts of `prompt_tokens`; reasoning is part of `completion_tokens`.
    `estimated` is true when the figures are ours and not the ones that the host billed.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    estimated: bool = False
    #: Searches of the web, which cost a fee of their own.
    web_searches: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return both together, as of two steps of one call; estimated when one of them is."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.estimated or other.estimated,
            self.web_searches + other.web_searches,
        )

    def __getitem__(self, key: str) -> int | bool:
        if key == "total_tokens":
            return self.total_tokens
        try:
            figure: int | bool = self.as_dict()[key]
        except KeyError:
            names = ", ".join([field.name for field in fields(self)] + ["total_tokens"])
            raise KeyError(f"{key!r} is not a figure of usage; there are {names}") from None
        return figure

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under their names."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in `currency`: as `source` lists it for the day `as_of`."""

    input: Decimal
    output: Decimal
    currency: str = "USD"
    #: A prompt token that was found in the cache; None where the host has no such price.
    cached: Decimal | None = None
    #: A prompt token that was written to the cache; None where it costs what `input` does.
    cache_write: Decimal | None = None
    as_of: date | None = None
    source: str = ""
    #: One search of the web; None where nobody has published it.
    web_search: Decimal | None = None

    def covers(self, usage: Usage) -> bool:
        """Tell whether all of `usage` has a known price."""
        return not usage.web_searches or self.web_search is not None

    def cost_of(self, usage: Usage) -> Decimal:
        """Return what `usage` costs, exactly.

        (prompt − cached − cache_write)·input + cached·cached + cache_write·cache_write + completion·output; the
        formula of the host's billing page, reasoning inside the completion. Searches of the web come on top.
        """
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens)
        total = fresh * self.input + usage.completion_tokens * self.output
        total += usage.cached_tokens * (self.input if self.cached is None else self.cached)
        total += usage.cache_write_tokens * (self.input if self.cache_write is None else self.cache_write)
        return total / _MILLION + usage.web_searches * (self.web_search or 0)


def format_money(amount: Decimal, currency: str) -> str:
    """Write an amount for a reader: `$0.0021`, and two significant digits below a tenth of a cent: `$0.000028`."""
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    if amount == 0:
        return f"{symbol}0"
    if amount >= 100:
        return f"{symbol}{amount:,.2f}"
    # By its size once it is rounded: 0.000998 is $0.0010.
    places = 4 if amount >= Decimal("0.001") else 1 - Decimal(f"{amount:.1e}").adjusted()
    return f"{symbol}{amount:.{places}f}"


def format_amount(amount: Decimal, currency: str) -> str:
    """Write an amount as its user wrote it, digit by digit: `$0.50`."""
    return f"{_SYMBOLS.get(currency, f'{currency} ')}{amount:f}"


def format_tokens(count: int) -> str:
    """Write a number of tokens for a reader, as in `412`, `1.2K`, `1.05M`."""
    if count < 1000:
        return str(count)
    # 999,950 and above would otherwise read 1000.0K.
    return f"{count / 1000:.1f}K" if count < 999_950 else f"{count / 1_000_000:.2f}M"
