"""From what the API says to errors of ours: one table for answers of the host.

Source of the table: kimi_api.md section 5 (checked 2026-11-22); see `hosts` for those that are not Kimi's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kimi_magics.client.faults import NO_ANSWER
from kimi_magics.client.hosts import (
    NO_BALANCE,
    NO_CONTEXT,
    NO_MODEL,
    OTHER_HOST,
    RATE_LIMIT,
    REFUSES_KEY,
    Situation,
    find_refused,
)
from kimi_magics.client.retry import stated_wait
from kimi_magics.core.media import Image, format_bytes
from kimi_magics.core.models import Model
from kimi_magics.core.rates import find_limit
from kimi_magics.core.wire import WireError, read_error
from kimi_magics.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ContentFilterError,
    ContextExceededError,
    DailyLimitError,
    GatewayTimeoutError,
    ModelNotFoundError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    ReplyBrokenError,
    RequestTooLargeError,
    ServerFaultError,
    TooManyRequestsError,
)

_CHECK_ADDRESS = "check MOONSHOT_BASE_URL: it ends in /v1"


def translate_wire(error: WireError, situation: Situation, *, has_begun: bool) -> CallError:
    """Return our error for a reply that cannot be read, or for an error object inside a stream."""
    if error.kind:
        status = 429 if re.search("limit|quota|overloaded|throttling", error.kind) else 500
        return _build(status, error.kind, error.message, {}, situation)
    remedy = NO_ANSWER if has_begun else "check that MOONSHOT_BASE_URL is the address of the API (it ends in /v1)"
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
        limit=find_limit(text) if status == 429 else None,
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
    if kind == REFUSES_KEY:
        return _explain_key(status, quoted, situation)
    if NO_CONTEXT.search(said):
        return (
            ContextExceededError,
            f"prompt and answer are longer than the model's context ({status}{quoted})",
            "shorten the prompt, lower --max-tokens, or choose a model with a larger context (%kimi_models)",
        )
    if situation.prompt and NO_MODEL.search(said):
        return _explain_no_model(status, kind, said, situation.prompt.model, situation)
    remedy = "--dry-run shows what would be sent"
    if refused := find_refused(said, situation):
        remedy = f"leave {refused} out, as flag and as setting: this host or its model does not take it; {remedy}"
    return BadRequestError, f"{situation.host} does not accept the request ({status}{quoted})", remedy


def _explain_key(status: int, quoted: str, situation: Situation) -> _Explained:
    other = OTHER_HOST.get(situation.host)
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
    if kind in NO_BALANCE:
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
    if kind in RATE_LIMIT:
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
