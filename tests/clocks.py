"""A clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Tells the moment that a test gave it."""

    def __init__(self, moment: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def go(self, **amounts: float) -> None:
        """Go on, or back, by days, hours, seconds …"""
        self.moment += timedelta(**amounts)
