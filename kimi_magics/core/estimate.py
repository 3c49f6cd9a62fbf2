"""How many tokens a prompt has, counted here: a first approximation for when the endpoint cannot be asked.

Source of the classes and the overhead: kimi_api.md section 6 (K2 vocabulary and chat template, checked 2026-11-22).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from kimi_magics.core.media import Image
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import ContextError

_PIECES = re.compile(
    r"(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)"
    r"|(?P<kana>[\u3040-\u30ff\uac00-\ud7af]+)"
    r"|(?P<latin>[A-Z]?[a-z]+(?:'[a-z]{1,2})?|[A-Z]+(?![a-z]))"
    r"|(?P<digits>\d{1,3})"
    r"|(?P<newline>\s*\n\s*)"
    r"|(?P<space>[^\S\n]{2,})"
    r"|(?P<word>[^\W\d_]+)"
    r"|(?P<symbol>[!-/:-@\[-`{-~]+)"
    r"|(?P<wide>[\U00010000-\U0010ffff])"
    r"|(?P<other>[^\s])"
)

MESSAGE_TOKENS = 4
REPLY_HEADER_TOKENS = 3


def _weigh_piece(kind: str, length: int) -> float:
    """Return the tokens of one pre-token, fitted by hand to the measured pairs of kimi_api.md section 6."""
    match kind:
        case "han":
            return max(1.0, 0.62 * length)
        case "kana":
            return max(1.0, 0.72 * length)
        case "latin":
            return 1.0 if length <= 8 else 1.0 + (length - 8) / 5
        case "word":
            return max(1.0, length / 3.2)
        case "symbol":
            return 1.0 if length <= 2 else length / 2
        case "wide":
            return 2.0
        case _:
            return 1.0


def count_text(text: str) -> int:
    """Return about how many tokens `text` has: at least 1 for text that is not empty."""
    if not text:
        return 0
    total = sum(
        _weigh_piece(match.lastgroup or "other", match.end() - match.start()) for match in _PIECES.finditer(text)
    )
    return max(1, math.ceil(total))


def image_tokens(width: int, height: int, *, patch_limit: int = 16_384) -> int:
    """Return the tokens of an image of `width` × `height` pixels: cells of 28 pixels after scaling down."""
    patches = max(1, (width // 14) * (height // 14))
    scale = min(1.0, math.sqrt(patch_limit / patches), 512 * 14 / width, 512 * 14 / height)
    return math.ceil(max(1, int(height * scale)) / 28) * math.ceil(max(1, int(width * scale)) / 28) + 4


def _count_image(image: Image, model: Model) -> int:
    return image_tokens(image.width, image.height, patch_limit=model.image_patch_limit)


def count_prompt(prompt: Prompt) -> int:
    """Return about how many tokens the request has, the template's overhead included."""
    total = REPLY_HEADER_TOKENS
    for message in prompt.messages:
        total += MESSAGE_TOKENS + count_text(message.text)
        total += sum(_count_image(image, prompt.model) for image in message.images)
    if prompt.model.thinking == "switch":
        total += 3 if prompt.thinking == "off" else 1
    return total


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
