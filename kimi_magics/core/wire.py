"""Kimi's JSON, both ways: the only module that knows the names on the wire.

Every quirk stands here with its source and date, so that a change of the host is a change of this file.
Source unless said otherwise: kimi_api.md sections 3 to 5, checked 2026-11-22.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from kimi_magics.core.events import (
    Completed,
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from kimi_magics.core.formats import Format, fit_schema
from kimi_magics.core.media import DocumentFile, Image, Upload, Video
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.core.models import Model, Thinking
from kimi_magics.core.prompt import Prompt, replays_thinking_since
from kimi_magics.core.tools import Tool
from kimi_magics.core.usage import Usage

_Body = TypeVar("_Body")

# ---------------------------------------------------------------- what we send

#: The field by which the usage of a stream is asked for; some hosts refuse it (Mistral:
#: github.com/openai/openai-agents-python/issues/442).
USAGE_WISH = "stream_options"


def request_body(prompt: Prompt) -> dict[str, Any]:
    """Return the body of `POST /chat/completions`.

    No sampling parameters: the live models fix them and refuse another value.
    """
    body: dict[str, Any] = {"model": prompt.model.name, "messages": _messages(prompt)}
    if prompt.max_tokens is not None:
        # `max_tokens` is the deprecated alias.
        body["max_completion_tokens"] = prompt.max_tokens
    if prompt.stop:
        body["stop"] = list(prompt.stop)
    body |= _thinking(prompt)
    if prompt.tools:
        body["tools"] = [_tool(tool) for tool in prompt.tools]
    if prompt.format is not None:
        body["response_format"] = _format(prompt.format, prompt.model)
    if prompt.cache_key and prompt.model.is_known:
        # A hint, for which a strict host of another kind would refuse the whole request.
        body["prompt_cache_key"] = prompt.cache_key
    if prompt.safety_identifier:
        body["safety_identifier"] = prompt.safety_identifier
    if prompt.is_streamed:
        body["stream"] = True
        if not prompt.model.is_known:
            # Kimi tells its usage unasked; OpenAI and those that follow it tell it only so.
            body[USAGE_WISH] = {"include_usage": True}
    return body


def estimate_body(prompt: Prompt) -> dict[str, Any]:
    """Return the body of `POST /tokenizers/estimate-token-count`."""
    return {"model": prompt.model.name, "messages": _messages(prompt)}


def preview_body(prompt: Prompt) -> dict[str, Any]:
    """Return the body of the request for a reader: as sent, but the bytes of media are counted instead of shown."""
    body = request_body(prompt)
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            source = part.get("image_url") or part.get("video_url")
            if source and source["url"].startswith("data:"):
                head, _, data = source["url"].partition(",")
                source["url"] = f"{head},… ({len(data):,} characters)"
    return body


def prompt_hash(prompt: Prompt) -> str:
    """Return a name for the request, the same for the same body; it tells nothing of the content.

    Media count by their content, whether they go with the request or by the id of an upload. The key by which the host
    finds a conversation in its cache does not count: it is made by chance, and changes nothing of the answer.
    """
    named = replace(prompt, messages=_name_media(prompt), cache_key="")
    return hashlib.sha256(encode(request_body(named))).hexdigest()[:16]


def replay_key(prompt: Prompt, *, site: str) -> str:
    """Return the name under which the answer to a request is kept: 64 hexadecimal digits.

    The same for the same content, model and limits at the host `site`; as `prompt_hash`, and whoever asks, and whether
    the answer comes in pieces or at once.
    """
    named = replace(prompt, messages=_name_media(prompt), cache_key="", safety_identifier="", is_streamed=False)
    return hashlib.sha256(encode({"site": site, "body": request_body(named)})).hexdigest()


def _name_media(prompt: Prompt) -> tuple[Message, ...]:
    """Return the messages with media by the hash of their content."""
    return tuple(
        replace(
            message,
            images=tuple(replace(image, file_id=image.digest) for image in message.images),
            videos=tuple(replace(video, file_id=video.digest) for video in message.videos),
        )
        for message in prompt.messages
    )


def measure_media(prompt: Prompt) -> int:
    """Return the bytes that the media take in a body: a third more than they have, and next to nothing by an id."""
    return sum(
        (len(medium.data) + 2) // 3 * 4 for message in prompt.messages for medium in message.media if not medium.file_id
    )


def content_hash(prompt: Prompt) -> str:
    """Return a name for what the host counts of `prompt`: model and messages; media are not looked at."""
    content = [prompt.model.name, _messages(prompt, has_media=False)]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


#: The form's field of the file itself in `POST /files`.
UPLOAD_FIELD = "file"


def upload_form(medium: Image | Video | DocumentFile) -> dict[str, str]:
    """Return the fields beside the file in `POST /files`: of a document the host extracts the text."""
    purposes = {Image: "image", Video: "video", DocumentFile: "file-extract"}
    return {"purpose": purposes[type(medium)]}


def encode(body: dict[str, Any]) -> bytes:
    """Return `body` as JSON."""
    return msgspec.json.encode(body)


def _messages(prompt: Prompt, *, has_media: bool = True) -> list[dict[str, Any]]:
    since = replays_thinking_since(prompt)
    return [
        _message(message, message.media if has_media else (), is_replayed=at >= since)
        for at, message in enumerate(prompt.messages)
    ]


def _message(message: Message, media: tuple[Image | Video, ...], *, is_replayed: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [_part(medium) for medium in media]
    if parts and message.text.strip():
        parts.append({"type": "text", "text": message.text})
    body: dict[str, Any] = {"role": message.role, "content": parts or message.text}
    if message.name:
        body["name"] = message.name
    if message.thinking and is_replayed:
        body["reasoning_content"] = message.thinking
    if message.calls:
        body["tool_calls"] = [_call(call) for call in message.calls]
    if message.call_id:
        body["tool_call_id"] = message.call_id
    if message.is_partial:
        body["partial"] = True
    return body


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": call.kind, "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = fit_schema(tool.parameters)
    return {"type": tool.kind, "function": function}


def _format(wanted: Format, model: Model) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name, "schema": dict(wanted.schema)}
    if model.is_known:
        # Other hosts mean by it that no field may be left out, which is not what a schema of a user says.
        schema["strict"] = True
    return {"type": "json_schema", "json_schema": schema}


def _part(medium: Image | Video) -> dict[str, Any]:
    """Public URLs are refused by the API; data URLs and the ids of uploaded files are not."""
    kind = "image_url" if isinstance(medium, Image) else "video_url"
    if medium.file_id:
        url = f"ms://{medium.file_id}"
    else:
        url = f"data:{medium.mime};base64,{base64.b64encode(medium.data).decode()}"
    return {"type": kind, kind: {"url": url}}


def _thinking(prompt: Prompt) -> dict[str, Any]:
    """`thinking` where the model has the field, `reasoning_effort` where it has that one."""
    fields: dict[str, Any] = {}
    if prompt.effort and prompt.model.thinking in ("effort", "unknown"):
        fields["reasoning_effort"] = prompt.effort
    if prompt.thinking is None or prompt.model.thinking in ("effort", "never"):
        return fields
    thinking: dict[str, Any] = {"type": "disabled" if prompt.thinking == "off" else "enabled"}
    if prompt.thinking == "keep" and prompt.model.thinking != "always":
        thinking["keep"] = "all"
    return fields | {"thinking": thinking}


# ---------------------------------------------------------------- what comes back


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    """A tool call, or a piece of one: later pieces may have neither id nor type nor name."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    """A delta of a stream, or the message of a whole reply."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None


