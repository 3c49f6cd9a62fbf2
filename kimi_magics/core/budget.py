"""Limits on what may be spent, and what they leave for the next call.

The promise: a call that was granted passes no budget, however long its answer. What it may take at most (the whole
prompt uncached, the longest answer that it may have) is compared with what is left; where that is too much, the answer
is shortened to what the rest pays for, and where that is less than a useful answer, the call is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Literal, get_args

from kimi_magics.core.usage import Price, Usage, format_amount, format_money
from kimi_magics.errors import BudgetError, ConfigError

Scope = Literal["call", "session", "notebook", "day", "week", "month"]
Source = Literal["session", "saved", "hub"]
Verdict = Literal["fits", "near", "over", "unknown"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
TOKENS = "tokens"
#: An answer that is cut before this many tokens is of no use, where nothing tells how long it will be.
USEFUL_TOKENS = 256

#: From this part of the amount on, the end of the budget is near.
_NEAR = Decimal("0.8")
_MILLION = Decimal(1_000_000)
_WORDS = re.compile(
    r"(?P<sign>[$¥])?\s*(?P<figure>[\d._,]+)\s*(?P<factor>[kKM](?![A-Za-z]))?\s*(?P<unit>[A-Za-z]+)?"
    r"(?:\s+(?:per|a|each)\s+(?P<scope>\w+))?(?P<shared>\s+per\s+hub)?\s*"
)
_FACTORS = {"k": 1_000, "K": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount` of `unit` (USD, CNY or tokens) in each `scope`.

    `source` tells who set it: this session, the user's settings, or whoever runs the hub. One that `is_shared` counts
    what all users of the ledger spend together.
    """

    amount: Decimal
    unit: str = "USD"
    scope: Scope = "session"
    source: Source = "session"
    is_shared: bool = False

    @property
    def is_money(self) -> bool:
        """Whether it limits money, and not tokens."""
        return self.unit != TOKENS

    def write(self, figure: Decimal) -> str:
        """Write a figure of this budget for a reader: `$0.0021`, `12,345 tokens`."""
        return format_money(figure, self.unit) if self.is_money else f"{int(figure):,} tokens"

    def __str__(self) -> str:
        """Write it as it would be typed, but with its sign: `$0.50 per day`."""
        amount = format_amount(self.amount, self.unit) if self.is_money else f"{int(self.amount):,} tokens"
        return f"{amount} per {self.scope}" + (" per hub" if self.is_shared else "")

    def typed(self, amount: Decimal | None = None) -> str:
        """Write it as %kimi_budget reads it, with another amount where one is given: `0.50 USD per day`."""
        figure = self.amount if amount is None else amount
        return f"{figure:f} {self.unit} per {self.scope}" + (" per hub" if self.is_shared else "")


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget and what is gone of it: what was `spent`, and `reserved` for calls that are under way."""

    budget: Budget
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    #: Calls in the same scope of which nobody knows what they cost.
    unpriced: int = 0

    @property
    def left(self) -> Decimal:
        """What may still be taken; below 0 when more was."""
        return self.budget.amount - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call may take: a prompt of at most `prompt_tokens`, and an answer of at most `answer_tokens`.

    `answer_tokens` is None where no limit is known. `useful_tokens` is the shortest answer that is of any use. Of a
    call of several requests, `taken` and `taken_cost` are what the earlier ones took.
    """

    model: str
    prompt_tokens: int
    answer_tokens: int | None
    useful_tokens: int = USEFUL_TOKENS
    #: How long the answer will probably be; what is put aside for it where no budget asks for more.
    expected_tokens: int | None = None
    price: Price | None = None
    currency: str = "USD"
    taken: Usage = field(default_factory=Usage)
    taken_cost: Decimal | None = Decimal(0)

    def usage(self, answer_tokens: int) -> Usage:
        """Return what the whole call takes if this answer has so many tokens."""
        return self.taken + Usage(self.prompt_tokens, answer_tokens, estimated=True)

    def cost(self, answer_tokens: int) -> Decimal | None:
        """Return what the whole call costs then; None when no price is known."""
        if self.price is None or self.taken_cost is None:
            return None
        return self.taken_cost + self.price.cost_of(Usage(self.prompt_tokens, answer_tokens))


