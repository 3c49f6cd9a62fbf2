"""The line below an answer: time, tokens, cost, and what to know about a reply that is not whole.

A figure that is not known is left out; one that is ours and not the host's carries `≈`.
"""

from __future__ import annotations

from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage, format_money, format_tokens


def format_footer(reply: Reply) -> str:
    """Return the line, as in `2.1 s · 1.2K in (1.0K cached) / 412 out · $0.0021`; may be empty."""
    about = "≈ " if reply.usage.estimated else ""
    parts = ["partial"] if reply.is_partial else []
    if reply.seconds is not None:
        parts.append(f"{reply.seconds:.1f} s")
    if reply.has_usage:
        usage = reply.usage
        cached = f" ({format_tokens(usage.cached_tokens)} cached)" if usage.cached_tokens else ""
        parts.append(
            f"{about}{format_tokens(usage.prompt_tokens)} in{cached} / {format_tokens(usage.completion_tokens)} out"
        )
    if reply.cost is not None:
        parts.append(about + format_money(reply.cost, reply.currency))
    return " · ".join(parts)


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
        if not reply.is_partial and not reply.text and reply.finish_reason != "tool_calls":
            return "The answer is empty: the model sent no text."
        return ""
    if reply.finish_reason == "length":
        if reply.text:
            return "The answer was cut at the token limit (finish reason: length): raise --max-tokens for the rest."
        return (
            "The answer is empty: the reasoning used up the token limit (finish reason: length). Raise --max-tokens,"
            " which includes the reasoning, or use --thinking off where the model allows it."
        )
    return f"The model ended for the reason: {reply.finish_reason}."
