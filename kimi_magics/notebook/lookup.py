"""Find what a flag names: a variable of the user, an output, or a file, ready to be sent."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_magics.core.media import Image, Media
from kimi_magics.core.prompt import resolve
from kimi_magics.errors import ImageError

if TYPE_CHECKING:
    from kimi_magics.core.ask import Ask
    from kimi_magics.notebook.cell_runs import CellRuns

# What the models use at most; more costs time and no quality (kimi_api.md section 3). A page scan keeps 2,000 pixels of
# width, so that its text stays readable.
_MOST_WIDTH, _MOST_HEIGHT, _READABLE_WIDTH = 4096, 2160, 2000
# A picture of more pixels is taken for a decompression bomb, as Pillow does by default.
_MOST_PIXELS = 180_000_000
_MOST_PREPARED = 16
_SENT_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


def find_image(name: str, variables: Mapping[str, Any]) -> Image:
    """Return the picture that `name` stands for: a variable, `Out[n]`, `_`, or a path. Raises ImageError."""
    return prepare_image(find_source(name, variables), label=_short(name))


def find_source(name: str, variables: Mapping[str, Any]) -> Any:
    """Return the value or path that `name` stands for, as it is. Raises ImageError and VariableError."""
    if re.match(r"https?://", name, re.IGNORECASE):
        raise ImageError(
            f"{_short(name)} is an address, and the API takes no addresses",
            remedy="download the picture and name the file",
        )
    first = re.split(r"[.\[]", name)[0]
    # `plot.png` may be a file although there is a variable `plot`.
    if first in variables and not Path(name).is_file():
        return resolve(name, variables)
    path = Path(name).expanduser()
    if path.is_dir():
        raise ImageError(f"{_short(name)} is a folder", remedy="name a file in it")
    if not path.is_file():
        raise ImageError(
            f"{_short(name)} is neither a variable nor a file",
            remedy="name a figure, a PIL image, bytes, or the path of a picture",
        )
    return path


def prepare_image(value: Any, *, label: str) -> Image:
    """Turn a picture of any kind into what is sent: upright, without metadata, not larger than the models use.

    Takes a path, bytes, a PIL image, a matplotlib figure or axes, IPython.display.Image, and whatever has `_repr_png_`
    or `_repr_jpeg_`. Raises ImageError.
    """
    import PIL.Image
    import PIL.ImageOps

    try:
        picture = _open(value, label)
        kind = picture.format if picture.format in _SENT_FORMATS else "PNG"
        picture = _shrink(PIL.ImageOps.exif_transpose(picture) or picture)
        data = _encode(picture, kind)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(
            f"{label} cannot be read as a picture: {error}", remedy="jpeg, png, gif, webp and bmp can be sent"
        ) from None
    return Image(data, _SENT_FORMATS[kind], picture.width, picture.height, label)


def _open(value: Any, label: str) -> Any:
    """Open a picture by its header; its pixels are not read yet."""
    import PIL.Image

    if isinstance(value, PIL.Image.Image):
        return value
    with warnings.catch_warnings():
        # Pillow warns from half the size on at which it refuses; what is too large is refused below.
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        picture = PIL.Image.open(io.BytesIO(_read_bytes(value, label)))
    if picture.width * picture.height > _MOST_PIXELS:
        raise ImageError(
            f"{label} has {picture.width:,} × {picture.height:,} pixels: too many to be opened safely",
            remedy="make it smaller",
        )
    return picture


def _encode(picture: Any, kind: str) -> bytes:
    import PIL.Image

    if picture.mode not in ("RGB", "RGBA", "L"):
        has_alpha = "transparency" in picture.info or picture.mode in ("LA", "PA")
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    if kind == "JPEG":
        picture = picture.convert("RGB")
    # A fresh image: what was beside the pixels (place, camera, comments) is not sent.
    bare = PIL.Image.frombytes(picture.mode, picture.size, picture.tobytes())
    out = io.BytesIO()
    bare.save(out, kind, quality=92)
    return out.getvalue()


def _read_bytes(value: Any, label: str) -> bytes:
    if isinstance(value, Path):
        return value.read_bytes()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    if figure is not None and hasattr(figure, "savefig"):
        out = io.BytesIO()
        figure.savefig(out, format="png", bbox_inches="tight")
        return out.getvalue()
    for method in ("_repr_png_", "_repr_jpeg_"):
        data = getattr(value, method, lambda: None)()
        # Some return (data, metadata).
        data = data[0] if isinstance(data, tuple) else data
        if isinstance(data, str):
            from base64 import b64decode

            return b64decode(data)
        if data:
            return bytes(data)
    raise ImageError(
        f"{label} is of type {type(value).__name__}, which has no picture",
        remedy="name a figure, a PIL image, bytes, or the path of a picture",
    )


def _shrink(picture: Any) -> Any:
    fit = min(1.0, _MOST_WIDTH / picture.width, _MOST_HEIGHT / picture.height)
    scale = max(fit, min(1.0, _READABLE_WIDTH / picture.width))
    if scale >= 1.0:
        return picture
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:59] + "…"


class Lookup:
    """Turns what `-i` and `--video` name into what is sent, for one kernel.

    A draft is counted again and again: what it names is prepared once, until a cell has run. While a cell runs nothing
    is drawn for a draft, since the cell may draw on the same figure.
    """

    def __init__(self, runs: CellRuns) -> None:
        self._runs = runs
        self._ready: dict[tuple[Any, ...], Image] = {}

    def find(self, ask: Ask, variables: Mapping[str, Any]) -> Media:
        """Return what goes with the prompt of a run. Raises ImageError and VariableError."""
        return Media(images=tuple(find_image(name, variables) for name in ask.image))

    def peek(self, ask: Ask, variables: Mapping[str, Any]) -> Media:
        """Return the same for a draft, from what was prepared before. Raises ImageError and VariableError."""
        return Media(images=tuple(self._peek_image(name, variables) for name in ask.image))

    def _peek_image(self, name: str, variables: Mapping[str, Any]) -> Image:
        value = find_source(name, variables)
        key: tuple[Any, ...] = ("value", name, id(value), self._runs.count)
        if isinstance(value, Path):
            stat = value.stat()
            key = ("file", str(value), stat.st_mtime_ns, stat.st_size)
        image = self._ready.get(key)
        if image is None:
            if self._runs.is_busy and not isinstance(value, Path | bytes):
                raise ImageError(f"{_short(name)} is counted when the cell that runs is done")
            if len(self._ready) >= _MOST_PREPARED:
                self._ready.pop(next(iter(self._ready)), None)
            self._ready[key] = image = prepare_image(value, label=_short(name))
        return image
