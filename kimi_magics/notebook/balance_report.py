"""What %kimi_usage --balance shows: the balance of the account, and how its fall compares with the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from kimi_magics.core.usage import format_money
from kimi_magics.errors import CallError, MagicLineError
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table
from kimi_magics.notebook.usage_report import give
from kimi_magics.store.ledger_balances import Look, Stretch, compare_looks, read_looks

#: Looks that are shown, the last ones.
_MOST_LOOKS = 10
#: The ledger keeps one figure of a minute.
_SAME = timedelta(minutes=1)
_FIELDS = ["time", "balance", "currency", "fell", "counted", "calls", "unpriced", "estimated", "elsewhere"]


def report_balance(session: Session, *, form: str, first_day: date | None) -> Any:
    """Ask for the balance and show it after the looks of before, each with what the ledger counts since the last.

    Raises MagicLineError, ConfigError, and CallError when nothing is known.
    """
    if form == "plot":
        raise MagicLineError("%kimi_usage: --balance and --plot exclude each other", remedy="leave one of them out")
    ledger, client = session.spending.ledger, session.client
    trouble = ""
    now: Look | None = None
    try:
        now = session.balances.ask(is_wanted=True)
    except CallError as error:
        trouble = error.message
        if not read_looks(ledger, client.account, most=1):
            raise
    looks = read_looks(ledger, client.account, first_day=first_day, most=_MOST_LOOKS)
    if now is not None and (not looks or now.time - looks[-1].time >= _SAME):
        looks = [*looks, now][-_MOST_LOOKS:]
    stretches = compare_looks(ledger, looks, host=client.site)
    if form == "json":
        print_json({"host": client.site, "note": trouble, "looks": _facts(looks, stretches)})
    elif form != "table":
        return give(form, _facts(looks, stretches), _FIELDS)
    else:
        _show(looks, stretches, trouble=trouble, host=client.site)
    return None


def _facts(looks: Sequence[Look], stretches: Sequence[Stretch]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for look, stretch in zip(looks, (None, *stretches), strict=False):
        counted, elsewhere = stretch and stretch.counted, stretch and stretch.elsewhere
        rows.append(
            {
                "time": look.time.isoformat(timespec="milliseconds"),
                "balance": f"{look.amount:f}",
                "currency": look.currency,
                "fell": f"{stretch.fell:f}" if stretch and stretch.fell is not None else None,
                "counted": f"{counted.cost:f}" if counted else None,
                "calls": counted.calls if counted else None,
                "unpriced": counted.unpriced if counted else None,
                "estimated": counted.estimated if counted else None,
                "elsewhere": None if elsewhere is None else f"{elsewhere:f}",
            }
        )
    return rows


def _show(looks: Sequence[Look], stretches: Sequence[Stretch], *, trouble: str, host: str) -> None:
    headers = ["time", "balance", "fell by", "the ledger counts", "elsewhere"]
    rows = [_row(look, stretch) for look, stretch in zip(looks, (None, *stretches), strict=False)]
    about = f"The balance could not be asked for: {trouble}. " if trouble else ""
    if not looks:
        note = f"{about}No looks in this period."
    elif not stretches:
        note = f"{about}This is the first look; later ones tell what the account fell by beside what the ledger counts."
    else:
        note = (
            f"{about}The ledger counts your calls to {host} that ended since the look before, with whichever key;"
            " elsewhere is the rest: other programs, keys, machines or people, or calls that nobody recorded."
        )
        if any(one.elsewhere is not None and one.elsewhere < 0 for one in stretches):
            note += " Below 0: money came in, the host bills later, or a price differs from the list."
        if any(one.fell is not None and one.fell < 0 for one in stretches):
            note += " Where money came in, what went elsewhere is not known."
    show_table(headers, rows, note=note, figures=headers[1:])


def _row(look: Look, stretch: Stretch | None) -> list[str]:
    row = [f"{look.time.astimezone():%Y-%m-%d %H:%M}", _money(look.amount, look.currency)]
    if stretch is None:
        return [*row, "–", "–", "–"]
    counted, currency = stretch.counted, look.currency
    if stretch.fell is None:
        fell = "another currency"
    elif stretch.fell < 0:
        fell = f"rose by {format_money(-stretch.fell, currency)}"
    else:
        fell = format_money(stretch.fell, currency)
    about = "≈ " if counted.estimated else ""
    unknown = f" + {counted.unpriced:,} unknown" if counted.unpriced else ""
    elsewhere = "unknown" if stretch.elsewhere is None else about + _money(stretch.elsewhere, currency)
    return [*row, fell, f"{about}{format_money(counted.cost, currency)}{unknown}", elsewhere]


def _money(amount: Any, currency: str) -> str:
    """Write an amount that may be below 0."""
    return f"−{format_money(-amount, currency)}" if amount < 0 else format_money(amount, currency)
