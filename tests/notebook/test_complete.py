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
    ],
)
def test_tab_offers_what_may_stand_there(cells: Any, line: str, expected: list[str]) -> None:
    cells.run("report = _report = 1\ndef reporter(): pass")
    cells.run("%kimi_config --save template.review=Review")
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
