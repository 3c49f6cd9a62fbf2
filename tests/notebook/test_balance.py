"""The balance of the account beside the ledger: `%kimi_usage --balance`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kimi_magics.client.access import account_mark
from kimi_magics.client.http import KimiClient
from kimi_magics.core.budget import Demand
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import CallError, MagicLineError, MissingKeyError, ReplyBrokenError
from kimi_magics.notebook.balances import Balances
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_balances import read_looks
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

PRICE = Price(Decimal(1), Decimal(4))
#: What the sandbox tells.
NOW = Decimal("49.58894")


def site(sandbox: Sandbox) -> str:
    return httpx.URL(sandbox.base_url).netloc.decode()


@contextmanager
def ago(minutes: float) -> Iterator[Ledger]:
    """The user's ledger, so many minutes ago."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    with closing(Ledger(clock=lambda: moment)) as ledger:
        yield ledger


def look(sandbox: Sandbox, minutes: float, amount: str, currency: str = "USD") -> None:
    with ago(minutes) as ledger:
        mark = account_mark(site(sandbox), os.environ["MOONSHOT_API_KEY"])
        ledger.note_balance(mark, Decimal(amount), currency)


def spend(sandbox: Sandbox, minutes: float, tokens: int, *, price: Price | None = PRICE) -> None:
    with ago(minutes) as ledger:
        entry = Entry("s", site(sandbox), "kimi-k2.6")
        granted = ledger.reserve(entry, Demand("kimi-k2.6", tokens, 0, price=PRICE), ())
        assert isinstance(granted, Reservation)
        usage = Usage(tokens)
        ledger.settle(granted, Outcome(usage, price and price.cost_of(usage), "USD", price=price))


def facts(cells: Any, line: str = "") -> Any:
    ran = cells.run(f"%kimi_usage --balance --json {line}")
    assert ran.error is None, ran.shown_error
    return json.loads(ran.stdout)


def money(row: dict[str, Any]) -> tuple[Decimal | None, ...]:
    figures = (row["fell"], row["counted"], row["elsewhere"])
    return tuple(None if figure is None else Decimal(figure) for figure in figures)


def table(cells: Any) -> str:
    ran = cells.run("%kimi_usage --balance")
    assert ran.error is None, ran.shown_error
    return ran.bundles[0]["text/plain"]


def asked(sandbox: Sandbox) -> int:
    return sum(request.path.endswith("balance") for request in sandbox.requests)


# ---------------------------------------------------------------- what is shown


def test_the_first_look_tells_the_balance_and_is_kept(cells: Any, sandbox: Sandbox) -> None:
    (only,) = facts(cells)["looks"]
    assert (only["balance"], only["currency"], only["fell"], only["elsewhere"]) == (str(NOW), "USD", None, None)
    assert "$49.5889" in table(cells)
    assert "This is the first look" in table(cells)
    assert asked(sandbox) == 1
    with ago(0) as ledger:
        mark = account_mark(site(sandbox), "sandbox")
        assert [one.amount for one in read_looks(ledger, mark)] == [NOW]


def test_what_the_account_fell_by_stands_beside_what_the_ledger_counts(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, "50.58894")
    spend(sandbox, 30, 400_000)
    spend(sandbox, 20, 350_000)
    first, last = facts(cells)["looks"]
    assert (first["balance"], last["balance"]) == ("50.58894", str(NOW))
    assert money(last) == (Decimal(1), Decimal("0.75"), Decimal("0.25"))
    assert (last["calls"], last["unpriced"], last["estimated"]) == (2, 0, 0)
    shown = table(cells)
    row = next(line for line in shown.splitlines() if "$49.5889" in line)
    assert row.split()[2:] == ["$49.5889", "$1.0000", "$0.7500", "$0.2500"]
    assert "elsewhere is the rest" in shown
    assert "whichever key" in shown


def test_money_that_came_in_is_said(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, "9.58894")
    spend(sandbox, 30, 500_000)
    last = facts(cells)["looks"][-1]
    assert money(last) == (Decimal(-40), Decimal("0.5"), None)
    shown = table(cells)
    assert "rose by $40.0000" in shown
    assert "Where money came in, what went elsewhere is not known" in shown


def test_more_in_the_ledger_than_the_account_fell_by_is_said(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, str(NOW))
    spend(sandbox, 30, 500_000)
    assert money(facts(cells)["looks"][-1]) == (Decimal(0), Decimal("0.5"), Decimal("-0.5"))
    shown = table(cells)
    assert "−$0.5000" in shown
    assert "Below 0: money came in" in shown


