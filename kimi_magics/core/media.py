"""Pictures as frozen values, ready to be sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Image:
    """A picture ready to be sent: encoded bytes, their MIME type, width and height in pixels."""

    data: bytes
    mime: str
    width: int
    height: int
    #: What the user called it, for messages.
    label: str = "image"

    def __repr__(self) -> str:
        return f"Image({self.label!r}, {self.mime}, {self.width}×{self.height}, {len(self.data):,} bytes)"
