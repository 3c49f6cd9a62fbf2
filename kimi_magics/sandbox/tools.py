"""Tools: the rules for offering them, and the calls that the sandbox makes up from the prompt and the tool's schema."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.refusal import RefusalError, refuse_unless
from kimi_magics.sandbox.schemas import build_value

if TYPE_CHECKING:
    from kimi_magics.sandbox.messages import Prompt
    from kimi_magics.sandbox.models import Model

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{2,63}", re.ASCII)
_WEB_SEARCH = "$web_search"
_SEARCH_TOKENS = 1_234
Tool = dict[str, Any]


def check_tools(body: Any, model: Model, *, thinks: bool) -> tuple[tuple[Tool, ...], str]:
    """Check `tools` and `tool_choice`; return the tools and `auto`, `none`, `required` or a function's name."""
    tools = body.get("tools")
    refuse_unless(tools is None or isinstance(tools, list), "tools must be an array")
    tools = tools or []
    refuse_unless(len(tools) <= 128, f"at most 128 tools are allowed, got {len(tools)}")
    names: list[str] = [_check_tool(tool, model) for tool in tools]
    for name in names:
        refuse_unless(names.count(name) == 1, f"function name {name} is duplicated")
    return tuple(tools), _check_choice(body.get("tool_choice"), names, model, thinks=thinks)


def _check_tool(tool: Any, model: Model) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise RefusalError("Invalid request: a tool must have type and function")
    name = function.get("name")
    if tool.get("type") == "builtin_function":
        refuse_unless(name == _WEB_SEARCH, f"unknown builtin function: {name}")
        refuse_unless(model.has_web_search, f"{_WEB_SEARCH} is not supported for model {model.id}")
        return _WEB_SEARCH
    refuse_unless(tool.get("type") == "function", f"unsupported tool type: {tool.get('type')}")
    is_right = isinstance(name, str) and _NAME.fullmatch(name) is not None
    refuse_unless(is_right, f"function name is invalid, must match ^[a-zA-Z_][a-zA-Z0-9-_]{{2,63}}$, got {name!r}")
    parameters = function.get("parameters")
    refuse_unless(
        parameters is None or isinstance(parameters, dict), f"parameters of function {name} must be a JSON schema"
    )
    return str(name)


def _check_choice(choice: Any, names: list[str], model: Model, *, thinks: bool) -> str:
    if choice is None or choice in ("auto", "none"):
        return choice or "auto"
    if choice == "required":
        is_allowed = model.takes_effort or not thinks
        refuse_unless(is_allowed, "tool_choice 'required' is incompatible with thinking enabled")
        refuse_unless(bool(names), "tool_choice 'required' needs tools")
        return "required"
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict) or choice.get("type") != "function":
        raise RefusalError(f"Invalid request: invalid tool_choice: {choice!r}")
    refuse_unless(not thinks, "tool_choice 'specified' is incompatible with thinking enabled")
    refuse_unless(function.get("name") in names, f"tool_choice names an unknown function: {function.get('name')}")
    return str(function["name"])


def build_calls(prompt: Prompt, tools: tuple[Tool, ...], choice: str) -> list[dict[str, Any]]:
    """Return the tool calls that this prompt brings about, perhaps none.

    A tool is called when the prompt mentions its name, when `tool_choice` asks for it, or when it is the web search.
    """
    if not tools or choice == "none" or prompt.messages[-1]["role"] == "tool":
        return []
    text = prompt.last_text
    if choice not in ("auto", "required"):
        chosen = [tool for tool in tools if tool["function"]["name"] == choice]
    else:
        chosen = [tool for tool in tools if _is_mentioned(tool["function"]["name"], text)]
        if not chosen and choice == "required":
            chosen = [tools[0]]
    earlier = sum(len(message.get("tool_calls") or ()) for message in prompt.messages)
    return [_build_call(tool, earlier + position, text) for position, tool in enumerate(chosen)]


def _is_mentioned(name: str, text: str) -> bool:
    if name == _WEB_SEARCH:
        return True
    spoken = re.sub(r"[_-]+", " ", name).strip()
    pattern = rf"(?<![\w-])(?:{re.escape(name)}|{re.escape(spoken)})(?![\w-])"
    return re.search(pattern, text, re.IGNORECASE) is not None


def _build_call(tool: Tool, number: int, text: str) -> dict[str, Any]:
    name = tool["function"]["name"]
    if name == _WEB_SEARCH:
        search_id = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
        arguments: Any = {"search_result": {"search_id": search_id}, "usage": {"total_tokens": _SEARCH_TOKENS}}
    else:
        arguments = build_value(tool["function"].get("parameters") or {"type": "object"}, text)
    # Kimi numbers the calls of a conversation: functions.NAME:0, NAME:1, …
    return {
        "id": f"{name}:{number}",
        "type": tool["type"],
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }
