"""Images and videos of a request: refused as the API refuses them, and read with Pillow for real facts about them."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import io
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from kimi_magics.sandbox.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,", re.ASCII)
_IMAGE_TYPES = {f"image/{name}" for name in ("jpeg", "jpg", "png", "gif", "webp", "bmp", "heic", "heif")}
_VIDEO_TYPES = {
    f"video/{name}" for name in ("mp4", "mpeg", "mov", "quicktime", "avi", "x-flv", "mpg", "webm", "wmv", "3gpp")
}
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"heif")
_PIXEL_LIMIT = 80_000_000
_SIDE_TESTED_FOR_COLOURS = 48

_COLOURS = {
    "white": (255, 255, 255),
    "light grey": (200, 200, 200),
    "grey": (128, 128, 128),
    "dark grey": (64, 64, 64),
    "black": (0, 0, 0),
    "red": (214, 39, 40),
    "orange": (255, 140, 20),
    "yellow": (250, 220, 40),
    "green": (44, 160, 44),
    "turquoise": (40, 190, 200),
    "blue": (31, 100, 200),
    "navy": (15, 25, 90),
    "purple": (130, 80, 180),
    "pink": (240, 130, 190),
    "brown": (120, 75, 45),
    "beige": (225, 205, 170),
}


@dataclass(frozen=True)
class Picture:
    """What was found out about one image: size in pixels, brightness from 0 (black) to 255, its commonest colours."""

    digest: str
    format: str
    width: int
    height: int
    mode: str
    brightness: float
    colours: tuple[tuple[str, int], ...]
    """Names with their share in per cent."""
    is_mostly_white: bool


@dataclass(frozen=True)
class Video:
    """A video, which the sandbox only weighs."""

    digest: str
    kind: str
    size_bytes: int


# A notebook's gauge sends the same images again and again.
_pictures_read_last: OrderedDict[str, Picture] = OrderedDict()


def read_image(url: object, find_file: Callable[[str], bytes | None]) -> Picture:
    """Read the image of an `image_url`, which must be a data URL or the `ms://` id of an uploaded file."""
    data = _read_url(url, "image", _IMAGE_TYPES, find_file)[1]
    digest = hashlib.sha256(data).hexdigest()
    picture = _pictures_read_last.get(digest)
    if picture is None:
        picture = _pictures_read_last[digest] = _examine(data, digest)
        if len(_pictures_read_last) > 256:
            _pictures_read_last.popitem(last=False)
    return picture


def read_video(url: object, find_file: Callable[[str], bytes | None]) -> Video:
    """Weigh the video of a `video_url`."""
    kind, data = _read_url(url, "video", _VIDEO_TYPES, find_file)
    return Video(hashlib.sha256(data).hexdigest(), kind, len(data))


def _read_url(url: object, what: str, types: set[str], find_file: Callable[[str], bytes | None]) -> tuple[str, bytes]:
    if not isinstance(url, str) or not url:
        raise RefusalError(f"Invalid request: {what}_url must be an object with url, or a string")
    if url.startswith("ms://"):
        data = find_file(url.removeprefix("ms://"))
        if data is None:
            raise RefusalError(f"Invalid request: file {url} not found or permission denied")
        return f"{what}/uploaded", data
    match = _DATA_URL.match(url)
    if match is None:
        raise RefusalError(f"Invalid request: unsupported {what} url: {url[:80]}")
    kind = (match["kind"] or "").lower()
    if kind not in types:
        raise RefusalError(f"Invalid request: unsupported {what} format: {kind or 'none stated'}")
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusalError(f"Invalid request: invalid {what} data: not base64") from error
    if not data:
        raise RefusalError(f"Invalid request: invalid {what} data: empty")
    return kind, data


def _examine(data: bytes, digest: str) -> Picture:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:  # Pillow cannot read these by itself
        return Picture(digest, "HEIF", 1024, 1024, "unknown", 128.0, (), is_mostly_white=False)
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
            if image.width * image.height > _PIXEL_LIMIT:
                raise RefusalError(f"Invalid request: image too large: {image.width}x{image.height} pixels")
            format_name, mode = image.format or "unknown", image.mode
            image.load()
            return _describe(image, digest, "JPEG" if format_name == "MPO" else format_name, mode)
    except RefusalError:
        raise
    except UnidentifiedImageError as error:
        raise RefusalError("Invalid request: unsupported image format or invalid image data") from error
    except Exception as error:  # a broken image makes Pillow raise nearly anything
        raise RefusalError("Invalid request: failed to decode image, the data is broken") from error


def _describe(image: Image.Image, digest: str, format_name: str, mode: str) -> Picture:
    width, height = image.size
    coloured = image.convert("RGBA")
    coloured.thumbnail((_SIDE_TESTED_FOR_COLOURS, _SIDE_TESTED_FOR_COLOURS))
    flat = Image.new("RGBA", coloured.size, "white")
    flat.alpha_composite(coloured)
    values = flat.convert("RGB").tobytes()
    pixels = list(zip(values[0::3], values[1::3], values[2::3], strict=True))
    grey = flat.convert("L").tobytes()
    names = Counter(map(_name_colour, pixels))
    colours = tuple(
        (name, round(100 * count / len(pixels))) for name, count in names.most_common(4) if count * 50 >= len(pixels)
    )
    white = sum(min(pixel) >= 235 for pixel in pixels) / len(pixels)
    return Picture(
        digest, format_name, width, height, mode, sum(grey) / len(grey), colours, is_mostly_white=white >= 0.55
    )


@functools.lru_cache(maxsize=100_000)
def _name_colour(pixel: tuple[int, int, int]) -> str:
    return min(_COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(pixel, _COLOURS[name], strict=True)))
