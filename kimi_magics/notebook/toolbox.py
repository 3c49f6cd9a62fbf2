"""Answers the calls of the model, one after the other, with one message for each, whatever the functions do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence

from kimi_magics.core.events import Event, ToolCalled, ToolReturned
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.tools import WEB_SEARCH_NAME, Tool, check_tools
from kimi_magics.errors import ToolError
from kimi_magics.notebook.asking import NobodyToAskError, ask_yes
from kimi_magics.notebook.functions import ArgumentsError, Function
from kimi_magics.notebook.results import Result, cut_text, write_result

#: Says whether a call may be made: True, False, or the user's words to the model for why not.
Confirm = Callable[[ToolCall], bool | str]

# An error says what is wrong in its first lines; some carry a whole page of HTML.
_MOST_ERROR_LETTERS = 2_000
#: The user allows what is seen: code to be run is not hidden in the middle of a question.
_MOST_ASKED_LETTERS = 4_000
NOT_ALLOWED = "the user did not allow this call"


class Toolbox:
    """The functions that the model may call.

    Calls that the model makes at once run one after the other, on the thread that asks: the user's functions touch the
    state of the kernel, figures and widgets, which another thread must not. What they print goes where it always goes.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        *,
        confirm: Confirm | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the functions; `confirm` is asked before each call. Raises PromptError for two of the same name."""
        check_tools([function.tool for function in functions])
        self._functions = {function.tool.name: function for function in functions}
        self._confirm = confirm
        self._clock = clock

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model is told of the functions."""
        return tuple(function.tool for function in self._functions.values())

    def answer(self, calls: Sequence[ToolCall]) -> Generator[Event, None, tuple[Message, ...]]:
        """Run the calls, and return one message for each, in their order: the API refuses a request that lacks one.

        Yields ToolCalled before and ToolReturned after each. What a function raises goes to the model as an error,
        but KeyboardInterrupt goes through, as does what `confirm` raises.
        """
        messages = []
        for call in calls:
            yield ToolCalled(call)
            result, is_error, seconds = self._run(call)
            yield ToolReturned(call, result.text, is_error, seconds, images=len(result.images))
            messages.append(Message("tool", result.text, images=result.images, call_id=call.id, name=call.name))
        return tuple(messages)

    def _run(self, call: ToolCall) -> tuple[Result, bool, float]:
        """Return what the model is told, whether that is an error, and the seconds that the function took."""
        if call.kind == "builtin_function" or call.name == WEB_SEARCH_NAME:
            # The host's own tool runs there; it wants its arguments back as they came.
            return Result(call.arguments if call.arguments.strip() else "{}"), False, 0.0
        function = self._functions.get(call.name)
        if function is None:
            known = ", ".join(self._functions) or "none"
            return _fail(f"there is no tool {call.name[:80]}; the tools are: {known}"), True, 0.0
        allowed = True if self._confirm is None else self._confirm(call)
        if allowed is not True:
            words = allowed.strip() if isinstance(allowed, str) else ""
            return Result(cut_text(f"{NOT_ALLOWED}: {words}" if words else NOT_ALLOWED)[0]), True, 0.0
        start = self._clock()
        try:
            result, is_error = write_result(function.call(call.arguments)), False
        except KeyboardInterrupt:
            raise
        except ArgumentsError as error:
            result, is_error = _fail(str(error)), True
        except BaseException as error:  # noqa: BLE001 — sys.exit() in a function must not end the kernel
            result, is_error = _fail(_write_error(error)), True
        return result, is_error, self._clock() - start


def _write_error(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 — an error of the user's may fail to say what it is
        text = ""
    return f"{name}: {text}" if text else name


def _fail(text: str) -> Result:
    told, is_cut = cut_text(text, _MOST_ERROR_LETTERS)
    return Result(json.dumps({"error": told}, ensure_ascii=False), is_cut=is_cut)


# ---------------------------------------------------------------- asking the user


def ask_user(call: ToolCall) -> bool:
    """Ask below the cell whether a call may be made; only y or yes allows it. Raises ToolError where nobody can answer.

    Interrupting the kernel at the question raises KeyboardInterrupt, as elsewhere.
    """
    try:
        return ask_yes(f"allow {write_call(call)}? [y/N] ")
    except NobodyToAskError as error:
        raise ToolError(
            f"--ask has nobody to ask: {error}", remedy="run it where input() works, or leave out --ask"
        ) from None


def write_call(call: ToolCall) -> str:
    """Return a call as it would be written in Python, on one line: `weather(city='Paris')`."""
    try:
        given = json.loads(call.arguments or "{}")
    except ValueError:
        given = None
    if isinstance(given, dict):
        inner = ", ".join(f"{_write_name(name)}={value!r}" for name, value in given.items())
    else:
        inner = repr(call.arguments)
    if len(inner) > _MOST_ASKED_LETTERS:
        inner = f"{inner[:_MOST_ASKED_LETTERS]} … and {len(inner) - _MOST_ASKED_LETTERS:,} more characters"
    return f"{_write_name(call.name)}({inner})"


def _write_name(name: str) -> str:
    return name if name.replace("-", "_").isidentifier() else repr(name)
