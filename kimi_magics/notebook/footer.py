"""The line below an answer: time, tokens, cost, and what to know about a reply that is not whole.

A figure that is not known is left out; one that is ours and not the host's carries `≈`.
"""

from __future__ import annotations

from decimal import Decimal

from kimi_magics.core.events import Replayed
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage, format_money, format_tokens


def format_footer(reply: Reply) -> str:
    """Return the line, as in `2.1 s · 1.2K in (1.0K cached) / 412 out · $0.0021`; may be empty.

    Where it took several requests, or the host searched the web, these are counted: `3 steps · 1 web search`. Of a
    reply that was replayed it is `replayed · $0 · first $0.0021 on 2026-11-23`, the same each time.
    """
    if reply.replayed is not None and reply.is_replayed:
        return _format_replayed(reply, reply.replayed)
    about = "≈ " if reply.usage.estimated else ""
    parts = ["partial"] if reply.is_partial else []
    if reply.seconds is not None:
        parts.append(f"{reply.seconds:.1f} s")
    if reply.steps > 1:
        was = f" ({_count_replayed(reply.replayed)})" if reply.replayed else ""
        parts.append(f"{reply.steps:,} steps{was}")
    usage = reply.usage
    if usage.web_searches:
        parts.append("1 web search" if usage.web_searches == 1 else f"{usage.web_searches:,} web searches")
    if reply.has_usage:
        cached = f" ({format_tokens(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
        parts.append(
            f"{about}{format_tokens(usage.prompt_tokens)} in{cached} / {format_tokens(usage.completion_tokens)} out"
        )
    if reply.cost is not None:
        parts.append(about + format_money(reply.cost, reply.currency))
    if reply.limit_note:
        parts.append(reply.limit_note)
    return " · ".join(parts)


def _format_replayed(reply: Reply, replayed: Replayed) -> str:
    parts = ["partial"] if reply.is_partial else []
    parts.append("replayed" if reply.steps == 1 else f"replayed · {reply.steps:,} steps")
    return " · ".join([*parts, format_money(Decimal(0), replayed.currency), format_first(replayed)])


def _count_replayed(replayed: Replayed) -> str:
    return f"{replayed.steps:,} replayed, {format_first(replayed)}"


def format_first(replayed: Replayed) -> str:
    """Return what a replayed answer cost when it was billed: `first $0.0021 on 2026-11-23`."""
    about = "≈ " if replayed.usage.estimated else ""
    cost = "" if replayed.cost is None else f"{about}{format_money(replayed.cost, replayed.currency)} "
    return f"first {cost}on {replayed.date.isoformat()}"


def format_progress(tokens: int, *, seconds: float, prompt_tokens: int, price: Price | None) -> str:
    """Return the figures while the answer comes, as in `≈ 412 tokens · 61 tok/s · ≈ $0.0021`.

    `seconds` have passed since the first token; a rate is told only when there was time to measure it.
    """
    parts = [f"≈ {format_tokens(tokens)} tokens"]
    if seconds >= 1:
        parts.append(f"{tokens / seconds:.0f} tok/s")
    if price is not None:
        cost = price.cost_of(Usage(prompt_tokens, tokens, estimated=True))
        parts.append(f"≈ {format_money(cost, price.currency)}")
    return " · ".join(parts)


def explain_finish(reply: Reply) -> str:
    """Return a sentence with the remedy when the answer ended before it was done; empty otherwise."""
    if reply.is_partial or reply.finish_reason in (None, "stop", "tool_calls"):
        return "" if reply.is_partial or reply.text else _explain_no_text(reply)
    if reply.finish_reason == "length":
        if reply.limit_note:
            return (
                "The answer was cut at the limit of a budget: %kimi_budget raises it, --over-budget passes it for once."
            )
        if reply.text:
            return "The answer was cut at the token limit (finish reason: length): raise --max-tokens for the rest."
        return (
            "The answer is empty: the reasoning used up the token limit (finish reason: length). Raise --max-tokens,"
            " which includes the reasoning, or use --thinking off where the model allows it."
        )
    return f"The model ended for the reason: {reply.finish_reason}."


def _explain_no_text(reply: Reply) -> str:
    if names := ", ".join(dict.fromkeys(call.name[:80] for call in reply.step_calls)):
        return f"There is no answer: the model called {names}, which was not run. Give it with --tool."
    if reply.finish_reason == "tool_calls":
        return "There is no answer: the model ended to call a tool, but named none (finish reason: tool_calls)."
    return "The answer is empty: the model sent no text."
