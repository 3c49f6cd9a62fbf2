"""What %kimi_usage --drift shows: prompt tokens expected beside billed, and what the next estimate has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from kimi_magics.errors import MagicLineError
from kimi_magics.notebook.session import Session, host_name
from kimi_magics.notebook.tables import show_table
from kimi_magics.notebook.usage_report import give
from kimi_magics.store.ledger_drift import Drift, Span, read_drift
from kimi_magics.store.ledger_reports import Period

_SPANS: dict[Period, Span] = {"today": "day", "week": "day", "month": "week", "all": "month"}
_FIELDS = [
    "model",
    "from",
    "to",
    "calls",
    "expected_tokens",
    "billed_tokens",
    "ratio",
    "error",
    "learnt_from",
    "learnt_factor",
]


def report_drift(session: Session, *, form: str, period: Period, first_day: date | None) -> Any:
    """Show the drift by model and day, week or month, as fits the period. Raises MagicLineError and ConfigError."""
    if form == "plot":
        raise MagicLineError("%kimi_usage: --drift and --plot exclude each other", remedy="leave one of them out")
    found = read_drift(session.spending.ledger, _SPANS[period], first_day=first_day)
    if form != "table":
        return give(form, [_facts(session, drift) for drift in found], _FIELDS)
    headers = [_SPANS[period], "model", "calls", "expected", "billed", "billed / expected", "off by", "learnt from"]
    rows = [_row(session, drift) for drift in found]
    show_table(headers, rows, note=_note(session, found), figures=headers[2:])
    return None


def _facts(session: Session, drift: Drift) -> dict[str, Any]:
    learnt_from, factor = session.counting.learnt(session.find_model(drift.model))
    return {
        "model": drift.model,
        "from": drift.first.isoformat(),
        "to": drift.last.isoformat(),
        "calls": drift.calls,
        "expected_tokens": drift.expected_tokens,
        "billed_tokens": drift.billed_tokens,
        "ratio": round(drift.ratio, 4),
        "error": round(drift.error, 4),
        # Of the model as it is known now, whatever the stretch.
        "learnt_from": learnt_from,
        "learnt_factor": round(factor, 4),
    }


def _row(session: Session, drift: Drift) -> list[str]:
    learnt_from, factor = session.counting.learnt(session.find_model(drift.model))
    first, last = drift.first, drift.last
    return [
        f"{first}" if first == last else f"{first} – {last:%m-%d}",
        drift.model,
        f"{drift.calls:,}",
        f"{drift.expected_tokens:,}",
        f"{drift.billed_tokens:,}",
        f"{drift.ratio:.3f}",
        f"{drift.error:.1%}",
        f"{learnt_from:,} counts, ×{factor:.2f}" if learnt_from else "nothing yet",
    ]


def _note(session: Session, found: Sequence[Drift]) -> str:
    if not found:
        return "No call has been billed that was estimated before; calls of several requests do not count."
    host = host_name()
    return (
        "Calls of one request that were billed. A prompt that the API counted before is expected to have that count; of"
        f" others, each count and each bill of {host or 'the host'} moves the model's weights, by which the next one is"
        " estimated here: ×1.10 says that ordinary text counts 10% more by them than at first."
    )
