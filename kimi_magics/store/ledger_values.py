"""What a call is in the ledger: where it was made, what it took, and that it may be sent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from kimi_magics.core.budget import Grant
from kimi_magics.core.usage import Price, Usage

#: Without a sign of life for so long, a call's kernel is taken to have ended.
LEASE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Entry:
    """Which call it is: where it was made, and for which model. Texts that are not known are empty."""

    session: str
    host: str
    model: str
    notebook: str = ""
    cell: str = ""
    prompt_hash: str = ""
    expected_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call took in the end."""

    usage: Usage
    cost: Decimal | None
    currency: str
    price: Price | None = None
    #: The model that answered, where the host named another.
    model: str = ""
    steps: int = 1
    retries: int = 0
    finish_reason: str = ""
    request_id: str = ""
    seconds: float | None = None
    #: Whether anybody knows the figures; of a call that was lost on the way, what was put aside counts.
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be sent, under `key` in the ledger."""

    key: str
    entry: Entry
    grant: Grant