class _Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None


class WireError(Exception):
    """What came is not what the API promises; or, with `kind`, it is an error object in the midst of a stream."""

    def __init__(self, message: str, kind: str = "") -> None:
        self.message, self.kind = message, kind
        super().__init__(message)


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
DONE = b"[DONE]"


def read_chunk(data: bytes, *, is_first: bool = False) -> Iterator[Event] | list[Event]:
    """Return the events of one `data:` line of a stream. Raises WireError."""
    if data == DONE:
        return [Completed()]
    try:
        chunk = _decode_chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"a part of the stream cannot be read ({error})") from None
    choices = chunk.choices
    # The usual chunk, on a path of its own: a long answer has tens of thousands of them.
    if choices and not is_first:
        choice = choices[0]
        delta = choice.delta
        if (
            delta is not None
            and choice.finish_reason is None
            and delta.content
            and not delta.reasoning_content
            and not delta.tool_calls
        ):
            return [TextDelta(delta.content)]
    return _read_whole(chunk, is_first=is_first)


def read_completion(data: bytes) -> Iterator[Event]:
    """Return the events of the body of a reply that was not streamed. Raises WireError."""
    try:
        chunk = _decode_chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"the reply cannot be read ({error})") from None
    if not chunk.choices and chunk.error is None:
        raise WireError("the reply holds no choices")
    yield from _read_whole(chunk, is_first=True)
    yield Completed()


