"""What %kimi_usage --limits shows: the limits of the account as far as they are known, and what is used of them now."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.rates import KINDS, Kind, RateLimits
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table

if TYPE_CHECKING:
    from kimi_magics.store.ledger_queue import Occupancy

_NAMES: dict[Kind, str] = {
    "concurrency": "requests at a time",
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "tpd": "tokens a day",
}


def report_limits(session: Session, ask: Ask) -> None:
    """Show the limits of the account that the key leads to. Raises MissingKeyError and ConfigError."""
    stated = session.limits()
    known = session.rate_gate.look()
    if ask.json:
        print_json(_facts(stated, known))
        return
    rows = [
        [_NAMES[kind], *_limit(kind, stated or RateLimits(), known), f"{used:,}"] for kind, used in _used(known).items()
    ]
    if stated is None:
        note = "Switched off: every call goes at once (%kimi_config rate=auto learns the limits again)."
    else:
        note = "Shared by all kernels at this ledger. %kimi_config rate=… states limits: 3 rpm, 500k tpm."
    if known.waiting:
        note = f"{known.waiting:,} waiting. {note}"
    show_table(["", "limit", "known from", "used now"], rows, note=note, figures=["limit", "used now"])


def _used(known: Occupancy) -> dict[Kind, int]:
    traffic = known.traffic
    figures = (traffic.in_flight, len(traffic.sent), known.minute_tokens, traffic.day_tokens)
    return dict(zip(KINDS, figures, strict=True))


def _limit(kind: Kind, stated: RateLimits, known: Occupancy) -> tuple[str, str]:
    """Return a limit, and who said it."""
    own, learned = getattr(stated, kind), getattr(known.learned, kind)
    if own is not None:
        return f"{own:,}", "the setting rate"
    if learned is not None:
        return f"{learned:,}", f"the host, at {known.learned_at[kind]:%H:%M}"
    return "–", "nobody yet"


def _facts(stated: RateLimits | None, known: Occupancy) -> dict[str, Any]:
    return {
        "stated": asdict(stated) if stated is not None else None,
        "learned": asdict(known.learned),
        "learned_at": {kind: moment.isoformat(timespec="seconds") for kind, moment in known.learned_at.items()},
        "used": _used(known),
        "waiting": known.waiting,
    }
