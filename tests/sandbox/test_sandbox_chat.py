from __future__ import annotations

import json

import pytest

from kimi_magics.sandbox import Fault, SandboxOptions

MODELS = [
    "kimi-k2.6",
    "kimi-k2.7-code",
    "kimi-k2.7-code-highspeed",
    "kimi-k3",
    "kimi-k3.1-pro",
    "kimi-k3.1-pro-highspeed",
]


@pytest.mark.parametrize("model", MODELS)
def test_each_live_model_answers(caller, model):
    answer = caller.ask(model=model)
    assert (answer["object"], answer["model"]) == ("chat.completion", model)
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_an_answer_says_where_it_comes_from_and_quotes_the_prompt(caller):
    text = caller.text("Explain why the sky is blue.\nUse two lines.")
    assert "Sandbox answer: no model was called" in text
    assert "> `Explain why the sky is blue. Use two lines.`" in text
    assert "| words | 9 |\n| lines | 2 |\n| characters | 43 |" in text


@pytest.mark.parametrize("piece", ["## ", "\n- ", "|:--|", "```python\n", "$$\\bar{w}"])
def test_an_answer_shows_what_markdown_can_do(caller, piece):
    assert piece in caller.text()


def test_an_answer_quotes_the_system_message(caller):
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Hello, who are you?"}]
    assert "the system message begins `You are terse.`" in caller.text(messages)


@pytest.mark.parametrize("prompt", ["Say it in one sentence.", "Explain tokens briefly", "用一句话解释"])
def test_a_prompt_for_one_sentence_gets_one(caller, prompt):
    text = caller.text(prompt)
    assert text.startswith("Sandbox answer: no model was called;")
    assert "\n" not in text


def test_a_prompt_for_one_word_gets_one(caller):
    assert caller.text("Name it in one word") == "Sandbox"


def test_half_a_surrogate_pair_does_no_harm(caller):
    content = b'{"model":"kimi-k2.6","messages":[{"role":"user","content":"x \\ud83d y"}]}'
    assert caller.http.post("/chat/completions", content=content).status_code == 200


def test_the_same_request_gets_the_same_answer(caller):
    assert caller.message("Once more?") == caller.message("Once more?")


def test_a_stream_says_the_same_as_one_object(caller):
    deltas = [event["choices"][0]["delta"] for event in caller.events("Twice?")]
    joined = {
        "role": "assistant",
        "content": "".join(delta.get("content", "") for delta in deltas),
        "reasoning_content": "".join(delta.get("reasoning_content", "") for delta in deltas),
    }
    assert joined == caller.message("Twice?")


def test_the_role_stands_in_the_first_chunk_only(caller):
    deltas = [event["choices"][0]["delta"] for event in caller.events()]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert not any("role" in delta for delta in deltas[1:])


def test_reasoning_comes_before_content(caller):
    kinds = [next(iter(event["choices"][0]["delta"]), None) for event in caller.events()[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning_content", "content"}


def test_all_chunks_of_a_stream_share_one_id(caller):
    events = caller.events()
    assert len({event["id"] for event in events}) == 1
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


def find_usage(events):
    """Return the places in which a stream carries usage, with the number of the event counted from the end."""
    places = {}
    for position, event in enumerate(events, -len(events)):
        if "usage" in event:
            places[position, "event", bool(event["choices"])] = event["usage"]
        if any("usage" in choice for choice in event["choices"]):
            places[position, "choice", True] = event["choices"][0]["usage"]
    return places


@pytest.mark.parametrize(
    ("place", "found"),
    [("choice", (-1, "choice", True)), ("chunk", (-1, "event", True)), ("extra", (-1, "event", False))],
)
def test_usage_stands_where_the_option_says(serve, place, found):
    places = find_usage(serve(SandboxOptions(usage_place=place)).events())
    assert list(places) == [found]


def test_include_usage_adds_a_chunk_without_choices(caller):
    places = find_usage(caller.events(stream_options={"include_usage": True}))
    assert list(places) == [(-2, "choice", True), (-1, "event", False)]
    assert len({json.dumps(usage) for usage in places.values()}) == 1


def test_a_stream_bills_what_one_object_bills(caller):
    (streamed,) = find_usage(caller.events("Bill me")).values()
    assert streamed == caller.ask("Bill me")["usage"]


def test_usage_adds_up(caller):
    usage = caller.ask()["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]


def test_thinking_can_be_disabled_on_k2_6(caller):
    answer = caller.ask(thinking={"type": "disabled"})
    assert "reasoning_content" not in answer["choices"][0]["message"]
    assert "completion_tokens_details" not in answer["usage"]


def test_k3_thinks_longer_with_more_effort(caller):
    lengths = [
        len(caller.message(model="kimi-k3", reasoning_effort=effort)["reasoning_content"])
        for effort in ("low", "high", "max")
    ]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
def test_a_limit_cuts_the_answer(caller, name):
    answer = caller.ask(**{name: 120})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 120


def test_reasoning_can_eat_the_whole_limit(caller):
    choice = caller.ask(max_completion_tokens=8)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
    assert choice["message"]["reasoning_content"]


def test_a_stop_word_ends_the_answer_before_it(caller):
    whole = caller.text()
    choice = caller.ask(stop=["never there", "###"])["choices"][0]
    assert choice == {
        "index": 0,
        "message": {**choice["message"], "content": whole[: whole.index("###")]},
        "finish_reason": "stop",
    }


def test_a_single_stop_word_may_be_a_string(caller):
    assert caller.text(stop="## ") == ""


def test_a_partial_message_is_continued_and_not_repeated(caller):
    beginning = {"role": "assistant", "content": "Once upon a time", "partial": True}
    text = caller.text([{"role": "user", "content": "A tale, please"}, beginning])
    assert "Once upon" not in text
    assert "the beginning had 16 characters" in text


def test_json_mode_gives_an_object(caller):
    value = json.loads(caller.text("Give me JSON, now", response_format={"type": "json_object"}))
    assert value["words"] == 4
    assert value["note"] == "Sandbox answer: no model was called"


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "number"},
        "rank": {"type": "integer", "minimum": 3, "maximum": 5},
        "sky": {"enum": ["grey", "blue"]},
        "is_warm": {"type": "boolean"},
        "next": {"type": "array", "items": {"$ref": "#/$defs/day"}, "minItems": 2},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["city"],
    "$defs": {"day": {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}}},
}


