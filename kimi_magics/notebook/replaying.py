"""Calls whose answers may be kept: each of their requests is replayed, or put aside for in the budgets and sent.

The promise: what is replayed needs no key, no network and no budget; what is kept was answered whole, by a call that
ended well, and by no answer that a budget cut short.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace

from kimi_magics.core.ask import Ask
from kimi_magics.core.events import Completed, Event, Replayed
from kimi_magics.core.ports import Follow, Transport
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.recording import Recorder, Recording
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Usage
from kimi_magics.core.wire import replay_key
from kimi_magics.notebook.spending import Booking, note_limit
from kimi_magics.store.replays import Replays
from kimi_magics.store.replays_values import Answer


@dataclass(frozen=True, slots=True)
class Recall:
    """Whether a call may be answered from what is kept, and whether its own answer is kept."""

    replays: bool = False
    keeps: bool = False

    @property
    def is_on(self) -> bool:
        """Whether what is kept has any part in the call."""
        return self.replays or self.keeps


NO_RECALL = Recall()


def choose_recall(ask: Ask, mode: str) -> Recall:
    """Return what the flags make of the setting `cache`."""
    mode = "on" if ask.cache else mode
    return Recall(replays=mode != "off" and not ask.fresh, keeps=mode == "on")


class Replayer:
    """The answers that are kept, as one call sees them; `site` names the host."""

    def __init__(self, replays: Replays, recall: Recall, *, site: str) -> None:
        self._replays, self._recall, self._site = replays, recall, site
        self._key = ""
        self._answer: Answer | None = None
        self._recorded: list[tuple[str, Recording]] = []

    def find(self, prompt: Prompt) -> bool:
        """Tell whether the answer to the next request is kept; `prompt` is as the user asked for it."""
        if not self._recall.is_on:
            return False
        self._key = replay_key(prompt, site=self._site)
        self._answer = self._replays.find(self._key, is_use=self._recall.keeps) if self._recall.replays else None
        return self._answer is not None

    def send(
        self, prompt: Prompt, transport: Transport | None, *, is_limited: Callable[[], bool]
    ) -> Generator[Event, None, None]:
        """Yield the events of the request that was looked for: replayed, or sent by `transport` and recorded."""
        answer, self._answer = self._answer, None
        if answer is not None:
            yield answer.first
            yield from answer.pieces
            yield Completed()
            return
        assert transport is not None  # noqa: S101 — what is not kept was admitted
        if not self._recall.keeps:
            yield from transport.send(prompt)
            return
        key, recorder = self._key, Recorder()
        with closing(transport.send(prompt)) as events:
            for event in events:
                recorder.add(event)
                yield event
        recording = recorder.take()
        # Who asks again without that budget shall get the whole answer.
        if recording is not None and not (recording.finish_reason == "length" and is_limited()):
            self._recorded.append((key, recording))

    def keep(self, reply: Reply) -> None:
        """Keep what was recorded of a call that ended well."""
        for key, recording in self._recorded:
            usage = recording.usage or (reply.usage if reply.steps == 1 else Usage(estimated=True))
            price = reply.price
            is_priced = price is not None and usage.total_tokens > 0 and price.covers(usage)
            cost = price.cost_of(usage) if price is not None and is_priced else None
            first = Replayed(usage, cost, reply.currency, self._replays.today)
            answer = Answer(key, recording.pieces, first)
            self._replays.put(answer, recording.encode(), host=self._site, model=reply.model)


class Calling:
    """One call under way; a `core.ports.Transport` for its requests.

    `book` and `extend` put aside what a request may take, `connect` returns what sends it; all of them only where its
    answer is not kept.
    """

    def __init__(
        self,
        reply: Reply,
        replayer: Replayer,
        *,
        book: Callable[[Prompt], Booking],
        extend: Callable[[Prompt, Booking], object],
        connect: Callable[[Prompt, Booking], Transport],
    ) -> None:
        self._reply, self._replayer = reply, replayer
        self._book, self._extend, self._connect = book, extend, connect
        self._transport: Transport | None = None
        self._booking: Booking | None = None

    def admit(self, prompt: Prompt) -> Prompt:
        """Return what is sent of a request, limited by the budgets; as it is when its answer is kept.

        Raises RefusedError.
        """
        if self._replayer.find(prompt):
            return prompt
        if self._booking is None:
            self._booking = self._book(prompt)
            self._transport = self._connect(prompt, self._booking)
        else:
            self._extend(prompt, self._booking)
        note_limit(self._reply, self._booking)
        return self._booking.prompt

    def guard(self, follow: Follow, *, max_tokens: int | None) -> Follow:
        """Return `follow` with the checks of a first request before every further one, which may have `max_tokens`."""

        def guarded(prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
            following = yield from follow(prompt, reply)
            # What the budgets took from the request before is not what the user asked for.
            return None if following is None else self.admit(replace(following, max_tokens=max_tokens))

        return guarded

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Yield the events of an admitted request. Raises CallError."""
        return self._replayer.send(prompt, self._transport, is_limited=lambda: bool(self._reply.limit_note))

    def settle(self, error: BaseException | None) -> None:
        """Write down what was billed; of what was refused or only replayed there is nothing to write."""
        if self._booking is not None:
            self._booking.settle(self._reply, error)
