"""A job that is done for the newest of many values, in a thread that ends when there is nothing left to do."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestOnly(Generic[T]):
    """Does `job` for one value at a time; of those that came meanwhile only the newest counts.

    `wait_seconds` must pass without another value before one is taken. `job` must not raise.
    """

    def __init__(self, job: Callable[[T], None], *, name: str, wait_seconds: float = 0.0) -> None:
        self._job = job
        self._name = name
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._pending: list[T] = []
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def take(self, value: T) -> None:
        """Do the job for `value` soon, unless another one comes; returns at once."""
        with self._changed:
            if self._is_closed:
                return
            self._pending, self._due = [value], time.monotonic() + self._wait_seconds
            if self._thread is None:
                # The context tells a kernel to which message what the job sends belongs.
                run = contextvars.copy_context().run
                self._thread = threading.Thread(target=run, args=(self._work,), name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def drop(self) -> None:
        """Forget the value that waits; a job that has begun goes on."""
        with self._changed:
            self._pending = []
            self._changed.notify()

    def close(self) -> None:
        """Take nothing more, and let the thread end."""
        with self._changed:
            self._is_closed = True
        self.drop()

    def _work(self) -> None:
        while found := self._await_value():
            self._job(found[0])

    def _await_value(self) -> list[T]:
        """Return the value whose time has come in a list, or an empty one when the thread is to end."""
        with self._changed:
            while self._pending and (left := self._due - time.monotonic()) > 0:
                self._changed.wait(left)
            found, self._pending = self._pending, []
            if not found:
                self._thread = None
            return found
