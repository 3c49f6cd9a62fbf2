"""The client at its border: a scripted transport plays the host."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator

import httpx
import pytest
import trustme

from kimi_magics.client.access import account_mark, check_base_url, check_key
from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import Completed, Event, Finished, Started, TextDelta, UsageReported, Waiting
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Usage
from kimi_magics.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailedError,
    KimiError,
    MissingKeyError,
    OverloadedError,
    ReadTimeoutError,
    ReplyBrokenError,
    RequestTooLargeError,
    TlsError,
)
from kimi_magics.store.catalog import load_catalog

KEY = "sk-secretsecretsecret"
CATALOG = load_catalog()
PROMPT = Prompt(CATALOG.get("kimi-k2.6"), (Message("user", "Hi"),))
BASE = "https://api.example/v1"

HELLO = (
    b'data: {"id":"c","model":"kimi-k2.6","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"lo \xc3\xa9"}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":9,"completion_tokens":3}}]}\n\n'
    b"data: [DONE]\n\n"
)
EVENTS: list[Event] = [
    Started("c", "kimi-k2.6"),
    TextDelta("Hel"),
    TextDelta("lo é"),
    Finished("stop"),
    UsageReported(Usage(9, 3)),
    Completed(),
]


class Pieces(httpx.SyncByteStream):
    """A body in given pieces, which may end in a fault."""

    def __init__(self, pieces: list[bytes], fault: Exception | None = None) -> None:
        self.pieces, self.fault, self.is_closed = pieces, fault, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.fault:
            raise self.fault

    def close(self) -> None:
        self.is_closed = True


def stream(*pieces: bytes, fault: Exception | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"} | (headers or {}), stream=Pieces(list(pieces), fault)
    )


def failure(status: int, kind: str = "", message: str = "", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": kind}}, headers=headers)


class Host:
    """Answers with one step after the other; the last one stays."""

    def __init__(self, *steps: httpx.Response | Exception | Callable[[], httpx.Response]) -> None:
        self.steps, self.requests = list(steps), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step


class Waits(list):
    """Stands in for sleeping, and remembers how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(host: Host, waits: Waits | None = None, key: str = KEY) -> KimiClient:
    return KimiClient(
        BASE,
        key,
        catalog=CATALOG,
        transport=httpx.MockTransport(host),
        sleep=waits if waits is not None else Waits(),
        jitter=lambda: 1.0,
    )


def test_a_streamed_answer() -> None:
    host = Host(stream(HELLO))
    assert list(client(host).send(PROMPT)) == EVENTS
    [request] = host.requests
    assert (request.method, str(request.url)) == ("POST", f"{BASE}/chat/completions")
    assert json.loads(request.content) == {
        "model": "kimi-k2.6",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_the_same_stream_split_at_every_byte() -> None:
    for at in range(len(HELLO) + 1):
        assert list(client(Host(stream(HELLO[:at], HELLO[at:]))).send(PROMPT)) == EVENTS, at


def test_keep_alives_and_empty_data_do_not_matter() -> None:
    noisy = HELLO.replace(b"\n\n", b"\r\n\r\n: ping\r\n\r\ndata:\r\n\r\n")
    assert list(client(Host(stream(noisy))).send(PROMPT)) == EVENTS


def test_an_answer_at_once_gives_the_same_fold() -> None:
    prompt = Prompt(PROMPT.model, PROMPT.messages, is_streamed=False)
    body = {
        "id": "c",
        "model": "m",
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1},
    }
    host = Host(httpx.Response(200, json=body))
    assert list(client(host).send(prompt)) == [
        Started("c", "m"),
        TextDelta("Hi"),
        Finished("stop"),
        UsageReported(Usage(1)),
        Completed(),
    ]
    assert "stream" not in json.loads(host.requests[0].content)


def test_a_gateway_that_does_not_stream_is_read_all_the_same() -> None:
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    assert TextDelta("Hi") in list(client(Host(httpx.Response(200, json=body))).send(PROMPT))


def test_the_request_id_of_the_header_goes_before_the_id_of_the_body() -> None:
    events = list(client(Host(stream(HELLO, headers={"x-request-id": "req-5"}))).send(PROMPT))
    assert events[0] == Started("req-5", "kimi-k2.6")


def test_it_waits_and_tries_again_and_counts_down() -> None:
    waits = Waits()
    host = Host(
        failure(429, "rate_limit_reached_error", "please try again after 2 seconds"),
        httpx.ConnectError("no route"),
        stream(HELLO),
    )
    events = list(client(host, waits).send(PROMPT))
    assert events[-6:] == EVENTS
    shown = [(event.seconds, event.attempt) for event in events if isinstance(event, Waiting)]
    # 2 s stated and 0.5 s added, second by second; then the second backoff
    assert shown == [(2.5, 1), (1.5, 1), (0.5, 1), (1.0, 2)]
    assert waits == [1.0, 1.0, 0.5, 1.0]


