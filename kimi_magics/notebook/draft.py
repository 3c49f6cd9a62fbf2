"""What a cell that is being written would send: its tokens and cost, or why it would not be sent.

It takes the way of the cell itself (`LineParser`, `Session.build`, `Session.estimate`), so that what is shown beside a
draft is what its run would send.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from kimi_magics.core.ask import Ask, HelpRequested, LineParser
from kimi_magics.core.budget import Standing
from kimi_magics.core.estimate import Estimate
from kimi_magics.core.events import Replayed
from kimi_magics.core.media import Media
from kimi_magics.core.outlook import Outlook
from kimi_magics.core.prompt import Prompt
from kimi_magics.errors import BadRequestError, CallError, KimiError, MissingKeyError, ModelNotFoundError
from kimi_magics.notebook.gauge_text import message_of
from kimi_magics.notebook.requests import Request, RequestBuilder
from kimi_magics.notebook.session import Session, account_mark
from kimi_magics.notebook.spending import Judgement

#: `local` is counted here, `counted` by the API; `offline` is counted here because the API could not be asked; of
#: `kept` the answer is there already, and a run would replay it.
State = Literal["local", "counted", "offline", "kept", "over-budget", "over-context", "empty", "error", "off"]
Nearness = Literal["", "near-budget", "near-context"]

# From this part on, the end of the context is near.
_NEAR_CONTEXT = 0.8
# A host that could not be asked is left alone for a while, ever longer.
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 120.0
_MAGIC = re.compile(r"\s*(%%?)(kimi(?:_estimate)?|(?<!%%)kimi_describe)(?![\w.])[ \t]*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be said of a draft. `message` and `remedy` tell why it would not be sent, or was not counted."""

    state: State
    estimate: Estimate | None = None
    #: Tokens by what they are for; they sum up to the estimate's.
    parts: Mapping[str, int] = field(default_factory=dict)
    #: Tokens per character of the text that is being written, by class of character.
    rates: Mapping[str, float] = field(default_factory=dict)
    outlook: Outlook | None = None
    #: The budget that leaves least for this call.
    budget: Standing | None = None
    #: The longest answer in tokens, where a budget makes it shorter than it might be.
    limit: int | None = None
    #: What the answer cost that a run would replay; None where it would be sent.
    kept: Replayed | None = None
    warning: Nearness = ""
    message: str = ""
    remedy: str = ""
    #: Whether it may change without an edit: it fills in variables or names an image.
    depends: bool = False
    #: Whether the API may still be asked.
    is_final: bool = True


def is_draft(source: str) -> bool:
    """Tell whether the text of a cell, or one line of it, is a prompt for Kimi."""
    return _MAGIC.match(source) is not None


