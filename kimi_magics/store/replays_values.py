"""An answer as it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from kimi_magics.core.events import Replayed
from kimi_magics.core.recording import Piece


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the request of this key, and what it cost when it was billed."""

    key: str
    pieces: tuple[Piece, ...]
    first: Replayed
