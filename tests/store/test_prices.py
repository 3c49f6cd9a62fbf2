"""Prices and models: the table of kimi_api.md sections 1 and 2, row by row."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from kimi_magics.core.models import Model
from kimi_magics.core.usage import Price
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.prices import find_price

CATALOG = load_catalog()

# cached / input / output per million tokens; kimi_api.md section 2, checked 2026-11-22
USD = {
    "kimi-k2.6": ("0.16", "0.95", "4.00"),
    "kimi-k2.7-code": ("0.19", "0.95", "4.00"),
    "kimi-k2.7-code-highspeed": ("0.38", "1.90", "8.00"),
    "kimi-k3": ("0.30", "3.00", "15.00"),
    "kimi-k3.1-pro": ("0.20", "2", "10"),
    "kimi-k3.1-pro-highspeed": ("0.20", "4", "20"),
    "kimi-k2.5": ("0.10", "0.60", "3.00"),
    "kimi-k2-0905-preview": ("0.15", "0.60", "2.50"),
    "kimi-k2-0711-preview": ("0.15", "0.60", "2.50"),
    "kimi-k2-thinking": ("0.15", "0.60", "2.50"),
    "kimi-k2-turbo-preview": ("0.15", "1.15", "8.00"),
    "kimi-k2-thinking-turbo": ("0.15", "1.15", "8.00"),
    "moonshot-v1-8k": (None, "0.20", "2"),
    "moonshot-v1-32k": (None, "1", "3"),
    "moonshot-v1-128k": (None, "2", "5"),
    "moonshot-v1-8k-vision-preview": (None, "0.20", "2"),
    "moonshot-v1-32k-vision-preview": (None, "1", "3"),
    "moonshot-v1-128k-vision-preview": (None, "2", "5"),
}
CNY = {
    "kimi-k2.6": ("1.10", "6.50", "27"),
    "kimi-k2.7-code": ("1.30", "6.50", "27"),
    "kimi-k2.7-code-highspeed": ("2.60", "13", "54"),
    "kimi-k3": ("2", "20", "100"),
    "kimi-k2.5": ("0.70", "4", "21"),
    "kimi-k2-0905-preview": ("1", "4", "16"),
    "kimi-k2-0711-preview": ("1", "4", "16"),
    "kimi-k2-thinking": ("1", "4", "16"),
    "kimi-k2-turbo-preview": ("1", "8", "58"),
    "kimi-k2-thinking-turbo": ("1", "8", "58"),
    "moonshot-v1-8k": (None, "2", "10"),
    "moonshot-v1-32k": (None, "5", "20"),
    "moonshot-v1-128k": (None, "10", "30"),
    "moonshot-v1-8k-vision-preview": (None, "2", "10"),
    "moonshot-v1-32k-vision-preview": (None, "5", "20"),
    "moonshot-v1-128k-vision-preview": (None, "10", "30"),
}


def figures(price: Price | None) -> tuple[Decimal | None, ...] | None:
    return price and (price.cached, price.input, price.output)


def expected(row: tuple[str | None, ...] | None) -> tuple[Decimal | None, ...] | None:
    return row and tuple(None if figure is None else Decimal(figure) for figure in row)


@pytest.mark.parametrize("model", list(CATALOG), ids=lambda model: model.name)
def test_each_price_is_the_listed_one_or_unknown(model: Model) -> None:
    assert figures(find_price(model, currency="USD")) == expected(USD.get(model.name))
    assert figures(find_price(model, currency="CNY")) == expected(CNY.get(model.name))


def test_prices_carry_their_currency_date_and_source() -> None:
    usd, cny = (find_price(CATALOG.get("kimi-k2.6"), currency=currency) for currency in ("USD", "CNY"))
    assert (usd.currency, usd.source.split()[0], usd.as_of is not None) == ("USD", "genai-prices", True)
    assert (cny.currency, cny.source, cny.as_of) == ("CNY", "models.toml", date(2026, 11, 22))


@pytest.mark.parametrize("name", ["kimi-k9", "kimi-k2.6-ultra", "kimi-k", ""])
def test_a_model_of_no_list_has_no_price_though_its_name_begins_like_another_s(name: str) -> None:
    assert find_price(Model(name), currency="USD") is None
    assert find_price(Model(name), currency="CNY") is None


def test_a_currency_without_a_list_has_no_price() -> None:
    assert find_price(CATALOG.get("kimi-k2.6"), currency="EUR") is None


def with_fee(price: Price) -> Price:
    """Return a price with what one search of the web costs in dollars, which goes with every model."""
    return replace(price, web_search=Decimal("0.005"))


def test_the_fee_of_a_search_is_known_in_dollars_only() -> None:
    for currency, fee in (("USD", Decimal("0.005")), ("CNY", None)):
        price = find_price(CATALOG.get("kimi-k2.6"), currency=currency)
        assert price is not None
        assert price.web_search == fee


def test_a_fee_of_the_user_s_own_goes_before_the_list() -> None:
    own = Price(Decimal(1), Decimal(2), web_search=Decimal(0))
    assert find_price(CATALOG.get("kimi-k2.6"), currency="USD", own={"kimi-k2.6": own}) is own


def test_the_user_s_own_price_goes_first() -> None:
    own = Price(Decimal(1), Decimal(2), source="settings")
    assert find_price(CATALOG.get("kimi-k2.6"), currency="CNY", own={"kimi-k2.6": own}) == with_fee(own)
    assert find_price(Model("kimi-k9"), currency="USD", own={"kimi-k9": own}) == with_fee(own)


def test_a_cache_write_of_kimi_k3_has_its_price() -> None:
    assert find_price(CATALOG.get("kimi-k3"), currency="USD").cache_write == Decimal(3)
    assert find_price(CATALOG.get("kimi-k3"), currency="CNY").cache_write == Decimal(20)


# ---------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("name", "context", "output", "thinking", "retired"),
    [
        ("kimi-k2.6", 262_144, 32_768, "switch", None),
        ("kimi-k2.7-code", 262_144, 32_768, "always", None),
        ("kimi-k3", 1_048_576, 131_072, "effort", None),
        ("kimi-k2.5", 262_144, 32_768, "switch", date(2026, 8, 31)),
        ("kimi-k2-0711-preview", 131_072, None, "never", date(2026, 5, 25)),
        ("moonshot-v1-8k", 8_192, None, "never", date(2026, 8, 31)),
        ("kimi-latest", None, None, "never", date(2026, 1, 28)),
    ],
)
def test_the_catalogue(name: str, context: int, output: int | None, thinking: str, retired: date | None) -> None:
    model = CATALOG.get(name)
    assert (model.context_tokens, model.default_output_tokens, model.thinking, model.retired) == (
        context,
        output,
        thinking,
        retired,
    )


#: Every model that the original pages name stays known.
NAMED = [
    "kimi-k2.6",
    "kimi-k2.5",
    "kimi-k2-0905-preview",
    "kimi-k2-0711-preview",
    "kimi-k2-turbo-preview",
    "kimi-k2-thinking",
    "kimi-k2-thinking-turbo",
    "moonshot-v1-8k",
    "moonshot-v1-32k",
    "moonshot-v1-128k",
    "moonshot-v1-auto",
    "kimi-latest",
    "moonshot-v1-8k-vision-preview",
    "moonshot-v1-32k-vision-preview",
    "moonshot-v1-128k-vision-preview",
    "kimi-thinking-preview",
]


@pytest.mark.parametrize("name", NAMED)
def test_every_model_of_the_original_pages_is_known(name: str) -> None:
    assert CATALOG.get(name).is_known


def test_every_retired_model_names_a_live_one_in_its_place() -> None:
    live = {model.name for model in CATALOG.live()}
    assert {model.replacement for model in CATALOG if model.retired} <= live


def test_an_unknown_model_has_no_facts_and_a_near_one_is_suggested() -> None:
    assert CATALOG.get("kimi-k9") == Model("kimi-k9")
    assert (CATALOG.suggest("kimi-k2.66"), CATALOG.suggest("gpt")) == ("kimi-k2.6", None)
