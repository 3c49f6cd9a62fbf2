"""What a page is told of a growing reply: at once, numbered, not too often, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kimi_magics.core.estimate import count_text
from kimi_magics.notebook.feed import Message, ReplyFeed
from kimi_magics.notebook.tool_rows import MOST_ROWS, ToolRow

#: A generous bound for what takes a tenth of a second on a machine that has nothing else to do.
SECONDS = 20
PARTS = ("thinking", "text")


class Sent:
    """Stands at the border of the page: takes the messages, and applies them as a page does."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.times: list[float] = []
        self.parts: dict[str, list[list[Any]]] = {part: [] for part in PARTS}
        self.tools: dict[int, str] = {}
        self.hook: Callable[[Message], None] = lambda _message: None
        self._arrived = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._arrived:
            self.times.append(time.monotonic())
            self._apply(message)
            self.hook(message)
            self.messages.append(message)
            self._arrived.notify_all()

    def wait(self, is_there: Callable[[], object]) -> None:
        """Wait until something is there; asked again at each message."""
        with self._arrived:
            assert self._arrived.wait_for(is_there, SECONDS), self.messages

    def wait_for(self, count: int) -> list[Message]:
        """Wait for so many messages, and return all."""
        self.wait(lambda: len(self.messages) >= count)
        return self.messages

    def shown(self, part: str) -> str:
        return "".join(markdown for markdown, _ in self.parts[part])

    def _apply(self, message: Message) -> None:
        if "all" in message:
            self.parts = {part: [list(block) for block in message["all"][part]] for part in PARTS}
            self.tools = {place: row["text"] for place, row in message["all"]["tools"]}
        self.tools |= {place: row["text"] for place, row in message.get("tools", ())}
        for part, index, keep, add, *joined in message.get("patches", ()):
            blocks = self.parts[part]
            if index == len(blocks):
                blocks.append(["", False])
            # all is of the first plane here, where Python counts as a page does
            blocks[index] = [blocks[index][0][:keep] + add, bool(joined)]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def feed(sent: Sent) -> Iterator[ReplyFeed]:
    """A feed that is open; its figures are the tokens."""
    feed = ReplyFeed(sent, describe="{} tokens".format, cell="c1")
    feed.open()
    yield feed
    feed.close()


def without_seconds(whole: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in whole.items() if name != "seconds"}


def test_the_first_piece_goes_at_once(feed: ReplyFeed, sent: Sent) -> None:
    feed.add("text", "Hi")
    assert sent.wait_for(1) == [{"number": 1, "patches": [["text", 0, 0, "Hi"]], "progress": "1 tokens"}]


def test_nothing_is_sent_while_nothing_comes(feed: ReplyFeed, sent: Sent) -> None:
    time.sleep(0.3)
    assert sent.messages == []
    feed.add("text", "Hi")
    sent.wait_for(1)
    time.sleep(0.3)
    assert len(sent.messages) == 1


def test_text_is_not_held_until_the_model_goes_on(feed: ReplyFeed, sent: Sent) -> None:
    feed.add("text", "Hi")
    feed.add("text", " there")
    sent.wait(lambda: sent.shown("text") == "Hi there")


def test_the_messages_are_numbered_and_the_whole_is_repeated_at_2_4_8_and_16(feed: ReplyFeed, sent: Sent) -> None:
    for number in range(1, 19):
        feed.add("text", f"{number} ")
        sent.wait_for(number)
    assert [message["number"] for message in sent.messages] == list(range(1, 19))
    assert [message["number"] for message in sent.messages if "all" in message] == [2, 4, 8, 16]
    assert sent.messages[0].keys() == {"number", "patches", "progress"}
    assert sent.messages[1].keys() == {"number", "all"}


def test_the_whole_tells_parts_cell_figures_and_note(feed: ReplyFeed, sent: Sent) -> None:
    feed.add("thinking", "Hm")
    sent.wait_for(1)
    feed.add("text", "Hi")
    whole = sent.wait_for(2)[1]["all"]
    assert without_seconds(whole) == {
        "thinking": [["Hm", False]],
        "text": [["Hi", False]],
        "number": 2,
        "cell": "c1",
        "progress": "2 tokens",
        "note": "",
        "tools": [],
    }
    assert 0 <= whole["seconds"] < SECONDS


