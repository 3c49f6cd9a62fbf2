"""The answer to one request as it can be kept and replayed: its events, in fewer and larger pieces.

The promise: replayed, the pieces make the reply that the events made; only a whole answer that says something is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kimi_magics.core.events import Completed, Event, Finished, Started, TextDelta, ThinkingDelta, ToolCallDelta
from kimi_magics.core.usage import Usage
from kimi_magics.errors import holds_key

#: What is kept; figures stand beside it.
Piece = Started | ThinkingDelta | TextDelta | ToolCallDelta | Finished

#: Pieces are put together up to about so many characters: short enough that an interrupt is heard between them.
_PIECE_CHARACTERS = 1_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Piece, ...]).decode


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole answer. `usage` is None where the host told none; searches of the web that it asks for are in it."""

    pieces: tuple[Piece, ...]
    usage: Usage | None = None

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, as the host said."""
        return next((piece.reason for piece in reversed(self.pieces) if isinstance(piece, Finished)), None)

    def encode(self) -> bytes:
        """Return the pieces as `read_pieces` reads them."""
        return _encode(self.pieces)


def read_pieces(data: bytes) -> tuple[Piece, ...]:
    """Return the pieces of a recording. Raises ValueError when it is none."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"a kept answer cannot be read ({error})") from None


class Recorder:
    """Takes the events of one request."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._texts: list[str] = []
        self._kind: type[TextDelta | ThinkingDelta] = TextDelta
        #: The call whose arguments the texts are, if they are that.
        self._call: ToolCallDelta | None = None
        self._length = 0
        self._usage: Usage | None = None
        self._is_whole = False

    def add(self, event: Event) -> None:
        """Take one event; what is told of waiting is left out."""
        kind = type(event)
        if kind is TextDelta or kind is ThinkingDelta:
            if kind is not self._kind or self._call is not None or self._length >= _PIECE_CHARACTERS:
                self._flush()
                self._kind = kind
            self._texts.append(event.text)  # type: ignore[union-attr]
            self._length += len(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCallDelta):
            self._add_call(event)
        elif isinstance(event, Started | Finished):
            self._flush()
            self._pieces.append(event)
        elif isinstance(event, Completed):
            self._is_whole = True
        elif usage := getattr(event, "usage", None):
            self._usage = usage

    def _add_call(self, event: ToolCallDelta) -> None:
        call = self._call
        if call is None or call.index != event.index:
            self._flush()
            self._call = event
        elif not (call.id and call.name) or event.is_builtin > call.is_builtin:
            is_builtin = call.is_builtin or event.is_builtin
            self._call = ToolCallDelta(call.index, call.id or event.id, call.name or event.name, "", is_builtin)
        self._texts.append(event.arguments)

    def _flush(self) -> None:
        text, call = "".join(self._texts), self._call
        if call is not None:
            self._pieces.append(ToolCallDelta(call.index, call.id, call.name, text, call.is_builtin))
        elif text:
            self._pieces.append(self._kind(text))
        self._texts, self._length, self._call = [], 0, None

    def take(self) -> Recording | None:
        """Return what was recorded; None for an answer that is not whole, that says nothing, or that holds a key."""
        self._flush()
        if not self._is_whole or not any(map(_says_something, self._pieces)):
            return None
        if any(map(holds_key, _texts(self._pieces))):
            return None
        searches = {piece.index for piece in self._pieces if isinstance(piece, ToolCallDelta) and piece.is_builtin}
        usage = self._usage
        if usage is not None and searches:
            usage += Usage(web_searches=len(searches))
        return Recording(tuple(self._pieces), usage)


def _says_something(piece: Piece) -> bool:
    if isinstance(piece, TextDelta):
        return bool(piece.text.strip())
    # Reasoning alone, cut where the user wanted it to be, is the answer to that request.
    return isinstance(piece, ToolCallDelta) or piece == Finished("length")


def _texts(pieces: Sequence[Piece]) -> Iterator[str]:
    """Yield the texts of the answer, whole: a key may lie across two pieces."""
    for kind in (TextDelta, ThinkingDelta):
        yield "".join(piece.text for piece in pieces if isinstance(piece, kind))
    for piece in pieces:
        if isinstance(piece, ToolCallDelta):
            yield piece.arguments
