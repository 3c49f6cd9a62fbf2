"""Against a server that this project did not write: LiteLLM's proxy, whose models give answers made up beforehand.

It has no count of tokens, no balance and no `thinking`, tells the usage of a stream only when asked, and words its
errors in OpenAI's shape.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from environments import make_foreign_environment
from IPython.core.interactiveshell import InteractiveShell

from kimi_magics.client.hosts import Situation
from kimi_magics.client.http import KimiClient
from kimi_magics.client.translate import translate_response, translate_wire
from kimi_magics.core.events import TextDelta
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.wire import WireError
from kimi_magics.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetError,
    ContextExceededError,
    MissingKeyError,
    ModelNotFoundError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    RequestTooLargeError,
    ServerFaultError,
)
from kimi_magics.store.catalog import load_catalog

#: One version, with the dependencies it asks for: 185 MB and six seconds. Later ones bring two and three times as much.
PACKAGE = "litellm[proxy]==1.72.6"
START_SECONDS = 90
ANSWER = "Kimi is a model. It answers in several words."
#: By its name, and what it answers or fails with.
MODELS = {
    "some-model": ANSWER,
    "kimi-k2.6": ANSWER,
    "busy-model": "litellm.RateLimitError",
    "failing-model": "litellm.InternalServerError",
    "long-model": "litellm.ContextWindowExceededError",
}
KIMI_ONLY = ("moonshot.ai", "moonshot.cn", "did you mean", "retired")


class Served:
    """The running server: its address and its only key."""

    def __init__(self, port: int, key: str) -> None:
        self.base_url, self.key = f"http://127.0.0.1:{port}/v1", key


def write_config(folder: Path) -> Path:
    """Write down the models; JSON is YAML, too."""
    models = [
        {"model_name": name, "litellm_params": {"model": "openai/fake", "mock_response": answer, "api_key": "x"}}
        for name, answer in MODELS.items()
    ]
    path = folder / "config.yaml"
    # Its own tries would only make the test slower.
    config = {"model_list": models, "router_settings": {"num_retries": 0}, "litellm_settings": {"telemetry": False}}
    path.write_text(json.dumps(config), "utf-8")
    return path


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/health/liveliness", trust_env=False).is_success:
                return
        time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, installed and started once for all tests."""
    folder = tmp_path_factory.mktemp("litellm")
    scripts = Path(make_foreign_environment(folder / "venv", PACKAGE)).parent
    command = shutil.which("litellm", path=str(scripts))
    assert command is not None
    # A key that anybody could know is refused by later versions; the list of prices would come from the network.
    port, key, log = find_port(), f"sk-{secrets.token_hex(24)}", folder / "log"
    own = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder)}
    arguments = ["--config", str(write_config(folder)), "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [command, *arguments], stdout=output, stderr=output, cwd=folder, env={**os.environ, **own}
        ) as process,
    ):
        try:
            wait_until_ready(process, port, log)
            yield Served(port, key)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def host(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The environment that leads to the server."""
    monkeypatch.setenv("MOONSHOT_BASE_URL", served.base_url)
    monkeypatch.setenv("MOONSHOT_API_KEY", served.key)
    return served


@pytest.fixture
def client(host: Served) -> Iterator[KimiClient]:
    """A client that does not wait between its tries."""
    client = KimiClient(host.base_url, host.key, catalog=load_catalog(), sleep=lambda seconds: None)
    yield client
    client.close()


def ask(model: str) -> Prompt:
    return Prompt(Model(model), (Message("user", "Hello"),))


def drafts(shell: InteractiveShell) -> Any:
    return shell.magics_manager.registry["KimiMagics"].drafts


# ---------------------------------------------------------------- answers


def test_a_model_that_we_do_not_know_answers(cells: Any, host: Served) -> None:
    ran = cells.run("%%kimi -m some-model -o answer\nWhat is Kimi?")
    reply = cells["answer"]
    assert ran.error is None
    assert ANSWER in ran.stdout
    assert (reply.text, reply.finish_reason, reply.is_partial) == (ANSWER, "stop", False)


def test_the_usage_of_a_stream_is_asked_for_and_read(cells: Any, host: Served) -> None:
    ran = cells.run("%kimi -m some-model What is Kimi?")
    usage = cells["_kimi"].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (12, 12, False)
    assert "12 in / 12 out" in ran.stdout
    assert "≈" not in ran.stdout


def test_the_usage_of_a_whole_reply_is_read(cells: Any, host: Served) -> None:
    cells.run("%kimi -m some-model --no-stream What is Kimi?")
    reply = cells["_kimi"]
    # The figures that LiteLLM gives to every answer made up beforehand.
    assert (reply.text, reply.usage.prompt_tokens, reply.usage.completion_tokens) == (ANSWER, 10, 20)
    assert not reply.usage.estimated


def test_usage_that_the_host_does_not_tell_is_counted_here_and_marked(cells: Any, host: Served) -> None:
    ran = cells.run("%kimi -m kimi-k2.6 What is Kimi?")
    usage = cells["_kimi"].usage
    assert usage.estimated
    assert usage.prompt_tokens > 4
    assert usage.completion_tokens > 4
    assert "≈" in ran.stdout


def test_the_usual_flags_are_understood(cells: Any, host: Served) -> None:
    ran = cells.run('%kimi -m some-model -s "Be brief" --max-tokens 50 --stop END What is Kimi?')
    assert ran.error is None
    assert cells["_kimi"].text == ANSWER


def test_the_settings_for_thinking_are_not_sent_to_a_model_that_may_not_have_it(cells: Any, host: Served) -> None:
    for setting in ("thinking=off", "effort=low"):
        assert cells.run(f"%kimi_config {setting}").error is None
    ran = cells.run("%kimi -m some-model What is Kimi?")
    assert ran.error is None, ran.shown_error
    assert cells["_kimi"].text == ANSWER


# ---------------------------------------------------------------- what such a host does not tell


def test_an_unknown_price_is_unknown_and_never_nothing(cells: Any, host: Served) -> None:
    ran = cells.run("%kimi -m some-model What is Kimi?")
    assert cells["_kimi"].cost is None
    assert "$" not in ran.stdout
    assert cells.run("%kimi_budget 1").error is None
    refused = cells.run("%kimi -m some-model What is Kimi?")
    assert type(refused.error) is BudgetError
    assert "price" in refused.shown_error


def test_an_estimate_is_counted_here_and_says_so_in_one_sentence(cells: Any, host: Served) -> None:
    ran = cells.run("%kimi_estimate -m some-model What is Kimi?")
    assert ran.error is None
    shown = ran.bundles[0]["text/plain"]
    assert "127.0.0.1 does not count tokens, so they are counted here." in shown
    assert "≈ " in shown
    assert "unknown price" in shown
    facts = json.loads(cells.run("%kimi_estimate -m some-model --json What is Kimi?").stdout)
    assert facts["prompt_tokens"] > 4
    assert (facts["counted"], facts["input_cost"], facts["ceiling"]) == (False, None, None)
    assert facts["note"] == "127.0.0.1 does not count tokens, so they are counted here"


def test_the_gauge_counts_here_and_says_why(cells: Any, host: Served) -> None:
    report = drafts(cells.shell).report("%%kimi -m some-model\nWhat is Kimi?")
    assert report.state == "offline"
    assert report.message == "127.0.0.1 does not count tokens, so they are counted here"
    assert report.estimate.prompt_tokens > 4
    assert not report.estimate.is_counted
    assert report.estimate.input_cost is None


def test_the_models_of_the_host_are_listed_with_what_it_says_of_them(cells: Any, host: Served) -> None:
    ran = cells.run("%kimi_models")
    shown = ran.bundles[0]["text/plain"]
    assert "As served by 127.0.0.1." in shown
    row = next(line for line in shown.splitlines() if line.startswith("some-model"))
    assert row.split() == ["some-model", "unknown", "unknown", "text", "unknown", "unknown"]
    rows = {row["model"]: row for row in json.loads(cells.run("%kimi_models --json").stdout)}
    assert sorted(rows) == sorted(MODELS)
    assert (rows["some-model"]["price"], rows["some-model"]["context_tokens"]) == (None, None)


def test_a_balance_that_is_not_told_is_an_error_that_says_so(client: KimiClient) -> None:
    with pytest.raises(NotFoundError, match=r"^127\.0\.0\.1 does not tell a balance"):
        client.balance()


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("line", "error", "says", "advises"),
    [
        ("-m nothing-model Hi", ModelNotFoundError, "no model nothing-model", "%kimi_models"),
        # A slip in the name of a model of Kimi's, and one that went: neither is for us to say of another host.
        ("-m kimi-k2.66 Hi", ModelNotFoundError, "no model kimi-k2.66", "%kimi_models"),
        ("-m kimi-k2-0905-preview Hi", ModelNotFoundError, "no model kimi-k2-0905-preview", "%kimi_models"),
        ("-m long-model Hi", ContextExceededError, "mock context window exceeded", "--max-tokens"),
        ("-m some-model --thinking off Hi", BadRequestError, "does not support", "leave --thinking out"),
        ("-m some-model --effort low Hi", BadRequestError, "does not support", "leave --effort out"),
    ],
)
def test_an_error_of_the_host_has_its_cause_and_a_remedy_that_is_not_about_kimi(
    cells: Any, host: Served, line: str, error: type, says: str, advises: str
) -> None:
    ran = cells.run(f"%kimi {line}")
    assert type(ran.error) is error, ran.shown_error
    assert says in ran.error.message
    assert advises in ran.error.remedy
    assert not [words for words in KIMI_ONLY if words in ran.shown_error]
    assert len(ran.shown_error.splitlines()) < 6


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        ("busy-model", RateLimitError, "this is a mock rate limit error"),
        ("failing-model", ServerFaultError, "this is a mock internal server error"),
    ],
)
def test_a_passing_trouble_of_the_host_is_tried_again_and_then_told(
    client: KimiClient, model: str, error: type, says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        list(client.send(ask(model)))
    assert "after 8 tries" in caught.value.message


def test_a_wrong_key_is_told_from_a_wrong_request(cells: Any, host: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-not-the-key-of-this-server")
    ran = cells.run("%kimi -m some-model Hi")
    assert type(ran.error) is AuthenticationError
    assert "127.0.0.1 refused the key in MOONSHOT_API_KEY" in ran.error.message
    assert ran.error.remedy == "check MOONSHOT_API_KEY; it must be a key for 127.0.0.1"


def test_without_a_key_it_is_said_that_a_server_of_one_s_own_may_take_any(
    cells: Any, host: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    ran = cells.run("%kimi -m some-model Hi")
    assert type(ran.error) is MissingKeyError
    assert ran.error.remedy.endswith("a server on this machine that asks for no key takes any word for it")


def test_an_address_that_leads_nowhere_is_not_taken_for_a_missing_model(
    cells: Any, host: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHOT_BASE_URL", host.base_url.replace("/v1", "/elsewhere"))
    ran = cells.run("%kimi -m some-model Hi")
    assert type(ran.error) is NotFoundError
    # FastAPI says {"detail": "Not Found"}.
    assert ran.error.message == "127.0.0.1 has nothing at this address (404: Not Found)"
    assert ran.error.remedy == "check MOONSHOT_BASE_URL: it ends in /v1"


# ---------------------------------------------------------------- hosts that cannot be run here

SITUATION = Situation(
    host="host.example", catalog=load_catalog(), prompt=Prompt(Model("m"), ask("m").messages, thinking="on")
)


def openai_error(message: str, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def pydantic_error(*place: str) -> dict[str, Any]:
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted"}]}


@pytest.mark.parametrize(
    ("status", "body", "error", "says", "advises"),
    [
        # OpenAI: github.com/ChatGPTNextWeb/NextChat/issues/3123
        (429, openai_error("You exceeded your quota", "insufficient_quota"), QuotaError, "no balance", "recharge"),
        # OpenRouter: github.com/Gitlawb/openclaude/issues/43
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, QuotaError, "(402: Insuff", "recharge"),
        # llama.cpp: github.com/ggml-org/llama.cpp/issues/19774
        (
            400,
            openai_error("request (4390 tokens) exceeds the available context size (4096 tokens)", "exceed_context"),
            ContextExceededError,
            "4390 tokens",
            "shorten",
        ),
        # Ollama: github.com/netease-youdao/QAnything/issues/555
        (404, openai_error('model "m" not found, try pulling it first'), ModelNotFoundError, "pulling", "%kimi_models"),
        # vLLM and Mistral, which puts the same below "message": github.com/avante-corp/avante.nvim/issues/2347
        (422, pydantic_error("thinking"), BadRequestError, "thinking: Extra inputs", "leave --thinking out"),
        (422, {"message": pydantic_error("thinking")}, BadRequestError, "thinking: Extra inputs", "--thinking"),
        (413, {}, RequestTooLargeError, "413", "other hosts may take less"),
        (405, {"detail": "Method Not Allowed"}, NotFoundError, "(405: Method Not Allowed)", "MOONSHOT_BASE_URL"),
        (501, {}, NotFoundError, "(501)", "MOONSHOT_BASE_URL"),
    ],
)
def test_the_words_of_other_hosts_are_understood(
    status: int, body: dict[str, Any], error: type, says: str, advises: str
) -> None:
    found = translate_response(status, {}, json.dumps(body).encode(), SITUATION)
    assert type(found) is error
    assert says in found.message
    assert advises in found.remedy
    assert not [words for words in KIMI_ONLY if words in str(found)]


def test_a_rate_limit_in_the_midst_of_a_stream_is_one() -> None:
    found = translate_wire(WireError("slow down", "throttling_error"), SITUATION, has_begun=False)
    assert type(found) is RateLimitError


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize(
    ("question", "says"),
    [
        (lambda client: client.count(ask("m")), "host.example does not count tokens, so they are counted here"),
        (lambda client: client.models(), "host.example does not list its models"),
        (lambda client: client.balance(), "host.example does not tell a balance"),
        (lambda client: client.files.all(), "host.example does not keep files"),
    ],
)
def test_what_a_host_does_without_is_asked_once_and_named(status: int, question: Any, says: str) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, text="nothing here")

    with pytest.raises(NotFoundError) as caught:
        question(make_client(answer))
    assert (caught.value.message, len(requests)) == (says, 1)


def test_a_host_that_refuses_the_wish_for_usage_is_asked_without_it_from_then_on() -> None:
    wishes: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        wishes.append("stream_options" in json.loads(request.content))
        if wishes[-1]:
            return httpx.Response(422, json={"message": pydantic_error("stream_options", "include_usage")})
        lines = [{"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
        text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        return httpx.Response(
            200, stream=httpx.ByteStream(text.encode()), headers={"content-type": "text/event-stream"}
        )

    client = make_client(answer)
    for _ in range(2):
        assert TextDelta("Hi") in list(client.send(ask("m")))
    assert wishes == [True, False, False]


def make_client(answer: Any) -> KimiClient:
    transport = httpx.MockTransport(answer)
    return KimiClient("https://host.example/v1", "any-key", catalog=load_catalog(), transport=transport)