@dataclass(frozen=True, slots=True)
class Grant:
    """A call that may be sent: `usage` and `cost` are put aside for it.

    `answer_tokens` is the limit to send with the request, where a budget lowered it; `limited_by` is that budget.
    """

    usage: Usage
    cost: Decimal | None
    currency: str
    answer_tokens: int | None = None
    limited_by: Budget | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that a budget forbids: `room` tokens of an answer would fit; None when the price cannot be compared."""

    standing: Standing
    demand: Demand
    room: int | None


def decide(demand: Demand, standings: Sequence[Standing], *, is_over_allowed: bool = False) -> Grant | Refusal:
    """Return what the budgets make of a call. With `is_over_allowed` only those of the hub are kept."""
    limit, limited_by = demand.answer_tokens, None
    for standing in standings:
        if is_over_allowed and standing.budget.source != "hub":
            continue
        if standing.budget.is_money and not _is_comparable(demand, standing.budget):
            return Refusal(standing, demand, None)
        room = _find_room(demand, standing)
        if room is None or (limit is not None and room >= limit):
            continue
        if room < demand.useful_tokens:
            return Refusal(standing, demand, room)
        limit, limited_by = room, standing.budget
    return Grant(
        demand.usage(put_aside := _put_aside(demand, limit, is_held=bool(standings))),
        demand.cost(put_aside),
        demand.price.currency if demand.price else demand.currency,
        limit if limited_by is not None else None,
        limited_by,
    )


def _is_comparable(demand: Demand, budget: Budget) -> bool:
    return demand.cost(0) is not None and demand.price is not None and demand.price.currency == budget.unit


def _find_room(demand: Demand, standing: Standing) -> int | None:
    """Return the tokens of an answer that fit, below 0 when the prompt alone does not; None where any answer fits."""
    if not standing.budget.is_money:
        return int(standing.left) - demand.usage(0).total_tokens
    if demand.price is None or (before := demand.cost(0)) is None:
        return -1
    rest = standing.left - before
    if rest < 0:
        return -1
    if demand.price.output == 0:
        return None
    return int((rest * _MILLION / demand.price.output).to_integral_value(ROUND_FLOOR))


def _put_aside(demand: Demand, limit: int | None, *, is_held: bool) -> int:
    """Return the tokens to reserve for the answer: all that it may have where a budget is to be held."""
    if limit is not None and (is_held or demand.expected_tokens is None):
        return limit
    return demand.expected_tokens or 0


def judge(demand: Demand, standings: Sequence[Standing]) -> Verdict:
    """Tell what the budgets make of a call that would be sent now; `near` when little is left after it."""
    match decide(demand, standings):
        case Refusal(room=None):
            return "unknown"
        case Refusal():
            return "over"
        case Grant(limited_by=limited_by):
            return "near" if limited_by is not None or any(_is_near(demand, one) for one in standings) else "fits"


def _is_near(demand: Demand, standing: Standing) -> bool:
    budget = standing.budget
    if budget.scope == "call":
        return False  # it begins anew with every call
    cost = demand.cost(demand.expected_tokens or 0)
    takes = (cost or Decimal(0)) if budget.is_money else Decimal(demand.usage(demand.expected_tokens or 0).total_tokens)
    return budget.amount - standing.left + takes >= _NEAR * budget.amount


def tightest(demand: Demand | None, standings: Sequence[Standing]) -> Standing | None:
    """Return the budget that leaves least for the answer of a call; without a call the one that is nearest its end."""
    if not standings:
        return None
    if demand is not None:
        rooms = [(room, at) for at, one in enumerate(standings) if (room := _find_room(demand, one)) is not None]
        if rooms:
            return standings[min(rooms)[1]]
    return min(standings, key=lambda one: one.left / one.budget.amount if one.budget.amount else Decimal(0))


# ---------------------------------------------------------------- words

_ASK_HUB = "ask whoever runs the hub, whose budget it is"


def explain(refusal: Refusal, *, cheaper: tuple[str, Decimal] | None = None) -> BudgetError:
    """Return the error for a refused call, with its figures and the ways out.

    `cheaper` is another model that would take the same prompt, and what its prompt costs.
    """
    budget, demand = refusal.standing.budget, refusal.demand
    is_hub = budget.source == "hub"
    this_once = [] if is_hub else ["--over-budget sends it for this once"]
    if refusal.room is None:
        priced = demand.price is not None and demand.price.currency != budget.unit
        what = (
            f"{demand.model} is priced in {demand.price.currency}"
            if priced and demand.price
            else (f"the price of {demand.model} is not known")
        )
        return BudgetError(
            f"{what}, and there is a budget of {budget} to keep",
            remedy=_join(
                f"set a price with %kimi_config price.{demand.model}=cached/input/output {budget.unit}",
                _ASK_HUB if is_hub else f"take the budget away with %kimi_budget off per {budget.scope}",
                *this_once,
            ),
        )
    needed = (
        demand.cost(demand.useful_tokens)
        if budget.is_money
        else Decimal(demand.usage(demand.useful_tokens).total_tokens)
    )
    needed = needed or Decimal(0)
    left = max(Decimal(0), refusal.standing.left)
    gone = budget.amount - refusal.standing.left
    raised = budget.typed(_round_up(max(gone, Decimal(0)) + needed))
    ways = [_ASK_HUB if is_hub else f"raise it with %kimi_budget {raised}"]
    if refusal.room >= 1:
        ways.append(f"be content with a short answer with --max-tokens {refusal.room}")
    else:
        ways.append("shorten the prompt")
    if cheaper is not None and budget.is_money:
        ways.append(f"take -m {cheaper[0]}, where it costs {format_money(cheaper[1], budget.unit)}")
    more, less = _write_apart(budget, needed, left)
    return BudgetError(
        f"a useful answer ({demand.useful_tokens:,} tokens) would bring the call to {more},"
        f" and of the budget of {budget} only {less} is left",
        remedy=_join(*ways, *this_once),
    )


def _join(*ways: str) -> str:
    return ", ".join(ways[:-1]) + f", or {ways[-1]}"


def _write_apart(budget: Budget, more: Decimal, less: Decimal) -> tuple[str, str]:
    """Write two figures with so many digits that they do not read the same."""
    written = budget.write(more), budget.write(less)
    places = 5
    while written[0] == written[1] and more != less and budget.is_money:
        step = Decimal(1).scaleb(-places)
        written = format_amount(more.quantize(step), budget.unit), format_amount(less.quantize(step), budget.unit)
        places += 1
    return written


def _round_up(amount: Decimal) -> Decimal:
    """Return an amount that is enough, twice over, in one significant digit."""
    double = 2 * amount
    if not double:
        return Decimal(1)
    return double.quantize(Decimal(1).scaleb(double.adjusted()), ROUND_CEILING)


# ---------------------------------------------------------------- what is typed


def read_budget(text: str, *, source: Source = "session", currency: str = "USD") -> Budget:
    """Read `0.50`, `$2 per day`, `5 CNY per notebook`, `100k tokens per session`; `currency` and session unless said.

    Raises ConfigError.
    """
    match = _WORDS.fullmatch(text.strip())
    if match is None:
        raise _not_a_budget(text)
    unit = (match["unit"] or {"$": "USD", "¥": "CNY"}.get(match["sign"] or "", currency)).upper()
    unit = TOKENS if unit in ("TOKEN", "TOKENS") else unit
    scope = (match["scope"] or "session").lower()
    try:
        amount = Decimal(match["figure"].replace(",", "").replace("_", "")) * _FACTORS.get(match["factor"] or "", 1)
    except InvalidOperation:
        raise _not_a_budget(text) from None
    is_mixed = match["sign"] is not None and unit != {"$": "USD", "¥": "CNY"}[match["sign"]]
    if unit not in ("USD", "CNY", TOKENS) or scope not in SCOPES or is_mixed:
        raise _not_a_budget(text)
    if unit == TOKENS and amount != int(amount):
        raise _not_a_budget(text)
    return Budget(amount, unit, scope, source, match["shared"] is not None)


def read_budgets(text: str, *, source: Source = "saved") -> tuple[Budget, ...]:
    """Read several budgets, parted by commas or `and`. Raises ConfigError."""
    parts = re.split(r",\s+|,(?!\d{3}\b)|;|\s+and\s+", text)
    return tuple(read_budget(part, source=source) for part in parts if part.strip())


def _not_a_budget(text: str) -> ConfigError:
    return ConfigError(
        f"{text.strip()!r} is not a budget",
        remedy="write an amount and what it is for, as in 0.50, 2 USD per day, 5 CNY per notebook,"
        " 100k tokens per session, 0.05 per call; or off",
    )


def replace_budget(budgets: Sequence[Budget], new: Budget) -> tuple[Budget, ...]:
    """Return `budgets` with `new` in the place of the one for the same: one scope has one of money, one of tokens."""
    kept = [one for one in budgets if not is_same(one, new)]
    return (*kept, new)


def is_same(one: Budget, other: Budget) -> bool:
    """Tell whether two budgets limit the same, so that the later replaces the earlier."""
    return (one.scope, one.is_money, one.is_shared) == (other.scope, other.is_money, other.is_shared)
