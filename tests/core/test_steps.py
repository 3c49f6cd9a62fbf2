"""A reply of several requests: tools that are called, answers that are asked for again, beginnings of our own."""

from __future__ import annotations

import json
from collections.abc import Generator
from decimal import Decimal
from itertools import count

import pytest

from kimi_magics.core.estimate import count_extras, count_parts, count_prompt
from kimi_magics.core.events import (
    Completed,
    DataRead,
    Event,
    Finished,
    NextStep,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from kimi_magics.core.formats import Format
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.prompt import Prompt, counted_texts
from kimi_magics.core.reply import Reply
from kimi_magics.core.run import run
from kimi_magics.core.tools import WEB_SEARCH, Tool
from kimi_magics.core.usage import Price, Usage
from kimi_magics.core.wire import content_hash, read_chunk, read_completion, request_body
from kimi_magics.errors import InterruptedReplyError, KimiError, PromptError, TooManyStepsError
from kimi_magics.store.catalog import load_catalog

CATALOG = load_catalog()
K26 = CATALOG.get("kimi-k2.6")
WEATHER = Tool("weather", "Tell the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("weather:0", "weather", '{"city": "Paris"}')
ASKED = Message("user", "The weather in Paris?")
PROMPT = Prompt(K26, (ASKED,), tools=(WEATHER,))
CALLING = [
    Started("r1", "kimi-k2.6"),
    ThinkingDelta("I ask."),
    ToolCallDelta(0, "weather:0", "weather", ""),
    ToolCallDelta(0, "", "", '{"city": '),
    ToolCallDelta(0, "", "", '"Paris"}'),
    Finished("tool_calls"),
    UsageReported(Usage(100, 10)),
    Completed(),
]
ANSWERING = [
    Started("r2", "kimi-k2.6"),
    ThinkingDelta("I know."),
    TextDelta("It is sunny."),
    Finished("stop"),
    UsageReported(Usage(130, 5, cached_tokens=96)),
    Completed(),
]
TOLD = Message("tool", "sunny", call_id="weather:0", name="weather")
SAID = Message("assistant", "", thinking="I ask.", calls=(CALL,))


class Host:
    """A transport that plays one script for each request, and remembers the requests."""

    def __init__(self, *scripts: list[Event | BaseException]) -> None:
        self.scripts, self.prompts = list(scripts), []

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        self.prompts.append(prompt)
        for step in self.scripts.pop(0):
            if isinstance(step, BaseException):
                raise step
            yield step


class Watcher:
    """A view that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ends: list[KimiError | None] = []

    def begin(self, reply: Reply) -> None:
        pass

    def show(self, _reply: Reply, event: Event) -> None:
        self.events.append(event)

    def end(self, _reply: Reply, error: KimiError | None) -> None:
        self.ends.append(error)


def call_once(prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
    """Answer the calls that there are."""
    if not reply.step_calls:
        return None
    yield ToolCalled(CALL)
    yield ToolReturned(CALL, "sunny", is_error=False, seconds=0.1)
    said = reply.step_message
    assert said is not None
    yield NextStep((said, TOLD))
    return Prompt(prompt.model, (*prompt.messages, said, TOLD), tools=prompt.tools)


def play(*scripts: list, prompt: Prompt = PROMPT, follow: object = call_once) -> tuple[Reply, Host, Watcher]:
    host, watcher, reply = Host(*scripts), Watcher(), Reply("kimi-k2.6")
    seconds = count()
    clock = lambda: float(next(seconds))  # noqa: E731
    run(prompt, reply=reply, transport=host, view=watcher, clock=clock, follow=follow)  # type: ignore[arg-type]
    return reply, host, watcher


def test_a_reply_of_two_steps_is_one_reply() -> None:
    reply, host, watcher = play(CALLING, ANSWERING)
    assert [prompt.messages for prompt in host.prompts] == [(ASKED,), (ASKED, SAID, TOLD)]
    assert (reply.text, reply.thinking) == ("It is sunny.", "I ask.\n\nI know.")
    assert reply.usage == Usage(230, 15, cached_tokens=96)
    assert (reply.steps, reply.finish_reason, reply.is_partial) == (2, "stop", False)
    assert reply.calls == (ToolReturned(CALL, "sunny", is_error=False, seconds=0.1),)
    assert reply.earlier_messages == (SAID, TOLD)
    assert reply.step_message == Message("assistant", "It is sunny.", thinking="I know.")
    assert watcher.ends == [None]
    assert len(watcher.events) == len(CALLING) + 3 + len(ANSWERING)


def test_the_arguments_of_calls_at_once_are_told_apart_by_their_index() -> None:
    reply = Reply("m")
    for event in (
        ToolCallDelta(1, "b:1", "second", "{"),
        ToolCallDelta(0, "a:0", "first", '{"x"'),
        ToolCallDelta(1, "", "", "}"),
        ToolCallDelta(0, "", "", ": 1}"),
    ):
        reply.add(event)
    assert reply.step_calls == (ToolCall("a:0", "first", '{"x": 1}'), ToolCall("b:1", "second", "{}"))


def test_a_call_without_an_id_gets_one_since_it_could_not_be_answered() -> None:
    reply = Reply("m")
    reply.add(ToolCallDelta(0, "", "weather", "{}"))
    assert reply.step_calls[0].id == "weather:0"


def test_a_step_that_was_cut_is_estimated_and_the_billed_one_before_it_stays() -> None:
    with pytest.raises(InterruptedReplyError) as caught:
        play(CALLING, [Started("r2", None), TextDelta("It is"), KeyboardInterrupt()])
    reply = caught.value.reply
    assert reply is not None
    assert (reply.text, reply.is_partial, reply.usage.estimated) == ("It is", True, True)
    assert reply.usage.prompt_tokens > 100
    assert 10 < reply.usage.completion_tokens < 20


def test_a_host_that_tells_no_usage_is_estimated_step_by_step() -> None:
    silent = [[event for event in script if not isinstance(event, UsageReported)] for script in (CALLING, ANSWERING)]
    reply, host, _ = play(*silent)
    expected = sum(count_prompt(prompt) + sum(count_extras(prompt).values()) for prompt in host.prompts)
    assert (reply.usage.prompt_tokens, reply.usage.estimated) == (expected, True)


def test_an_interrupt_while_a_tool_runs_keeps_what_was_said_and_is_not_whole() -> None:
    def wait(prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
        yield ToolCalled(CALL)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedReplyError, match="between the model and its tools") as caught:
        play(CALLING, follow=wait)
    assert caught.value.reply is not None
    assert (caught.value.reply.is_partial, caught.value.reply.usage) == (True, Usage(100, 10))


def test_a_reply_that_never_ends_its_calls_is_partial() -> None:
    def stop(prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
        yield from ()
        raise TooManyStepsError("too many")

    with pytest.raises(TooManyStepsError) as caught:
        play(CALLING, follow=stop)
    assert caught.value.reply is not None
    assert caught.value.reply.is_partial


def test_the_text_of_an_earlier_step_stays_until_a_later_one_says_something() -> None:
    reply = Reply("m")
    for event in (TextDelta("I look it up."), NextStep(())):
        reply.add(event)
    assert (reply.text, reply.step_text) == ("I look it up.", "")
    reply.add(TextDelta("Found."))
    assert reply.text == "Found."


def test_the_data_that_was_read_is_on_the_reply() -> None:
    reply = Reply("m")
    assert reply.data is None
    reply.add(DataRead({"a": 1}))
    assert reply.data == {"a": 1}


def test_each_search_of_the_web_costs_its_fee_and_an_unknown_fee_makes_the_cost_unknown() -> None:
    def search(price: Price) -> Reply:
        reply = Reply("m", find_price=lambda: price)
        call = ToolCall("$web_search:0", "$web_search", "{}", "builtin_function")
        for event in (
            UsageReported(Usage(1_000_000, 0)),
            ToolCalled(call),
            ToolReturned(call, "{}", is_error=False, seconds=0.0),
            NextStep(()),
            UsageReported(Usage(1_000_000, 0)),
        ):
            reply.add(event)
        return reply

    known = search(Price(Decimal(2), Decimal(8), web_search=Decimal("0.005")))
    assert (known.usage, known.cost) == (Usage(2_000_000, 0, web_searches=1), Decimal("4.005"))
    assert search(Price(Decimal(2), Decimal(8))).cost is None


# ---------------------------------------------------------------- the beginning of an answer


def test_what_was_begun_is_joined_to_what_follows() -> None:
    prompt = Prompt(K26, (ASKED, Message("assistant", "It is", is_partial=True)))
    reply, _, watcher = play([Started("r", None), TextDelta(" sunny."), Completed()], prompt=prompt, follow=None)
    assert reply.text == "It is sunny."
    assert watcher.events[1:3] == [TextDelta("It is"), TextDelta(" sunny.")]


def test_of_an_answer_that_ends_at_once_the_beginning_is_there() -> None:
    prompt = Prompt(K26, (ASKED, Message("assistant", "It is", is_partial=True)))
    reply, _, _ = play([Started("r", None), Finished("stop"), Completed()], prompt=prompt, follow=None)
    assert reply.text == "It is"


def test_what_we_had_begun_is_not_counted_as_the_model_s() -> None:
    begun = "a long beginning of an answer that nobody generated " * 20
    prompt = Prompt(K26, (ASKED, Message("assistant", begun, is_partial=True)))
    reply, _, _ = play([TextDelta("yes"), Completed()], prompt=prompt, follow=None)
    assert (reply.usage.completion_tokens, reply.usage.estimated) == (1, True)


# ---------------------------------------------------------------- on the wire


def test_pieces_of_calls_are_read_from_a_stream() -> None:
    first = {"index": 1, "id": "a:1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    later = {"index": 1, "id": None, "type": None, "function": {"name": None, "arguments": '{"c"'}}

    def read(call: dict) -> list[Event]:
        return list(read_chunk(json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()))

    assert read(first) == [ToolCallDelta(1, "a:1", "weather", "")]
    assert read(later) == [ToolCallDelta(1, "", "", '{"c"')]


def test_text_beside_a_call_is_not_lost() -> None:
    delta = {"content": "I ask.", "tool_calls": [{"index": 0, "id": "a:0", "function": {"name": "ask"}}]}
    events = list(read_chunk(json.dumps({"choices": [{"delta": delta}]}).encode()))
    assert events == [TextDelta("I ask."), ToolCallDelta(0, "a:0", "ask", "")]


def test_calls_of_a_whole_reply_have_their_place_as_index() -> None:
    calls = [
        {"id": "a:0", "type": "function", "function": {"name": "ask", "arguments": "{}"}},
        {"id": "w:1", "type": "builtin_function", "function": {"name": "$web_search", "arguments": "{}"}},
    ]
    body = {"id": "r", "choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    assert list(read_completion(json.dumps(body).encode())) == [
        Started("r", None),
        ToolCallDelta(0, "a:0", "ask", "{}"),
        ToolCallDelta(1, "w:1", "$web_search", "{}", is_builtin=True),
        Finished("tool_calls"),
        Completed(),
    ]


HISTORY = (Message("user", "One"), Message("assistant", "1", thinking="So."), Message("user", "Two"))


@pytest.mark.parametrize(
    ("model", "thinking", "is_sent"),
    [
        ("kimi-k3", None, True),
        ("kimi-k2.7-code", None, True),
        ("kimi-k2.6", None, False),
        ("kimi-k2.6", "keep", True),
        ("somebody-s-model", None, False),
    ],
)
def test_reasoning_of_earlier_turns_goes_back_where_it_is_needed(model: str, thinking: None, is_sent: bool) -> None:
    prompt = Prompt(CATALOG.get(model), HISTORY, thinking=thinking)
    sent = request_body(prompt)["messages"][1]
    assert sent == {"role": "assistant", "content": "1"} | ({"reasoning_content": "So."} if is_sent else {})
    assert ("So." in counted_texts(prompt)[1]) is is_sent


@pytest.mark.parametrize("model", ["kimi-k2.6", "kimi-k3", "somebody-s-model"])
def test_within_a_tool_loop_every_model_gets_its_reasoning_back(model: str) -> None:
    sent = request_body(Prompt(CATALOG.get(model), (ASKED, SAID, TOLD), tools=(WEATHER,)))["messages"]
    assert sent[1]["reasoning_content"] == "I ask."


def test_only_hosts_that_are_known_to_mean_it_so_get_a_strict_schema() -> None:
    def sent(model: str) -> dict:
        prompt = Prompt(CATALOG.get(model), (ASKED,), format=Format({"type": "object"}, "answer"))
        return request_body(prompt)["response_format"]["json_schema"]

    assert sent("kimi-k2.6")["strict"] is True
    assert "strict" not in sent("somebody-s-model")


@pytest.mark.parametrize(("model", "is_sent"), [("kimi-k2.6", True), ("somebody-s-model", False)])
def test_the_key_for_the_cache_goes_only_to_models_that_are_known_to_have_one(model: str, is_sent: bool) -> None:
    body = request_body(Prompt(CATALOG.get(model), (ASKED,), cache_key="k"))
    assert body.get("prompt_cache_key") == ("k" if is_sent else None)


# ---------------------------------------------------------------- counted


def test_tools_and_schema_are_counted_apart_from_what_the_endpoint_counts() -> None:
    bare, full = Prompt(K26, (ASKED,)), Prompt(K26, (ASKED,), tools=(WEATHER,), format=Format({"type": "object"}))
    assert count_parts(full) == count_parts(bare)
    assert content_hash(full) == content_hash(bare)
    assert count_extras(bare) == {}
    assert set(count_extras(full)) == {"tools", "schema"}
    assert count_extras(full)["tools"] > 10


def test_what_was_called_and_thought_counts_as_history() -> None:
    parts = count_parts(Prompt(K26, (ASKED, SAID, TOLD), tools=(WEATHER,)))
    assert parts["history"] > 5
    assert content_hash(Prompt(K26, (ASKED, SAID, TOLD))) != content_hash(Prompt(K26, (ASKED,)))


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": tuple(Tool(f"tool_{number}") for number in range(129))}, "129 tools were given"),
        ({"tools": (WEATHER, WEATHER)}, "two tools have the name weather"),
        ({"tools": (Tool("ab"),)}, "'ab' cannot be the name of a tool"),
        ({"tools": (Tool("wetter-für-alle"),)}, "cannot be the name of a tool"),
    ],
)
def test_what_the_api_refuses_of_tools_is_refused_here(fields: dict, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Prompt(K26, (ASKED,), **fields)


def test_128_tools_and_the_shortest_name_are_allowed() -> None:
    Prompt(K26, (ASKED,), tools=tuple(Tool(f"tool_{number}") for number in range(128)))
    Prompt(K26, (ASKED,), tools=(Tool("abc"), WEB_SEARCH))


@pytest.mark.parametrize("model", ["kimi-k3", "kimi-k2.7-code"])
def test_models_without_web_search_are_not_offered_it(model: str) -> None:
    with pytest.raises(PromptError, match="cannot search the web"):
        Prompt(CATALOG.get(model), (ASKED,), tools=(WEB_SEARCH,))


@pytest.mark.parametrize(("form", "flag"), [(Format(), "--json"), (Format({"type": "object"}), "--schema")])
def test_json_is_not_begun_by_us(form: Format, flag: str) -> None:
    with pytest.raises(PromptError, match=f"--prefill does not go with {flag}"):
        Prompt(K26, (ASKED, Message("assistant", "{", is_partial=True)), format=form)


def test_a_call_reads_as_what_was_called_and_what_came() -> None:
    done = ToolReturned(CALL, "sunny " * 50, is_error=True, seconds=0.25)
    assert (done.name, done.arguments) == ("weather", {"city": "Paris"})
    assert ToolReturned(ToolCall("a", "b", "{broken"), "", is_error=False, seconds=0).arguments == "{broken"
    assert len(repr(done)) < 200
    assert "failed" in repr(done)


def test_why_an_answer_was_asked_for_again_is_kept() -> None:
    reply = Reply("m")
    for event in (NextStep(()), NextStep((), "asked again: no JSON")):
        reply.add(event)
    assert (reply.remarks, reply.steps) == (("asked again: no JSON",), 3)
