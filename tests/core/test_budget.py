"""Budgets as users write them, and what they make of a call: granted, shortened or refused, and never passed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kimi_magics.core.budget import (
    Budget,
    Demand,
    Grant,
    Refusal,
    Standing,
    decide,
    explain,
    judge,
    read_budget,
    read_budgets,
    replace_budget,
    tightest,
)
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import ConfigError

PRICE = Price(Decimal("0.95"), Decimal(4), cached=Decimal("0.16"))


def ask(prompt_tokens: int = 1000, answer_tokens: int | None = 32_768, price: Price | None = PRICE) -> Demand:
    return Demand("kimi-k2.6", prompt_tokens, answer_tokens, price=price)


def standing(budget: str, *, spent: str = "0", reserved: str = "0") -> Standing:
    return Standing(read_budget(budget), Decimal(spent), Decimal(reserved))


# ---------------------------------------------------------------- what is typed


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("0.50", Budget(Decimal("0.50"))),
        ("$1", Budget(Decimal(1))),
        ("2 usd", Budget(Decimal(2))),
        ("$0.5 usd", Budget(Decimal("0.5"))),
        ("¥3", Budget(Decimal(3), "CNY")),
        ("2 USD per day", Budget(Decimal(2), scope="day")),
        ("$2 per week", Budget(Decimal(2), scope="week")),
        ("0.50 per notebook", Budget(Decimal("0.50"), scope="notebook")),
        ("0.05 per call", Budget(Decimal("0.05"), scope="call")),
        ("100k tokens per session", Budget(Decimal(100_000), "tokens")),
        ("1.5M tokens per month", Budget(Decimal(1_500_000), "tokens", "month")),
        ("1,000,000 tokens", Budget(Decimal(1_000_000), "tokens")),
        ("100 USD per month per hub", Budget(Decimal(100), scope="month", is_shared=True)),
        ("0", Budget(Decimal(0))),
    ],
)
def test_a_budget_is_read_as_it_is_written(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget
    assert read_budget(budget.typed()) == budget


def test_an_amount_without_a_sign_is_of_the_given_currency() -> None:
    assert read_budget("0.50", currency="CNY") == Budget(Decimal("0.50"), "CNY")
    assert read_budget("$1", currency="CNY").unit == "USD"


@pytest.mark.parametrize(
    "text",
    ["", "much", "-1", "nan", "inf", "1 EUR", "1 2", "2 per year", "$2 CNY", "0.5 tokens", "1e3", "1..2", "2 USD day"],
)
def test_what_is_no_budget_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a budget") as caught:
        read_budget(text)
    assert "2 USD per day" in caught.value.remedy


def test_several_stand_side_by_side_and_one_replaces_that_for_the_same() -> None:
    both = read_budgets("2 USD per day, 1,000 tokens per day and 0.05 per call")
    assert [str(one) for one in both] == ["$2 per day", "1,000 tokens per day", "$0.05 per call"]
    changed = replace_budget(both, read_budget("3 CNY per day"))
    assert [str(one) for one in changed] == ["1,000 tokens per day", "$0.05 per call", "¥3 per day"]


# ---------------------------------------------------------------- what is granted


def test_a_call_that_fits_goes_as_it_is_and_all_of_it_is_put_aside() -> None:
    grant = decide(ask(), [standing("1 USD per day", spent="0.5")])
    assert grant == Grant(Usage(1000, 32_768, estimated=True), PRICE.cost_of(Usage(1000, 32_768)), "USD")


def test_the_answer_is_shortened_to_what_the_rest_pays_for() -> None:
    grant = decide(ask(), [standing("0.01 USD per day", spent="0.002", reserved="0.001")])
    assert isinstance(grant, Grant)
    assert (grant.answer_tokens, grant.limited_by) == (1512, read_budget("0.01 USD per day"))
    assert grant.cost is not None
    assert grant.cost <= Decimal("0.007") < PRICE.cost_of(Usage(1000, 1513))


def test_the_tightest_of_several_decides_whatever_their_order() -> None:
    several = [standing("1 USD per day"), standing("3000 tokens per session"), standing("0.02 per call")]
    for order in (several, several[::-1]):
        grant = decide(ask(), order)
        assert isinstance(grant, Grant)
        assert grant.answer_tokens == 2000
        assert grant.limited_by == several[1].budget
        assert tightest(ask(), order) == several[1]


def test_an_answer_of_no_use_is_not_paid_for() -> None:
    refusal = decide(ask(), [standing("0.0015 USD per day")])
    assert isinstance(refusal, Refusal)
    assert refusal.room == 137
    short = Demand("kimi-k2.6", 1000, 100, useful_tokens=100, price=PRICE)
    assert isinstance(decide(short, [standing("0.0015 USD per day")]), Grant)


def test_where_no_longest_answer_is_known_the_budget_sets_one() -> None:
    grant = decide(ask(answer_tokens=None), [standing("0.01")])
    assert isinstance(grant, Grant)
    assert grant.answer_tokens == 2262


def test_an_answer_that_costs_nothing_needs_no_limit() -> None:
    free = Price(Decimal(1), Decimal(0))
    assert decide(ask(price=free), [standing("0.01")]).__class__ is Grant
    assert decide(ask(20_000, price=free), [standing("0.01")]).__class__ is Refusal


@pytest.mark.parametrize("price", [None, Price(Decimal(6), Decimal(20), "CNY")])
def test_what_cannot_be_compared_is_refused_but_by_a_budget_of_tokens(price: Price | None) -> None:
    refusal = decide(ask(price=price), [standing("1 USD")])
    assert isinstance(refusal, Refusal)
    assert refusal.room is None
    assert isinstance(decide(ask(price=price), [standing("1M tokens")]), Grant)
    assert judge(ask(price=price), [standing("1 USD")]) == "unknown"


def test_what_the_user_allows_for_once_goes_unshortened() -> None:
    for price in (PRICE, None):
        grant = decide(ask(price=price), [standing("0.0001")], is_over_allowed=True)
        assert isinstance(grant, Grant)
        assert grant.answer_tokens is None


def test_the_earlier_requests_of_a_call_count_with_it() -> None:
    begun = Demand("m", 1000, 500, price=PRICE, taken=Usage(2000, 300), taken_cost=PRICE.cost_of(Usage(2000, 300)))
    grant = decide(begun, [standing("1 USD")])
    assert isinstance(grant, Grant)
    assert grant.usage == Usage(3000, 800, estimated=True)
    assert grant.cost == PRICE.cost_of(Usage(3000, 800))


def test_without_a_budget_what_is_expected_is_put_aside() -> None:
    grant = decide(Demand("m", 10, 32_768, expected_tokens=400, price=PRICE), [])
    assert grant == Grant(Usage(10, 400, estimated=True), PRICE.cost_of(Usage(10, 400)), "USD")


# A machine that does much else is slow at making the values, too.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    prompt=st.integers(0, 10**6),
    limit=st.one_of(st.none(), st.integers(1, 10**6)),
    prices=st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)),
    budgets=st.lists(
        st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.booleans(), st.integers(0, 10**7)), max_size=4
    ),
)
def test_no_granted_call_passes_any_budget(
    prompt: int,
    limit: int | None,
    prices: tuple[int, int],
    budgets: list[tuple[int, int, bool, int]],
) -> None:
    price = Price(Decimal(prices[0]) / 10**4, Decimal(prices[1]) / 10**4)
    standings = [
        Standing(
            Budget(Decimal(amount) / (10**6 if is_money else 1), "USD" if is_money else "tokens", "day"),
            Decimal(spent) / (10**6 if is_money else 1),
            Decimal(reserved) / (10**6 if is_money else 1),
        )
        for amount, spent, is_money, reserved in budgets
    ]
    decision = decide(Demand("m", prompt, limit, price=price), standings)
    if isinstance(decision, Refusal):
        assert decision.standing in standings
        return
    longest = decision.answer_tokens if decision.answer_tokens is not None else limit
    for one in standings:
        if longest is None:
            # Only where answers cost nothing.
            assert one.budget.is_money
            longest = 10**9
        usage = Usage(prompt, longest)
        taken = price.cost_of(usage) if one.budget.is_money else Decimal(usage.total_tokens)
        assert taken <= one.left


# ---------------------------------------------------------------- words


def test_a_refusal_tells_its_figures_and_the_ways_out() -> None:
    refusal = decide(ask(), [standing("0.0015 USD per day", spent="0.0002")])
    assert isinstance(refusal, Refusal)
    error = explain(refusal, cheaper=("kimi-k2.5", Decimal("0.0009")))

    assert error.message == (
        "a useful answer (256 tokens) would bring the call to $0.0020, and of the budget of $0.0015 per day"
        " only $0.0013 is left"
    )
    assert error.remedy == (
        "raise it with %kimi_budget 0.005 USD per day, be content with a short answer with --max-tokens 87,"
        " take -m kimi-k2.5, where it costs $0.00090, or --over-budget sends it for this once"
    )
    raised = read_budget("0.005 USD per day")
    assert isinstance(decide(ask(), [Standing(raised, Decimal("0.0002"))]), Grant)


def test_figures_that_are_nearly_the_same_are_told_apart() -> None:
    refusal = decide(ask(), [standing("0.00197 USD per day")])
    assert isinstance(refusal, Refusal)
    assert explain(refusal).message == (
        "a useful answer (256 tokens) would bring the call to $0.001974, and of the budget of $0.00197 per day"
        " only $0.001970 is left"
    )


@pytest.mark.parametrize("price", [PRICE, None])
def test_the_hubs_budget_is_kept_whatever_the_user_allows_and_offers_no_way_that_is_none(price: Price | None) -> None:
    hub = Standing(replace(read_budget("0.0001"), source="hub"))
    refusal = decide(ask(price=price), [standing("5"), hub], is_over_allowed=True)
    assert isinstance(refusal, Refusal)
    assert refusal.standing is hub
    remedy = explain(refusal).remedy
    assert "ask whoever runs the hub" in remedy
    assert "%kimi_budget" not in remedy
    assert "--over-budget" not in remedy


def test_of_an_unknown_price_the_error_says_how_to_set_one() -> None:
    refusal = decide(ask(price=None), [standing("1 USD per day")])
    assert isinstance(refusal, Refusal)
    error = explain(refusal)
    assert error.message == "the price of kimi-k2.6 is not known, and there is a budget of $1 per day to keep"
    assert "%kimi_config price.kimi-k2.6=" in error.remedy
    assert "%kimi_budget off per day" in error.remedy
