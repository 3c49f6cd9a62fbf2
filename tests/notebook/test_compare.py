"""`%kimi_estimate --compare`: a prompt on every live model before it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from PIL import Image

from kimi_magics.core.estimate import Estimate
from kimi_magics.core.models import Model
from kimi_magics.core.offers import Offer, find_common_answer, sort_offers
from kimi_magics.core.outlook import Outlook
from kimi_magics.core.usage import Price
from kimi_magics.sandbox import Sandbox, SandboxOptions


def offer(
    name: str, price: str | None, *, answer: int | None = None, tokens: int = 100, context: int = 1000, **more: Any
) -> Offer:
    """Return a model whose tokens cost so much for a million, read or written."""
    model, cost = Model(name, context), price and Price(Decimal(price), Decimal(price), more.pop("currency", "USD"))
    outlook = None if answer is None else Outlook(answer, "runs", answer)
    return Offer(model, Estimate(model, tokens, is_counted=True, price=cost or None), "", outlook, **more)


def names(offers: list[Offer]) -> str:
    return " ".join(one.model.name for one in sort_offers(offers, currency="USD"))


# ---------------------------------------------------------------- the order


def test_the_cheapest_comes_first_by_what_each_is_expected_to_answer() -> None:
    chatty, brief = offer("chatty", "1", answer=900), offer("brief", "2", answer=100)
    assert find_common_answer([chatty, brief]) is None
    assert names([chatty, brief]) == "brief chatty"


def test_where_an_answer_is_not_known_all_are_compared_by_the_same() -> None:
    dear, cheap = offer("dear", "2", answer=50), offer("cheap", "1")
    assert names([dear, cheap]) == "cheap dear"
    assert find_common_answer([dear, cheap]) == 50
    assert find_common_answer([cheap]) == 256
    assert find_common_answer([dear, cheap, offer("asked", "1", answer=20, is_asked=True)]) == 20


def test_what_cannot_be_compared_or_used_comes_last() -> None:
    offers = [
        Offer(Model("blind"), None, "blind does not read images"),
        offer("small", "0.1", context=50),
        offer("unpriced", None),
        offer("foreign", "0.1", currency="CNY"),
        offer("good", "5"),
    ]
    assert names(offers) == "good foreign unpriced small blind"


def test_what_is_asked_for_has_to_fit_with_its_answer() -> None:
    assert offer("m", "1", tokens=900, reserved_tokens=100).excess == 0
    assert offer("m", "1", tokens=900, reserved_tokens=101).excess == 1
    assert Offer(Model("m"), Estimate(Model("m"), 5, is_counted=True)).excess is None


def test_a_range_is_prompt_and_answer() -> None:
    one = Offer(
        Model("m"),
        Estimate(Model("m"), 1_000_000, is_counted=True, price=Price(Decimal(1), Decimal(4))),
        outlook=Outlook(500_000, "--max-tokens"),
    )
    assert one.answer_cost is not None
    assert one.total is not None
    assert (one.answer_cost.low, one.answer_cost.high, one.total.low, one.total.high) == (0, 2, 1, 3)


# ---------------------------------------------------------------- the magic


@pytest.fixture
def old_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A host with a small model without sight, and one that it cannot count for."""
    options = SandboxOptions(revived=("moonshot-v1-8k",), estimate_refuses=("kimi-k3.1-pro",))
    with Sandbox(options=options) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        yield sandbox


def facts(cells: Any, line: str) -> dict[str, Any]:
    ran = cells.run(f"%kimi_estimate --compare --json {line}")
    assert ran.error is None, ran.shown_error
    return {row["model"]: row for row in json.loads(ran.stdout)}


def table(cells: Any, line: str) -> str:
    ran = cells.run(f"%kimi_estimate --compare {line}")
    assert ran.error is None, ran.shown_error
    return ran.bundles[0]["text/plain"]


def test_every_live_model_has_its_tokens_costs_and_fit(cells: Any, sandbox: Sandbox) -> None:
    rows = facts(cells, "-m kimi-k3 --max-tokens 2000 Hello")
    assert len(rows) == 6
    assert [name for name, row in rows.items() if row["asked"]] == ["kimi-k3"]
    one = rows["kimi-k2.6"]
    assert one["answer"] == {"low": None, "high": 2000, "basis": "--max-tokens"}
    assert one["total"] == {"low": one["input_cost"], "high": str(Decimal(one["input_cost"]) + Decimal("0.008"))}
    assert (one["fits"], one["too_long_by"], one["reads"], one["refused"]) == (True, 0, {}, None)
    totals = [Decimal(row["total"]["high"]) for row in rows.values()]
    assert totals == sorted(totals)
    assert [request.path for request in sandbox.requests if request.path.endswith("completions")] == []


