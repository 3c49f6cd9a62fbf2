"""What the reporting magics show: models, estimates, settings; each as a table or as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kimi_magics.client.access import check_base_url
from kimi_magics.core.ask import Ask
from kimi_magics.core.estimate import Estimate
from kimi_magics.core.media import format_bytes
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Price, format_money
from kimi_magics.errors import CallError, ConfigError, MissingKeyError
from kimi_magics.notebook.bundles import display_bundle
from kimi_magics.notebook.session import Session, base_url
from kimi_magics.notebook.tables import show_table


def print_json(value: Any) -> None:
    """Print `value` for a program to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 — this is the output


# ---------------------------------------------------------------- models


def report_models(session: Session, *, as_json: bool, with_retired: bool) -> None:
    """Show the models that the host serves now, else those of our list, and say which."""
    try:
        models, note = session.fetch_models(), f"As served by {session.client.host}."
    except (CallError, MissingKeyError) as error:
        models = session.catalog.live()
        note = f"From the built-in list of {session.catalog.checked.isoformat()}: {error.message}."
    if with_retired:
        names = {model.name for model in models}
        models = models + [model for model in session.catalog if model.retired and model.name not in names]
    if as_json:
        print_json([_model_facts(model, session.price_of(model)) for model in models])
        return
    headers = ["model", "context", "answer up to", "reads", "thinking", "cached / input / output"]
    rows = [_model_row(model, session.price_of(model)) for model in models]
    note = f"{note} Prices are per million tokens."
    show_table(headers, rows, note=note, figures=headers[1:3] + headers[-1:])


def _model_row(model: Model, price: Price | None) -> list[str]:
    name = model.name + (f" (retired {model.retired.isoformat()})" if model.retired else "")
    return [
        name,
        _number(model.context_tokens),
        _number(model.default_output_tokens),
        _reads(model),
        _thinks(model),
        _price(price),
    ]


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _reads(model: Model) -> str:
    kinds = ["text"] + ["images"] * bool(model.supports_images) + ["video"] * bool(model.supports_video)
    return ", ".join(kinds)


def _thinks(model: Model) -> str:
    return {
        "switch": "can be off",
        "always": "always",
        "effort": "always; --effort",
        "never": "no",
        "unknown": "unknown",
    }[model.thinking]


def _price(price: Price | None) -> str:
    if price is None:
        return "unknown"
    figures = [price.cached, price.input, price.output]
    return " / ".join("–" if figure is None else f"{figure:.2f}" for figure in figures) + f" {price.currency}"


def _model_facts(model: Model, price: Price | None) -> dict[str, Any]:
    return {
        "model": model.name,
        "context_tokens": model.context_tokens,
        "default_output_tokens": model.default_output_tokens,
        "supports_images": model.supports_images,
        "supports_video": model.supports_video,
        "thinking": model.thinking,
        "retired": model.retired.isoformat() if model.retired else None,
        "replacement": model.replacement,
        "price": price
        and {
            "cached": None if price.cached is None else str(price.cached),
            "input": str(price.input),
            "output": str(price.output),
            "currency": price.currency,
            "as_of": price.as_of.isoformat() if price.as_of else None,
            "source": price.source,
        },
    }


# ---------------------------------------------------------------- estimate


def report_estimate(
    session: Session, prompt: Prompt, *, compare: bool, as_json: bool, pending: Sequence[str] = ()
) -> None:
    """Show what `prompt` would cost, for its model or with `compare` for every live one; nothing is generated.

    `pending` names what is read only by a run, and is not in it.
    """
    left_out = f"{', '.join(pending)} is read and counted when the cell runs" if pending else ""
    if compare:
        from kimi_magics.notebook.compare_report import report_comparison

        report_comparison(session, prompt, as_json=as_json, pending=left_out)
        return
    estimate = session.estimate(prompt)
    if pending:
        estimate = replace(estimate, is_counted=False, note=estimate.note or left_out)
    if as_json:
        print_json(estimate_facts(estimate, estimate.model, session.currency))
        return
    headers = ["model", "tokens", "of the context", "input", "answer up to", "at most"]
    if not estimate.is_counted:
        note = f"≈ not all is counted by the API: {estimate.note}."
    else:
        note = f"Counted by the API; nothing was generated{f'; {estimate.note}' if estimate.note else ''}."
    show_table(headers, [_estimate_row(estimate)], note=note, figures=headers[1:])


