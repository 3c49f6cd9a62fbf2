"""Everything that can go wrong, as one tree; each error says what happened and what to do.

::

    KimiError
    ├── RefusedError                 nothing was sent
    │   ├── MagicLineError           the line of the magic cannot be read
    │   ├── VariableError            a {{name}} or a named variable cannot be resolved
    │   ├── PromptError              the request would be refused by the API
    │   │   └── ContextError         … because it is longer than the model's context
    │   ├── ImageError               an image cannot be used
    │   ├── VideoError               a video cannot be used
    │   ├── FileError                a document cannot be used
    │   ├── ToolError                a tool cannot be offered
    │   ├── SchemaError              a schema cannot be used
    │   ├── ChatError                a conversation cannot be found, read, written or made to fit
    │   ├── ConfigError              a setting is wrong
    │   ├── BudgetError              the budget forbids it
    │   └── MissingKeyError          there is no API key
    ├── NotebookError                a notebook file cannot be read or written
    │   └── NotebookChangedError     … because another program wrote it meanwhile
    └── CallError                    something was sent; carries the partial reply and the request id
        ├── InterruptedReplyError    the user stopped it
        ├── ConnectionFailedError    no connection: name, port, network
        │   ├── TlsError             the certificate was not accepted
        │   ├── ProxyFailedError     the proxy refused
        │   └── ConnectTimeoutError  the host did not answer the connection in time
        ├── ReadTimeoutError         connected, then silence
        ├── ReplyBrokenError         the reply ended early or cannot be read
        ├── ReplyInvalidError        the answer is not the JSON that was asked for
        ├── TooManyStepsError        the model goes on calling tools
        └── ApiError                 the API answered with an error
            ├── BadRequestError          400
            │   ├── ContentFilterError       refused as high risk
            │   └── ContextExceededError     longer than the model's context
            ├── AuthenticationError      401
            ├── PermissionDeniedError    403
            ├── NotFoundError            404
            │   └── ModelNotFoundError       no such model, or retired
            ├── RequestTooLargeError     413
            ├── TooManyRequestsError     429
            │   ├── OverloadedError          the engine is busy
            │   ├── RateLimitError           requests, tokens or concurrency per minute
            │   ├── DailyLimitError          tokens per day
            │   └── QuotaError               no balance left
            └── ServerFaultError         5xx
                └── GatewayTimeoutError      504

In a notebook an error of this tree fails the cell in a few lines, without a traceback; our own bugs keep theirs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from kimi_magics.core.reply import Reply

# The 429 texts carry organisation, project and key ids (`org-…`, `proj-…`, `<ak-…>`); keys start with `sk-`.
# Source: public issue threads of several Kimi clients, up to 2026-11.
_SECRETS = re.compile(r"\b(sk|ak|org|proj)-[A-Za-z0-9_\-]{6,}|(?<=Bearer )[^\s'\",]+")
_KEY = re.compile(r"\bsk-[A-Za-z0-9_\-]{16,}")


def redact(text: str, *known_secrets: str) -> str:
    """Return `text` without API keys, organisation, project and key ids, nor any of `known_secrets`."""
    for secret in known_secrets:
        # A very short "secret" (as in tests) would blank out ordinary words.
        if len(secret) >= 6:
            text = text.replace(secret, "[redacted]")
    return _SECRETS.sub(lambda match: f"{match[1]}-[redacted]" if match[1] else "[redacted]", text)


def holds_key(text: str) -> bool:
    """Tell whether `text` contains what looks like an API key."""
    return _KEY.search(text) is not None


class KimiError(Exception):
    """The root: `message` says what happened, `remedy` what to do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = redact(message)
        self.remedy = redact(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}" if self.remedy else self.message

    def _render_traceback_(self) -> list[str]:
        """Show the error in a notebook without the frames of this package (IPython's protocol)."""
        return [f"{type(self).__name__}: {self}"]


class RefusedError(KimiError):
    """Nothing was sent."""


class MagicLineError(RefusedError):
    """The line of the magic cannot be read: an unknown flag, a missing value, an unbalanced quote."""


class VariableError(RefusedError):
    """A `{{name}}` or a variable named by a flag cannot be resolved."""


class PromptError(RefusedError):
    """The request would be refused by the API: an empty prompt, bad stop words, a field that the model lacks."""


class ContextError(PromptError):
    """The prompt, with the answer it reserves room for, is longer than the model's context."""


