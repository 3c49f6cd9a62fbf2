"""The messages between kernel and page, and the words made of them: `gauge_golden.json` holds both sides to it.

Run as a script it writes the file anew, and the page's `gauge_classes.js`; the tests of both sides compare with them.
"""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import kimi_magics
from kimi_magics.core.budget import Budget, Standing
from kimi_magics.core.estimate import Estimate
from kimi_magics.core.events import Completed, Finished, NextStep, Replayed, TextDelta, UsageReported
from kimi_magics.core.outlook import Outlook
from kimi_magics.core.reply import Reply
from kimi_magics.core.tokens import CHARACTER_CLASSES, DEFAULT_WEIGHTS, rates
from kimi_magics.core.usage import Price, Usage, format_money, format_tokens
from kimi_magics.notebook.draft import Report, is_draft, report_message
from kimi_magics.notebook.gauge import run_message
from kimi_magics.notebook.gauge_text import describe, describe_run, describe_totals
from kimi_magics.store.catalog import load_catalog

PATH = Path(__file__).with_name("gauge_golden.json")
CLASSES_PATH = Path(kimi_magics.__file__).parent / "labextension" / "static" / "gauge_classes.js"

_MODEL = load_catalog().get("kimi-k2.6")
_PRICE = Price(Decimal("0.95"), Decimal("4.00"), cached=Decimal("0.16"))
_KEPT = Replayed(Usage(1236, 412), Decimal("0.0028"), "USD", date(2026, 11, 20))
_RATES = {"latin": 0.2375, "han": 0.61}

REPORTS: dict[str, Report] = {
    "local": Report(
        "local",
        Estimate(_MODEL, 1240, is_counted=False, price=_PRICE),
        parts={"draft": 1200, "template": 40},
        rates=_RATES,
        is_final=False,
    ),
    "counted": Report(
        "counted",
        Estimate(_MODEL, 1236, is_counted=True, price=_PRICE),
        parts={"draft": 1180, "system": 48, "template": 8},
        rates=_RATES,
        outlook=Outlook(900, "3 earlier runs of this cell", 410),
        depends=True,
    ),
    "tools and a schema": Report(
        "counted",
        Estimate(_MODEL, 1500, is_counted=True, price=_PRICE, note="264 of them are for tools", added_tokens=264),
        parts={"draft": 1000, "history": 228, "tools": 200, "schema": 64, "template": 8},
        message="264 of them are for tools",
    ),
    "one token, an answer of one length": Report(
        "counted",
        Estimate(_MODEL, 1, is_counted=True, price=_PRICE),
        parts={"draft": 1},
        outlook=Outlook(7, "1 earlier run of this cell", 7),
    ),
    "a ceiling and a budget": Report(
        "counted",
        Estimate(_MODEL, 52_000, is_counted=True, price=_PRICE),
        parts={"draft": 51_992, "template": 8},
        outlook=Outlook(2000, "--max-tokens"),
        budget=Standing(Budget(Decimal("0.5")), Decimal("0.3712")),
        warning="near-budget",
        message="near the end of the budget of $0.5 per session",
    ),
    "over the budget": Report(
        "over-budget",
        Estimate(_MODEL, 52_000, is_counted=True, price=_PRICE),
        parts={"draft": 52_000},
        budget=Standing(Budget(Decimal("0.01"), scope="day"), Decimal("0.02")),
        message="over the budget of $0.01 per day: the cell would not be sent",
        remedy="--max-tokens 120, or --over-budget",
    ),
    "a budget of tokens that shortens the answer": Report(
        "counted",
        Estimate(_MODEL, 52_000, is_counted=True, price=_PRICE),
        parts={"draft": 52_000},
        outlook=Outlook(20_000, "--max-tokens"),
        budget=Standing(Budget(Decimal(60_000), "tokens", "notebook")),
        limit=8_000,
        warning="near-budget",
        message="the budget of 60,000 tokens per notebook limits the answer",
    ),
    "a budget for each call": Report(
        "counted",
        Estimate(_MODEL, 600, is_counted=True, price=_PRICE),
        parts={"draft": 600},
        budget=Standing(Budget(Decimal("0.05"), "CNY", "call")),
    ),
    "a budget for each call that shortens the answer": Report(
        "counted",
        Estimate(_MODEL, 600, is_counted=True, price=_PRICE),
        parts={"draft": 600},
        budget=Standing(Budget(Decimal(800), "tokens", "call")),
        limit=300,
        warning="near-budget",
        message="the budget of 800 tokens per call limits the answer",
    ),
    "over the context": Report(
        "over-context",
        Estimate(_MODEL, 300_000, is_counted=False, price=_PRICE),
        parts={"draft": 300_000},
        message="300,000 tokens with the answer do not fit the context of 262,144",
    ),
    "a model that nobody knows": Report(
        "offline",
        Estimate(load_catalog().get("kimi-k9"), 12, is_counted=False),
        parts={"draft": 12},
        outlook=Outlook(1500, "4 earlier runs of kimi-k9", 900),
        message="api.moonshot.ai has no model kimi-k9",
        remedy="%kimi_models lists the models",
    ),
    "an answer that is kept": Report(
        "kept",
        Estimate(_MODEL, 1240, is_counted=False),
        parts={"draft": 1240},
        kept=_KEPT,
        depends=True,
    ),
    "an answer that is kept, of an unknown price": Report(
        "kept",
        Estimate(_MODEL, 1240, is_counted=True),
        parts={"draft": 1240},
        kept=Replayed(Usage(1240, 412), None, "CNY", date(2026, 11, 20)),
        message="counted before",
    ),
    "another currency": Report(
        "counted",
        Estimate(_MODEL, 1000, is_counted=True, price=Price(Decimal("6.50"), Decimal(27), currency="CNY")),
        parts={"draft": 1000},
    ),
    "an error": Report(
        "error",
        message="%%kimi: unknown flag --modle",
        remedy="did you mean --model? %%kimi? shows the flags",
    ),
    "empty": Report("empty", message="the prompt is empty"),
    "off": Report("off", message="the gauge is off", remedy="%kimi_config gauge=live"),
}

