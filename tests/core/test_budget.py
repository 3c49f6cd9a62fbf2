"""A budget as users write it, for the magic and the command line alike."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kimi_magics.core.budget import Budget, read_budget
from kimi_magics.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("0.50", Budget(Decimal("0.50"), "CNY")),
        ("$1", Budget(Decimal(1), "USD")),
        ("2 usd", Budget(Decimal(2), "USD")),
        ("¥3", Budget(Decimal(3), "CNY")),
    ],
)
def test_a_budget_is_in_the_currency_that_is_written_else_in_the_given_one(text: str, budget: Budget) -> None:
    assert read_budget(text, currency="CNY", remedy="x") == budget


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "inf", "1 EUR", "1 2"])
def test_what_is_no_budget_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a budget") as caught:
        read_budget(text, currency="USD", remedy="write an amount")
    assert caught.value.remedy == "write an amount"
