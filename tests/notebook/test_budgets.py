"""Whose budgets hold, and for how long: of a session, saved, or of the hub, which nobody takes away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kimi_magics.errors import BudgetError, ConfigError
from kimi_magics.sandbox import Sandbox
from kimi_magics.store.config import find_hub_file

SetHub = Callable[[str], None]


@pytest.fixture
def set_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetHub:
    """What writes the settings of the hub, as whoever runs it does."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "hub"))
    path = find_hub_file()
    if not path.is_relative_to(tmp_path):
        pytest.skip("the folder of a hub cannot be moved on this platform")
    path.parent.mkdir(parents=True)
    return lambda text: void(path.write_text(text, "utf-8"))


def void(_result: object) -> None:
    return None


def budgets(cells: Any) -> list[tuple[str, str, str, str]]:
    told = json.loads(cells.run("%kimi_budget --json").stdout)["budgets"]
    return [(one["amount"], one["unit"], one["per"], one["set_by"]) for one in told]


def start_session(shell: InteractiveShell) -> None:
    """Begin a session as a kernel that is restarted does: what was not saved is gone."""
    shell.run_line_magic("unload_ext", "kimi_magics")
    shell.run_line_magic("load_ext", "kimi_magics")


def completions(sandbox: Sandbox) -> int:
    return sum(request.path.endswith("chat/completions") for request in sandbox.requests)


# ---------------------------------------------------------------- the hub's


def test_the_hubs_budget_holds_beside_ones_own_and_is_shown_with_its_source(cells: Any, set_hub: SetHub) -> None:
    set_hub('budget = "2 USD per day, 500 USD per month per hub"')
    cells.run("%kimi_budget 5 USD per day")
    assert budgets(cells) == [
        ("2", "USD", "day", "hub"),
        ("500", "USD", "month", "hub"),
        ("5", "USD", "day", "session"),
    ]
    shown = cells.run("%kimi_budget").bundles[0]["text/plain"]
    rows = [line for line in shown.splitlines() if line.startswith("$")]
    assert [row.split("  ")[-1].strip() for row in rows] == ["the hub", "the hub", "this session"]


@pytest.mark.parametrize("line", ["off", "off per day", "off --save", "per day off", "none"])
def test_nobody_takes_the_hubs_budget_away(cells: Any, set_hub: SetHub, line: str) -> None:
    set_hub('budget = "2 USD per day"')
    ran = cells.run(f"%kimi_budget {line}")
    assert isinstance(ran.error, ConfigError)
    assert "the budget of $2 per day is the hub's, and stays" in ran.shown_error
    assert "ask whoever runs the hub" in ran.shown_error
    assert budgets(cells) == [("2", "USD", "day", "hub")]


def test_nobody_leaves_the_ledger_of_the_hub(cells: Any, set_hub: SetHub, tmp_path: Path) -> None:
    cells.run("%kimi_config --save ledger=postgresql+psycopg://ada@db.example/mine")
    set_hub('ledger = "file"')
    ran = cells.run("%kimi_config ledger=postgresql+psycopg://ada@db.example/mine")
    assert isinstance(ran.error, ConfigError)
    assert "ask whoever runs the hub" in ran.shown_error
    assert cells.run("%kimi_config ledger").stdout.startswith("ledger = file (hub")


def test_ones_own_budget_goes_and_the_hubs_stays(cells: Any, set_hub: SetHub) -> None:
    set_hub('budget = "2 USD per day"')
    cells.run("%kimi_budget 1 USD per day")
    assert cells.run("%kimi_budget off").error is None
    assert budgets(cells) == [("2", "USD", "day", "hub")]
    cells.run("%kimi_config budget=off")
    assert budgets(cells) == [("2", "USD", "day", "hub")]


