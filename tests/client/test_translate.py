"""Every fault of the line and every answer of the host becomes an error of ours: cause, remedy, no secrets."""

from __future__ import annotations

import json
import ssl

import httpx
import pytest

from kimi_magics import errors
from kimi_magics.client.faults import FAULTS, translate_fault
from kimi_magics.client.hosts import Situation
from kimi_magics.client.translate import translate_response, translate_wire
from kimi_magics.core.media import Image
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.wire import WireError
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()
KEY = "sk-testtesttesttesttest"


def situation(
    host: str = "api.moonshot.ai", model: str | None = "kimi-k2.6", images: tuple[Image, ...] = ()
) -> Situation:
    prompt = Prompt(CATALOG.get(model), (Message("user", "x", images),)) if model else None
    return Situation(host=host, catalog=CATALOG, key=KEY, prompt=prompt)


def answer(status: int, kind: str = "", message: str = "", where: Situation | None = None) -> errors.ApiError:
    body = json.dumps({"error": {"message": message, "type": kind}}).encode()
    return translate_response(status, {"x-request-id": "req-1"}, body, where or situation())


LIMIT = (
    "Your account org-abc123def456 project proj-xyz987xyz request reached organization max RPM: 3,"
    " please try again after 1 seconds"
)


@pytest.mark.parametrize(
    ("status", "kind", "message", "error", "says", "advises"),
    [
        (400, "content_filter", "high risk", errors.ContentFilterError, "high risk", "wording"),
        (400, "invalid_request_error", "Invalid request: bad field", errors.BadRequestError, "bad field", "--dry-run"),
        (
            400,
            "invalid_request_error",
            "Your request exceeded model token limit: 8192 (requested: 9000)",
            errors.ContextExceededError,
            "8192 (requested: 9000)",
            "--max-tokens",
        ),
        (
            401,
            "invalid_authentication_error",
            "Invalid Authentication",
            errors.AuthenticationError,
            "MOONSHOT_API_KEY",
            "api.moonshot.cn",
        ),
        (
            401,
            "incorrect_api_key_error",
            "Incorrect API key",
            errors.AuthenticationError,
            "401",
            "MOONSHOT_BASE_URL=https://api.moonshot.cn/v1",
        ),
        (403, "permission_denied_error", "no", errors.PermissionDeniedError, "403", "project"),
        (
            404,
            "resource_not_found_error",
            "Not found the model kimi-k2.6 or Permission denied",
            errors.ModelNotFoundError,
            "no model kimi-k2.6",
            "%kimi_models",
        ),
        (413, "", "", errors.RequestTooLargeError, "413", "100 MB"),
        (429, "engine_overloaded_error", "busy", errors.OverloadedError, "overloaded", "later"),
        (429, "rate_limit_reached_error", LIMIT, errors.RateLimitError, "max RPM: 3", "--max-tokens"),
        (
            429,
            "rate_limit_reached_error",
            "reached organization TPD rate limit, current: 1",
            errors.DailyLimitError,
            "daily",
            "tomorrow",
        ),
        (429, "exceeded_current_quota_error", "check your plan", errors.QuotaError, "no balance", "recharge"),
        (429, "", "", errors.TooManyRequestsError, "slow down", "wait"),
        (500, "server_error", "oops", errors.ServerFaultError, "500: oops", "later"),
        (500, "unexpected_output", "", errors.ServerFaultError, "500", "later"),
        (503, "server_unavailable", "", errors.ServerFaultError, "503", "later"),
        (504, "", "", errors.GatewayTimeoutError, "504", "--no-stream"),
        (302, "", "", errors.ApiError, "302", "MOONSHOT_BASE_URL"),
        (418, "", "teapot", errors.ApiError, "418: teapot", "--dry-run"),
    ],
)
def test_each_answer_has_its_error_with_cause_and_remedy(
    status: int, kind: str, message: str, error: type, says: str, advises: str
) -> None:
    found = answer(status, kind, message)
    assert type(found) is error
    assert says in found.message
    assert advises in found.remedy
    assert (found.status, found.kind, found.request_id) == (status, kind, "req-1")
    assert len(str(found).splitlines()) < 6


def test_a_gateway_page_in_html_is_not_shown() -> None:
    found = translate_response(504, {}, b"<html><body>504 Gateway Time-out</body></html>", situation())
    assert isinstance(found, errors.GatewayTimeoutError)
    assert "<" not in str(found)


@pytest.mark.parametrize("model", [model.name for model in CATALOG if model.retired])
def test_a_retired_model_names_its_date_and_what_replaces_it(model: str) -> None:
    found = answer(
        404, "resource_not_found_error", f"Not found the model {model} or Permission denied", situation(model=model)
    )
    facts = CATALOG.get(model)
    assert f"{model} was retired on {facts.retired}" in found.message
    assert f"-m {facts.replacement}" in found.remedy


def test_an_unknown_model_gets_a_suggestion() -> None:
    found = answer(404, "resource_not_found_error", "Not found the model kimi-k2.66", situation(model="kimi-k2.66"))
    assert "did you mean kimi-k2.6?" in found.remedy
    assert "%kimi_models" in found.remedy


