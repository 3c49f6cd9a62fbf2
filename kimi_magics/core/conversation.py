"""Named conversations: turns that belong to the cells that made them, as frozen values.

The promise: whatever was run, run again, edited, inserted, moved, deleted or failed before, running the cells of the
notebook from top to bottom sends exactly the messages that a fresh kernel would send. With the order of the cells it
holds always, but for calls from outside of cells, which no cell replaces. Without the order, as where no page can tell
it, it holds when the first cell was the first to be run, or nothing holds a place any more. It cannot when another cell
holds the first place: one that was deleted, or that was run before the first cell was inserted, moved there or run.
Nobody can see that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kimi_magics.core.messages import Message

#: `kept` is sent; `forgotten` made way for an earlier cell and comes back when its cell is run again; `trimmed` was too
#: long; `vacant` keeps the place of a cell whose last run left no turn.
TurnState = Literal["kept", "forgotten", "trimmed", "vacant"]
Order = Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a turn belongs: the cell's id, and the how-manieth call of the conversation in one run of that cell.

    Without a cell, as in a terminal, each call is a turn of its own, and `part` says nothing.
    """

    cell: str | None
    part: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the user and all that followed, calls of tools and their answers included, up to the answer.

    Token figures are those of the whole turn, the history before it included; None when unknown.
    """

    spot: Spot
    messages: tuple[Message, ...]
    #: The system prompt that went with it; later calls without one inherit it.
    system: str | None = None
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    #: Whether the figures are ours and not the ones that the host billed.
    estimated: bool = False
    state: TurnState = "kept"
    #: When it ended, in seconds since 1970.
    ended: float | None = None

    @property
    def is_sent(self) -> bool:
        """Whether later turns go on from it."""
        return self.state == "kept"

    @property
    def is_forgotten(self) -> bool:
        """Whether it waits for its cell to be run again."""
        return self.state in ("forgotten", "vacant")

    @property
    def question(self) -> str:
        """What the user asked; empty for a cell that left no turn."""
        # Files and cells go before it.
        return next((message.text for message in self.messages if message.role == "user"), "")

    @property
    def answer(self) -> str:
        """What came in the end; empty for a cell that left no turn."""
        return self.messages[-1].text if self.messages else ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one name, as they follow each other; `order` is everywhere the ids of the cells, top to bottom.

    With an order, turns stand as their cells do, and those of cells that it does not hold are not sent. Without one the
    order of execution counts: a cell that is run again keeps its place, a new or forgotten one goes to the end.
    """

    name: str
    turns: tuple[Turn, ...] = ()
    #: Names the conversation to the host's cache; the same from its first turn on.
    cache_key: str = ""
    #: The conversation that it was forked from or renamed from.
    origin: str = ""

    def before(self, spot: Spot, order: Order = None) -> tuple[Turn, ...]:
        """Return the turns that a call at this spot goes on from."""
        order = _order_for(spot, order)
        earlier, _later = self._split(spot, order)
        return _sent(earlier, order)

    def with_turn(self, turn: Turn, order: Order = None) -> Conversation:
        """Return the conversation after a call: its turn in place of the one that its spot had, later ones forgotten.

        What the same cell asked after it in an earlier run is dropped, since this run asks anew.
        """
        order = _order_for(turn.spot, order)
        earlier, later = self._split(turn.spot, order)
        return replace(self, turns=(*earlier, turn, *_forget(later, turn.spot, order)))

    def with_attempt(self, spot: Spot, order: Order = None) -> Conversation:
        """Return the conversation after a call that failed: no turn at its spot is sent, and later ones are forgotten.

        The place stays, and so does what was said there before, as something forgotten. Without a cell nothing changes.
        """
        if spot.cell is None:
            return self
        order = _order_for(spot, order)
        earlier, later = self._split(spot, order)
        old = next((turn for turn in self.turns if turn.spot == spot), Turn(spot, ()))
        return replace(self, turns=(*earlier, replace(old, state="vacant"), *_forget(later, spot, order)))

    def sent(self, order: Order = None) -> tuple[Turn, ...]:
        """Return the turns that a new cell at the end would go on from."""
        return _sent(_sort(self.turns, order), order)

    def shown(self, order: Order = None) -> tuple[Turn, ...]:
        """Return the turns that hold something, as they stand."""
        return tuple(turn for turn in _sort(self.turns, order) if turn.messages)

    def has_call(self, cell: str, *, part: int = 0) -> bool:
        """Tell whether the cell has a turn that is not forgotten, at `part` or after it."""
        return any(turn.spot.cell == cell and turn.spot.part >= part and not turn.is_forgotten for turn in self.turns)

    def trim(self, dropped: Sequence[Turn]) -> Conversation:
        """Return the conversation with these of its turns left out from now on; they keep their places."""
        ids = {id(turn) for turn in dropped}
        turns = (replace(turn, state="trimmed") if id(turn) in ids else turn for turn in self.turns)
        return replace(self, turns=tuple(turns))

    def copy(self, name: str, *, turns: Iterable[Turn], cell: str | None, cache_key: str) -> Conversation:
        """Return a new conversation that begins with these turns, as turns of the cell that copies them."""
        return Conversation(name, move_turns(turns, cell), cache_key, self.name)

    def with_forgotten(self, turns: Iterable[Turn]) -> Conversation:
        """Return the conversation with turns that come back when their cells are run again."""
        forgotten = (replace(turn, state="forgotten") for turn in turns if turn.messages)
        return replace(self, turns=(*self.turns, *forgotten))

    def rename(self, name: str) -> Conversation:
        """Return the same conversation under another name."""
        return replace(self, name=name, origin=self.name)

    def _split(self, spot: Spot, order: Order) -> tuple[list[Turn], list[Turn]]:
        """Return the turns before a spot and those after it, without the one that stands there now."""
        if order is None:
            held = [turn for turn in self.turns if turn.state != "forgotten"]
            starts = (index for index, turn in enumerate(held) if _is_from(turn.spot, spot))
            index = next(starts, len(held))
            later = [*held[index:], *(turn for turn in self.turns if turn.state == "forgotten")]
            return held[:index], [turn for turn in later if spot.cell is None or turn.spot != spot]
        places = {cell: index for index, cell in enumerate(order)}
        mark = places[spot.cell or ""], spot.part
        turns = _sort(self.turns, order)
        found = (index for index, turn in enumerate(turns) if (_mark(turn, places) or _FIRST) >= mark)
        index = next(found, len(turns))
        return turns[:index], [turn for turn in turns[index:] if turn.spot != spot]


