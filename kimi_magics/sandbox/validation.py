"""The parameters of a completion, checked by the API's rules and with its manner of refusing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.messages import Message, Prompt, read_prompt
from kimi_magics.sandbox.models import Model, find_model
from kimi_magics.sandbox.refusal import RefusalError, refuse_unless
from kimi_magics.sandbox.tools import check_tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from kimi_magics.sandbox.options import SandboxOptions

_EFFORTS = ("low", "high", "max")
_FREE_RANGES = {
    "temperature": (0, 1),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 5),
}
_FIXED_VALUES = {"temperature": 1, "top_p": 0.95, "n": 1, "presence_penalty": 0, "frequency_penalty": 0}


@dataclass(frozen=True)
class Completion:
    """A valid request for a completion."""

    model: Model
    prompt: Prompt
    is_stream: bool = False
    includes_usage: bool = False
    limit: int = 0
    """The most tokens of reasoning and answer together."""
    stops: tuple[str, ...] = ()
    choices: int = 1
    thinks: bool = False
    effort: str = "high"
    prefix: str | None = None
    """The beginning of the answer in Partial Mode."""
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a function."""
    format: str = "text"
    schema: dict[str, Any] = field(default_factory=dict)


def read_completion(body: Any, options: SandboxOptions, find_file: Callable[[str], bytes | None]) -> Completion:
    """Check the body of POST /chat/completions; raises RefusalError."""
    model = _read_model(body, options)
    thinks = _read_thinking(body, model)
    _check_sampling(body, model, thinks=thinks)
    tools, tool_choice = check_tools(body, model, thinks=thinks)
    prompt = read_prompt(body, model, find_file)
    _check_reasoning_replay(prompt.messages, thinks=thinks)
    format_name, schema = _read_format(body, prompt)
    last = prompt.messages[-1]
    is_partial = bool(last.get("partial"))
    refuse_unless(
        not (is_partial and format_name == "json_object"),
        "partial mode is not supported with response_format json_object",
    )
    return Completion(
        model=model,
        prompt=prompt,
        is_stream=_read_boolean(body, "stream"),
        includes_usage=_read_stream_options(body),
        limit=_read_limit(body, model, len(prompt.tokens)),
        stops=_read_stops(body),
        choices=body.get("n") or 1,
        thinks=thinks,
        effort=body.get("reasoning_effort") or "high",
        prefix=prompt.text_of(last) if is_partial else None,
        tools=tools,
        tool_choice=tool_choice,
        format=format_name,
        schema=schema,
    )


def count_prompt(body: Any, options: SandboxOptions, find_file: Callable[[str], bytes | None]) -> int:
    """Check the body of an estimate, and return its tokens; raises RefusalError."""
    model = _read_model(body, options)
    if model.id in options.estimate_refuses:
        raise RefusalError(
            f"Not found the model {model.id} or Permission denied", status=404, type="resource_not_found_error"
        )
    return len(read_prompt(body, model, find_file).tokens)


def _read_model(body: Any, options: SandboxOptions) -> Model:
    refuse_unless(isinstance(body, dict), "the body must be a JSON object")
    name = body.get("model")
    refuse_unless(isinstance(name, str) and bool(name), "model is required")
    return find_model(name, options.revived)


def _read_thinking(body: Any, model: Model) -> bool:
    thinking, effort = body.get("thinking"), body.get("reasoning_effort")
    if effort is not None:
        refuse_unless(model.takes_effort, f"reasoning_effort is not supported for model {model.id}")
        refuse_unless(
            effort in _EFFORTS, f"invalid reasoning_effort: {effort!r}, expected one of {', '.join(_EFFORTS)}"
        )
    if thinking is None:
        return model.thinking != "none"
    has_field = model.thinking == "switchable" or (model.thinking == "always" and not model.takes_effort)
    refuse_unless(has_field, f"thinking is not supported for model {model.id}")
    refuse_unless(isinstance(thinking, dict), "thinking must be an object")
    kind = thinking.get("type", "enabled")
    refuse_unless(kind in ("enabled", "disabled"), f"invalid thinking type: {kind!r}")
    refuse_unless(thinking.get("keep") in (None, "all"), f"invalid thinking keep: {thinking.get('keep')!r}")
    refuse_unless(
        kind == "enabled" or model.thinking == "switchable",
        f"invalid thinking: only type=enabled is allowed for model {model.id}",
    )
    return bool(kind == "enabled")


