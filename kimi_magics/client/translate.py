"""From what httpx and the API say to errors of ours: one table for faults of the line, one for answers of the host.

Source of the table of answers: kimi_api.md section 5 (checked 2026-11-22). Other hosts that speak this API answer in
OpenAI's words or in their own; advice that is about Kimi's accounts and models is not given for them.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from kimi_magics.client.retry import stated_wait
from kimi_magics.core.media import DocumentFile, Image, Video, format_bytes
from kimi_magics.core.models import Catalog, Model
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

#: Kimi's two hosts have separate accounts: a key of one gives 401 on the other.
_OTHER_HOST = {"api.moonshot.ai": "api.moonshot.cn", "api.moonshot.cn": "api.moonshot.ai"}
_CHECK_ADDRESS = "check MOONSHOT_BASE_URL: it ends in /v1"
_NO_ANSWER = "the answer so far is kept in _kimi; run the cell again for the whole"


# How hosts say that they lack a model ("Invalid model name passed in model=x" of LiteLLM is a 400), or a field.
_NO_MODEL = re.compile(
    r"(?:invalid|unknown|no such) model\b|\bmodel\b.{0,80}\b(?:not found|not exist|doesn't exist)", re.IGNORECASE
)
_NO_FIELD = re.compile(
    r"support|recogni[sz]ed|(?:unknown|extra|invalid) (?:parameter|argument|field|input)", re.IGNORECASE
)
_NO_CONTEXT = re.compile(r"exceed\w* model token limit|context (?:length|window|size)", re.IGNORECASE)
#: Fields that not every host has: the attribute of the prompt that sends each, and what the user wrote for it.
_FIELDS = {
    "thinking": ("thinking", "--thinking"),
    "reasoning_effort": ("effort", "--effort"),
    "max_completion_tokens": ("max_tokens", "--max-tokens"),
    "stop": ("stop", "--stop"),
    "response_format": ("format", "--json or --schema"),
    "tools": ("tools", "--tool and --web"),
}
#: LiteLLM without a database knows its master key alone, and says this of any other (1.72 and 1.106, 2026-11-23).
_REFUSES_KEY = "no_db_connection"
_NO_BALANCE = ("exceeded_current_quota_error", "insufficient_quota")
#: Kimi's, LiteLLM's and the usual one.
_RATE_LIMIT = ("rate_limit_reached_error", "throttling_error", "rate_limit_error")

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
    medium: Image | Video | DocumentFile | None = None
    #: What was asked for that a host may do without: it completes "HOST does not …".
    service: str = ""

    @property
    def is_kimi(self) -> bool:
        """Whether the host is one of Kimi's own."""
        return self.host in _OTHER_HOST

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
        status = 429 if re.search("limit|quota|overloaded|throttling", error.kind) else 500
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
            return _explain_bad_request(status, kind, said, situation)
        case 401:
            return _explain_key(status, quoted, situation)
        case 402:
            return _explain_balance(status, quoted)
        case 403:
            return (
                PermissionDeniedError,
                f"{situation.host} does not allow this (403{quoted})",
                "check what the key's project may use",
            )
        case 404 | 405 | 501:
            return _explain_not_found(status, kind, said, situation)
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
            return ApiError, f"{situation.host} sends elsewhere ({status})", _CHECK_ADDRESS
    return ApiError, f"{situation.host} refused the request ({status}{quoted})", "check the request with --dry-run"


def _explain_bad_request(status: int, kind: str, said: str, situation: Situation) -> _Explained:
    quoted = f": {said}" if said else ""
    if kind == "content_filter":
        return (
            ContentFilterError,
            f"{situation.host} refused the request as high risk ({status}{quoted})",
            "change the wording; the same text will be refused again",
        )
    if kind == _REFUSES_KEY:
        return _explain_key(status, quoted, situation)
    if _NO_CONTEXT.search(said):
        return (
            ContextExceededError,
            f"prompt and answer are longer than the model's context ({status}{quoted})",
            "shorten the prompt, lower --max-tokens, or choose a model with a larger context (%kimi_models)",
        )
    if situation.prompt and _NO_MODEL.search(said):
        return _explain_no_model(status, kind, said, situation.prompt.model, situation)
    remedy = "--dry-run shows what would be sent"
    if refused := _find_refused(said, situation):
        remedy = f"leave {refused} out, as flag and as setting: this host or its model does not take it; {remedy}"
    return BadRequestError, f"{situation.host} does not accept the request ({status}{quoted})", remedy


