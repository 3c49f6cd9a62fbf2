"""What a page is told of a growing reply: small numbered messages, sent from a thread of their own.

The promise: the first piece goes at once; at the speed of a model no text is held longer than 100 ms, also when it
pauses; never more than 20 messages a second; a page that missed one, or came later, gets the whole and goes on from
there. A flood, or a table of many kilobytes, is sent as fast as a small part of a core allows, so that the call itself
is not held up.

A message is a dict: `number`; `patches`, each `[part, block, keep, add]` with a fifth item, true, where a block goes on
with the code of the block before it (`core.live_markdown`); `tools`, where there are any, the rows of tools that are
new or another, each `[place, row]` (`tool_rows.ToolRow`); or in the place of both `all`, the whole state; and
`progress`, the figures so far as text.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kimi_magics.core.estimate import count_text
from kimi_magics.core.live_markdown import LiveMarkdown
from kimi_magics.notebook.tool_rows import MOST_ROWS, ToolRow

Part = Literal["thinking", "text"]
Message = dict[str, Any]
# What waits to be sent, in its order: a piece of a part, text that is counted and not shown, a row of a tool with its
# place, or the beginning of another step.
_Item = (
    tuple[Part, str]
    | tuple[Literal["counted"], str]
    | tuple[Literal["row"], tuple[int, ToolRow]]
    | tuple[Literal["step"]]
)

#: Well below 100 ms, since a busy machine adds to it. Front ends and servers drop messages when there are too many.
INTERVAL_SECONDS = 0.08
#: The part of a core that the live view may take from the call itself.
_SHARE = 0.12
_MOST_CHARACTERS = 8_000
# A page that still loads its module hears nothing: the first messages are repeated while they are small.
_WHOLE_AT = (2, 4, 8, 16)


@dataclass(slots=True)
class _Taken:
    """What goes with one message."""

    parts: dict[Part, list[str]] = field(default_factory=lambda: {"thinking": [], "text": []})
    counted: list[str] = field(default_factory=list)
    rows: dict[int, ToolRow] = field(default_factory=dict)
    is_step: bool = False


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
        self._pending: deque[_Item] = deque()
        self._is_whole_wanted = False
        self._is_closed = False
        self._is_idle = False
        # What was sent; another thread may ask for it.
        self._state = threading.Lock()
        self._number = 0
        self._parts: dict[Part, LiveMarkdown] = {"thinking": LiveMarkdown(), "text": LiveMarkdown()}
        self._rows: dict[int, ToolRow] = {}
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
        self._put((part, text))

    def count(self, text: str) -> None:
        """Take a piece that is not shown, as of a tool's arguments: the figures count it."""
        self._put(("counted", text))

    def set_row(self, place: int, row: ToolRow) -> None:
        """Show what is told of a tool at its place among the others; the latest `MOST_ROWS` are kept."""
        self._put(("row", (place, row)))

    def begin_step(self) -> None:
        """Begin the text anew; what it was is told in a row, if at all."""
        self._put(("step",))

    def _put(self, item: _Item) -> None:
        # A long answer has tens of thousands of pieces: the lock is taken only where the thread waits for one.
        self._pending.append(item)
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
                taken = self._take()
            started, worked = time.monotonic(), time.thread_time()
            self._send(self._advance(taken, is_whole=is_whole))
            # Its own work: what it waited for others, on a busy machine, must not make it slower still.
            work, passed = time.thread_time() - worked, time.monotonic() - started
            with self._changed:
                pause = max(INTERVAL_SECONDS, work / _SHARE) - passed
                self._changed.wait_for(lambda: self._is_closed, timeout=max(0, pause))

    def _take(self) -> _Taken:
        taken = _Taken()
        length = 0
        while self._pending and length < _MOST_CHARACTERS:
            item = self._pending.popleft()
            if item[0] == "row":
                place, row = item[1]
                taken.rows[place] = row
                length += len(row.arguments) + len(row.result)
            elif item[0] == "step":
                taken.counted += taken.parts["text"]
                taken.parts["text"], taken.is_step = [], True
            else:
                (taken.counted if item[0] == "counted" else taken.parts[item[0]]).append(item[1])
                length += len(item[1])
        return taken

    def _advance(self, taken: _Taken, *, is_whole: bool) -> Message:
        with self._state:
            self._number += 1
            patches: list[list[Any]] = []
            if taken.is_step:
                self._parts["text"] = LiveMarkdown()
            self._tokens += count_text("".join(taken.counted))
            for part, texts in taken.parts.items():
                text = "".join(texts)
                self._tokens += count_text(text)
                for patch in self._parts[part].add(text) if text else ():
                    row = [part, patch.block, patch.keep, patch.add]
                    patches.append([*row, True] if patch.is_joined else row)
            self._rows |= taken.rows
            for place in sorted(self._rows)[:-MOST_ROWS]:
                del self._rows[place]
            if is_whole or taken.is_step or self._number in _WHOLE_AT:
                return {"number": self._number, "all": self._describe_whole()}
            tools = {"tools": _describe_rows(taken.rows)} if taken.rows else {}
            return {"number": self._number, "patches": patches, **tools, "progress": self._describe(self._tokens)}

    def _describe_whole(self) -> dict[str, Any]:
        """Return the state; `seconds` have passed since the start, each block is `[markdown, is_joined]`."""
        whole: dict[str, Any] = {part: [list(block) for block in live.blocks] for part, live in self._parts.items()}
        return whole | {
            "number": self._number,
            "cell": self._cell,
            "seconds": round(time.monotonic() - self._started, 3),
            "progress": self._describe(self._tokens),
            "note": self._note,
            "tools": _describe_rows(self._rows),
        }


def _describe_rows(rows: dict[int, ToolRow]) -> list[list[Any]]:
    return [[place, asdict(rows[place])] for place in sorted(rows)]
