"""What one kernel keeps between cells: settings, the client with its connections, the last reply."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kimi_magics.client.access import Key, check_base_url
from kimi_magics.client.http import KimiClient
from kimi_magics.core.ask import Ask
from kimi_magics.core.estimate import Estimate, check_context, count_prompt
from kimi_magics.core.media import Image
from kimi_magics.core.models import Model
from kimi_magics.core.ports import View
from kimi_magics.core.prompt import Defaults, Prompt, build_prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.run import run
from kimi_magics.core.usage import Price
from kimi_magics.core.wire import prompt_hash
from kimi_magics.errors import CallError, MissingKeyError
from kimi_magics.store.catalog import load_catalog
from kimi_magics.store.config import Config
from kimi_magics.store.prices import find_price, prefetch

DEFAULT_BASE_URL = "https://api.moonshot.ai/v1"
#: The local count may be wrong by this part; only nearer to the limit is the API's own count worth a request.
_LOCAL_DOUBT = 0.25


def base_url() -> str:
    """Return the address of the API from the environment, else the international one."""
    return os.environ.get("MOONSHOT_BASE_URL", "").strip() or DEFAULT_BASE_URL


class Session:
    """One kernel's link to the API; made at the first use of a magic."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.catalog = load_catalog()
        #: What the host itself said of its models, by name.
        self._hosted: dict[str, Model] = {}
        self._client: KimiClient | None = None
        self._client_for: tuple[str, str, float] | None = None

    # ------------------------------------------------------------ host

    @property
    def client(self) -> KimiClient:
        """The client for the key and host that the environment names now; connections are kept while they stay.

        Raises MissingKeyError and ConfigError.
        """
        wanted = (base_url(), Key(os.environ.get("MOONSHOT_API_KEY", "")), self.config.get("timeout_seconds"))
        if self._client is None or self._client_for != wanted:
            # The new one first: when it cannot be made, the old state stays whole.
            client = KimiClient(wanted[0], wanted[1], catalog=self.catalog, timeout_seconds=wanted[2])
            self.close()
            self._client, self._client_for = client, wanted
        return self._client

    def close(self) -> None:
        """Close the connections."""
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

    # ------------------------------------------------------------ the call

    def build(self, ask: Ask, *, variables: Mapping[str, Any], images: Iterable[Image] = ()) -> Prompt:
        """Return the request for `ask`. Raises VariableError, PromptError, ConfigError."""
        names = ("model", "system", "max_tokens", "thinking", "effort")
        defaults = Defaults(**{name: self.config.get(name) for name in names})
        return build_prompt(ask, defaults=defaults, find_model=self.find_model, variables=variables, images=images)

    def estimate(self, prompt: Prompt) -> Estimate:
        """Return the tokens and cost of `prompt`: counted by the API, or here when it cannot be asked."""
        note, is_counted = "", True
        try:
            tokens = self.client.count(prompt)
        except (CallError, MissingKeyError) as error:
            tokens, is_counted, note = count_prompt(prompt), False, error.message
        return Estimate(prompt.model, tokens, is_counted, prompt.output_limit, self.price_of(prompt.model), note)

    def open_reply(self, prompt: Prompt) -> Reply:
        """Return the empty reply into which a call is folded."""
        own, currency = self.config.own_prices(), self.currency
        return Reply(
            prompt.model.name,
            find_price=lambda: find_price(prompt.model, currency=currency, own=own),
            currency=currency,
            prompt_hash=prompt_hash(prompt),
        )

    def call(self, prompt: Prompt, *, reply: Reply, view: View) -> None:
        """Send `prompt` and show the answer as it comes.

        Raises RefusedError before anything is sent, CallError (with the reply on it) afterwards.
        """
        client = self.client
        self._check_context(prompt)
        prefetch()
        run(prompt, reply=reply, transport=client, view=view, clock=time.monotonic)

    def _check_context(self, prompt: Prompt) -> None:
        """Raise ContextError when the request cannot fit; near the limit the API's own count decides."""
        context = prompt.model.context_tokens
        if context is None:
            return
        local, reserved = count_prompt(prompt), prompt.max_tokens or 0
        if local * (1 + _LOCAL_DOUBT) + reserved <= context:
            return
        if local * (1 - _LOCAL_DOUBT) + reserved > context:
            check_context(prompt, local, is_counted=False)
        try:
            counted = self.client.count(prompt)
        except CallError:
            return  # the host will decide
        check_context(prompt, counted, is_counted=True)
