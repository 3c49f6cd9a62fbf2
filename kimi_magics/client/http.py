"""The one client of a kernel: requests out, events in, over connections that are kept alive.

The promise: a call that is closed ends at once, and what a user should know of a fault is told in our own errors.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

import httpx

from kimi_magics.client.access import Bearer, Key, account_mark, check_base_url, check_key, is_loopback
from kimi_magics.client.faults import translate_fault
from kimi_magics.client.files import Files
from kimi_magics.client.hosts import Situation
from kimi_magics.client.retry import RetryPolicy
from kimi_magics.client.sse import SseDecoder
from kimi_magics.client.translate import translate_response, translate_wire
from kimi_magics.core.events import Event, Sending, Started, TextDelta, ThinkingDelta, Waiting
from kimi_magics.core.models import Catalog, Model
from kimi_magics.core.ports import Gate, Turn
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.wire import (
    DONE,
    USAGE_WISH,
    WireError,
    encode,
    estimate_body,
    measure_media,
    read_balance,
    read_chunk,
    read_completion,
    read_count,
    read_models,
    request_body,
)
from kimi_magics.errors import CallError, ConfigError, DailyLimitError, MissingKeyError

_Result = TypeVar("_Result")

# Request bodies are limited to 100 MB (kimi_api.md section 3).
MAX_BODY_BYTES = 100_000_000
_CONNECT_SECONDS = 10.0
#: Questions beside the call itself: the user waits for a figure, and there is a way without it.
_LOOK_UP = RetryPolicy(tries=2, patience_seconds=3.0)
#: What a host that speaks the API may do without, by its path; completes "HOST does not …".
_SERVICES = {
    "tokenizers/estimate-token-count": "count tokens, so they are counted here",
    "models": "list its models",
    "users/me/balance": "tell a balance",
    "files": "keep files",
}


class KimiClient:
    """Speaks to one host with one key.

    Safe to use from several threads. `open_gate` is given the mark of the account; without it every request goes at
    once. `transport`, `sleep` and `jitter` are for tests. Raises ConfigError for an address that cannot be used and
    MissingKeyError for a key that cannot.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        catalog: Catalog,
        timeout_seconds: float = 600.0,
        open_gate: Callable[[str], Gate] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        url = check_base_url(base_url)
        self.host = url.host
        #: The host, and its port where it is not the usual one.
        self.site = url.netloc.decode("ascii")
        key = _check_key(key, url.host)
        #: What stands for the account in files.
        self.account = account_mark(self.site, key)
        self._gate = open_gate(self.account) if open_gate else None
        self._situation = Situation(host=url.host, catalog=catalog, key=key)
        self._retry = RetryPolicy()
        self._sleep, self._jitter = sleep, jitter
        self._may_ask_usage = True
        try:
            self._http = httpx.Client(
                base_url=url,
                auth=Bearer(key),
                timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
                transport=transport,
                # A proxy from the environment must not see what goes to this machine over plain http, the key included.
                trust_env=not is_loopback(url.host),
                headers={"User-Agent": "kimi-magics"},
            )
        except (ValueError, httpx.InvalidURL, ImportError, OSError) as error:
            # A proxy of an unknown kind, one that needs `socksio`, a certificate file that is not there. Not the
            # error's own text where it may repeat the address: a proxy's address often holds a password.
            detail = f": {error}" if isinstance(error, ImportError) else ""
            raise ConfigError(
                f"the proxy or certificate settings of the environment cannot be used{detail}",
                remedy="check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None

        self.files = Files(self._http, self._situation, ask=self._ask, sleep=sleep, jitter=jitter)

    def __repr__(self) -> str:
        return f"KimiClient(host={self.host!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ------------------------------------------------------------ the call

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Yield the events of one call, trying again where that is allowed; closing the generator ends the call.

        Raises CallError.
        """
        situation = self._about(prompt)
        self.check_size(prompt)
        body = self._encode(prompt)
        if len(body) > MAX_BODY_BYTES:
            raise translate_response(413, {}, b"", situation)
        turn = self._gate.enter(prompt) if self._gate else None
        try:
            yield from self._try_again_and_again(prompt, body, situation, turn)
        finally:
            if turn:
                turn.leave()

    def _try_again_and_again(
        self, prompt: Prompt, body: bytes, situation: Situation, turn: Turn | None
    ) -> Generator[Event, None, None]:
        for attempt in range(1, self._retry.tries + 1):
            progress = _Progress()
            try:
                if (yield from self._wait_for(turn)) or attempt > 1:
                    yield Sending()
                try:
                    yield from self._attempt(prompt, body, situation, progress, turn)
                except _UsageRefusedError:
                    self._may_ask_usage = False
                    body = self._encode(prompt)
                    yield from self._attempt(prompt, body, situation, progress, turn)
                return
            except CallError as error:
                wait = self._retry.wait_before_next(error, attempt, has_begun=progress.has_begun, jitter=self._jitter())
                if turn:
                    turn.end(error, again_after=wait)
                if wait is None:
                    if attempt > 1:
                        error.message += f", after {attempt} tries"
                    raise
                reason = error.message
            yield from self._count_down(wait, attempt, reason)

    def _wait_for(self, turn: Turn | None) -> Generator[Event, None, bool]:
        """Wait until it is the turn of a request; return whether it had to wait. Raises DailyLimitError."""
        has_waited = False
        for hold in turn.wait() if turn else ():
            has_waited = True
            if hold.is_for_today:
                raise DailyLimitError(
                    f"the daily token limit of the account is reached: {hold.reason}",
                    remedy="go on tomorrow; a lower --max-tokens counts less against it;"
                    " %kimi_config rate=off sends it all the same",
                )
            yield Waiting(hold.seconds or 0.0, 0, hold.reason, is_for_turn=True)
            self._sleep(hold.look_again)
        return has_waited

    def check_size(self, prompt: Prompt) -> None:
        """Raise RequestTooLargeError when the media alone are more than a request may have; costs next to nothing."""
        if measure_media(prompt) > MAX_BODY_BYTES:
            raise translate_response(413, {}, b"", self._about(prompt))

    def _encode(self, prompt: Prompt) -> bytes:
        fields = request_body(prompt)
        if not self._may_ask_usage:
            fields.pop(USAGE_WISH, None)
        return encode(fields)

    def _count_down(self, wait: float, attempt: int, reason: str) -> Generator[Event, None, None]:
        while wait > 0:
            yield Waiting(wait, attempt, reason)
            self._sleep(min(1.0, wait))
            wait -= 1.0

    def _attempt(
        self, prompt: Prompt, body: bytes, situation: Situation, progress: _Progress, turn: Turn | None
    ) -> Generator[Event, None, None]:
        try:
            with self._http.stream(
                "POST",
                "chat/completions",
                content=body,
                # A packed stream may be held back until a block is full.
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            ) as response:
                if turn:
                    turn.answered()
                if response.status_code != 200:
                    said = response.read()
                    if response.status_code in (400, 422) and self._may_ask_usage and USAGE_WISH.encode() in said:
                        raise _UsageRefusedError
                    raise translate_response(response.status_code, response.headers, said, situation)
                yield from _read_events(response, progress, is_streamed=prompt.is_streamed)
        except WireError as error:
            raise translate_wire(error, situation, has_begun=progress.has_begun) from None
        except httpx.HTTPError as fault:
            raise translate_fault(fault, situation, has_begun=progress.has_begun) from None

    # ------------------------------------------------------------ questions beside it

    def count(self, prompt: Prompt) -> int:
        """Return the prompt's tokens, counted by the API. Raises CallError."""
        return self._ask("POST", "tokenizers/estimate-token-count", read_count, prompt)

    def models(self) -> list[Model]:
        """Return the models that the host serves. Raises CallError."""
        return self._ask("GET", "models", read_models)

    def balance(self) -> Decimal:
        """Return what is left on the account, in the host's currency. Raises CallError."""
        return self._ask("GET", "users/me/balance", read_balance)

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], _Result],
        prompt: Prompt | None = None,
        *,
        file_id: str = "",
    ) -> _Result:
        situation = replace(self._about(prompt, file_id), service=_SERVICES.get(path, ""))
        if prompt:
            self.check_size(prompt)
        content = encode(estimate_body(prompt)) if prompt else None
        if content and len(content) > MAX_BODY_BYTES:
            raise translate_response(413, {}, b"", situation)
        headers = {"Content-Type": "application/json"} if content else {}
        for attempt in range(1, _LOOK_UP.tries + 1):
            try:
                response = self._http.request(method, path, content=content, headers=headers)
                if not response.is_success:
                    raise translate_response(response.status_code, response.headers, response.content, situation)
                return read(response.content)
            except WireError as fault:
                raise translate_wire(fault, situation, has_begun=False) from None
            except httpx.HTTPError as fault:
                error: CallError = translate_fault(fault, situation, has_begun=False)
            except CallError as failure:
                error = failure
            wait = _LOOK_UP.wait_before_next(error, attempt, has_begun=False, jitter=self._jitter())
            if wait is None:
                raise error from None
            self._sleep(wait)
        raise AssertionError("the last try either returns or raises")

    def _about(self, prompt: Prompt | None, file_id: str = "") -> Situation:
        return replace(self._situation, prompt=prompt, file_id=file_id)


