"""Tab on the line of a magic."""

from __future__ import annotations

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
        ("%%kimi --max", ["--max-tokens"]),
        ("%%kimi --no", ["--no-stream"]),
        ("%kimi --th", ["--thinking"]),
        ("%%kimi -m kimi-k2.7", ["kimi-k2.7-code", "kimi-k2.7-code-highspeed"]),
        ("%kimi_estimate --model kimi-k2.6", ["kimi-k2.6"]),
        ("%kimi_estimate --com", ["--compare"]),
        ("%%kimi --thinking o", ["off", "on"]),
        ("%%kimi --effort ", ["high", "low", "max"]),
        ("%%kimi -o repo", ["report"]),
        ("%%kimi -i repo", ["report"]),
        ("%kimi_config mod", ["model"]),
        ("%kimi_models --", ["--all", "--help", "--json"]),
    ],
)
def test_tab_offers_what_may_stand_there(cells: Any, line: str, expected: list[str]) -> None:
    cells.run("report = _report = 1")
    assert complete(cells, line) == expected


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
