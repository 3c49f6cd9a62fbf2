"""The messages of a request: checked by the API's rules, and cut into the tokens that are billed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.images import Picture, Video, read_image, read_video
from kimi_magics.sandbox.refusal import RefusalError, refuse_unless
from kimi_magics.sandbox.tokens import count_image_tokens, split_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from kimi_magics.sandbox.models import Model

Message = dict[str, Any]
_ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Prompt:
    """A request's messages after reading: their tokens in order, and the images and videos among them."""

    messages: list[Message]
    tokens: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)

    def text_of(self, message: Message) -> str:
        """Return the text of a message, its parts joined."""
        content = message.get("content")
        if isinstance(content, str):
            return content
        return "\n".join(part["text"] for part in content or [] if part["type"] == "text")

    @property
    def last_text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                return self.text_of(message)
        return ""

    @property
    def all_text(self) -> str:
        """The texts of all messages."""
        return "\n".join(map(self.text_of, self.messages))


def read_prompt(body: Any, model: Model, find_file: Callable[[str], bytes | None]) -> Prompt:
    """Check a request's messages and count their tokens and those of its tools."""
    messages = body.get("messages")
    refuse_unless(isinstance(messages, list), "messages is required and must be an array")
    refuse_unless(bool(messages), "messages must not be empty")
    prompt = Prompt(messages)
    last_user = max((i for i, message in enumerate(messages) if _role_of(message) == "user"), default=-1)
    thinking = body.get("thinking")
    keeps_all = isinstance(thinking, dict) and thinking.get("keep") == "all"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        prompt.tokens += split_tokens(json.dumps(tool, ensure_ascii=False, sort_keys=True))
    for position, message in enumerate(messages):
        _check_message(message, position, is_last=position == len(messages) - 1)
        prompt.tokens += ("<|im_start|>", message["role"], "<|im_middle|>")
        if model.thinking != "switchable" or keeps_all or position > last_user:
            prompt.tokens += split_tokens(message.get("reasoning_content") or "")
        _read_content(message, prompt, model, find_file)
        _count_extras(message, prompt)
        prompt.tokens.append("<|im_end|>")
    _check_tool_replies(messages)
    prompt.tokens += ("<|im_start|>", "assistant", "<|im_middle|>")
    if model.thinking != "none":
        prompt.tokens.append("<think>")
    return prompt


def _role_of(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _check_message(message: object, position: int, *, is_last: bool) -> None:
    where = f"message at position {position}"
    if not isinstance(message, dict):
        raise RefusalError(f"Invalid request: {where} must be an object")
    role = message.get("role")
    refuse_unless(role in _ROLES, f"{where} has unsupported role '{role}', expected one of {', '.join(_ROLES)}")
    content = message.get("content")
    if not (role == "assistant" and (message.get("tool_calls") or message.get("partial"))) and role != "tool":
        is_blank = content is None or (isinstance(content, str | list) and not content)
        refuse_unless(not is_blank, f"{where} with role '{role}' must not be empty")
    refuse_unless(
        content is None or isinstance(content, str | list), f"content of {where} must be a string or an array"
    )
    reasoning = message.get("reasoning_content")
    refuse_unless(reasoning is None or isinstance(reasoning, str), f"reasoning_content of {where} must be a string")
    refuse_unless(isinstance(message.get("name", ""), str | None), f"name of {where} must be a string")
    partial = message.get("partial", False)
    refuse_unless(isinstance(partial, bool | None), f"partial of {where} must be a boolean")
    refuse_unless(
        not partial or (is_last and role == "assistant"),
        "partial is only allowed on the last message, with role assistant",
    )
    refuse_unless(role != "tool" or isinstance(message.get("tool_call_id"), str), f"{where} must have a tool_call_id")
    _check_tool_calls(message, where)


def _check_tool_calls(message: Message, where: str) -> None:
    calls = message.get("tool_calls")
    refuse_unless(calls is None or isinstance(calls, list), f"tool_calls of {where} must be an array")
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        is_right = (
            isinstance(function, dict)
            and isinstance(call.get("id"), str)
            and isinstance(function.get("name"), str)
            and isinstance(function.get("arguments"), str)
        )
        refuse_unless(is_right, f"tool_calls of {where} must have id, function.name and function.arguments")


def _check_tool_replies(messages: list[Message]) -> None:
    """Check that each tool call is answered by the messages right after it, and each tool message answers a call."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            refuse_unless(message["tool_call_id"] in waiting, "tool_call_id is not found")
            waiting.remove(message["tool_call_id"])
            continue
        _refuse_unanswered(waiting)
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
    _refuse_unanswered(waiting)


def _refuse_unanswered(waiting: list[str]) -> None:
    refuse_unless(
        not waiting,
        "an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(waiting)}",
    )


def _read_content(message: Message, prompt: Prompt, model: Model, find_file: Callable[[str], bytes | None]) -> None:
    content = message.get("content")
    if isinstance(content, str):
        prompt.tokens += split_tokens(content)
        return
    for part in content or ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            text = part.get("text")
            refuse_unless(isinstance(text, str), "a content part of type text must have text")
            refuse_unless(bool(text), "text content is empty")
            prompt.tokens += split_tokens(text)
        elif kind == "image_url":
            refuse_unless(model.has_images, f"image input is not supported by model {model.id}")
            picture = read_image(_url_of(part, kind), find_file)
            prompt.pictures.append(picture)
            prompt.tokens += [picture.digest] * count_image_tokens(picture.width, picture.height, model)
        elif kind == "video_url":
            refuse_unless(model.has_videos, f"video input is not supported by model {model.id}")
            video = read_video(_url_of(part, kind), find_file)
            prompt.videos.append(video)
            prompt.tokens += [video.digest] * (256 + video.size_bytes // 2048)
        else:
            raise RefusalError(f"Invalid request: unsupported content type: {kind}")


def _url_of(part: Message, kind: str) -> object:
    value = part.get(kind)
    return value.get("url") if isinstance(value, dict) else value


def _count_extras(message: Message, prompt: Prompt) -> None:
    prompt.tokens += split_tokens(message.get("name") or "")
    for call in message.get("tool_calls") or ():
        prompt.tokens += split_tokens(call["function"]["name"]) + split_tokens(call["function"]["arguments"])
    if message["role"] == "tool":
        prompt.tokens += ["<|search_result|>"] * read_search_tokens(message)


def read_search_tokens(message: Message) -> int:
    """Return the tokens of a `$web_search` result: the echoed arguments state them, the prompt is billed for them."""
    content = message.get("content")
    if not isinstance(content, str) or "search_result" not in content:
        return 0
    try:
        tokens = json.loads(content)["usage"]["total_tokens"]
    except (ValueError, KeyError, TypeError):
        return 0
    return tokens if isinstance(tokens, int) and 0 < tokens < 100_000 else 0
