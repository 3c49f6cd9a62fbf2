"""What %kimi_budget does: show the budgets with what is left of each, set one, take some away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.budget import SCOPES, Budget, Standing, read_budget
from kimi_magics.core.usage import format_money
from kimi_magics.errors import ConfigError
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table

_OFF = re.compile(r"(?:off|none|remove)(?:\s+per\s+(\w+))?|per\s+(\w+)\s+(?:off|none)", re.IGNORECASE)
_SOURCES = {"session": "this session", "saved": "saved, for all sessions", "hub": "the hub"}


def report_budget(session: Session, ask: Ask) -> None:
    """Show the budgets; first set the one that is given, or take away those that are named. Raises ConfigError."""
    text, is_saved = ask.text.strip(), bool(ask.extra["save"])
    if match := _OFF.fullmatch(text):
        _remove(session, (match[1] or match[2] or "").lower(), save=is_saved)
    elif text:
        session.spending.set(read_budget(text, source="saved" if is_saved else "session"), save=is_saved)
    standings = session.spending.standings()
    if ask.json:
        print_json(_facts(session, standings))
    elif not standings:
        spent = session.history.spent(session.currency)
        print(f"no budget; {format_money(spent, session.currency)} was spent in this session")  # noqa: T201 — the output
    else:
        headers = ["budget", "spent", "under way", "left", "set by"]
        note = f"Counted in the ledger ({session.spending.ledger.place}), for all your kernels together."
        show_table(headers, [_row(one) for one in standings], note=note, figures=headers[1:4])


def _remove(session: Session, scope: str, *, save: bool) -> None:
    if scope and scope not in SCOPES:
        raise ConfigError(f"there is no budget per {scope}", remedy=f"a budget is per {', '.join(SCOPES)}")
    if session.spending.remove(scope, save=save):
        return
    held = [str(one) for one in session.spending.budgets() if one.source == "hub" and scope in ("", one.scope)]
    if held:
        raise ConfigError(
            f"the budget of {' and '.join(held)} is the hub's, and stays",
            remedy="ask whoever runs the hub; %kimi_budget shows what is left of it",
        )
    if scope:
        raise ConfigError(f"you have no budget per {scope}", remedy="%kimi_budget lists them")


def _row(standing: Standing) -> list[str]:
    budget = standing.budget
    left = max(Decimal(0), standing.left)
    if budget.scope == "call":
        return [str(budget), "–", "–", budget.write(budget.amount), _SOURCES[budget.source]]
    spent = budget.write(standing.spent) + (f" and {standing.unpriced} of unknown price" if standing.unpriced else "")
    return [str(budget), spent, budget.write(standing.reserved), budget.write(left), _SOURCES[budget.source]]


def _facts(session: Session, standings: Sequence[Standing]) -> dict[str, Any]:
    """Return what a program reads: the session's budget of money, then all of them."""
    of_session = next((one for one in standings if one.budget.scope == "session" and one.budget.is_money), None)
    currency = of_session.budget.unit if of_session else session.currency
    return {
        "budget": f"{of_session.budget.amount:f}" if of_session else None,
        "spent": str(of_session.spent if of_session else session.history.spent(currency)),
        "left": str(of_session.left) if of_session else None,
        "currency": currency,
        "budgets": [_fact(one.budget, one) for one in standings],
    }


def _fact(budget: Budget, standing: Standing) -> dict[str, Any]:
    return {
        "amount": f"{budget.amount:f}",
        "unit": budget.unit,
        "per": budget.scope,
        "spent": str(standing.spent),
        "under_way": str(standing.reserved),
        "left": str(standing.left),
        "unpriced": standing.unpriced,
        "set_by": budget.source,
    }
