"""What one prompt would take of several models: tokens, what answer to expect, and what both cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from kimi_magics.core.budget import USEFUL_TOKENS
from kimi_magics.core.estimate import Estimate
from kimi_magics.core.models import Model
from kimi_magics.core.outlook import Outlook
from kimi_magics.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Range:
    """An amount of money between two; `low` is what is paid at least."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Offer:
    """One model and a prompt; `estimate` is None where the model does not take it, and `refusal` says why."""

    model: Model
    estimate: Estimate | None
    refusal: str = ""
    outlook: Outlook | None = None
    #: The longest answer that was asked for, which has to fit the context, too.
    reserved_tokens: int = 0
    #: Whether it is the model that the prompt is for.
    is_asked: bool = False

    @property
    def answer_cost(self) -> Range | None:
        """What the expected answer costs; None where it or the price is not known."""
        if self.estimate is None or self.estimate.price is None or self.outlook is None:
            return None
        price = self.estimate.price
        low, high = (price.cost_of(Usage(0, tokens)) for tokens in (self.outlook.low or 0, self.outlook.high))
        return Range(low, high)

    @property
    def total(self) -> Range | None:
        """What prompt and answer cost together."""
        if self.estimate is None or self.estimate.input_cost is None or self.answer_cost is None:
            return None
        return Range(
            self.estimate.input_cost + self.answer_cost.low,
            self.estimate.input_cost + self.answer_cost.high,
        )

    @property
    def excess(self) -> int | None:
        """By how many tokens the prompt and the answer asked for are too long; 0 where they fit, None if unknown."""
        if self.estimate is None or self.model.context_tokens is None:
            return None
        return max(0, self.estimate.prompt_tokens + self.reserved_tokens - self.model.context_tokens)


def find_common_answer(offers: Sequence[Offer]) -> int | None:
    """Return how long an answer to compare prices by, in tokens; None where each model has an expected one.

    That is what the asked model is expected to answer, else the longest that another is, else a short answer.
    """
    priced = [offer for offer in offers if offer.estimate is not None and offer.estimate.price is not None]
    if all(offer.outlook is not None for offer in priced):
        return None
    asked = [offer.outlook.high for offer in offers if offer.is_asked and offer.outlook is not None]
    return asked[0] if asked else max((one.outlook.high for one in offers if one.outlook), default=USEFUL_TOKENS)


def sort_offers(offers: Sequence[Offer], *, currency: str) -> list[Offer]:
    """Return the cheapest first, by the most that prompt and answer are expected to cost.

    Where some answers are not known, all are compared by the same one, see `find_common_answer`. Then come models of
    unknown price, those whose context is too small, and those that refuse. A price in another currency than `currency`
    stands after those that can be compared with it.
    """
    common = find_common_answer(offers)
    return sorted(offers, key=lambda offer: _rank(offer, currency, common))


def _rank(offer: Offer, currency: str, common: int | None) -> tuple[int, bool, Decimal, bool, str]:
    estimate = offer.estimate
    price = estimate.price if estimate is not None else None
    group = 3 if estimate is None else 2 if offer.excess else 1 if price is None else 0
    cost = Decimal(0)
    if estimate is not None and price is not None:
        answer = common if common is not None else offer.outlook.high if offer.outlook is not None else 0
        cost = price.cost_of(Usage(estimate.prompt_tokens, answer))
    return group, price is not None and price.currency != currency, cost, not offer.is_asked, offer.model.name
