"""When a call is tried again, and after how long.

The promise: at most eight tries, one for what cannot succeed, none once a delta has arrived; a wait that the host
states is kept, with at most three seconds added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from kimi_magics.errors import ApiError, CallError, ConnectionFailedError

# "… request reached organization max RPM: 3, please try again after 1 seconds" (kimi_api.md section 5).
_STATED = re.compile(r"try again (?:after|in) (\d+(?:\.\d+)?) ?(s|sec|second|m|min|minute|h|hour)", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long: `tries` counts the first one too."""

    tries: int = 8
    #: Without a connection, somebody at the screen is better told soon.
    connection_tries: int = 4
    first_seconds: float = 0.5
    longest_seconds: float = 8.0
    #: A host that asks for more than this is not waited for: the cell would look hung.
    patience_seconds: float = 600.0

    def wait_before_next(self, error: CallError, attempt: int, *, has_begun: bool, jitter: float) -> float | None:
        """Return the seconds to wait after the failed `attempt` (1, 2, …), or None when it was the last.

        `jitter` is a number from 0 to 1 that keeps many kernels from coming back in the same instant.
        """
        tries = min(self.tries, self.connection_tries) if isinstance(error, ConnectionFailedError) else self.tries
        if has_begun or attempt >= tries or not error.is_retryable:
            return None
        backoff: float = min(self.longest_seconds, self.first_seconds * 2 ** (attempt - 1))
        stated = error.wait_seconds if isinstance(error, ApiError) else None
        if stated is None:
            return backoff * (0.5 + 0.5 * jitter)
        if stated > self.patience_seconds:
            return None
        # A stated second is often too short for the window that is really full: add a little more each time.
        return stated + min(3.0, backoff) * jitter


def stated_wait(message: str, headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return the longer of the waits that the text and the `Retry-After` header ask for, in seconds, or None."""
    waits = [wait for wait in (_from_text(message), _from_header(headers.get("retry-after"), now)) if wait is not None]
    return max(waits, default=None)


def _from_text(message: str) -> float | None:
    match = _STATED.search(message)
    return float(match[1]) * _UNIT_SECONDS[match[2][0].lower()] if match else None


def _from_header(value: str | None, now: datetime | None) -> float | None:
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
