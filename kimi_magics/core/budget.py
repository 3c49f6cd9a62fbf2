"""A limit on what may be spent, and what the next call makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from kimi_magics.core.usage import format_amount, format_money
from kimi_magics.errors import BudgetError, ConfigError

Verdict = Literal["fits", "near", "over", "unknown"]

#: From this part of the amount on, the end of the budget is near.
_NEAR = Decimal("0.8")


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount` of `currency`, of which `spent` is gone."""

    amount: Decimal
    currency: str = "USD"
    spent: Decimal = Decimal(0)

    @property
    def left(self) -> Decimal:
        """What may still be spent; below 0 when more was spent."""
        return self.amount - self.spent

    def judge(self, cost: Decimal | None, currency: str) -> Verdict:
        """Tell whether a call of `cost` still fits; a cost that is unknown or of another currency cannot be judged."""
        if cost is None or currency != self.currency:
            return "unknown"
        if cost > self.left:
            return "over"
        return "near" if self.spent + cost >= _NEAR * self.amount else "fits"

    def check(self, cost: Decimal | None, currency: str, *, model: str) -> None:
        """Raise BudgetError when a call of `cost` to `model` does not fit; one that cannot be judged does not."""
        verdict = self.judge(cost, currency)
        amount = format_amount(self.amount, self.currency)
        if verdict == "unknown":
            what = f"the price of {model} is not known" if cost is None else f"{model} is priced in {currency}"
            raise BudgetError(
                f"{what}, and there is a budget of {amount} to keep",
                remedy=f"set a price with %kimi_config price.{model}=cached/input/output {self.currency},"
                " or take the budget away with %kimi_budget off",
            )
        if verdict == "over" and cost is not None:
            raise BudgetError(
                f"the call would cost {format_money(cost, currency)} or more, and of the budget of {amount}"
                f" only {format_money(max(Decimal(0), self.left), currency)} is left",
                remedy=f"raise it with %kimi_budget {_round_up(self.spent + cost)} {self.currency},"
                " shorten the prompt, lower --max-tokens, or choose a cheaper model (%kimi_estimate --compare)",
            )


def _round_up(amount: Decimal) -> str:
    """Return an amount that is enough, twice over, in one significant digit."""
    double = 2 * amount
    step = Decimal(1).scaleb(double.adjusted())
    return f"{-(-double // step) * step:f}"


def read_budget(text: str, *, currency: str, remedy: str) -> Budget:
    """Read `0.50`, `$0.50` or `5 CNY`; in `currency` unless said. Raises ConfigError with `remedy`."""
    figure, _, named = text.strip().partition(" ")
    try:
        amount = Decimal(figure.lstrip("$¥"))
    except InvalidOperation:
        amount = Decimal(-1)
    named = named.strip().upper() or {"$": "USD", "¥": "CNY"}.get(figure[:1], currency)
    if not amount.is_finite() or amount < 0 or named not in ("USD", "CNY"):
        raise ConfigError(f"{text!r} is not a budget", remedy=remedy)
    return Budget(amount, named)
