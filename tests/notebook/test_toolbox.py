"""The calls of the model: one message for each, in order, whatever the functions and the user do."""

from __future__ import annotations

import builtins
import io
import itertools
import json
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import StdinNotImplementedError
from PIL import Image as Pillow

from kimi_magics.core.events import Event, ToolCalled, ToolReturned
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.errors import PromptError, ToolError
from kimi_magics.notebook.functions import find_function
from kimi_magics.notebook.toolbox import Toolbox, ask_user, write_call


def double(number: int) -> int:
    """Double it."""
    return 2 * number


def fail(text: str = "") -> None:
    raise ValueError(text)


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


def draw() -> Any:
    return Pillow.new("RGB", (40, 20), "red")


def nothing() -> None:
    """Do nothing."""


FUNCTIONS = {function.__name__: function for function in (double, fail, leave, interrupt, draw, nothing)}


def toolbox(**options: Any) -> Toolbox:
    # Each look at the clock is a quarter of a second after the last one.
    clock = itertools.count(0, 0.25).__next__
    return Toolbox([find_function(name, FUNCTIONS) for name in FUNCTIONS], clock=clock, **options)


def finish(answers: Generator[Event, None, tuple[Message, ...]]) -> tuple[list[Event], tuple[Message, ...]]:
    """Return what was yielded and what came back."""
    events = []
    while True:
        try:
            events.append(next(answers))
        except StopIteration as end:
            return events, end.value


def call(name: str, arguments: str = "{}", *, id: str = "c1") -> ToolCall:  # noqa: A002 the API's word
    return ToolCall(id, name, arguments)


def text_of(name: str, arguments: str = "{}", **options: Any) -> tuple[str, bool]:
    """Return what the model is told of one call, and whether as an error."""
    events, (message,) = finish(toolbox(**options).answer([call(name, arguments)]))
    returned = events[-1]
    assert isinstance(returned, ToolReturned)
    assert message.text == returned.text
    return returned.text, returned.is_error


def test_calls_are_answered_in_their_order_with_an_event_before_and_after_each() -> None:
    first, second = call("double", '{"number": 4}', id="a"), call("nothing", "", id="b")
    assert finish(toolbox().answer([first, second])) == (
        [
            ToolCalled(first),
            ToolReturned(first, "8", False, 0.25),
            ToolCalled(second),
            ToolReturned(second, "(no value)", False, 0.25),
        ],
        (
            Message("tool", "8", call_id="a", name="double"),
            Message("tool", "(no value)", call_id="b", name="nothing"),
        ),
    )


def test_nothing_runs_before_its_event_was_taken() -> None:
    asked: list[ToolCall] = []
    answers = toolbox(confirm=lambda call: not asked.append(call)).answer([call("nothing")])
    assert next(answers) == ToolCalled(call("nothing"))
    assert asked == []
    next(answers)
    assert asked == [call("nothing")]


def test_the_tools_are_those_of_the_functions() -> None:
    assert [tool.name for tool in toolbox().tools] == list(FUNCTIONS)
    assert toolbox().tools[0].description == "Double it."


def test_two_functions_of_one_name_are_refused() -> None:
    found = find_function("double", FUNCTIONS)
    with pytest.raises(PromptError, match="two tools have the name double"):
        Toolbox([found, found])


def test_a_picture_goes_as_an_image() -> None:
    events, (message,) = finish(toolbox().answer([call("draw")]))
    assert events[1] == ToolReturned(call("draw"), "image 40x20", False, 0.25, images=1)
    assert [(image.width, image.height) for image in message.images] == [(40, 20)]


def test_the_web_search_gets_its_arguments_back_unchanged_and_without_a_question() -> None:
    arguments = '{"search_result": {"search_id": "ä"},  "usage": {}}'
    search = ToolCall("s", "$web_search", arguments, "builtin_function")
    _, messages = finish(toolbox(confirm=lambda _call: False).answer([search]))
    assert messages == (Message("tool", arguments, call_id="s", name="$web_search"),)
    assert text_of("$web_search", arguments) == (arguments, False)
    assert text_of("$web_search", "") == ("{}", False)


def test_what_goes_wrong_is_told_to_the_model_as_an_error() -> None:
    misfit = "Input should be a valid integer, unable to parse string as an integer"
    told = {
        '{"error": "there is no tool triple; the tools are: double, fail, leave, interrupt, draw, nothing"}': (
            "triple",
        ),
        f'{{"error": "the arguments do not fit double: number: {misfit}, not \\"x\\". Its parameters: number"}}': (
            "double",
            '{"number": "x"}',
        ),
        '{"error": "ValueError: no \\"such\\" town"}': ("fail", '{"text": "no \\"such\\" town"}'),
        '{"error": "ValueError"}': ("fail",),
        '{"error": "SystemExit: 3"}': ("leave",),
    }
    assert {text_of(*asked) for asked in told.values()} == {(text, True) for text in told}


