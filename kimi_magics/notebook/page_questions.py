"""What the kernel asks its pages while a cell waits for the answer.

A question goes to every page; the first that has something answers it. A page sends its answer in pieces, since servers
take no large message. Pages answer on a subshell, while the thread that asks waits. A page that was closed without a
word is silent: then others are called, and from then on that one is asked, but not waited for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

#: How long a page may be silent; the answer itself may take longer, piece by piece.
WAIT_SECONDS = 3.0
#: When nothing has been heard by then, the pages that are known may be gone.
_CALL_SECONDS = 0.5


@dataclass(slots=True)
class _Question:
    """A question that is open, and what came of its answers."""

    message: Message
    #: The pages that are waited for.
    awaited: set[str] = field(default_factory=set)
    pieces: dict[str, dict[int, str]] = field(default_factory=dict)
    #: The first answer that holds something, else the last one; None as long as there is none.
    answer: Any = None

    @property
    def heard(self) -> int:
        """How many pieces have come."""
        return sum(map(len, self.pieces.values()))

    @property
    def is_done(self) -> bool:
        return bool(self.answer) or (self.answer is not None and not self.awaited)


class PageQuestions:
    """Asks the `pages` that there are; `call` calls those that have not come yet, and tells whether some may come."""

    def __init__(self, pages: Callable[[], Iterable[Any]], *, call: Callable[[], bool]) -> None:
        self._pages = pages
        self._call = call
        self._open: dict[int, _Question] = {}
        self._silent: set[str] = set()
        self._number = 0
        self._changed = threading.Condition()

    def ask(self, question: Mapping[str, Any], *, wait_seconds: float = WAIT_SECONDS) -> Any:
        """Return the answer of a page: the first one that holds something. None when no page answers."""
        pages = list(self._pages())
        with self._changed:
            self._silent &= {page.comm_id for page in pages}
            self._number += 1
            number = self._number
            asked = self._open[number] = _Question({**question, "number": number})
        try:
            for page in pages:
                self._put(asked, page)
            if asked.awaited:
                self._hear(asked, 0, min(_CALL_SECONDS, wait_seconds))
            if not asked.heard and not self._call() and not asked.awaited:
                return None
            heard = asked.heard
            # Each piece is a sign of life.
            while not asked.is_done and self._hear(asked, heard, wait_seconds):
                heard = asked.heard
            return asked.answer
        finally:
            with self._changed:
                self._silent |= asked.awaited
                del self._open[number]

    def _hear(self, asked: _Question, heard: int, seconds: float) -> bool:
        """Wait for more pieces than were `heard` before; return whether one came."""
        with self._changed:
            return self._changed.wait_for(lambda: asked.is_done or asked.heard > heard, timeout=seconds)

    def _put(self, asked: _Question, page: Any) -> None:
        with self._changed:
            if page.comm_id not in self._silent:
                asked.awaited.add(page.comm_id)
        page.send(asked.message)

    def welcome(self, page: Any) -> None:
        """Ask a page that has just come what is being asked."""
        with self._changed:
            waiting = list(self._open.values())
        for asked in waiting:
            self._put(asked, page)

    def take(self, page: Any, data: Mapping[str, Any]) -> None:
        """Take a piece of an answer; `data` holds its number, `index`, `count` and `piece`, of JSON."""
        with self._changed:
            self._silent.discard(page.comm_id)
            asked = self._open.get(data["number"])
            if asked is None:
                return
            pieces = asked.pieces.setdefault(page.comm_id, {})
            pieces[data["index"]] = data["piece"]
            if len(pieces) == data["count"]:
                asked.awaited.discard(page.comm_id)
                asked.answer = asked.answer or _read("".join(pieces[index] for index in sorted(pieces)))
            self._changed.notify_all()


def _read(text: str) -> Any:
    try:
        return json.loads(text) or []
    except ValueError:
        return []
