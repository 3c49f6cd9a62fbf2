"""Server-sent events, wherever the breaks fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.client.sse import SseDecoder


def decode(*pieces: bytes) -> list[bytes]:
    decoder = SseDecoder()
    events = [event for piece in pieces for event in decoder.decode(piece)]
    return events + decoder.flush()


STREAMS = {
    "plain": (b"data: a\n\ndata: b\n\ndata: [DONE]\n\n", [b"a", b"b", b"[DONE]"]),
    "utf-8": ("data: é你😀\n\ndata: 好\n\n".encode(), ["é你😀".encode(), "好".encode()]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\r\n\rdata: c\n\n", [b"a", b"b", b"c"]),
    "comments": (b": keep-alive\n\n:\ndata: a\n: in between\n\n", [b"a"]),
    "several data lines": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "no space": (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
    "other fields": (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    "empty data": (b"data\n\ndata:\n\ndata: a\n\n", [b"", b"a"]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "no last blank line": (b"data: a\n\ndata: [DONE]", [b"a", b"[DONE]"]),
    "many blank lines": (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_whole(stream: bytes, events: list[bytes]) -> None:
    assert decode(stream) == events


@pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS)
def test_split_at_every_byte(stream: bytes, events: list[bytes]) -> None:
    for at in range(len(stream) + 1):
        assert decode(stream[:at], stream[at:]) == events, at
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == events


@given(
    st.lists(st.text(alphabet=st.characters(blacklist_characters="\r\n", codec="utf-8"), min_size=1), max_size=8),
    st.data(),
)
def test_any_texts_in_any_pieces(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(f"data: {text}\n\n".encode() for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == [text.encode() for text in texts]


def test_events_come_as_soon_as_they_are_whole() -> None:
    decoder = SseDecoder()
    assert decoder.decode(b"data: a\n\nda") == [b"a"]
    assert decoder.decode(b"ta: b\n") == []
    assert decoder.decode(b"\n") == [b"b"]
