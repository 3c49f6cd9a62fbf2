"""From what was typed to the request that would be sent.

The gauge and the run use this one path, so that what is counted is what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kimi_magics.core.ask import Ask, Effort, ThinkingMode
from kimi_magics.core.formats import JSON_WISH, Format, says_json
from kimi_magics.core.interpolate import Write, interpolate
from kimi_magics.core.media import NO_MEDIA, Media
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.tools import Tool, check_tools
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
    tools: tuple[Tool, ...] = ()
    format: Format | None = None
    #: The same for all requests of one conversation, so that the host finds what it has in its cache.
    cache_key: str = ""
    #: Tells one user of a key from another, as a hash.
    safety_identifier: str = ""

    def __post_init__(self) -> None:
        if not self.messages:
            raise PromptError("the prompt is empty", remedy="write something to ask")
        check_tools(self.tools)
        _check_web(self)
        _check_partial(self)
        _check_stops(self.stop)
        _check_thinking(self)
        _check_sight(self)

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the answer can have: as asked, else the model's default; None when unknown."""
        return self.max_tokens if self.max_tokens is not None else self.model.default_output_tokens

    @property
    def prefix(self) -> str:
        """The beginning of the answer, where the model goes on with one; the reply holds only what follows it."""
        return self.messages[-1].text if self.messages[-1].is_partial else ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the settings put in where a flag is not given."""

    model: str
    system: str | None = None
    max_tokens: int | None = None
    thinking: ThinkingMode | None = None
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class Additions:
    """What a request has beside what its own cell says: the conversation before it, tools, the form of the answer."""

    #: The messages of the conversation, without its system prompt.
    history: tuple[Message, ...] = ()
    #: The conversation's system prompt.
    system: str | None = None
    tools: tuple[Tool, ...] = ()
    format: Format | None = None
    cache_key: str = ""
    safety_identifier: str = ""
    #: Files and cells that go with the text, right before it.
    context: tuple[Message, ...] = ()


NO_ADDITIONS = Additions()


def build_prompt(
    ask: Ask,
    *,
    defaults: Defaults,
    find_model: Callable[[str], Model],
    variables: Mapping[str, Any],
    media: Media = NO_MEDIA,
    additions: Additions = NO_ADDITIONS,
    write: Write | None = None,
) -> Prompt:
    """Resolve the variables, put the settings in where flags are absent, and check the result.

    `write` turns values such as tables into text. Raises VariableError and PromptError; nothing has been sent then.
    """
    model = find_model(ask.model or defaults.model)
    return Prompt(
        model=model,
        messages=_build_messages(ask, defaults, variables, media, additions, write),
        max_tokens=ask.max_tokens if ask.max_tokens is not None else defaults.max_tokens,
        stop=ask.stop,
        # A default that does not fit the model chosen for this call is left out; a flag that does not fit is refused.
        thinking=ask.thinking or _if_fits(model, "thinking", defaults.thinking),
        effort=ask.effort or _if_fits(model, "effort", defaults.effort),
        is_streamed=not ask.no_stream,
        uploads=ask.upload,
        tools=additions.tools,
        format=additions.format,
        cache_key=additions.cache_key,
        safety_identifier=additions.safety_identifier,
    )


def fill_system(
    ask: Ask,
    *,
    defaults: Defaults,
    variables: Mapping[str, Any],
    inherited: str | None = None,
    write: Write | None = None,
) -> str | None:
    """Return the system prompt of a request: its own, else the conversation's, else the setting; None for none."""
    if ask.system is None and inherited is not None:
        return inherited  # filled in when it was written
    system = ask.system if ask.system is not None else defaults.system
    return _fill(ask, system, variables, write) if system else None


def _build_messages(
    ask: Ask,
    defaults: Defaults,
    variables: Mapping[str, Any],
    media: Media,
    additions: Additions,
    write: Write | None,
) -> tuple[Message, ...]:
    system = fill_system(ask, defaults=defaults, variables=variables, inherited=additions.system, write=write)
    user = Message("user", _fill(ask, ask.text, variables, write), media.images, media.videos)
    texts = [system or "", user.text, *(message.text for message in (*additions.history, *additions.context))]
    if additions.format is not None and not additions.format.is_schema and not any(map(says_json, texts)):
        # The API refuses json_object unless the messages ask for JSON (main_concepts_page.txt, "JSON Mode").
        system = f"{system}\n\n{JSON_WISH}" if system else JSON_WISH
    messages = [Message("system", system)] if system else []
    messages += [*additions.history, *additions.context, user]
    if ask.prefill is not None:
        begun = _fill(ask, ask.prefill, variables, write)
        messages.append(Message("assistant", begun, name=ask.name or "", is_partial=True))
    elif ask.name is not None:
        raise PromptError("--name is for an answer that --prefill begins", remedy="add --prefill, or leave --name out")
    return tuple(messages)


def _fill(ask: Ask, text: str, variables: Mapping[str, Any], write: Write | None) -> str:
    return text if ask.raw else interpolate(text, variables, write=write)


def replays_thinking_since(prompt: Prompt) -> int:
    """Return from which message on the model needs its earlier reasoning again.

    k3 and k2.7 on every turn; k2.6 within a tool loop, where it is refused without, and across turns only where it was
    asked to keep it. A model that nobody knows is taken to be like the latter.
    """
    if prompt.model.thinking in ("always", "effort") or prompt.thinking == "keep":
        return 0
    return max((at for at, message in enumerate(prompt.messages) if message.role == "user"), default=-1)


def counted_texts(prompt: Prompt) -> list[str]:
    """Return the texts of each message that the host counts: content, reasoning where it is replayed, names, calls."""
    since = replays_thinking_since(prompt)
    return [
        "\n".join(
            filter(
                None,
                (
                    message.thinking if at >= since else "",
                    message.text,
                    message.name,
                    *(f"{call.name}\n{call.arguments}" for call in message.calls),
                ),
            )
        )
        for at, message in enumerate(prompt.messages)
    ]


def adapt(prompt: Prompt, model: Model) -> Prompt:
    """Return the same request for another model, without the fields that it lacks. Raises PromptError."""
    return replace(
        prompt,
        model=model,
        thinking=_if_fits(model, "thinking", prompt.thinking),
        effort=_if_fits(model, "effort", prompt.effort),
    )


def _if_fits(model: Model, field: str, value: Any) -> Any:
    # A model that nobody here knows may stand on a host that has no such field.
    return value if model.thinking == ("effort" if field == "effort" else "switch") else None


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


def _check_web(prompt: Prompt) -> None:
    """Refuse the host's web search for a model that is known not to have it."""
    if prompt.model.has_web_search is False and any(tool.kind == "builtin_function" for tool in prompt.tools):
        raise PromptError(f"{prompt.model.name} cannot search the web", remedy="use --web with -m kimi-k2.6")


def _check_partial(prompt: Prompt) -> None:
    """Refuse an answer begun by us where the whole answer has to be JSON (kimi_api.md section 3)."""
    if prompt.format is not None and prompt.prefix:
        flag = "--schema" if prompt.format.is_schema else "--json"
        raise PromptError(
            f"--prefill does not go with {flag}: the host writes the whole of a JSON answer itself",
            remedy=f"leave one of them out; with --prefill '{{' and no {flag} the model goes on with an object",
        )


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