def test_a_wrong_address_is_not_taken_for_a_wrong_model() -> None:
    assert "ends in /v1" in translate_response(404, {}, b"not here", situation()).remedy
    assert "ends in /v1" in translate_response(404, {}, b"", situation(model=None)).remedy


@pytest.mark.parametrize(
    ("host", "advises"),
    [
        ("api.moonshot.ai", "https://api.moonshot.cn/v1"),
        ("api.moonshot.cn", "https://api.moonshot.ai/v1"),
        ("proxy.example", "a key for proxy.example"),
        ("127.0.0.1", "it must be a key for 127.0.0.1"),
    ],
)
def test_a_key_of_the_other_host_is_thought_of(host: str, advises: str) -> None:
    assert advises in answer(401, where=situation(host)).remedy


def test_the_largest_image_is_named_when_the_request_is_too_large() -> None:
    images = (Image(b"1", "image/png", 1, 1, "small"), Image(b"1" * 5_000_000, "image/png", 1, 1, "plot.png"))
    assert "make plot.png smaller (5.0 MB)" in answer(413, where=situation(images=images)).remedy


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500])
def test_no_id_and_no_key_of_the_host_s_text_is_shown(status: int) -> None:
    text = f"org-abc123def456 proj-xyz987xyz <ak-12345678abc> {KEY} Bearer abc.def model"
    found = answer(status, "rate_limit_reached_error", text)
    shown = str(found) + repr(found) + found.message + found.remedy
    for secret in ("abc123def456", "xyz987xyz", "12345678abc", KEY, "abc.def"):
        assert secret not in shown


def test_ids_leave_no_marks_behind() -> None:
    text = "Your account org-abc123def/proj-abc123def<ak-abc123def> is suspended"
    assert "(429: Your account is suspended)" in answer(429, "exceeded_current_quota_error", text).message


def test_a_key_of_any_form_is_redacted() -> None:
    where = Situation(host="h", catalog=CATALOG, key="my-odd-key")
    assert "my-odd-key" not in str(answer(500, message="key my-odd-key is bad", where=where))


# ---------------------------------------------------------------- faults of the line

#: Classes of httpx that name a slip of the programmer: they must keep their traceback.
OURS = {
    "HTTPStatusError",
    "CookieConflict",
    "StreamConsumed",
    "StreamClosed",
    "ResponseNotRead",
    "RequestNotRead",
    "StreamError",
}
#: Classes from which others derive and which httpx never raises themselves.
ABSTRACT = {"HTTPError", "RequestError", "TransportError", "TimeoutException", "NetworkError", "ProtocolError"}


def walk(cls: type) -> set[type]:
    return {cls}.union(*(walk(child) for child in cls.__subclasses__()))


def test_every_class_of_httpx_is_mapped_or_known_to_be_a_slip_of_ours() -> None:
    found = {
        cls.__name__ for cls in walk(httpx.HTTPError) | walk(httpx.StreamError) if cls.__module__.startswith("httpx")
    }
    assert {cls.__name__ for cls in FAULTS} == found - OURS - ABSTRACT


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_each_fault_has_its_error_with_cause_and_remedy(cls: type[Exception]) -> None:
    found = translate_fault(cls("detail"), situation(), has_begun=False)
    assert isinstance(found, errors.CallError)
    assert found.message
    assert found.remedy
    assert "{" not in found.message


def test_an_abstract_fault_of_a_foreign_transport_is_a_lost_line() -> None:
    assert (
        type(translate_fault(httpx.TransportError("x"), situation(), has_begun=False)) is errors.ConnectionFailedError
    )


@pytest.mark.parametrize("cls", [httpx.ReadError, httpx.RemoteProtocolError])
def test_a_line_that_drops_in_the_midst_keeps_the_answer(cls: type[Exception]) -> None:
    found = translate_fault(cls("x"), situation(), has_begun=True)
    assert isinstance(found, errors.ReplyBrokenError)
    assert "_kimi" in found.remedy


def test_a_certificate_that_is_not_accepted_is_told_from_a_dead_line() -> None:
    fault = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert isinstance(translate_fault(fault, situation(), has_begun=False), errors.TlsError)
    nested = httpx.ConnectError("x")
    nested.__cause__ = ssl.SSLError("y")
    assert "SSL_CERT_FILE" in translate_fault(nested, situation(), has_begun=False).remedy


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("engine_overloaded_error", errors.OverloadedError),
        ("exceeded_current_quota_error", errors.QuotaError),
        ("rate_limit_reached_error", errors.RateLimitError),
        ("server_error", errors.ServerFaultError),
        ("", errors.ReplyBrokenError),
    ],
)
def test_an_error_inside_a_stream_has_the_same_tree(kind: str, error: type) -> None:
    assert type(translate_wire(WireError("m", kind), situation(), has_begun=False)) is error


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = [
        line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()[0]
        for line in errors.__doc__.splitlines()
        if "Error" in line and ("─" in line or line.strip() == "KimiError")
    ]
    assert sorted(drawn) == sorted(cls.__name__ for cls in walk(errors.KimiError))
