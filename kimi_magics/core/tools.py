"""Tools that a model may call: what it is told of them, and the API's rules for offering them.

Source of the rules: reference/chat_completions_page.txt, "tools", and kimi_api.md section 3, checked 2026-11-22.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kimi_magics.errors import PromptError

ToolKind = Literal["function", "builtin_function"]

MAX_TOOLS = 128
TOOL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{2,63}", re.ASCII)
WEB_SEARCH_NAME = "$web_search"


@dataclass(frozen=True, slots=True)
class Tool:
    """What the model is told of one tool: `parameters` is a JSON schema of an object, None for a builtin one."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = field(default=None, hash=False)
    kind: ToolKind = "function"


#: The host searches the web itself; its arguments come back to it unchanged as the tool's answer.
WEB_SEARCH = Tool(WEB_SEARCH_NAME, kind="builtin_function")


def check_tools(tools: Sequence[Tool]) -> None:
    """Raise PromptError for what the API refuses: too many tools, a name twice, a name outside its rule."""
    if len(tools) > MAX_TOOLS:
        raise PromptError(
            f"{len(tools)} tools were given, the API takes at most {MAX_TOOLS}",
            remedy="offer those that this prompt needs",
        )
    for name, count in Counter(tool.name for tool in tools).items():
        if count > 1:
            raise PromptError(
                f"two tools have the name {name}", remedy="each needs a name of its own: rename a function"
            )
    for tool in tools:
        if tool.kind == "function" and not TOOL_NAME.fullmatch(tool.name):
            raise PromptError(
                f"{tool.name[:80]!r} cannot be the name of a tool: the API takes 3 to 64 of the characters a-z, A-Z,"
                " 0-9, _ and -, and no digit or dash in front",
                remedy="rename the function",
            )
