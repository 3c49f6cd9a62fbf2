"""What the kernel asks its pages while a cell waits for the answer.

A question goes to every page; the first that has something answers it. A page sends its answer in pieces, since servers
take no large message. Pages answer on a subshell, while the thread that asks waits.
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


@dataclass(slots=True)
class _Question:
    """A question that is open, and what came of its answers."""

    message: Message
    #: The pages that have yet to answer.
    asked: set[str] = field(default_factory=set)
    pieces: dict[str, dict[int, str]] = field(default_factory=dict)
    #: The first answer that holds something, else the last one; None as long as there is none.
    answer: Any = None

    @property
    def is_done(self) -> bool:
        return bool(self.answer) or (self.answer is not None and not self.asked)


class PageQuestions:
    """Asks the `pages` that there are; where there is none, `greet` may call one."""

    def __init__(self, pages: Callable[[], Iterable[Any]], *, greet: Callable[[], bool]) -> None:
        self._pages = pages
        self._greet = greet
        self._open: dict[int, _Question] = {}
        self._number = 0
        self._changed = threading.Condition()

    def ask(self, question: Mapping[str, Any], *, wait_seconds: float = WAIT_SECONDS) -> Any:
        """Return the answer of a page: the first one that holds something. None when no page answers."""
        with self._changed:
            self._number += 1
            number = self._number
            asked = self._open[number] = _Question({**question, "number": number})
        try:
            pages = list(self._pages())
            for page in pages:
                self._put(asked, page)
            if not pages and not self._greet():
                return None
            return self._wait(asked, wait_seconds)
        finally:
            with self._changed:
                del self._open[number]

    def _wait(self, asked: _Question, wait_seconds: float) -> Any:
        with self._changed:
            heard = -1
            # Each piece is a sign of life.
            while not asked.is_done and heard != (heard := sum(map(len, asked.pieces.values()))):
                self._changed.wait_for(lambda: asked.is_done, timeout=wait_seconds)
            return asked.answer

    def _put(self, asked: _Question, page: Any) -> None:
        with self._changed:
            asked.asked.add(page.comm_id)
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
            asked = self._open.get(data["number"])
            if asked is None:
                return
            pieces = asked.pieces.setdefault(page.comm_id, {})
            pieces[data["index"]] = data["piece"]
            if len(pieces) == data["count"]:
                asked.asked.discard(page.comm_id)
                asked.answer = asked.answer or _read("".join(pieces[index] for index in sorted(pieces)))
            self._changed.notify_all()


def _read(text: str) -> Any:
    try:
        return json.loads(text) or []
    except ValueError:
        return []
