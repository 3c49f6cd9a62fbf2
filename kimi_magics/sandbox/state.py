"""What a running sandbox remembers: requests, queued faults, files, limits in use. Safe to use from any thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.faults import PRESETS, Fault
from kimi_magics.sandbox.files import FileStore
from kimi_magics.sandbox.refusal import RefusalError
from kimi_magics.sandbox.tokens import PrefixCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kimi_magics.sandbox.options import Request, SandboxOptions

_MOST_REQUESTS = 10_000
_MOST_BODY_BYTES = 256 * 1024 * 1024


class State:
    """The memory that a sandbox's handlers and its owner share."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.files = FileStore()
        self._lock = threading.Lock()
        self._requests: deque[tuple[Request, int]] = deque()
        self._body_bytes = 0
        self._faults: list[Fault] = []
        self._prefixes = PrefixCache()
        self._admitted: deque[float] = deque()
        self._disconnects = 0
        self._leavers: dict[object, Callable[[], object]] = {}
        self._running = 0

    @property
    def requests(self) -> list[Request]:
        """The recorded requests, oldest first."""
        with self._lock:
            return [request for request, _ in self._requests]

    @property
    def disconnects(self) -> int:
        """How many streaming clients went away before the end."""
        with self._lock:
            return self._disconnects

    def record(self, request: Request, body_bytes: int) -> None:
        """Remember a request; the oldest go when they are too many or too large."""
        with self._lock:
            self._requests.append((request, body_bytes))
            self._body_bytes += body_bytes
            while len(self._requests) > _MOST_REQUESTS or (
                self._body_bytes > _MOST_BODY_BYTES and len(self._requests) > 1
            ):
                self._body_bytes -= self._requests.popleft()[1]

    def count_disconnect(self) -> None:
        """Note that a streaming client went away."""
        with self._lock:
            self._disconnects += 1

    def add_fault(self, fault: Fault) -> None:
        """Queue a fault."""
        with self._lock:
            self._faults.append(fault)

    def take_fault(self, path: str) -> Fault | None:
        """Return the fault that befalls a request to this path, if any, and count it."""
        with self._lock:
            for position, fault in enumerate(self._faults):
                if not fault.covers(path):
                    continue
                if fault.times is not None:
                    if fault.times <= 1:
                        del self._faults[position]
                    else:
                        self._faults[position] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def remember_prompt(self, model: str, tokens: Sequence[str]) -> int:
        """Put a prompt in the cache of prefixes; return how many of its tokens were there."""
        with self._lock:
            return self._prefixes.add(model, tokens)

    def admit(self) -> None:
        """Let a completion in, or refuse it with the API's 429; who is let in calls `release`."""
        with self._lock:
            if self.options.concurrency is not None and self._running >= self.options.concurrency:
                raise self._build_limit("concurrency", self.options.concurrency, 1)
            now = time.monotonic()
            window = self.options.rpm_window_seconds
            while self._admitted and self._admitted[0] <= now - window:
                self._admitted.popleft()
            if self.options.rpm is not None:
                if len(self._admitted) >= self.options.rpm:
                    wait = max(1, round(self._admitted[0] + window - now + 0.5)) if self._admitted else 1
                    raise self._build_limit("RPM", self.options.rpm, wait)
                self._admitted.append(now)
            self._running += 1

    def release(self) -> None:
        """Note that a completion ended."""
        with self._lock:
            self._running -= 1

    @staticmethod
    def _build_limit(kind: str, limit: int, wait_seconds: int) -> RefusalError:
        account = PRESETS["rate_limit"].message.partition(" request reached")[0]
        message = (
            f"{account} request reached organization max {kind}: {limit}, please try again after {wait_seconds} seconds"
        )
        return RefusalError(message, status=429, type="rate_limit_reached_error")

    def enter(self, handler: object, leave: Callable[[], object]) -> None:
        """Note a request at work; `leave` makes it end early when the sandbox stops."""
        with self._lock:
            self._leavers[handler] = leave

    def leave(self, handler: object) -> None:
        """Note that a request is done."""
        with self._lock:
            self._leavers.pop(handler, None)

    @property
    def leavers(self) -> list[Callable[[], object]]:
        """What ends each request at work."""
        with self._lock:
            return list(self._leavers.values())

    def clear(self) -> None:
        """Forget requests, faults, counters and cached prefixes; uploaded files stay."""
        with self._lock:
            self._requests.clear()
            self._body_bytes = 0
            self._faults.clear()
            self._prefixes.clear()
            self._admitted.clear()
            self._disconnects = 0

    def to_row(self) -> dict[str, Any]:
        """Return the figures for GET /_sandbox/state."""
        with self._lock:
            return {
                "requests": len(self._requests),
                "disconnects": self._disconnects,
                "running": self._running,
                "faults": len(self._faults),
                "files": len(self.files.list()),
            }
