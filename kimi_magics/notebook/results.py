"""What a function of the user returns, as the text and the images that the model is told.

Whatever the value, a text comes out that can be sent: not empty, not longer than the bound, without an API key.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kimi_magics.core.media import Image, format_bytes
from kimi_magics.errors import ImageError, holds_key, redact
from kimi_magics.notebook.frames import write_frame
from kimi_magics.notebook.pictures import find_figure
from kimi_magics.notebook.prepare import prepare_image

#: About 5,000 to 7,000 tokens, which are paid again with every later step of the same answer.
MOST_LETTERS = 20_000
NO_VALUE = "(no value)"
# Each one costs about a thousand tokens.
_MOST_IMAGES = 8
#: Where a key begins before the bound and ends after it, it is found all the same.
_MARGIN_LETTERS = 500
#: An array within JSON with more values is written as a sample.
_MOST_VALUES = 1_000
_PICTURE_HEADS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


@dataclass(frozen=True, slots=True)
class Result:
    """What the model is told of a value; `is_cut` when the text is not the whole."""

    text: str
    images: tuple[Image, ...] = ()
    is_cut: bool = False


def write_result(value: Any, *, limit: int = MOST_LETTERS) -> Result:
    """Return a value as text of at most `limit` characters and images. Raises nothing, whatever the value is.

    Text goes as it is, a table or an array as `write_frame` has it, a picture or figure as an image that the text
    names, what JSON can hold as compact JSON, anything else as it shows itself.
    """
    images: list[Image] = []
    try:
        text = _write(value, _Writer(value, images))
    except Exception as error:  # noqa: BLE001 — values are foreign code, down to their attributes
        text = f"(a {type(value).__name__}, which cannot be shown: {type(error).__name__})"
    text, is_cut = cut_text(text, limit)
    return Result(text, tuple(images), is_cut)


def cut_text(text: str, limit: int = MOST_LETTERS) -> tuple[str, bool]:
    """Return a text as it can be sent, and whether it was cut: a last line then says how much of it there is."""
    count = len(text)
    text = text[: limit + _MARGIN_LETTERS]
    # Two halves of a character become one again, a lone half becomes the sign for it.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if holds_key(text):
        text = redact(text)
    if count > limit:
        return f"{text[:limit]}\n… cut: {limit:,} of {count:,} characters", True
    return (text if text.strip() else NO_VALUE), False


def _write(value: Any, writer: _Writer) -> str:
    if value is None:
        return NO_VALUE
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum, its value
    special = writer.write_special(value)
    if special is not None:
        return special
    return writer.write_json(value)


class _Writer:
    """Writes one value; the images in it are collected."""

    def __init__(self, value: Any, images: list[Image]) -> None:
        self._value = value
        self._images = images
        self._drawn = 0
        self._is_plain = False

    def write_json(self, value: Any) -> str:
        from pydantic_core import to_json

        try:
            text = to_json(value, fallback=self._replace, inf_nan_mode="constants", by_alias=True).decode()
        except Exception:  # noqa: BLE001 — a key that JSON cannot hold, a value that holds itself, half a character
            return _show(value)
        if self._is_plain:
            return _show(value)
        # A date or a path alone needs no quotes.
        return str(json.loads(text)) if text.startswith('"') else text

    def _replace(self, value: Any) -> Any:
        """Return what stands in JSON for a value that Pydantic has no form for."""
        plain = _unpack(value)
        if plain is not None:
            return plain
        if value is self._value:
            self._is_plain = True
            return None
        special = self.write_special(value)
        return _show(value) if special is None else special

    def write_special(self, value: Any) -> str | None:
        """Return a table, an array, a picture or bytes as text; None for other values."""
        if isinstance(value, bytes | bytearray | memoryview):
            return self._write_bytes(bytes(value))
        if isinstance(value, bool | int | float | dict | list | tuple | set | frozenset):
            return None
        text = write_frame(value) if getattr(value, "shape", None) != () else None
        if text is not None:
            return text
        return self._write_image(value) if _shows_picture(value) else None

    def _write_bytes(self, data: bytes) -> str:
        is_picture = data.startswith(_PICTURE_HEADS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        text = self._write_image(data) if is_picture else None
        if text is not None:
            return text
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        is_text = all(letter.isprintable() or letter in "\t\r\n" for letter in text[:1_000])
        return text if text and is_text else f"({format_bytes(len(data))} of binary data)"

    def _write_image(self, value: Any) -> str | None:
        """Return the name of an image in the text, or None when the value cannot be drawn."""
        if self._drawn >= _MOST_IMAGES:
            return f"(an image beyond the first {_MOST_IMAGES}, left out)"
        try:
            image = prepare_image(value, label="image")
        except ImageError:
            return None
        self._drawn += 1  # also of one that is there already: drawing takes its time
        size = f"{image.width}x{image.height}"
        if all(image.digest != other.digest for other in self._images):
            self._images.append(image)
        return f"image {size}"


def _unpack(value: Any) -> Any:
    """Return what a number or array of NumPy, a row of a database, or a record holds; None for other values."""
    kind = type(value)
    if isinstance(value, type | range):
        return None
    if hasattr(value, "tolist") and math.prod(getattr(value, "shape", (_MOST_VALUES + 1,))) <= _MOST_VALUES:
        return value.tolist()
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__") and not hasattr(kind, "dtypes"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 — a row of sqlite3 iterates over its values
    if isinstance(value, Sequence):
        return list(value)
    # Classes of msgspec and of attrs.
    names = getattr(kind, "__struct_fields__", None) or [part.name for part in getattr(kind, "__attrs_attrs__", ())]
    return {name: getattr(value, name) for name in names} if names else None


def _shows_picture(value: Any) -> bool:
    """Tell whether a value is a picture, or what is drawn as one."""
    if isinstance(value, type):
        return False
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return True
    if find_figure(value) is not None:
        return True
    kind = type(value)
    if kind.__module__.partition(".")[0] == "plotly" and hasattr(kind, "to_image"):
        return True
    # IPython.display.Image, and what shows itself as one.
    return any(hasattr(kind, name) for name in ("_repr_png_", "_repr_jpeg_"))


def _show(value: Any) -> str:
    """Return how a value shows itself; an error in doing so is said."""
    kind = type(value)
    try:
        # The words of an error say too little without its name.
        return repr(value) if isinstance(value, BaseException) else str(value)
    except Exception as error:  # noqa: BLE001 — __repr__ is code of the user
        return f"(a {kind.__name__}, which cannot be shown: {type(error).__name__})"