def test_code_that_goes_on_in_the_next_block_is_marked(feed: ReplyFeed, sent: Sent) -> None:
    feed.add("text", "```python\n" + "x = 1\n" * 1_500)
    patches = sent.wait_for(1)[0]["patches"]
    assert [patch[:3] + patch[4:] for patch in patches] == [
        ["text", 0, 0],
        ["text", 1, 0, True],
        ["text", 2, 0, True],
    ]


def test_a_page_that_missed_a_message_gets_the_whole(feed: ReplyFeed, sent: Sent) -> None:
    for number in range(1, 6):
        feed.add("text", f"{number} ")
        sent.wait_for(number)
    feed.send_whole()
    message = sent.wait_for(6)[5]
    assert message.keys() == {"number", "all"}
    assert message["number"] == message["all"]["number"] == 6
    assert message["all"]["text"] == [["1 2 3 4 5 ", False]]
    feed.add("text", "7 ")
    assert sent.wait_for(7)[6].keys() == {"number", "patches", "progress"}


def test_a_note_appears_and_vanishes_with_the_next_piece(feed: ReplyFeed, sent: Sent) -> None:
    feed.set_note("busy; trying again in 3 s")
    assert sent.wait_for(1)[0]["all"]["note"] == "busy; trying again in 3 s"
    feed.add("text", "Hi")
    assert sent.wait_for(2)[1]["all"]["note"] == ""
    assert sent.messages[1]["all"]["text"] == [["Hi", False]]


def test_a_note_can_be_taken_away(feed: ReplyFeed, sent: Sent) -> None:
    feed.set_note("busy")
    sent.wait_for(1)
    feed.set_note("")
    assert sent.wait_for(2)[1]["all"]["note"] == ""


def test_close_ends_the_thread_and_nothing_is_sent_afterwards(sent: Sent) -> None:
    before = set(threading.enumerate())
    feed = ReplyFeed(sent, describe=str)
    feed.open()
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["kimi-reply"]
    feed.add("text", "Hi")
    sent.wait_for(1)
    feed.close()
    feed.add("text", " there")
    feed.send_whole()
    feed.close()
    time.sleep(0.2)
    assert set(threading.enumerate()) - before == set()
    assert len(sent.messages) == 1


def test_a_feed_that_was_never_opened_can_be_closed(sent: Sent) -> None:
    feed = ReplyFeed(sent, describe=str)
    feed.add("text", "Hi")
    feed.close()
    assert sent.messages == []


def test_a_snapshot_is_what_the_messages_so_far_amount_to(feed: ReplyFeed, sent: Sent) -> None:
    seen: list[bool] = []

    def compare(message: Message) -> None:
        snapshot = feed.snapshot()
        found = (snapshot["number"], snapshot["thinking"], snapshot["text"])
        seen.append(found == (message["number"], sent.parts["thinking"], sent.parts["text"]))

    sent.hook = compare
    for number in range(200):
        feed.add(PARTS[number % 2], f"piece {number}\n\n" if number % 3 else f"`code {number}")
        time.sleep(0.005)
    sent.wait(lambda: "piece 199" in sent.shown("text") or "code 198" in sent.shown("thinking"))
    assert len(seen) > 5
    assert all(seen)


def test_nothing_is_lost_of_ten_thousand_quick_pieces(feed: ReplyFeed, sent: Sent) -> None:
    words = [f"word{number}" for number in range(10_000)]
    for number, word in enumerate(words):
        feed.add("text", f"{word}\n\n" if number % 10 == 9 else f"{word} ")
    sent.wait(lambda: words[-1] in sent.shown("text"))
    assert sent.shown("text").split() == words
    assert [message["number"] for message in sent.messages] == list(range(1, len(sent.messages) + 1))


def test_there_are_at_most_twenty_messages_a_second(feed: ReplyFeed, sent: Sent) -> None:
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        feed.add("text", "word ")
        feed.set_note("busy")
        feed.send_whole()
        time.sleep(0.001)
    feed.close()
    assert len(sent.times) > 5
    for start in sent.times:
        assert sum(start <= moment < start + 1 for moment in sent.times) <= 20


def test_a_page_that_is_slow_does_not_hold_the_answer(feed: ReplyFeed, sent: Sent) -> None:
    is_free = threading.Event()
    sent.hook = lambda _message: is_free.wait(SECONDS) and None
    feed.add("text", "first ")
    began = time.monotonic()
    for number in range(1_000):
        feed.add("text", f"{number} ")
    assert time.monotonic() - began < SECONDS / 2
    is_free.set()
    sent.wait(lambda: sent.shown("text").split() == ["first", *map(str, range(1_000))])