def test_the_table_marks_the_model_and_tells_what_is_not_known(cells: Any, sandbox: Sandbox) -> None:
    shown = table(cells, "Hello")
    row = next(line for line in shown.splitlines() if "kimi-k2.6 (asked)" in line)
    assert row.split()[2:] == ["9", "$0.0000086", "–", "–", "from", "$0.0000086", "fits,", "<", "0.1%"]
    assert "What the models will answer is not known (–): fewer than 3 earlier runs in the ledger" in shown
    assert "an answer of 256 tokens" in shown
    assert "up to $0.0080" in table(cells, "--max-tokens 2000 Hello")


def test_earlier_runs_tell_what_to_expect_also_in_another_session(cells: Any, sandbox: Sandbox) -> None:
    for number in range(3):
        cells.run(f"%kimi -m kimi-k3 --max-tokens 4000 Hello {number}")
    cells.shell.run_line_magic("reload_ext", "kimi_magics")
    answer = facts(cells, "Hello")["kimi-k3"]["answer"]
    assert answer["basis"] == "3 earlier runs of kimi-k3"
    assert answer["low"] == answer["high"] > 100
    shown = table(cells, "Hello")
    assert "Answers are expected by 3 earlier runs of kimi-k3. What the others will answer is not known" in shown
    assert facts(cells, "--max-tokens 10 Hello")["kimi-k3"]["answer"]["high"] == 10


def test_a_context_that_is_too_small_says_by_how_much(cells: Any, old_models: Sandbox) -> None:
    cells.shell.user_ns["text"] = "word " * 9000
    rows = facts(cells, "--max-tokens 500 {{text}}")
    small = rows["moonshot-v1-8k"]
    assert (small["fits"], small["too_long_by"]) == (False, small["prompt_tokens"] + 500 - 8192)
    assert list(rows)[-1] == "moonshot-v1-8k"
    assert f"too long by {small['too_long_by']:,}" in table(cells, "--max-tokens 500 {{text}}")


def test_a_model_that_does_not_see_is_refused_by_name(cells: Any, old_models: Sandbox) -> None:
    cells.shell.user_ns["picture"] = Image.new("RGB", (64, 64))
    rows = facts(cells, "-i picture What is it?")
    assert rows["moonshot-v1-8k"]["refused"] == "moonshot-v1-8k does not read images"
    assert rows["moonshot-v1-8k"]["prompt_tokens"] is None
    assert (rows["kimi-k3"]["reads"], rows["moonshot-v1-8k"]["reads"]) == ({"images": True}, {"images": False})
    shown = table(cells, "-i picture What is it?")
    assert next(line for line in shown.splitlines() if "moonshot" in line).split()[-2:] == ["refused", "no"]
    assert "Refused: moonshot-v1-8k does not read images." in shown


def test_a_model_that_cannot_be_counted_for_is_marked_and_explained(cells: Any, old_models: Sandbox) -> None:
    rows = facts(cells, "Hello")
    assert [name for name, row in rows.items() if not row["counted"]] == ["kimi-k3.1-pro"]
    shown = table(cells, "Hello")
    assert "≈ kimi-k3.1-pro is counted here: 127.0.0.1 has no model kimi-k3.1-pro" in shown
    assert "by the vocabulary of Kimi K2, which may differ from its own" in shown


def test_an_unknown_price_is_told_with_the_remedy(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config currency=CNY")
    rows = facts(cells, "--max-tokens 100 Hello")
    assert (rows["kimi-k3.1-pro"]["input_cost"], rows["kimi-k3.1-pro"]["total"]) == (None, None)
    assert "kimi-k3.1" in list(rows)[-1]
    shown = table(cells, "Hello")
    assert "unknown price" in shown
    assert "%kimi_config price.kimi-k3.1-pro=cached/input/output" in shown


def test_without_a_host_it_is_counted_here_for_the_models_of_our_list(
    cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    shown = table(cells, "Hello")
    assert "≈ is counted here: there is no API key" in shown
    assert "built-in list of" in shown
    assert sandbox.requests == []


def test_a_model_that_the_host_does_not_list_is_there_when_it_is_asked(cells: Any, sandbox: Sandbox) -> None:
    assert facts(cells, "-m my-own-model Hello")["my-own-model"]["asked"]