class Drafts:
    """Reports on drafts, for one shell; safe to use from several threads.

    `requests` builds what the cell would send; `clock` is for tests.
    """

    def __init__(
        self,
        session: Session,
        parsers: Mapping[str, LineParser],
        *,
        variables: Callable[[], Mapping[str, Any]],
        requests: RequestBuilder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._parsers = parsers
        self._variables = variables
        self._requests = requests
        self._clock = clock
        #: Why the host did not count, by model, or for all under an empty name.
        self._troubles: dict[str, _Trouble] = {}
        self._account = account_mark()

    def report(self, source: str, *, cell: str | None = None, may_ask: bool = True, is_wanted: bool = False) -> Report:
        """Return what is to be said of `source`, a whole cell or a line; with `may_ask` the API counts it.

        `is_wanted` tells that the user asked for this count, as with %kimi_estimate: the setting `gauge` is about those
        that nobody asked for. Never raises KimiError: what is wrong is part of the report.
        """
        depends = False
        try:
            mode = "live" if is_wanted else self._session.config.get("gauge")
            if mode == "off":
                return Report("off", message="the gauge is off", remedy="%kimi_config gauge=live")
            ask = self._parse(source)
            has_media = bool(ask.image or ask.video)
            if not ask.text.strip() and not has_media and ask.template is None:
                return Report("empty", message="the prompt is empty")
            is_filled = any("{{" in (text or "") for text in (ask.text, ask.system, ask.prefill))
            depends = has_media or is_filled or any((ask.chat, ask.tool, ask.schema, ask.template, ask.file, ask.cell))
            request = self._build(ask, cell)
            if isinstance(request, str):
                return Report("empty", message=request, depends=True)
            pending = _describe_pending(request.media)
            depends = depends or request.recall.is_on  # a run keeps its answer
            report = self._judge(request, cell=cell, may_ask=may_ask and mode == "live", is_local=mode == "local")
            if pending:
                # The rest may be counted, the whole is not.
                state = "local" if report.state == "counted" else report.state
                report = replace(report, state=state, message=report.message or pending)
        except HelpRequested:
            return Report("empty", message="shows the help")
        except KimiError as error:
            return Report("error", message=error.message, remedy=error.remedy, depends=depends)
        return replace(report, depends=depends)

    def forget_trouble(self) -> None:
        """Ask the host again at once, as when the user wants it now."""
        self._troubles.clear()

    def _build(self, ask: Ask, cell: str | None) -> Request | str:
        """Return the request, or what is waited for where nothing of it is known yet. Raises KimiError."""
        variables = self._variables()
        if not ask.text.strip():
            media = self._requests.peek_media(ask, variables)
            if media.pending and not media.images and not media.videos:
                return _describe_pending(media)
        return self._requests.build(ask, variables=variables, cell=cell, use="draft")

    def _parse(self, source: str) -> Ask:
        match = _MAGIC.match(source)
        if match is None:
            raise HelpRequested
        marks, name, rest = match.groups()
        parser = self._parsers[name]
        if name == "kimi_describe":
            from kimi_magics.notebook.describe import read_wish

            ask, names = parser.parse_names(rest)
            return read_wish(ask, names, session=self._session, variables=self._variables()).ask
        if marks == "%":
            ask = parser.parse_line(rest)
        else:
            line, _, body = rest.partition("\n")
            ask = parser.parse_cell(line, body)
        # For %kimi_estimate the flag is about its report.
        return replace(ask, json=False) if name == "kimi_estimate" else ask

    def _judge(self, request: Request, *, cell: str | None, may_ask: bool, is_local: bool) -> Report:
        session, prompt = self._session, request.prompt
        kept = None if request.media.pending else session.find_kept(prompt, request.recall)
        if kept is not None:
            return self._tell_kept(prompt, kept)
        trouble = "" if is_local else self._find_trouble(prompt)
        if may_ask and not trouble:
            trouble = self._ask(prompt)
        estimate = session.estimate(prompt, may_ask=False)
        demand = session.weigh(prompt, estimate, cell=cell)
        found = session.spending.judge(demand, is_over_allowed=request.allow.is_over_allowed)
        limits = _find_limits(prompt, estimate, found)
        unlimited: State = "counted" if estimate.is_counted else "offline" if trouble else "local"
        session.spending.expect_call()
        return Report(
            limits.state or unlimited,
            estimate,
            parts=_fit(session.counting.count_parts_here(prompt), estimate.prompt_tokens),
            rates=session.counting.rates(prompt),
            outlook=session.expect_answer(prompt, cell=cell),
            budget=found.standing,
            limit=found.limit,
            warning=limits.warning,
            message=limits.message or (estimate.note if estimate.is_counted else trouble or estimate.note),
            remedy=limits.remedy,
            # Asked without trouble, what can be counted has been.
            is_final=estimate.is_counted or is_local or bool(trouble) or may_ask,
        )

    def _tell_kept(self, prompt: Prompt, kept: Replayed) -> Report:
        """Report on a prompt whose answer is kept: neither the API nor a budget has a part in its run."""
        session = self._session
        estimate = session.estimate(prompt, may_ask=False, with_price=False)
        return Report(
            "kept",
            estimate,
            parts=_fit(session.counting.count_parts_here(prompt), estimate.prompt_tokens),
            rates=session.counting.rates(prompt),
            kept=kept,
        )

    def _find_trouble(self, prompt: Prompt) -> str:
        """Return why the host is not to be asked just now."""
        if (account := account_mark()) != self._account:
            # Another host or key: what was wrong with the one before is past.
            self._account = account
            self._troubles.clear()
        troubles = (self._troubles.get(name) for name in ("", prompt.model.name))
        return next((one.reason for one in troubles if one and self._clock() < one.until), "")

    def _ask(self, prompt: Prompt) -> str:
        """Have the host count; return why it did not, and leave it alone for a while then."""
        name = prompt.model.name
        try:
            self._session.count(prompt)
        except (CallError, MissingKeyError) as error:
            # A model or a request that the host refuses says nothing of others.
            key = name if isinstance(error, BadRequestError | ModelNotFoundError) else ""
            before = self._troubles.get(key)
            pause = min(2 * before.pause, _LONGEST_PAUSE_SECONDS) if before else _PAUSE_SECONDS
            self._troubles[key] = _Trouble(error.message, self._clock() + pause, pause)
            return error.message
        for key in ("", name):
            self._troubles.pop(key, None)
        return ""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What is to be said of a limit that is passed or near."""

    state: State | Literal[""] = ""
    warning: Nearness = ""
    message: str = ""
    remedy: str = ""


def _find_limits(prompt: Prompt, estimate: Estimate, found: Judgement) -> _Limits:
    context, needed = prompt.model.context_tokens, estimate.prompt_tokens + (prompt.max_tokens or 0)
    if context is not None and needed > context:
        return _Limits(
            "over-context", message=f"{needed:,} tokens with the answer do not fit the context of {context:,}"
        )
    budget = found.standing.budget if found.standing is not None else None
    if found.is_passed:
        return _Limits(warning="near-budget", message=f"sent for this once, whatever the budget of {budget} says")
    is_hub = budget is not None and budget.source == "hub"
    this_once = "ask whoever runs the hub" if is_hub else "--over-budget sends it for this once"
    if found.verdict == "over":
        remedy = this_once
        if found.room and found.room > 0 and estimate.is_counted:
            remedy = f"--max-tokens {found.room}" + ("" if is_hub else ", or --over-budget")
        return _Limits("over-budget", message=f"over the budget of {budget}: the cell would not be sent", remedy=remedy)
    if found.verdict == "unknown":
        message = f"the price is unknown, so the budget of {budget} forbids the call"
        return _Limits("over-budget", message=message, remedy=this_once)
    if found.limit is not None:
        return _Limits(warning="near-budget", message=f"the budget of {budget} limits the answer")
    if found.verdict == "near":
        return _Limits(warning="near-budget", message=f"near the end of the budget of {budget}")
    if context is not None and needed > _NEAR_CONTEXT * context:
        return _Limits(warning="near-context", message="near the end of the context")
    return _Limits()


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why the host did not count; it is not asked again before `until`, which is `pause` seconds later."""

    reason: str
    until: float
    pause: float


def _describe_pending(media: Media) -> str:
    names = ", ".join(media.pending)
    return f"{names} is counted when the cell runs" if names else ""


#: What is known by itself: the endpoint's total is shared by the texts.
_COUNTED_APART = ("images", "videos", "template", "tools", "schema")


def _fit(parts: Mapping[str, int], total: int) -> dict[str, int]:
    """Return the parts, counted here, so that they sum up to `total`: the texts share the difference."""
    fixed = {name: tokens for name, tokens in parts.items() if name in _COUNTED_APART}
    loose = {name: tokens for name, tokens in parts.items() if name not in fixed and tokens}
    rest, known = max(0, total - sum(fixed.values())), sum(loose.values())
    if not loose:
        return {name: tokens for name, tokens in fixed.items() if tokens}
    shares = {name: rest * tokens // known for name, tokens in loose.items()}
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] += rest - sum(shares.values())
    return {name: tokens for name, tokens in {**shares, **fixed}.items() if tokens}


def report_message(report: Report) -> dict[str, Any]:
    """Return the report as JSON-ready values: money as text, tokens as numbers, null for what is not known."""
    estimate = report.estimate
    message: dict[str, Any] = {
        "state": report.state,
        "warning": report.warning,
        "message": report.message,
        "remedy": report.remedy,
        "depends": report.depends,
        "final": report.is_final,
    }
    if estimate is None:
        return message
    price, outlook, budget = estimate.price, report.outlook, report.budget
    return message | {
        "model": estimate.model.name,
        "tokens": estimate.prompt_tokens,
        "counted": estimate.is_counted,
        # Tools and schema, which the API's count leaves out.
        "added": estimate.added_tokens,
        "context": estimate.model.context_tokens,
        "price": price and {"input": str(price.input), "output": str(price.output), "currency": price.currency},
        "parts": dict(report.parts),
        "rates": {name: round(rate, 5) for name, rate in report.rates.items()},
        "answer": outlook and {"low": outlook.low, "high": outlook.high, "basis": outlook.basis},
        "budget": budget_message(budget),
        "limit": report.limit,
        "kept": report.kept and message_of(report.kept),
    }


def budget_message(standing: Standing | None) -> dict[str, str] | None:
    """Return a budget and what is left of it, as text; `currency` is `tokens` where it is none of money."""
    if standing is None:
        return None
    budget = standing.budget
    return {
        "left": str(max(Decimal(0), standing.left)),
        "amount": f"{budget.amount:f}",
        "currency": budget.unit,
        "per": budget.scope,
    }
