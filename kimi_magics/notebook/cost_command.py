"""`kimi-magics cost`: what notebooks cost, by the receipts saved in their outputs; nothing is run and nothing sent."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from kimi_magics.core.budget import Budget, read_budget
from kimi_magics.core.receipts import Replay, Sum, clean, sum_up
from kimi_magics.core.usage import format_money
from kimi_magics.errors import ConfigError
from kimi_magics.notebook.cost_reading import Reading, read_receipts

By = Literal["notebook", "model", "cell"]
Form = Literal["table", "json", "csv"]

#: What the command returns, beside 0 for good and 2 for a line that cannot be read.
UNREADABLE, OVER, UNKNOWN = 1, 3, 4

_KEYS: dict[By | None, tuple[str, ...]] = {
    None: ("notebook", "model"),
    "notebook": ("notebook",),
    "model": ("model",),
    "cell": ("notebook", "cell", "cell_id"),
}
_FIGURES = ("calls", "prompt_tokens", "completion_tokens", "cached_tokens")
_FIELDS = (*_FIGURES, "cost", "currency", "unpriced", "estimated")
_MOST_NAMES = 5
#: Excel and others take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for; `most` is the amount that must not be passed."""

    names: tuple[str, ...]
    by: By | None = None
    form: Form = "table"
    most: str | None = None
    is_unknown_allowed: bool = False


def run(order: Order) -> int:
    """Carry the order out and return the exit code. Raises ConfigError for an amount that cannot be read."""
    most = None if order.most is None else _read_most(order.most)
    reading = read_receipts(order.names)
    totals = sum_up(reading.found.receipts, ())
    code, verdict = _judge(order, reading, totals, most)
    rows = sum_up(reading.found.receipts, _KEYS[order.by])
    if order.form == "json":
        _print(json.dumps(_facts(order, reading, rows, totals, most), indent=2, ensure_ascii=False))
    elif order.form == "csv":
        _print_csv(order, rows)
    else:
        _show(order, reading, rows, totals)
    for problem in reading.problems:
        _tell(str(problem))
    if verdict:
        _tell(verdict)
    return code


def _read_most(text: str) -> Budget:
    remedy = "write an amount in USD or CNY, as in --max 0.50 or --max 2CNY"
    try:
        most = read_budget(text)
    except ConfigError:
        raise ConfigError(f"--max: {clean(text)!r} is not an amount", remedy=remedy) from None
    if not most.is_money or most.scope != "session" or " per " in text.lower():
        raise ConfigError(f"--max: {clean(text)!r} is not an amount of money for all notebooks together", remedy=remedy)
    return most


# ---------------------------------------------------------------- the limit


def _judge(order: Order, reading: Reading, totals: Sequence[Sum], most: Budget | None) -> tuple[int, str]:
    """Return the exit code and what is to be said of the limit."""
    unreadable = UNREADABLE if reading.problems else 0
    if most is None:
        return unreadable, ""
    spent = sum((one.cost for one in totals if one.currency == most.unit), Decimal(0))
    limit = f"--max {most.amount:f} {most.unit}"
    if spent > most.amount:
        return OVER, (
            f"the receipts sum up to {format_money(spent, most.unit)}, more than {limit}\n"
            "  → --by cell tells which cells cost most; raise --max if it is meant so"
        )
    unknown = _list_unknown(reading, totals, most)
    if unknown and not order.is_unknown_allowed:
        return unreadable or UNKNOWN, (
            f"nobody can tell whether {limit} is held: {', '.join(unknown)}\n"
            "  → run these cells again, or leave them out with --allow-unknown"
        )
    return unreadable, ""


def _list_unknown(reading: Reading, totals: Sequence[Sum], most: Budget) -> list[str]:
    unpriced, flaws = sum(one.unpriced for one in totals), len(reading.found.flaws)
    found = [f"the cost of {_count(unpriced, 'call')} is not known"] if unpriced else []
    found += [
        f"{_count(one.calls - one.unpriced, 'call')} cost {format_money(one.cost, one.currency)}"
        for one in totals
        if one.currency != most.unit and one.calls > one.unpriced
    ]
    return found + ([f"{_count(flaws, 'receipt')} cannot be read"] if flaws else [])


# ---------------------------------------------------------------- output


def _show(order: Order, reading: Reading, rows: Sequence[Sum], totals: Sequence[Sum]) -> None:
    from tabulate import tabulate

    names = ["notebook", "cell"] if order.by == "cell" else list(_KEYS[order.by])
    headers = [*names, "calls", "prompt", "cached", "completion", "cost"]
    keys = list(dict.fromkeys(one.key for one in rows))
    table = [[*_write_key(key, order.by), *_figures([one for one in rows if one.key == key])] for key in keys]
    if len(keys) > 1:
        table.append(["together", *[""] * (len(names) - 1), *_figures(totals)])
    if table:
        align = ["left"] * len(names) + ["right"] * 5
        # Blanks and figures in a name are its own.
        _print(tabulate(table, headers, tablefmt="simple", disable_numparse=True, colalign=align))
    notes = _notes(reading, totals)
    if notes:
        _print("\n".join(([""] if table else []) + notes))


