"""The turns of an account's requests, one row for all kernels of a user.

The promise: as far as the limits are known, no request goes that the host would refuse for them; who came first goes
first, one that the host refused goes when it said, where no other has taken its place, and a kernel that dies or hangs
holds nobody up for longer than its lease.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from kimi_magics.core.ports import Turn
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.rates import KINDS, MINUTE, NO_LIMITS, Hold, Kind, RateLimits
from kimi_magics.errors import ApiError, CallError, RateLimitError
from kimi_magics.store.ledger import Ledger

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kimi_magics.store.ledger_queue import Occupancy, Queue

_Result = TypeVar("_Result")


class RateGate:
    """The row of one account's requests in a ledger.

    `count` returns what the host's gateway counts for a request, in tokens; `limits` what the user states of the
    account, or None to send every request at once; `minute` is for tests.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        account: str,
        *,
        count: Callable[[Prompt], int],
        limits: Callable[[], RateLimits | None] = lambda: NO_LIMITS,
        minute: float = MINUTE,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._count = count
        self._limits = limits
        self._minute = minute

    def enter(self, prompt: Prompt) -> Turn:
        """Return the place of a request, behind those that are there. Raises ConfigError."""
        if self._limits() is None:
            return _NoTurn()
        return _Turn(self, self._ledger(), self._count(prompt))

    def look(self) -> Occupancy:
        """Return what is known of the account now."""
        return self._change(self._ledger(), lambda queue: queue.look())

    def try_to_go(self, ledger: Ledger, key: str, tokens: int, *, invited: datetime | None) -> Hold | None:
        """Take the turn of a request, or return why it must wait; `invited` as for `Queue.try_to_go`."""
        limits = self._limits()
        if limits is None:  # switched off while it waited
            return self._change(ledger, lambda queue: queue.go(key, tokens))
        return self._change(ledger, lambda queue: queue.try_to_go(key, tokens, limits, invited=invited))

    def end(
        self, ledger: Ledger, key: str, error: CallError | None, *, again_after: float | None, counted: datetime | None
    ) -> None:
        """Note that a request ended, when the host counted it at the latest, and what it said of limits."""
        found, pause = _read(error)
        # A refusal for the day's tokens is left in: else the next call would only learn the same.
        is_refused = isinstance(error, RateLimitError)

        def change(queue: Queue) -> None:
            queue.end(key, again_after=again_after, counted=counted, is_refused=is_refused)
            queue.learn(found, pause_seconds=pause)

        self._change(ledger, change)

    def _change(self, ledger: Ledger, job: Callable[[Queue], _Result]) -> _Result:
        def change(connection: Connection, moment: datetime) -> _Result:
            from kimi_magics.store.ledger_queue import Queue

            return job(Queue(connection, moment, self._account, minute=self._minute))

        return ledger.change(change)


class _Turn:
    """The place of one request."""

    def __init__(self, gate: RateGate, ledger: Ledger, tokens: int) -> None:
        self._gate, self._ledger, self._tokens = gate, ledger, tokens
        self._key = uuid.uuid4().hex
        #: Whether there is something of it in the ledger.
        self._is_there = False
        self._asked: datetime | None = None
        #: When the try began to which the host said when to come again.
        self._invited: datetime | None = None
        self._counted: datetime | None = None

    def wait(self) -> Iterator[Hold]:
        """Yield why the request must wait, until it is its turn (the protocol of `core.ports.Turn`)."""
        self._is_there, self._counted = True, None
        while hold := self._try_to_go():
            yield hold
        self._ledger.keep_request(self._key)

    def _try_to_go(self) -> Hold | None:
        self._asked = self._ledger.now()
        return self._gate.try_to_go(self._ledger, self._key, self._tokens, invited=self._invited)

    def answered(self) -> None:
        """Note that the host begins to answer."""
        self._counted = self._ledger.now()

    def end(self, error: CallError | None, *, again_after: float | None) -> None:
        """Note that a try ended."""
        self._ledger.drop_request(self._key)
        self._gate.end(self._ledger, self._key, error, again_after=again_after, counted=self._counted)
        self._is_there = again_after is not None
        is_invited = isinstance(error, RateLimitError) and error.wait_seconds is not None
        self._invited = self._asked if is_invited else None

    def leave(self) -> None:
        """Give the place to others."""
        if self._is_there:
            self.end(None, again_after=None)


class _NoTurn:
    """Where nobody waits."""

    def wait(self) -> Iterator[Hold]:
        return iter(())

    def answered(self) -> None:
        pass

    def end(self, error: CallError | None, *, again_after: float | None) -> None:
        pass

    def leave(self) -> None:
        pass


def _read(error: CallError | None) -> tuple[tuple[Kind, int] | None, float | None]:
    """Return the limit that the host named, and for how long it wants no request of the account."""
    if not isinstance(error, ApiError):
        return None, None
    limit = next(((kind, error.limit[1]) for kind in KINDS if error.limit and error.limit[0] == kind), None)
    return limit, error.wait_seconds if isinstance(error, RateLimitError) else None
