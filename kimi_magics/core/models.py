"""What is known of each model: context, abilities, retirement.

The facts themselves are data (`store/models.toml`, dated); this module only gives them a form.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

#: How a model thinks: `switch` can be turned off, `always` cannot, `effort` takes `reasoning_effort` instead,
#: `never` does not think, `unknown` is a model that we have no facts about.
Thinking = Literal["switch", "always", "effort", "never", "unknown"]

DEFAULT_MODEL = "kimi-k2.6"


@dataclass(frozen=True, slots=True)
class Model:
    """One model; None means that the figure is not known, never zero."""

    name: str
    context_tokens: int | None = None
    #: What the host allows for an answer when `max_completion_tokens` is not sent.
    default_output_tokens: int | None = None
    supports_images: bool | None = None
    supports_video: bool | None = None
    thinking: Thinking = "unknown"
    #: Whether the host's own web search can be offered to it.
    has_web_search: bool | None = None
    retired: date | None = None
    replacement: str | None = None
    #: The name under which its USD price is listed, where that differs.
    priced_as: str | None = None
    #: Patches of 14 pixels to which an image is scaled down (see `estimate.image_tokens`).
    image_patch_limit: int = 16_384

    @property
    def is_known(self) -> bool:
        """Whether we hold facts about it; an unknown model is used as it is."""
        return self.thinking != "unknown"

    def explain_retirement(self) -> str:
        """One sentence on when it went; empty for a live model."""
        return f"{self.name} was retired on {self.retired.isoformat()}" if self.retired else ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models known to us, as of `checked`."""

    models: Mapping[str, Model]
    checked: date

    def get(self, name: str) -> Model:
        """Return the model; one that we do not know gets a record without facts."""
        return self.models.get(name) or Model(name)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models.values())

    def live(self) -> list[Model]:
        """Return the models that were not retired at the time of `checked`."""
        return [model for model in self if model.retired is None]

    def suggest(self, name: str) -> str | None:
        """Return the live model whose name is most like `name`, or None."""
        close = difflib.get_close_matches(name, [model.name for model in self.live()], n=1, cutoff=0.6)
        return close[0] if close else None
