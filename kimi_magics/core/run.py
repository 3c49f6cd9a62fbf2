"""One call from sending to its end: every event goes into the reply, then to the view.

The promise: whatever happens, the reply holds what arrived and what it probably cost, and the view is told the end.
"""

from __future__ import annotations

from contextlib import closing

from kimi_magics.core.estimate import count_prompt, count_text
from kimi_magics.core.events import UsageReported
from kimi_magics.core.ports import Clock, Transport, View
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights
from kimi_magics.core.usage import Usage
from kimi_magics.errors import CallError, InterruptedReplyError, KimiError


def run(
    prompt: Prompt,
    *,
    reply: Reply,
    transport: Transport,
    view: View,
    clock: Clock,
    weights: Weights = DEFAULT_WEIGHTS,
) -> None:
    """Send `prompt` and fold the events into `reply`; `weights` count what the host did not.

    Raises CallError, with `reply` on it, also for an interrupt.
    """
    started = clock()
    error: KimiError | None = None
    try:
        view.begin(reply)
        with closing(transport.send(prompt)) as events:
            for event in events:
                reply.add(event)
                view.show(reply, event)
    except KeyboardInterrupt:
        error = _interrupted(reply)
        raise error from None
    except KimiError as failure:
        error = failure
        raise
    finally:
        reply.seconds = clock() - started
        _settle(prompt, reply, weights)
        if isinstance(error, CallError):
            error.reply = reply
            error.request_id = error.request_id or reply.request_id
        view.end(reply, error)


def _interrupted(reply: Reply) -> InterruptedReplyError:
    if not reply.has_begun:
        return InterruptedReplyError(
            "interrupted before the answer began",
            remedy="the request may have been billed; run the cell again to ask again",
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
    if reply.has_begun and not reply.has_usage:
        completion = count_text(reply.text, weights) + count_text(reply.thinking, weights)
        reply.add(UsageReported(Usage(count_prompt(prompt, weights), completion, estimated=True)))
