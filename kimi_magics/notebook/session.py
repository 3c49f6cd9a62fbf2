"""What one kernel keeps between cells: settings, the client with its connections, the last reply."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from kimi_magics.client.access import Key, check_base_url
from kimi_magics.client.http import KimiClient
from kimi_magics.core.ask import Ask
from kimi_magics.core.budget import USEFUL_TOKENS, Demand
from kimi_magics.core.estimate import Estimate, check_context
from kimi_magics.core.events import Replayed
from kimi_magics.core.media import NO_MEDIA, Media, Video
from kimi_magics.core.models import Model
from kimi_magics.core.outlook import Outlook, expect_answer
from kimi_magics.core.ports import Follow, Transport, View
from kimi_magics.core.prompt import NO_ADDITIONS, Additions, Defaults, Prompt, build_prompt
from kimi_magics.core.rates import NO_LIMITS, RateLimits, read_limits
from kimi_magics.core.reply import Reply
from kimi_magics.core.run import run
from kimi_magics.core.usage import Price, Usage, format_money
from kimi_magics.core.wire import preview_body, prompt_hash, replay_key
from kimi_magics.errors import CallError, ConfigError, MissingKeyError
from kimi_magics.notebook.balances import Balances
from kimi_magics.notebook.counting import Counting
from kimi_magics.notebook.history import History
from kimi_magics.notebook.replaying import NO_RECALL, Calling, Recall, Replayer
from kimi_magics.notebook.spending import ASK, Allowance, Booking, Spending, note_limit
from kimi_magics.notebook.uploads import Sender, Uploads, has_media
from kimi_magics.notebook.values import write_value
from kimi_magics.store.alts import AltStore
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.config import Config
from kimi_magics.store.database import RunOnMain
from kimi_magics.store.prices import find_price, is_loaded, prefetch
from kimi_magics.store.rate_gate import RateGate
from kimi_magics.store.replays import Replays

DEFAULT_BASE_URL = "https://api.moonshot.ai/v1"
#: The local count may be wrong by this part; only nearer to a limit is the API's own count worth a request.
_LOCAL_DOUBT = 0.25


def base_url() -> str:
    """Return the address of the API from the environment, else the international one."""
    return os.environ.get("MOONSHOT_BASE_URL", "").strip() or DEFAULT_BASE_URL


def host_name() -> str:
    """Return the host that the environment names, empty when its address cannot be used."""
    try:
        return check_base_url(base_url()).host
    except ConfigError:
        return ""


def _site() -> str:
    """Return the host and port that the environment names, empty when its address cannot be used."""
    try:
        return check_base_url(base_url()).netloc.decode("ascii")
    except ConfigError:
        return ""


def account_mark() -> int:
    """Return what tells one host and key from another, and neither of them."""
    return hash((base_url(), os.environ.get("MOONSHOT_API_KEY")))


def _name_extras(prompt: Prompt) -> str:
    tools, schema = ("tools",) if prompt.tools else (), ("schema",) if prompt.format is not None else ()
    return " and ".join(tools + schema)


class Session:
    """One kernel's link to the API; made at the first use of a magic."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        notebook: Callable[[], str] = lambda: "",
        run_on_main: RunOnMain | None = None,
    ) -> None:
        """Take the settings, what names the notebook that is open now (or nothing), what runs a job between cells."""
        self.config = config or Config()
        self.catalog = load_catalog()
        #: What the host itself said of its models, by name.
        self._hosted: dict[str, Model] = {}
        self.counting = Counting(host=host_name)
        self.uploads = Uploads(site=_site, account=account_mark)
        self.history = History()
        #: The alt texts that were written before, here or elsewhere.
        self.alts = AltStore()
        #: What only the user can do something about, to be told below the next answer.
        self._notices: list[str] = []
        self.spending = Spending(self.config, notebook=notebook, tell=self._notices.append, run_on_main=run_on_main)
        #: The answers that are kept, to be replayed.
        self.replays = Replays(limit_bytes=self._find_cache_bytes, tell=self._notices.append)
        self.balances = Balances(
            client=lambda: self.client, ledger=lambda: self.spending.ledger, currency=lambda: self.currency
        )
        self._client: KimiClient | None = None
        self._client_for: tuple[str, str, float] | None = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------ host

    @property
    def client(self) -> KimiClient:
        """The client for the key and host that the environment names now; connections are kept while they stay.

        Raises MissingKeyError and ConfigError.
        """
        wanted = (base_url(), Key(os.environ.get("MOONSHOT_API_KEY", "")), self.config.get("timeout_seconds"))
        with self._lock:  # the gauge counts while a cell runs
            if self._client is None or self._client_for != wanted:
                # The new one first: when it cannot be made, the old state stays whole.
                client = KimiClient(
                    wanted[0], wanted[1], catalog=self.catalog, timeout_seconds=wanted[2], open_gate=self._open_gate
                )
                self._close_client()
                self._client, self._client_for = client, wanted
            return self._client

    @property
    def rate_gate(self) -> RateGate:
        """The row of the account's requests. Raises MissingKeyError and ConfigError."""
        return self._open_gate(self.client.account)

    def _open_gate(self, account: str) -> RateGate:
        return RateGate(lambda: self.spending.ledger, account, count=self._count_for_rate, limits=self.limits)

    def _count_for_rate(self, prompt: Prompt) -> int:
        """Return what the host's gateway counts for a request: the prompt, and the longest answer."""
        return self.expect_tokens(prompt) + (prompt.output_limit or 0)

    def limits(self) -> RateLimits | None:
        """Return what the user states of the account's limits; None where none is to hold."""
        stated: str = self.config.get("rate")
        return None if stated == "off" else NO_LIMITS if stated == "auto" else read_limits(stated)

    def close(self) -> None:
        """Close the connections and keep what was learnt."""
        self.counting.save()
        self.spending.close()
        self.replays.close()
        with self._lock:
            self._close_client()

    def take_notices(self) -> list[str]:
        """Return what is to be told, once."""
        told = self._notices[:]
        del self._notices[: len(told)]
        return told

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    @property
    def currency(self) -> str:
        """The currency of the account: as set, else the host's."""
        chosen: str = self.config.get("currency")
        if chosen != "auto":
            return chosen
        return "CNY" if check_base_url(base_url()).host == "api.moonshot.cn" else "USD"

    # ------------------------------------------------------------ models and prices

    def find_model(self, name: str) -> Model:
        """Return what is known of a model: from our catalogue, completed by what the host said."""
        ours, hosted = self.catalog.get(name), self._hosted.get(name)
        if hosted is None:
            return ours
        if not ours.is_known:
            return hosted
        # The host is the authority on what is live and on its limits.
        return replace(
            ours,
            retired=None,
            replacement=None,
            context_tokens=hosted.context_tokens or ours.context_tokens,
            supports_images=ours.supports_images if hosted.supports_images is None else hosted.supports_images,
            supports_video=ours.supports_video if hosted.supports_video is None else hosted.supports_video,
        )

    def fetch_models(self) -> list[Model]:
        """Return the models that the host serves now. Raises CallError."""
        self._hosted = {model.name: model for model in self.client.models()}
        return [self.find_model(name) for name in self._hosted]

    def price_of(self, model: Model) -> Price | None:
        """Return the model's price, or None when it is not known."""
        return find_price(model, currency=self.currency, own=self.config.own_prices())

    # ------------------------------------------------------------ answers that are kept

    def find_kept(self, prompt: Prompt, recall: Recall) -> Replayed | None:
        """Return what the answer cost that a run of `prompt` would replay; None when it would be sent."""
        return self.replays.find_facts(replay_key(prompt, site=_site())) if recall.replays else None

    def _find_cache_bytes(self) -> int:
        return 1_000_000 * int(self.config.get("cache_mb"))

    # ------------------------------------------------------------ the call

    def defaults(self) -> Defaults:
        """Return what the settings put in where a flag is not given. Raises ConfigError."""
        names = ("model", "system", "max_tokens", "thinking", "effort")
        return Defaults(**{name: self.config.get(name) for name in names})

    def build(
        self,
        ask: Ask,
        *,
        variables: Mapping[str, Any],
        media: Media = NO_MEDIA,
        additions: Additions = NO_ADDITIONS,
    ) -> Prompt:
        """Return the request for `ask`. Raises VariableError, PromptError, ConfigError."""
        identity = self.config.get("safety_identifier")
        if identity:
            # Only a hash leaves the machine: reference/chat_completions_page.txt, "safety_identifier".
            additions = replace(additions, safety_identifier=hashlib.sha256(identity.encode()).hexdigest())
        return build_prompt(
            ask,
            defaults=self.defaults(),
            find_model=self.find_model,
            variables=variables,
            media=media,
            additions=additions,
            write=write_value,
        )

    def count(self, prompt: Prompt) -> int:
        """Return the prompt's tokens, counted by the API now or before. Raises CallError and MissingKeyError."""
        client = self.client
        found = self.uploads.find(prompt, client)
        return self.counting.ask(found, client, skip=self._uncounted(found))

    def _uncounted(self, prompt: Prompt) -> list[Video]:
        """Return the videos that nobody has counted, and that are too large for it before a run uploads them."""
        recall = self.counting.recall_medium
        return [video for video in self.uploads.missing(prompt) if recall(video, prompt.model) is None]

    def preview(self, prompt: Prompt) -> dict[str, Any]:
        """Return the body that a run would send, for a reader; nothing is asked and nothing uploaded."""
        return preview_body(self.uploads.foresee(prompt))

    def expect_tokens(self, prompt: Prompt) -> int:
        """Return what the prompt is taken to have, as known now: nothing is asked, and no price list is loaded."""
        known = self.counting.recall(prompt)
        return self.counting.count_here(prompt) if known is None else known + self.counting.count_extras_here(prompt)

    def estimate(self, prompt: Prompt, *, may_ask: bool = True, with_price: bool = True) -> Estimate:
        """Return the tokens and cost of `prompt`: counted by the API, or here when it cannot or may not be asked.

        The first price of a kernel takes a second to be found; without one nobody waits for it.
        """
        note, is_counted, added = "", True, 0
        try:
            tokens = self.count(prompt) if may_ask else self.counting.recall(prompt, skip=self._uncounted(prompt))
        except (CallError, MissingKeyError) as error:
            tokens, note = None, error.message
        if tokens is None:
            tokens, is_counted = self.counting.count_here(prompt), False
        elif added := self.counting.count_extras_here(prompt):
            tokens += added
        if uncounted := self._uncounted(prompt):
            names, is_counted = ", ".join(video.label for video in uncounted), False
            note = note or f"{names} is counted once it has been uploaded, which a run does"
        if added:
            note = (
                note or f"≈ {added:,} tokens of {_name_extras(prompt)} are counted here, as the API does not count them"
            )
        price = self.price_of(prompt.model) if with_price else None
        if price and price.web_search and any(tool.kind == "builtin_function" for tool in prompt.tools):
            fee = f"each search of the web costs {format_money(price.web_search, price.currency)} on top"
            note = f"{note}; {fee}" if note else fee
        return Estimate(prompt.model, tokens, is_counted, prompt.output_limit, price, note, added)

    def expect_answer(self, prompt: Prompt, *, cell: str | None) -> Outlook | None:
        """Return how long the answer will probably be, by the earlier runs of this session; None when unknown."""
        name = prompt.model.name
        runs_of_cell, runs_of_model = self.history.runs_of_cell(cell), self.history.runs_of_model(name)
        return expect_answer(runs_of_cell, runs_of_model, model=name, max_tokens=prompt.max_tokens)

    def open_reply(self, prompt: Prompt) -> Reply:
        """Return the empty reply into which a call is folded."""
        own, currency = self.config.own_prices(), self.currency
        return Reply(
            prompt.model.name,
            find_price=lambda: find_price(prompt.model, currency=currency, own=own),
            currency=currency,
            prompt_hash=prompt_hash(prompt),
        )

    def call(
        self,
        prompt: Prompt,
        *,
        reply: Reply,
        view: View,
        cell: str | None = None,
        follow: Follow | None = None,
        allow: Allowance = ASK,
        recall: Recall = NO_RECALL,
    ) -> None:
        """Send `prompt` and show the answer as it comes; `follow` says what comes after it.

        With `recall` an answer that is kept is replayed in place of a request. Raises RefusedError before anything is
        sent, CallError (with the reply on it) afterwards.
        """
        replayer = Replayer(self.replays, recall, site=_site())
        call = Calling(
            reply,
            replayer,
            book=lambda asked: self._book(asked, cell=cell, allow=allow),
            extend=lambda asked, booking: self._extend(asked, booking, cell=cell, under_way=reply),
            connect=lambda asked, booking: self._connect(asked, reply, view, cell, booking),
        )
        error: BaseException | None = None
        try:
            run(
                call.admit(prompt),
                reply=reply,
                transport=call,
                view=view,
                clock=time.monotonic,
                weights=self.counting.weights(prompt.model),
                follow=follow and call.guard(follow, max_tokens=prompt.max_tokens),
            )
            replayer.keep(reply)
        except BaseException as failure:
            error = failure
            raise
        finally:
            call.settle(error)
            self.history.add(reply, model=prompt.model.name, cell=cell)
            self._learn(prompt, reply)

    def _learn(self, prompt: Prompt, reply: Reply) -> None:
        """Have the next estimate know what was billed for this prompt; that of several requests says nothing of it."""
        if reply.steps != 1 or not reply.has_usage or reply.usage.estimated:
            return
        counted, billed = self.counting.recall(prompt), reply.usage.prompt_tokens
        has_extras = bool(prompt.tools) or prompt.format is not None
        if counted is None and not has_extras:
            self.counting.learn(prompt, billed)
        elif counted is not None and has_extras:
            # The endpoint counts messages only: the rest is what it leaves out.
            self.counting.learn_extras(prompt, billed - counted)

    def _extend(self, prompt: Prompt, booking: Booking, *, cell: str | None, under_way: Reply) -> None:
        """Put aside what a further request of a call may take. Raises RefusedError."""
        self._check_context(prompt)
        booking.extend(prompt, self._weigh_surely(prompt, cell=cell, under_way=under_way))

    def _connect(self, prompt: Prompt, reply: Reply, view: View, cell: str | None, booking: Booking) -> Transport:
        """Return what sends the requests of a call.

        It uploads before it sends, where that may be needed; a budget is asked again about what could not be counted
        before.
        """
        # What a tool returns may be an image.
        if not has_media(prompt) and not prompt.tools:
            return self.client
        has_uncounted = bool(self._uncounted(prompt))

        def check(sent: Prompt) -> Prompt:
            if not has_uncounted or not self.spending.budgets():
                return sent
            limited = booking.extend(sent, self.weigh(sent, self.estimate(sent), cell=cell))
            note_limit(reply, booking)
            return limited

        return Sender(self.client, self.uploads, tell=lambda event: view.show(reply, event), check=check)

    def _check_context(self, prompt: Prompt) -> None:
        """Raise ContextError when the request cannot fit; near the limit the API's own count decides."""
        context = prompt.model.context_tokens
        if context is None:
            return
        local, reserved = self.counting.count_here(prompt), prompt.max_tokens or 0
        if local * (1 + _LOCAL_DOUBT) + reserved <= context:
            return
        if local * (1 - _LOCAL_DOUBT) + reserved > context:
            check_context(prompt, local, is_counted=False)
        try:
            counted = self.count(prompt)
        except CallError:
            return  # the host will decide
        check_context(prompt, counted, is_counted=True)

    # ------------------------------------------------------------ what may be spent

    def weigh(
        self,
        prompt: Prompt,
        estimate: Estimate,
        *,
        cell: str | None,
        margin: float = 0.0,
        under_way: Reply | None = None,
    ) -> Demand:
        """Return what a call may take by an estimate; `margin` is put on what is not counted by the API.

        What the reply `under_way` took is part of it.
        """
        outlook, limit = self.expect_answer(prompt, cell=cell), prompt.output_limit
        uncertain = estimate.added_tokens if estimate.is_counted else estimate.prompt_tokens
        likely = outlook.low if outlook is not None and outlook.low is not None else USEFUL_TOKENS
        taken = under_way.usage if under_way is not None else Usage()
        return Demand(
            model=prompt.model.name,
            prompt_tokens=estimate.prompt_tokens + int(margin * uncertain),
            answer_tokens=limit,
            useful_tokens=max(1, likely if limit is None else min(likely, limit)),
            expected_tokens=outlook.high if outlook is not None else None,
            price=estimate.price,
            currency=self.currency,
            taken=taken,
            taken_cost=under_way.cost if under_way is not None and under_way.has_usage else Decimal(0),
        )

    def _weigh_surely(self, prompt: Prompt, *, cell: str | None, under_way: Reply | None = None) -> Demand:
        """Return what a call may take at most: by what is known here; near a limit the API counts it."""
        may_wait = is_loaded() or self.spending.needs_price()
        estimate = self.estimate(prompt, may_ask=False, with_price=may_wait)
        demand = self.weigh(prompt, estimate, cell=cell, margin=_LOCAL_DOUBT, under_way=under_way)
        if (
            estimate.is_counted
            or not self.spending.budgets()
            or self.spending.judge(demand).verdict in ("fits", "unknown")
        ):
            return demand
        return self.weigh(prompt, self.estimate(prompt), cell=cell, margin=_LOCAL_DOUBT, under_way=under_way)

    def _book(self, prompt: Prompt, *, cell: str | None, allow: Allowance) -> Booking:
        """Put aside what a call may take. Raises RefusedError."""
        self.client  # noqa: B018 — without a key nothing is put aside
        self._check_context(prompt)
        demand = self._weigh_surely(prompt, cell=cell)
        if allow.useful_tokens is not None:
            demand = replace(demand, useful_tokens=allow.useful_tokens)
        allow.confirm(demand, self.config.get("confirm"))
        booking = self.spending.begin(
            prompt,
            demand,
            host=_site(),
            cell=cell,
            expected_tokens=self.expect_tokens(prompt),
            is_over_allowed=allow.is_over_allowed,
            find_cheaper=self._find_cheaper,
        )
        if demand.price is None:
            prefetch(lambda: booking.price(self.weigh(prompt, self.estimate(prompt, may_ask=False), cell=cell)))
        return booking

    def _find_cheaper(self, demand: Demand) -> tuple[str, Decimal] | None:
        """Return the cheapest live model that costs less than the one of a call that was refused, and what it takes."""
        costs = []
        for model in self.catalog.live():
            price = self.price_of(model)
            if price is not None and price.currency == demand.currency and model.name != demand.model:
                costs.append((price.cost_of(Usage(demand.prompt_tokens, demand.useful_tokens)), model.name))
        if not costs or demand.price is None:
            return None
        cost, name = min(costs)
        return (name, cost) if cost < demand.price.cost_of(Usage(demand.prompt_tokens, demand.useful_tokens)) else None
