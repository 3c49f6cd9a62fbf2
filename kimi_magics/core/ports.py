"""What a run needs from the world outside, as protocols: the rooms around the core supply them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

from kimi_magics.core.events import Event
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.rates import Hold
from kimi_magics.core.reply import Reply
from kimi_magics.errors import CallError, KimiError


class Transport(Protocol):
    """Sends a request; closing the generator ends the call at once."""

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Yield the events of the call. Raises CallError."""
        ...


class Turn(Protocol):
    """The place of one request among all of an account."""

    def wait(self) -> Iterator[Hold]:
        """Yield why the request must wait, again and again, until it is its turn; the caller sleeps in between."""
        ...

    def answered(self) -> None:
        """Note that the host begins to answer: it has counted the request by now."""
        ...

    def end(self, error: CallError | None, *, again_after: float | None) -> None:
        """Note that a try ended, and after how many seconds it is repeated, if it is."""
        ...

    def leave(self) -> None:
        """Give the place to others; also after an end, and more than once."""
        ...


class Gate(Protocol):
    """Lets the requests of an account go one after the other, where the host limits them."""

    def enter(self, prompt: Prompt) -> Turn:
        """Return the place of a request, behind those that are there."""
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
