"""%kimi_chat: what it shows of conversations, and that it does what its flags say, and no more."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from kimi_magics.core.media import Image
from kimi_magics.core.messages import Message, ToolCall
from kimi_magics.errors import ChatError, KimiError, MagicLineError
from kimi_magics.notebook.chat_report import report_chat
from kimi_magics.notebook.chats import Chats
from kimi_magics.notebook.parsers import PARSERS
from kimi_magics.notebook.session import Session
from kimi_magics.store.chat_files import ChatFiles

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
IMAGE = Image(b"\x89PNG", "image/png", 60, 40, "plot")
ASKED = (ToolCall("1", "find", "{}"), ToolCall("2", "count", "{}"))


class Bench:
    """A kernel's conversations, and the magic as it is typed."""

    def __init__(self, home: Path) -> None:
        self.order: list[str] | None = None
        self.chats = Chats(find_order=lambda cell, may_ask: self.order, clock=lambda: NOON)
        self.session = Session()
        self.files = ChatFiles(home)

    def ask(self, name: str, cell: str | None, text: str, *, then: tuple[Message, ...] = (), **figures: Any) -> None:
        """Enter a turn as a call of a cell does."""
        self.chats.begin_run(cell)
        messages = (Message("user", text, (IMAGE,) if then else ()), *then, Message("assistant", f"{text} indeed"))
        figures = {"model": "kimi-k2.6", "prompt_tokens": 1200, "completion_tokens": 34} | figures
        self.chats.place(name, cell=cell).record(messages, **figures)
        self.chats.end_run(cell)

    def run(self, line: str = "", *, cell: str | None = "report") -> Any:
        """Return what the magic displays or prints; JSON is read."""
        ask, names = PARSERS["kimi_chat"].parse_names(line)
        with capture_output() as captured:
            report_chat(self.chats, ask, names, session=self.session, cell=cell, files=self.files)
        if captured.outputs:
            assert captured.stdout == ""
            return captured.outputs[0].data
        return json.loads(captured.stdout) if ask.json else captured.stdout

    def fail(self, line: str) -> KimiError:
        with pytest.raises((ChatError, MagicLineError)) as caught:
            self.run(line)
        return caught.value