def inherit_system(turns: Sequence[Turn], own: str | None) -> str | None:
    """Return the system prompt of a call: its own when it has one, else the last one before it."""
    if own is not None:
        return own
    return next((turn.system for turn in reversed(turns) if turn.system is not None), None)


def join_messages(system: str | None, turns: Iterable[Turn], user: Message) -> tuple[Message, ...]:
    """Return the messages of a request: the system prompt, what was said, and what is asked now."""
    head = (Message("system", system),) if system else ()
    return (*head, *(message for turn in turns for message in turn.messages), user)


def drop_oldest(
    turns: Sequence[Turn], fits: Callable[[tuple[Turn, ...]], bool]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Return the most turns that fit, counted from the end, and the older ones that do not.

    A turn goes as a whole, and with it each call of a tool and its answer. Fewer turns must fit where more do. When
    nothing fits, all are dropped.
    """
    low, high = 0, len(turns)
    while low < high:
        middle = (low + high) // 2
        if fits(tuple(turns[middle:])):
            high = middle
        else:
            low = middle + 1
    return tuple(turns[low:]), tuple(turns[:low])


def move_turns(turns: Iterable[Turn], cell: str | None) -> tuple[Turn, ...]:
    """Return the turns as those of one cell, one part after the other."""
    return tuple(replace(turn, spot=Spot(cell, part)) for part, turn in enumerate(turns))


_FIRST = (-1, -1)


def _order_for(spot: Spot, order: Order) -> Order:
    """Return an order that knows the cell, else None."""
    return order if order is not None and spot.cell in order else None


def _is_from(spot: Spot, start: Spot) -> bool:
    """Tell whether a spot is `start`, or a later one of the same cell."""
    return spot.cell is not None and spot.cell == start.cell and spot.part >= start.part


def _mark(turn: Turn, places: Mapping[str, int]) -> tuple[int, int] | None:
    index = None if turn.spot.cell is None else places.get(turn.spot.cell)
    return None if index is None else (index, turn.spot.part)


def _sort(turns: Iterable[Turn], order: Order) -> list[Turn]:
    """Return the turns in the order of their cells; what has no cell there stays behind what it stood behind."""
    if order is None:
        return list(turns)
    places, mark = {cell: index for index, cell in enumerate(order)}, _FIRST
    marked = []
    for turn in turns:
        mark = _mark(turn, places) or mark
        marked.append((mark, turn))
    return [turn for _, turn in sorted(marked, key=lambda pair: pair[0])]


def _sent(turns: Iterable[Turn], order: Order) -> tuple[Turn, ...]:
    cells = None if order is None else {None, *order}
    return tuple(turn for turn in turns if turn.is_sent and (cells is None or turn.spot.cell in cells))


def _forget(turns: Iterable[Turn], spot: Spot, order: Order) -> Iterator[Turn]:
    """Yield what is left of the turns after `spot`; those of cells that `order` does not hold are left as they are."""
    cells = None if order is None else {None, *order}
    for turn in turns:
        if cells is not None and turn.spot.cell not in cells:
            yield turn
        elif turn.messages and not _is_from(turn.spot, spot):
            yield replace(turn, state="forgotten")
