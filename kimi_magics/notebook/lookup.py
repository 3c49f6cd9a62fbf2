"""Turn what `-i` and `--video` name into what is sent, for runs and for drafts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kimi_magics.core.interpolate import resolve
from kimi_magics.core.media import Image, Media, Video
from kimi_magics.errors import ImageError
from kimi_magics.notebook.pictures import Render, read_picture
from kimi_magics.notebook.prepare import Preparer, to_png
from kimi_magics.notebook.sources import Found, Sources, name_source, shorten
from kimi_magics.notebook.videos import VideoReader

if TYPE_CHECKING:
    from kimi_magics.core.ask import Ask
    from kimi_magics.notebook.cell_runs import CellRuns

_MOST_PEEKED = 32
#: What a page can show by itself, by the beginning of its bytes.
_SHOWN_AS_IS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


class Picture(NamedTuple):
    """A picture as it was displayed or lies in its file, in a form that every page shows."""

    data: bytes
    mime: str
    label: str


class Lookup:
    """Turns what `-i` and `--video` name into what is sent, for one kernel.

    A draft is counted again and again: what it names is prepared once, until a cell has run. While a cell runs nothing
    is drawn for a draft, since the cell may draw on the same figure; nor is anything fetched for it, and the clipboard
    and the page are not looked at.
    """

    def __init__(self, runs: CellRuns, sources: Sources, *, render: Render | None = None) -> None:
        self._runs = runs
        self._sources = sources
        self._render = render
        self._preparer = Preparer()
        self._videos = VideoReader()
        self._peeked: OrderedDict[tuple[Any, ...], Image] = OrderedDict()

    # ------------------------------------------------------------ for a run

    def find(self, ask: Ask, variables: Mapping[str, Any]) -> Media:
        """Return what goes with the prompt of a run. Raises ImageError and VariableError."""
        size = ask.image_size or "high"
        images = [
            self._preparer.prepare(found.value, label=found.label, size=size, render=self._render)
            for name in ask.image
            for found in self._sources.find(name, variables)
        ]
        return Media(tuple(images), tuple(self._find_video(name, variables) for name in ask.video))

    def find_pictures(self, name: str, variables: Mapping[str, Any]) -> list[Picture]:
        """Return the pictures that `name` stands for as a page can show them. Raises as `find` does."""
        return [self._show(found) for found in self._sources.find(name, variables)]

    def _show(self, found: Found) -> Picture:
        picture = read_picture(found.value, label=found.label, render=self._render)
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        if isinstance(data, bytes):
            mime = next((mime for head, mime in _SHOWN_AS_IS.items() if data.startswith(head)), None)
            if mime is not None:
                return Picture(data, mime, found.label)
        return Picture(to_png(data, label=found.label), "image/png", found.label)

    # ------------------------------------------------------------ for a draft

    def peek(self, ask: Ask, variables: Mapping[str, Any]) -> Media:
        """Return the same for a draft, from what was prepared before; what is known only when the cell runs is pending.

        Raises ImageError and VariableError.
        """
        images: list[Image] = []
        pending: list[str] = []
        for name in ask.image:
            values = self._sources.peek(name, variables)
            if values is None:
                pending.append(name_source(name))
            else:
                images += [self._peek_image(found, ask.image_size or "high") for found in values]
        videos = tuple(self._find_video(name, variables) for name in ask.video)
        return Media(tuple(images), videos, tuple(pending))

    def _peek_image(self, found: Found, size: str) -> Image:
        value = found.value
        key: tuple[Any, ...] = ("value", found.label, id(value), self._runs.count, size)
        if isinstance(value, Path):
            stat = value.stat()
            key = ("file", str(value), stat.st_mtime_ns, stat.st_size, size)
        image = self._peeked.get(key)
        if image is None:
            if self._runs.is_busy and not isinstance(value, Path | bytes):
                raise ImageError(f"{found.label} is counted when the cell that runs is done")
            image = self._preparer.prepare(value, label=found.label, size=size, render=self._render)
            self._peeked[key] = image
            while len(self._peeked) > _MOST_PEEKED:
                self._peeked.popitem(last=False)
        return image

    # ------------------------------------------------------------ videos

    def _find_video(self, name: str, variables: Mapping[str, Any]) -> Video:
        try:
            path = self._sources.find_file(name, variables)
        except ImageError:
            path = None  # a folder, which is said below in the words for videos
        first = re.split(r"[.\[]", name)[0]
        if path is None and first in variables:
            return self._videos.find(resolve(name, variables), label=shorten(name))
        return self._videos.find(path or name, label=shorten(name))
