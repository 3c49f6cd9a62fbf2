"""A completion in the API's JSON: as one object, and as the chunks of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kimi_magics.sandbox.answers import Answer
    from kimi_magics.sandbox.options import UsagePlace
    from kimi_magics.sandbox.validation import Completion

Json = dict[str, Any]


@dataclass(frozen=True)
class Chunk:
    """One event of a stream, and the tokens it carries."""

    body: Json
    kind: Literal["role", "reasoning", "content", "finish", "usage"]
    tokens: int = 0


def build_usage(completion: Completion, answers: Sequence[Answer], cached_tokens: int) -> Json:
    """Return the usage object; `cached_tokens` stands in both of its places."""
    prompt_tokens = len(completion.prompt.tokens)
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    usage: Json = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    reasoning_tokens = sum(len(answer.reasoning) for answer in answers)
    if reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    details: Json = {}
    if cached_tokens:
        usage["cached_tokens"] = cached_tokens
        details["cached_tokens"] = cached_tokens
    if completion.model.takes_effort and prompt_tokens >= 256:  # only K3 states what it wrote to the cache
        details["cache_write_tokens"] = prompt_tokens // 64 * 64 - cached_tokens
    if details:
        usage["prompt_tokens_details"] = details
    return usage


def build_object(completion: Completion, answers: Sequence[Answer], usage: Json, head: Json) -> Json:
    """Return the completion as one object."""
    choices = []
    for index, answer in enumerate(answers):
        message: Json = {"role": "assistant", "content": "".join(answer.content)}
        if completion.thinks:
            message["reasoning_content"] = "".join(answer.reasoning)
        if answer.calls:
            message["tool_calls"] = [{"index": number, **call} for number, call in enumerate(answer.calls)]
        choices.append({"index": index, "message": message, "finish_reason": answer.finish_reason})
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage}


def build_chunks(
    completion: Completion, answers: Sequence[Answer], usage: Json, head: Json, *, place: UsagePlace, size: int
) -> Iterator[Chunk]:
    """Yield the chunks of a stream, each with at most `size` tokens, and usage where `place` says."""
    head = {**head, "object": "chat.completion.chunk"}
    for index, answer in enumerate(answers):
        yield Chunk(_build_delta(head, index, {"role": "assistant", "content": ""}), "role")
        for piece, tokens in _join(answer.reasoning, size):
            yield Chunk(_build_delta(head, index, {"reasoning_content": piece}), "reasoning", tokens)
        for piece, tokens in _join(answer.content, size):
            yield Chunk(_build_delta(head, index, {"content": piece}), "content", tokens)
        for delta in _build_call_deltas(answer.calls):
            yield Chunk(_build_delta(head, index, {"tool_calls": [delta]}), "content", size)
        finish = _build_delta(head, index, {}, answer.finish_reason)
        if index == len(answers) - 1 and place == "choice":
            finish["choices"][0]["usage"] = usage
        if index == len(answers) - 1 and place == "chunk":
            finish["usage"] = usage
        yield Chunk(finish, "finish")
    if place == "extra" or completion.includes_usage:
        yield Chunk({**head, "choices": [], "usage": usage}, "usage")


def _build_delta(head: Json, index: int, delta: Json, finish_reason: str | None = None) -> Json:
    return {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def _join(tokens: Sequence[str], size: int) -> Iterator[tuple[str, int]]:
    for start in range(0, len(tokens), size):
        piece = tokens[start : start + size]
        yield "".join(piece), len(piece)


def _build_call_deltas(calls: Sequence[Json]) -> Iterator[Json]:
    """Yield the pieces of tool calls: only the first of each has id, type and name."""
    for index, call in enumerate(calls):
        function = call["function"]
        yield {
            "index": index,
            "id": call["id"],
            "type": call["type"],
            "function": {"name": function["name"], "arguments": ""},
        }
        arguments = function["arguments"]
        for start in range(0, len(arguments), 8):
            yield {"index": index, "function": {"arguments": arguments[start : start + 8]}}