def test_calls_of_unknown_price_leave_the_rest_unknown(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, "50.58894")
    spend(sandbox, 30, 500_000, price=None)
    last = facts(cells)["looks"][-1]
    assert money(last) == (Decimal(1), Decimal(0), None)
    assert last["unpriced"] == 1
    assert "$0 + 1 unknown" in table(cells)


def test_a_frame_has_the_looks_with_figures(cells: Any, sandbox: Sandbox) -> None:
    pytest.importorskip("pandas")
    look(sandbox, 60, "60")
    cells.run("frame = %kimi_usage --balance --df")
    assert cells["frame"]["balance"].tolist() == [60.0, float(NOW)]


def test_a_period_and_csv(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60 * 24 * 40, "60")
    assert len(facts(cells)["looks"]) == 2
    assert len(facts(cells, "month")["looks"]) == 1
    lines = cells.run("%kimi_usage --balance --csv").stdout.splitlines()
    assert lines[0] == "time,balance,currency,fell,counted,calls,unpriced,estimated,elsewhere"
    assert len(lines) == 3


def test_neither_the_key_nor_the_mark_of_the_account_is_shown(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, "50")
    mark = account_mark(site(sandbox), "sandbox")
    assert mark not in table(cells) + json.dumps(facts(cells))


# ---------------------------------------------------------------- when it cannot be told


def test_a_host_that_does_not_tell_fails_the_cell_when_nothing_is_known(cells: Any, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(status=404, path="users/me/balance", times=None))
    ran = cells.run("%kimi_usage --balance")
    assert isinstance(ran.error, CallError)
    assert "does not tell a balance" in ran.shown_error


def test_a_host_that_does_not_tell_leaves_the_looks_of_before(cells: Any, sandbox: Sandbox) -> None:
    look(sandbox, 60, "50")
    sandbox.fault(Fault(status=404, path="users/me/balance", times=None))
    shown = table(cells)
    assert "could not be asked for" in shown
    assert "$50.0000" in shown
    assert "does not tell a balance" in facts(cells)["note"]


def test_without_a_key_it_says_so(cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    assert isinstance(cells.run("%kimi_usage --balance").error, MissingKeyError)


@pytest.mark.parametrize("line", ["--balance --plot", "--balance --drift", "--balance --by day", "--balance --reprice"])
def test_what_does_not_go_with_it_is_refused(cells: Any, line: str) -> None:
    ran = cells.run(f"%kimi_usage {line}")
    assert isinstance(ran.error, MagicLineError)
    assert "exclude each other" in ran.shown_error


# ---------------------------------------------------------------- asking


class Host:
    """A host that tells these balances one after the other; an exception stands for no connection."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.seconds = 0.0
        self.ledger = Ledger(clock=self.tell_time)

    def tell_time(self) -> datetime:
        return datetime(2026, 11, 23, 12, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def answer(self, _request: httpx.Request) -> httpx.Response:
        amount = self.answers.pop(0)
        if amount is None:
            return httpx.Response(404, json={"error": {"message": "no", "type": "resource_not_found_error"}})
        return httpx.Response(200, content=f'{{"data": {{"available_balance": {amount}}}}}')

    def balances(self, *keys: str) -> list[Balances]:
        """Return what asks for the balance of these accounts."""
        transport = httpx.MockTransport(self.answer)
        made = []
        for key in keys:
            client = KimiClient("https://api.example/v1", key, catalog=load_catalog(), transport=transport)
            made.append(
                Balances(
                    client=lambda client=client: client,
                    ledger=lambda: self.ledger,
                    currency=lambda: "USD",
                    clock=lambda: self.seconds,
                )
            )
        return made


def test_the_host_is_asked_once_a_minute() -> None:
    host = Host("5", "4")
    (balances,) = host.balances("key-1")
    told = []
    for _ in range(4):
        told.append(balances.ask(is_wanted=True).amount)
        host.seconds += 25
    assert told == [5, 5, 5, 4]


def test_a_host_that_could_not_tell_is_left_alone_unless_it_is_wanted() -> None:
    host = Host(None, "4")
    (balances,) = host.balances("key-1")
    for _ in range(3):
        with pytest.raises(CallError):
            balances.ask()
    assert balances.ask(is_wanted=True).amount == 4


@pytest.mark.parametrize("amount", ["1e400", "-1e10", "1e999999"])
def test_what_is_no_amount_is_an_error_and_is_not_kept(amount: str) -> None:
    host = Host(amount)
    (balances,) = host.balances("key-1")
    with pytest.raises(ReplyBrokenError):
        balances.ask()


def test_another_key_is_another_account() -> None:
    host = Host("5", "7")
    one, other = host.balances("key-1", "key-2")
    assert (one.ask().amount, other.ask().amount) == (5, 7)
    assert [look.amount for look in read_looks(host.ledger, account_mark("api.example", "key-2"))] == [7]
