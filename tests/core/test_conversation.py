"""Conversations: what a run sends depends on the notebook alone, whatever was run, edited or deleted before."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from kimi_magics.core.conversation import (
    Conversation,
    Spot,
    Turn,
    drop_oldest,
    inherit_system,
    join_messages,
    move_turns,
)
from kimi_magics.core.messages import Message, ToolCall


def turn(cell: str | None, part: int = 0, *, text: str = "", system: str | None = None) -> Turn:
    name = text or f"{cell}{part}"
    return Turn(Spot(cell, part), (Message("user", f"{name}?"), Message("assistant", f"{name}!")), system)


def talk(*turns: Turn, order: list[str] | None = None) -> Conversation:
    made = Conversation("x")
    for one in turns:
        made = made.with_turn(one, order)
    return made


def read(turns: tuple[Turn, ...]) -> list[str]:
    """Return the questions without their marks."""
    return [one.question[:-1] for one in turns]


def states(conversation: Conversation) -> dict[str, str]:
    return {one.question[:-1]: one.state for one in conversation.shown()}


# ---------------------------------------------------------------- the property


@dataclass(frozen=True)
class Cell:
    """A cell as its source is: what it asks, in how many calls, and which of them fail."""

    id: str
    calls: int = 1
    text: str = ""
    system: str | None = None
    failing: frozenset[int] = frozenset()


@dataclass
class Kernel:
    """Runs cells as a kernel does, and notes what is sent; a failed call ends its cell."""

    conversation: Conversation = field(default_factory=lambda: Conversation("x"))
    sent: list[tuple[Message, ...]] = field(default_factory=list)

    def run(self, cell: Cell, order: list[str] | None) -> None:
        for part in range(cell.calls):
            spot = Spot(cell.id, part)
            before = self.conversation.before(spot, order)
            system = inherit_system(before, cell.system)
            user = Message("user", f"{cell.id} {cell.text} {part}")
            messages = join_messages(system, before, user)
            self.sent.append(messages)
            if part in cell.failing:
                self.conversation = self.conversation.with_attempt(spot, order)
                return
            # An answer that depends on all that was sent, as a model's does.
            answer = Message("assistant", f"{hash(messages)}")
            self.conversation = self.conversation.with_turn(Turn(spot, (user, answer), cell.system), order)
        if self.conversation.has_call(cell.id, part=cell.calls):
            self.conversation = self.conversation.with_attempt(Spot(cell.id, cell.calls), order)


CONTENT = st.fixed_dictionaries(
    {
        "calls": st.sampled_from((0, 1, 1, 1, 2, 3)),
        "text": st.sampled_from("abc"),
        "system": st.sampled_from((None, None, "s1", "s2")),
        "failing": st.frozensets(st.integers(0, 2), max_size=1),
    }
)
STEP = st.tuples(
    st.sampled_from(("run", "run", "run", "insert", "edit", "delete", "move", "trim")), st.integers(0, 9), CONTENT
)


def live(kernel: Kernel, steps: list, *, knows_order: bool) -> list[Cell]:
    """Do what a user does; return the notebook as it is in the end."""
    cells: list[Cell] = []
    made = 0
    for action, number, content in steps:
        at = number % (len(cells) + 1) if action == "insert" else number % max(1, len(cells))
        if action == "insert":
            cells.insert(at, Cell(f"cell-{made}", **content))
            made += 1
        elif action == "trim":
            sent = kernel.conversation.sent()
            kernel.conversation = kernel.conversation.trim(sent[: number % (len(sent) + 1)])
        elif not cells:
            continue
        elif action == "run":
            kernel.run(cells[at], [cell.id for cell in cells] if knows_order else None)
        elif action == "edit":
            cells[at] = Cell(cells[at].id, **content)
        elif action == "delete":
            del cells[at]
        else:
            cells.insert((at * 7 + 3) % len(cells), cells.pop(at))
    return cells


def run_all(kernel: Kernel, cells: list[Cell], *, knows_order: bool) -> list[tuple[Message, ...]]:
    """Run the notebook from top to bottom; return what is sent then."""
    kernel.sent.clear()
    for cell in cells:
        kernel.run(cell, [cell.id for cell in cells] if knows_order else None)
    return kernel.sent


@given(st.lists(STEP, max_size=40))
def test_from_top_to_bottom_a_notebook_sends_what_a_fresh_kernel_would(steps: list) -> None:
    used = Kernel()
    cells = live(used, steps, knows_order=True)
    assert run_all(used, cells, knows_order=True) == run_all(Kernel(), cells, knows_order=True)


@given(st.lists(STEP, max_size=40), st.lists(STEP, max_size=10))
def test_it_does_so_once_the_order_is_known_whatever_was_run_without_it(steps: list, more: list) -> None:
    used = Kernel()
    cells = live(used, [*steps, *more], knows_order=False)
    assert run_all(used, cells, knows_order=True) == run_all(Kernel(), cells, knows_order=True)


@given(st.lists(STEP, max_size=40))
def test_without_the_order_it_does_so_when_the_first_cell_stands_first_and_never_when_it_goes_on_from_others(
    steps: list,
) -> None:
    used = Kernel()
    cells = live(used, steps, knows_order=False)
    asking = [cell.id for cell in cells if cell.calls]
    places = [turn.spot.cell for turn in used.conversation.turns if turn.state != "forgotten"]
    if not asking or set(places) & {cell.id for cell in cells} - set(asking):
        # A cell that asks no more is seen when it is run, which may be at any point on the way down.
        return
    goes_on = bool(used.conversation.before(Spot(asking[0])))
    is_same = run_all(used, cells, knows_order=False) == run_all(Kernel(), cells, knows_order=False)
    if not places or places[0] == asking[0]:
        assert is_same
    elif goes_on:
        assert not is_same


@given(st.lists(STEP.filter(lambda step: step[0] not in ("delete", "move", "insert")), max_size=40))
def test_without_the_order_it_does_so_as_long_as_the_first_cell_was_run_first(steps: list) -> None:
    used = Kernel()
    make = [("insert", 9, {"calls": 1, "text": "a", "system": None, "failing": frozenset()})] * 4
    cells = live(used, [*make, ("run", 0, None), *steps], knows_order=False)
    if cells[0].calls:
        assert run_all(used, cells, knows_order=False) == run_all(Kernel(), cells, knows_order=False)


@given(st.lists(STEP, max_size=40))
def test_forgotten_turns_come_back_when_their_cells_are_run_again(steps: list) -> None:
    used = Kernel()
    cells = live(used, steps, knows_order=True)
    run_all(used, cells, knows_order=True)
    asking = {cell.id for cell in cells if cell.calls and not cell.failing & set(range(cell.calls))}
    kept = {turn.spot.cell for turn in used.conversation.sent([cell.id for cell in cells])}
    assert asking <= kept


# ---------------------------------------------------------------- by example


def test_a_turn_goes_on_from_those_before_it() -> None:
    chat = talk(turn("a"), turn("b"), turn("c"))
    assert read(chat.before(Spot("b"))) == ["a0"]
    assert read(chat.before(Spot("new"))) == read(chat.sent()) == ["a0", "b0", "c0"]


def test_run_again_a_cell_replaces_its_turn_and_later_ones_are_forgotten_until_theirs_run() -> None:
    chat = talk(turn("a"), turn("b"), turn("c"), turn("b", text="new"))
    assert states(chat) == {"a0": "kept", "new": "kept", "c0": "forgotten"}
    assert read(chat.before(Spot("c"))) == ["a0", "new"]
    assert states(chat.with_turn(turn("c"))) == {"a0": "kept", "new": "kept", "c0": "kept"}


def test_an_inserted_cell_takes_its_place_where_the_order_is_known() -> None:
    order = ["a", "new", "b"]
    chat = talk(turn("a"), turn("b"), order=["a", "b"])
    assert read(chat.before(Spot("new"), order)) == ["a0"]
    assert read(chat.before(Spot("new"))) == ["a0", "b0"]
    chat = chat.with_turn(turn("new"), order)
    assert states(chat) == {"a0": "kept", "new0": "kept", "b0": "forgotten"}
    assert read(chat.before(Spot("b"), order)) == ["a0", "new0"]


def test_turns_stand_as_their_cells_do_after_a_move() -> None:
    chat = talk(turn("a"), turn("b"), turn("c"), order=["a", "b", "c"])
    assert read(chat.before(Spot("b"), ["c", "b", "a"])) == ["c0"]
    assert read(chat.sent(["c", "b", "a"])) == ["c0", "b0", "a0"]


def test_the_turn_of_a_deleted_cell_is_not_sent_and_comes_back_with_it() -> None:
    chat = talk(turn("a"), turn("b"), order=["a", "b"])
    assert read(chat.before(Spot("c"), ["b", "c"])) == ["b0"]
    chat = chat.with_turn(turn("c"), ["b", "c"])
    assert read(chat.sent(["a", "b", "c"])) == ["a0", "b0", "c0"]


def test_turns_of_another_notebook_are_neither_sent_nor_forgotten() -> None:
    chat = talk(turn("a"), turn("b"), turn("other"))
    assert read(chat.before(Spot("c"), ["a", "b", "c"])) == ["a0", "b0"]
    chat = chat.with_turn(turn("a", text="new"), ["a", "b", "c"])
    assert states(chat) == {"new": "kept", "b0": "forgotten", "other0": "kept"}


def test_an_order_that_does_not_know_the_cell_says_nothing() -> None:
    chat = talk(turn("a"), turn("b"))
    assert read(chat.before(Spot("x"), ["b", "c"])) == ["a0", "b0"]
    assert chat.with_turn(turn("x"), ["b", "c"]) == chat.with_turn(turn("x"))


def test_a_loop_makes_a_turn_of_each_call_and_a_shorter_one_leaves_none_behind() -> None:
    chat = talk(turn("a"), turn("b", 0), turn("b", 1), turn("b", 2), turn("c"))
    assert read(chat.before(Spot("b", 2))) == ["a0", "b0", "b1"]
    assert states(chat.with_turn(turn("b", 0))) == {"a0": "kept", "b0": "kept", "c0": "forgotten"}


def test_without_a_cell_each_call_is_a_turn_of_its_own() -> None:
    chat = talk(turn(None, text="x"), turn("a"), turn(None, text="y"), turn(None, text="x"))
    assert read(chat.sent()) == ["x", "a0", "y", "x"]
    assert read(chat.before(Spot(None))) == ["x", "a0", "y", "x"]
    assert read(chat.before(Spot("b"), ["b", "a"])) == ["x"]
    assert chat.with_attempt(Spot(None)) == chat
    # What was said after the turn of a cell goes with it.
    assert states(chat.with_turn(turn("a", text="new"))) == {"x": "forgotten", "new": "kept", "y": "forgotten"}


def test_a_failed_call_leaves_no_turn_and_keeps_its_place() -> None:
    chat = talk(turn("a"), turn("b"), turn("c")).with_attempt(Spot("b"))
    assert read(chat.sent()) == ["a0"]
    assert [one.is_forgotten for one in chat.shown()] == [False, True, True]
    chat = chat.with_turn(turn("c"))
    assert read(chat.before(Spot("b"))) == ["a0"]
    first = Conversation("x").with_attempt(Spot("a"))
    assert (first.shown(), read(first.with_turn(turn("b")).before(Spot("a")))) == ((), [])


def test_trimmed_turns_keep_their_places_and_come_back_when_their_cells_run() -> None:
    chat = talk(turn("a"), turn("b"), turn(None, text="x"), turn("c"))
    chat = chat.trim(chat.sent()[:3])
    assert states(chat) == {"a0": "trimmed", "b0": "trimmed", "x": "trimmed", "c0": "kept"}
    assert read(chat.before(Spot("b"))) == []
    assert read(chat.with_turn(turn("b")).sent()) == ["b0"]


def test_a_copy_is_of_the_cell_that_makes_it() -> None:
    chat = talk(turn("a"), turn("b"))
    copy = chat.copy("y", turns=chat.sent(), cell="f", cache_key="k")
    assert copy == Conversation("y", move_turns((turn("a"), turn("b")), "f"), "k", "x")
    assert [one.spot for one in copy.turns] == [Spot("f", 0), Spot("f", 1)]
    assert chat.rename("z") == Conversation("z", chat.turns, "", "x")


def test_a_call_without_a_system_prompt_inherits_the_last_one_before_it() -> None:
    turns = (turn("a", system="one"), turn("b"), turn("c", system="two"), turn("d"))
    assert inherit_system(turns, None) == "two"
    assert inherit_system(turns[:2], None) == "one"
    assert inherit_system(turns[1:2], None) is None
    assert (inherit_system(turns, "own"), inherit_system(turns, "")) == ("own", "")


def test_messages_are_the_system_prompt_the_turns_and_the_question() -> None:
    user = Message("user", "now?")
    turns = (turn("a"), turn("b"))
    said = (*turns[0].messages, *turns[1].messages)
    assert join_messages("be short", turns, user) == (Message("system", "be short"), *said, user)
    assert join_messages(None, (), user) == join_messages("", (), user) == (user,)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 60))
def test_the_oldest_turns_go_until_the_rest_fits(sizes: list[int], most: int) -> None:
    turns = tuple(turn(str(index), text="x" * size) for index, size in enumerate(sizes))

    def measure(some: tuple[Turn, ...]) -> int:
        return sum(len(one.question) - 1 for one in some)

    kept, dropped = drop_oldest(turns, lambda some: measure(some) <= most)
    assert dropped + kept == turns
    assert measure(kept) <= most
    assert not dropped or measure((dropped[-1], *kept)) > most


def test_an_exchange_with_a_tool_is_never_split() -> None:
    asked = Message("assistant", "", calls=(ToolCall("1", "find", "{}"),))
    told = Message("tool", "it", call_id="1")
    with_tool = replace(turn("a"), messages=(Message("user", "?"), asked, told, Message("assistant", "!")))
    kept, dropped = drop_oldest((with_tool, turn("b")), lambda some: len(join_messages(None, some, asked)) < 6)
    assert (kept, dropped) == ((turn("b"),), (with_tool,))
