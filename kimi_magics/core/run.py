"""One call from sending to its end: every event goes into the reply, then to the view.

A call may take several requests: what follows an answer, as when the model calls a tool, is asked of `Follow`.
The promise: whatever happens, the reply holds what arrived and what it probably cost, and the view is told the end.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from kimi_magics.core.estimate import count_extras, count_prompt, count_text
from kimi_magics.core.events import Completed, Event, TextDelta, UsageReported
from kimi_magics.core.ports import Clock, Follow, Transport, View
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights
from kimi_magics.core.usage import Usage
from kimi_magics.errors import CallError, InterruptedReplyError, KimiError, TooManyStepsError


def run(
    prompt: Prompt,
    *,
    reply: Reply,
    transport: Transport,
    view: View,
    clock: Clock,
    weights: Weights = DEFAULT_WEIGHTS,
    follow: Follow | None = None,
) -> None:
    """Send `prompt`, and what follows from its answer, and fold the events into `reply`.

    `weights` count what the host did not. Raises CallError, with `reply` on it, also for an interrupt.
    """
    started = clock()
    error: KimiError | None = None
    following: Prompt | None = prompt
    try:
        view.begin(reply)
        while following is not None:
            prompt = following
            _fold(_send(prompt, transport), reply, view)
            # A host that tells no usage has billed this step nonetheless.
            _settle(prompt, reply, weights)
            following = _fold(follow(prompt, reply), reply, view) if follow is not None else None
    except KeyboardInterrupt:
        error = _interrupted(reply)
        raise error from None
    except KimiError as failure:
        error = failure
        raise
    finally:
        reply.seconds = clock() - started
        _settle(prompt, reply, weights)
        if isinstance(error, InterruptedReplyError | TooManyStepsError):
            reply.is_partial = True
        if isinstance(error, CallError):
            error.reply = reply
            error.request_id = error.request_id or reply.request_id
        view.end(reply, error)


def _fold(events: Generator[Event, None, Prompt | None], reply: Reply, view: View) -> Prompt | None:
    """Take all events in; return what the generator returns."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                following: Prompt | None = stop.value
                return following
            reply.add(event)
            view.show(reply, event)


def _send(prompt: Prompt, transport: Transport) -> Generator[Event, None, None]:
    """Yield the events of one request; where the answer was begun by us, its beginning comes first."""
    with closing(transport.send(prompt)) as events:
        prefix = prompt.prefix
        if not prefix:
            yield from events
            return
        for event in events:
            # Not before: until something came, nothing of an answer is there.
            if prefix and isinstance(event, TextDelta | Completed):
                yield TextDelta(prefix)
                prefix = ""
            yield event


def _interrupted(reply: Reply) -> InterruptedReplyError:
    if reply.is_waiting and not reply.has_begun:
        return InterruptedReplyError(
            "interrupted while the request waited; nothing was billed", remedy="run the cell again to ask again"
        )
    if reply.is_replayed and reply.steps == 1 and not reply.step_calls:
        return InterruptedReplyError(
            "interrupted while a kept answer was replayed; nothing was sent", remedy="run the cell again for the whole"
        )
    if not reply.has_begun:
        return InterruptedReplyError(
            "interrupted before the answer began",
            remedy="the request may have been billed; run the cell again to ask again",
        )
    if reply.steps > 1 or reply.step_calls:
        return InterruptedReplyError(
            "interrupted between the model and its tools; what was said so far is kept",
            remedy="_kimi.calls holds the calls that were made; run the cell again to start anew",
        )
    if not reply.text:
        return InterruptedReplyError(
            "interrupted while the model was thinking; its tokens are estimated",
            remedy="the reasoning so far is kept as _kimi.thinking; run the cell again for an answer",
        )
    return InterruptedReplyError(
        "interrupted; the answer so far is kept, its tokens are estimated",
        remedy="read it as _kimi.text; run the cell again for the whole answer",
    )


def _settle(prompt: Prompt, reply: Reply, weights: Weights) -> None:
    """Put estimated figures in where the host sent none: a cut stream carries no usage, yet it is billed."""
    if not reply.has_step_begun or reply.has_step_usage:
        return
    completion = count_text(reply.step_text.removeprefix(prompt.prefix), weights)
    completion += count_text(reply.step_thinking, weights)
    completion += sum(count_text(f"{call.name}\n{call.arguments}", weights) for call in reply.step_calls)
    tokens = count_prompt(prompt, weights) + sum(count_extras(prompt, weights).values())
    reply.add(UsageReported(Usage(tokens, completion, estimated=True)))
