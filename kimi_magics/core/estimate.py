"""How many tokens a prompt has, counted here for when the endpoint cannot be asked; it learns from when it can.

Text is `tokens.count_text`. Source of the overhead and of images: kimi_api.md section 6 (K2's chat template and open
weights, checked 2026-11-22).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from decimal import Decimal

from kimi_magics.core.media import Image
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt, counted_texts
from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights, count_text, learn, learn_factor
from kimi_magics.core.tools import Tool
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import ContextError

__all__ = [
    "Estimate",
    "check_context",
    "count_extras",
    "count_parts",
    "count_prompt",
    "count_text",
    "image_tokens",
    "learn_extras",
    "learn_prompt",
]

MESSAGE_TOKENS = 4
REPLY_HEADER_TOKENS = 3
#: Tools of fewer tokens say little of how the host writes tools.
_FEWEST_EXTRAS = 20


def image_tokens(width: int, height: int, *, patch_limit: int = 16_384) -> int:
    """Return the tokens of an image of `width` × `height` pixels: cells of 28 pixels after scaling down."""
    patches = max(1, (width // 14) * (height // 14))
    scale = min(1.0, math.sqrt(patch_limit / patches), 512 * 14 / width, 512 * 14 / height)
    return math.ceil(max(1, int(height * scale)) / 28) * math.ceil(max(1, int(width * scale)) / 28) + 4


def _count_image(image: Image, model: Model) -> int:
    return image_tokens(image.width, image.height, patch_limit=model.image_patch_limit)


def _count_template(prompt: Prompt) -> int:
    total = REPLY_HEADER_TOKENS + MESSAGE_TOKENS * len(prompt.messages)
    if prompt.model.thinking == "switch":
        total += 3 if prompt.thinking == "off" else 1
    return total


def count_prompt(prompt: Prompt, weights: Weights = DEFAULT_WEIGHTS) -> int:
    """Return about how many tokens the request has, the template's overhead included."""
    return sum(count_parts(prompt, weights).values())


def count_parts(prompt: Prompt, weights: Weights = DEFAULT_WEIGHTS) -> dict[str, int]:
    """Return the tokens by what they are: draft (the last user message), system, history, images, videos and template.

    Nobody has published how a video is counted: it is 0 here until the host has told. Tools and schema are not in it,
    since the endpoint does not count them: see `count_extras`.
    """
    parts = {"draft": 0, "system": 0, "history": 0, "images": 0, "videos": 0, "template": _count_template(prompt)}
    users = [at for at, message in enumerate(prompt.messages) if message.role == "user"]
    draft = users[-1] if users else None
    for at, (message, text) in enumerate(zip(prompt.messages, counted_texts(prompt), strict=True)):
        # The beginning of an answer belongs to what is being written.
        is_draft = at == draft or message.is_partial
        part = "draft" if is_draft else "system" if message.role == "system" else "history"
        parts[part] += count_text(text, weights)
        parts["images"] += sum(_count_image(image, prompt.model) for image in message.images)
    return parts


def count_extras(prompt: Prompt, weights: Weights = DEFAULT_WEIGHTS) -> dict[str, int]:
    """Return the tokens of what the endpoint leaves out: tools and schema; only of those that there are.

    They are counted as the JSON in which they are sent: how the host writes them for the model is not published, and
    learnt from its bills, see `learn_extras`.
    """
    parts = {"tools": sum(count_text(_tool_text(tool), weights) for tool in prompt.tools)}
    if prompt.format is not None and prompt.format.schema is not None:
        parts["schema"] = count_text(json.dumps(prompt.format.schema, ensure_ascii=False, default=str), weights)
    factors = {"tools": weights.tools, "schema": weights.schema}
    return {name: max(1, round(factors[name] * tokens)) for name, tokens in parts.items() if tokens}


def _tool_text(tool: Tool) -> str:
    parameters = json.dumps(tool.parameters, ensure_ascii=False, default=str) if tool.parameters else ""
    return "\n".join(filter(None, (tool.name, tool.description, parameters)))


def learn_prompt(weights: Weights, prompt: Prompt, tokens: int) -> Weights:
    """Return weights that know what the host counted or billed for `prompt`; the same weights when that is nonsense.

    A prompt with images teaches nothing either: what the host takes for an image is not known to the token.
    """
    if any(message.media for message in prompt.messages):
        return weights
    return learn(weights, counted_texts(prompt), tokens - _count_template(prompt))


def learn_extras(weights: Weights, prompt: Prompt, tokens: int) -> Weights:
    """Return weights that know that the host took the tools or the schema of `prompt` for `tokens`.

    The same weights where it has both, since nobody can part them, or so few that it tells nothing; a search of the web
    brings texts of its own.
    """
    found = count_extras(prompt, weights)
    if len(found) != 1 or any(tool.kind == "builtin_function" for tool in prompt.tools):
        return weights
    ((name, expected),) = found.items()
    if expected < _FEWEST_EXTRAS:
        return weights
    factor = learn_factor(weights.tools if name == "tools" else weights.schema, expected=expected, counted=tokens)
    return replace(weights, tools=factor) if name == "tools" else replace(weights, schema=factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a prompt would cost before anything is generated; None means that it is not known."""

    model: Model
    prompt_tokens: int
    #: True when the API's own endpoint counted, False when the figure is ours.
    is_counted: bool
    #: The most tokens that the answer can have.
    output_limit: int | None = None
    price: Price | None = None
    #: Why the endpoint did not count, in a few words; empty when it did.
    note: str = ""
    #: How many of the tokens are of tools and schema: counted here, since the endpoint counts messages only.
    added_tokens: int = 0

    @property
    def input_cost(self) -> Decimal | None:
        """What the prompt costs if nothing of it is cached."""
        return self.price.cost_of(Usage(prompt_tokens=self.prompt_tokens)) if self.price else None

    @property
    def ceiling(self) -> Decimal | None:
        """What the call costs if the answer is as long as it can be."""
        if self.price is None or self.output_limit is None:
            return None
        return self.price.cost_of(Usage(self.prompt_tokens, self.output_limit))

    @property
    def context_share(self) -> float | None:
        """The part of the model's context that the prompt fills, 0 to 1 and above."""
        return self.prompt_tokens / self.model.context_tokens if self.model.context_tokens else None


def check_context(prompt: Prompt, prompt_tokens: int, *, is_counted: bool) -> None:
    """Raise ContextError when the prompt and the answer that `--max-tokens` reserves cannot fit the context.

    The API refuses such a request (reference/chat_completions_page.txt, "max_completion_tokens").
    """
    context, reserved = prompt.model.context_tokens, prompt.max_tokens or 0
    if context is None or prompt_tokens + reserved <= context:
        return
    about = "" if is_counted else "about "
    answer = f" and an answer of up to {reserved:,}" if reserved else ""
    room = context - prompt_tokens
    lower = f"--max-tokens {room} or less, " if reserved and room > 0 else ""
    raise ContextError(
        f"the prompt of {about}{prompt_tokens:,} tokens{answer} does not fit the {context:,} of {prompt.model.name}",
        remedy=f"{lower}a shorter prompt, or a model with a larger context (%kimi_models)",
    )
