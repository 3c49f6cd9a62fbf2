"""What follows an answer: the calls that the model makes, and a second attempt where it is not the JSON asked for."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from kimi_magics.core.events import DataRead, Event, NextStep
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.errors import ReplyInvalidError, TooManyStepsError
from kimi_magics.notebook.checker import Checker, Problem
from kimi_magics.notebook.toolbox import Toolbox

MAX_STEPS = 8


class Follower:
    """Makes the calls and checks the answer of one reply; see `core.ports.Follow`."""

    def __init__(
        self, *, toolbox: Toolbox | None, checker: Checker | None, retries: int = 0, max_steps: int = MAX_STEPS
    ) -> None:
        self._toolbox, self._checker = toolbox, checker
        self._retries = self._retries_left = retries
        self._calls_left = max_steps - 1
        self._max_steps = max_steps

    def __call__(self, prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
        """Yield what happens; return the next request, or None when the answer is the last.

        Raises ReplyInvalidError and TooManyStepsError.
        """
        # Of a call that was cut at the token limit the arguments are not whole.
        if self._toolbox is not None and reply.step_calls and reply.finish_reason != "length":
            return (yield from self._make_calls(self._toolbox, prompt, reply))
        if self._checker is not None:
            return (yield from self._check(self._checker, prompt, reply))
        return None

    def _make_calls(self, toolbox: Toolbox, prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt]:
        if not self._calls_left:
            names = ", ".join(dict.fromkeys(call.name for call in reply.step_calls))
            made = "; _kimi.calls has those that were made" if reply.calls else ""
            raise TooManyStepsError(
                f"the model still calls {names} in request {reply.steps:,} of at most {self._max_steps:,}",
                remedy=f"allow more with --max-steps, or say in the prompt when it is enough{made}",
            )
        self._calls_left -= 1
        said = reply.step_message
        results = yield from toolbox.answer(reply.step_calls)
        return (yield from _go_on(prompt, (said, *results) if said else results))

    def _check(self, checker: Checker, prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
        try:
            data = checker.check(reply.step_text, finish_reason=reply.finish_reason, is_partial=reply.is_partial)
        except Problem as problem:
            said = reply.step_message
            if not self._retries_left or said is None:
                raise self._give_up(problem) from None
            self._retries_left -= 1
            wish = Message("user", problem.wish)
            return (yield from _go_on(prompt, (said, wish), reason=f"asked again: {problem.message}"))
        yield DataRead(data)
        return None

    def _give_up(self, problem: Problem) -> ReplyInvalidError:
        if not self._retries:
            return ReplyInvalidError(problem.message, remedy=problem.remedy)
        is_used_up = "--retries" in problem.remedy
        remedy = "say more of what is wanted, or choose another model; the reply keeps the text"
        return ReplyInvalidError(
            f"asked {self._retries + 1} times: {problem.message}", remedy=remedy if is_used_up else problem.remedy
        )


def _go_on(prompt: Prompt, messages: tuple[Message, ...], *, reason: str = "") -> Generator[Event, None, Prompt]:
    """Return the request that goes on from `messages`, after what the one before had."""
    yield NextStep(messages, reason)
    # What we had begun of the answer is part of what the model said.
    before = tuple(message for message in prompt.messages if not message.is_partial)
    return replace(prompt, messages=before + messages)
