"""From what was typed to the request that would be sent.

`{{name}}` is filled in once, from left to right; `{{a.b}}`, `{{a[0]}}` and `{{a['k']}}` as well. Nothing is called,
what was filled in is not looked at again, and every other brace is text. The gauge and the run use this one path, so
that what is counted is what is sent.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kimi_magics.core.ask import Ask, Effort, ThinkingMode
from kimi_magics.core.media import NO_MEDIA, Media
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.errors import PromptError, VariableError

_PLACE = re.compile(r"\{\{([^{}]{1,200})\}\}")

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


def interpolate(text: str, variables: Mapping[str, Any]) -> str:
    """Fill in every `{{name}}` of `text` once. Raises VariableError for a name, attribute or key that is not there."""
    return _PLACE.sub(lambda match: _fill(match, variables), text)


def _fill(match: re.Match[str], variables: Mapping[str, Any]) -> str:
    place, path = match[0], _parse_path(match[1])
    if path is None:
        return place
    if isinstance(path, str):
        raise VariableError(
            f"{place} would call {path}, and a prompt calls nothing",
            remedy=f"put the result into a variable first, as in value = {match[1].strip()}, and write {{{{value}}}}"
            "; or send the braces as typed with --raw",
        )
    value = _walk(place, path, variables)
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 — str() runs the user's code, which may raise anything
        raise VariableError(f"{place} cannot be written as text: {type(error).__name__}: {error}") from None


def resolve(source: str, variables: Mapping[str, Any]) -> Any:
    """Return the value that a name, attribute or constant index stands for, as inside `{{…}}`. Raises VariableError."""
    path = _parse_path(source)
    if not isinstance(path, list):
        raise VariableError(f"{source} is not a name", remedy="write name, name.part, name[0] or name['key']")
    return _walk(source, path, variables)


def _walk(place: str, path: list[tuple[str, Any]], variables: Mapping[str, Any]) -> Any:
    value: Any = variables
    for kind, key in path:
        value = _step(place, kind, key, value)
    return value


def _step(place: str, kind: str, key: Any, value: Any) -> Any:
    try:
        return getattr(value, key) if kind == "attribute" else value[key]
    except Exception as error:  # noqa: BLE001 — a property or __getitem__ of the user may raise anything
        if kind == "name":
            what, names = f"{place}: there is no variable {key!r}", value
        elif kind == "attribute":
            what, names = f"{place}: {type(value).__name__} has no attribute {key!r}", dir(value)
        else:
            what = f"{place}: {type(error).__name__} for [{key!r}] of {type(value).__name__}"
            names = value if isinstance(value, Mapping) else ()
        raise VariableError(what, remedy=_suggest(key, names)) from None


def _suggest(key: Any, names: Iterable[Any]) -> str:
    candidates = [name for name in names if isinstance(name, str) and not name.startswith("_")]
    close = difflib.get_close_matches(str(key), candidates, n=1, cutoff=0.6)
    advice = f"did you mean {close[0]!r}? " if close else "define it before this cell. "
    return advice + "With --raw the braces go as typed"


def _parse_path(source: str) -> list[tuple[str, Any]] | str | None:
    """Read what stands between the braces: the steps of a path, the call that it makes, or None for plain text."""
    try:
        with warnings.catch_warnings():
            # A stray backslash between the braces is the user's text, not a slip in our code.
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    call = next((node for node in ast.walk(tree) if isinstance(node, ast.Call)), None)
    if call is not None:
        return f"{ast.unparse(call.func)}()"
    return _read_steps(tree)


def _read_steps(node: ast.expr) -> list[tuple[str, Any]] | None:
    if isinstance(node, ast.Name):
        return [("name", node.id)]
    if isinstance(node, ast.Attribute):
        before = _read_steps(node.value)
        return before and [*before, ("attribute", node.attr)]
    if isinstance(node, ast.Subscript):
        before = _read_steps(node.value)
        try:
            key = ast.literal_eval(node.slice)
        except (ValueError, TypeError):
            return None
        return before and [*before, ("item", key)] if isinstance(key, str | int) else None
    return None
