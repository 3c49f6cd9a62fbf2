"""What a Python value shows: the bytes, file or pixels of anything that has a picture."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_magics.errors import ImageError
from kimi_magics.notebook.arrays import draw_array, is_array
from kimi_magics.notebook.paths import expand_path

if TYPE_CHECKING:
    import PIL.Image

#: Asks the shell how it would show a value: MIME types with their data.
Render = Callable[[Any], Mapping[str, Any]]

# A file of more bytes is not read; no picture that can be opened safely has as many.
_MOST_BYTES = 1_000_000_000
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_RASTERS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_REMEDY = "name a figure, a PIL image, an array, bytes, or the path of a picture"


def read_picture(value: Any, *, label: str, render: Render | None = None) -> Path | bytes | PIL.Image.Image:
    """Return the picture of `value` as a file, encoded bytes or pixels; nothing is decoded. Raises ImageError.

    Takes a path or its text, bytes, a data URL, a PIL image, a matplotlib figure, axes or artist, a plotly figure,
    an array or tensor (see `arrays`), IPython.display.Image, and whatever shows itself as a PNG or JPEG.
    """
    found = _read(value, label, render)
    if isinstance(found, bytes):
        _check_bytes(found, label)
    elif isinstance(found, Path):
        _check_file(found, label)
    return found


def _read(value: Any, label: str, render: Render | None) -> Path | bytes | PIL.Image.Image:
    import PIL.Image

    if isinstance(value, PIL.Image.Image):
        return value
    if isinstance(value, Path):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return _read_text(value, label)
    if (figure := find_figure(value)) is not None:
        return _draw_figure(figure, value, label)
    if type(value).__module__.split(".")[0] == "plotly" and hasattr(value, "to_image"):
        return _draw_plotly(value, label)
    if is_array(value):
        return draw_array(value, label=label)
    data = getattr(value, "data", None)
    if isinstance(data, bytes) and hasattr(value, "embed"):  # IPython.display.Image, also of a GIF
        return data
    shown = _show(value, label, render)
    for mime in _RASTERS:
        if mime in shown:
            return _as_bytes(shown[mime], label)
    if all(hasattr(value, name) for name in ("save", "size", "mode")):
        return _save_as_pillow_does(value, label)
    raise _refuse(value, label, shown)


def _show(value: Any, label: str, render: Render | None) -> Mapping[str, Any]:
    """Return what the value shows of itself, by MIME type."""
    shown: dict[str, Any] = {}
    try:
        for mime, method in (("image/png", "_repr_png_"), ("image/jpeg", "_repr_jpeg_")):
            data = getattr(value, method, lambda: None)()
            if data:
                # Some return (data, metadata).
                return {mime: data[0] if isinstance(data, tuple) else data}
        bundle = getattr(value, "_repr_mimebundle_", lambda **_kinds: None)(include=None, exclude=None)
        bundle = bundle[0] if isinstance(bundle, tuple) else bundle
        shown = {mime: data for mime, data in (bundle or {}).items() if data}
        if not any(mime in shown for mime in _RASTERS):
            shown |= dict(render(value)) if render else {}
        if getattr(value, "_repr_svg_", lambda: None)():
            shown["image/svg+xml"] = True
    except Exception as error:  # noqa: BLE001 — the methods are foreign code, which may raise anything
        raise ImageError(f"{label} could not be drawn: {type(error).__name__}: {error}") from None
    return shown


def _refuse(value: Any, label: str, shown: Mapping[str, Any]) -> ImageError:
    if "image/svg+xml" in shown:
        return refuse_svg(label)
    if any(mime.startswith("application/vnd.plotly") for mime in shown):
        return ImageError(f"{label} is a plotly figure without a picture", remedy="name the figure's variable after -i")
    kind = type(value).__name__
    if hasattr(value, "iloc"):
        return ImageError(
            f"{label} is a {kind}, which has no picture", remedy="plot it, or write {{name}} to send it as text"
        )
    return ImageError(f"{label} is of type {kind}, which has no picture", remedy=_REMEDY)


def refuse_svg(label: str) -> ImageError:
    """Return the error for a drawing in SVG."""
    return ImageError(
        f"{label} is an SVG, which the API does not read",
        remedy="save it as PNG; for inline figures %config InlineBackend.figure_formats = ['png']",
    )


def _read_text(text: str, label: str) -> Path | bytes:
    match = _DATA_URL.match(text)
    if match:
        return _as_bytes(text[match.end() :], label)
    if "\n" not in text and len(text) < 4096:
        path = expand_path(text)
        if path is not None and path.is_file():
            return path
    raise ImageError(f"{label} is a text that names no file", remedy=_REMEDY)


def _as_bytes(data: Any, label: str) -> bytes:
    if not isinstance(data, str):
        return bytes(data)
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        raise ImageError(f"{label} holds data that is not base64", remedy=_REMEDY) from None


def _check_file(path: Path, label: str) -> None:
    try:
        if path.is_dir():
            raise ImageError(f"{label} is a folder", remedy='name a file in it, or all with a pattern such as "*.png"')
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ImageError(f"{label} cannot be opened: {error.strerror}", remedy="check the path") from None
    if size > _MOST_BYTES:
        raise ImageError(f"{label} has {size / 1e9:.1f} GB", remedy="make it smaller")
    _check_bytes(head, label)


def _check_bytes(data: bytes, label: str) -> None:
    head = data[:1024].lstrip().lower()
    if not data:
        raise ImageError(f"{label} is empty", remedy=_REMEDY)
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"\xef\xbb\xbf<svg")) and b"<svg" in head:
        raise refuse_svg(label)
    if head.startswith(b"%pdf"):
        raise ImageError(f"{label} is a PDF, not a picture", remedy="save the page that matters as PNG")


# ---------------------------------------------------------------- figures


def find_figure(value: Any) -> Any:
    """Return the matplotlib figure that a figure, axes, artist, or grid of seaborn stands for, or None."""
    if hasattr(value, "savefig") and hasattr(value, "dpi"):
        return value
    for name in ("figure", "fig"):
        figure = getattr(value, name, None)
        if figure is not None and hasattr(figure, "savefig") and hasattr(figure, "dpi"):
            return figure
    return None


def _draw_figure(figure: Any, value: Any, label: str) -> bytes:
    """Draw a figure as PNG; axes that share it are drawn alone, with their titles and ticks."""
    root = figure
    # A subfigure cannot be saved by itself.
    while getattr(root, "figure", root) is not root and hasattr(root.figure, "savefig"):
        root = root.figure
    box: Any = "tight"
    out = io.BytesIO()
    try:
        if hasattr(value, "get_tightbbox") and value is not root and len(root.axes) > 1:
            root.draw_without_rendering()
            tight = value.get_tightbbox()
            box = tight.padded(0.1 * root.dpi).transformed(root.dpi_scale_trans.inverted())
        root.savefig(out, format="png", bbox_inches=box)
    except Exception as error:  # noqa: BLE001 — drawing runs the user's formatters and fonts
        raise ImageError(f"{label} could not be drawn: {type(error).__name__}: {error}") from None
    return out.getvalue()


def _save_as_pillow_does(value: Any, label: str) -> bytes:
    """Return what an object writes that is used as those of Pillow are."""
    out = io.BytesIO()
    try:
        value.save(out, format="PNG")
    except Exception as error:  # noqa: BLE001 — foreign code
        raise ImageError(f"{label} could not be drawn: {type(error).__name__}: {error}") from None
    return out.getvalue()


def _draw_plotly(value: Any, label: str) -> bytes:
    try:
        return bytes(value.to_image(format="png"))
    except Exception as error:  # noqa: BLE001 — a missing kaleido or Chrome shows as several classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ImageError(
            f"{label} is a plotly figure that could not be drawn: {reason[:160]}",
            remedy="plotly needs kaleido for a picture: pip install kaleido, and Chrome for its newer versions",
        ) from None
