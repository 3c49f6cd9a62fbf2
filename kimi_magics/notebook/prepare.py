"""Make of a picture what is sent: upright, without metadata, not larger than the models use, as small as sight allows.

The promise: whatever the bytes are, a picture comes out or ImageError; the picture that was given is not changed.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kimi_magics.core.media import Image, Origin
from kimi_magics.core.sizes import fit_size
from kimi_magics.errors import ImageError
from kimi_magics.notebook.pictures import Render, read_picture

if TYPE_CHECKING:
    import PIL.Image

    Pixels = PIL.Image.Image

# A picture of more pixels is taken for a decompression bomb, as Pillow does by default.
_MOST_PIXELS = 180_000_000
#: Not those whose reader starts another program or that hold no pixels, as EPS.
_READ_FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "TIFF", "HEIF", "AVIF", "JPEG2000", "ICO", "PPM", "TGA", "PCX"),
    *("SGI", "DDS", "QOI", "ICNS"),
)
_LOSSY_FORMATS = ("JPEG", "MPO", "HEIF", "AVIF")
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_QUALITY = 90
# WebP takes several times as long as JPEG, which only matters in large pictures.
_MOST_WEBP_PIXELS = 2_000_000
#: For less than this a drawing shall not lose its sharp lines.
_LEAST_GAIN_BYTES = 100_000
_TILE = 128
#: What was prepared and is not in use any more is kept up to this size.
_KEPT_BYTES = 32_000_000

_REMEDY = "jpeg, png, gif, webp, bmp and tiff can be read, heic with the package pillow-heif"


def prepare_image(value: Any, *, label: str, size: str = "high", render: Render | None = None) -> Image:
    """Turn a picture of any kind into what is sent. Raises ImageError.

    `value` is anything that `read_picture` takes, `size` as in `--image-size`.
    """
    return _prepare(read_picture(value, label=label, render=render), label, size)


def to_png(value: Any, *, label: str) -> bytes:
    """Return the picture as PNG, at its full size and without metadata. Raises ImageError."""
    return _prepare(read_picture(value, label=label), label, "none", kind="PNG").data


class Preparer:
    """Prepares each content once: what was prepared is found again by the hash of the bytes that it was made of."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: WeakValueDictionary[tuple[str, str], Image] = WeakValueDictionary()
        self._kept: OrderedDict[tuple[str, str], Image] = OrderedDict()

    def prepare(self, value: Any, *, label: str, size: str = "high", render: Render | None = None) -> Image:
        """Return what `prepare_image` returns."""
        picture = read_picture(value, label=label, render=render)
        content = _hash(picture)
        if content is None:
            return _prepare(picture, label, size)
        key = content, size
        with self._lock:
            image = self._known.get(key)
        if image is None:
            image = _prepare(picture, label, size)
        with self._lock:
            self._known[key] = image
            self._kept[key] = image
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(len(kept.data) for kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return image if image.label == label else replace(image, label=label)


def _hash(picture: Path | bytes | Pixels) -> str | None:
    """Return a name for the content of bytes and files; pixels in memory have none that is quick to find."""
    if isinstance(picture, bytes):
        return hashlib.blake2b(picture).hexdigest()
    if isinstance(picture, Path):
        try:
            with picture.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()
        except OSError:
            return None  # opening it tells why
    return None


def _prepare(given: Path | bytes | Pixels, label: str, size: str, *, kind: str | None = None) -> Image:
    """Prepare in the format that suits, or in `kind`. Raises ImageError."""
    import PIL.Image

    try:
        if isinstance(given, Path):
            with given.open("rb") as file:
                return _convert(file, label, size, size_bytes=given.stat().st_size, kind=kind)
        if isinstance(given, bytes):
            return _convert(io.BytesIO(given), label, size, size_bytes=len(given), kind=kind)
        return _convert(given, label, size, size_bytes=None, kind=kind)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{label} does not fit into the memory", remedy="make it smaller") from None
    except Exception as error:  # noqa: BLE001 — what Pillow raises for broken data has no common class
        if _looks_like_heif(given) and "HEIF" not in PIL.Image.OPEN:
            raise ImageError(f"{label} is a HEIC picture", remedy="pip install pillow-heif reads it") from None
        reason = "too many pixels to be opened safely"
        if not isinstance(error, PIL.Image.DecompressionBombError):
            # Pillow names the object that it reads from, which says nothing to the user.
            reason = re.sub(r"\s*<[^<>]* at 0x[^<>]*>", "", str(error)).strip() or type(error).__name__
        raise ImageError(f"{label} cannot be read as a picture: {reason}", remedy=_REMEDY) from None


def _convert(given: IO[bytes] | Pixels, label: str, size: str, *, size_bytes: int | None, kind: str | None) -> Image:
    picture = _open(given, label)
    source, notes = picture.format or "pixels", []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and source != "MPO":
        notes.append(f"the first of {frames} frames")
        if picture is given:  # which stands at the frame that the user chose
            picture = picture.copy() if picture.tell() == 0 else _copy_first_frame(picture)
        else:
            picture.seek(0)
    orientation = _find_orientation(picture)
    turned = orientation >= 5
    width, height = picture.size[::-1] if turned else picture.size
    fitted = fit_size(width, height, size)
    profile = picture.info.get("icc_profile")
    if fitted != (width, height) and picture is not given:
        # A JPEG is decoded at a half, a quarter or an eighth where that is enough.
        picture.draft(None, fitted[::-1] if turned else fitted)
    pixels = _simplify(picture, notes)
    # First, since there are fewer pixels to turn and to convert then.
    target = fitted[::-1] if turned else fitted
    if target != pixels.size:
        pixels = pixels.resize(target)
    pixels = _to_srgb(_turn_upright(pixels, orientation), profile)
    if pixels is given:
        pixels = pixels.copy()
    # What is beside the pixels (place, camera, comments, profile) is not sent.
    pixels.info = {}
    if kind is None:
        kind, pixels = _choose(pixels, source)
    data, origin = _encode(pixels, kind), Origin(source, width, height, size_bytes)
    return Image(data, _MIME[kind], pixels.width, pixels.height, label, origin, tuple(notes))


def _open(given: IO[bytes] | Pixels, label: str) -> Pixels:
    """Open a picture by its header; its pixels are not read yet."""
    import PIL.Image

    if isinstance(given, PIL.Image.Image):
        if 0 in given.size:
            raise ImageError(f"{label} has {given.width} × {given.height} pixels", remedy="send a picture with pixels")
        return given
    _register_heif()
    PIL.Image.init()
    formats = [name for name in _READ_FORMATS if name in PIL.Image.OPEN]
    with warnings.catch_warnings():
        # Pillow warns from half the size on at which it refuses; what is too large is refused below. It also warns of
        # damage that it can read past.
        warnings.simplefilter("ignore")
        picture = PIL.Image.open(given, formats=formats)
    if picture.width * picture.height > _MOST_PIXELS:
        size = f"{picture.width:,} × {picture.height:,}"
        raise ImageError(f"{label} has {size} pixels: too many to be opened safely", remedy="make it smaller")
    return picture


def _register_heif() -> None:
    for name in ("pillow_heif", "pi_heif"):
        try:
            plugin = __import__(name)
        except ImportError:
            continue
        plugin.register_heif_opener()
        return


def _looks_like_heif(given: Path | bytes | Pixels) -> bool:
    head = b""
    if isinstance(given, bytes):
        head = given[:12]
    elif isinstance(given, Path):
        with suppress(OSError), given.open("rb") as file:
            head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


# ---------------------------------------------------------------- pixels


def _simplify(picture: Pixels, notes: list[str]) -> Pixels:
    """Return the picture as grey, RGB or RGBA with 8 bits each. Decoding happens here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture.load()
    mode = picture.mode
    if mode in ("RGB", "L") and "transparency" not in picture.info:
        return picture
    if mode == "RGBA":
        return picture
    if mode == "1":
        return picture.convert("L")
    if mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return picture.convert("RGBA")
    if mode.startswith("I") or mode == "F":
        return _scale_to_8_bits(picture, notes)
    return picture.convert("RGB")


def _scale_to_8_bits(picture: Pixels, notes: list[str]) -> Pixels:
    """Return wide grey values as 8 bits: as they are, by the bits that they use, or from the least to the largest."""
    wide = picture.convert("F" if picture.mode == "F" else "I")
    low, high = wide.getextrema()
    low, high = float(low), float(high)  # type: ignore[arg-type]  # one band has one pair
    if not (high - low) < float("inf"):
        raise ValueError("its values are not finite")
    if low >= 0 and high <= 255 and picture.mode != "F":
        return wide.convert("L")
    if low >= 0 and high <= 65_535 and picture.mode != "F":
        scale, offset = (1 / 16 if high < 4096 else 1 / 256), 0.0
        notes.append("16-bit values as 8-bit")
    else:
        scale = 255 / ((high - low) or 1.0)
        offset = -low * scale
        notes.append(f"values from {low:g} to {high:g} as 0 to 255")
    return wide.point(lambda value: value * scale + offset).convert("L")


def _copy_first_frame(picture: Pixels) -> Pixels:
    """Return the first frame of a picture of the user, who finds it at the frame where it was."""
    frame = picture.tell()
    picture.seek(0)
    try:
        return picture.copy()
    finally:
        picture.seek(frame)


def _find_orientation(picture: Pixels) -> int:
    """Return the orientation that EXIF states, 1 to 8; 1 is upright."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 — broken EXIF data is no reason to refuse the picture
        return 1
    return found if found in range(1, 9) else 1


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    from PIL.Image import Transpose

    # EXIF 2.32, tag 0x0112.
    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return pixels.transpose(methods[orientation]) if orientation in methods else pixels


def _to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    """Return the colours that the profile means; a profile that cannot be used is passed over."""
    if not profile or pixels.mode not in ("RGB", "RGBA") or b"sRGB" in profile or b"s\0R\0G\0B" in profile:
        return pixels
    try:
        from PIL import ImageCms

        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(pixels, found, ImageCms.createProfile("sRGB"))
    except Exception:  # noqa: BLE001 — littleCMS may lack, and profiles of cameras are often broken
        return pixels
    return converted or pixels


# ---------------------------------------------------------------- encoding


def _choose(pixels: Pixels, source: str) -> tuple[str, Pixels]:
    """Return the format, and the pixels as it takes them: PNG unless a lossy format saves half of it and more."""
    import PIL.Image

    opaque = pixels
    if pixels.mode == "RGBA":
        if pixels.getchannel("A").getextrema() == (255, 255):
            opaque = pixels = pixels.convert("RGB")
        else:
            opaque = PIL.Image.new("RGB", pixels.size, "white")
            opaque.paste(pixels, mask=pixels.getchannel("A"))
    sample = _take_sample(opaque)
    sizes = {"JPEG": len(_encode(sample, "JPEG"))}
    if source == "WEBP" or pixels.width * pixels.height <= _MOST_WEBP_PIXELS:
        sizes["WEBP"] = len(_encode(sample, "WEBP"))
    lossy = "WEBP" if sizes.get("WEBP", sizes["JPEG"]) < 0.8 * sizes["JPEG"] else "JPEG"
    lossless = len(_encode(sample, "PNG"))
    gain = (lossless - sizes[lossy]) * pixels.width * pixels.height / (sample.width * sample.height)
    is_drawing = gain < _LEAST_GAIN_BYTES or lossless < 2 * sizes[lossy]
    return ("PNG", pixels) if is_drawing and source not in _LOSSY_FORMATS else (lossy, opaque)


def _take_sample(pixels: Pixels) -> Pixels:
    """Return the picture, or sixteen parts of it side by side."""
    import PIL.Image

    width, height = pixels.size
    if width * height <= (4 * _TILE) ** 2:
        return pixels
    tile_width, tile_height = min(_TILE, width), min(_TILE, height)
    sample = PIL.Image.new(pixels.mode, (4 * tile_width, 4 * tile_height))
    for row in range(4):
        for column in range(4):
            left, top = (width - tile_width) * column // 3, (height - tile_height) * row // 3
            part = pixels.crop((left, top, left + tile_width, top + tile_height))
            sample.paste(part, (column * tile_width, row * tile_height))
    return sample


def _encode(pixels: Pixels, kind: str) -> bytes:
    options: dict[str, Any] = {}
    if kind == "JPEG":
        # Colour at full resolution, or thin coloured lines would fade.
        options = {"quality": _QUALITY, "subsampling": 0}
    elif kind == "WEBP":
        options = {"quality": _QUALITY, "method": 2}
    out = io.BytesIO()
    pixels.save(out, kind, **options)
    return out.getvalue()
