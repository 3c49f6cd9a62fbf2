"""What a cell sends, as the whole body of its request: a table of cells, each after those before it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kimi_magics.sandbox import Sandbox

CHAT = "chat/completions"
HELPERS = '''
from dataclasses import dataclass

def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return "21 °C"

@dataclass
class Person:
    name: str
    age: int

place = "Paris"
'''
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "default": 1},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
JSON_WISH = "Answer with one JSON object and nothing else."
WEB = {"type": "builtin_function", "function": {"name": "$web_search"}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def body(*messages: dict[str, Any], model: str = "kimi-k2.6", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": list(messages), "stream": True, **fields}


@dataclass(frozen=True)
class Row:
    cell: str
    body: dict[str, Any]
    #: The sandbox knows no models but Kimi's.
    is_answered: bool = True


ROWS = {
    "plain": Row("%%kimi\nhi", body(user("hi"))),
    "in one line": Row("%kimi -m kimi-k3 --effort low hi", body(user("hi"), model="kimi-k3", reasoning_effort="low")),
    "system, limits": Row(
        "%%kimi -s 'In {{place}}.' --max-tokens 9 --stop END --stop '.' --thinking off\nhi",
        body(
            {"role": "system", "content": "In Paris."},
            user("hi"),
            max_completion_tokens=9,
            stop=["END", "."],
            thinking={"type": "disabled"},
        ),
    ),
    "thinking kept": Row("%%kimi --thinking keep\nhi", body(user("hi"), thinking={"type": "enabled", "keep": "all"})),
    "always thinking": Row(
        "%%kimi -m kimi-k2.7-code --thinking on\nhi",
        body(user("hi"), model="kimi-k2.7-code", thinking={"type": "enabled"}),
    ),
    "json without the word": Row(
        "%%kimi --json\nA person",
        body({"role": "system", "content": JSON_WISH}, user("A person"), response_format={"type": "json_object"}),
    ),
    "json with the word": Row(
        "%%kimi --json\nA person as JSON", body(user("A person as JSON"), response_format={"type": "json_object"})
    ),
    "json beside a system prompt": Row(
        "%%kimi --json -s Brief.\nA person",
        body(
            {"role": "system", "content": f"Brief.\n\n{JSON_WISH}"},
            user("A person"),
            response_format={"type": "json_object"},
        ),
    ),
    "a dataclass": Row(
        "%%kimi --schema Person\nAda, 36",
        body(
            user("Ada, 36"),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "Person", "strict": True, "schema": PERSON},
            },
        ),
    ),
    "the short form": Row(
        "%%kimi --schema 'name, age int'\nAda, 36",
        body(
            user("Ada, 36"),
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "strict": True,
                    "schema": {**PERSON, "additionalProperties": False},
                },
            },
        ),
    ),
    "an answer begun": Row(
        "%%kimi --prefill 'In {{place}}' --name Kelvin\nWhere?",
        body(user("Where?"), {"role": "assistant", "content": "In Paris", "name": "Kelvin", "partial": True}),
    ),
    "a tool": Row("%%kimi --tool weather\nhi", body(user("hi"), tools=[WEATHER])),
    "a tool and the web": Row("%%kimi --tool weather --web\nhi", body(user("hi"), tools=[WEATHER, WEB])),
    "a template": Row(
        "%%kimi -t greet who='{{place}}'\nfrom {{place}}", body(user("Say hello to Paris.\n\nfrom Paris"))
    ),
    "a model of another host": Row(
        "%%kimi -m somebody-s-model --thinking off\nhi",
        body(
            user("hi"),
            model="somebody-s-model",
            thinking={"type": "disabled"},
            stream_options={"include_usage": True},
        ),
        is_answered=False,
    ),
    "not streamed": Row("%%kimi --no-stream\nhi", {"model": "kimi-k2.6", "messages": [user("hi")]}),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_cell_sends_this_body_and_shows_it_before(cells: Any, sandbox: Sandbox, name: str) -> None:
    cells.run(HELPERS)
    cells.run("%kimi_config template.greet='Say hello to {{who}}.'")
    line, _, rest = ROWS[name].cell.partition("\n")
    magic, *flags = line.split(" ", 1)
    shown = cells.run(
        "\n".join([f"{magic} --dry-run {' '.join(flags)}", rest]) if rest else f"%kimi --dry-run {flags[0]}"
    )
    assert not sandbox.requests
    ran = cells.run(ROWS[name].cell)
    sent = next(request.body for request in sandbox.requests if request.path.endswith(CHAT))

    assert (ran.error is None) is ROWS[name].is_answered, ran.shown_error
    assert sent == ROWS[name].body
    assert json.loads(shown.stdout) == sent


def bodies(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [request.body for request in sandbox.requests if request.path.endswith(CHAT)]


def roles(sent: dict[str, Any]) -> list[str]:
    return [message["role"] for message in sent["messages"]]


# ---------------------------------------------------------------- what follows an answer


def test_a_call_of_a_tool_goes_back_with_the_reasoning_that_led_to_it(cells: Any, sandbox: Sandbox) -> None:
    cells.run(HELPERS)
    ran = cells.run("%%kimi --tool weather -o r\nWhat is the weather in Paris?")
    first, second = bodies(sandbox)
    reply = cells["r"]

    assert ran.error is None, ran.shown_error
    assert second["messages"][0] == first["messages"][0]
    called, told = second["messages"][1:]
    assert called["reasoning_content"].startswith("The user wrote")
    assert called["tool_calls"] == [
        {
            "id": "weather:0",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Paris", "days": 1}'},
        }
    ]
    assert told == {"role": "tool", "content": "21 °C", "name": "weather", "tool_call_id": "weather:0"}
    assert (reply.steps, [done.text for done in reply.calls], reply.is_partial) == (2, ["21 °C"], False)
    assert "`weather` said" in reply.text


def test_the_tokens_and_the_cost_are_those_of_all_steps(cells: Any, sandbox: Sandbox) -> None:
    cells.run(HELPERS)
    cells.run("%%kimi --tool weather -o r\nWhat is the weather in Paris?")
    reply = cells["r"]
    billed = [ask_again(sandbox, sent) for sent in bodies(sandbox)]
    assert reply.usage.prompt_tokens == sum(usage["prompt_tokens"] for usage in billed)
    assert reply.usage.completion_tokens == sum(usage["completion_tokens"] for usage in billed)
    assert not reply.usage.estimated
    assert reply.cost == reply.price.cost_of(reply.usage)


def ask_again(sandbox: Sandbox, sent: dict[str, Any]) -> dict[str, int]:
    """Return what the same body is billed, as a client that knows nothing of ours sees it."""
    headers = {"Authorization": "Bearer sandbox"}
    whole = {name: value for name, value in sent.items() if name != "stream"}
    answer = httpx.post(f"{sandbox.base_url}/chat/completions", json=whole, headers=headers, timeout=30)
    return dict(answer.json()["usage"])


def test_a_search_of_the_web_costs_its_fee_and_its_tokens(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi --web -o r\nWhat is new?")
    reply, (_, second) = cells["r"], bodies(sandbox)
    call = second["messages"][1]["tool_calls"][0]

    assert call["type"] == "builtin_function"
    # The arguments go back as they came: the host finds its results by them.
    assert second["messages"][2]["content"] == call["function"]["arguments"]
    assert reply.usage.web_searches == 1
    assert reply.cost == reply.price.cost_of(replace(reply.usage, web_searches=0)) + Decimal("0.005")
    assert reply.usage.prompt_tokens > json.loads(call["function"]["arguments"])["usage"]["total_tokens"]


def test_an_error_of_a_tool_is_told_to_the_model_and_shown(cells: Any, sandbox: Sandbox) -> None:
    cells.run("def broken(a: int):\n    'Fails.'\n    raise ValueError('no such row')")
    ran = cells.run("%%kimi --tool broken -o r\nCall broken with 3")

    assert ran.error is None
    assert json.loads(bodies(sandbox)[1]["messages"][-1]["content"]) == {"error": "ValueError: no such row"}
    assert cells["r"].calls[0].is_error
    assert "ValueError: no such row" in ran.stdout


def test_a_model_that_goes_on_calling_is_stopped(cells: Any, sandbox: Sandbox) -> None:
    cells.run(HELPERS)
    ran = cells.run("%%kimi --tool weather --max-steps 1 -o r\nWhat is the weather in Paris?")

    assert "the model still calls weather in request 1 of at most 1" in ran.shown_error
    assert "--max-steps" in ran.shown_error
    assert (len(bodies(sandbox)), cells["r"].calls, cells["r"].is_partial) == (1, (), True)


def test_the_budget_is_asked_before_each_further_request(cells: Any, sandbox: Sandbox) -> None:
    cells.run("def read():\n    'Read.'\n    return 'many words of a long text ' * 700")
    cells.run("%kimi_budget 0.003")
    ran = cells.run("%%kimi --tool read --thinking off -o r\nread it")

    assert "BudgetError" in ran.shown_error
    assert (len(bodies(sandbox)), len(cells["r"].calls), cells["r"].is_partial) == (1, 1, True)
    assert cells["r"].cost > 0


def test_a_history_that_outgrows_the_context_loses_its_oldest_turns_and_says_so(cells: Any, sandbox: Sandbox) -> None:
    cells.run("long = 'many words of a long text ' * 20_000")
    for name in ("one", "two"):
        cells.run(f"%%kimi -c paper --thinking off --max-tokens 50\n{name} {{{{long}}}}")
    ran = cells.run("%%kimi -c paper --thinking off --max-tokens 50\nthree {{long}}")
    sent = bodies(sandbox)[-1]["messages"]

    assert [message["content"][:5].strip() for message in sent if message["role"] == "user"] == ["two m", "three"]
    assert "the oldest turn of paper was left out, to fit the context" in ran.bundles[0]["text/plain"]


def test_an_image_that_a_tool_returns_is_sent_as_one(cells: Any, sandbox: Sandbox) -> None:
    cells.run("from PIL import Image\ndef plot():\n    'Draw.'\n    return Image.new('RGB', (30, 20), 'red')")
    cells.run("%%kimi --tool plot\nplot it")
    told = bodies(sandbox)[1]["messages"][-1]

    assert [part["type"] for part in told["content"]] == ["image_url", "text"]
    assert told["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_function_that_interrupts_leaves_what_was_said(cells: Any, sandbox: Sandbox) -> None:
    cells.run("def wait():\n    'Wait.'\n    raise KeyboardInterrupt")
    ran = cells.run("%%kimi --tool wait -o r\nwait now")

    assert "interrupted between the model and its tools" in ran.shown_error
    assert (cells["r"].is_partial, cells["r"].step_calls[0].name, len(bodies(sandbox))) == (True, "wait", 1)
    assert cells["r"].usage.prompt_tokens > 0


# ---------------------------------------------------------------- the form of the answer


def test_data_is_an_instance_of_what_was_named(cells: Any, sandbox: Sandbox) -> None:
    cells.run(HELPERS)
    cells.run("%%kimi --schema Person -o r\nThis is Ada, who is 36")
    person = cells["r"].data
    assert (type(person).__name__, person.name, person.age) == ("Person", "Ada", 36)


def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_fault(cells: Any, sandbox: Sandbox) -> None:
    schema = "{'type': 'object', 'properties': {'n': {'type': 'integer', 'not': {'const': 1}}}, 'required': ['n']}"
    cells.run(f"odd = {schema}")
    ran = cells.run("%%kimi --schema odd --retries 2 -o r\nGive it")
    sent = bodies(sandbox)

    assert "ReplyInvalidError: asked 3 times: " in ran.shown_error
    assert [roles(one) for one in sent] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
    ]
    assert "at n" in sent[1]["messages"][-1]["content"] or "n" in sent[1]["messages"][-1]["content"]
    assert (cells["r"].text, cells["r"].data, cells["r"].steps) == ('{"n": 1}', None, 3)


def test_a_cut_answer_says_so_and_is_not_lost(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%%kimi --json --thinking off --max-tokens 3 -o r\nsome json")
    assert "cut at the limit of its tokens" in ran.shown_error
    assert "line 1" in ran.shown_error
    assert cells["r"].text


def test_the_beginning_of_an_answer_is_part_of_it(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%%kimi --prefill 'Once upon' -o r\nTell a story")
    assert cells["r"].text.startswith("Once upon … and so it goes on.")
    assert ran.stdout.startswith("Once upon") or ran.bundles[0]["text/plain"].startswith("Once upon")


# ---------------------------------------------------------------- conversations


def test_a_conversation_sends_what_was_said_and_its_system_prompt_once(cells: Any, sandbox: Sandbox) -> None:
    for cell in ("%%kimi -c paper -s 'Be {{mood}}.'\nOne", "%%kimi -c paper\nTwo", "%%kimi\nAlone"):
        cells.run("mood = 'brief'")
        cells.run(cell)
    first, second, alone = bodies(sandbox)

    assert [message["content"] for message in first["messages"]] == ["Be brief.", "One"]
    assert [message["content"] for message in second["messages"]][:2] == ["Be brief.", "One"]
    assert roles(second) == ["system", "user", "assistant", "user"]
    assert "reasoning_content" not in second["messages"][2]  # this model needs it within a tool loop only
    assert first["prompt_cache_key"] == second["prompt_cache_key"]
    assert alone == body(user("Alone"))


@pytest.mark.parametrize("flags", ["-m kimi-k3", "-m kimi-k2.7-code", "--thinking keep"])
def test_reasoning_goes_back_where_the_model_needs_it(cells: Any, sandbox: Sandbox, flags: str) -> None:
    cells.run(f"%%kimi -c paper {flags} -o r\nOne")
    cells.run(f"%%kimi -c paper {flags}\nTwo")
    assert bodies(sandbox)[1]["messages"][1]["reasoning_content"] == cells["r"].thinking


def test_a_call_that_failed_leaves_no_turn(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%%kimi -c paper\nOne")
    sandbox.fault("quota")
    assert cells.run("%%kimi -c paper\nTwo").error is not None
    cells.run("%%kimi -c paper\nThree")
    assert [message["content"] for message in bodies(sandbox)[-1]["messages"] if message["role"] == "user"] == [
        "One",
        "Three",
    ]


def test_a_hash_of_the_one_who_asks_goes_only_where_it_is_set(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config safety_identifier=ada@example.com")
    cells.run("%%kimi\nhi")
    expected = hashlib.sha256(b"ada@example.com").hexdigest()
    assert bodies(sandbox)[0]["safety_identifier"] == expected


@pytest.mark.parametrize(
    ("cell", "what", "remedy"),
    [
        ("%%kimi --json --schema 'a, b'\nhi", "--json and --schema exclude each other", "leave --json out"),
        ("%%kimi --json --code\nhi", "--code does not go with --json", "leave one of them out"),
        ("%%kimi --retries 2\nhi", "--retries is for --json and --schema", "add one of them"),
        ("%%kimi --ask\nhi", "--ask is for tools", "add --tool NAME"),
        ("%%kimi --max-steps 3\nhi", "--max-steps is for tools", "add --tool NAME"),
        ("%%kimi --name Kelvin\nhi", "--name is for an answer that --prefill begins", "add --prefill"),
        ("%%kimi --json --prefill x\nhi", "--prefill does not go with --json", "leave one of them out"),
        ("%%kimi --schema 'a, b' --prefill x\nhi", "--prefill does not go with --schema", "leave one of them out"),
        ("%%kimi --tool nowhere\nhi", "--tool nowhere", "define it"),
        ("%%kimi --tool weather --tool weather\nhi", "two tools have the name weather", "rename"),
        ("%%kimi -m kimi-k3 --web\nhi", "kimi-k3 cannot search the web", "-m kimi-k2.6"),
        ("%%kimi -c 'a b'\nhi", "'a b' is not a name for a conversation", "shows the flags"),
        ("%%kimi -t nowhere\nhi", "there is no template 'nowhere'", "template"),
        ("%%kimi -t greet\nhi", "-t greet needs who", "-t greet who=…"),
        ("%%kimi -t greet what=3\nhi", "-t greet has no {{what}}", "who"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    cells: Any, sandbox: Sandbox, cell: str, what: str, remedy: str
) -> None:
    cells.run(HELPERS)
    cells.run("%kimi_config template.greet='Say hello to {{who}}.'")
    ran = cells.run(cell)
    assert what in ran.shown_error
    assert remedy in ran.shown_error
    assert not sandbox.requests