_TOTALS: list[dict[str, Any]] = [
    {"calls": 0, "tokens": 0, "costs": [], "unpriced": 0},
    {"calls": 1, "tokens": 412, "costs": [["USD", "0.0016"]], "unpriced": 0},
    {"calls": 12, "tokens": 1_048_576, "costs": [["CNY", "3.5"], ["USD", "1234.5"]], "unpriced": 2},
]
_AMOUNTS = (
    "0",
    "0.000028",
    "0.0000996",
    "0.00098",
    "0.000998",
    "0.001",
    "0.0842",
    "1.5",
    "99.99994",
    "100",
    "1234567.891",
    "0.0000000123",
)
_TEXTS = ("Hello, world! It's 12:30.\n", "你好，世界！日本語のテキスト", "Привет, мир — café 😀👩\u200d🚀\r\n\t{}", "")
_SOURCES = (
    "%%kimi\nhi",
    "  %%kimi -m x\n",
    "%%kimi_estimate\nx",
    "%%kimi_config",
    "%kimi_describe last",
    "%%kimi_describe",
    "%kimi_described",
    "%kimi hi",
    "%kimi",
    "%kimi_models",
)


def _count_characters(text: str) -> dict[str, int]:
    return {name: len(re.findall(expression, text)) for name, expression in CHARACTER_CLASSES.items()}


def _reply(usage: Usage, price: Price | None, *, steps: int = 1) -> Reply:
    reply = Reply("kimi-k2.6", find_price=lambda: price)
    earlier = [NextStep(())] * (steps - 1)
    for event in (*earlier, TextDelta("x"), UsageReported(usage), Finished("stop"), Completed()):
        reply.add(event)
    reply.seconds = 2.5
    return reply


def build() -> dict[str, Any]:
    """Return what the file holds."""
    runs = [
        run_message(_reply(usage, price), cell="cell-1", expected=1240)
        for usage, price in (
            (Usage(1236, 412, 1024), _PRICE),
            (Usage(1236, 412), None),
            (Usage(1236, 12, estimated=True), _PRICE),
        )
    ]
    several = _reply(Usage(2500, 40), _PRICE, steps=3)
    runs.append(run_message(several, cell="cell-1", expected=1240))
    standing = Standing(Budget(Decimal("0.5"), scope="day"), Decimal("0.3712"))
    runs.append(run_message(several, cell="cell-1", expected=1240, budget=standing))
    replayed = Reply("kimi-k2.6")
    for event in (_KEPT, TextDelta("x"), Finished("stop"), Completed()):
        replayed.add(event)
    runs.append(run_message(replayed, cell="cell-1", expected=1240))
    messages = {name: report_message(report) for name, report in REPORTS.items()}
    return {
        "classes": dict(CHARACTER_CLASSES),
        "rates": {name: round(rate, 5) for name, rate in rates("", DEFAULT_WEIGHTS).items()},
        "reports": [{"name": name, "message": row, "shown": describe(row)} for name, row in messages.items()],
        "runs": [{"message": row, "shown": describe_run(row)} for row in runs],
        "totals": [{"message": row, "shown": describe_totals(row)} for row in _TOTALS],
        "money": [
            [amount, currency, format_money(Decimal(amount), currency)]
            for amount in _AMOUNTS
            for currency in ("USD", "CNY", "EUR")
        ],
        "tokens": [[count, format_tokens(count)] for count in (0, 999, 1000, 1234, 999_949, 999_950, 1_048_576)],
        "characters": [[text, _count_characters(text)] for text in _TEXTS],
        "drafts": [[source, is_draft(source)] for source in _SOURCES],
    }


def write_classes(golden: dict[str, Any]) -> str:
    """Return the page's module of the classes of characters and what they count for."""
    classes = [f"  {name}: /{expression}/gu," for name, expression in golden["classes"].items()]
    rates = [f"  {name}: {rate}," for name, rate in golden["rates"].items()]
    return "\n".join(
        [
            "// Written by tests/gauge_golden.py from core/tokens.py.",
            "",
            "/** Classes of characters that have about the same number of tokens each. */",
            "export const CLASSES = {",
            *classes,
            "};",
            "/** Tokens per character, where no kernel has said better. */",
            "export const RATES = {",
            *rates,
            "};",
            "",
        ]
    )


if __name__ == "__main__":
    CLASSES_PATH.write_text(write_classes(build()), "utf-8")
    PATH.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n", "utf-8")