@pytest.mark.parametrize("flags", ["", "--over-budget"])
def test_a_call_over_the_hubs_budget_is_refused_and_the_ways_out_are_real_ones(
    cells: Any, set_hub: SetHub, sandbox: Sandbox, flags: str
) -> None:
    set_hub('budget = "0.0001 USD per day"')
    cells.run("%kimi_budget 5 USD per day")
    ran = cells.run(f"%%kimi {flags}\nHello")
    assert isinstance(ran.error, BudgetError)
    assert "ask whoever runs the hub" in ran.shown_error
    assert "--over-budget" not in ran.shown_error
    assert "%kimi_budget" not in ran.shown_error
    assert completions(sandbox) == 0
    assert json.loads(cells.run("%kimi_usage --json").stdout) == []


def test_an_answer_that_may_pass_ones_own_budget_is_still_limited_by_the_hubs(
    cells: Any, set_hub: SetHub, sandbox: Sandbox
) -> None:
    set_hub('budget = "0.00121 USD per day"')
    cells.run("%kimi_budget 0.0001")
    ran = cells.run("%%kimi --over-budget\nHello")
    assert ran.error is None, ran.shown_error
    (request,) = (one for one in sandbox.requests if one.path.endswith("chat/completions"))
    assert 256 <= request.body["max_completion_tokens"] < 400
    assert "by the budget of $0.00121 per day" in ran.stdout


def test_a_draft_over_the_hubs_budget_is_not_said_to_be_sent(cells: Any, set_hub: SetHub, sandbox: Sandbox) -> None:
    set_hub('budget = "0.0001 USD per day"')
    magics = cells.shell.find_line_magic("kimi").__self__
    for flags in ("", "--over-budget"):
        report = magics.drafts.report(f"%%kimi {flags}\nHello")
        assert report.state == "over-budget"
        assert "--over-budget" not in report.remedy


def test_a_hubs_file_that_cannot_be_read_lets_nothing_through(cells: Any, set_hub: SetHub, sandbox: Sandbox) -> None:
    set_hub('budget = "two dollars"')
    ran = cells.run("%%kimi\nHello")
    assert isinstance(ran.error, ConfigError)
    assert "is not a budget" in ran.shown_error
    assert completions(sandbox) == 0


# ---------------------------------------------------------------- ones own: of a session, and saved


def test_a_saved_budget_survives_the_session_and_another_does_not(cells: Any, shell: InteractiveShell) -> None:
    cells.run("%kimi_budget --save 2 USD per day")
    cells.run("%kimi_budget 0.5")
    assert budgets(cells) == [("2", "USD", "day", "saved"), ("0.5", "USD", "session", "session")]
    start_session(shell)
    assert budgets(cells) == [("2", "USD", "day", "saved")]


def test_what_is_saved_later_does_not_take_the_sessions_own_with_it(cells: Any, shell: InteractiveShell) -> None:
    cells.run("%kimi_budget 0.5")
    cells.run("%kimi_budget --save 2 USD per day")
    assert budgets(cells) == [("0.5", "USD", "session", "session"), ("2", "USD", "day", "saved")]
    start_session(shell)
    assert budgets(cells) == [("2", "USD", "day", "saved")]


def test_a_saved_budget_that_a_session_took_away_is_there_in_the_next(cells: Any, shell: InteractiveShell) -> None:
    cells.run("%kimi_budget --save 2 USD per day")
    cells.run("%kimi_budget off")
    assert budgets(cells) == []
    cells.run("%kimi_budget 0.05 per call --save")
    assert budgets(cells) == [("0.05", "USD", "call", "saved")]
    start_session(shell)
    assert budgets(cells) == [("2", "USD", "day", "saved"), ("0.05", "USD", "call", "saved")]


def test_what_is_taken_away_for_good_is_gone_also_where_the_session_had_taken_it_away(
    cells: Any, shell: InteractiveShell
) -> None:
    cells.run("%kimi_budget --save 2 USD per day")
    cells.run("%kimi_budget off")
    cells.run("%kimi_budget off --save")
    start_session(shell)
    assert budgets(cells) == []
