"""Faults: the ways in which a request can go wrong on the way, each queued to befall the next requests."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

_ACCOUNT = "Your account org-5a4db00c0ffee1234567890abcdef012/proj-0ddba11cafe5678<ak-f4keey3xample00sandbox>"


@dataclass(frozen=True)
class Fault:
    """One fault.

    With `status` the request is answered with that error: `{"error": {"message", "type"}}`, or an HTML page. The other
    fields disturb an answer that begins well. The `…_after` fields count chunks with content, reasoning not counted; an
    answer with fewer is disturbed just before its finish chunk. `times` says how many requests it befalls, None is for
    ever. `path` is the end point below `/v1/`, `*` means each.
    """

    status: int | None = None
    type: str | None = None
    message: str = "The sandbox was told to fail"
    headers: dict[str, str] = field(default_factory=dict)
    html: bool = False
    delay_seconds: float = 0.0
    """The wait before the first byte, of an error as well."""
    chunk_delay_seconds: float = 0.0
    drop_after: int | None = None
    """Close the TCP connection; an answer in one piece breaks off in the middle."""
    stall_after: int | None = None
    """Say nothing more, but keep the connection open."""
    malformed_after: int | None = None
    """Send one event that is not JSON, then go on."""
    error_after: int | None = None
    """Send `type` and `message` as an event of the stream, and end it."""
    no_done: bool = False
    keep_alive: bool = False
    """Send comment lines before the first and between all events."""
    times: int | None = 1
    path: str = "chat/completions"

    def covers(self, path: str) -> bool:
        """Tell whether a path below `/v1/` is meant."""
        return self.path in ("*", path) or path.startswith(f"{self.path}/")


PRESETS: dict[str, Fault] = {
    "overloaded": Fault(429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
    "rate_limit": Fault(
        429,
        "rate_limit_reached_error",
        f"{_ACCOUNT} request reached organization max RPM: 3, please try again after 1 seconds",
    ),
    "tpd": Fault(
        429,
        "rate_limit_reached_error",
        f"{_ACCOUNT} request reached organization TPD rate limit, current: 1500321, limit: 1500000",
    ),
    "quota": Fault(
        429,
        "exceeded_current_quota_error",
        f"{_ACCOUNT} is suspended due to insufficient balance, please recharge your account or check your plan",
    ),
    "content_filter": Fault(400, "content_filter", "The request was rejected because it was considered high risk"),
    "server_error": Fault(500, "server_error", "The server had an error while processing your request"),
    "unavailable": Fault(503, "server_unavailable", "The service is temporarily unavailable, please try again later"),
    "html_504": Fault(504, html=True, message="504 Gateway Time-out"),
    "auth": Fault(401, "invalid_authentication_error", "Invalid Authentication"),
    "drop": Fault(drop_after=5),
    "no_done": Fault(no_done=True),
    "slow": Fault(delay_seconds=2.0, chunk_delay_seconds=0.25),
}


def build_preset(name: str, **changes: Any) -> Fault:
    """Return a named fault, with some fields changed; ValueError names those there are."""
    if name not in PRESETS:
        raise ValueError(f"unknown fault {name!r}; there are {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


def read_fault(row: object) -> Fault:
    """Build a fault from JSON: a preset's name, or an object of `Fault`'s fields, perhaps with a preset's `name`."""
    if isinstance(row, str):
        return build_preset(row)
    if not isinstance(row, dict):
        raise ValueError("a fault is a name or an object")
    changes = dict(row)
    name = changes.pop("name", None)
    unknown = set(changes) - {item.name for item in fields(Fault)}
    if unknown:
        raise ValueError(f"unknown field of a fault: {', '.join(sorted(unknown))}")
    return Fault(**changes) if name is None else build_preset(str(name), **changes)
