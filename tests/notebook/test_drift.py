"""Estimated beside billed, call by call and as a drift over time, and that the estimator learns from it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kimi_magics.core.budget import Demand
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Usage
from kimi_magics.errors import MagicLineError
from kimi_magics.notebook.session import Session
from kimi_magics.sandbox import Sandbox, SandboxOptions
from kimi_magics.store.config import find_home
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_drift import read_drift
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

#: The sandbox cuts Russian into twice as many tokens as the first weights say.
LESSONS = (
    "Объясните простыми словами, что делает этот код и в каких случаях он завершается ошибкой.",
    "Сегодня утром мы вышли из дома рано, потому что поезд в соседний город отправлялся в половине седьмого.",
    "Библиотека хранит старинные рукописи, письма путешественников и карты, нарисованные от руки.",
    "Напишите короткое письмо заказчику: работа закончена, счёт придёт на следующей неделе.",
    "Когда наступает зима, реки замерзают, а дети катаются на коньках и строят снежные крепости.",
)
UNSEEN = "Расскажите, пожалуйста, почему осенью листья деревьев меняют цвет и опадают на землю."


def billed(expected: int, prompt: int, **changes: Any) -> tuple[int, Outcome]:
    return expected, Outcome(Usage(prompt, 5), None, "USD", **changes)


def fill(calls: list[tuple[str, str, tuple[int, Outcome]]]) -> None:
    """Write calls of these days and models."""
    for day, model, (expected, outcome) in calls:
        moment = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
        with closing(Ledger(clock=lambda moment=moment: moment)) as ledger:
            entry = Entry("s", "h", model, expected_tokens=expected)
            granted = ledger.reserve(entry, Demand(model, 100, 10), ())
            assert isinstance(granted, Reservation)
            ledger.settle(granted, outcome)


def drift(cells: Any, line: str = "") -> Any:
    ran = cells.run(f"%kimi_usage --drift --json {line}")
    assert ran.error is None, ran.shown_error
    return json.loads(ran.stdout)


# ---------------------------------------------------------------- each call


def test_each_call_is_listed_with_what_was_expected_beside_what_was_billed(cells: Any, sandbox: Sandbox) -> None:
    cells.run(f"%%kimi --max-tokens 20\n{LESSONS[0]}")
    (row,) = json.loads(cells.run("%kimi_usage --by call --json").stdout)
    (plain,) = json.loads(cells.run("%kimi_usage --json").stdout)
    assert row == plain | {"expected_tokens": row["expected_tokens"], "steps": 1, "retries": 0}
    assert row["expected_tokens"] < row["prompt_tokens"]
    (read,) = csv.DictReader(io.StringIO(cells.run("%kimi_usage --by call --csv").stdout))
    assert (read["expected_tokens"], read["prompt_tokens"]) == (str(row["expected_tokens"]), str(row["prompt_tokens"]))
    shown = cells.run("%kimi_usage today --by call").bundles[0]["text/plain"]
    assert f"{row['expected_tokens']}" in shown
    assert "before it was sent" in shown


def test_a_prompt_that_was_counted_is_expected_to_have_that_count(cells: Any, sandbox: Sandbox) -> None:
    cells.run(f"%kimi_estimate {LESSONS[0]}")
    cells.run(f"%kimi --max-tokens 20 {LESSONS[0]}")
    (row,) = drift(cells)
    assert (row["ratio"], row["error"]) == (1, 0)


def test_a_long_list_says_that_it_is_the_end(cells: Any) -> None:
    fill([("2026-11-02", "kimi-k2.6", billed(100, 100))] * 53)
    shown = cells.run("%kimi_usage all --by call").bundles[0]["text/plain"]
    assert "The last 50 of 53 calls" in shown
    assert len([line for line in shown.splitlines() if line.startswith("2026-")]) == 50


# ---------------------------------------------------------------- drift


def test_drift_sums_up_by_model_and_stretch(environment: Path) -> None:
    fill(
        [
            ("2026-11-02", "kimi-k2.6", billed(100, 120)),
            ("2026-11-08", "kimi-k2.6", billed(100, 90)),
            ("2026-11-09", "kimi-k2.6", billed(100, 100)),
            ("2026-11-09", "kimi-k3", billed(10, 20)),
            ("2026-10-31", "kimi-k2.6", billed(50, 50)),
        ]
    )
    with closing(Ledger()) as ledger:
        by_day, by_week, by_month = (read_drift(ledger, span) for span in ("day", "week", "month"))
    assert [(one.model, f"{one.first}", one.calls, one.expected_tokens, one.billed_tokens) for one in by_week] == [
        ("kimi-k2.6", "2026-10-26", 1, 50, 50),
        ("kimi-k2.6", "2026-11-02", 2, 200, 210),
        ("kimi-k2.6", "2026-11-09", 1, 100, 100),
        ("kimi-k3", "2026-11-09", 1, 10, 20),
    ]
    assert (by_week[1].ratio, by_week[1].error) == (1.05, 30 / 210)
    assert [(f"{one.first}", f"{one.last}", one.calls) for one in by_month] == [
        ("2026-10-01", "2026-10-31", 1),
        ("2026-11-01", "2026-11-30", 3),
        ("2026-11-01", "2026-11-30", 1),
    ]
    assert [f"{one.last}" for one in by_day] == ["2026-10-31", "2026-11-02", "2026-11-08", "2026-11-09", "2026-11-09"]


def test_only_calls_of_which_both_figures_are_known_count(environment: Path) -> None:
    estimated = Outcome(Usage(100, 5, estimated=True), None, "USD")
    fill(
        [
            ("2026-11-02", "kimi-k2.6", billed(0, 120)),
            ("2026-11-02", "kimi-k2.6", billed(100, 300, steps=3)),
            ("2026-11-02", "kimi-k2.6", billed(100, 100, is_known=False)),
            ("2026-11-02", "kimi-k2.6", (100, estimated)),
        ]
    )
    with closing(Ledger()) as ledger:
        assert read_drift(ledger, "day") == []


def test_the_table_tells_the_ratio_and_what_was_learnt(cells: Any, sandbox: Sandbox) -> None:
    assert "No call has been billed" in cells.run("%kimi_usage --drift").bundles[0]["text/plain"]
    for lesson in LESSONS[:3]:
        cells.run(f"%%kimi --max-tokens 20\n{lesson}")
    (row,) = drift(cells)
    assert row["ratio"] > 1
    assert row["error"] > 0.1
    assert (row["calls"], row["learnt_from"]) == (3, 3)
    shown = cells.run("%kimi_usage week --drift").bundles[0]["text/plain"]
    line = next(line for line in shown.splitlines() if "kimi-k2.6" in line)
    assert f"{row['ratio']:.3f}" in line
    assert "3 counts" in line
    assert cells.run("%kimi_usage --drift --csv").stdout.splitlines()[0].startswith("model,from,to,calls,expected")


@pytest.mark.parametrize("line", ["--drift --plot", "--drift --by model", "--drift --reprice", "--drift --json --csv"])
def test_what_does_not_go_with_it_is_refused(cells: Any, line: str) -> None:
    ran = cells.run(f"%kimi_usage {line}")
    assert isinstance(ran.error, MagicLineError)
    assert "exclude each other" in ran.shown_error


# ---------------------------------------------------------------- learning


def estimate_here(sandbox: Sandbox, text: str) -> tuple[int, int]:
    """Return what a new session estimates without asking, and what the host counts."""
    session = Session()
    try:
        prompt = Prompt(session.find_model("kimi-k2.6"), (Message("user", text),))
        here = session.estimate(prompt, may_ask=False)
        assert not here.is_counted
        return here.prompt_tokens, session.client.count(prompt)
    finally:
        session.close()


def test_bills_bring_the_estimate_nearer_and_a_later_session_knows(cells: Any, sandbox: Sandbox) -> None:
    first, truth = estimate_here(sandbox, UNSEEN)
    assert first < 0.7 * truth
    for lesson in LESSONS:
        cells.run(f"%%kimi --max-tokens 20\n{lesson}")
    cells.shell.run_line_magic("unload_ext", "kimi_magics")
    then, truth = estimate_here(sandbox, UNSEEN)
    assert abs(then - truth) < 0.1 * truth
    ordinary, true_ordinary = estimate_here(sandbox, "What does this do, and why would anyone want it?")
    assert abs(ordinary - true_ordinary) <= 0.35 * true_ordinary


def replay(prompt_tokens: int) -> tuple[bytes, ...]:
    """Return a stream that says little and bills so many tokens for the prompt."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 1, "total_tokens": prompt_tokens + 1}
    head = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "kimi-k2.6"}
    choices = [
        {"index": 0, "delta": {"content": "ok"}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage},
    ]
    events = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return tuple(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"])


@pytest.mark.parametrize("factor", [0.02, 40])
def test_a_bill_that_cannot_be_of_this_text_teaches_nothing(
    cells: Any, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    prompt_tokens = round(factor * 60)
    with Sandbox(options=SandboxOptions(replay=replay(prompt_tokens))) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        before, _ = estimate_here(sandbox, UNSEEN)
        for lesson in LESSONS:
            assert cells.run(f"%%kimi\n{lesson * 2}").error is None
        cells.shell.run_line_magic("unload_ext", "kimi_magics")
        after, _ = estimate_here(sandbox, UNSEEN)
    assert after == before


def test_bills_that_are_wrong_again_and_again_move_it_within_bounds(
    cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(options=SandboxOptions(replay=replay(130))) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        before, _ = estimate_here(sandbox, UNSEEN)
        for lesson in LESSONS * 3:
            cells.run(f"%%kimi\n{lesson}")
        cells.shell.run_line_magic("unload_ext", "kimi_magics")
        after, _ = estimate_here(sandbox, UNSEEN)
    assert before < after < 5 * before


SCRIPT = """
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "kimi_magics")
for text in {lessons!r}:
    shell.run_cell("%%kimi --max-tokens 20\\n" + text).raise_error()
"""


def test_a_program_that_ends_keeps_all_that_it_learnt(sandbox: Sandbox) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(lessons=LESSONS[:3])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    models = json.loads((find_home() / "weights.json").read_text("utf-8"))["models"]
    assert [row["learnt"] for row in models.values()] == [3]


TOOL = '''
def forecast(town: str, days: int = 3, wind: bool = False) -> str:
    """Tell the weather of the next days in a town, with temperatures, rain and, where it is wanted, the wind."""
    return "sunny"
'''


def test_bills_teach_how_many_tokens_tools_have(cells: Any, sandbox: Sandbox) -> None:
    cells.run(TOOL)
    line = "--tool forecast --max-tokens 30"
    differences = []
    for number in range(6):
        # Counted by the API without the tools, which the bill has.
        facts = json.loads(cells.run(f"%kimi_estimate --json {line} Say hello {number}").stdout)
        assert facts["added_tokens"] > 20
        ran = cells.run(f"%kimi {line} Say hello {number}")
        assert ran.error is None, ran.shown_error
        (row,) = json.loads(cells.run("%kimi_usage --by call --json").stdout)[-1:]
        assert row["steps"] == 1
        differences.append(abs(row["prompt_tokens"] - facts["prompt_tokens"]))
    assert differences[0] >= 5
    assert differences[-1] < differences[0] / 3
