"""Keeps and looks for answers in a process of its own, as many as COUNT, under KEYS names: HOME COUNT KEYS BYTES."""

from __future__ import annotations

import os
import random
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from kimi_magics.core.events import Replayed, TextDelta
from kimi_magics.core.recording import Recording
from kimi_magics.core.usage import Usage
from kimi_magics.store.replays import Replays
from kimi_magics.store.replays_values import Answer

FIRST = Replayed(Usage(10, 20), Decimal("0.001"), "USD", date(2026, 11, 20))


def make(key: str, text: str) -> tuple[Answer, bytes]:
    """Return an answer and its pieces as they are kept."""
    recording = Recording((TextDelta(text),))
    return Answer(key, recording.pieces, FIRST), recording.encode()


def main(home: str, count: int, keys: int, limit_bytes: int) -> None:
    """Put an answer, look for one; an answer always is that of its key."""
    told: list[str] = []
    replays = Replays(limit_bytes=lambda: limit_bytes, home=Path(home), tell=told.append)
    chance = random.Random(os.getpid())
    for _ in range(count):
        key = f"{chance.randrange(keys):064d}"
        replays.put(*make(key, f"answer to {key} " + "x" * 500), host="h", model="m")
        wanted = f"{chance.randrange(keys):064d}"
        found = replays.find(wanted)
        assert found is None or found.pieces[0].text.startswith(f"answer to {wanted} "), found
    replays.close()
    assert not told, told


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
