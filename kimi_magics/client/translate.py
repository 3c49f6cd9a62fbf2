"""From what httpx and the API say to errors of ours: one table for faults of the line, one for answers of the host.

Source of the table of answers: kimi_api.md section 5 (checked 2026-11-22).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from kimi_magics.client.retry import stated_wait
from kimi_magics.core.media import Image, Video, format_bytes
from kimi_magics.core.models import Catalog
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.wire import WireError, read_error
from kimi_magics.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ConnectionFailedError,
    ConnectTimeoutError,
    ContentFilterError,
    ContextExceededError,
    DailyLimitError,
    GatewayTimeoutError,
    ModelNotFoundError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProxyFailedError,
    QuotaError,
    RateLimitError,
    ReadTimeoutError,
    ReplyBrokenError,
    RequestTooLargeError,
    ServerFaultError,
    TlsError,
    TooManyRequestsError,
    redact,
)

#: The two hosts have separate accounts: a key of one gives 401 on the other.
_OTHER_HOST = {"api.moonshot.ai": "api.moonshot.cn", "api.moonshot.cn": "api.moonshot.ai"}
_NO_ANSWER = "the answer so far is kept in _kimi; run the cell again for the whole"


# "Your account org-…/proj-…<ak-…> request reached …" reads better without.
_REDACTED_IDS = re.compile(r" ?(?:[<(/]?(?:org|proj|ak)-\[redacted\][>)]?)+")


@dataclass(frozen=True, slots=True)
class Situation:
    """What a good message needs to know: where the request went, for which model, with which key (to redact it)."""

    host: str
    catalog: Catalog
    key: str = field(default="", repr=False)
    prompt: Prompt | None = None
    #: The file that is asked about, and the medium that is being uploaded.
    file_id: str = ""
    medium: Image | Video | None = None

    def clean(self, text: str, *, limit: int = 300) -> str:
        """Return a text of the host as one line without secrets, and without the marks where ids stood."""
        line = _REDACTED_IDS.sub("", " ".join(redact(text, self.key).split()))
        return line if len(line) <= limit else line[: limit - 1] + "…"


# ---------------------------------------------------------------- faults of the line

#: Each class of httpx that a request can raise, and what it means for the user.
FAULTS: dict[type[Exception], tuple[type[CallError], str, str]] = {
    httpx.ConnectTimeout: (
        ConnectTimeoutError,
        "{host} did not answer in time",
        "check the network or the proxy; run the cell again",
    ),
    httpx.PoolTimeout: (ConnectTimeoutError, "too many calls are under way", "wait for one to end; run the cell again"),
    httpx.ReadTimeout: (
        ReadTimeoutError,
        "{host} sent nothing for too long; the request may have been billed, so it was not sent again",
        "raise %kimi_config timeout_seconds=…, or ask for less",
    ),
    httpx.WriteTimeout: (
        ReadTimeoutError,
        "the request could not be sent in time",
        "check the network; send smaller images",
    ),
    httpx.ConnectError: (
        ConnectionFailedError,
        "no connection to {host}",
        "check the network, a proxy (HTTPS_PROXY) and MOONSHOT_BASE_URL",
    ),
    httpx.ReadError: (ConnectionFailedError, "the connection to {host} was lost", "run the cell again"),
    httpx.WriteError: (ConnectionFailedError, "the connection to {host} was lost while sending", "run the cell again"),
    httpx.CloseError: (ConnectionFailedError, "the connection to {host} was not closed cleanly", "run the cell again"),
    httpx.ProxyError: (
        ProxyFailedError,
        "the proxy refused the way to {host}",
        "check HTTPS_PROXY, ALL_PROXY and NO_PROXY",
    ),
    httpx.UnsupportedProtocol: (
        ConnectionFailedError,
        "{host} cannot be reached with this kind of address",
        "MOONSHOT_BASE_URL and the proxy variables start with http:// or https://",
    ),
    httpx.LocalProtocolError: (
        ConnectionFailedError,
        "the request to {host} could not be written",
        "check MOONSHOT_API_KEY for stray characters",
    ),
    httpx.RemoteProtocolError: (ConnectionFailedError, "{host} broke the connection off", "run the cell again"),
    httpx.DecodingError: (
        ReplyBrokenError,
        "the reply of {host} cannot be unpacked",
        "run the cell again; a proxy may have damaged it",
    ),
    httpx.TooManyRedirects: (ConnectionFailedError, "{host} sends from address to address", "check MOONSHOT_BASE_URL"),
}


def translate_fault(fault: Exception, situation: Situation, *, has_begun: bool) -> CallError:
    """Return our error for an exception of httpx; `has_begun` tells whether a delta had arrived."""
    if has_begun and isinstance(fault, httpx.NetworkError | httpx.ProtocolError):
        return ReplyBrokenError(
            f"the connection to {situation.host} broke off in the midst of the answer", remedy=_NO_ANSWER
        )
    if _is_tls(fault):
        return TlsError(
            f"the certificate of {situation.host} was not accepted: {situation.clean(str(fault), limit=120)}",
            remedy="behind a company proxy, set SSL_CERT_FILE to the company's certificates",
        )
    # A transport of somebody else may raise one of the abstract classes.
    kind = next((cls for cls in type(fault).__mro__ if cls in FAULTS), httpx.ReadError)
    error, message, remedy = FAULTS[kind]
    detail = situation.clean(str(fault), limit=120) if kind in (httpx.ConnectError, httpx.ProxyError) else ""
    return error(message.format(host=situation.host) + (f" ({detail})" if detail else ""), remedy=remedy)


def _is_tls(fault: BaseException | None) -> bool:
    while fault is not None:
        if isinstance(fault, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(fault):
            return True
        fault = fault.__cause__ or fault.__context__
    return False


def translate_wire(error: WireError, situation: Situation, *, has_begun: bool) -> CallError:
    """Return our error for a reply that cannot be read, or for an error object inside a stream."""
    if error.kind:
        status = 429 if "limit" in error.kind or "quota" in error.kind or "overloaded" in error.kind else 500
        return _build(status, error.kind, error.message, {}, situation)
    remedy = _NO_ANSWER if has_begun else "check that MOONSHOT_BASE_URL is the address of the API (it ends in /v1)"
    return ReplyBrokenError(situation.clean(error.message), remedy=remedy)


# ---------------------------------------------------------------- answers of the host


def translate_response(status: int, headers: Mapping[str, str], body: bytes, situation: Situation) -> ApiError:
    """Return our error for an answer with an HTTP status other than 200."""
    found = read_error(body)
    message, kind = found if found else ("", "")
    return _build(status, kind, message, headers, situation)


def _build(status: int, kind: str, text: str, headers: Mapping[str, str], situation: Situation) -> ApiError:
    error, message, remedy = _explain(status, kind, text, situation)
    wait = stated_wait(text, headers)
    return error(
        message,
        remedy=remedy,
        status=status,
        kind=kind,
        wait_seconds=wait,
        request_id=headers.get("x-request-id") or headers.get("msh-request-id"),
    )


_Explained = tuple[type[ApiError], str, str]


def _explain(status: int, kind: str, text: str, situation: Situation) -> _Explained:
    said = situation.clean(text)
    quoted = f": {said}" if said else ""
    match status:
        case 400 | 422:
            return _explain_bad_request(kind, said, quoted, situation)
        case 401:
            return _explain_key(quoted, situation)
        case 403:
            return (
                PermissionDeniedError,
                f"{situation.host} does not allow this (403{quoted})",
                "check what the key's project may use",
            )
        case 404:
            return _explain_not_found(said, situation)
        case 413:
            return (
                RequestTooLargeError,
                f"the request is too large for {situation.host} (413{quoted})",
                _advise_on_size(situation),
            )
        case 429:
            return _explain_too_many(kind, said, quoted, situation)
        case 504:
            return (
                GatewayTimeoutError,
                f"{situation.host} gave up waiting for the answer (504)",
                "stream the answer (leave --no-stream out), or ask for a shorter one",
            )
        case _ if status >= 500:
            return ServerFaultError, f"{situation.host} failed ({status}{quoted})", "run the cell again a little later"
        case _ if 300 <= status < 400:
            return ApiError, f"{situation.host} sends elsewhere ({status})", "check MOONSHOT_BASE_URL: it ends in /v1"
    return ApiError, f"{situation.host} refused the request ({status}{quoted})", "check the request with --dry-run"


def _explain_bad_request(kind: str, said: str, quoted: str, situation: Situation) -> _Explained:
    if kind == "content_filter":
        return (
            ContentFilterError,
            f"{situation.host} refused the request as high risk (400{quoted})",
            "change the wording; the same text will be refused again",
        )
    if re.search(r"exceed\w* model token limit|context (length|window)", said, re.IGNORECASE):
        return (
            ContextExceededError,
            f"prompt and answer are longer than the model's context (400{quoted})",
            "shorten the prompt, lower --max-tokens, or choose a model with a larger context (%kimi_models)",
        )
    return (
        BadRequestError,
        f"{situation.host} does not accept the request (400{quoted})",
        "--dry-run shows what would be sent",
    )


def _explain_key(quoted: str, situation: Situation) -> _Explained:
    other = _OTHER_HOST.get(situation.host)
    remedy = "check MOONSHOT_API_KEY"
    if other:
        remedy += f"; if it is a key of {other}, which has its own accounts, set MOONSHOT_BASE_URL=https://{other}/v1"
    else:
        remedy += f"; it must be a key for {situation.host}: those of api.moonshot.ai and api.moonshot.cn differ, too"
    return AuthenticationError, f"{situation.host} refused the key in MOONSHOT_API_KEY (401{quoted})", remedy


def _explain_not_found(said: str, situation: Situation) -> _Explained:
    if situation.file_id and said:
        return (
            NotFoundError,
            f"{situation.host} has no file {situation.file_id}, or it is of another account (404)",
            "%kimi_files lists those that are there",
        )
    model = situation.prompt.model if situation.prompt else None
    if model is None or (said and "model" not in said.lower()):
        return (
            NotFoundError,
            f"{situation.host} has nothing at this address (404)",
            "check MOONSHOT_BASE_URL: it ends in /v1",
        )
    if not said:
        return (
            ModelNotFoundError,
            f"{situation.host} has nothing at this address (404), or no model {model.name}",
            "check MOONSHOT_BASE_URL (it ends in /v1); %kimi_models lists the models",
        )
    retirement = model.explain_retirement()
    if retirement:
        use = f"use -m {model.replacement} in its place; " if model.replacement else ""
        return ModelNotFoundError, f"{retirement} (404)", f"{use}%kimi_models lists what is live"
    close = situation.catalog.suggest(model.name)
    hint = f"did you mean {close}? " if close and close != model.name else ""
    return (
        ModelNotFoundError,
        f"{situation.host} has no model {model.name}, or this key may not use it (404)",
        f"{hint}%kimi_models lists the models",
    )


def _explain_too_many(kind: str, said: str, quoted: str, situation: Situation) -> _Explained:
    if kind == "exceeded_current_quota_error":
        return (
            QuotaError,
            f"the account has no balance left (429{quoted})",
            "recharge it in the console of the platform; waiting does not help",
        )
    if kind == "engine_overloaded_error":
        return (
            OverloadedError,
            f"{situation.host} is overloaded (429{quoted})",
            "run the cell again a little later, or choose another model",
        )
    if re.search(r"\bTPD\b|per day|daily", said):
        return (
            DailyLimitError,
            f"the daily token limit of the account is reached (429{quoted})",
            "go on tomorrow, or raise the tier of the account",
        )
    if kind == "rate_limit_reached_error":
        return (
            RateLimitError,
            f"the rate limit of the account is reached (429{quoted})",
            "wait a minute; a lower --max-tokens counts less against it",
        )
    return (
        TooManyRequestsError,
        f"{situation.host} asks to slow down (429{quoted})",
        "wait a minute and run the cell again",
    )


def _advise_on_size(situation: Situation) -> str:
    if situation.medium:
        return (
            f"the limit is 100 MB: make {situation.medium.label} smaller ({format_bytes(len(situation.medium.data))})"
        )
    messages = situation.prompt.messages if situation.prompt else ()
    inline = [medium for message in messages for medium in message.media if not medium.file_id]
    if not inline:
        return "the limit is 100 MB: shorten the prompt"
    largest = max(inline, key=lambda medium: len(medium.data))
    shrink = f"make {largest.label} smaller ({format_bytes(len(largest.data))})"
    if isinstance(largest, Image):
        shrink += ", as with --image-size low"
    return f"the limit is 100 MB: {shrink}; or send it by --upload, which counts next to nothing"
