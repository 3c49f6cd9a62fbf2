"""What %kimi_usage shows: what calls took, as the ledger has it; as a table, JSON, CSV, a DataFrame or a plot."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from kimi_magics.core.ask import Ask
from kimi_magics.core.usage import format_money
from kimi_magics.errors import ConfigError, MagicLineError
from kimi_magics.notebook.rate_report import report_limits
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table
from kimi_magics.store.ledger_reports import (
    Call,
    Grouping,
    Period,
    Sum,
    find_first_day,
    read_calls,
    read_sums,
    reprice,
    sum_up,
)

PERIODS: tuple[Period, ...] = get_args(Period)
_FORMS = ("json", "csv", "df", "plot")
_NAMES = {"today": "today", "week": "this week", "month": "this month", "all": "in all"}
_FIGURES = ["calls", "prompt", "cached", "completion", "cost"]


def report_usage(session: Session, ask: Ask, names: Sequence[str]) -> Any:
    """Show what calls took in a period; return a DataFrame where one is asked for.

    Raises MagicLineError and ConfigError.
    """
    period = _read_period(names)
    given = [form for form in _FORMS if (ask.json if form == "json" else ask.extra[form])]
    if len(given) > 1:
        raise MagicLineError(
            f"%kimi_usage: --{given[0]} and --{given[1]} exclude each other", remedy="leave one of them out"
        )
    is_view = _check_views(ask)
    if ask.extra["limits"]:
        if period or given not in ([], ["json"]):
            raise MagicLineError("%kimi_usage: --limits goes with --json alone", remedy="leave the other flags out")
        report_limits(session, ask)
        return None
    by = ask.extra["by"]
    is_repriced: bool = ask.extra["reprice"]
    form = given[0] if given else "table"
    if form == "table" and period is None and by is None and not is_repriced and not is_view:
        _show_overview(session)
        return None
    first = find_first_day(period or "all", session.spending.ledger.today)
    if ask.extra["balance"]:
        from kimi_magics.notebook.balance_report import report_balance

        return report_balance(session, form=form, first_day=first)
    if ask.extra["drift"]:
        from kimi_magics.notebook.drift_report import report_drift

        return report_drift(session, form=form, period=period or "all", first_day=first)
    if form == "plot":
        from kimi_magics.notebook.usage_plot import show_plot

        show_plot(_find_sums(session, ("day", "model"), first, is_repriced=is_repriced))
        return None
    if ask.extra["by"] == "call":
        return _report_calls(session, form, _find_calls(session, first, is_repriced=is_repriced))
    if by is None and form != "table":
        rows = [_call_facts(call) for call in _find_calls(session, first, is_repriced=is_repriced)]
        return give(form, rows, _CALL_FIELDS)
    group: tuple[Grouping, ...] = ("notebook", "cell") if by == "cell" else (by or "model",)
    sums = _find_sums(session, group, first, is_repriced=is_repriced)
    if form != "table":
        return give(form, [_sum_facts(one, group) for one in sums], [*group, *_SUM_FIELDS])
    _show_sums(session, sums, group, _NAMES[period or "all"], is_repriced=is_repriced)
    return None


def _check_views(ask: Ask) -> bool:
    """Return whether a view of its own is asked for. Raises MagicLineError for what does not go with it."""
    views = [name for name in ("limits", "balance", "drift") if ask.extra[name]]
    others = [name for name in (*views[1:], "by", "plot", "reprice") if ask.extra[name]]
    if views and others:
        raise MagicLineError(
            f"%kimi_usage: --{views[0]} and --{others[0]} exclude each other", remedy="leave one of them out"
        )
    return bool(views)


def _read_period(names: Sequence[str]) -> Period | None:
    if not names:
        return None
    found = next((period for period in PERIODS if period == names[0].lower()), None)
    if found is None or len(names) > 1:
        raise MagicLineError(
            f"%kimi_usage: {' '.join(names)!r} is not a period", remedy=f"write one of {', '.join(PERIODS)}, or nothing"
        )
    return found


def _find_calls(session: Session, first: Any, *, is_repriced: bool) -> list[Call]:
    calls = read_calls(session.spending.ledger, first_day=first)
    if not is_repriced:
        return calls
    found = []
    for call in calls:
        cost, currency = reprice(call, lambda model: session.price_of(session.find_model(model)))
        found.append(replace(call, cost=cost, currency=currency))
    return found


def _find_sums(session: Session, by: Sequence[Grouping], first: Any, *, is_repriced: bool) -> list[Sum]:
    if is_repriced:
        # The kept sums are of what was paid.
        return sum_up(_find_calls(session, first, is_repriced=True), by)
    return read_sums(session.spending.ledger, by, first_day=first)


# ---------------------------------------------------------------- tables


def _show_overview(session: Session) -> None:
    ledger = session.spending.ledger
    rows = [["this session", *_figures(read_sums(ledger, (), session=session.spending.session))]]
    for period in PERIODS:
        first = find_first_day(period, ledger.today)
        rows.append([_NAMES[period], *_figures(read_sums(ledger, (), first_day=first))])
    note = f"From the ledger ({ledger.place}). %kimi_usage today, week, month or all tells more."
    show_table(["", *_FIGURES], rows, note=note, figures=_FIGURES)


def _show_sums(
    session: Session, sums: Sequence[Sum], group: Sequence[Grouping], stretch: str, *, is_repriced: bool
) -> None:
    keys = list(dict.fromkeys(one.key for one in sums))
    rows = [[*_write_key(key, group), *_figures([one for one in sums if one.key == key])] for key in keys]
    if len(keys) > 1:
        rows.append(["together", *[""] * (len(group) - 1), *_figures(sums)])
    about = "at the prices of today" if is_repriced else "at the prices of their time"
    estimated = sum(one.estimated for one in sums)
    note = f"Calls {stretch}, {about}." if keys else f"No calls {stretch}."
    if estimated:
        note += f" ≈ {estimated:,} of them with figures that are estimated: cut short, under way, or lost."
    show_table([*group, *_FIGURES], rows, note=note, figures=_FIGURES)


def _write_key(key: Sequence[str], group: Sequence[Grouping]) -> list[str]:
    written = []
    for name, text in zip(group, key, strict=True):
        written.append((Path(text).name if name == "notebook" else text) or "–")
    return written


def _figures(sums: Sequence[Sum]) -> list[str]:
    """Return the cells of a row: all is added up, costs in each currency by themselves."""
    totals = [sum(getattr(one, name) for one in sums) for name in ("calls", "prompt_tokens", "cached_tokens")]
    completion, calls = sum(one.completion_tokens for one in sums), totals[0]
    by_currency: dict[str, Decimal] = {}
    for one in sums:
        if one.calls > one.unpriced:
            by_currency[one.currency] = by_currency.get(one.currency, Decimal(0)) + one.cost
    costs = [format_money(cost, currency) for currency, cost in by_currency.items()]
    unpriced = sum(one.unpriced for one in sums)
    if unpriced:
        costs.append("unknown" if unpriced == calls else f"{unpriced:,} unknown")
    return [f"{figure:,}" for figure in (*totals, completion)] + [" + ".join(costs) or "–"]


#: A longer table is no reading.
_MOST_CALLS = 50


def _report_calls(session: Session, form: str, calls: Sequence[Call]) -> Any:
    """Show each call, what was expected of its prompt beside what was billed."""
    if form != "table":
        rows = [
            _call_facts(call) | {"expected_tokens": call.expected_tokens, "steps": call.steps, "retries": call.retries}
            for call in calls
        ]
        return give(form, rows, _RECEIPT_FIELDS)
    headers = ["time", "model", "notebook", "expected", "billed", "cached", "completion", "cost"]
    shown = [_call_row(call) for call in calls[-_MOST_CALLS:]]
    note = (
        "Expected is what the prompt of the first request was taken to have before it was sent. ≈ is estimated: cut"
        " short, under way, or lost."
    )
    if len(calls) > _MOST_CALLS:
        note = f"The last {_MOST_CALLS} of {len(calls):,} calls; --json, --csv and --df have all. {note}"
    show_table(headers, shown, note=note if calls else "No calls.", figures=headers[3:])
    return None


def _call_row(call: Call) -> list[str]:
    usage, about = call.usage, "≈ " if call.usage.estimated else ""
    steps = f" in {call.steps} steps" if call.steps > 1 else ""
    return [
        f"{call.time.astimezone():%Y-%m-%d %H:%M}",
        call.model,
        Path(call.notebook).name or "–",
        f"{call.expected_tokens:,}",
        f"{about}{usage.prompt_tokens:,}{steps}",
        f"{usage.cached_tokens:,}",
        f"{about}{usage.completion_tokens:,}",
        "unknown" if call.cost is None else about + format_money(call.cost, call.currency),
    ]


# ---------------------------------------------------------------- for programs

_CALL_FIELDS = [
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
_SUM_FIELDS = [
    "calls",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost",
    "currency",
    "unpriced",
    "estimated",
]


#: What each call was taken to have before it was sent stands beside what was billed.
_RECEIPT_FIELDS = [*_CALL_FIELDS, "expected_tokens", "steps", "retries"]
_MONEY = ("cost", "balance", "fell", "counted", "elsewhere")


def _call_facts(call: Call) -> dict[str, Any]:
    return {
        "time": call.time.isoformat(timespec="milliseconds"),
        "model": call.model,
        "prompt_tokens": call.usage.prompt_tokens,
        "completion_tokens": call.usage.completion_tokens,
        "cached_tokens": call.usage.cached_tokens,
        "cost": None if call.cost is None else f"{call.cost:f}",
        "currency": call.currency,
        "estimated": call.usage.estimated,
        "finish_reason": call.finish_reason or None,
        "notebook": call.notebook or None,
        "cell_id": call.cell or None,
    }


def _sum_facts(one: Sum, group: Sequence[Grouping]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: text or None for name, text in zip(group, one.key, strict=True)}
    return facts | {
        "calls": one.calls,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
        "cached_tokens": one.cached_tokens,
        "cost": f"{one.cost:f}" if one.calls > one.unpriced else None,
        "currency": one.currency,
        "unpriced": one.unpriced,
        "estimated": one.estimated,
    }


def give(form: str, rows: list[dict[str, Any]], fields: Sequence[str]) -> Any:
    """Print rows as JSON or CSV, or return them as a DataFrame. Raises ConfigError."""
    if form == "json":
        print_json(rows)
    elif form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        print(text.getvalue(), end="")  # noqa: T201 — this is the output
    else:
        return _frame(rows, fields)
    return None


def _frame(rows: list[dict[str, Any]], fields: Sequence[str]) -> Any:
    """Return a DataFrame; money as floats, which is what is reckoned with there. Raises ConfigError."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise ConfigError(
            "--df needs pandas, which is not installed", remedy="pip install pandas; or use --csv or --json"
        ) from None
    frame = pandas.DataFrame(rows, columns=list(fields))
    for name in _MONEY:
        if name in frame:
            frame[name] = frame[name].astype(float)
    if "time" in frame:
        frame["time"] = pandas.to_datetime(frame["time"], utc=True)
    return frame
