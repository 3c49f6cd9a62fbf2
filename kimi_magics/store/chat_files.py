"""Conversations as JSON files, one each; the bytes of their pictures and videos lie in `media` of `KIMI_MAGICS_HOME`.

The promise: a file is written as a whole or not at all, nothing but a conversation of ours is ever overwritten, and
what is read is what was written, reasoning and tool exchanges included. Pictures and videos are held by the SHA-256 of
their bytes; one that is missing or damaged is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from kimi_magics.core.ask import CHAT_NAME
from kimi_magics.core.conversation import Conversation, Spot, Turn, TurnState
from kimi_magics.core.media import Image, Origin, Video
from kimi_magics.core.messages import Message, Role, ToolCall
from kimi_magics.core.tools import ToolKind
from kimi_magics.errors import ChatError, KimiError
from kimi_magics.store.config import find_home
from kimi_magics.store.files import replace_file

_MARK = "kimi_magics_chat"


class _Medium(msgspec.Struct, omit_defaults=True):
    """A picture, or a video, which has no size in pixels."""

    sha256: str
    mime: str
    label: str
    size_bytes: int
    width: int = 0
    height: int = 0
    origin: tuple[str, int, int, int | None] | None = None
    notes: tuple[str, ...] = ()


class _Call(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


class _Message(msgspec.Struct, omit_defaults=True):
    role: Role
    text: str
    thinking: str = ""
    calls: tuple[_Call, ...] = ()
    call_id: str = ""
    name: str = ""
    is_partial: bool = False
    images: tuple[_Medium, ...] = ()
    videos: tuple[_Medium, ...] = ()


class _Turn(msgspec.Struct):
    cell: str | None
    part: int
    state: TurnState
    messages: tuple[_Message, ...]
    system: str | None = None
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated: bool = False
    ended: float | None = None


class _File(msgspec.Struct):
    kimi_magics_chat: Literal[1]
    name: str
    cache_key: str
    turns: tuple[_Turn, ...]
    origin: str = ""


class ChatFiles:
    """The files of one user."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home

    @property
    def home(self) -> Path:
        """The folder of `chats` and `media`."""
        return self._home or find_home()

    def path_of(self, name: str) -> Path:
        """Return where a conversation of this name is kept when no path is given; the file need not exist."""
        return self.home / "chats" / f"{name}.json"

    def find(self, text: str) -> Path:
        """Return the file that is meant by a path, or by the name of a conversation saved without one."""
        path = Path(text).expanduser()
        kept = self.path_of(text) if CHAT_NAME.fullmatch(text) else path
        return kept if not path.exists() and kept.exists() else path

    def save(self, chat: Conversation, path: Path | None = None) -> Path:
        """Write a conversation and return its file. Raises ChatError when it is not ours to overwrite."""
        path = path or self.path_of(chat.name)
        _check_ours(path)
        rows = tuple(_write_turn(turn, self._keep) for turn in chat.turns)
        content = msgspec.to_builtins(_File(1, chat.name, chat.cache_key, rows, chat.origin))
        try:
            replace_file(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        except (OSError, ValueError) as error:
            raise _failed("written", path, error) from None
        return path

    def load(self, path: Path) -> Conversation:
        """Read a conversation. Raises ChatError when there is none, or when a picture of it is missing."""
        found = _read(path)
        if not CHAT_NAME.fullmatch(found.name):
            raise _foreign(path, f"{found.name[:40]!r} is not a name for a conversation")
        try:
            turns = tuple(_read_turn(row, self._fetch) for row in found.turns)
        except ChatError:
            raise
        except KimiError as error:
            raise _foreign(path, error.message) from None
        return Conversation(found.name, turns, found.cache_key, found.origin)

    def _keep(self, medium: Image | Video) -> None:
        """Write the bytes of a picture or video, once for all that hold it."""
        path = self.home / "media" / medium.digest
        try:
            if path.is_file() and path.stat().st_size == len(medium.data):
                return
            _replace_bytes(path, medium.data)
        except OSError as error:
            raise _failed("written", path, error) from None

    def _fetch(self, row: _Medium) -> bytes:
        if len(row.sha256) != 64 or not row.sha256.isalnum():
            raise ChatError(f"{row.sha256[:40]!r} is not the hash of {row.label}", remedy="load a file of --save")
        path = self.home / "media" / row.sha256
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise ChatError(
                f"{row.label} of the conversation is not here: its {row.size_bytes:,} bytes are not in {path.parent}",
                remedy=f"copy the file media/{row.sha256[:12]}… from where the conversation was saved",
            )
        return data


def _check_ours(path: Path) -> None:
    """Raise ChatError for a file that is there and holds no conversation."""
    if not path.exists():
        return
    try:
        with open(path, "rb") as file:
            is_ours = path.is_file() and f'"{_MARK}"'.encode() in file.read(200)
    except OSError:
        is_ours = False
    if not is_ours:
        raise ChatError(
            f"{path} is there and is not a saved conversation; it was left as it is", remedy="choose another path"
        )


def _read(path: Path) -> _File:
    if path.exists() and not path.is_file():
        raise _foreign(path, "it is not a file")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise ChatError(f"there is no file {path}", remedy="%kimi_chat NAME --save writes one") from None
    except OSError as error:
        raise _failed("read", path, error) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        # The place in the file, never its content.
        raise _foreign(path, str(error)) from None


def _foreign(path: Path, why: str) -> ChatError:
    return ChatError(f"{path} is not a conversation that can be read: {why}", remedy="load a file of %kimi_chat --save")


def _failed(what: str, path: Path, error: Exception) -> ChatError:
    reason = getattr(error, "strerror", None) or str(error)
    return ChatError(f"{path} could not be {what}: {reason}", remedy="choose another path, or see to this one")


def _replace_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".media-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------- rows


def _write_turn(turn: Turn, keep: Callable[[Image | Video], None]) -> _Turn:
    for message in turn.messages:
        for medium in message.media:
            keep(medium)
    return _Turn(
        messages=tuple(map(_write_message, turn.messages)),
        cell=turn.spot.cell,
        part=turn.spot.part,
        **_same(turn, "state", "system", "model", "prompt_tokens", "completion_tokens", "estimated", "ended"),
    )


def _read_turn(row: _Turn, fetch: Callable[[_Medium], bytes]) -> Turn:
    return Turn(
        Spot(row.cell, row.part),
        tuple(_read_message(message, fetch) for message in row.messages),
        **_same(row, "state", "system", "model", "prompt_tokens", "completion_tokens", "estimated", "ended"),
    )


_MESSAGE = ("role", "text", "thinking", "call_id", "name", "is_partial")
_CALL = ("id", "name", "arguments", "kind")


def _write_message(message: Message) -> _Message:
    return _Message(
        **_same(message, *_MESSAGE),
        calls=tuple(_Call(**_same(call, *_CALL)) for call in message.calls),
        images=tuple(map(_write_image, message.images)),
        videos=tuple(_Medium(video.digest, video.mime, video.label, len(video.data)) for video in message.videos),
    )


def _read_message(row: _Message, fetch: Callable[[_Medium], bytes]) -> Message:
    return Message(
        **_same(row, *_MESSAGE),
        calls=tuple(ToolCall(**_same(call, *_CALL)) for call in row.calls),
        images=tuple(_read_image(image, fetch(image)) for image in row.images),
        videos=tuple(Video(fetch(video), video.mime, video.label, digest=video.sha256) for video in row.videos),
    )


def _write_image(image: Image) -> _Medium:
    was = image.origin
    return _Medium(
        image.digest,
        image.mime,
        image.label,
        len(image.data),
        **_same(image, "width", "height", "notes"),
        origin=(was.format, was.width, was.height, was.size_bytes) if was else None,
    )


def _read_image(row: _Medium, data: bytes) -> Image:
    origin = Origin(*row.origin) if row.origin else None
    return Image(data, digest=row.sha256, origin=origin, **_same(row, "mime", "label", "width", "height", "notes"))


def _same(value: Any, *names: str) -> dict[str, Any]:
    """Return the fields that the row and the value have alike."""
    return {name: getattr(value, name) for name in names}
