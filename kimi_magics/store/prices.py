"""What a token costs: the user's own price first, else USD from genai-prices or CNY from our dated table.

genai-prices (and the pydantic below it) takes about a second to import, so it is imported at the first price asked
for; `prefetch` lets that happen while the first request is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any

from kimi_magics.core.models import Model
from kimi_magics.core.usage import Price
from kimi_magics.store.catalog import cny_price, web_search_price

_PROVIDER = "moonshotai"


def find_price(model: Model, *, currency: str, own: Mapping[str, Price] | None = None) -> Price | None:
    """Return the price of `model` in `currency`, or None when it is not known: unknown is never 0.

    A price of the user's own (`own`, by model name) goes before the lists, whatever its currency.
    """
    price = _find_price(model, currency, own or {})
    if price is None or price.web_search is not None:
        return price
    return replace(price, web_search=web_search_price(price.currency))


def _find_price(model: Model, currency: str, own: Mapping[str, Price]) -> Price | None:
    if model.name in own:
        return own[model.name]
    if currency == "CNY":
        return cny_price(model.name)
    if currency == "USD":
        return _usd_price(model.priced_as or model.name)
    return None


def prefetch(then: Callable[[], None] = lambda: None) -> None:
    """Import the price list in the background, and do `then` there once it is known."""

    def fetch() -> None:
        _rows()
        then()

    threading.Thread(target=fetch, name="kimi-prices", daemon=True).start()


def is_loaded() -> bool:
    """Whether a price can be told without loading the list first."""
    return bool(_rows.cache_info().currsize)


@cache
def _rows() -> Mapping[str, Any]:
    from genai_prices import data_snapshot

    providers = data_snapshot.get_snapshot().providers
    return {model.id: model for provider in providers if provider.id == _PROVIDER for model in provider.models}


@cache
def _usd_price(name: str) -> Price | None:
    # Only the exact name: a prefix or fuzzy match would give a new model the price of another.
    row = _rows().get(name)
    if row is None:
        return None
    now = datetime.now(UTC)
    price = row.get_prices(now)
    figure = {kind: getattr(price, f"{kind}_mtok", None) for kind in ("input", "output", "cache_read", "cache_write")}
    # Tiers by prompt length or conditions that this product does not know would make a plain figure wrong.
    if not isinstance(figure["input"], Decimal) or not isinstance(figure["output"], Decimal):
        return None
    cached, written = figure["cache_read"], figure["cache_write"]
    return Price(
        input=figure["input"],
        output=figure["output"],
        cached=cached if isinstance(cached, Decimal) else None,
        cache_write=written if isinstance(written, Decimal) else None,
        as_of=now.date(),
        source=f"genai-prices {version('genai-prices')}",
    )
