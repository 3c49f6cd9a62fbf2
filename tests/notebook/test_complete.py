"""Tab on the line of a magic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from kimi_magics.sandbox import Sandbox


def complete(cells: Any, line: str) -> list[str]:
    """Ask as the kernel does for a front end, and return the words that would stand at the cursor."""
    word = line.split()[-1] if not line.endswith(" ") else ""
    before = len(line) - len(word)
    with provisionalcompleter():
        found = cells.shell.Completer.completions(line, len(line))
        return [line[before : completion.start] + completion.text for completion in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%%kimi --max", ["--max-steps", "--max-tokens"]),
        ("%%kimi --tool rep", ["reporter"]),
        ("%%kimi --schema repo", ["report", "reporter"]),
        ("%%kimi -t rev", ["review"]),
        ("%%kimi --no", ["--no-stream"]),
        ("%kimi --th", ["--thinking"]),
        ("%%kimi -m kimi-k2.7", ["kimi-k2.7-code", "kimi-k2.7-code-highspeed"]),
        ("%kimi_estimate --model kimi-k2.6", ["kimi-k2.6"]),
        ("%kimi_estimate --com", ["--compare"]),
        ("%%kimi --thinking o", ["off", "on"]),
        ("%%kimi --effort ", ["high", "low", "max"]),
        ("%%kimi -o repo", ["report", "reporter"]),
        ("%%kimi -i repo", ["report", "reporter"]),
        ("%kimi_config mod", ["model"]),
        ("%kimi_models --", ["--all", "--help", "--json"]),
        ("%kimi_usage --d", ["--df", "--drift"]),
        ("%kimi_usage --ba", ["--balance"]),
        ("%kimi_usage --by c", ["call", "cell"]),
    ],
)
def test_tab_offers_what_may_stand_there(cells: Any, line: str, expected: list[str]) -> None:
    cells.run("report = _report = 1\ndef reporter(): pass")
    cells.run("%kimi_config --save template.review=Review")
    assert complete(cells, line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%kimi_usage ", ["all", "month", "today", "week"]),
        ("%kimi_usage t", ["today"]),
        ("%kimi_usage --by ", ["call", "cell", "day", "model", "notebook"]),
        ("%kimi_usage week --by=m", ["--by=model"]),
        ("%kimi_usage --by day w", ["week"]),
        (
            "%kimi_usage month --",
            [
                *("--balance", "--by", "--csv", "--df", "--drift", "--help"),
                *("--json", "--limits", "--plot", "--reprice"),
            ],
        ),
        ("%kimi_budget ", ["off"]),
        ("%kimi_budget --", ["--help", "--json", "--save"]),
        ("%kimi_budget --save o", ["off"]),
        ("%kimi_budget 2 ", ["CNY", "USD", "per", "tokens"]),
        ("%kimi_budget 100k t", ["tokens"]),
        ("%kimi_budget $2 ", ["per"]),
        ("%kimi_budget 2 USD ", ["per"]),
        ("%kimi_budget --save 2 USD per ", ["call", "day", "month", "notebook", "session", "week"]),
        ("%kimi_budget 0.05 per c", ["call"]),
        ("%kimi_budget off ", ["per"]),
        ("%kimi_budget off per d", ["day"]),
    ],
)
def test_tab_goes_on_with_a_period_and_with_a_budget(cells: Any, line: str, expected: list[str]) -> None:
    assert complete(cells, line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "%kimi_usage today w",  # one period is enough
        "%kimi_usage --by w",
        "%kimi_budget per d",  # an amount comes first
        "%kimi_budget two U",
        "%kimi_budget $2 U",  # the sign has said it
        "%kimi_budget 2 EUR p",
        "%kimi_budget 2 USD d",  # per comes first
        "%kimi_budget 2 USD per day p",
        "%kimi_budget off d",
    ],
)
def test_tab_offers_nothing_of_ours_where_it_would_be_wrong(cells: Any, line: str) -> None:
    ours = {"all", "month", "today", "week", "model", "notebook", "day", "cell", "off", "per", "USD", "call", "session"}
    assert not ours & set(complete(cells, line))


def test_every_flag_is_offered(cells: Any) -> None:
    assert {"--model", "-m", "--system", "--out", "--stop", "--dry-run", "--raw"} <= set(
        complete(cells, "%%kimi -")
    ) | set(complete(cells, "%%kimi --"))


def test_tab_asks_nothing_over_the_network(cells: Any, sandbox: Sandbox) -> None:
    complete(cells, "%%kimi -m ")
    assert sandbox.requests == []


def test_other_lines_are_left_to_ipython(cells: Any) -> None:
    cells.run("report_of_mine = 1")
    assert "report_of_mine" in complete(cells, "report_of")


def test_tab_offers_the_conversations_that_there_are(cells: Any, sandbox: Sandbox) -> None:
    for name in ("paper", "poem", "other"):
        cells.run(f"%%kimi -c {name}\nhi")
    assert complete(cells, "%%kimi -c p") == ["paper", "poem"]
    assert complete(cells, "%kimi_chat o") == ["other"]


def test_tab_offers_files_and_folders(cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    for name in ("report.pdf", "reports/one.txt", ".report"):
        (tmp_path / name).touch()
    assert complete(cells, "%%kimi --file rep") == ["report.pdf", "reports/"]
    assert complete(cells, "%%kimi --file reports/") == ["reports/one.txt"]
