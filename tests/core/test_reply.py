"""The fold: events in, one reply out."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from IPython.lib.pretty import pretty

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    NextStep,
    Replayed,
    Started,
    TextDelta,
    ThinkingDelta,
    UsageReported,
    Waiting,
)
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage

PRICE = Price(Decimal("0.95"), Decimal(4), cached=Decimal("0.16"), as_of=date(2026, 11, 22), source="test")
WHOLE: list[Event] = [
    Started("req-1", "kimi-k2.6"),
    ThinkingDelta("Hm"),
    ThinkingDelta("…"),
    TextDelta("Hello, "),
    Waiting(1.0, 1, "busy"),
    TextDelta("**world**"),
    Finished("stop"),
    UsageReported(Usage(1000, 500, 100)),
    Completed(),
]


def fold(events: list[Event], **options: object) -> Reply:
    reply = Reply("kimi-k2.6", **options)
    for event in events:
        reply.add(event)
    return reply


def test_a_whole_reply() -> None:
    reply = fold(WHOLE, find_price=lambda: PRICE)
    assert (reply.text, reply.thinking, str(reply)) == ("Hello, **world**", "Hm…", "Hello, **world**")
    assert (reply.model, reply.request_id, reply.finish_reason) == ("kimi-k2.6", "req-1", "stop")
    assert (reply.usage, reply.cost, reply.currency, reply.is_partial) == (
        Usage(1000, 500, 100),
        Decimal("0.002871"),
        "USD",
        False,
    )


def test_before_anything_came_there_is_nothing_and_nothing_costs() -> None:
    reply = fold([], find_price=lambda: PRICE)
    assert (reply.text, reply.thinking, reply.has_begun, reply.is_partial) == ("", "", False, True)
    assert (reply.cost, reply.usage.estimated) == (None, True)


def test_only_a_proven_end_makes_it_whole() -> None:
    assert fold(WHOLE[:-1]).is_partial
    assert not fold(WHOLE).is_partial


def test_an_unknown_price_gives_an_unknown_cost() -> None:
    reply = fold(WHOLE, currency="CNY")
    assert (reply.cost, reply.currency) == (None, "CNY")


def test_the_last_report_of_usage_wins() -> None:
    assert fold([UsageReported(Usage(1, 1)), UsageReported(Usage(2, 2))]).usage == Usage(2, 2)


def test_reading_in_between_does_not_change_the_end() -> None:
    reply = Reply("m")
    for letter in "abc":
        reply.add(TextDelta(letter))
        assert reply.text.endswith(letter)
    assert reply.text == "abc"


def test_it_shows_itself_as_markdown_made_safe_and_as_the_raw_text() -> None:
    reply = fold([TextDelta("# Hi\n\n<script>alert(1)</script> **b**")])
    assert "<script" not in reply._repr_markdown_()
    assert "# Hi" in reply._repr_markdown_()
    assert pretty(reply) == reply.text


def test_a_repr_is_one_short_line() -> None:
    line = repr(fold([TextDelta("x" * 1000)]))
    assert len(line) < 150
    assert "partial" in line


def test_the_receipt_is_json_without_prompt_or_answer() -> None:
    receipt = fold(WHOLE, find_price=lambda: PRICE, prompt_hash="ab12").receipt()
    assert json.loads(json.dumps(receipt)) == {
        "model": "kimi-k2.6",
        "prompt_hash": "ab12",
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "cached_tokens": 100,
            "cache_write_tokens": 0,
            "estimated": False,
            "web_searches": 0,
        },
        "cost": "0.002871",
        "currency": "USD",
        "price_date": "2026-11-22",
        "price_source": "test",
        "request_id": "req-1",
        "finish_reason": "stop",
        "is_partial": False,
        "steps": 1,
        "replayed": None,
    }


def test_the_price_is_asked_for_once_and_late() -> None:
    asked = []
    reply = fold(WHOLE, find_price=lambda: asked.append(1) or PRICE)
    assert asked == []
    assert reply.cost == reply.cost
    assert asked == [1]


# ---------------------------------------------------------------- replayed

KEPT = Replayed(Usage(1000, 500, 100), Decimal("0.002871"), "USD", date(2026, 11, 20))
REPLAYED: list[Event] = [KEPT, *(event for event in WHOLE if not isinstance(event, UsageReported | Waiting))]


def test_what_is_replayed_costs_nothing_and_says_what_it_cost() -> None:
    reply = fold(REPLAYED, find_price=lambda: pytest.fail("the price list is slow to load"), currency="CNY")
    assert (reply.text, reply.finish_reason, reply.is_partial) == ("Hello, **world**", "stop", False)
    assert (reply.usage, reply.cost, reply.currency, reply.is_replayed) == (Usage(), Decimal(0), "USD", True)
    assert (reply.replayed, reply.whole_usage) == (KEPT, Usage(1000, 500, 100))
    assert reply.receipt()["price_date"] is None
    assert json.loads(json.dumps(reply.receipt()))["replayed"] == {
        "usage": KEPT.usage.as_dict(),
        "cost": "0.002871",
        "currency": "USD",
        "date": "2026-11-20",
        "steps": 1,
    }


def test_of_several_steps_only_what_was_sent_is_billed() -> None:
    events = [*REPLAYED, NextStep(()), TextDelta("Done"), UsageReported(Usage(200, 50)), Completed()]
    reply = fold(events, find_price=lambda: PRICE)
    assert (reply.usage, reply.cost) == (Usage(200, 50), PRICE.cost_of(Usage(200, 50)))
    assert (reply.steps, reply.replayed, reply.is_replayed) == (2, KEPT, False)
    assert reply.whole_usage == Usage(1200, 550, 100)


def test_what_was_sent_first_stays_billed() -> None:
    reply = fold([*WHOLE, NextStep(()), *REPLAYED], find_price=lambda: PRICE)
    assert (reply.usage, reply.cost, reply.is_replayed) == (Usage(1000, 500, 100), Decimal("0.002871"), False)


@pytest.mark.parametrize(
    ("other", "cost", "day"),
    [
        (Replayed(Usage(1, 1), Decimal("0.001"), "USD", date(2026, 11, 1)), Decimal("0.003871"), date(2026, 11, 1)),
        (Replayed(Usage(1, 1), None, "USD", date(2026, 11, 21)), None, date(2026, 11, 20)),
        (Replayed(Usage(1, 1), Decimal(1), "CNY", date(2026, 11, 21)), None, date(2026, 11, 20)),
    ],
)
def test_several_answers_that_are_replayed_are_told_together(other: Replayed, cost: Decimal | None, day: date) -> None:
    together = KEPT + other
    assert (together.cost, together.date, together.steps) == (cost, day, 2)
    assert together.usage == Usage(1001, 501, 100)
