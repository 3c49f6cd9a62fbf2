"""What a run needs from the world outside, as protocols: the rooms around the core supply them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from kimi_magics.core.events import Event
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.errors import KimiError


class Transport(Protocol):
    """Sends a request; closing the generator ends the call at once."""

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Yield the events of the call. Raises CallError."""
        ...


class Follow(Protocol):
    """Decides what follows an answer, as when the model calls tools or its answer cannot be used."""

    def __call__(self, prompt: Prompt, reply: Reply) -> Generator[Event, None, Prompt | None]:
        """Yield what happens, then return the next request of the same reply, or None when it is done.

        Raises CallError for an answer that cannot be used.
        """
        ...


class View(Protocol):
    """Shows a reply while it grows."""

    def begin(self, reply: Reply) -> None:
        """Show that the request is about to be sent; `end` is called in any case."""
        ...

    def show(self, reply: Reply, event: Event) -> None:
        """Take note of an event that was added to the reply."""
        ...

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Show the final state; `error` is what ended the call, if anything did."""
        ...


class Clock(Protocol):
    """Tells the time in seconds, from any start, never backwards."""

    def __call__(self) -> float:
        """Return the time."""
        ...