# ---------------------------------------------------------------- tools and steps


def row_of(text: str, state: Any = "running") -> ToolRow:
    return ToolRow("call", text, state, "…")


def test_a_row_of_a_tool_goes_as_a_small_message(feed: ReplyFeed, sent: Sent) -> None:
    feed.set_row(0, row_of("weather()"))
    fields = {"kind": "call", "text": "weather()", "state": "running", "outcome": "…"}
    fields |= {"took": "", "arguments": "", "result": ""}
    assert sent.wait_for(1) == [{"number": 1, "patches": [], "tools": [[0, fields]], "progress": "0 tokens"}]


def test_a_row_that_changes_is_sent_again_and_the_others_are_not(feed: ReplyFeed, sent: Sent) -> None:
    for number in range(1, 5):
        feed.set_row(number, row_of(f"f{number}()"))
        sent.wait_for(number)
    feed.set_row(2, row_of("f2()", "done"))
    [[place, row]] = sent.wait_for(5)[4]["tools"]
    assert (place, row["text"], row["state"]) == (2, "f2()", "done")
    feed.add("text", "Hi")
    assert sent.wait_for(6)[5].keys() == {"number", "patches", "progress"}


def test_a_page_that_comes_later_gets_the_latest_rows(feed: ReplyFeed, sent: Sent) -> None:
    for number in range(MOST_ROWS + 5):
        feed.set_row(number, row_of(f"f{number}()"))
    sent.wait(lambda: MOST_ROWS + 4 in sent.tools)
    assert [place for place, _ in feed.snapshot()["tools"]] == list(range(5, MOST_ROWS + 5))


def test_the_text_of_a_step_begins_anew_and_the_thinking_goes_on(feed: ReplyFeed, sent: Sent) -> None:
    for part, text in (("thinking", "Hm. "), ("text", "Let me look.")):
        feed.add(part, text)  # type: ignore[arg-type]
    feed.set_row(0, ToolRow("said", "Let me look."))
    feed.begin_step()
    feed.add("thinking", "So.")
    feed.add("text", "Sunny.")
    sent.wait(lambda: sent.shown("text") == "Sunny.")
    assert sent.shown("thinking") == "Hm. So."
    assert sent.tools == {0: "Let me look."}
    whole = feed.snapshot()
    assert (whole["thinking"], whole["text"]) == ([["Hm. So.", False]], [["Sunny.", False]])
    assert whole["progress"] == f"{sum(map(count_text, ('Hm. So.', 'Let me look.', 'Sunny.')))} tokens"


def test_what_a_page_sees_is_never_in_two_places(feed: ReplyFeed, sent: Sent) -> None:
    seen: list[tuple[str, list[str]]] = []
    sent.hook = lambda _message: seen.append((sent.shown("text"), list(sent.tools.values())))
    for number in range(30):
        for word in ("word ", f"of step {number}"):
            feed.add("text", word)
        feed.set_row(number, ToolRow("said", f"word of step {number}"))
        feed.begin_step()
        time.sleep(0.01)
    sent.wait(lambda: 29 in sent.tools and not sent.shown("text"))
    assert len(seen) > 2
    assert all(text not in rows for text, rows in seen)


def test_arguments_are_counted_and_not_shown(feed: ReplyFeed, sent: Sent) -> None:
    feed.count('weather {"city": "Paris"}')
    [message] = sent.wait_for(1)
    assert message["patches"] == []
    assert message["progress"] != "0 tokens"


def test_a_note_gives_way_to_a_call(feed: ReplyFeed, sent: Sent) -> None:
    feed.set_note("busy; trying again in 3 s")
    sent.wait_for(1)
    feed.set_row(0, row_of("weather()"))
    sent.wait(lambda: 0 in sent.tools)
    assert feed.snapshot()["note"] == ""


def test_many_calls_are_at_most_twenty_messages_a_second(feed: ReplyFeed, sent: Sent) -> None:
    end = time.monotonic() + 1.5
    number = 0
    while time.monotonic() < end:
        feed.set_row(number, row_of("f()"))
        feed.begin_step()
        number += 1
        time.sleep(0.001)
    feed.close()
    assert len(sent.times) > 3
    for start in sent.times:
        assert sum(start <= moment < start + 1 for moment in sent.times) <= 20
