"""What a kernel may spend and what it does: the budgets in force, and each call's row in the ledger.

The promise: nothing is sent before the budgets have granted it and its row is written, and whatever happens
afterwards, the row says what it took.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from kimi_magics.core.budget import (
    Budget,
    Demand,
    Refusal,
    Source,
    Standing,
    Verdict,
    decide,
    explain,
    judge,
    read_budget,
    read_budgets,
    replace_budget,
    tightest,
)
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage, format_money
from kimi_magics.core.wire import prompt_hash
from kimi_magics.errors import (
    ApiError,
    BudgetError,
    ConnectionFailedError,
    InterruptedReplyError,
    ReadTimeoutError,
    RefusedError,
    ReplyBrokenError,
)
from kimi_magics.notebook.asking import NobodyToAskError, ask_yes
from kimi_magics.store.config import Config
from kimi_magics.store.database import RunOnMain, load_soon
from kimi_magics.store.interrupts import uninterrupted
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

#: What the host did not take was not billed; nor what never reached it, as when the user interrupted before: of a
#: request that was sent an interrupt makes an InterruptedReplyError.
_NOT_BILLED = (RefusedError, ApiError, ConnectionFailedError, KeyboardInterrupt)
#: Sent, and then nothing was heard: the prompt at least has probably been billed.
_PERHAPS_BILLED = (InterruptedReplyError, ReadTimeoutError, ReplyBrokenError)

_FindCheaper = Callable[[Demand], tuple[str, Decimal] | None]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the budgets make of a call that would be sent now, by the `standing` that leaves least for it.

    `limit` is the longest answer in tokens, where a budget shortens it; `room` is the longest that would fit, where the
    call is refused.
    """

    verdict: Verdict
    standing: Standing | None = None
    limit: int | None = None
    room: int | None = None
    #: Whether it would be sent all the same, with an answer of any length.
    is_passed: bool = False

    @property
    def is_forbidden(self) -> bool:
        """Whether a budget is against it."""
        return self.verdict in ("over", "unknown")