@pytest.fixture
def bench(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    bench = Bench(tmp_path / "home")
    yield bench
    bench.session.close()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def trip(bench: Bench) -> Bench:
    """Two turns that are sent, and a forgotten one between them."""
    then = (Message("assistant", "", thinking="hm", calls=ASKED), Message("tool", "it", call_id="1", name="find"))
    bench.ask("trip", "cell-1", "Where to?", system="Be short.")
    bench.ask("trip", "cell-2", "And\nthen | $1?", then=then, prompt_tokens=None)
    bench.ask("trip", "cell-1", "Where to now?", estimated=True)
    bench.ask("trip", "cell-3", "Why?")
    return bench


def rows(text: str) -> list[list[str]]:
    """Return the cells of a plain table."""
    lines = text.split("\n\n")[0].splitlines()
    edges = [index for index, mark in enumerate(lines[1]) if mark == "-" and (index == 0 or lines[1][index - 1] == " ")]
    return [[line[a:b].strip() for a, b in zip(edges, [*edges[1:], None], strict=True)] for line in lines]


def test_without_conversations_it_says_so(bench: Bench) -> None:
    assert bench.run() == "no conversations: %%kimi -c NAME begins one\n"
    assert bench.run("--json") == []


def test_conversations_are_listed_with_turns_tokens_and_the_last_use(trip: Bench) -> None:
    trip.ask("short", None, "Hi", prompt_tokens=None)
    table = rows(trip.run()["text/plain"])
    assert table[0] == ["name", "turns", "forgotten", "tokens", "model", "last"]
    assert table[2:] == [
        ["trip", "2", "1", "1,234", "kimi-k2.6", "2027-01-15 12:00"],
        ["short", "1", "0", "unknown", "kimi-k2.6", "2027-01-15 12:00"],
    ]
    assert trip.run("--json")[0] == {
        "name": "trip",
        "turns": 2,
        "forgotten": 1,
        "tokens": 1234,
        "estimated": False,
        "model": "kimi-k2.6",
        "last": "2027-01-15T12:00:00+00:00",
        "origin": None,
    }


def test_turns_are_shown_with_what_they_took_and_forgotten_ones_as_such(trip: Bench) -> None:
    bundle = trip.run("trip")
    table = rows(bundle["text/plain"])
    assert table[0] == ["turn", "cell", "prompt", "tokens in", "out", "tools", "media", "state"]
    assert table[2:] == [
        ["1", "cell-1", "Where to now?", "≈ 1,200", "≈ 34", "", "", ""],
        ["2", "cell-3", "Why?", "1,200", "34", "", "", ""],
        ["3", "cell-2", "And then | $1?", "unknown", "34", "2", "1", "forgotten"],
    ]
    assert "And then \\| \\$1?" in bundle["text/markdown"]
    assert bundle["text/plain"].endswith(
        "Conversation trip: 2 turns will be sent. Forgotten ones come back when their cells are run again."
    )


def test_json_has_the_turns_in_full(trip: Bench) -> None:
    facts = trip.run("trip --json")
    assert (facts["name"], len(facts["turns"])) == ("trip", 3)
    assert facts["turns"][2] == {
        "turn": 3,
        "cell": "cell-2",
        "part": 0,
        "state": "forgotten",
        "prompt": "And\nthen | $1?",
        "answer": "And\nthen | $1? indeed",
        "system": None,
        "model": "kimi-k2.6",
        "prompt_tokens": None,
        "completion_tokens": 34,
        "estimated": False,
        "tools": ["find", "count"],
        "images": [IMAGE.digest],
        "videos": [],
    }


def test_turns_stand_as_their_cells_and_those_of_deleted_cells_are_marked(trip: Bench) -> None:
    trip.order = ["cell-2", "cell-3", "report"]
    table = rows(trip.run("trip")["text/plain"])
    assert [(row[1], row[-1]) for row in table[2:]] == [
        ("cell-1", "not in the notebook"),
        ("cell-2", "forgotten"),
        ("cell-3", ""),
    ]
    assert trip.run("--json")[0]["turns"] == 1
    # Looked at from another notebook it is shown as it is.
    trip.order = ["report"]
    assert trip.run("--json")[0]["turns"] == 2


def test_a_loop_and_a_long_prompt_are_kept_short(bench: Bench) -> None:
    bench.chats.begin_run("0123456789abcdef")
    for number in range(2):
        place = bench.chats.place("x", cell="0123456789abcdef")
        place.record((Message("user", f"{number} " + "word " * 40), Message("assistant", "!")))
    table = rows(bench.run("x")["text/plain"])
    assert [row[1] for row in table[2:]] == ["89abcdef", "89abcdef (2)"]
    assert table[3][2] == "1 word word word word word word word word word wo…"


def test_a_fork_and_a_new_name_are_told(trip: Bench) -> None:
    assert trip.run("trip --fork other") == "other begins with 2 turns of trip\n"
    assert trip.run("other --rename third") == "other is now third: go on with -c third\n"
    assert trip.chats.names() == ["trip", "third"]
    assert trip.run("trip --fork fourth --json") == {"forked": "trip", "to": "fourth", "turns": 2}
    trip.order = ["cell-1", "report", "cell-3"]
    assert trip.run("trip --fork fifth") == "fifth begins with 1 turn of trip; 1 below this cell is not in it\n"


def test_a_reset_says_what_is_gone_and_does_not_fail_in_a_fresh_kernel(trip: Bench) -> None:
    assert trip.run("trip --reset") == "trip begins anew; 3 turns are gone\n"
    assert trip.run("trip --reset") == "trip has no turns\n"
    assert trip.run("trip --reset --json") == {"reset": "trip", "turns": 0}


def test_what_is_saved_is_loaded_by_path_or_name(trip: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "home" / "chats" / "trip.json"
    assert trip.run("trip --save") == f"3 turns of trip saved in {kept}\n"
    assert trip.run("trip --save 'my trip.json'") == "3 turns of trip saved in my trip.json\n"
    before = trip.chats.get("trip")
    for line in ("--load trip", f"--load '{kept}'", "--load 'my trip.json'"):
        trip.chats.reset("trip")
        assert trip.run(line) == "3 turns of trip loaded: go on with -c trip\n"
        assert trip.chats.get("trip") == before
    assert trip.run("copy --load trip --json") == {"loaded": "copy", "path": str(kept), "turns": 3}
    assert trip.chats.get("copy").turns == before.turns


def test_the_oldest_turns_are_trimmed_and_that_is_said(bench: Bench) -> None:
    for number in range(4):
        bench.ask("x", f"cell-{number}", "many words " * 50)
    said = bench.run("x --trim 450")
    facts = bench.run("x --json")
    shape = r"the 2 oldest turns of x are not sent any more; 2 turns with ≈ \d{3} of 450 tokens left\n"
    assert re.fullmatch(shape, said)
    assert [turn["state"] for turn in facts["turns"]] == ["trimmed", "trimmed", "kept", "kept"]
    assert re.fullmatch(r"x fits as it is: ≈ \d{3} of 450 tokens\n", bench.run("x --trim 450"))
    # To the context of its model.
    facts = bench.run("x --trim --json")
    assert (facts["dropped"], facts["turns"], facts["most"]) == (0, 2, 196_608)
    assert bench.run("x --trim 1 --json")["turns"] == 0


@pytest.mark.parametrize(
    ("line", "says", "advises"),
    [
        ("tripp", "there is no conversation 'tripp'", "did you mean trip?"),
        ("trip other", "2 names were given", "%kimi_chat NAME"),
        ("--reset", "which conversation?", "%kimi_chat NAME --reset"),
        ("trip --fork", "--fork needs a value", "--fork NEW"),
        ("trip --fork ../x", "'../x' is not a name for a conversation", "64 letters"),
        ("trip --fork trip", "there is a conversation 'trip' already", "another name"),
        ("trip --fork x --reset", "--fork and --reset were both given", "one after the other"),
        ("trip --trim many", "'many' is not a number of tokens", "--trim 8000"),
        ("--load none.json", "there is no file none.json", "--save"),
        ("a/b --load none.json", "there is no file", "--save"),
        ("trip --colour", "unknown flag --colour", "shows the flags"),
    ],
)
def test_what_cannot_be_done_names_cause_and_remedy(trip: Bench, line: str, says: str, advises: str) -> None:
    before = trip.chats.get("trip")
    error = trip.fail(line)
    assert says in error.message
    assert advises in error.remedy
    assert trip.chats.get("trip") == before


def test_a_model_of_unknown_context_needs_a_number(bench: Bench) -> None:
    bench.ask("x", "a", "Hi", model="my-model")
    assert bench.fail("x --trim").message == "the context of my-model is not known"


def test_a_file_of_others_is_not_overwritten(trip: Bench, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert "is not a saved conversation" in trip.fail(f"trip --save {other}").message
    assert other.read_text() == "mine"
    assert os.listdir(tmp_path) == ["notes.txt"]
