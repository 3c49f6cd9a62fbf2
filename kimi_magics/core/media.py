"""Pictures, videos and documents as frozen values, ready to be sent."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Origin:
    """What a picture was before it was prepared: its format, width and height in pixels, and bytes where it had any."""

    format: str
    width: int
    height: int
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Image:
    """A picture ready to be sent: encoded bytes, their MIME type, width and height in pixels."""

    data: bytes
    mime: str
    width: int
    height: int
    #: What the user called it, for messages.
    label: str = "image"
    origin: Origin | None = None
    #: What the user should know of the preparation, as `the first of 12 frames`.
    notes: tuple[str, ...] = ()
    #: Names the upload by which it is sent; None when it goes with the request.
    file_id: str | None = None
    #: SHA-256 of the bytes.
    digest: str = ""

    def __post_init__(self) -> None:
        _name_content(self)

    def __repr__(self) -> str:
        return f"Image({self.label!r}, {self.mime}, {self.width}×{self.height}, {len(self.data):,} bytes)"


@dataclass(frozen=True, slots=True)
class Video:
    """A video ready to be sent: its bytes as they are, and their MIME type."""

    data: bytes
    mime: str
    label: str = "video"
    #: Names the upload by which it is sent; None when it goes with the request.
    file_id: str | None = None
    #: SHA-256 of the bytes.
    digest: str = ""

    def __post_init__(self) -> None:
        _name_content(self)

    def __repr__(self) -> str:
        return f"Video({self.label!r}, {self.mime}, {len(self.data):,} bytes)"


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A file whose text the host is to extract: its bytes as they are, and their MIME type."""

    data: bytes
    mime: str = "application/octet-stream"
    label: str = "document"
    #: SHA-256 of the bytes.
    digest: str = ""

    def __post_init__(self) -> None:
        _name_content(self)

    def __repr__(self) -> str:
        return f"DocumentFile({self.label!r}, {self.mime}, {len(self.data):,} bytes)"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, as text; `digest` is the SHA-256 of the file's bytes."""

    text: str
    label: str
    digest: str

    def __repr__(self) -> str:
        return f"Document({self.label!r}, {len(self.text):,} characters)"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it lies at the host; what the host does not say is empty or None."""

    id: str
    name: str = ""
    purpose: str = ""
    size_bytes: int | None = None
    created: datetime | None = None


def _name_content(medium: Image | Video | DocumentFile) -> None:
    """Put the hash of the bytes in, where it was not told: a copy with another label need not hash them again."""
    if not medium.digest:
        object.__setattr__(medium, "digest", hashlib.sha256(medium.data).hexdigest())


class Media(NamedTuple):
    """What goes with a prompt beside its text."""

    images: tuple[Image, ...] = ()
    videos: tuple[Video, ...] = ()
    #: What a draft names and only a run finds, as the clipboard.
    pending: tuple[str, ...] = ()


NO_MEDIA = Media()


def format_bytes(count: int) -> str:
    """Return a number of bytes for a reader: `640 B`, `31.5 kB`, `2.4 MB`."""
    if count < 1000:
        return f"{count} B"
    power = min(3, int(math.log10(count)) // 3)
    unit = ("", "kB", "MB", "GB")[power]
    return f"{count / 1000**power:.{0 if count >= 100 * 1000**power else 1}f} {unit}"
