"""What %kimi_usage tells of calls, and that every call has its row, however it ended."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pytest
from PIL import Image

from kimi_magics.core.usage import format_money
from kimi_magics.errors import BudgetError, ConfigError, MagicLineError
from kimi_magics.sandbox import PRESETS, Fault, Sandbox

FIELDS = [
    "time",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost",
    "currency",
    "estimated",
    "finish_reason",
    "notebook",
    "cell_id",
]


def usage(cells: Any, line: str = "") -> Any:
    return json.loads(cells.run(f"%kimi_usage --json {line}").stdout)


def table(cells: Any, line: str = "") -> list[str]:
    ran = cells.run(f"%kimi_usage {line}")
    assert ran.error is None, ran.shown_error
    return ran.bundles[0]["text/plain"].splitlines()


# ---------------------------------------------------------------- rows


def test_a_row_tells_how_often_its_requests_were_sent_again(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi --max-tokens 20\nHello")
    sandbox.fault(replace(PRESETS["overloaded"], times=2))
    cells.run("%%kimi --max-tokens 20\nHello again")
    rows = usage(cells, "--by call")
    assert [row["retries"] for row in rows] == [0, 2]


def test_each_call_is_an_object_with_what_was_billed_oldest_first(cells: Any, sandbox: Sandbox) -> None:
    replies = []
    for text in ("Hello", "Hello again"):
        cells.run(f"%%kimi --max-tokens 50\n{text}")
        replies.append(cells["_kimi"])
    rows = usage(cells)

    assert [list(row) for row in rows] == [FIELDS, FIELDS]
    assert rows[0]["time"] < rows[1]["time"]
    for row, reply in zip(rows, replies, strict=True):
        assert (row["prompt_tokens"], row["completion_tokens"]) == (
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )
        assert Decimal(row["cost"]) == reply.cost
        assert (row["currency"], row["estimated"], row["model"]) == ("USD", False, reply.model)
        assert (row["finish_reason"], row["notebook"], row["cell_id"]) == (reply.finish_reason, None, None)


def test_a_price_that_nobody_knows_is_null_and_reads_unknown(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config currency=CNY")
    cells.run("%%kimi -m kimi-k3.1-pro --max-tokens 20\nHello")
    assert [row["cost"] for row in usage(cells)] == [None]
    assert any("unknown" in line for line in table(cells, "today"))


def test_a_refused_call_leaves_no_row(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget 0.0000001")
    assert isinstance(cells.run("%%kimi\nHello").error, BudgetError)
    cells.run("%kimi_budget off")
    sandbox.fault(Fault(status=401))
    assert cells.run("%%kimi\nHello").error is not None
    assert usage(cells) == []


def test_a_cut_answer_has_a_row_with_estimated_figures(cells: Any, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(drop_after=5))
    assert cells.run("%%kimi\nHello").error is not None
    (row,) = usage(cells)
    assert row["estimated"]
    assert row["completion_tokens"] > 0
    assert Decimal(row["cost"]) == cells["_kimi"].cost


def test_no_text_and_no_key_is_in_the_ledger(cells: Any, sandbox: Sandbox) -> None:
    from kimi_magics.store.config import find_home

    cells.run("%%kimi\nA sentence that nobody else would write: zebra-umbrella")
    answer = cells["_kimi"].text
    files = [path for path in find_home().iterdir() if path.name.startswith("ledger")]
    held = b"".join(path.read_bytes() for path in files)
    assert files
    assert b"zebra-umbrella" not in held
    assert answer[:40].encode() not in held
    assert os.environ["MOONSHOT_API_KEY"].encode() not in held


# ---------------------------------------------------------------- sums


def test_without_words_it_gives_an_overview(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi\nHello")
    lines = table(cells)
    names = ("this session", "today", "this week", "this month", "in all")
    figures = [next(line for line in lines if line.startswith(name)).removeprefix(name).split() for name in names]
    assert figures[0][0] == "1"
    assert all(one == figures[0] for one in figures)
    assert "ledger.sqlite" in lines[-1]


@pytest.mark.parametrize("by", ["model", "notebook", "day", "cell"])
def test_sums_by_a_name_are_those_of_the_calls(cells: Any, sandbox: Sandbox, by: str) -> None:
    for model in ("kimi-k2.6", "kimi-k3", "kimi-k2.6"):
        cells.run(f"%%kimi -m {model} --max-tokens 40\nHello")
    calls, sums = usage(cells), usage(cells, f"today --by {by}")
    for figure in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert sum(one[figure] for one in sums) == sum(call[figure] for call in calls)
    assert sum(Decimal(one["cost"]) for one in sums) == sum(Decimal(call["cost"]) for call in calls)
    assert len(sums) == (2 if by == "model" else 1)
    assert any("together" in line for line in table(cells, f"--by {by}")) == (by == "model")


def test_the_last_row_adds_up_the_costs_of_each_currency(cells: Any, sandbox: Sandbox) -> None:
    for currency, models in (("USD", ("kimi-k2.6", "kimi-k3")), ("CNY", ("kimi-k2.6",))):
        cells.run(f"%kimi_config currency={currency}")
        for model in models:
            cells.run(f"%%kimi -m {model} --max-tokens 40\nHello")
    costs = {"USD": Decimal(0), "CNY": Decimal(0)}
    for call in usage(cells):
        costs[call["currency"]] += Decimal(call["cost"])
    (together,) = [line for line in table(cells, "--by model") if line.startswith("together")]
    assert together.endswith(f" {format_money(costs['CNY'], 'CNY')} + {format_money(costs['USD'], 'USD')}")


def test_a_plot_is_a_picture_and_a_text_in_a_kernel_without_pyplot(cells: Any, sandbox: Sandbox) -> None:
    for model in ("kimi-k2.6", "kimi-k3"):
        cells.run(f"%%kimi -m {model} --max-tokens 40\nHello")
    first, second = usage(cells, "--by model")
    (bundle,) = cells.run("%kimi_usage --plot").bundles
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(picture.width * picture.height)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # the bars of the two models
    day, legend = bundle["text/plain"].splitlines()
    cost = {one["model"]: Decimal(one["cost"]) for one in (first, second)}
    assert day.endswith(format_money(sum(cost.values()), "USD"))
    assert legend == " · ".join(f"{model} {format_money(cost[model], 'USD')}" for model in ("kimi-k2.6", "kimi-k3"))


def test_csv_and_frames_have_the_same_rows(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi\nHello")
    (row,) = usage(cells)
    (read,) = csv.DictReader(io.StringIO(cells.run("%kimi_usage --csv").stdout))
    assert read == {name: "" if value is None else str(value) for name, value in row.items()}
    cells.run("frame = %kimi_usage all --df")
    assert isinstance(cells["frame"], pandas.DataFrame)
    assert cells["frame"]["cost"].tolist() == [float(row["cost"])]
    assert list(cells["frame"]) == FIELDS


def test_prices_of_today_are_a_view(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi --max-tokens 40\nHello")
    (paid,) = usage(cells)
    cells.run("%kimi_config price.kimi-k2.6=100/200 USD")
    (again,) = usage(cells, "--reprice")
    assert Decimal(again["cost"]) == (100 * paid["prompt_tokens"] + 200 * paid["completion_tokens"]) / Decimal(10**6)
    assert usage(cells) == [paid]


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("%kimi_usage yesterday", MagicLineError, "today, week, month, all"),
        ("%kimi_usage today week", MagicLineError, "is not a period"),
        ("%kimi_usage --json --csv", MagicLineError, "exclude each other"),
        ("%kimi_usage --by weather", MagicLineError, "weather"),
        ("%kimi_usage --modle", MagicLineError, "unknown flag"),
        ("%kimi_config ledger=mysql://x/y", ConfigError, "PostgreSQL"),
        ("%kimi_config ledger=postgresql://me:secret@h/d", ConfigError, "PGPASSWORD"),
    ],
)
def test_what_cannot_be_read_says_what_can(cells: Any, line: str, kind: type[Exception], words: str) -> None:
    ran = cells.run(line)
    assert isinstance(ran.error, kind)
    assert words in ran.shown_error
    assert "secret" not in ran.shown_error


def test_a_ledger_that_cannot_be_used_is_told_once_and_costs_no_answer(cells: Any, sandbox: Sandbox) -> None:
    from kimi_magics.store.config import find_home

    Path(find_home()).mkdir(parents=True, exist_ok=True)
    (find_home() / "ledger.sqlite").write_bytes(b"no database" * 1000)
    first, second = cells.run("%%kimi\nHello"), cells.run("%%kimi\nHello")
    assert (first.error, second.error) == (None, None)
    assert sum("restart the kernel" in bundle["text/plain"] for bundle in first.bundles) == 1
    assert "restart the kernel" not in second.stdout + str(second.bundles)
    assert len(usage(cells)) == 2