class ImageError(RefusedError):
    """An image cannot be used."""


class VideoError(RefusedError):
    """A video cannot be used."""


class FileError(RefusedError):
    """A document cannot be used."""


class ToolError(RefusedError):
    """A tool cannot be offered: not a function, or nothing the model could be told of it."""


class SchemaError(RefusedError):
    """A schema cannot be used."""


class ChatError(RefusedError):
    """A conversation cannot be found, read, written, or made to fit the model's context."""


class ConfigError(RefusedError):
    """A setting is unknown or has a value that cannot be used."""


class BudgetError(RefusedError):
    """The call does not fit the budget, or nobody can tell whether it does."""


class MissingKeyError(RefusedError):
    """There is no API key."""


class NotebookError(KimiError):
    """A notebook file cannot be read or written; it is as it was before."""


class NotebookChangedError(NotebookError):
    """Another program wrote the notebook file since it was read; it is as that left it."""


class CallError(KimiError):
    """Something was sent; `reply` holds what had arrived, `request_id` names the call for the host's support."""

    #: Whether the same request may succeed a little later.
    is_retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str = "", request_id: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.request_id = request_id
        self.reply: Reply | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n  request id: {self.request_id}" if self.request_id else text


class InterruptedReplyError(CallError):
    """The user stopped the call; there is nothing to ask the host's support about."""

    def __str__(self) -> str:
        return KimiError.__str__(self)


class ConnectionFailedError(CallError):
    """No connection could be made, or it was lost before the answer began."""

    is_retryable = True


class TlsError(ConnectionFailedError):
    """The host's certificate was not accepted."""

    is_retryable = False


class ProxyFailedError(ConnectionFailedError):
    """The proxy refused the connection."""

    is_retryable = False


class ConnectTimeoutError(ConnectionFailedError):
    """The host did not answer the connection in time."""


class ReadTimeoutError(CallError):
    """The connection stood, then nothing came: it may have been billed, so it is not sent again."""


class ReplyBrokenError(CallError):
    """The reply ended early, or cannot be read."""


class ReplyInvalidError(CallError):
    """The answer is not the JSON that was asked for; the reply keeps its text."""

    def __str__(self) -> str:
        return KimiError.__str__(self)


class TooManyStepsError(CallError):
    """The model goes on calling tools; what it said and what the tools answered stay on the reply."""

    def __str__(self) -> str:
        return KimiError.__str__(self)


class ApiError(CallError):
    """The API answered with an error: HTTP `status`, the API's `kind` (its `error.type`)."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        request_id: str | None = None,
        status: int = 0,
        kind: str = "",
        wait_seconds: float | None = None,
        limit: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, request_id=request_id)
        self.status = status
        self.kind = kind
        #: How long the host asks to wait before the next try, in seconds; None when it does not say.
        self.wait_seconds = wait_seconds
        #: The limit of the account that the host names, as ("rpm", 3); None when it does not.
        self.limit = limit


class BadRequestError(ApiError):
    """400: the API does not accept the request."""


class ContentFilterError(BadRequestError):
    """400 content_filter: refused as high risk."""


class ContextExceededError(BadRequestError):
    """400: prompt and answer together are longer than the model's context."""


class AuthenticationError(ApiError):
    """401: the key is missing, wrong, or belongs to the other host."""


class PermissionDeniedError(ApiError):
    """403: the key may not do this."""


class NotFoundError(ApiError):
    """404: there is nothing at this address."""


class ModelNotFoundError(NotFoundError):
    """404: the host does not know the model, or retired it."""


class RequestTooLargeError(ApiError):
    """413: the request body is over the limit."""


class TooManyRequestsError(ApiError):
    """429 of a kind that is not known."""

    is_retryable = True


class OverloadedError(TooManyRequestsError):
    """429 engine_overloaded_error: the engine is busy."""


class RateLimitError(TooManyRequestsError):
    """429 rate_limit_reached_error: requests, tokens or concurrency per minute."""


class DailyLimitError(TooManyRequestsError):
    """429 rate_limit_reached_error for the tokens of a day: waiting seconds does not help."""

    is_retryable = False


class QuotaError(TooManyRequestsError):
    """429 exceeded_current_quota_error: no balance left."""

    is_retryable = False


class ServerFaultError(ApiError):
    """5xx: the host failed."""

    is_retryable = True


class GatewayTimeoutError(ServerFaultError):
    """504: the gateway gave up waiting."""
