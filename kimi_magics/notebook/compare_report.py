"""What %kimi_estimate --compare shows: a prompt on every live model, the cheapest first; nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kimi_magics.core.models import Model
from kimi_magics.core.offers import Offer, Range, find_common_answer, sort_offers
from kimi_magics.core.outlook import FEW_RUNS, expect_answer
from kimi_magics.core.prompt import Prompt, adapt
from kimi_magics.core.usage import format_money
from kimi_magics.errors import CallError, MissingKeyError, PromptError
from kimi_magics.notebook.reports import estimate_facts, print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table
from kimi_magics.store.ledger_reports import read_answers

_NONE = "–"


def report_comparison(session: Session, prompt: Prompt, *, as_json: bool, pending: str = "") -> None:
    """Show what `prompt` takes of each live model; `pending` says what only a run reads, and is not in it."""
    try:
        models, listed = session.fetch_models(), ""
    except (CallError, MissingKeyError) as error:
        models = session.catalog.live()
        listed = f"The models are those of the built-in list of {session.catalog.checked.isoformat()}: {error.message}."
    if all(model.name != prompt.model.name for model in models):
        models = [prompt.model, *models]
    answers = read_answers(session.spending.ledger)
    offers = [_offer(session, prompt, model, answers.get(model.name, []), pending) for model in models]
    offers = sort_offers(offers, currency=session.currency)
    kinds = _kinds(prompt)
    if as_json:
        print_json([_facts(session, offer, kinds) for offer in offers])
        return
    reads = [f"reads {kind}" for kind in kinds]
    headers = ["model", "tokens", "input", "answer", "answer costs", "in all", "context", *reads]
    note = " ".join(filter(None, [*_notes(session, offers), listed]))
    show_table(headers, [_row(offer, kinds) for offer in offers], note=note, figures=headers[1:6])


def _offer(session: Session, prompt: Prompt, model: Model, answers: Sequence[int], pending: str) -> Offer:
    is_asked = model.name == prompt.model.name
    try:
        # Not adapted to itself: what does not fit the asked model was refused before.
        adapted = prompt if is_asked else adapt(prompt, model)
    except PromptError as error:
        return Offer(model, None, error.message)
    estimate = session.estimate(adapted)
    if pending:
        estimate = replace(estimate, is_counted=False, note=estimate.note or pending)
    outlook = expect_answer((), answers, model=model.name, max_tokens=prompt.max_tokens)
    return Offer(model, estimate, "", outlook, prompt.max_tokens or 0, is_asked)


def _kinds(prompt: Prompt) -> list[str]:
    """Return what the prompt shows beside its text."""
    return [kind for kind in ("images", "videos") if any(getattr(one, kind) for one in prompt.messages)]


def _reads(model: Model, kind: str) -> bool | None:
    return model.supports_images if kind == "images" else model.supports_video


# ---------------------------------------------------------------- table


def _row(offer: Offer, kinds: Sequence[str]) -> list[str]:
    name = f"{offer.model.name} (asked)" if offer.is_asked else offer.model.name
    reads = [{True: "yes", False: "no", None: "unknown"}[_reads(offer.model, kind)] for kind in kinds]
    estimate = offer.estimate
    if estimate is None:
        return [name, *[_NONE] * 5, "refused", *reads]
    currency = estimate.price.currency if estimate.price else ""
    about = "" if estimate.is_counted and not estimate.added_tokens else "≈ "
    return [
        name,
        f"{about}{estimate.prompt_tokens:,}",
        "unknown price" if estimate.input_cost is None else format_money(estimate.input_cost, currency),
        _write_answer(offer),
        _write_range(offer, offer.answer_cost, currency),
        _write_total(offer, currency),
        _write_fit(offer),
        *reads,
    ]


def _write_answer(offer: Offer) -> str:
    outlook = offer.outlook
    if outlook is None:
        return _NONE
    if outlook.low is None:
        return f"up to {outlook.high:,}"
    return f"{outlook.high:,}" if outlook.low == outlook.high else f"{outlook.low:,}–{outlook.high:,}"


def _write_range(offer: Offer, cost: Range | None, currency: str) -> str:
    if cost is None:
        return _NONE
    if offer.outlook is not None and offer.outlook.low is None:
        return f"up to {format_money(cost.high, currency)}"
    low, high = format_money(cost.low, currency), format_money(cost.high, currency)
    return high if low == high else f"{low}–{high}"


def _write_total(offer: Offer, currency: str) -> str:
    if offer.estimate is None or offer.estimate.input_cost is None:
        return "unknown"
    if offer.total is None:
        return f"from {format_money(offer.estimate.input_cost, currency)}"
    low, high = format_money(offer.total.low, currency), format_money(offer.total.high, currency)
    return high if low == high else f"{low}–{high}"


def _write_fit(offer: Offer) -> str:
    excess, estimate = offer.excess, offer.estimate
    if excess is None or estimate is None:
        return "unknown"
    if excess:
        return f"too long by {excess:,}"
    share = estimate.context_share or 0
    return f"fits, {share:.1%}" if share >= 0.001 else "fits, < 0.1%"


# ---------------------------------------------------------------- words


def _notes(session: Session, offers: Sequence[Offer]) -> list[str]:
    """Return the sentences below the table."""
    taken = [offer for offer in offers if offer.estimate is not None]
    notes = [_tell_counted(session, taken), _tell_answers(taken)]
    if unpriced := [one.model.name for one in taken if one.estimate is not None and one.estimate.price is None]:
        remedy = f"%kimi_config price.{unpriced[0]}=cached/input/output sets one"
        notes.append(f"The price of {_join(unpriced)} is not known: {remedy}.")
    notes += [f"Refused: {offer.refusal}." for offer in offers if offer.estimate is None]
    return notes


def _tell_counted(session: Session, offers: Sequence[Offer]) -> str:
    ours = [one for one in offers if one.estimate is not None and not one.estimate.is_counted]
    said = dict.fromkeys(one.estimate.note for one in offers if one.estimate is not None and one.estimate.note)
    reasons = f": {'; '.join(said)}" if said else ""
    if not ours:
        return f"Counted by the API for each model; nothing was generated{reasons}."
    foreign = [one.model.name for one in ours if not session.counting.weights(one.model).learnt]
    names = _join([one.model.name for one in ours])
    which = "≈ is counted here" if len(ours) == len(offers) else f"≈ {names} is counted here"
    by = ""
    if foreign:
        # K2's vocabulary is public, those of later models are not.
        own = "its own" if len(foreign) == 1 else "their own"
        by = f" For {_join(foreign)} that is by the vocabulary of Kimi K2, which may differ from {own}."
    return f"{which}{reasons}.{by}"


def _tell_answers(offers: Sequence[Offer]) -> str:
    known = dict.fromkeys(one.outlook.basis for one in offers if one.outlook is not None)
    unknown = [one.model.name for one in offers if one.outlook is None]
    parts = [f"Answers are expected by {', '.join(known)}."] if known else []
    if unknown:
        others = "the models" if not known else "the others" if len(unknown) > 2 else _join(unknown)
        parts.append(
            f"What {others} will answer is not known (–): fewer than {FEW_RUNS} earlier runs in the ledger, and no"
            " --max-tokens."
        )
    if (common := find_common_answer(offers)) is not None:
        parts.append(f"The order is by what an answer of {common:,} tokens would cost.")
    return " ".join(parts)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ---------------------------------------------------------------- for programs


def _facts(session: Session, offer: Offer, kinds: Sequence[str]) -> dict[str, Any]:
    estimate, outlook = offer.estimate, offer.outlook
    facts = estimate_facts(estimate, offer.model, session.currency)
    return facts | {
        "asked": offer.is_asked,
        "answer": outlook and {"low": outlook.low, "high": outlook.high, "basis": outlook.basis},
        "answer_cost": _range(offer.answer_cost),
        "total": _range(offer.total),
        "fits": None if offer.excess is None else not offer.excess,
        "too_long_by": offer.excess,
        "reads": {kind: _reads(offer.model, kind) for kind in kinds},
        "refused": offer.refusal or None,
    }


def _range(cost: Range | None) -> dict[str, str] | None:
    return None if cost is None else {"low": f"{cost.low:f}", "high": f"{cost.high:f}"}
