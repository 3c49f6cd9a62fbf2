"""The balance of the account: asked for when the user wants it, and noted in the ledger.

The promise: the host is asked at most once a minute for an account, however many want to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kimi_magics.client.http import KimiClient
from kimi_magics.errors import KimiError, ReplyBrokenError
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_balances import Look

_SECONDS = 60.0
#: More is no balance.
_MOST = 10**9


class Balances:
    """What one kernel knows of the balance; safe to use from several threads. `clock` is for tests."""

    def __init__(
        self,
        *,
        client: Callable[[], KimiClient],
        ledger: Callable[[], Ledger],
        currency: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._ledger, self._currency = client, ledger, currency
        self._clock = clock
        #: By account: until when this is the answer.
        self._answers: dict[str, tuple[float, Look | KimiError]] = {}
        self._lock = threading.Lock()

    def ask(self, *, is_wanted: bool = False) -> Look:
        """Return the balance as the host told it within the last minute. Raises KimiError.

        A host that could not tell is left alone for a minute, too, unless the user wants it: `is_wanted`.
        """
        client = self._client()
        with self._lock:
            until, answer = self._answers.get(client.account, (0.0, None))
            if answer is None or self._clock() >= until or (is_wanted and isinstance(answer, KimiError)):
                answer = self._ask(client)
                self._answers[client.account] = self._clock() + _SECONDS, answer
        if isinstance(answer, KimiError):
            # Raised again, it would carry the calls that led to it before.
            raise answer.with_traceback(None)
        return answer

    def _ask(self, client: KimiClient) -> Look | KimiError:
        try:
            amount = client.balance()
        except KimiError as error:
            return error
        if not amount.is_finite() or abs(amount) > _MOST:
            return ReplyBrokenError(f"{client.host} told a balance that is no amount")
        ledger, currency = self._ledger(), self._currency()
        ledger.note_balance(client.account, amount, currency)
        return Look(ledger.moment, amount, currency)