class _UsageRefusedError(Exception):
    """The host does not take the wish for usage: send the request without it."""


def _check_key(key: str, host: str) -> Key:
    """Return the key as `check_key` does; for a server on this machine, which may need none, say what to do."""
    try:
        return check_key(key)
    except MissingKeyError as error:
        if is_loopback(host) and not key.strip():
            error.remedy += "; a server on this machine that asks for no key takes any word for it"
        raise


@dataclass(slots=True)
class _Progress:
    """How far an attempt has come: after the first delta nothing is sent again."""

    has_begun: bool = False

    def watch(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on and note the first delta."""
        for event in events:
            self.has_begun = self.has_begun or isinstance(event, TextDelta | ThinkingDelta)
            yield event


def _read_events(response: httpx.Response, progress: _Progress, *, is_streamed: bool) -> Iterator[Event]:
    request_id = response.headers.get("x-request-id") or response.headers.get("msh-request-id")
    content_type = response.headers.get("content-type", "")
    if is_streamed and "json" not in content_type and "html" not in content_type:
        yield from _read_stream(response, progress, request_id)
    else:
        # Asked for at once; or a gateway that does not stream, or that is not the API at all.
        yield from progress.watch(_name(read_completion(response.read()), request_id))


def _name(events: Iterable[Event], request_id: str | None) -> Iterator[Event]:
    """Put the request id of the header in the place of the body's own."""
    for event in events:
        yield Started(request_id, event.model) if request_id and isinstance(event, Started) else event


def _read_stream(response: httpx.Response, progress: _Progress, request_id: str | None) -> Iterator[Event]:
    """Yield the events of a stream. Raises WireError when it ends without the mark that proves its end.

    A long answer has tens of thousands of chunks: after the first delta, each takes the shortest way.
    """
    decode = SseDecoder()
    is_first = True
    # Asked for unpacked; a gateway that packs all the same is unpacked by httpx.
    pieces = response.iter_bytes() if "content-encoding" in response.headers else response.iter_raw()
    for piece in pieces:
        for data in decode.decode(piece):
            if data == DONE:
                yield from read_chunk(data)
                return
            if not data:
                continue  # a heartbeat of some gateways
            if progress.has_begun:
                yield from read_chunk(data)
            else:
                yield from progress.watch(_name(read_chunk(data, is_first=is_first), request_id))
                is_first = False
    if DONE in decode.flush():
        yield from read_chunk(DONE)
        return
    raise WireError("the stream ended before its end was announced: the answer may be cut")
