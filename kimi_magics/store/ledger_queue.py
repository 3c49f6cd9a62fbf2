"""The ledger within one transaction: whose turn it is to send a request, and what is known of an account's limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from kimi_magics.core.rates import KINDS, Hold, Kind, RateLimits, Traffic, find_hold
from kimi_magics.store.ledger_tables import limits, requests, tickets

#: Without a sign of life for so long, a request is taken to have ended with its kernel: others wait for its place.
LEASE_SECONDS = 45.0
#: Who waits looks again every second.
WAITING_LEASE_SECONDS = 10.0
#: A limit that the host named is taken to hold for so long: an account may be raised to a higher one at any time, and
#: to learn it again costs one refused request.
LEARNED_SECONDS = 3600.0

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_PAUSE = "pause"
#: More than this a client does not wait (`client.retry`).
_LONGEST_PAUSE = 600.0
#: Nobody says when the day of the host begins.
_ZONES = (UTC, timezone(timedelta(hours=8)))

_IS_OURS = requests.c.account == bindparam("of_account")
_FIND_TICKET = select(tickets.c.id).where(tickets.c.key == bindparam("of_key"))
_INSERT_TICKET = insert(tickets)
_UPDATE_TICKET = update(tickets).where(tickets.c.key == bindparam("of_key"))
_DELETE_TICKET = delete(tickets).where(tickets.c.key == bindparam("of_key"))
#: A lease that ends later than any can was written before the clock was put back.
_DROP_DEAD = delete(tickets).where(
    tickets.c.account == bindparam("of_account"),
    or_(tickets.c.lease < bindparam("now"), tickets.c.lease > bindparam("latest")),
)
_AHEAD = (
    select(func.count())
    .select_from(tickets)
    .where(
        tickets.c.account == bindparam("of_account"), tickets.c.waits.is_(True), tickets.c.id < bindparam("before_id")
    )
)
_SENT = (
    select(requests.c.sent, requests.c.tokens)
    .where(_IS_OURS, requests.c.sent > bindparam("since"), requests.c.sent <= bindparam("until"))
    .order_by(requests.c.sent)
)
_DAY_TOKENS = select(func.coalesce(func.sum(requests.c.tokens), 0)).where(
    _IS_OURS, requests.c.sent > bindparam("since"), requests.c.sent <= bindparam("until")
)
_IN_FLIGHT = (
    select(func.count())
    .select_from(requests)
    .where(_IS_OURS, requests.c.lease >= bindparam("now"), requests.c.lease <= bindparam("latest"))
)
_INSERT_REQUEST = insert(requests)
_END_REQUEST = update(requests).where(requests.c.key == bindparam("of_key"), requests.c.lease > 0)
_DROP_REQUEST = delete(requests).where(requests.c.key == bindparam("of_key"), requests.c.lease > 0)
_RENEW_REQUEST = update(requests).where(requests.c.key == bindparam("of_key"), requests.c.lease > 0)
_FORGET = delete(requests).where(_IS_OURS, requests.c.sent < bindparam("before"))
_LIMITS = select(limits.c.kind, limits.c.value, limits.c.learned).where(limits.c.account == bindparam("of_account"))
_SET_LIMIT = update(limits).where(limits.c.account == bindparam("of_account"), limits.c.kind == bindparam("of_kind"))
_INSERT_LIMIT = insert(limits)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is known of an account: the limits that the host named and when, and what its requests take of them now."""

    learned: RateLimits
    learned_at: dict[Kind, datetime]
    traffic: Traffic
    minute_tokens: int
    waiting: int


