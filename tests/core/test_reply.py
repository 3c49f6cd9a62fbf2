"""The fold: events in, one reply out."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

from IPython.lib.pretty import pretty

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
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
