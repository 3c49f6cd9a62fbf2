"""A stream of server-sent events: each written at once, in time, and disturbed by the fault of its request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tornado.iostream import StreamClosedError

from kimi_magics.sandbox.faults import Fault
from kimi_magics.sandbox.handlers import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kimi_magics.sandbox.chunks import Chunk
    from kimi_magics.sandbox.handlers import ApiHandler

_WRITES_BETWEEN_WAITS = 32
_FOREVER_SECONDS = 24 * 3600.0


class EventStream:
    """Writes one streaming answer to one client."""

    def __init__(self, handler: ApiHandler, tokens_per_second: float | None) -> None:
        self._handler = handler
        self._fault = handler.fault or Fault()
        self._seconds_per_token = 1 / tokens_per_second if tokens_per_second else 0.0
        self._writes = 0

    async def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send raw pieces exactly as they are; only a fault's delay paces them."""
        clock = asyncio.get_running_loop()
        try:
            await self._open()
            due = clock.time()
            for piece in pieces:
                due += self._fault.chunk_delay_seconds
                if self._fault.chunk_delay_seconds and await self._handler.pause(due - clock.time()):
                    return
                if not await self._write(piece):
                    return
            await self._drain()
        except StreamClosedError:
            self._handler.on_connection_close()

    async def send_chunks(self, chunks: Iterable[Chunk]) -> None:
        """Send the chunks of a completion, and `[DONE]`."""
        try:
            await self._open()
            if await self._send_all(chunks) and not self._fault.no_done:
                await self._write(b"data: [DONE]\n\n")
                await self._drain()
        except StreamClosedError:
            # A write found out first: tornado has not yet called this, and will not once the request is finished.
            self._handler.on_connection_close()

    async def _open(self) -> None:
        self._handler.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self._handler.set_header("Cache-Control", "no-cache")
        for name, value in self._fault.headers.items():
            self._handler.set_header(name, value)
        self._handler.connection.stream.set_nodelay(True)
        self._handler.flush()
        await self._drain()

    async def _send_all(self, chunks: Iterable[Chunk]) -> bool:
        """Send chunks in time; False when the stream broke off."""
        clock = asyncio.get_running_loop()
        due = clock.time()
        sent = 0
        for chunk in chunks:
            is_end = chunk.kind == "finish"
            if (is_end or chunk.kind == "content") and not await self._disturb(sent, is_end=is_end):
                return False
            sent += chunk.kind == "content"
            if self._fault.keep_alive and not await self._write(b": keep-alive\n\n"):
                return False
            due += chunk.tokens * self._seconds_per_token + (self._fault.chunk_delay_seconds if chunk.tokens else 0)
            if await self._handler.pause(due - clock.time()):
                return False
            if not await self._write(b"data: " + encode_json(chunk.body) + b"\n\n"):
                return False
        return True

    async def _disturb(self, sent: int, *, is_end: bool) -> bool:
        """Do what the fault wants after so many chunks, at the end also what is left; False to say no more."""
        fault = self._fault

        def is_due(point: int | None) -> bool:
            return point is not None and (point == sent or (is_end and point > sent))

        if is_due(fault.malformed_after):
            await self._write(b'data: {"id":"cmpl-broken","choices":[{"ind\n\n')
        if is_due(fault.stall_after):
            await self._handler.pause(_FOREVER_SECONDS)
            return False
        if is_due(fault.error_after):
            error = {"message": fault.message, "type": fault.type or "server_error"}
            await self._write(b"data: " + encode_json({"error": error}) + b"\n\n")
            return False
        if is_due(fault.drop_after):
            await self._drain()
            self._handler.break_off()
            return False
        return True

    async def _write(self, piece: bytes) -> bool:
        """Write to the socket; False when the client is gone. Waiting each time would only make it slow."""
        if not piece:
            return True
        self._handler.connection.write(piece)
        self._writes += 1
        if self._seconds_per_token or self._fault.chunk_delay_seconds or self._writes % _WRITES_BETWEEN_WAITS == 0:
            await self._drain()
        return not self._handler.gone.is_set()

    async def _drain(self) -> None:
        """Wait until all is written, and let others work; StreamClosedError when the client is gone."""
        # The future of `connection.write` never ends when the client goes away; that of its stream does.
        await self._handler.connection.stream.write(b"")
        await asyncio.sleep(0)
