"""Spending over time by model: in a chart of a library that the user has, else in text."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import io
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

from kimi_magics.core.usage import format_money
from kimi_magics.notebook.bundles import display_bundle, small_bundle
from kimi_magics.store.ledger_reports import Sum

#: A text chart of more days is one of weeks.
_MOST_BARS = 31
_WIDTH = 40
#: The size of a chart of matplotlib in inches, and the pixels of a page for each; there are twice as many in the file.
_INCHES = (7, 3)
_PIXELS = 96


def show_plot(sums: Sequence[Sum]) -> None:
    """Show sums by day and model: a chart for each currency."""
    if not any(one.calls > one.unpriced for one in sums):
        display_bundle(small_bundle("nothing was spent that has a known price"))
        return
    for currency in sorted({one.currency for one in sums if one.calls > one.unpriced}):
        days, models = _arrange([one for one in sums if one.currency == currency])
        draw = next((draw for name, draw in _WAYS.items() if importlib.util.find_spec(name)), _draw_text)
        draw(days, models, currency)


def _arrange(sums: Sequence[Sum]) -> tuple[list[date], dict[str, list[Decimal]]]:
    """Return the days without a gap, and for each model what it cost on each of them."""
    costs = {(date.fromisoformat(one.key[0]), one.key[1]): one.cost for one in sums}
    first, last = min(day for day, _ in costs), max(day for day, _ in costs)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    models = sorted({model for _, model in costs})
    return days, {model: [costs.get((day, model), Decimal(0)) for day in days] for model in models}


def _draw_matplotlib(days: list[date], models: dict[str, list[Decimal]], currency: str) -> None:
    dates = importlib.import_module("matplotlib.dates")
    from matplotlib.figure import Figure

    # Not by pyplot: the user's own current figure stays what it is.
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    below = [0.0] * len(days)
    for model, costs in models.items():
        heights = [float(cost) for cost in costs]
        axes.bar(days, heights, bottom=below, label=model)  # type: ignore[arg-type]
        below = [one + other for one, other in zip(below, heights, strict=True)]
    axes.set_ylabel(f"spent in {currency}")
    locator = dates.AutoDateLocator(minticks=1, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.spines[["top", "right"]].set_visible(False)
    # A week at least: a single day would fill the chart, with hours below it.
    days_shown = max(7, len(days))
    axes.set_xlim(dates.date2num(days[-1]) - days_shown + 0.5, dates.date2num(days[-1]) + 0.5)
    figure.legend(loc="outside right upper", frameon=False)
    # As a picture: a kernel shows a figure as one only once pyplot was imported.
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=2 * _PIXELS)
    size = {"width": _INCHES[0] * _PIXELS, "height": _INCHES[1] * _PIXELS}
    bundle = {
        "image/png": base64.b64encode(drawn.getvalue()).decode("ascii"),
        "text/plain": _write_chart(days, models, currency),
    }
    display_bundle(bundle, metadata={"image/png": size})


def _draw_plotly(days: list[date], models: dict[str, list[Decimal]], currency: str) -> None:
    plotly = importlib.import_module("plotly.graph_objects")
    bars = [plotly.Bar(name=model, x=days, y=[float(cost) for cost in costs]) for model, costs in models.items()]
    layout = {"barmode": "stack", "yaxis_title": f"spent in {currency}", "height": 320}
    _show(plotly.Figure(bars, layout))


def _draw_altair(days: list[date], models: dict[str, list[Decimal]], currency: str) -> None:
    altair = importlib.import_module("altair")
    rows = [
        {"day": day.isoformat(), "model": model, "spent": float(cost)}
        for model, costs in models.items()
        for day, cost in zip(days, costs, strict=True)
    ]
    chart = altair.Chart(altair.Data(values=rows)).mark_bar()
    spent = altair.Y("spent:Q", title=f"spent in {currency}")
    _show(chart.encode(x="yearmonthdate(day):T", y=spent, color="model:N").properties(width=560, height=240))


def _draw_text(days: list[date], models: dict[str, list[Decimal]], currency: str) -> None:
    display_bundle({"text/plain": _write_chart(days, models, currency)})


def _write_chart(days: list[date], models: dict[str, list[Decimal]], currency: str) -> str:
    totals = [sum((costs[at] for costs in models.values()), Decimal(0)) for at in range(len(days))]
    step = -(-len(days) // _MOST_BARS)
    bars = [(days[at], sum(totals[at : at + step], Decimal(0))) for at in range(0, len(days), step)]
    most = max(total for _, total in bars) or Decimal(1)
    lines = [
        f"{day.isoformat()}  {_write_bar(total / most):<{_WIDTH}}  {format_money(total, currency)}"
        for day, total in bars
    ]
    if step > 1:
        lines.append(f"each bar is {step} days")
    spent = {model: sum(costs, Decimal(0)) for model, costs in models.items()}
    lines.append(" · ".join(f"{model} {format_money(cost, currency)}" for model, cost in spent.items()))
    return "\n".join(lines)


def _write_bar(part: Decimal) -> str:
    """Return a bar for this part of the width, to an eighth of a letter; what is not nothing can be seen."""
    whole, eighths = divmod(int((8 * _WIDTH * part).to_integral_value(ROUND_CEILING)), 8)
    return "█" * whole + ("▏▎▍▌▋▊▉"[eighths - 1] if eighths else "")


def _show(chart: Any) -> None:
    from IPython.display import display

    display(chart)  # type: ignore[no-untyped-call]


_WAYS = {"matplotlib": _draw_matplotlib, "plotly": _draw_plotly, "altair": _draw_altair}