def _judge(demand: Demand, standings: Sequence[Standing]) -> Judgement:
    decision, verdict = decide(demand, standings), judge(demand, standings)
    if isinstance(decision, Refusal):
        return Judgement(verdict, decision.standing, room=decision.room)
    by = decision.limited_by
    held = next((one for one in standings if one.budget is by), None) if by else tightest(demand, standings)
    return Judgement(verdict, held, decision.answer_tokens)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the user allows for one call: to pass the budgets, or not to be asked about its cost."""

    is_over_allowed: bool = False
    is_agreed: bool = False
    #: The shortest answer that is of any use, in tokens, where the caller knows.
    useful_tokens: int | None = None

    def confirm(self, demand: Demand, threshold: str) -> None:
        """Ask whether a call is to be sent that may cost more than the setting `confirm`. Raises BudgetError."""
        if threshold == "off" or self.is_over_allowed or self.is_agreed:
            return
        most = read_budget(threshold)
        answer = demand.expected_tokens if demand.expected_tokens is not None else demand.answer_tokens
        cost = demand.cost(answer or 0)
        currency = demand.price.currency if demand.price else demand.currency
        if cost is not None and currency == most.unit and cost <= most.amount:
            return
        what = "costs what nobody knows" if cost is None else f"may cost {format_money(cost, currency)}"
        remedy = f"%kimi_config confirm=… sets when to ask ({threshold} now); --over-budget sends it without a question"
        try:
            is_agreed = ask_yes(f"this call {what}; send it? [y/N] ")
        except NobodyToAskError:
            what, is_agreed = f"{what}, and there is nobody to ask", False
        if not is_agreed:
            raise BudgetError(f"not sent: the call {what}", remedy=remedy)


ASK = Allowance()


def note_limit(reply: Reply, booking: Booking) -> None:
    """Have the reply say that a budget shortened its answer."""
    budget, limit = booking.limited_by, booking.prompt.max_tokens
    reply.limit_note = f"answer limited to {limit:,} tokens by the budget of {budget}" if budget and limit else ""


class Spending:
    """The budgets of one kernel over the ledger that it shares with others.

    `notebook` names the notebook of the kernel, or nothing; `tell` is given one sentence when the ledger cannot be
    used; `run_on_main` has a job done on the main thread when no cell runs.
    """

    def __init__(
        self,
        config: Config,
        *,
        notebook: Callable[[], str] = lambda: "",
        tell: Callable[[str], None] = lambda _text: None,
        ledger: Ledger | None = None,
        run_on_main: RunOnMain | None = None,
    ) -> None:
        self._config = config
        self.notebook = notebook
        self._tell = tell
        self._ledger = ledger
        self._ledger_for = "file"
        self._is_given = ledger is not None
        self._run_on_main = run_on_main
        self._expects_call = False
        self._lock = threading.Lock()
        self.session = uuid.uuid4().hex

    @property
    def ledger(self) -> Ledger:
        """The ledger that the settings name now. Raises ConfigError."""
        wanted: str = self._config.get("ledger")
        with self._lock:  # the gauge asks while a cell runs
            if self._ledger is None or (wanted != self._ledger_for and not self._is_given):
                if self._ledger is not None:
                    self._ledger.close()
                self._ledger = Ledger(None if wanted == "file" else wanted, tell=self._tell)
                self._ledger_for = wanted
            return self._ledger

    def expect_call(self) -> None:
        """Make ready in the background what the first call needs: somebody writes a prompt."""
        if not self._expects_call:
            self._expects_call = True
            load_soon(self._run_on_main)

    def close(self) -> None:
        """Let the database go."""
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
            self._ledger = None

    # ------------------------------------------------------------ budgets

    def budgets(self) -> tuple[Budget, ...]:
        """Return the budgets in force: the hub's, and the user's own. Raises ConfigError."""
        return (*self._read(self._config.hub_budget(), "hub"), *self.own())

    def own(self) -> tuple[Budget, ...]:
        """Return the user's own budgets, saved ones and those of this session. Raises ConfigError."""
        saved = self._saved()
        if self._config.look_up("budget")[1] != "session":
            return saved
        kept = {one.typed(): one for one in saved}
        return tuple(kept.get(one.typed(), one) for one in self._read(self._config.get("budget"), "session"))

    def _saved(self) -> tuple[Budget, ...]:
        return self._read(self._config.saved("budget"), "saved")

    def _read(self, text: str | None, source: Source) -> tuple[Budget, ...]:
        return () if text in (None, "off") else read_budgets(str(text), source=source)

    def set(self, budget: Budget, *, save: bool) -> None:
        """Put a budget in the place of the one for the same. Raises ConfigError."""
        self._change(lambda budgets: replace_budget(budgets, budget), save=save)

    def remove(self, scope: str, *, save: bool) -> bool:
        """Take the user's own budgets of a scope away, all of them for an empty one; tell whether there were any.

        Raises ConfigError.
        """
        own = (*self.own(), *self._saved()) if save else self.own()
        has_any = any(scope in ("", one.scope) for one in own)
        if has_any:
            self._change(lambda budgets: [one for one in budgets if scope not in ("", one.scope)], save=save)
        return has_any

    def _change(self, change: Callable[[Sequence[Budget]], Sequence[Budget]], *, save: bool) -> None:
        """Change the budgets of this session, and with `save` those that are saved: neither is taken for the other."""
        of_session, is_apart = self.own(), self._config.look_up("budget")[1] == "session"
        if save:
            self._write(change(self._saved()), save=True)
        if is_apart or not save:
            self._write(change(of_session), save=False)

    def _write(self, budgets: Sequence[Budget], *, save: bool) -> None:
        self._config.set("budget", ", ".join(one.typed() for one in budgets) or "off", save=save)

    def standings(self) -> tuple[Standing, ...]:
        """Return what is gone of each budget in force. Raises ConfigError."""
        budgets = self.budgets()
        return self.ledger.standings(budgets, self._entry()) if budgets else ()

    def judge(self, demand: Demand, *, is_over_allowed: bool = False) -> Judgement:
        """Return what the budgets make of a call; nothing is put aside. Raises ConfigError."""
        standings = self.standings()
        found = _judge(demand, standings)
        if not is_over_allowed:
            return found
        by_hub = _judge(demand, [one for one in standings if one.budget.source == "hub"])
        if by_hub.is_forbidden or by_hub.limit is not None:
            return by_hub
        is_passed = found.is_forbidden or found.limit is not None
        return replace(found, limit=None, room=None, is_passed=is_passed)

    def needs_price(self) -> bool:
        """Whether a call cannot be judged without a price."""
        return self._config.get("confirm") != "off" or any(budget.is_money for budget in self.budgets())

    # ------------------------------------------------------------ calls

    def begin(
        self,
        prompt: Prompt,
        demand: Demand,
        *,
        host: str,
        cell: str | None,
        expected_tokens: int,
        is_over_allowed: bool = False,
        find_cheaper: _FindCheaper = lambda _demand: None,
    ) -> Booking:
        """Put aside what a call may take. Raises BudgetError, ConfigError; nothing is recorded then."""
        entry = replace(
            self._entry(),
            host=host,
            model=prompt.model.name,
            cell=cell or "",
            prompt_hash=prompt_hash(prompt),
            expected_tokens=expected_tokens,
        )
        granted = self._reserve(entry, demand, is_over_allowed=is_over_allowed)
        if isinstance(granted, Refusal):
            raise explain(granted, cheaper=find_cheaper(demand))
        return Booking(self, granted, prompt, is_over_allowed=is_over_allowed, find_cheaper=find_cheaper)

    def _reserve(self, entry: Entry, demand: Demand, *, is_over_allowed: bool) -> Reservation | Refusal:
        ledger, budgets = self.ledger, self.budgets()
        granted: Reservation | Refusal | None = None
        try:
            with uninterrupted():
                granted = ledger.reserve(entry, demand, budgets, is_over_allowed=is_over_allowed)
        except KeyboardInterrupt:
            if isinstance(granted, Reservation):
                ledger.release(granted)
            raise
        return granted

    def _entry(self) -> Entry:
        return Entry(self.session, "", "", notebook=self.notebook())


