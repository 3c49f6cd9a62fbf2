"""The client against a real HTTP server: what only a socket shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from kimi_magics.client.http import KimiClient
from kimi_magics.core.ask import Ask
from kimi_magics.core.events import Completed, TextDelta, ThinkingDelta, Waiting
from kimi_magics.core.prompt import Defaults, Prompt, build_prompt
from kimi_magics.core.reply import Reply
from kimi_magics.errors import (
    AuthenticationError,
    ContentFilterError,
    DailyLimitError,
    GatewayTimeoutError,
    KimiError,
    ModelNotFoundError,
    OverloadedError,
    QuotaError,
    RateLimitError,
    ReplyBrokenError,
    ServerFaultError,
)
from kimi_magics.sandbox import PRESETS, Fault, Sandbox, SandboxOptions
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()


def prompt(text: str = "What is a token?", **flags: object) -> Prompt:
    return build_prompt(Ask(text=text, **flags), defaults=Defaults("kimi-k2.6"), find_model=CATALOG.get, variables={})


def connect(sandbox: Sandbox, key: str = "sandbox", **options: object) -> KimiClient:
    options = {"sleep": lambda _seconds: None} | options
    return KimiClient(sandbox.base_url, key, catalog=CATALOG, **options)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[KimiClient]:
    made = connect(sandbox)
    yield made
    made.close()


def fold(client: KimiClient, asked: Prompt) -> Reply:
    reply = Reply(asked.model.name)
    for event in client.send(asked):
        reply.add(event)
    return reply


@pytest.mark.parametrize("no_stream", [False, True])
def test_an_answer_with_reasoning_usage_and_end(client: KimiClient, no_stream: bool) -> None:
    asked = prompt(no_stream=no_stream)
    reply = fold(client, asked)
    assert "sandbox" in reply.text.lower()
    assert reply.thinking
    assert (reply.finish_reason, reply.is_partial, reply.usage.estimated) == ("stop", False, False)
    assert reply.usage.prompt_tokens == client.count(asked)


def test_streamed_or_not_it_is_the_same_answer(client: KimiClient) -> None:
    assert fold(client, prompt()).text == fold(client, prompt(no_stream=True)).text


@pytest.mark.parametrize("place", ["choice", "chunk", "extra"])
def test_usage_is_found_in_each_of_its_places(place: str) -> None:
    with Sandbox(options=SandboxOptions(usage_place=place)) as sandbox:
        client = connect(sandbox)
        reply = fold(client, prompt())
        client.close()
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.completion_tokens > 0


def test_cached_tokens_are_seen_on_the_second_call(client: KimiClient) -> None:
    asked = prompt("word " * 2000)
    first, second = fold(client, asked), fold(client, asked)
    assert (first.usage.cached_tokens, second.usage.cached_tokens >= 256) == (0, True)


def test_the_connection_is_kept(client: KimiClient, sandbox: Sandbox) -> None:
    pool = client._http._transport._pool
    for _ in range(3):
        fold(client, prompt())
        client.models()
    assert len(pool.connections) == 1


def test_an_output_limit_eaten_by_reasoning_leaves_an_empty_answer(client: KimiClient) -> None:
    reply = fold(client, prompt(max_tokens=3))
    assert (reply.text, reply.finish_reason, reply.is_partial) == ("", "length", False)


def test_models_and_balance(client: KimiClient) -> None:
    models = {model.name: model for model in client.models()}
    assert models["kimi-k3"].context_tokens == 1_048_576
    assert isinstance(client.balance(), Decimal)


@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        ("overloaded", OverloadedError, 8),
        ("rate_limit", RateLimitError, 8),
        ("server_error", ServerFaultError, 8),
        ("html_504", GatewayTimeoutError, 8),
        ("tpd", DailyLimitError, 1),
        ("quota", QuotaError, 1),
        ("content_filter", ContentFilterError, 1),
        ("auth", AuthenticationError, 1),
    ],
)
def test_each_answer_of_the_host_and_its_tries(
    client: KimiClient, sandbox: Sandbox, fault: str, error: type[KimiError], tries: int
) -> None:
    sandbox.fault(replace(PRESETS[fault], times=None))
    with pytest.raises(error) as caught:
        list(client.send(prompt()))
    shown = str(caught.value)
    assert len(sandbox.requests) == tries
    assert len(shown.splitlines()) < 6
    assert not any(mark in shown.replace("-[redacted]", "") for mark in ("org-", "proj-", "ak-"))


def test_after_a_fault_that_passes_the_answer_is_whole(client: KimiClient, sandbox: Sandbox) -> None:
    sandbox.fault(replace(PRESETS["rate_limit"], times=2))
    events = list(client.send(prompt()))
    waits = [event for event in events if isinstance(event, Waiting)]
    assert events[-1] == Completed()
    assert {wait.attempt for wait in waits} == {1, 2}
    assert 1.0 <= max(wait.seconds for wait in waits) <= 4.0


def test_a_stream_that_drops_keeps_what_arrived(client: KimiClient, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(drop_after=3))
    events = []
    with pytest.raises(ReplyBrokenError):
        for event in client.send(prompt()):
            events.append(event)
    assert any(isinstance(event, TextDelta | ThinkingDelta) for event in events)
    assert len(sandbox.requests) == 1


def test_a_stream_that_ends_without_its_mark_is_partial(client: KimiClient, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(no_done=True))
    with pytest.raises(ReplyBrokenError, match="before its end was announced"):
        list(client.send(prompt()))


def test_closing_the_events_is_noticed_by_the_server(sandbox: Sandbox) -> None:
    with Sandbox(options=SandboxOptions(tokens_per_second=20)) as slow:
        client = connect(slow)
        events = client.send(prompt())
        while not isinstance(next(events), ThinkingDelta | TextDelta):
            pass
        events.close()
        deadline = time.monotonic() + 5
        while not slow.disconnects and time.monotonic() < deadline:
            time.sleep(0.01)
        assert slow.disconnects == 1
        # and the client is fit for the next call
        assert client.models()
        client.close()


def test_a_wrong_key_is_refused_and_not_shown(sandbox: Sandbox) -> None:
    client = connect(sandbox, key="sk-wrongwrongwrongwrong")
    with pytest.raises(AuthenticationError, match="MOONSHOT_API_KEY") as caught:
        list(client.send(prompt()))
    client.close()
    assert "wrongwrong" not in str(caught.value)


def test_a_retired_model_is_explained(client: KimiClient) -> None:
    with pytest.raises(ModelNotFoundError, match="retired on 2026-08-31"):
        list(client.send(prompt(model="kimi-k2.5")))


def test_a_proxy_of_the_environment_does_not_see_what_stays_on_this_machine(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = connect(sandbox)
    assert client.models()
    client.close()