def _write_key(key: Sequence[Any], by: By | None) -> list[str]:
    if by != "cell":
        return [str(part) for part in key]
    notebook, number, cell_id = key
    return [notebook, f"{number} ({cell_id})" if cell_id else str(number)]


def _figures(sums: Sequence[Sum]) -> list[str]:
    """Return the cells of a row: sums in several currencies are added up but for their costs."""
    calls, prompt, completion, cached = (sum(getattr(one, name) for one in sums) for name in _FIGURES)
    unpriced = sum(one.unpriced for one in sums)
    about = "≈ " if any(one.estimated for one in sums) else ""
    costs = [about + format_money(one.cost, one.currency) for one in sums if one.calls > one.unpriced]
    if unpriced:
        costs.append("unknown" if unpriced == calls else f"{unpriced:,} unknown")
    return [f"{figure:,}" for figure in (calls, prompt, cached, completion)] + [" + ".join(costs)]


def _notes(reading: Reading, totals: Sequence[Sum]) -> list[str]:
    """Return what is to be told beside the figures."""
    found, notes = reading.found, []
    if not found.receipts and not found.replays and reading.notebooks:
        notes.append(f"no receipt in {_count(reading.notebooks, 'notebook')}")
    elif reading.without:
        named = ", ".join(reading.without[:_MOST_NAMES])
        rest = len(reading.without) - _MOST_NAMES
        more = f" and {rest:,} more" if rest > 0 else ""
        notes.append(f"without receipts: {named}{more}")
    if found.replays:
        notes.append(_note_replays(found.replays))
    if estimated := sum(one.estimated for one in totals):
        notes.append(f"≈ {_count(estimated, 'call')} with figures that are estimated: the answer was cut short")
    if found.copies:
        copies = _count(len(found.copies), "receipt")
        notes.append(f"{copies} left out: of calls that are counted already, as in copied cells")
    if found.changed:
        places = ", ".join(f"{one.notebook} cell {one.cell}" for one in found.changed[:_MOST_NAMES])
        notes.append(f"one call with several figures, all of them counted: {places}")
    flaws = found.flaws[:_MOST_NAMES]
    notes += [f"{flaw.notebook} cell {flaw.cell}: a receipt that cannot be read, {flaw.reason}" for flaw in flaws]
    if len(found.flaws) > _MOST_NAMES:
        notes.append(f"and {len(found.flaws) - _MOST_NAMES:,} more")
    return notes


def _note_replays(replays: Sequence[Replay]) -> str:
    """Return what is to be told of answers that were replayed."""
    costs: dict[str, Decimal] = {}
    for one in replays:
        if one.cost is not None:
            costs[one.currency] = costs.get(one.currency, Decimal(0)) + one.cost
    first = " + ".join(format_money(cost, currency) for currency, cost in costs.items())
    said = f"{_count(len(replays), 'answer')} replayed, at no cost"
    return f"{said}; when billed: {first}" if first else said


def _facts(
    order: Order, reading: Reading, rows: Sequence[Sum], totals: Sequence[Sum], most: Budget | None
) -> dict[str, Any]:
    found = reading.found
    return {
        "rows": [_row_facts(one, order.by) for one in rows],
        "totals": [_row_facts(one, order.by) for one in totals],
        "notebooks": reading.notebooks,
        "without_receipts": reading.without,
        "copies": [{"notebook": one.notebook, "cell": one.cell} for one in found.copies],
        "replayed": [
            {
                "notebook": one.notebook,
                "cell": one.cell,
                "cost": None if one.cost is None else f"{one.cost:f}",
                "currency": one.currency,
            }
            for one in found.replays
        ],
        "changed": [{"notebook": one.notebook, "cell": one.cell} for one in found.changed],
        "unreadable_receipts": [
            {"notebook": flaw.notebook, "cell": flaw.cell, "reason": flaw.reason} for flaw in found.flaws
        ],
        "problems": [problem.message for problem in reading.problems],
        "max": most and {"amount": f"{most.amount:f}", "currency": most.unit},
    }


def _row_facts(one: Sum, by: By | None) -> dict[str, Any]:
    names = _KEYS[by] if one.key else ()
    key = {name: value if value != "" else None for name, value in zip(names, one.key, strict=True)}
    figures = {name: getattr(one, name) for name in _FIGURES}
    return (
        key
        | figures
        | {
            "cost": f"{one.cost:f}" if one.calls > one.unpriced else None,
            "currency": one.currency,
            "unpriced": one.unpriced,
            "estimated": one.estimated,
        }
    )


def _print_csv(order: Order, rows: Sequence[Sum]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_KEYS[order.by], *_FIELDS], lineterminator="\n")
    writer.writeheader()
    for one in rows:
        facts = _row_facts(one, order.by)
        writer.writerow({name: _as_csv(value) for name, value in facts.items()})
    _print(text.getvalue(), end="")


def _as_csv(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _print(text: str, end: str = "\n") -> None:
    print(text, end=end)  # noqa: T201 — this is the output


def _tell(text: str) -> None:
    print(f"kimi-magics: {text}", file=sys.stderr)  # noqa: T201 — this is the output
