"""Tokens of prompts: counted by the API, each content once; until then, and where it cannot be asked, counted here.

The promise: the API is never asked twice for the same content and model, an image or video is sent to it for counting
at most once, and each figure that the host gives makes the local count better.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from kimi_magics.core.estimate import count_extras, count_parts, learn_extras, learn_prompt
from kimi_magics.core.media import Image, Video
from kimi_magics.core.messages import Message
from kimi_magics.core.models import Model
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.tokens import Weights, find_factor, rates
from kimi_magics.core.wire import content_hash
from kimi_magics.notebook.turns import Turns
from kimi_magics.store.weights import WeightsStore

#: These count alike.
_HOSTS = ("api.moonshot.ai", "api.moonshot.cn")
_REMEMBERED = 4096
#: A draft is read for several figures in a row; the texts are held as long.
_READINGS = 8
_SAVE_SECONDS = 5.0
#: Stands where a message has media only, since a message must not be empty: one token.
_STAND_IN = "."


class _Reading:
    """What is found here in a prompt: tokens by what they are for, and per character of the text being written."""

    def __init__(self, prompt: Prompt, weights: Weights) -> None:
        self.extras: Mapping[str, int] = count_extras(prompt, weights)
        self.parts: Mapping[str, int] = count_parts(prompt, weights) | self.extras
        self._text = next((message.text for message in reversed(prompt.messages) if message.role == "user"), "")
        self._weights = weights

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """What the gauge alone asks for; a call does not wait for it."""
        return rates(self._text, self._weights)


class Host(Protocol):
    """What counts: the client."""

    def count(self, prompt: Prompt) -> int:
        """Return the prompt's tokens. Raises CallError."""


