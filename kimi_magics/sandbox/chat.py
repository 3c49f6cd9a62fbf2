"""POST /chat/completions, as one object or as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimi_magics.sandbox.answers import Answer, build_answer
from kimi_magics.sandbox.chunks import build_chunks, build_object, build_usage
from kimi_magics.sandbox.handlers import ApiHandler, build_head, encode_json, refusable
from kimi_magics.sandbox.stream import EventStream
from kimi_magics.sandbox.validation import read_completion

if TYPE_CHECKING:
    from kimi_magics.sandbox.validation import Completion


class ChatHandler(ApiHandler):
    """Answers completions."""

    @refusable
    async def post(self) -> None:
        """Check the request, then answer it within the account's limits."""
        completion = read_completion(self.json_body, self.state.options, self.state.files.find_data)
        self.state.admit()
        try:
            cached_tokens = self.state.remember_prompt(completion.model.id, completion.prompt.tokens)
            answers = [build_answer(completion, choice) for choice in range(completion.choices)]
            if completion.is_stream:
                await self._stream(completion, answers, cached_tokens)
            else:
                await self._send(completion, answers, cached_tokens)
        finally:
            self.state.release()

    async def _stream(self, completion: Completion, answers: list[Answer], cached_tokens: int) -> None:
        options = self.state.options
        stream = EventStream(self, options.tokens_per_second)
        if options.replay is not None:
            await stream.send_pieces(options.replay)
            return
        usage = build_usage(completion, answers, cached_tokens)
        head = build_head(completion.model.id)
        chunks = build_chunks(
            completion, answers, usage, head, place=options.usage_place, size=max(1, options.chunk_tokens)
        )
        await stream.send_chunks(chunks)

    async def _send(self, completion: Completion, answers: list[Answer], cached_tokens: int) -> None:
        rate = self.state.options.tokens_per_second
        usage = build_usage(completion, answers, cached_tokens)
        body = build_object(completion, answers, usage, build_head(completion.model.id))
        if await self.pause(usage["completion_tokens"] / rate if rate else 0):
            return
        if self.fault is not None and self.fault.drop_after is not None:
            self._break_off_within(encode_json(body))
            return
        if self.fault is not None and self.fault.stall_after is not None:
            await self.pause(24 * 3600.0)
            return
        if self.fault is not None:
            self._add_headers(self.fault)
        self.send_json(body)

    def _break_off_within(self, body: bytes) -> None:
        """Send half of the body, and close the connection."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Content-Length", str(len(body)))
        self.flush()
        self.connection.write(body[: len(body) // 2])
        self.break_off()