def _read_whole(chunk: _Chunk, *, is_first: bool) -> Iterator[Event]:
    if chunk.error is not None:
        error = chunk.error if isinstance(chunk.error, _Error) else _Error(chunk.error)
        raise WireError(error.message or "the host reports an error", error.type or "server_error")
    if is_first:
        yield Started(chunk.id, chunk.model)
    # Usage may stand in three places: on the choice, on top of the same chunk, on a chunk without choices. The last
    # one that is not null wins.
    usage = chunk.usage
    for choice in (chunk.choices or [])[:1]:
        part = choice.delta or choice.message
        if part is not None and part.reasoning_content:
            yield ThinkingDelta(part.reasoning_content)
        if part is not None and part.content:
            yield TextDelta(part.content)
        for at, call in enumerate((part and part.tool_calls) or ()):
            yield _read_call(call, at)
        if choice.finish_reason:
            yield Finished(choice.finish_reason)
        usage = usage or choice.usage
    if usage is not None:
        yield UsageReported(_usage(usage))


def _read_call(call: _Call, at: int) -> ToolCallDelta:
    """Return a call, or a piece of one; a call of a whole reply has no index: its place tells."""
    function = call.function or _Function()
    name = function.name or ""
    return ToolCallDelta(
        index=at if call.index is None else call.index,
        id=call.id or "",
        name=name,
        arguments=function.arguments or "",
        is_builtin=call.type == "builtin_function" or name.startswith("$"),
    )


def _usage(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details or _Details()
    cached = usage.cached_tokens if usage.cached_tokens is not None else details.cached_tokens
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=cached or 0,
        cache_write_tokens=details.cache_write_tokens or 0,
    )


class _Count(msgspec.Struct):
    total_tokens: int


class _CountBody(msgspec.Struct):
    data: _Count


class _FileRow(msgspec.Struct):
    id: str
    filename: str | None = None
    purpose: str | None = None
    bytes: int | None = None
    created_at: float | None = None


class _ContentBody(msgspec.Struct):
    content: str


class _FilesBody(msgspec.Struct):
    data: list[_FileRow]


class _ModelRow(msgspec.Struct):
    id: str
    context_length: int | None = None
    supports_image_in: bool | None = None
    supports_video_in: bool | None = None
    supports_reasoning: bool | None = None


class _ModelsBody(msgspec.Struct):
    data: list[_ModelRow]


class _Balance(msgspec.Struct):
    available_balance: Decimal


class _BalanceBody(msgspec.Struct):
    data: _Balance


def _decode(data: bytes, body: type[_Body], what: str) -> _Body:
    try:
        return msgspec.json.decode(data, type=body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"{what} cannot be read ({error})") from None


