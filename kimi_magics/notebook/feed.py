"""What a page is told of a growing reply: small numbered messages, sent from a thread of their own.

The promise: the first piece goes at once; at the speed of a model no text is held longer than 100 ms, also when it
pauses; never more than 20 messages a second; a page that missed one, or came later, gets the whole and goes on from
there. A flood, or a table of many kilobytes, is sent as fast as a small part of a core allows, so that the call itself
is not held up.

A message is a dict: `number`; `patches`, each `[part, block, keep, add]` with a fifth item, true, where a block goes on
with the code of the block before it (`core.live_markdown`); or in their place `all`, the whole state; and `progress`,
the figures so far as text.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from kimi_magics.core.estimate import count_text
from kimi_magics.core.live_markdown import LiveMarkdown

Part = Literal["thinking", "text"]
Message = dict[str, Any]

#: Well below 100 ms, since a busy machine adds to it. Front ends and servers drop messages when there are too many.
INTERVAL_SECONDS = 0.08
#: The part of a core that the live view may take from the call itself.
_SHARE = 0.12
_MOST_CHARACTERS = 8_000
# A page that still loads its module hears nothing: the first messages are repeated while they are small.
_WHOLE_AT = (2, 4, 8, 16)


class ReplyFeed:
    """Sends what is new by `send`.

    `describe` makes the line of figures from the completion tokens so far; `cell` is the id of the cell.
    """

    def __init__(self, send: Callable[[Message], None], *, describe: Callable[[int], str], cell: str = "") -> None:
        self._send = send
        self._describe = describe
        self._cell = cell
        self._started = time.monotonic()
        self._changed = threading.Condition()
        self._pending: deque[tuple[Part, str]] = deque()
        self._is_whole_wanted = False
        self._is_closed = False
        self._is_idle = False
        # What was sent; another thread may ask for it.
        self._state = threading.Lock()
        self._number = 0
        self._parts: dict[Part, LiveMarkdown] = {"thinking": LiveMarkdown(), "text": LiveMarkdown()}
        self._note = ""
        self._tokens = 0
        # The context tells the kernel to which cell the messages belong.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="kimi-reply", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, part: Part, text: str) -> None:
        """Take a piece of the reply; returns at once."""
        # A long answer has tens of thousands of pieces: the lock is taken only where the thread waits for one.
        self._pending.append((part, text))
        if self._is_idle:
            with self._changed:
                self._changed.notify()
        if self._note:
            self.set_note("")

    def set_note(self, note: str) -> None:
        """Show a remark, as a countdown; an empty one takes it away."""
        with self._changed:
            self._note, self._is_whole_wanted = note, True
            self._changed.notify()

    def send_whole(self) -> None:
        """Send the whole state with the next message, for a page that missed one."""
        with self._changed:
            self._is_whole_wanted = True
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what was not sent is dropped, since the whole answer is displayed then."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(5)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as it was last sent, for a page that comes later."""
        with self._state:
            return self._describe_whole()

    def _run(self) -> None:
        while True:
            with self._changed:
                # First said, then looked: a piece is either seen here or comes with a notice.
                self._is_idle = True
                self._changed.wait_for(lambda: self._pending or self._is_whole_wanted or self._is_closed)
                self._is_idle = False
                if self._is_closed:
                    return
                is_whole, self._is_whole_wanted = self._is_whole_wanted, False
                pieces = self._take()
            started, worked = time.monotonic(), time.thread_time()
            self._send(self._advance(pieces, is_whole=is_whole))
            # Its own work: what it waited for others, on a busy machine, must not make it slower still.
            work, passed = time.thread_time() - worked, time.monotonic() - started
            with self._changed:
                pause = max(INTERVAL_SECONDS, work / _SHARE) - passed
                self._changed.wait_for(lambda: self._is_closed, timeout=max(0, pause))

    def _take(self) -> dict[Part, str]:
        taken: dict[Part, list[str]] = {"thinking": [], "text": []}
        length = 0
        while self._pending and length < _MOST_CHARACTERS:
            part, text = self._pending.popleft()
            taken[part].append(text)
            length += len(text)
        return {part: "".join(texts) for part, texts in taken.items() if texts}

    def _advance(self, pieces: dict[Part, str], *, is_whole: bool) -> Message:
        with self._state:
            self._number += 1
            patches: list[list[Any]] = []
            for part, text in pieces.items():
                self._tokens += count_text(text)
                for patch in self._parts[part].add(text):
                    row = [part, patch.block, patch.keep, patch.add]
                    patches.append([*row, True] if patch.is_joined else row)
            if is_whole or self._number in _WHOLE_AT:
                return {"number": self._number, "all": self._describe_whole()}
            return {"number": self._number, "patches": patches, "progress": self._describe(self._tokens)}

    def _describe_whole(self) -> dict[str, Any]:
        """Return the state; `seconds` have passed since the start, each block is `[markdown, is_joined]`."""
        whole: dict[str, Any] = {part: [list(block) for block in live.blocks] for part, live in self._parts.items()}
        return whole | {
            "number": self._number,
            "cell": self._cell,
            "seconds": round(time.monotonic() - self._started, 3),
            "progress": self._describe(self._tokens),
            "note": self._note,
        }
