"""What is sent beside the text, for the reader to see before and while it is: small pictures, sizes and tokens."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass

from kimi_magics.core.estimate import image_tokens
from kimi_magics.core.media import Image, Video, format_bytes
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.notebook.bundles import Bundle

#: The largest thumbnail, in pixels; pages show it at half its size, sharp on fine screens.
_BOX = (320, 160)
_FRAME = "max-height: 80px; max-width: 160px; border: 1px solid var(--jp-border-color2, #e0e0e0)"
_SMALL = "color: var(--jp-ui-font-color2, #616161); font-size: 0.85em"

#: By digest: a cell shows the same pictures while it is written and when it runs.
_made: dict[str, str] = {}
_MOST_MADE = 64

#: Returns the tokens that the host counted for a medium, or None.
Count = Callable[[Image | Video, Model], int | None]


@dataclass(frozen=True, slots=True)
class MediaRow:
    """One image or video as it is shown: `text` tells size before and after, and tokens; `thumbnail` is a data URL."""

    label: str
    text: str
    thumbnail: str = ""


def describe_media(prompt: Prompt, *, count: Count) -> list[MediaRow]:
    """Return a row for each image and video of the prompt, in the order in which they are sent."""
    rows = []
    for message in prompt.messages:
        for medium in message.media:
            text = _describe_image(medium) if isinstance(medium, Image) else _describe_video(medium)
            tokens = _describe_tokens(medium, prompt.model, count(medium, prompt.model))
            thumbnail = make_thumbnail(medium) if isinstance(medium, Image) else ""
            rows.append(MediaRow(medium.label, " · ".join(part for part in (text, tokens) if part), thumbnail))
    return rows


def _describe_image(image: Image) -> str:
    kind, now = (
        f"{image.mime.removeprefix('image/').upper()} {image.width}×{image.height}",
        format_bytes(len(image.data)),
    )
    origin, notes = image.origin, "".join(f" · {note}" for note in image.notes)
    if origin is None:
        return f"{kind} {now}{notes}"
    was_kind = f"{origin.format} {origin.width}×{origin.height}"
    was = "" if origin.size_bytes is None else format_bytes(origin.size_bytes)
    if was_kind == kind:  # what did not change is said once
        return f"{kind} {now}{notes}" if was in ("", now) else f"{kind} {was} → {now}{notes}"
    return f"{was_kind}{was and ' '}{was} → {kind} {now}{notes}"


def _describe_video(video: Video) -> str:
    where = " · uploaded" if video.file_id else ""
    return f"{video.mime} {format_bytes(len(video.data))}{where}"


def _describe_tokens(medium: Image | Video, model: Model, counted: int | None) -> str:
    if counted is not None:
        return f"{counted:,} tokens"
    if isinstance(medium, Video):
        return "not counted yet"
    return f"≈ {image_tokens(medium.width, medium.height, patch_limit=model.image_patch_limit):,} tokens"


def make_thumbnail(image: Image) -> str:
    """Return a small copy as a data URL, some kilobytes long."""
    if image.digest not in _made:
        if len(_made) >= _MOST_MADE:
            _made.pop(next(iter(_made)), None)
        _made[image.digest] = _make_thumbnail(image)
    return _made[image.digest]


def _make_thumbnail(image: Image) -> str:
    import PIL.Image

    with PIL.Image.open(io.BytesIO(image.data)) as picture:
        picture.draft(None, _BOX)
        # Nearly all thumbnails are of large pictures: two steps are several times as fast.
        picture.thumbnail(_BOX, reducing_gap=2.0)
        small = picture if picture.mode in ("RGB", "RGBA", "L") else picture.convert("RGBA")
        out = io.BytesIO()
        small.save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def media_bundle(rows: list[MediaRow]) -> Bundle:
    """Return what shows the rows: pictures in a page, lines in a terminal."""
    plain = "\n".join(f"{number}. {row.label}: {row.text}" for number, row in enumerate(rows, 1))
    figures = "".join(_write_figure(number, row) for number, row in enumerate(rows, 1))
    return {"text/plain": plain, "text/html": f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{figures}</div>'}


def _write_figure(number: int, row: MediaRow) -> str:
    name = html.escape(row.label)
    picture = f'<img src="{row.thumbnail}" alt="{name}" style="{_FRAME}">'
    caption = f'<figcaption style="{_SMALL}">{number}. {name}<br>{html.escape(row.text)}</figcaption>'
    return f'<figure style="margin: 0; max-width: 420px">{picture if row.thumbnail else ""}{caption}</figure>'
