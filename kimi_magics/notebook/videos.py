"""Turn what the user named after `--video` into a video that can be sent, as it is: nothing is converted.

The kind is told by the first bytes; only where they say nothing does the name of the file decide.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kimi_magics.core.media import Video, format_bytes
from kimi_magics.errors import VideoError
from kimi_magics.notebook.paths import expand_path

#: What the API takes of one file, and of a whole request (kimi_api.md section 3, checked 2026-11-22).
MAX_VIDEO_BYTES = 100_000_000
_KEPT_BYTES = 120_000_000
_READABLE = "mp4, mov, mpeg, avi, flv, webm, wmv and 3gp can be sent"
_CONVERT = f"{_READABLE}; convert it, as with ffmpeg -i IN OUT.mp4"
_NAME_ONE = "name a file, bytes, or an IPython.display.Video"

#: The API's own words for its kinds, in places not the registered ones (video/quicktime, video/x-msvideo).
_BY_SUFFIX = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mov",
    ".qt": "video/mov",
    ".avi": "video/avi",
    ".flv": "video/x-flv",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".webm": "video/webm",
    ".wmv": "video/wmv",
    ".3gp": "video/3gpp",
    ".3g2": "video/3gpp",
}
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_PICTURE_BRANDS = ("heic", "heix", "hevc", "heim", "heis", "mif1", "msf1", "heif", "avif", "avis")
_DATA_URL = re.compile(r"data:video/[\w.+-]+(?:;[\w=.+-]+)*?;base64,([A-Za-z0-9+/=\s]+)", re.ASCII)


class VideoReader:
    """Finds videos and keeps those read last, within `limit_bytes`: a draft names the same one with each key.

    Safe to use from several threads. A file is read again when it has changed.
    """

    def __init__(self, *, limit_bytes: int = _KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[tuple[object, ...], tuple[Any, Video]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, value: Any, *, label: str) -> Video:
        """Return what `find_video` does. Raises VideoError."""
        key = _name_source(value, label)
        if key is None:
            return find_video(value, label=label)
        with self._lock:
            source, video = self._kept.get(key, (None, None))
            if video is not None and (source is value or isinstance(value, Path)):
                self._kept.move_to_end(key)
                return video
        video = find_video(value, label=label)
        with self._lock:
            self._kept[key] = value, video
            while sum(len(kept.data) for _, kept in self._kept.values()) > self._limit_bytes:
                self._kept.popitem(last=False)
        return video


def _name_source(value: Any, label: str) -> tuple[object, ...] | None:
    """Return what stands for the content: of a file its state, of bytes, which do not change, their place."""
    if isinstance(value, bytes):
        return "bytes", id(value), label
    if isinstance(value, Path):
        try:
            stat = value.stat()
        except (OSError, ValueError):
            return None
        return "file", str(value), stat.st_mtime_ns, stat.st_size, label
    return None


def find_video(value: Any, *, label: str) -> Video:
    """Return the video that `value` is or names; `label` is what the user called it.

    Takes a path, bytes, IPython.display.Video, a data URL, and whatever displays itself as a video. Raises VideoError.
    """
    found = _find_source(value, label)
    if isinstance(found, Path):
        data, suffix = _read_file(found, label), found.suffix.lower()
    else:
        data, suffix = bytes(found), Path(label).suffix.lower()
    if not data:
        raise VideoError(f"{label} is empty: it has no bytes", remedy="record or download it again")
    if len(data) > MAX_VIDEO_BYTES:
        raise _too_large(label, len(data))
    kind = _find_kind(data[:4096], suffix, label)
    # A path may be long, and its end says most; a variable goes by its name.
    return Video(data, kind, found.name if isinstance(found, Path) and not label.isidentifier() else label)


# ---------------------------------------------------------------- where it is


def _find_source(value: Any, label: str) -> Path | bytes | bytearray | memoryview:
    """Return the file or the bytes that `value` stands for."""
    if isinstance(value, Path | bytes | bytearray | memoryview):
        return value
    if isinstance(value, str):
        return _read_text(value, label)
    # IPython.display.Video has one of the first three, HTML has data, and the widget of a video has value.
    if isinstance(name := _get(value, "filename"), str) and name:
        return Path(name)
    if isinstance(url := _get(value, "url"), str) and url:
        return _read_text(url, label)
    # An array has data as well: its memory, which is no file.
    for part, kinds in (("data", (str, bytes)), ("value", (str, bytes, memoryview))):
        if isinstance(inner := _get(value, part), kinds):
            return _read_inner(inner, label)
    if (data := _read_bundle(value, label)) is not None:
        return data
    raise VideoError(f"{label} is of type {type(value).__name__}, which has no video", remedy=_NAME_ONE)


def _read_text(text: str, label: str) -> Path | bytes:
    if re.match(r"(https?|ftp)://", text, re.IGNORECASE):
        raise VideoError(
            f"{label} is an address, and the API takes no addresses", remedy="download the video and name the file"
        )
    if match := _DATA_URL.match(text):
        return _decode(match[1], label)
    if not text or "\n" in text or len(text) > 4096:
        raise VideoError(f"{label} is text, and no path of a video", remedy=_NAME_ONE)
    path = expand_path(text.removeprefix("file://"))
    if path is None:
        raise VideoError(f"{label} is no path that there can be", remedy=_NAME_ONE)
    return path


def _read_inner(inner: Any, label: str) -> bytes:
    """Return the bytes inside a display object: as they are, in base64, or in a page that shows them."""
    if isinstance(inner, bytes | bytearray | memoryview):
        if bytes(inner[:4]) == b"http":
            raise VideoError(f"{label} is an address", remedy="download the video and name the file")
        return bytes(inner)
    if isinstance(inner, str):
        match = _DATA_URL.search(inner)
        return _decode(match[1] if match else inner, label)
    raise VideoError(f"{label} has no video in it", remedy=_NAME_ONE)


def _read_bundle(value: Any, label: str) -> bytes | None:
    """Return the video that `value` displays, by its MIME bundle or its HTML; None when it displays none."""
    bundle = _call(value, "_repr_mimebundle_")
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    if isinstance(bundle, Mapping):
        for kind, data in bundle.items():
            if str(kind).startswith("video/"):
                return _read_inner(data, label)
    text = _call(value, "_repr_html_")
    match = _DATA_URL.search(text) if isinstance(text, str) else None
    return _decode(match[1], label) if match else None


def _get(value: Any, name: str) -> Any:
    try:
        return None if isinstance(value, type) else getattr(value, name, None)
    except Exception:  # noqa: BLE001 — a property is the user's code, which may raise anything
        return None


def _call(value: Any, method: str) -> Any:
    if not callable(made := _get(value, method)):
        return None
    try:
        return made()
    except Exception:  # noqa: BLE001 — a display method as well
        return None


def _decode(text: str, label: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise VideoError(f"{label} holds text that is no video in base64", remedy=_NAME_ONE) from None


def _read_file(path: Path, label: str) -> bytes:
    try:
        if path.is_dir():
            raise VideoError(f"{label} is a folder", remedy="name a video in it")
        if not path.exists():
            raise VideoError(f"there is no file {label}", remedy="check the name, and the folder that the kernel is in")
        if not path.is_file():
            raise VideoError(f"{label} is not a file", remedy=_NAME_ONE)
        # Before it is read: a film would fill the memory.
        if (size := path.stat().st_size) > MAX_VIDEO_BYTES:
            raise _too_large(label, size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{label} cannot be read: {reason}", remedy="check the name and the rights") from None


def _too_large(label: str, size: int) -> VideoError:
    return VideoError(
        f"{label} has {format_bytes(size)}, and the API takes videos of at most 100 MB",
        remedy="cut it, or make it smaller, as with ffmpeg -i IN -vf scale=-2:720 OUT.mp4",
    )


# ---------------------------------------------------------------- what it is


def _find_kind(head: bytes, suffix: str, label: str) -> str:
    """Return the MIME type by the first bytes, else by the suffix. Raises VideoError for what the API does not take."""
    kind = _tell_kind(head)
    if kind.startswith("video/"):
        return kind
    if kind == "picture":
        raise VideoError(f"{label} is a picture, not a video", remedy="send it with -i in the place of --video")
    if not kind and suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    what = f"{label} is {kind}" if kind else f"{label} is not a video that can be recognised"
    raise VideoError(f"{what}, which the API does not take" if kind else what, remedy=_CONVERT)


def _tell_kind(head: bytes) -> str:
    """Return the MIME type that the first bytes tell, what else they are in a word or two, or nothing."""
    box = head[4:8]
    if box == b"ftyp":
        return _tell_brand(head[8:12].decode("latin-1"))
    if box in (b"moov", b"mdat", b"wide", b"pnot"):  # QuickTime from before there was `ftyp`
        return "video/mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm" if b"webm" in head[:256] else "a Matroska (mkv) file"
    if head.startswith(b"RIFF"):
        return {b"AVI ": "video/avi", b"WEBP": "picture"}.get(head[8:12], "a sound")
    for start, kind in (
        (b"FLV\x01", "video/x-flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/wmv"),
        (b"\x00\x00\x01\xba", "video/mpeg"),
        (b"\x00\x00\x01\xb3", "video/mpeg"),
        (b"OggS", "an Ogg file"),
        (b"%PDF", "a PDF"),
        (b"PK\x03\x04", "an archive"),
        (b"ID3", "a sound"),
        (b"version https://git-lfs", "a pointer of Git LFS, not the file (git lfs pull fetches it)"),
    ):
        if head.startswith(start):
            return kind
    if head.startswith(_PICTURES):
        return "picture"
    return "text" if _is_text(head) else ""


def _tell_brand(brand: str) -> str:
    """Return what a file of the ISO family is by its major brand (https://mp4ra.org/registered-types/brands)."""
    if brand in _PICTURE_BRANDS:
        return "picture"
    if brand.startswith(("M4A", "M4B")):
        return "a sound"
    if brand == "qt  ":
        return "video/mov"
    return "video/3gpp" if brand.startswith(("3g", "3G")) else "video/mp4"


def _is_text(head: bytes) -> bool:
    """Tell whether it is readable text: what a failed download leaves in the place of a video."""
    return head.isascii() and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
