"""When a request may go, by the limits that the host sets an account.

The limits are the host's: requests at a time, requests and tokens a minute, tokens a day. Its gateway counts a request
with its prompt and the longest answer that it allows (kimi_api.md section 6; reference/main_concepts_page.txt, "Rate
Limits"), and tells a limit in the text of a 429. All times are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Literal

from kimi_magics.errors import ConfigError

Kind = Literal["concurrency", "rpm", "tpm", "tpd"]
KINDS: tuple[Kind, ...] = ("concurrency", "rpm", "tpm", "tpd")

#: Over this the host counts "a minute"; a little more, since the way there takes a request longer or shorter.
MINUTE = 60.0
_MARGIN = 0.3
#: Whether a request under way ends soon, nobody knows.
_LOOK_AGAIN = 0.25

_UNITS: dict[str, Kind] = {
    "rpm": "rpm",
    "tpm": "tpm",
    "tpd": "tpd",
    "concurrent": "concurrency",
    "concurrency": "concurrency",
    "at a time": "concurrency",
}
_WORDS: dict[Kind, tuple[str, str]] = {
    "concurrency": ("request at a time", "requests at a time"),
    "rpm": ("request a minute", "requests a minute"),
    "tpm": ("token a minute", "tokens a minute"),
    "tpd": ("token a day", "tokens a day"),
}
_TYPED: dict[Kind, str] = {"concurrency": "concurrent", "rpm": "rpm", "tpm": "tpm", "tpd": "tpd"}

_COUNT = re.compile(r"([\d._]+)\s*([kKM]?)\s*(.*)")
_FACTORS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}
_NUMBER = r"(\d{1,18})"
_KIND = r"(?P<kind>concurrency|RPM|TPM|TPD)"
#: "… organization max RPM: 3, please …", "… TPD rate limit, current: 1500321, limit: 1500000", and what other hosts
#: that speak the API write: "… on tokens per min (TPM): Limit 30000, Used …".
_SAID = (
    re.compile(rf"\bmax (?:\w+ )?{_KIND}:? {_NUMBER}", re.IGNORECASE),
    re.compile(rf"\b{_KIND}\b[^\d]{{0,40}}?(?:current:? \d+,? )?limit:? {_NUMBER}", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What the host allows an account; None where nobody said."""

    concurrency: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    tpd: int | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, kind) is not None for kind in KINDS)

    def typed(self) -> str:
        """Return the limits as they are typed."""
        return ", ".join(f"{limit} {_TYPED[kind]}" for kind in KINDS if (limit := getattr(self, kind)) is not None)

    def over(self, others: RateLimits) -> RateLimits:
        """Return these limits, completed by others."""
        return replace(
            others, **{one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        )

    def without(self, others: RateLimits) -> RateLimits:
        """Return these limits where the others say nothing."""
        return replace(self, **{kind: None for kind in KINDS if getattr(others, kind) is not None})


NO_LIMITS = RateLimits()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an account has under way and sent, as seen by a request that would go now.

    `sent` holds the age and the tokens of each request of the last minute, the oldest first; `day_tokens` what was
    sent today; `ahead` counts the requests that came before and still wait; `pause_seconds` is how long the host asked
    all to wait.
    """

    in_flight: int = 0
    sent: Sequence[tuple[float, int]] = ()
    day_tokens: int = 0
    ahead: int = 0
    pause_seconds: float = 0.0

    def with_room(self, limits: RateLimits, tokens: int, *, asked: float) -> Traffic:
        """Return the traffic that counts once the host has said that a request of so many tokens may come.

        It was `asked` so many seconds ago, and knew what was sent before: of that, no more counts than leaves room.
        What was sent later, by others that were told the same, may have taken the room.
        """
        known = [one for one in self.sent if one[0] >= asked]
        later = [one for one in self.sent if one[0] < asked]
        while known and (
            (limits.rpm is not None and len(known) >= limits.rpm)
            or (limits.tpm is not None and sum(one for _, one in known) + tokens > limits.tpm)
        ):
            del known[0]
        return replace(self, sent=known + later)


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a request must wait; `seconds` is how long, probably, and None when nobody can tell.

    `look_again` is when to ask anew. `is_for_today` says that waiting does not help today.
    """

    reason: str
    seconds: float | None = None
    look_again: float = _LOOK_AGAIN
    is_for_today: bool = False


def read_limits(text: str) -> RateLimits:
    """Read limits as in `3 rpm, 1 concurrent, 500k tpm, 1.5M tpd`. Raises ConfigError."""
    found: dict[str, int] = {}
    for part in text.split(","):
        match = _COUNT.fullmatch(part.strip())
        kind = _UNITS.get(" ".join(match[3].lower().split())) if match else None
        count = _read_count(match[1], match[2]) if match else 0
        if kind is None or count < 1 or kind in found:
            raise ConfigError(
                f"{part.strip()[:60]!r} is not a limit of the account",
                remedy="write some of 3 rpm, 1 concurrent, 500k tpm, 1.5M tpd; or auto, which learns them; or off",
            )
        found[kind] = count
    return RateLimits(**found)


def _read_count(figure: str, factor: str) -> int:
    """Return a count, 0 for what is none."""
    try:
        count = Decimal(figure.replace("_", "")) * _FACTORS[factor]
    except InvalidOperation:
        return 0
    return int(count) if count == int(count) else 0


def find_limit(text: str) -> tuple[Kind, int] | None:
    """Return the limit that the host names in the text of a 429, or None."""
    for pattern in _SAID:
        if (match := pattern.search(text)) and int(match[2]) > 0:
            kind = match["kind"].lower()
            return next((one for one in KINDS if one == kind), "rpm"), int(match[2])
    return None


def name_limit(kind: Kind, limit: int) -> str:
    """Return a limit in words, as `3 requests a minute`."""
    return f"{limit:,} {_WORDS[kind][limit != 1]}"


def find_hold(limits: RateLimits, traffic: Traffic, tokens: int, *, minute: float = MINUTE) -> Hold | None:
    """Return why a request of so many tokens must wait, or None when it may go now.

    Who came first goes first: nobody is passed by smaller requests for ever.
    """
    today = _hold_for_today(limits, traffic, tokens)
    if today is not None:
        return today
    holds = [
        hold
        for hold in (
            _hold_for_pause(traffic),
            _hold_for_requests(limits, traffic, minute),
            _hold_for_tokens(limits, traffic, tokens, minute),
            _hold_for_concurrency(limits, traffic),
        )
        if hold is not None
    ]
    if not holds:
        # Whoever is ahead is about to go.
        return Hold("the requests before this one go first", look_again=0.05) if traffic.ahead else None
    longest = max(holds, key=lambda hold: hold.seconds or 0.0)
    return replace(longest, reason=longest.reason + _place(traffic.ahead))


def _place(ahead: int) -> str:
    return f", {ahead} ahead" if ahead else ""


def _hold_for_today(limits: RateLimits, traffic: Traffic, tokens: int) -> Hold | None:
    limit = limits.tpd
    if limit is None or traffic.day_tokens + tokens <= limit:
        return None
    used = f"{traffic.day_tokens:,} of {name_limit('tpd', limit)} are used, and this request counts {tokens:,}"
    return Hold(used, is_for_today=True)


def _hold_for_pause(traffic: Traffic) -> Hold | None:
    if traffic.pause_seconds <= 0:
        return None
    return Hold("the host asked to wait", traffic.pause_seconds, min(1.0, traffic.pause_seconds))


def _hold_for_requests(limits: RateLimits, traffic: Traffic, minute: float) -> Hold | None:
    limit, sent = limits.rpm, len(traffic.sent)
    if limit is None or sent + traffic.ahead < limit:
        return None
    # A request goes a minute after the one `limit` places before it, which may itself have to wait so.
    place, minutes = sent + traffic.ahead - limit, 1
    while place >= sent:
        place, minutes = place - limit, minutes + 1
    age = traffic.sent[place][0] if place >= 0 else minute
    return _until(minutes * minute - age, name_limit("rpm", limit))


def _hold_for_tokens(limits: RateLimits, traffic: Traffic, tokens: int, minute: float) -> Hold | None:
    limit = limits.tpm
    if limit is None:
        return None
    # A request that is larger than the limit goes when nothing else was sent: the host decides.
    over = sum(one for _, one in traffic.sent) + tokens - limit
    for age, one in traffic.sent:
        if over <= 0:
            return None
        over -= one
        if over <= 0 or age == traffic.sent[-1][0]:
            return _until(minute - age, name_limit("tpm", limit))
    return None


def _hold_for_concurrency(limits: RateLimits, traffic: Traffic) -> Hold | None:
    limit = limits.concurrency
    if limit is None or traffic.in_flight < limit:
        return None
    return Hold(name_limit("concurrency", limit))


def _until(seconds: float, reason: str) -> Hold:
    wait = max(0.05, seconds + _MARGIN)
    return Hold(reason, wait, min(1.0, wait))