class Counting:
    """What one kernel knows of the tokens of prompts; safe to use from several threads."""

    def __init__(self, weights: WeightsStore | None = None, *, host: Callable[[], str]) -> None:
        """Keep what the host of the moment counts apart from what others do: `host` names it."""
        self._weights = weights or WeightsStore()
        self._host = host
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._media: dict[tuple[str, str, str], int] = {}
        self._readings: OrderedDict[tuple[Any, ...], _Reading] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = Turns()
        self._saved_at = 0.0

    def count_here(self, prompt: Prompt) -> int:
        """Return about how many tokens `prompt` has, without asking; what is known of its images is used."""
        return sum(self.count_parts_here(prompt).values())

    def count_parts_here(self, prompt: Prompt) -> dict[str, int]:
        """Return the same by what it is for: draft, system, history, images, videos, template, tools, schema."""
        parts = dict(self._read(prompt).parts)
        for kind, media in (("images", _images(prompt)), ("videos", _videos(prompt))):
            sizes = [self._media.get(self._key(medium, prompt.model)) for medium in media]
            if sizes and None not in sizes:
                parts[kind] = sum(size or 0 for size in sizes)
        return parts

    def count_extras_here(self, prompt: Prompt) -> int:
        """Return about how many tokens the tools and the schema have, which the API's count leaves out."""
        return sum(self._read(prompt).extras.values())

    def recall_medium(self, medium: Image | Video, model: Model) -> int | None:
        """Return the tokens of one image or video as the host counted them, or None."""
        return self._media.get(self._key(medium, model))

    def rates(self, prompt: Prompt) -> Mapping[str, float]:
        """Return the tokens per character, by class, of the text that is being written."""
        return self._read(prompt).rates

    def weights(self, model: Model) -> Weights:
        """Return what was learnt of the tokens of `model`."""
        return self._weights.get(self._name(model))

    def learnt(self, model: Model) -> tuple[int, float]:
        """Return from how many counts was learnt of `model`, and by which factor ordinary text now counts more."""
        weights = self.weights(model)
        return weights.learnt, find_factor(weights)

    def recall(self, prompt: Prompt, *, skip: Collection[Image | Video] = ()) -> int | None:
        """Return what the host counted for the same content and model before, or None; `skip` is not looked for."""
        with self._lock:
            total = self._recall((self._host(), content_hash(without_media(prompt))))
            sizes = [self._media.get(self._key(medium, prompt.model)) for medium in _media(prompt, skip)]
        if total is None or None in sizes:
            return None
        return total + sum(size or 0 for size in sizes) - _stand_ins(prompt)

    def ask(self, prompt: Prompt, host: Host, *, skip: Collection[Image | Video] = ()) -> int:
        """Return the prompt's tokens, counted by the host now or before; `skip` counts nothing. Raises CallError."""
        text_only = without_media(prompt)
        total = self._ask(text_only, host) - _stand_ins(prompt)
        return total + sum(self._ask_medium(medium, prompt.model, host) for medium in _media(prompt, skip))

    def learn(self, prompt: Prompt, tokens: int) -> None:
        """Take what the host counted or billed for `prompt` as a lesson for the local count."""
        self._learn(prompt, lambda weights: learn_prompt(weights, prompt, tokens))

    def learn_extras(self, prompt: Prompt, tokens: int) -> None:
        """Take what was billed for the tools or the schema of `prompt` as a lesson for the next."""
        self._learn(prompt, lambda weights: learn_extras(weights, prompt, tokens))
        with self._lock:
            self._readings.clear()

    def _learn(self, prompt: Prompt, change: Callable[[Weights], Weights]) -> None:
        name = self._name(prompt.model)
        before = self._weights.get(name)
        if (after := change(before)) is before:
            return
        self._weights.put(name, after)
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Keep what was learnt for other kernels and days."""
        self._saved_at = time.monotonic()
        self._weights.save()

    def _read(self, prompt: Prompt) -> _Reading:
        """Read a prompt through, once for the several figures that are asked of it in a row."""
        media = [self._key(medium, prompt.model) for medium in _media(prompt)]
        key = self._host(), content_hash(prompt), prompt.thinking, tuple(media), prompt.tools, prompt.format
        with self._lock:
            reading = self._readings.pop(key, None)
        if reading is None:
            reading = _Reading(prompt, self.weights(prompt.model))
        with self._lock:
            self._readings[key] = reading
            while len(self._readings) > _READINGS:
                self._readings.popitem(last=False)
        return reading

    def _ask(self, prompt: Prompt, host: Host) -> int:
        key = self._host(), content_hash(prompt)
        with self._turns.take(key):
            with self._lock:
                total = self._recall(key)
            if total is None:
                total = host.count(prompt)
                with self._lock:
                    self._known[key] = total
                    if len(self._known) > _REMEMBERED:
                        self._known.popitem(last=False)
                self.learn(prompt, total)
        return total

    def _recall(self, key: tuple[str, str]) -> int | None:
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def _ask_medium(self, medium: Image | Video, model: Model, host: Host) -> int:
        """Return the part of an image or video: what it adds to a message of one token."""
        key = self._key(medium, model)
        with self._turns.take(key):
            if key not in self._media:
                alone = Prompt(model, (Message("user", _STAND_IN),))
                images = (medium,) if isinstance(medium, Image) else ()
                videos = (medium,) if isinstance(medium, Video) else ()
                message = Message("user", _STAND_IN, images, videos)
                both = host.count(replace(alone, messages=(message,)))
                self._media[key] = max(0, both - self._ask(alone, host))
            return self._media[key]

    def _key(self, medium: Image | Video, model: Model) -> tuple[str, str, str]:
        return self._host(), medium.digest, model.name

    def _name(self, model: Model) -> str:
        """Return under which name weights are kept: another host, as a sandbox, may count in another way."""
        host = self._host()
        return model.name if host in _HOSTS else f"{model.name} at {host}"


def without_media(prompt: Prompt) -> Prompt:
    """Return the prompt's text alone."""
    if not any(message.media for message in prompt.messages):
        return prompt
    messages = (replace(message, text=_text_of(message), images=(), videos=()) for message in prompt.messages)
    return replace(prompt, messages=tuple(messages))


def _text_of(message: Message) -> str:
    # Blank text beside an image is not sent (`wire`), and a message without anything would be refused.
    return message.text if message.text.strip() else _STAND_IN


def _stand_ins(prompt: Prompt) -> int:
    return sum(1 for message in prompt.messages if message.media and not message.text.strip())


def _images(prompt: Prompt) -> list[Image]:
    return [image for message in prompt.messages for image in message.images]


def _videos(prompt: Prompt) -> list[Video]:
    return [video for message in prompt.messages for video in message.videos]


def _media(prompt: Prompt, skip: Collection[Image | Video] = ()) -> list[Image | Video]:
    skipped = {medium.digest for medium in skip}
    media: list[Image | Video] = [*_images(prompt), *_videos(prompt)]
    return [medium for medium in media if medium.digest not in skipped]
