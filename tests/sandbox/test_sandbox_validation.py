from __future__ import annotations

import pytest

from kimi_magics.sandbox import SandboxOptions

USER = {"role": "user", "content": "Hello"}
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
FORCED = {"type": "function", "function": {"name": "get_weather"}}
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
CALL = {"id": "get_weather:0", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": "", "reasoning_content": "Ask.", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "get_weather:0", "content": "sunny"}
PARTIAL = {"role": "assistant", "content": "{", "partial": True}
LONG = "word " * 262_144


def with_part(part):
    return {"messages": [{"role": "user", "content": [part]}]}


def with_image(url):
    return with_part({"type": "image_url", "image_url": {"url": url}})


REFUSED = {
    "messages missing": ({"messages": None}, "messages is required"),
    "messages empty": ({"messages": []}, "messages must not be empty"),
    "messages not a list": ({"messages": "Hello"}, "messages is required and must be an array"),
    "message not an object": ({"messages": ["Hello"]}, "position 0 must be an object"),
    "model missing": ({"model": None}, "model is required"),
    "role": ({"messages": [{"role": "robot", "content": "x"}]}, "unsupported role 'robot'"),
    "role missing": ({"messages": [{"content": "x"}]}, "unsupported role 'None'"),
    "content empty": ({"messages": [{"role": "user", "content": ""}]}, "position 0 with role 'user' must not be empty"),
    "content missing": ({"messages": [{"role": "user"}]}, "must not be empty"),
    "content no parts": ({"messages": [{"role": "user", "content": []}]}, "must not be empty"),
    "content a number": ({"messages": [{"role": "user", "content": 7}]}, "must be a string or an array"),
    "answer empty": ({"messages": [USER, {"role": "assistant", "content": ""}, USER]}, "position 1"),
    "part unknown": (with_part({"type": "sound"}), "unsupported content type: sound"),
    "part not an object": (with_part("x"), "unsupported content type"),
    "part without text": (with_part({"type": "text"}), "must have text"),
    "part with empty text": (with_part({"type": "text", "text": ""}), "text content is empty"),
    "part without image": (with_part({"type": "image_url"}), "image_url must be an object with url, or a string"),
    "image https": (with_image("https://example.com/x.png"), "unsupported image url: https://example.com/x.png"),
    "image http": (with_image("http://example.com/x.png"), "unsupported image url"),
    "image svg": (with_image("data:image/svg+xml;base64,PHN2Zy8+"), "unsupported image format: image/svg+xml"),
    "image not base64": (with_image("data:image/png;base64,a!b"), "not base64"),
    "image no image": (with_image("data:image/png;base64,aGVsbG8="), "unsupported image format or invalid image data"),
    "image empty": (with_image("data:image/png;base64,"), "empty"),
    "image unknown file": (with_image("ms://nowhere"), "file ms://nowhere not found"),
    "video https": (with_part({"type": "video_url", "video_url": "https://e.com/x.mp4"}), "unsupported video url"),
    "video type": (
        with_part({"type": "video_url", "video_url": "data:video/ogg;base64,aGk="}),
        "unsupported video format",
    ),
    "temperature": ({"temperature": 0.3}, "invalid temperature: only 1 is allowed for this model"),
    "temperature k3": ({"model": "kimi-k3", "temperature": 0}, "invalid temperature: only 1 is allowed for this model"),
    "temperature text": ({"temperature": "hot"}, "temperature must be a number"),
    "temperature without thinking": (
        {"temperature": 1, "thinking": {"type": "disabled"}},
        "invalid temperature: only 0.6 is allowed for this model",
    ),
    "top_p": ({"top_p": 0.5}, "invalid top_p: only 0.95 is allowed for this model"),
    "n": ({"n": 2}, "invalid n: only 1 is allowed for this model"),
    "presence_penalty": ({"presence_penalty": 1}, "invalid presence_penalty: only 0 is allowed"),
    "frequency_penalty": ({"frequency_penalty": 1}, "invalid frequency_penalty: only 0 is allowed"),
    "six stops": ({"stop": list("abcdef")}, "at most 5 stop words are allowed, got 6"),
    "long stop": ({"stop": "十" * 11}, "a stop word must not exceed 32 bytes, got 33"),
    "stop a number": ({"stop": 5}, "stop must be a string or an array"),
    "limit zero": ({"max_completion_tokens": 0}, "max_completion_tokens must be a positive integer"),
    "limit a text": ({"max_tokens": "5"}, "max_tokens must be a positive integer"),
    "stream a text": ({"stream": "yes"}, "stream must be a boolean"),
    "stream options": ({"stream_options": 1}, "stream_options must be an object"),
    "thinking on k3": ({"model": "kimi-k3", "thinking": {"type": "enabled"}}, "thinking is not supported for model"),
    "thinking disabled on k2.7": (
        {"model": "kimi-k2.7-code", "thinking": {"type": "disabled"}},
        "only type=enabled is allowed for model kimi-k2.7-code",
    ),
    "thinking a text": ({"thinking": "off"}, "thinking must be an object"),
    "thinking type": ({"thinking": {"type": "auto"}}, "invalid thinking type: 'auto'"),
    "thinking keep": ({"thinking": {"type": "enabled", "keep": "some"}}, "invalid thinking keep: 'some'"),
    "effort": ({"model": "kimi-k3", "reasoning_effort": "medium"}, "invalid reasoning_effort: 'medium'"),
    "effort on k2.6": ({"reasoning_effort": "low"}, "reasoning_effort is not supported for model kimi-k2.6"),
    "too long": (
        {"messages": [{"role": "user", "content": LONG}]},
        "exceeded model token limit: 262144 (requested: 26",
    ),
    "too long with its answer": ({"max_completion_tokens": 262_144}, "262144 (requested: 262161)"),
    "129 tools": ({"tools": [FUNCTION] * 129}, "at most 128 tools are allowed, got 129"),
    "tool name short": ({"tools": [{"type": "function", "function": {"name": "go"}}]}, "function name is invalid"),
    "tool name odd": ({"tools": [{"type": "function", "function": {"name": "1abc"}}]}, "function name is invalid"),
    "tool name twice": ({"tools": [FUNCTION, FUNCTION]}, "function name get_weather is duplicated"),
    "tool without function": ({"tools": [{"type": "function"}]}, "must have type and function"),
    "tool type": ({"tools": [{"type": "plugin", "function": {"name": "abc"}}]}, "unsupported tool type: plugin"),
    "tools an object": ({"tools": {}}, "tools must be an array"),
    "builtin unknown": ({"tools": [{"type": "builtin_function", "function": {"name": "$calc"}}]}, "unknown builtin"),
    "search on k3": ({"model": "kimi-k3", "tools": [SEARCH]}, "$web_search is not supported for model kimi-k3"),
    "choice odd": ({"tools": [FUNCTION], "tool_choice": "maybe"}, "invalid tool_choice: 'maybe'"),
    "choice required": ({"tools": [FUNCTION], "tool_choice": "required"}, "'required' is incompatible with thinking"),
    "choice required without tools": ({"model": "kimi-k3", "tool_choice": "required"}, "needs tools"),
    "choice forced": (
        {"tools": [FUNCTION], "tool_choice": FORCED},
        "'specified' is incompatible with thinking enabled",
    ),
    "choice unknown": (
        {"tool_choice": FORCED, "thinking": {"type": "disabled"}},
        "tool_choice names an unknown function: get_weather",
    ),
    "format": ({"response_format": {"type": "xml"}}, "invalid response_format: 'xml'"),
    "format a text": ({"response_format": "json"}, "invalid response_format"),
    "json without the word": ({"response_format": {"type": "json_object"}}, "needs the word 'json'"),
    "schema missing": ({"response_format": {"type": "json_schema"}}, "needs json_schema.schema"),
    "schema without name": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "needs json_schema.name",
    ),
    "partial with json": (
        {"messages": [{"role": "user", "content": "json!"}, PARTIAL], "response_format": {"type": "json_object"}},
        "partial mode is not supported with response_format json_object",
    ),
    "partial not last": ({"messages": [USER, PARTIAL, USER]}, "partial is only allowed on the last message"),
    "partial of the user": ({"messages": [{**USER, "partial": True}]}, "partial is only allowed on the last message"),
    "tool message without id": ({"messages": [USER, {"role": "tool", "content": "x"}]}, "must have a tool_call_id"),
    "tool message without call": ({"messages": [USER, RESULT]}, "tool_call_id is not found"),
    "tool call unanswered": ({"messages": [USER, CALLING, USER]}, "did not have response messages: get_weather:0"),
    "tool call last": ({"messages": [USER, CALLING]}, "did not have response messages: get_weather:0"),
    "tool call broken": ({"messages": [USER, {**CALLING, "tool_calls": [{}]}, RESULT]}, "must have id, function.name"),
    "tool call without reasoning": (
        {"messages": [USER, {**CALLING, "reasoning_content": ""}, RESULT]},
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_completion_is_refused_as_the_api_does(caller, name):
    parameters, message = REFUSED[name]
    status, kind, text = caller.error(caller.http.post("/chat/completions", json=caller.body() | parameters))
    assert (status, kind) == (400, "invalid_request_error")
    assert message in text


ACCEPTED = {
    "fixed values": {"temperature": 1, "top_p": 0.95, "n": 1, "presence_penalty": 0, "frequency_penalty": 0},
    "temperature without thinking": {"temperature": 0.6, "thinking": {"type": "disabled"}},
    "nulls": {"temperature": None, "stop": None, "tools": None, "thinking": None, "max_tokens": None, "stream": None},
    "keep": {"thinking": {"type": "enabled", "keep": "all"}},
    "thinking enabled on k2.7": {"model": "kimi-k2.7-code", "thinking": {"type": "enabled"}},
    "five stops": {"stop": ["a" * 32, "b", "c", "d", "e"]},
    "keys": {"prompt_cache_key": "a", "safety_identifier": "b"},
    "unknown parameters": {"seed": 5},
    "128 tools": {
        "tools": [{"type": "function", "function": {"name": f"tool-{number}"}} for number in range(128)],
    },
    "tool loop": {"messages": [USER, CALLING, RESULT], "tools": [FUNCTION]},
    "tool loop without thinking": {
        "messages": [USER, {**CALLING, "reasoning_content": None}, RESULT],
        "thinking": {"type": "disabled"},
    },
    "empty partial": {"messages": [USER, {"role": "assistant", "content": "", "partial": True}]},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_api_takes_is_taken(caller, name):
    assert caller.http.post("/chat/completions", json=caller.body() | ACCEPTED[name]).status_code == 200


@pytest.mark.parametrize("model", ["gpt-5", "kimi-k2.5", "moonshot-v1-8k", "kimi-k2-0905-preview", "kimi-latest"])
@pytest.mark.parametrize("path", ["/chat/completions", "/tokenizers/estimate-token-count"])
def test_unknown_and_retired_models_are_not_found(caller, model, path):
    response = caller.http.post(path, json=caller.body(model=model))
    message = f"Not found the model {model} or Permission denied"
    assert caller.error(response) == (404, "resource_not_found_error", message)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("path", ["/chat/completions", "/tokenizers/estimate-token-count"])
def test_a_body_that_is_not_json_is_refused(caller, content, path):
    response = caller.http.post(path, content=content)
    assert caller.error(response) == (400, "invalid_request_error", "Invalid request: the body is not valid JSON")


@pytest.mark.parametrize("content", [b"[]", b"7", b'"x"'])
def test_a_body_that_is_no_object_is_refused(caller, content):
    assert caller.http.post("/chat/completions", content=content).status_code == 400


@pytest.mark.parametrize("name", ["messages empty", "role", "content empty", "image https", "tool call unanswered"])
def test_an_estimate_checks_the_messages_too(caller, name):
    parameters, message = REFUSED[name]
    response = caller.http.post("/tokenizers/estimate-token-count", json=caller.body() | parameters)
    assert message in caller.error(response)[2]


def test_an_estimate_of_an_input_that_is_too_long_still_counts(caller):
    assert caller.estimate(LONG) > 262_144


def test_the_estimate_may_not_know_a_model_that_answers(serve):
    caller = serve(SandboxOptions(estimate_refuses=("kimi-k3",)))
    response = caller.http.post("/tokenizers/estimate-token-count", json=caller.body(model="kimi-k3"))
    assert caller.error(response)[0] == 404
    assert caller.post(model="kimi-k3").status_code == 200


def test_a_body_over_the_limit_is_too_large(serve):
    caller = serve(SandboxOptions(body_limit_bytes=1_000))
    status, _, message = caller.error(caller.post("x" * 2_000))
    assert status == 413
    assert "at most 1000" in message


def test_the_limit_of_a_body_is_100_mb():
    assert SandboxOptions().body_limit_bytes == 100 * 1024 * 1024


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"thinking": {"type": "enabled"}}, "thinking is not supported for model moonshot-v1-8k"),
        ({"temperature": 1.5}, "invalid temperature: must be between 0 and 1"),
        (with_image("data:image/png;base64,aGk="), "image input is not supported by model moonshot-v1-8k"),
        (with_part({"type": "video_url", "video_url": "x"}), "video input is not supported by model moonshot-v1-8k"),
    ],
)
def test_a_revived_model_keeps_its_own_limits(serve, parameters, message):
    caller = serve(SandboxOptions(revived=("moonshot-v1-8k",)))
    response = caller.http.post("/chat/completions", json=caller.body(model="moonshot-v1-8k") | parameters)
    assert message in caller.error(response)[2]
