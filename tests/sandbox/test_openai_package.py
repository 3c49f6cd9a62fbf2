"""The official client, as it is, is content with the sandbox."""

from __future__ import annotations

import json

import openai
import pytest

from kimi_magics.sandbox import PRESETS

QUESTION = {"role": "user", "content": "Please get weather in Paris"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(caller):
    with openai.OpenAI(api_key="sandbox", base_url=caller.sandbox.base_url, max_retries=0) as client:
        yield client


def test_it_lists_the_models(client):
    assert "kimi-k2.6" in [model.id for model in client.models.list()]
    assert client.models.retrieve("kimi-k3").owned_by == "moonshot"


def test_it_chats(client):
    answer = client.chat.completions.create(model="kimi-k2.6", messages=[QUESTION])
    assert "no model was called" in answer.choices[0].message.content
    assert answer.choices[0].message.reasoning_content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_it_streams(client):
    with client.chat.completions.create(
        model="kimi-k2.6", messages=[QUESTION], stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "no model was called" in text
    assert chunks[-1].usage.prompt_tokens > 0


def test_it_calls_a_tool(client):
    first = client.chat.completions.create(model="kimi-k2.6", messages=[QUESTION], tools=[TOOL])
    message = first.choices[0].message
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    second = client.chat.completions.create(model="kimi-k2.6", messages=[QUESTION, message, result], tools=[TOOL])
    assert "said: `sunny`" in second.choices[0].message.content


def test_it_streams_a_tool_call(client):
    with client.chat.completions.stream(model="kimi-k2.6", messages=[QUESTION], tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_it_uploads_a_file(client):
    file = client.files.create(file=("notes.txt", b"Hello"), purpose="file-extract")
    assert json.loads(client.files.content(file.id).text)["content"] == "Hello"
    assert file.id in [one.id for one in client.files.list()]
    assert client.files.delete(file.id).deleted


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("overloaded", openai.RateLimitError),
        ("content_filter", openai.BadRequestError),
        ("auth", openai.AuthenticationError),
        ("unavailable", openai.InternalServerError),
        ("html_504", openai.InternalServerError),
    ],
)
def test_it_maps_the_errors(client, caller, fault, error):
    caller.fault(fault)
    with pytest.raises(error, match=str(PRESETS[fault].status)):
        client.chat.completions.create(model="kimi-k2.6", messages=[QUESTION])


def test_it_retries_when_the_engine_is_overloaded(client, caller):
    caller.fault("overloaded")
    answer = client.with_options(max_retries=1).chat.completions.create(model="kimi-k2.6", messages=[QUESTION])
    assert answer.choices[0].finish_reason == "stop"