class Booking:
    """A call that is under way, in the ledger."""

    def __init__(
        self,
        spending: Spending,
        reservation: Reservation,
        prompt: Prompt,
        *,
        is_over_allowed: bool,
        find_cheaper: _FindCheaper,
    ) -> None:
        self._spending = spending
        self._reservation = reservation
        self._ledger = spending.ledger
        self._is_over_allowed = is_over_allowed
        self._find_cheaper = find_cheaper
        self._max_tokens = prompt.max_tokens
        self._lock = threading.Lock()
        self._is_done = False
        #: What is sent: the prompt, with the longest answer that the budgets pay for.
        self.prompt = self._limit(prompt)

    @property
    def limited_by(self) -> Budget | None:
        """The budget that shortened the answer of the last request, if one did."""
        return self._reservation.grant.limited_by

    def _limit(self, prompt: Prompt) -> Prompt:
        limit = self._reservation.grant.answer_tokens
        return replace(prompt, max_tokens=self._max_tokens if limit is None else limit)

    def extend(self, prompt: Prompt, demand: Demand) -> Prompt:
        """Put aside what the next request of the same call may take, and return it limited. Raises BudgetError."""
        with self._lock, uninterrupted():
            granted = self._ledger.extend(
                self._reservation, demand, self._spending.budgets(), is_over_allowed=self._is_over_allowed
            )
            if isinstance(granted, Refusal):
                raise explain(granted, cheaper=self._find_cheaper(demand))
            self._reservation = granted
            self.prompt = self._limit(prompt)
            return self.prompt

    def price(self, demand: Demand) -> None:
        """Put in what the call may cost, once the price is known; not to hold a budget, but to be known if it dies."""
        with self._lock:
            if not self._is_done:
                extended = self._ledger.extend(self._reservation, demand, (), is_over_allowed=True)
                if not isinstance(extended, Refusal):
                    self._reservation = replace(extended, grant=replace(extended.grant, limited_by=self.limited_by))

    def settle(self, reply: Reply, error: BaseException | None) -> None:
        """Write down what the call took, whatever ended it; a call that nobody was billed for leaves no row."""
        with self._lock, uninterrupted():
            self._is_done = True
            if reply.has_usage:
                self._ledger.settle(self._reservation, outcome_of(reply))
            elif reply.is_waiting and isinstance(error, InterruptedReplyError):
                self._ledger.release(self._reservation)
            elif error is None or not isinstance(error, _PERHAPS_BILLED):
                self._release_or_keep(reply, error)
            else:
                self._ledger.settle(self._reservation, self._lost(reply))

    def _release_or_keep(self, reply: Reply, error: BaseException | None) -> None:
        if isinstance(error, _NOT_BILLED):
            self._ledger.release(self._reservation)
        else:
            # Whole but without figures, or a fault of ours: nobody knows.
            self._ledger.settle(self._reservation, replace(outcome_of(reply), is_known=False))

    def _lost(self, reply: Reply) -> Outcome:
        """Return what is taken for a call of which nothing was heard: its prompt; all of it where nothing streams."""
        if not self.prompt.is_streamed:
            return replace(outcome_of(reply), is_known=False)
        usage = Usage(prompt_tokens=self._reservation.entry.expected_tokens, estimated=True)
        price = reply.price
        return replace(outcome_of(reply), usage=usage, cost=price.cost_of(usage) if price else None)


def outcome_of(reply: Reply) -> Outcome:
    """Return what a reply took, as the ledger keeps it."""
    return Outcome(
        reply.usage,
        reply.cost,
        reply.currency,
        price=reply.price,
        model=reply.model,
        steps=reply.steps - (reply.replayed.steps if reply.replayed else 0),
        retries=reply.retries,
        finish_reason=reply.finish_reason or "",
        request_id=reply.request_id or "",
        seconds=reply.seconds,
    )
