from __future__ import annotations

import json

import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "read_clock"}}
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
PROMPT = "Use get_weather for Paris, 3 days."


def test_a_prompt_that_names_a_tool_calls_it(caller):
    choice = caller.ask(PROMPT, tools=[WEATHER, CLOCK])["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "")
    assert call == {
        "index": 0,
        "id": "get_weather:0",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 3, "unit": "C"}'},
    }


@pytest.mark.parametrize("prompt", ["Get weather, please", "GET_WEATHER!", "please get weather."])
def test_a_tool_may_be_named_in_plain_words(caller, prompt):
    assert caller.message(prompt, tools=[WEATHER])["tool_calls"]


def test_a_prompt_that_names_no_tool_gets_text(caller):
    choice = caller.ask("Forget weathering", tools=[WEATHER])["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert "the tools `get_weather` were offered" in choice["message"]["content"]


def test_two_tools_named_are_both_called(caller):
    calls = caller.message("get_weather and read_clock", tools=[WEATHER, CLOCK])["tool_calls"]
    assert [(call["index"], call["id"]) for call in calls] == [(0, "get_weather:0"), (1, "read_clock:1")]


def test_tool_choice_none_calls_nothing(caller):
    assert "tool_calls" not in caller.message(PROMPT, tools=[WEATHER], tool_choice="none")


def test_tool_choice_required_calls_the_first_tool_on_k3(caller):
    message = caller.message("Hello", model="kimi-k3", tools=[CLOCK, WEATHER], tool_choice="required")
    assert message["tool_calls"][0]["function"] == {"name": "read_clock", "arguments": "{}"}


def test_a_forced_function_is_called_without_thinking(caller):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    message = caller.message("Hello", tools=[CLOCK, WEATHER], tool_choice=choice, thinking={"type": "disabled"})
    assert message["tool_calls"][0]["function"]["name"] == "get_weather"


def read_deltas(events):
    return [delta for event in events for delta in event["choices"][0]["delta"].get("tool_calls", [])]


def test_only_the_first_piece_of_a_call_has_id_type_and_name(caller):
    first, *later = read_deltas(caller.events(PROMPT, tools=[WEATHER]))
    assert first == {
        "index": 0,
        "id": "get_weather:0",
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert len(later) > 1
    assert {(*piece, *piece["function"]) for piece in later} == {("index", "function", "arguments")}


def test_the_pieces_of_calls_join_by_their_index(caller):
    events = caller.events(PROMPT + " read_clock too", tools=[WEATHER, CLOCK])
    joined: dict[int, str] = {}
    for piece in read_deltas(events):
        joined[piece["index"]] = joined.get(piece["index"], "") + piece["function"]["arguments"]
    assert [json.loads(text) for text in joined.values()] == [{"city": "Paris", "days": 3, "unit": "C"}, {}]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def run_tool(caller, tool, result, **parameters):
    user = {"role": "user", "content": PROMPT}
    call = caller.message([user], tools=[tool], **parameters)
    name = call["tool_calls"][0]["id"]
    return [
        user,
        call,
        {"role": "tool", "tool_call_id": name, "content": result or call["tool_calls"][0]["function"]["arguments"]},
    ]


def test_after_the_tool_the_answer_quotes_its_result(caller):
    choice = caller.ask(run_tool(caller, WEATHER, '{"sky": "blue"}'), tools=[WEATHER])["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert '- `get_weather` said: `{"sky": "blue"}`' in choice["message"]["content"]


def test_calls_are_numbered_through_a_conversation(caller):
    messages = [*run_tool(caller, WEATHER, "sunny"), {"role": "user", "content": "get_weather again"}]
    assert caller.message(messages, tools=[WEATHER])["tool_calls"][0]["id"] == "get_weather:1"


def test_the_web_search_is_called_once_and_echoed(caller):
    messages = run_tool(caller, SEARCH, None)
    assert messages[1]["tool_calls"][0]["type"] == "builtin_function"
    assert caller.ask(messages, tools=[SEARCH])["choices"][0]["finish_reason"] == "stop"


def test_what_the_web_search_found_is_billed_as_prompt(caller):
    messages = run_tool(caller, SEARCH, None)
    found = json.loads(messages[-1]["content"])["usage"]["total_tokens"]
    assert caller.ask(messages, tools=[SEARCH])["usage"]["prompt_tokens"] > found > 1_000


def test_calls_are_billed_as_output(caller):
    usage = caller.ask(PROMPT, tools=[WEATHER])["usage"]
    assert usage["completion_tokens"] > usage["completion_tokens_details"]["reasoning_tokens"]


def test_a_limit_too_small_for_the_call_gives_none(caller):
    choice = caller.ask(PROMPT, tools=[WEATHER], max_completion_tokens=90)["choices"][0]
    assert (choice["finish_reason"], "tool_calls" in choice["message"]) == ("length", False)