def _estimate_row(estimate: Estimate) -> list[str]:
    currency = estimate.price.currency if estimate.price else ""
    share = estimate.context_share
    return [
        estimate.model.name,
        ("" if estimate.is_counted and not estimate.added_tokens else "≈ ") + f"{estimate.prompt_tokens:,}",
        "unknown" if share is None else f"{share:.1%}" if share >= 0.001 else "< 0.1%",
        "unknown price" if estimate.input_cost is None else format_money(estimate.input_cost, currency),
        _number(estimate.output_limit),
        "unknown" if estimate.ceiling is None else format_money(estimate.ceiling, currency),
    ]


def estimate_facts(estimate: Estimate | None, model: Model, currency: str) -> dict[str, Any]:
    """Return an estimate as JSON-ready values; without one, as for a model that does not take the prompt, nulls."""
    facts: dict[str, Any] = dict.fromkeys(
        ("model", "prompt_tokens", "counted", "added_tokens", "note", "context_share", "input_cost", "output_limit")
    ) | {"ceiling": None, "currency": currency}
    if estimate is None:
        return facts | {"model": model.name, "counted": False}
    return facts | {
        "model": estimate.model.name,
        "prompt_tokens": estimate.prompt_tokens,
        "counted": estimate.is_counted,
        "added_tokens": estimate.added_tokens,
        "note": estimate.note,
        "context_share": estimate.context_share,
        "input_cost": None if estimate.input_cost is None else str(estimate.input_cost),
        "output_limit": estimate.output_limit,
        "ceiling": None if estimate.ceiling is None else str(estimate.ceiling),
        "currency": estimate.price.currency if estimate.price else currency,
    }


def show_media(session: Session, prompt: Prompt) -> None:
    """Display what goes beside the text: small pictures, sizes before and after, tokens as far as they are known."""
    if any(message.media for message in prompt.messages):
        from kimi_magics.notebook.thumbnails import describe_media, media_bundle

        display_bundle(media_bundle(describe_media(prompt, count=session.counting.recall_medium)))


# ---------------------------------------------------------------- settings


def report_config(session: Session, ask: Ask) -> None:
    """Show, get or set: nothing, `NAME`, or `NAME=VALUE`."""
    name, equals, value = (part.strip() for part in _split_setting(ask.text))
    is_saved: bool = ask.extra["save"]
    if (name, _unquote(value).lower()) == ("cache", "clear"):
        _clear_cache(session, as_json=ask.json)
        return
    if ask.extra["unset"]:
        session.config.unset(ask.extra["unset"], save=is_saved)
        name = ask.extra["unset"]
    elif equals:
        session.config.set(name, _unquote(value), save=is_saved)
    names = [name] if name else session.config.names()
    rows: list[tuple[str, Any, str]] = [(row, *session.config.look_up(row)) for row in names]
    if ask.json:
        facts = [{"name": row, "value": found, "source": source} for row, found, source in rows]
        print_json(facts[0] if name else facts)
    elif name:
        _, found, source = rows[0]
        print(f"{name} = {_shown(found)} ({source})")  # noqa: T201 — this is the output
    else:
        _show_settings(session, rows)


def _clear_cache(session: Session, *, as_json: bool) -> None:
    """Forget the answers that are kept, and say how many there were. Raises ConfigError."""
    gone = session.replays.clear()
    if gone is None:
        raise ConfigError(
            f"the answers in {session.replays.path} cannot be taken away", remedy="close other kernels, or delete it"
        )
    count, size = gone
    if as_json:
        print_json({"name": "cache", "answers": count, "bytes": size})
    else:
        answers = "1 answer" if count == 1 else f"{count:,} answers"
        print(f"cache: {answers} forgotten ({format_bytes(size)})")  # noqa: T201 — this is the output


def _split_setting(text: str) -> Sequence[str]:
    if "=" in text:
        return text.partition("=")
    name, space, value = text.strip().partition(" ")
    return name, "=" if space else "", value


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _show_settings(session: Session, rows: Sequence[tuple[str, Any, str]]) -> None:
    from kimi_magics.store.config import explain

    has_key = "is set" if os.environ.get("MOONSHOT_API_KEY", "").strip() else "is not set"
    try:
        host = f"The host is {check_base_url(base_url()).host}"
    except ConfigError as error:
        # Not the address itself: it may hold a password.
        host = error.message
    note = f"Saved in {session.config.path}. {host}; MOONSHOT_API_KEY {has_key}."
    table = [[name, _shown(value), source, explain(name)] for name, value, source in rows]
    show_table(["setting", "value", "from", "meaning"], table, note=note)
