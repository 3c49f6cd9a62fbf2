"""A report on a draft in words, for where there is no page to draw it: the composer and the terminal.

The page has the same words in `labextension/static/gauge_text.js`; one golden file holds both to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kimi_magics.core.usage import format_amount, format_money, format_tokens

if TYPE_CHECKING:
    from kimi_magics.core.events import Replayed

_MILLION = Decimal(1_000_000)


def describe(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the pieces of `draft.report_message` as text; a piece that has nothing to say is empty.

    The pieces: tokens, cost, share, answer, budget, note, and hover, which tells what the tokens are for.
    """
    note = " → ".join(part for part in (message["message"], message["remedy"]) if part)
    if "tokens" not in message:
        return dict.fromkeys(("tokens", "cost", "share", "answer", "budget", "hover"), "") | {"note": note}
    about = "" if message["counted"] and not message["added"] else "≈ "
    tokens, price, budget = message["tokens"], message["price"], _budget(message["budget"])
    if kept := message["kept"]:
        figures = {"tokens": f"{about}{_tokens(tokens)}", "cost": _kept(kept), "share": "", "answer": "", "budget": ""}
        return figures | {"note": note, "hover": _hover(message)}
    return {
        "tokens": f"{about}{_tokens(tokens)}",
        "cost": about + _money(tokens, price, "input") if price else "unknown price",
        "share": _share(tokens, message["context"]),
        "answer": _answer(message["answer"], price, message["limit"]),
        # One for each call is named by what is said of it.
        "budget": "" if budget in note else budget,
        "note": note,
        "hover": _hover(message),
    }


def describe_line(message: Mapping[str, Any]) -> str:
    """Return the report as one line."""
    pieces = describe(message)
    return " · ".join(pieces[name] for name in ("tokens", "cost", "share", "answer", "budget", "note") if pieces[name])


def describe_run(message: Mapping[str, Any]) -> str:
    """Return what a run took beside what was expected: `est. 1,240 → billed 1,236 · 1,024 cached · $0.0009`.

    What it left of a budget follows. Of one that was replayed: `replayed · $0 · first $0.0009 on 2026-11-23`.
    """
    if message["replayed"]:
        return _kept(message["replayed"])
    verb = "≈ " if message["estimated"] else "billed "
    # What was expected is the first request alone: what a tool answers is not known before.
    steps = f" in {message['steps']} steps" if message["steps"] > 1 else ""
    parts = [f"est. {message['expected']:,} → {verb}{message['prompt_tokens']:,}{steps}"]
    if message["cached_tokens"]:
        parts.append(f"{message['cached_tokens']:,} cached")
    cost = message["cost"]
    parts.append("unknown price" if cost is None else format_money(Decimal(cost), message["currency"]))
    if message["budget"]:
        parts.append(_budget(message["budget"]))
    return " · ".join(parts)


def describe_totals(message: Mapping[str, Any]) -> str:
    """Return what the calls of a session took together: `3 calls · 4.1K tokens · $0.0140`."""
    calls = message["calls"]
    parts = [f"{calls} call" + "s" * (calls != 1), f"{format_tokens(message['tokens'])} tokens"]
    parts += [format_money(Decimal(amount), currency) for currency, amount in message["costs"]]
    if message["unpriced"]:
        parts.append(f"{message['unpriced']} of unknown price")
    return " · ".join(parts)


def message_of(kept: Replayed) -> dict[str, Any]:
    """Return what an answer cost when it was billed, as JSON-ready values."""
    return {
        "cost": None if kept.cost is None else str(kept.cost),
        "currency": kept.currency,
        "date": kept.date.isoformat(),
    }


def _kept(kept: Mapping[str, Any]) -> str:
    first = "" if kept["cost"] is None else f"{format_money(Decimal(kept['cost']), kept['currency'])} "
    return f"replayed · {format_money(Decimal(0), kept['currency'])} · first {first}on {kept['date']}"


def _tokens(count: int) -> str:
    return f"{count:,} token" + "s" * (count != 1)


def _money(tokens: int, price: Mapping[str, str], kind: str) -> str:
    return format_money(tokens * Decimal(price[kind]) / _MILLION, price["currency"])


def _share(tokens: int, context: int | None) -> str:
    if not context:
        return ""
    share = 100 * tokens / context
    return ("< 0.1%" if share < 0.1 else f"{share:.1f}%") + f" of {format_tokens(context)}"


def _answer(answer: Mapping[str, Any] | None, price: Mapping[str, str] | None, limit: int | None) -> str:
    if limit is not None:
        return f"answer up to {limit:,} tokens"
    if answer is None:
        return ""
    low, high = answer["low"], answer["high"]
    write = (lambda count: _money(count, price, "output")) if price else format_tokens
    span = write(high) if low in (None, high) else f"{write(low)}–{write(high)}"
    return ("answer up to " if low is None else "answer ") + span + ("" if price else " tokens")


def _budget(budget: Mapping[str, str] | None) -> str:
    if budget is None:
        return ""
    unit = budget["currency"]
    if unit == "tokens":
        left, amount = (f"{int(Decimal(budget[name])):,}" for name in ("left", "amount"))
        amount = f"{amount} tokens"
    else:
        left, amount = format_money(Decimal(budget["left"]), unit), format_amount(Decimal(budget["amount"]), unit)
    if budget["per"] == "call":
        return f"{amount} per call"
    return f"{left} left of {amount}" + ("" if budget["per"] == "session" else f" per {budget['per']}")


def _hover(message: Mapping[str, Any]) -> str:
    lines = [message["model"], " · ".join(f"{name} {tokens:,}" for name, tokens in message["parts"].items())]
    if message["answer"]:
        lines.append(f"answer: by {message['answer']['basis']}")
    return "\n".join(lines)
