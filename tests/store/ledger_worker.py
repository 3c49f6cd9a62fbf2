"""Writes calls to a ledger in a process of its own, and prints each as soon as it is done: HOME COUNT [BUDGET]."""

from __future__ import annotations

import os
import random
import sys
from decimal import Decimal
from pathlib import Path

from kimi_magics.core.budget import Demand, read_budgets
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

PRICE = Price(Decimal("0.95"), Decimal(4))


def main(home: str, count: int, budget: str, url: str | None = None) -> None:
    """Reserve and settle `count` calls, or as many as the budget allows."""
    ledger = Ledger(url, home=Path(home), tell=lambda text: say("trouble", text), user="ada")
    budgets = read_budgets(budget)
    entry = Entry(f"process-{os.getpid()}", "h", "kimi-k2.6", notebook=f"/n{os.getpid() % 3}.ipynb")
    chance = random.Random(os.getpid())
    for _ in range(count):
        granted = ledger.reserve(entry, Demand("kimi-k2.6", 100, 50, useful_tokens=50, price=PRICE), budgets)
        if not isinstance(granted, Reservation):
            say("refused", "")
            return
        say("reserved", granted.key)
        usage = Usage(100, chance.randint(1, 50))
        ledger.settle(granted, Outcome(usage, PRICE.cost_of(usage), "USD", price=PRICE))
        say("settled", f"{granted.key} {usage.completion_tokens}")


def say(what: str, text: str) -> None:
    sys.stdout.write(f"{what} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    home, count, budget, *more = sys.argv[1:]
    main(home, int(count), budget, *more)