class Queue:
    """The requests of one account within one transaction, at one moment; `minute` is how long the host's minute is."""

    def __init__(self, connection: Connection, moment: datetime, account: str, *, minute: float) -> None:
        self._connection = connection
        self._moment = moment
        self._now = int(moment.timestamp() * _SECOND)
        self._account = account
        self._minute = minute

    def try_to_go(self, key: str, tokens: int, stated: RateLimits, *, invited: datetime | None = None) -> Hold | None:
        """Take the turn of the request `key`, or return why it must wait; it keeps its place in the row then.

        The `stated` limits go before those that the host named. It knows better than we do when a request is
        `invited`: at that moment it was sent, to be refused and told when to try again.
        """
        ours = {"of_account": self._account}
        latest = self._now + int((_LONGEST_PAUSE + WAITING_LEASE_SECONDS) * _SECOND)
        self._connection.execute(_DROP_DEAD, {**ours, "now": self._now, "latest": latest})
        place = self._keep_place(key)
        ahead = self._connection.execute(_AHEAD, {**ours, "before_id": place}).scalar_one()
        learned, _ = self._learned()
        allowed = stated.over(learned if invited is None else RateLimits(concurrency=learned.concurrency))
        traffic = self._traffic(ahead, with_day=allowed.tpd is not None)
        hold = find_hold(allowed, traffic, tokens, minute=self._minute)
        if hold is None and invited is not None:
            named = RateLimits(rpm=learned.rpm, tpm=learned.tpm).without(stated)
            asked = (self._moment - invited).total_seconds()
            hold = find_hold(named, traffic.with_room(named, tokens, asked=asked), tokens, minute=self._minute)
        if hold is None:
            self.go(key, tokens)
        return hold

    def _keep_place(self, key: str) -> int:
        found: int | None = self._connection.execute(_FIND_TICKET, {"of_key": key}).scalar_one_or_none()
        lease = self._now + int(WAITING_LEASE_SECONDS * _SECOND)
        if found is None:
            values = {"account": self._account, "key": key, "waits": True, "lease": lease}
            made = self._connection.execute(_INSERT_TICKET, values).inserted_primary_key
            return int(made[0]) if made else 0
        self._connection.execute(_UPDATE_TICKET, {"of_key": key, "waits": True, "lease": lease})
        return found

    def go(self, key: str, tokens: int) -> None:
        """Note that a request is sent."""
        lease = self._now + int(LEASE_SECONDS * _SECOND)
        # The place is kept for the case that the host refuses: who tries again is not the last one.
        self._connection.execute(_UPDATE_TICKET, {"of_key": key, "waits": False, "lease": lease})
        self._connection.execute(
            _INSERT_REQUEST,
            {"account": self._account, "key": key, "sent": self._now, "tokens": tokens, "lease": lease},
        )
        self._connection.execute(_FORGET, {"of_account": self._account, "before": self._now - _DAY})

    def end(
        self, key: str, *, again_after: float | None, counted: datetime | None = None, is_refused: bool = False
    ) -> None:
        """Note that a request ended; one that is tried again, after so many seconds, comes before later ones then.

        Its minute begins when the host `counted` it, which it has when it answers: the way there may take long. One
        that `is_refused` for the limits has taken nothing of them.
        """
        if is_refused:
            self._connection.execute(_DROP_REQUEST, {"of_key": key})
        else:
            values = {"sent": int(counted.timestamp() * _SECOND)} if counted else {}
            self._connection.execute(_END_REQUEST, {"of_key": key, "lease": 0, **values})
        if again_after is None:
            self._connection.execute(_DELETE_TICKET, {"of_key": key})
        else:
            lease = self._now + int((again_after + WAITING_LEASE_SECONDS) * _SECOND)
            self._connection.execute(_UPDATE_TICKET, {"of_key": key, "waits": False, "lease": lease})

    def learn(self, found: tuple[Kind, int] | None, *, pause_seconds: float | None) -> None:
        """Keep a limit that the host named, and for how long it wants no request."""
        if found is not None:
            self._set(found[0], found[1])
        if pause_seconds is not None:
            until = self._now + int(min(pause_seconds, _LONGEST_PAUSE) * _SECOND)
            self._set(_PAUSE, max(until, self._learned()[1]))

    def _set(self, kind: str, value: int) -> None:
        which = {"of_account": self._account, "of_kind": kind}
        if not self._connection.execute(_SET_LIMIT, {**which, "value": value, "learned": self._now}).rowcount:
            values = {"account": self._account, "kind": kind, "value": value, "learned": self._now}
            self._connection.execute(_INSERT_LIMIT, values)

    def _rows(self) -> Iterable[Any]:
        return self._connection.execute(_LIMITS, {"of_account": self._account}).all()

    def _learned(self) -> tuple[RateLimits, int]:
        """Return the limits that the host named lately, and until when it wants no request."""
        oldest = self._now - int(LEARNED_SECONDS * _SECOND)
        rows = {row.kind: row.value for row in self._rows() if oldest <= row.learned <= self._now + _SECOND}
        return RateLimits(**{kind: rows[kind] for kind in KINDS if kind in rows}), rows.get(_PAUSE, 0)

    def _traffic(self, ahead: int, *, with_day: bool) -> Traffic:
        ours = {"of_account": self._account}
        # Where the clock was put back, what was "sent" after now says nothing.
        until = {"until": self._now + _SECOND}
        latest = self._now + int(LEASE_SECONDS * _SECOND)
        minute = {"since": self._now - int(self._minute * _SECOND)}
        sent = self._connection.execute(_SENT, {**ours, **minute, **until}).all()
        day = {"since": self._midnight()}
        return Traffic(
            in_flight=self._connection.execute(_IN_FLIGHT, {**ours, "now": self._now, "latest": latest}).scalar_one(),
            sent=[((self._now - row.sent) / _SECOND, row.tokens) for row in sent],
            day_tokens=int(self._connection.execute(_DAY_TOKENS, {**ours, **day, **until}).scalar_one())
            if with_day
            else 0,
            ahead=ahead,
            pause_seconds=(self._learned()[1] - self._now) / _SECOND,
        )

    def _midnight(self) -> int:
        """Return the latest moment at which the host's day may have begun: what it allows is for it to say."""
        zones = (*_ZONES, self._moment.tzinfo)
        starts = [
            self._moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            for zone in zones
        ]
        return int(max(starts) * _SECOND)

    def look(self) -> Occupancy:
        """Return what is known of the account now."""
        waiting = self._connection.execute(_AHEAD, {"of_account": self._account, "before_id": 2**62}).scalar_one()
        traffic = self._traffic(0, with_day=True)
        learned, _ = self._learned()
        zone = self._moment.tzinfo
        at = {row.kind: datetime.fromtimestamp(row.learned / _SECOND, zone) for row in self._rows()}
        return Occupancy(
            learned,
            {kind: at[kind] for kind in KINDS if getattr(learned, kind) is not None},
            traffic,
            sum(tokens for _, tokens in traffic.sent),
            waiting,
        )


def renew(connection: Connection, moment: datetime, keys: Iterable[str]) -> None:
    """Note that the kernels of these requests are alive."""
    lease = int((moment.timestamp() + LEASE_SECONDS) * _SECOND)
    for key in keys:
        connection.execute(_RENEW_REQUEST, {"of_key": key, "lease": lease})
        connection.execute(_UPDATE_TICKET, {"of_key": key, "lease": lease})
