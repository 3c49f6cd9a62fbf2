"""Tokens and money."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kimi_magics.core.usage import Price, Usage, format_money, format_tokens

PRICE = Price(input=Decimal("0.95"), output=Decimal("4.00"), cached=Decimal("0.16"))


def test_a_cost_is_exact() -> None:
    usage = Usage(prompt_tokens=1236, completion_tokens=412, cached_tokens=1024)
    # (1236 − 1024)·0.95 + 1024·0.16 + 412·4.00, per million
    assert PRICE.cost_of(usage) == Decimal("0.00201324")
    assert str(PRICE.cost_of(usage)) == "0.00201324"


def test_a_cache_write_has_its_own_price() -> None:
    price = Price(input=Decimal(3), output=Decimal(15), cached=Decimal("0.3"), cache_write=Decimal(6))
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=200_000, cache_write_tokens=300_000)
    assert price.cost_of(usage) == Decimal("1.5") + Decimal("0.06") + Decimal("1.8")


def test_without_a_cache_price_cached_tokens_cost_what_fresh_ones_do() -> None:
    price = Price(input=Decimal(2), output=Decimal(5))
    assert price.cost_of(Usage(prompt_tokens=500_000, cached_tokens=250_000)) == Decimal(1)


def test_more_cached_than_prompt_tokens_never_make_a_negative_price() -> None:
    assert PRICE.cost_of(Usage(prompt_tokens=10, cached_tokens=20)) == Decimal("0.0000032")


def test_usage_is_read_by_attribute_and_by_key() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=1)
    assert (usage["prompt_tokens"], usage.completion_tokens, usage["cached_tokens"]) == (3, 4, 1)
    assert (usage["total_tokens"], usage.total_tokens, usage["estimated"]) == (7, 7, False)
    with pytest.raises(KeyError, match="there are prompt_tokens, completion_tokens"):
        usage["tokens"]


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0", "USD", "$0"),
        ("0.0021", "USD", "$0.0021"),
        ("0.00201324", "USD", "$0.0020"),
        ("0.000028", "USD", "$0.000028"),
        ("0.0009976", "USD", "$0.0010"),
        ("0.0000996", "USD", "$0.00010"),
        ("0.00000032", "USD", "$0.00000032"),
        ("1.5", "CNY", "¥1.5000"),
        ("1234.5", "USD", "$1,234.50"),
        ("2", "EUR", "EUR 2.0000"),
    ],
)
def test_money_is_written_for_a_reader_and_never_rounds_to_nothing(amount: str, currency: str, text: str) -> None:
    assert format_money(Decimal(amount), currency) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (412, "412"),
        (999, "999"),
        (1000, "1.0K"),
        (1234, "1.2K"),
        (999_949, "999.9K"),
        (999_950, "1.00M"),
        (1_048_576, "1.05M"),
    ],
)
def test_tokens_are_written_for_a_reader(count: int, text: str) -> None:
    assert format_tokens(count) == text