def test_it_gives_up_after_eight_tries_and_says_so() -> None:
    host = Host(lambda: failure(429, "engine_overloaded_error", "busy"))
    with pytest.raises(OverloadedError, match="after 8 tries"):
        list(client(host).send(PROMPT))
    assert len(host.requests) == 8


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, "invalid_request_error", "x"),
        (401, "invalid_authentication_error", "x"),
        (403, "", ""),
        (404, "resource_not_found_error", "model"),
        (409, "", ""),
        (413, "", ""),
        (429, "exceeded_current_quota_error", "please try again after 1 seconds"),
        (429, "rate_limit_reached_error", "max TPD: 5, please try again after 1 seconds"),
    ],
)
def test_what_cannot_succeed_is_sent_once(status: int, kind: str, message: str) -> None:
    host, waits = Host(lambda: failure(status, kind, message)), Waits()
    with pytest.raises(KimiError):
        list(client(host, waits).send(PROMPT))
    assert (len(host.requests), waits) == (1, [])


def test_nothing_is_sent_again_once_a_delta_has_arrived() -> None:
    host = Host(stream(HELLO[:200], fault=httpx.ReadError("reset")))
    events = []
    with pytest.raises(ReplyBrokenError, match="in the midst of the answer"):
        events.extend(client(host).send(PROMPT))
    assert len(host.requests) == 1


def test_a_line_lost_before_the_first_delta_is_tried_again() -> None:
    host = Host(httpx.RemoteProtocolError("Server disconnected without sending a response."), stream(HELLO))
    assert list(client(host).send(PROMPT))[-1] == Completed()
    assert len(host.requests) == 2


def test_silence_is_not_sent_again_since_it_may_have_been_billed() -> None:
    host = Host(httpx.ReadTimeout("x"))
    with pytest.raises(ReadTimeoutError, match="may have been billed"):
        list(client(host).send(PROMPT))
    assert len(host.requests) == 1


def test_a_stream_without_the_mark_of_its_end_is_not_taken_for_whole() -> None:
    events: list[Event] = []
    with pytest.raises(ReplyBrokenError, match="before its end was announced"):
        for event in client(Host(stream(HELLO.removesuffix(b"data: [DONE]\n\n")))).send(PROMPT):
            events.append(event)
    assert events == EVENTS[:-1]


def test_a_last_line_without_its_newline_still_proves_the_end() -> None:
    assert list(client(Host(stream(HELLO.rstrip()))).send(PROMPT)) == EVENTS


@pytest.mark.parametrize("body", [b"data: {oops\n\n", b"data: 3\n\n"])
def test_data_that_is_not_json_is_an_error(body: bytes) -> None:
    with pytest.raises(ReplyBrokenError, match="cannot be read"):
        list(client(Host(stream(body))).send(PROMPT))


def test_a_page_in_place_of_the_api_points_to_the_address() -> None:
    page = httpx.Response(200, html="<html>Welcome</html>")
    with pytest.raises(ReplyBrokenError) as caught:
        list(client(Host(page)).send(PROMPT))
    assert "MOONSHOT_BASE_URL" in caught.value.remedy


def test_an_error_inside_a_stream_before_the_first_delta_is_tried_again() -> None:
    overloaded = b'data: {"error": {"type": "engine_overloaded_error", "message": "busy"}}\n\n'
    host = Host(stream(overloaded), stream(HELLO))
    assert list(client(host).send(PROMPT))[-1] == Completed()


def test_closing_the_events_closes_the_connection() -> None:
    body = Pieces([HELLO[:150], HELLO[150:]])
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = client(Host(response)).send(PROMPT)
    next(events)
    events.close()
    assert body.is_closed


def test_a_body_over_the_limit_is_not_sent() -> None:
    host = Host(stream(HELLO))
    prompt = Prompt(PROMPT.model, (Message("user", "x" * 100_000_001),))
    with pytest.raises(RequestTooLargeError):
        list(client(host).send(prompt))
    with pytest.raises(RequestTooLargeError):
        client(host).count(prompt)
    assert host.requests == []


