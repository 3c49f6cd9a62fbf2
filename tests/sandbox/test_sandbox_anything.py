"""Whatever a client sends, the sandbox answers or refuses; it never fails itself."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_magics.sandbox import SandboxOptions
from kimi_magics.sandbox.answers import build_answer
from kimi_magics.sandbox.refusal import RefusalError
from kimi_magics.sandbox.validation import read_completion

OPTIONS = SandboxOptions(revived=("moonshot-v1-8k", "kimi-k2.5"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.sampled_from(["Hello json", "use get_weather, 5 days", "in one word", "", "\ud800", "数 $x$ `y` | z"])
URL = st.sampled_from(["https://e.com", "data:image/png;base64,aGk=", "ms://x", "", "data:", "data:;base64,"])
PART = st.one_of(
    JSON,
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT | JSON}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["image_url", "video_url"]), "image_url": URL | JSON, "video_url": URL}
    ),
)
CALL = JSON | st.just({"id": "a", "type": "function", "function": {"name": "abc", "arguments": "{}"}})
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "robot"]),
        "content": TEXT | st.lists(PART) | JSON,
    },
    optional={
        "name": TEXT | JSON,
        "partial": st.booleans() | JSON,
        "reasoning_content": TEXT | JSON,
        "tool_calls": st.lists(CALL, max_size=2) | JSON,
        "tool_call_id": st.just("a") | JSON,
    },
)
KIND = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null", ["null", "string"], "odd"])
SCHEMA = st.recursive(
    st.fixed_dictionaries(
        {"type": KIND | JSON}, optional={"enum": JSON, "minItems": JSON, "minimum": JSON, "maxLength": JSON}
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": KIND,
            "properties": st.dictionaries(st.text(max_size=3), inner, max_size=2) | JSON,
            "required": JSON,
            "items": inner,
            "anyOf": st.lists(inner, max_size=2) | JSON,
            "allOf": st.lists(inner, max_size=2),
            "$ref": st.sampled_from(["#", "#/items", "#/nowhere", "x"]),
        },
    ),
    max_leaves=4,
)
TOOL = JSON | st.fixed_dictionaries(
    {
        "type": st.sampled_from(["function", "builtin_function", "x"]),
        "function": JSON
        | st.fixed_dictionaries(
            {"name": st.sampled_from(["get_weather", "$web_search", "x"]) | JSON},
            optional={"parameters": SCHEMA | JSON},
        ),
    }
)
BODY = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["kimi-k2.6", "kimi-k3", "kimi-k2.7-code", "moonshot-v1-8k", "kimi-k2.5"]),
        "messages": st.just([{"role": "user", "content": "use get_weather, 5 json"}])
        | st.lists(MESSAGE, max_size=3)
        | JSON,
    },
    optional={
        "tools": st.lists(TOOL, max_size=2) | JSON,
        "tool_choice": st.sampled_from(["auto", "none", "required"]) | JSON,
        "thinking": st.sampled_from([{"type": "disabled"}, {"type": "enabled"}]) | JSON,
        "reasoning_effort": JSON,
        "stop": JSON | st.lists(TEXT),
        "n": JSON,
        "temperature": JSON,
        "max_tokens": JSON,
        "stream_options": JSON,
        "response_format": JSON
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["json_object", "json_schema"])},
            optional={"json_schema": st.fixed_dictionaries({"name": st.just("a"), "schema": SCHEMA})},
        ),
    },
)


def answer(body):
    """Return the answer, or the refusal."""
    try:
        completion = read_completion(body, OPTIONS, lambda name: None)
        return build_answer(completion)
    except RefusalError as refusal:
        return refusal


@settings(max_examples=50, deadline=None, database=None)
@given(BODY | JSON)
def test_any_body_is_answered_or_refused(body):
    result = answer(body)
    assert result.status in (400, 404) if isinstance(result, RefusalError) else result.completion_tokens >= 0