def _check_sampling(body: Any, model: Model, *, thinks: bool) -> None:
    fixed: dict[str, float] = dict(_FIXED_VALUES)
    if model.thinking == "switchable" and not thinks:
        fixed["temperature"] = 0.6  # uncertain: not in the collected facts of the API
    for name, (smallest, largest) in _FREE_RANGES.items():
        value = body.get(name)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (name == "n" and not isinstance(value, int)):
            raise RefusalError(f"Invalid request: {name} must be a number")
        if model.fixes_sampling and value != fixed[name]:
            raise RefusalError(f"invalid {name}: only {fixed[name]} is allowed for this model")
        if not smallest <= value <= largest:
            raise RefusalError(f"invalid {name}: must be between {smallest} and {largest}")


def _check_reasoning_replay(messages: list[Message], *, thinks: bool) -> None:
    for position, row in enumerate(messages):
        is_missing = bool(row.get("tool_calls")) and not row.get("reasoning_content")
        if thinks and is_missing:
            message = "thinking is enabled but reasoning_content is missing in assistant tool call message"
            raise RefusalError(f"{message} at index {position}")


def _read_format(body: Any, prompt: Prompt) -> tuple[str, dict[str, Any]]:
    value = body.get("response_format")
    if value is None:
        return "text", {}
    kind = value.get("type") if isinstance(value, dict) else None
    refuse_unless(kind in ("text", "json_object", "json_schema"), f"invalid response_format: {kind!r}")
    if kind == "json_object":
        refuse_unless(
            "json" in prompt.all_text.lower(), "response_format json_object needs the word 'json' in the messages"
        )
    if kind != "json_schema":
        return str(kind), {}
    holder = value.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    refuse_unless(isinstance(schema, dict), "response_format json_schema needs json_schema.schema")
    refuse_unless(
        isinstance(holder.get("name"), str) and bool(holder["name"]),
        "response_format json_schema needs json_schema.name",
    )
    return "json_schema", dict(schema or {})


def _read_boolean(body: Any, name: str) -> bool:
    value = body.get(name)
    refuse_unless(value is None or isinstance(value, bool), f"{name} must be a boolean")
    return bool(value)


def _read_stream_options(body: Any) -> bool:
    value = body.get("stream_options")
    refuse_unless(value is None or isinstance(value, dict), "stream_options must be an object")
    return bool((value or {}).get("include_usage"))


def _read_limit(body: Any, model: Model, prompt_tokens: int) -> int:
    limit = None
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        is_right = isinstance(value, int) and not isinstance(value, bool) and value > 0
        refuse_unless(is_right, f"{name} must be a positive integer")
        limit = value if limit is None else limit
    requested = prompt_tokens + (limit or 0)
    if requested > model.context_length:
        raise RefusalError(
            f"Invalid request: Your request exceeded model token limit: {model.context_length} (requested: {requested})"
        )
    return limit or min(model.default_output, model.context_length - prompt_tokens)


def _read_stops(body: Any) -> tuple[str, ...]:
    value = body.get("stop")
    stops = [value] if isinstance(value, str) else value or []
    refuse_unless(
        isinstance(stops, list) and all(isinstance(stop, str) for stop in stops),
        "stop must be a string or an array of strings",
    )
    refuse_unless(len(stops) <= 5, f"at most 5 stop words are allowed, got {len(stops)}")
    for stop in stops:
        size = len(stop.encode("utf-8", "replace"))
        refuse_unless(size <= 32, f"a stop word must not exceed 32 bytes, got {size}")
    return tuple(stop for stop in stops if stop)