def read_count(data: bytes) -> int:
    """Return the tokens of an estimate. Raises WireError, also for an impossible count: 0 would look like free."""
    count = _decode(data, _CountBody, "the token count").data.total_tokens
    if count < 1:
        raise WireError(f"the host counted {count} tokens")
    return count


def read_models(data: bytes) -> list[Model]:
    """Return the models that the host serves, with what it says of them. Raises WireError."""
    return [_model(row) for row in _decode(data, _ModelsBody, "the list of models").data]


def _model(row: _ModelRow) -> Model:
    thinking: Thinking = "never" if row.supports_reasoning is False else "unknown"
    return Model(
        name=row.id,
        context_tokens=row.context_length,
        supports_images=row.supports_image_in,
        supports_video=row.supports_video_in,
        thinking=thinking,
    )


def read_balance(data: bytes) -> Decimal:
    """Return what is left on the account, in the host's currency. Raises WireError."""
    return _decode(data, _BalanceBody, "the balance").data.available_balance


# An id goes into addresses and into `ms://…`: nothing that would lead elsewhere.
_FILE_ID = re.compile(r"[A-Za-z0-9_][\w.\-]{0,199}", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def is_file_id(text: str) -> bool:
    """Tell whether `text` can be the id of an uploaded file."""
    return _FILE_ID.fullmatch(text) is not None


def read_file(data: bytes) -> Upload:
    """Return the file that the host describes. Raises WireError."""
    return _upload(_decode(data, _FileRow, "what the host says of the file"))


def read_files(data: bytes) -> list[Upload]:
    """Return the files that lie at the host. Raises WireError."""
    return [_upload(row) for row in _decode(data, _FilesBody, "the list of files").data]


def read_content(data: bytes) -> str:
    """Return the text that the host extracted from a file. Raises WireError.

    Kimi wraps it in JSON, `{"content": …, "file_type": …, "filename": …}`, and its documentation speaks of plain text
    (platform.kimi.ai/docs/api/files-content, read 2026-11-23): both are taken.
    """
    try:
        body = msgspec.json.decode(data, type=_ContentBody | str)
    except msgspec.DecodeError:
        pass
    else:
        return body if isinstance(body, str) else body.content
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WireError(f"the text of the file cannot be read ({error.reason})") from None
    if text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
        raise WireError("the text of the file cannot be read (it is a page)")  # of a gateway
    return text


def _upload(row: _FileRow) -> Upload:
    if not is_file_id(row.id):
        raise WireError("the host names a file by an id that cannot be used")
    try:
        created = None if row.created_at is None else datetime.fromtimestamp(row.created_at, UTC)
    except (ValueError, OverflowError, OSError):
        created = None
    name = _UNPRINTABLE.sub(" ", row.filename or "")
    return Upload(row.id, name, row.purpose or "", row.bytes, created)


def read_error(data: bytes) -> tuple[str, str] | None:
    """Return (message, type) of the body of an error; None when it is something else.

    Kimi's and OpenAI's is `{"error": {"message", "type"}}`; FastAPI's is `{"detail": …}`, a text or a list of
    `{"loc", "msg"}`, which Mistral puts below `message` (2026-11-23).
    """
    try:
        return _find_error(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _find_error(found: Any) -> tuple[str, str] | None:
    if isinstance(found, str):
        return found, ""
    if isinstance(found, list):
        rows = [row for row in found if isinstance(row, dict) and isinstance(row.get("msg"), str)]
        texts = [f"{'.'.join(map(str, row.get('loc') or ['request']))}: {row['msg']}" for row in rows]
        return ("; ".join(texts), "") if texts else None
    if not isinstance(found, dict):
        return None
    kind = found["type"] if isinstance(found.get("type"), str) else ""
    for name in ("error", "message", "detail"):
        if found.get(name) and (inner := _find_error(found[name])):
            return inner[0], inner[1] or kind
    return ("", kind) if kind else None