def _find_refused(said: str, situation: Situation) -> str:
    """Return the flags for the fields that were sent and that the host says it does not know; empty for none."""
    if situation.is_kimi or situation.prompt is None or not _NO_FIELD.search(said):
        return ""
    sent = ((field, flag) for field, (name, flag) in _FIELDS.items() if getattr(situation.prompt, name))
    return " and ".join(flag for field, flag in sent if re.search(rf"\b{field}\b", said))


def _explain_key(status: int, quoted: str, situation: Situation) -> _Explained:
    other = _OTHER_HOST.get(situation.host)
    remedy = "check MOONSHOT_API_KEY"
    if other:
        remedy += f"; if it is a key of {other}, which has its own accounts, set MOONSHOT_BASE_URL=https://{other}/v1"
    else:
        remedy += f"; it must be a key for {situation.host}"
    return AuthenticationError, f"{situation.host} refused the key in MOONSHOT_API_KEY ({status}{quoted})", remedy


def _explain_not_found(status: int, kind: str, said: str, situation: Situation) -> _Explained:
    if situation.file_id and said:
        return (
            NotFoundError,
            f"{situation.host} has no file {situation.file_id}, or it is of another account ({status})",
            "%kimi_files lists those that are there",
        )
    is_about_model = "model" in said.lower()
    if situation.service and not situation.is_kimi and not is_about_model:
        return NotFoundError, f"{situation.host} does not {situation.service}", _CHECK_ADDRESS
    quoted = f": {said}" if said else ""
    model = situation.prompt.model if situation.prompt else None
    if model is None or (said and not is_about_model) or status != 404:
        return NotFoundError, f"{situation.host} has nothing at this address ({status}{quoted})", _CHECK_ADDRESS
    if not said:
        return (
            ModelNotFoundError,
            f"{situation.host} has nothing at this address (404), or no model {model.name}",
            "check MOONSHOT_BASE_URL (it ends in /v1); %kimi_models lists the models",
        )
    return _explain_no_model(status, kind, said, model, situation)


def _explain_no_model(status: int, kind: str, said: str, model: Model, situation: Situation) -> _Explained:
    # Beside Kimi's own hosts, a gateway to them and the sandbox answer like them.
    if not situation.is_kimi and kind != "resource_not_found_error":
        return (
            ModelNotFoundError,
            f"{situation.host} has no model {model.name}, or this key may not use it ({status}: {said})",
            "%kimi_models lists the models",
        )
    retirement = model.explain_retirement()
    if retirement:
        use = f"use -m {model.replacement} in its place; " if model.replacement else ""
        return ModelNotFoundError, f"{retirement} ({status})", f"{use}%kimi_models lists what is live"
    close = situation.catalog.suggest(model.name)
    hint = f"did you mean {close}? " if close and close != model.name else ""
    return (
        ModelNotFoundError,
        f"{situation.host} has no model {model.name}, or this key may not use it ({status})",
        f"{hint}%kimi_models lists the models",
    )


def _explain_balance(status: int, quoted: str) -> _Explained:
    return (
        QuotaError,
        f"the account has no balance left ({status}{quoted})",
        "recharge it in the console of the platform; waiting does not help",
    )


def _explain_too_many(kind: str, said: str, quoted: str, situation: Situation) -> _Explained:
    if kind in _NO_BALANCE:
        return _explain_balance(429, quoted)
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
    if kind in _RATE_LIMIT:
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
    limit = "the limit is 100 MB" if situation.is_kimi else "Kimi takes 100 MB, other hosts may take less"
    if situation.medium:
        return f"{limit}: make {situation.medium.label} smaller ({format_bytes(len(situation.medium.data))})"
    messages = situation.prompt.messages if situation.prompt else ()
    inline = [medium for message in messages for medium in message.media if not medium.file_id]
    if not inline:
        return f"{limit}: shorten the prompt"
    largest = max(inline, key=lambda medium: len(medium.data))
    shrink = f"make {largest.label} smaller ({format_bytes(len(largest.data))})"
    if isinstance(largest, Image):
        shrink += ", as with --image-size low"
    return f"{limit}: {shrink}; or send it by --upload, which counts next to nothing"
