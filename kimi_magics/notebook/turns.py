"""One after the other for the same thing, side by side for different ones."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Turns:
    """Locks by what is done; nothing is kept of what nobody does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The lock of each thing, and how many have it or wait for it.
        self._turns: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def take(self, key: Hashable) -> Iterator[None]:
        """Let who does the same at the same time wait for the one who came first."""
        with self._lock:
            turn, waiting = self._turns.get(key, (threading.Lock(), 0))
            self._turns[key] = turn, waiting + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, waiting = self._turns.pop(key)
                if waiting > 1:
                    self._turns[key] = turn, waiting - 1
