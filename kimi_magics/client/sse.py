"""Server-sent events from raw bytes, incrementally: a break may fall anywhere, also inside a UTF-8 character.

Follows the event stream format of the HTML standard (https://html.spec.whatwg.org/multipage/server-sent-events.html),
as far as `data` goes: LF, CRLF and CR end a line, a line that starts with a colon is a comment, several data lines of
one event are joined by a newline. Event names, ids and retry times are not used by the API and are passed over.
"""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseDecoder:
    """Turns pieces of a byte stream into the data of its events."""

    def __init__(self) -> None:
        #: Pieces of a line that has not ended yet: joined once, so that one very long line stays linear.
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._is_start = True

    def decode(self, piece: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the events that they complete."""
        has_return = b"\r" in piece
        # By far the most frequent piece is one whole event on one line.
        if (
            not has_return
            and piece.startswith(b"data: ")
            and piece.find(b"\n") == len(piece) - 2
            and piece.endswith(b"\n")
            and not (self._pieces or self._data or self._is_start)
        ):
            return [piece[6:-2]]
        if not has_return and b"\n" not in piece and not self._ends_with_return():
            self._pieces.append(piece)
            return []
        if self._pieces:
            self._pieces.append(piece)
            piece = b"".join(self._pieces)
            has_return = b"\r" in piece
        if self._is_start:
            piece, self._is_start = piece.removeprefix(_BYTE_ORDER_MARK), False
        lines = _split_any(piece) if has_return else piece.split(b"\n")
        self._pieces = [rest] if (rest := lines.pop()) else []
        return self._take(lines)

    def flush(self) -> list[bytes]:
        """Return what the end of the stream leaves: an event whose closing blank line never came."""
        lines = b"".join(self._pieces).removesuffix(b"\r").splitlines()
        self._pieces = []
        return self._take([*lines, b""])

    def _take(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
            elif line.startswith(b"data: "):
                data.append(line[6:])
            elif line.startswith(b"data:"):
                data.append(line[5:])
        return events

    def _ends_with_return(self) -> bool:
        return bool(self._pieces) and self._pieces[-1].endswith(b"\r")


def _split_any(text: bytes) -> list[bytes]:
    """Split at LF, CRLF and CR; the last item is what has not ended: a CR there may be the half of a CRLF."""
    lines = text.splitlines(keepends=True)
    rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
    return [line.rstrip(b"\r\n") for line in lines] + [rest]
