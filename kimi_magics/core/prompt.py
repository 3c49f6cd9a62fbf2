"""From what was typed to the request that would be sent.

The gauge and the run use this one path, so that what is counted is what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kimi_magics.core.ask import Ask, Effort, ThinkingMode
from kimi_magics.core.interpolate import interpolate
from kimi_magics.core.media import NO_MEDIA, Media
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.errors import PromptError

# Limits of the API: reference/chat_completions_page.txt, "stop".
MAX_STOPS = 5
MAX_STOP_BYTES = 32


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, complete and checked: what `wire.request_body` turns into JSON."""

    model: Model
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: ThinkingMode | None = None
    effort: Effort | None = None
    is_streamed: bool = True
    #: Whether all media go by the ids of uploads; else only videos that are too large to go with the request.
    uploads: bool = False

    def __post_init__(self) -> None:
        if not self.messages:
            raise PromptError("the prompt is empty", remedy="write something to ask")
        _check_stops(self.stop)
        _check_thinking(self)
        _check_sight(self)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the answer can have: as asked, else the model's default; None when unknown."""
        return self.max_tokens if self.max_tokens is not None else self.model.default_output_tokens


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the settings put in where a flag is not given."""

    model: str
    system: str | None = None
    max_tokens: int | None = None
    thinking: ThinkingMode | None = None
    effort: Effort | None = None


def build_prompt(
    ask: Ask,
    *,
    defaults: Defaults,
    find_model: Callable[[str], Model],
    variables: Mapping[str, Any],
    media: Media = NO_MEDIA,
) -> Prompt:
    """Resolve the variables, put the settings in where flags are absent, and check the result.

    Raises VariableError and PromptError; nothing has been sent then.
    """
    model = find_model(ask.model or defaults.model)
    system = ask.system if ask.system is not None else defaults.system
    fill = (lambda text: text) if ask.raw else (lambda text: interpolate(text, variables))
    messages = [Message("system", fill(system))] if system else []
    messages.append(Message("user", fill(ask.text), media.images, media.videos))
    return Prompt(
        model=model,
        messages=tuple(messages),
        max_tokens=ask.max_tokens if ask.max_tokens is not None else defaults.max_tokens,
        stop=ask.stop,
        # A default that does not fit the model chosen for this call is left out; a flag that does not fit is refused.
        thinking=ask.thinking or _if_fits(model, "thinking", defaults.thinking),
        effort=ask.effort or _if_fits(model, "effort", defaults.effort),
        is_streamed=not ask.no_stream,
        uploads=ask.upload,
    )


def adapt(prompt: Prompt, model: Model) -> Prompt:
    """Return the same request for another model, without the fields that it lacks. Raises PromptError."""
    return replace(
        prompt,
        model=model,
        thinking=_if_fits(model, "thinking", prompt.thinking),
        effort=_if_fits(model, "effort", prompt.effort),
    )


def _if_fits(model: Model, field: str, value: Any) -> Any:
    if field == "effort":
        return value if model.thinking in ("effort", "unknown") else None
    return value if model.thinking in ("switch", "unknown") else None


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise PromptError(
            f"{len(stops)} stop words were given, the API takes at most {MAX_STOPS}",
            remedy=f"keep the {MAX_STOPS} that matter",
        )
    for stop in stops:
        size = len(stop.encode())
        if not 1 <= size <= MAX_STOP_BYTES:
            raise PromptError(
                f"the stop word {stop[:40]!r} has {size} bytes, the API takes 1 to {MAX_STOP_BYTES}",
                remedy="shorten it: the answer ends at the first match" if size else "give it at least one character",
            )


def _check_sight(prompt: Prompt) -> None:
    """Refuse images and videos for a model that is known not to read them."""
    model = prompt.model
    for kind, supports in (("images", model.supports_images), ("videos", model.supports_video)):
        if supports is False and any(getattr(message, kind) for message in prompt.messages):
            raise PromptError(f"{model.name} does not read {kind}", remedy="choose a model that does: -m kimi-k2.6")


def _check_thinking(prompt: Prompt) -> None:
    """Refuse what the model has no field for (kimi_api.md section 3, checked 2026-11-22)."""
    model, thinking, effort = prompt.model, prompt.thinking, prompt.effort
    if thinking == "off" and model.thinking in ("always", "effort"):
        lower = "; --effort low makes it think less" if model.thinking == "effort" else ""
        raise PromptError(
            f"{model.name} always thinks: --thinking off cannot be sent",
            remedy=f"use -m kimi-k2.6, which can be asked not to think{lower}",
        )
    if thinking in ("on", "keep") and model.thinking == "never":
        raise PromptError(f"{model.name} does not think", remedy="leave --thinking out, or use -m kimi-k2.6")
    if effort and model.thinking not in ("effort", "unknown"):
        raise PromptError(
            f"{model.name} has no --effort", remedy="use --thinking on or off with it, or -m kimi-k3 --effort high"
        )