def test_structured_output_satisfies_its_schema(caller):
    shape = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": SCHEMA}}
    assert json.loads(caller.text("The weather in New York: 21.5 degrees, blue sky", response_format=shape)) == {
        "city": "New York",
        "degrees": 21.5,
        "rank": 5,
        "sky": "blue",
        "is_warm": True,
        "next": [{"day": "2026-11-22"}, {"day": "2026-11-22"}],
        "note": None,
    }


def test_a_schema_that_holds_itself_comes_to_an_end(caller):
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    shape = {"type": "json_schema", "json_schema": {"name": "list", "schema": schema}}
    assert isinstance(json.loads(caller.text("A list", response_format=shape)), dict)


def test_n_gives_several_choices_on_a_model_that_takes_it(serve):
    caller = serve(SandboxOptions(revived=("moonshot-v1-8k",)))
    body = {"model": "moonshot-v1-8k", "n": 3, "temperature": 0.3}
    assert [choice["index"] for choice in caller.ask(**body)["choices"]] == [0, 1, 2]
    assert {event["choices"][0]["index"] for event in caller.events(**body)} == {0, 1, 2}


def test_a_long_beginning_seen_before_is_reported_as_cached(caller):
    system = {"role": "system", "content": "A rule that is long enough to be kept. " * 60}
    first = caller.ask([system, {"role": "user", "content": "one"}])["usage"]
    again = caller.ask([system, {"role": "user", "content": "two"}])["usage"]
    assert "cached_tokens" not in first
    assert again["cached_tokens"] == again["prompt_tokens_details"]["cached_tokens"] >= 256
    assert again["cached_tokens"] % 64 == 0


def test_a_short_beginning_is_never_cached(caller):
    caller.ask("short")
    assert "cached_tokens" not in caller.ask("short")["usage"]


def test_k3_states_what_it_wrote_to_the_cache(caller):
    details = caller.ask("word " * 300, model="kimi-k3")["usage"]["prompt_tokens_details"]
    assert details == {"cache_write_tokens": 256}


def test_replay_sends_the_pieces_as_they_are(serve):
    pieces = (b"data: {\xc3", b"", b"\xa9}\r\n", b": comment\r\n\r\n", b"data: [DONE]\r\n\r\n")
    assert serve(SandboxOptions(replay=pieces)).post(stream=True).content == b"".join(pieces)


def test_a_fault_s_delay_paces_a_replay(serve):
    caller = serve(SandboxOptions(replay=(b"data: {}\n\n",) * 10))
    caller.fault(Fault(chunk_delay_seconds=0.03))
    assert caller.post(stream=True).elapsed.total_seconds() > 0.29


def test_a_rate_of_tokens_paces_the_answer(serve):
    caller = serve(SandboxOptions(tokens_per_second=200))
    answer = caller.post("one word", stream=True, max_completion_tokens=40)
    assert 0.15 < answer.elapsed.total_seconds() < 5