def test_an_error_is_told_in_bounds_and_without_keys() -> None:
    told, _ = text_of("fail", json.dumps({"text": "key sk-" + "a" * 40 + " " + "x" * 10_000}))
    assert told.startswith('{"error": "ValueError: key sk-[redacted] xxx')
    assert told.endswith('… cut: 2,000 of 10,060 characters"}')
    assert len(told) < 2_100


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def test_an_error_that_cannot_be_written_is_told_by_its_name() -> None:
    def lose_voice() -> None:
        raise SilentError

    box = Toolbox([find_function("lose_voice", {"lose_voice": lose_voice})])
    _, (message,) = finish(box.answer([call("lose_voice")]))
    assert message.text == '{"error": "SilentError"}'


def test_an_interrupt_goes_through() -> None:
    answers = toolbox().answer([call("interrupt"), call("double", '{"number": 1}')])
    assert next(answers) == ToolCalled(call("interrupt"))
    with pytest.raises(KeyboardInterrupt):
        next(answers)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, ("8", False)),
        (False, ("the user did not allow this call", True)),
        ("", ("the user did not allow this call", True)),
        (" use 5 instead ", ("the user did not allow this call: use 5 instead", True)),
    ],
)
def test_the_user_decides_and_may_say_why(answer: bool | str, told: tuple[str, bool]) -> None:
    assert text_of("double", '{"number": 4}', confirm=lambda _call: answer) == told


def test_the_time_of_the_question_is_not_that_of_the_function() -> None:
    now = [0.0]

    def wait(_call: ToolCall) -> bool:
        now[0] += 60
        return True

    box = Toolbox([find_function("nothing", FUNCTIONS)], confirm=wait, clock=lambda: now[0])
    events, _ = finish(box.answer([call("nothing")]))
    assert events[1] == ToolReturned(call("nothing"), "(no value)", False, 0.0)


def test_what_a_function_prints_goes_where_it_always_goes(capsys: pytest.CaptureFixture[str]) -> None:
    def shout() -> str:
        print("aloud")
        return "done"

    finish(Toolbox([find_function("shout", {"shout": shout})]).answer([call("shout")]))
    assert capsys.readouterr().out == "aloud\n"


CALLS = st.lists(
    st.builds(
        ToolCall,
        id=st.text("abc", min_size=1),
        name=st.sampled_from(["double", "fail", "leave", "nothing", "$web_search", "unknown"]),
        arguments=st.sampled_from(["{}", '{"number": 2}', "", "not json", "[1]"]),
    ),
    max_size=6,
)


@given(CALLS)
def test_every_call_has_one_message_in_its_place(calls: Sequence[ToolCall]) -> None:
    events, messages = finish(toolbox().answer(calls))
    assert [(message.role, message.call_id, message.name) for message in messages] == [
        ("tool", each.id, each.name) for each in calls
    ]
    assert [type(event) for event in events] == [ToolCalled, ToolReturned] * len(calls)


# ---------------------------------------------------------------- asking the user


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put what the user types where input() reads it."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.mark.parametrize(
    ("text", "is_allowed"), [("y\n", True), (" YES \n", True), ("\n", False), ("n\n", False), ("yeah\n", False)]
)
def test_only_yes_allows_a_call(
    typed: Callable[[str], None], capsys: pytest.CaptureFixture[str], text: str, is_allowed: bool
) -> None:
    typed(text)
    assert ask_user(call("weather", '{"city": "Paris"}')) is is_allowed
    assert capsys.readouterr().out == "allow weather(city='Paris')? [y/N] "


def test_where_nobody_can_answer_that_is_said(typed: Callable[[str], None]) -> None:
    typed("")
    with pytest.raises(ToolError) as caught:
        ask_user(call("double"))
    assert str(caught.value) == (
        "--ask has nobody to ask: EOFError: the cell runs without a place to type an answer\n"
        "  → run it where input() works, or leave out --ask"
    )


def test_a_kernel_without_stdin_is_such_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_prompt: str) -> str:
        raise StdinNotImplementedError("raw_input was called, but this frontend does not support input requests.")

    # What ipykernel puts in the place of input().
    monkeypatch.setattr(builtins, "input", refuse)
    with pytest.raises(ToolError, match="--ask has nobody to ask: StdinNotImplementedError"):
        ask_user(call("double"))


@pytest.mark.parametrize(
    ("given_call", "written"),
    [
        (call("weather", '{"city": "Paris", "days": 3, "x y": null}'), "weather(city='Paris', days=3, 'x y'=None)"),
        (call("now", ""), "now()"),
        (call("odd", "not json"), "odd('not json')"),
        (call("odd", "[1]"), "odd('[1]')"),
        (call("run", '{"code": "a\\n\\u001b[2Jb"}'), r"run(code='a\n\x1b[2Jb')"),
        (call("bad\x1b[2J"), r"'bad\x1b[2J'()"),
        (call("run", json.dumps({"code": "x" * 5000})), f"run(code='{'x' * 3994} … and 1,007 more characters)"),
    ],
)
def test_a_call_is_shown_in_full_on_one_line_and_obeyed_by_no_terminal(given_call: ToolCall, written: str) -> None:
    assert write_call(given_call) == written
