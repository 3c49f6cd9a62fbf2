"""The conversations of a kernel: where calls stand while cells run, and what becomes of forks, names and files."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kimi_magics.core.conversation import Conversation, Spot, Turn
from kimi_magics.core.messages import Message
from kimi_magics.errors import ChatError
from kimi_magics.notebook.cell_runs import CellOrders, CellRuns
from kimi_magics.notebook.chats import Chats


@dataclass
class Notebook:
    """A notebook and its kernel: each cell calls the conversations that it names."""

    order: list[str] | None = None
    asked: list[tuple[str, bool]] = field(default_factory=list)
    chats: Chats = field(init=False)

    def __post_init__(self) -> None:
        self.chats = Chats(find_order=self.find_order, clock=lambda: 1000.0)

    def find_order(self, cell: str, *, may_ask: bool) -> list[str] | None:
        self.asked.append((cell, may_ask))
        return self.order

    def run(self, cell: str | None, *names: str, fails_at: int | None = None) -> list[list[str]]:
        """Run a cell; return what each of its calls went on from."""
        seen = []
        self.chats.begin_run(cell)
        for number, name in enumerate(names):
            place = self.chats.place(name, cell=cell)
            seen.append([turn.question for turn in place.turns])
            if number == fails_at:
                place.record_failure()
                break
            place.record((Message("user", f"{cell}{number}"), Message("assistant", "!")), prompt_tokens=number)
        self.chats.end_run(cell)
        return seen


def questions(conversation: Conversation) -> dict[str, str]:
    return {turn.question: turn.state for turn in conversation.shown()}


def test_a_call_goes_on_from_the_calls_of_earlier_cells() -> None:
    notebook = Notebook(["a", "b"])
    assert notebook.run("a", "x") == [[]]
    assert notebook.run("b", "x", "y", "x") == [["a0"], [], ["a0", "b0"]]
    assert notebook.chats.get("x").turns[0] == Turn(
        Spot("a"), (Message("user", "a0"), Message("assistant", "!")), prompt_tokens=0, ended=1000.0
    )


def test_the_order_is_looked_up_once_in_a_run_and_only_where_it_matters() -> None:
    notebook = Notebook(["a", "b"])
    notebook.run("a", "x", "x", "x")
    notebook.run(None, "x")
    assert notebook.asked == []
    notebook.run("b", "x", "x", "x")
    notebook.chats.place("x", cell="b", is_draft=True)
    assert notebook.asked == [("b", True), ("b", False)]


def test_a_draft_stands_at_the_first_call_of_its_cell_and_leaves_no_trace() -> None:
    notebook = Notebook()
    notebook.run("a", "x")
    notebook.run("b", "x", "x")
    draft = notebook.chats.place("x", cell="b", is_draft=True)
    assert (draft.spot, [turn.question for turn in draft.turns]) == (Spot("b", 0), ["a0"])
    notebook.chats.place("new", cell="b", is_draft=True)
    assert notebook.chats.names() == ["x"]


def test_a_cell_that_fails_leaves_no_turn() -> None:
    notebook = Notebook()
    for cell in "abc":
        notebook.run(cell, "x")
    assert notebook.run("b", "x", fails_at=0) == [["a0"]]
    assert questions(notebook.chats.get("x")) == {"a0": "kept", "b0": "vacant", "c0": "forgotten"}


def test_a_cell_that_asks_no_more_or_less_often_leaves_no_turn_of_before() -> None:
    notebook = Notebook(["a", "b", "c"])
    notebook.run("a", "x")
    notebook.run("b", "x", "x")
    notebook.run("c", "x")
    notebook.run("b", "x")
    assert notebook.run("c", "x") == [["a0", "b0"]]
    notebook.run("a")
    assert notebook.run("b", "x") == [[]]
    # As when its line cannot be read: nothing was recorded at all.
    notebook.run("b")
    assert notebook.run("c", "x") == [[]]


def test_the_key_for_the_cache_stays_the_same_until_the_conversation_begins_anew() -> None:
    notebook = Notebook()
    chats = notebook.chats
    key = chats.place("x", cell="a").cache_key
    assert key
    chats.place("x", cell="a").record_failure()
    notebook.run("a", "x")
    assert chats.place("x", cell="b").cache_key == key
    assert chats.rename("x", "y").cache_key == chats.load(chats.get("y"), cell=None).cache_key == key
    assert chats.fork("y", "z", cell="b").cache_key != key
    assert chats.reset("y") is not None
    assert chats.place("y", cell="a").cache_key != key


def test_the_system_prompt_is_inherited() -> None:
    chats = Chats()
    assert chats.place("x", cell="a").system is None
    chats.place("x", cell="a").record((Message("user", "?"), Message("assistant", "!")), system="short")
    assert chats.place("x", cell="b").system == "short"


def test_an_unknown_name_is_an_error_with_the_one_that_may_be_meant() -> None:
    notebook = Notebook()
    notebook.run("a", "journey")
    with pytest.raises(ChatError) as caught:
        notebook.chats.get("jorney")
    assert (caught.value.message, caught.value.remedy) == (
        "there is no conversation 'jorney'",
        "did you mean journey?",
    )
    with pytest.raises(ChatError, match="no conversation 'x'"):
        notebook.chats.fork("x", "y", cell="a")


# ---------------------------------------------------------------- forks, names, files


def test_a_fork_goes_on_from_what_stands_above_it_and_leaves_the_other_alone() -> None:
    notebook = Notebook(["a", "fork", "b", "y"])
    chats = notebook.chats
    notebook.run("a", "x")
    notebook.run("b", "x")
    chats.begin_run("fork")
    chats.fork("x", "y", cell="fork")
    chats.end_run("fork")
    assert notebook.run("y", "y") == [["a0"]]
    assert questions(chats.get("x")) == {"a0": "kept", "b0": "kept"}
    # Run again it is made anew, and what was said in it waits for its cell.
    chats.begin_run("fork")
    chats.fork("x", "y", cell="fork")
    chats.end_run("fork")
    assert questions(chats.get("y")) == {"a0": "kept", "y0": "forgotten"}
    # A cell of the other conversation that runs again does not touch it.
    notebook.run("a", "x")
    assert questions(chats.get("y")) == {"a0": "kept", "y0": "forgotten"}


def test_a_notebook_with_forks_and_names_can_be_run_again_from_top_to_bottom() -> None:
    def run_all(notebook: Notebook) -> list[Any]:
        chats, seen = notebook.chats, []
        seen.append(notebook.run("a", "x"))
        for cell, change in (("f", lambda: chats.fork("x", "y", cell="f")), ("r", lambda: chats.rename("x", "z"))):
            chats.begin_run(cell)
            change()
            chats.end_run(cell)
        return [*seen, notebook.run("b", "y", "z"), notebook.run("c", "x", "y")]

    for order in (None, ["a", "f", "r", "b", "c"]):
        fresh, used = Notebook(order), Notebook(order)
        first = run_all(used)
        if order is None:
            # Where nobody tells that `c` stands below `a`, it has to make way by hand.
            used.chats.reset("x")
        assert run_all(used) == first == run_all(fresh)


def test_a_name_that_is_taken_is_refused() -> None:
    notebook = Notebook()
    notebook.run("a", "x", "y")
    for change in (notebook.chats.rename, lambda name, new: notebook.chats.fork(name, new, cell="a")):
        with pytest.raises(ChatError, match="there is a conversation 'y' already"):
            change("x", "y")
        with pytest.raises(ChatError, match="there is a conversation 'x' already"):
            change("x", "x")


def test_a_reset_forgets_for_good() -> None:
    notebook = Notebook()
    notebook.run("a", "x")
    assert notebook.chats.reset("x") is not None
    assert notebook.chats.reset("x") is None
    assert notebook.run("b", "x") == [[]]


def saved(*cells: str | None) -> Conversation:
    turns = (Turn(Spot(cell), (Message("user", f"old {cell}"), Message("assistant", "!"))) for cell in cells)
    return Conversation("x", tuple(turns), "key")


def test_loaded_in_its_own_notebook_turns_keep_their_cells() -> None:
    notebook = Notebook(["load", "a", "b", "c"])
    notebook.chats.load(saved("a", "b"), cell="load")
    assert notebook.run("b", "x") == [["old a"]]
    assert notebook.run("c", "x") == [["old a", "b0"]]


@pytest.mark.parametrize("cells", [("p", "q"), (None, None)])
def test_loaded_elsewhere_they_stand_where_they_were_loaded(cells: tuple[str | None, ...]) -> None:
    notebook = Notebook(["above", "load", "a"])
    notebook.chats.begin_run("load")
    notebook.chats.load(saved(*cells), cell="load")
    notebook.chats.end_run("load")
    old = [f"old {cell}" for cell in cells]
    assert notebook.run("a", "x") == [old]
    assert notebook.run("above", "x") == [[]]
    assert notebook.chats.get("x").cache_key == "key"


def test_loaded_without_an_order_they_come_first() -> None:
    notebook = Notebook()
    notebook.chats.load(saved("p", None), cell="load")
    assert notebook.run("a", "x", "x") == [["old p", "old None"], ["old p", "old None", "a0"]]
    assert notebook.run("a", "x") == [["old p", "old None"]]


def test_several_threads_may_look_and_call() -> None:
    chats, failures = Chats(), []

    def work(name: str) -> None:
        try:
            for number in range(200):
                chats.place(name, cell=None).record((Message("user", str(number)), Message("assistant", "!")))
                chats.names()
        except Exception as error:  # noqa: BLE001 — told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"chat-{index % 2}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(chats.get(f"chat-{index}").turns) for index in range(2)] == [400, 400]


# ---------------------------------------------------------------- runs of cells, orders


@pytest.fixture
def watched(shell: InteractiveShell) -> tuple[CellRuns, list[tuple[str, str | None]]]:
    runs, seen = CellRuns(shell), list[tuple[str, str | None]]()
    runs.watch(lambda cell: seen.append(("begin", cell)), lambda cell: seen.append(("end", cell)))
    runs.open()
    return runs, seen


def test_a_run_begins_and_ends_with_its_cell(watched: Any, shell: InteractiveShell) -> None:
    runs, seen = watched
    shell.run_cell("1 / 0")
    shell.run_cell("2")
    assert seen == [("begin", None), ("end", None)] * 2
    assert (runs.begun, runs.count, runs.is_busy) == (2, 2, False)
    runs.close()
    shell.run_cell("3")
    assert runs.begun == 2


def test_cells_that_a_cell_runs_belong_to_its_run(watched: Any, shell: InteractiveShell) -> None:
    runs, seen = watched

    def run(request: str, source: str) -> None:
        # As a kernel's shell tells it.
        parent = {"header": {"msg_id": request}, "metadata": {"cellId": f"cell of {request}"}}
        shell.get_parent = lambda: parent  # type: ignore[attr-defined]
        shell.run_cell(source)

    run("1", "for _ in range(2): get_ipython().run_cell('busy = True')")
    run("2", "pass")
    assert seen == [(kind, f"cell of {number}") for number in (1, 2) for kind in ("begin", "end")]
    assert (runs.begun, runs.count, runs.is_busy) == (2, 4, False)


def test_orders_are_found_by_a_cell_and_the_newest_of_a_notebook_counts() -> None:
    orders = CellOrders(most=2)
    orders.take("one", 1, ["a", "b"])
    orders.take("two", 1, ["c"])
    assert (orders.find("b"), orders.find("c"), orders.find("x")) == (("a", "b"), ("c",), None)
    orders.take("one", 3, ["b", "x"])
    orders.take("one", 2, ["b"])
    assert (orders.find("a"), orders.find("x")) == (None, ("b", "x"))
    # The page was loaded again.
    orders.take("three", 1, ["b", "a"])
    assert (orders.find("x"), orders.find("b"), orders.find("c")) == (None, ("b", "a"), ("c",))
    orders.take("four", 1, ["d"])
    assert (orders.find("c"), orders.find("b"), orders.find("d")) == (None, ("b", "a"), ("d",))


def test_a_turn_of_a_place_is_entered_also_after_a_reset() -> None:
    chats = Chats()
    place = chats.place("x", cell="a")
    chats.reset("x")
    turn = place.record((Message("user", "?"), Message("assistant", "!")))
    assert chats.get("x") == replace(Conversation("x", (turn,)), cache_key=place.cache_key)