def test_questions_beside_the_call() -> None:
    host = Host(
        httpx.Response(200, json={"data": {"total_tokens": 80}}),
        httpx.Response(200, json={"data": [{"id": "kimi-k3"}]}),
        httpx.Response(200, json={"data": {"available_balance": 1.5}}),
    )
    asked = client(host)
    assert (asked.count(PROMPT), asked.models()[0].name, str(asked.balance())) == (80, "kimi-k3", "1.5")
    paths = [f"{request.method} {request.url.path}" for request in host.requests]
    assert paths == ["POST /v1/tokenizers/estimate-token-count", "GET /v1/models", "GET /v1/users/me/balance"]


def test_a_question_is_tried_twice_and_never_for_long() -> None:
    host, waits = Host(lambda: failure(503)), Waits()
    with pytest.raises(KimiError):
        client(host, waits).models()
    assert (len(host.requests), sum(waits) < 3) == (2, True)


# ---------------------------------------------------------------- key and address


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_without_a_key_nothing_can_be_made(key: str) -> None:
    with pytest.raises(MissingKeyError, match="MOONSHOT_API_KEY is not set") as caught:
        client(Host(stream(HELLO)), key=key)
    assert "getpass" in caught.value.remedy


@pytest.mark.parametrize("key", ["sk-with space-in-it", "sk-new\nline", "sk-ümlaut", "“sk-quoted”"])
def test_a_key_with_stray_characters_is_refused_unseen(key: str) -> None:
    with pytest.raises(MissingKeyError) as caught:
        check_key(key)
    assert key not in str(caught.value)


def test_outer_white_space_of_a_key_does_not_matter() -> None:
    assert check_key(f" {KEY}\n") == KEY


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "does not start with https://"),
        ("api.moonshot.ai/v1", "does not start with https://"),
        ("ftp://api.moonshot.ai/v1", "does not start with https://"),
        ("https://", "does not start with https://"),
        ("http://api.moonshot.ai/v1", "in the open"),
        ("http://192.168.1.5:8000/v1", "in the open"),
        ("http://127.0.0.1.example.com/v1", "in the open"),
        ("https://user:pw@api.moonshot.ai/v1", "user name or password"),
        ("https://[bad", "does not start with https://"),
    ],
)
def test_an_address_that_cannot_be_used_or_exposes_the_key_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_base_url(url)
    assert says in caught.value.message
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/v1", "http://localhost/v1", "http://[::1]:2/v1", "https://api.moonshot.cn/v1/"]
)
def test_https_and_this_machine_are_allowed(url: str) -> None:
    assert check_base_url(url).host


def test_the_mark_of_an_account_is_its_own_and_does_not_show_the_key() -> None:
    mark = account_mark("api.example", KEY)
    assert mark == account_mark("api.example", f" {KEY}\n")
    assert len({mark, account_mark("api.example", KEY + "x"), account_mark("other.example", KEY)}) == 3
    assert re.fullmatch("[0-9a-f]{16}", mark)


def test_the_key_is_in_no_repr_and_no_traceback() -> None:
    asked = client(Host(failure(401, "invalid_authentication_error", f"bad key {KEY}")))
    with pytest.raises(AuthenticationError) as caught:
        list(asked.send(PROMPT))
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(asked) + repr(vars(asked))
    assert KEY not in shown


def test_a_dead_port_is_an_error_of_ours() -> None:
    asked = KimiClient("http://127.0.0.1:9/v1", KEY, catalog=CATALOG, sleep=Waits())
    with pytest.raises(ConnectionFailedError, match=r"no connection to 127\.0\.0\.1"):
        list(asked.send(PROMPT))
    asked.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "gopher://user:hidden@proxy.example:1"),
        ("ALL_PROXY", "socks5://user:hidden@proxy.example:1"),
        ("SSL_CERT_FILE", "/no/such/file.pem"),
    ],
)
def test_proxy_and_certificate_settings_that_cannot_be_used_are_named_without_their_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="proxy or certificate settings") as caught:
        KimiClient("https://api.moonshot.ai/v1", KEY, catalog=CATALOG)
    assert name in caught.value.remedy
    assert "hidden" not in str(caught.value)


def test_a_dead_proxy_is_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    asked = KimiClient("https://api.moonshot.ai/v1", KEY, catalog=CATALOG, sleep=Waits())
    with pytest.raises(ConnectionFailedError) as caught:
        list(asked.send(PROMPT))
    asked.close()
    assert "HTTPS_PROXY" in caught.value.remedy


def test_a_host_whose_certificate_is_not_trusted_is_not_sent_to() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            line, _ = listener.accept()
            with line, contextlib.suppress(OSError):
                context.wrap_socket(line, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        asked = KimiClient(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", KEY, catalog=CATALOG, sleep=Waits())
        with pytest.raises(TlsError) as caught:
            list(asked.send(PROMPT))
        asked.close()
        thread.join(10)
    assert "SSL_CERT_FILE" in caught.value.remedy
