"""Answers as a file keeps them: whose it is, how large it gets, several kernels at once, and when it cannot be used."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kimi_magics.core.events import Finished, Replayed, Started, TextDelta, ThinkingDelta, ToolCallDelta
from kimi_magics.core.recording import Recording
from kimi_magics.core.usage import Usage
from kimi_magics.store.replays import Replays
from kimi_magics.store.replays_values import Answer

WORKER = Path(__file__).with_name("replays_worker.py")
FIRST = Replayed(
    Usage(1000, 500, 100, 7, estimated=True, web_searches=2), Decimal("0.002871"), "CNY", date(2026, 11, 20)
)
PIECES = (
    Started("req-1", "kimi-k2.6"),
    ThinkingDelta("Hm…"),
    TextDelta("Grüße 你好 😀"),
    ToolCallDelta(0, "f:0", "f", '{"a": 1}'),
    Finished("stop"),
)
SECONDS = 300


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, told: list[str]) -> Iterator[Callable[..., Replays]]:
    """What opens the file of this test, again and again."""
    opened: list[Replays] = []

    def open_one(limit: int = 10_000_000, **options: Any) -> Replays:
        opened.append(Replays(limit_bytes=lambda: limit, **{"home": tmp_path, "tell": told.append, **options}))
        return opened[-1]

    yield open_one
    for replays in opened:
        replays.close()


def keep(replays: Replays, key: str, *pieces: Any, first: Replayed = FIRST) -> Answer:
    recording = Recording(pieces or PIECES)
    answer = Answer(key, recording.pieces, first)
    replays.put(answer, recording.encode(), host="api.moonshot.ai", model="kimi-k2.6")
    return answer


def test_an_answer_is_found_as_it_was_kept_also_by_another_kernel(make: Callable[..., Replays]) -> None:
    answer = keep(make(), "a")
    assert make().find("a") == answer
    assert make().find_facts("a") == FIRST
    assert make().find("b") is make().find_facts("b") is None


def test_an_unknown_cost_stays_unknown(make: Callable[..., Replays]) -> None:
    unknown = Replayed(Usage(), None, "USD", date(2026, 11, 20))
    keep(make(), "a", first=unknown)
    assert make().find_facts("a") == unknown


def test_a_newer_answer_takes_the_place_of_the_older(make: Callable[..., Replays]) -> None:
    replays = make()
    keep(replays, "a", TextDelta("old"))
    newer = keep(replays, "a", TextDelta("new"))
    assert (replays.find("a"), replays.measure()[0]) == (newer, 1)


def test_to_look_makes_no_file(make: Callable[..., Replays]) -> None:
    replays = make()
    assert (replays.find("a"), replays.clear(), replays.measure()) == (None, (0, 0), (0, 0))
    assert not replays.path.exists()


def test_the_file_is_its_owners_alone(make: Callable[..., Replays]) -> None:
    keep(replays := make(), "a")
    beside = [path for path in replays.path.parent.iterdir() if path.name.startswith("replays.sqlite")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in beside} == {0o600}


def test_the_prompt_has_no_column(make: Callable[..., Replays]) -> None:
    keep(replays := make(), "a")
    with closing(sqlite3.connect(replays.path)) as database:
        columns = {row[1] for row in database.execute("PRAGMA table_info(kimi_answers)")}
    assert not columns & {"prompt", "messages", "body", "request"}


# ---------------------------------------------------------------- its size


def test_what_was_not_used_for_longest_goes_first(make: Callable[..., Replays]) -> None:
    replays = make(limit=30_000)
    for key in "abc":
        keep(replays, key, TextDelta("x" * 5_000))
    assert replays.find("a") is not None
    replays.find_facts("b")
    replays.find("b", is_use=False)
    keep(replays, "d", TextDelta("x" * 5_000))
    assert [key for key in "abcd" if replays.find(key)] == ["a", "c", "d"]


@pytest.mark.parametrize("letters", [10, 900, 2_100, 3_700, 5_000, 30_000])
def test_the_file_stays_within_its_bound(make: Callable[..., Replays], letters: int) -> None:
    replays = make(limit=400_000)
    for number in range(700_000 // (letters + 700)):
        keep(replays, f"{number:064d}", TextDelta("x" * letters))
    count, size = replays.measure()
    assert 300_000 < size <= 400_000
    assert replays.find(f"{number:064d}") is not None
    assert replays.find(f"{0:064d}") is None
    replays.close()  # what lies beside the file goes into it
    assert replays.path.stat().st_size < 1.1 * 400_000
    assert count * letters > 0.4 * size or letters < 900


def test_a_smaller_bound_holds_from_the_next_answer_on(make: Callable[..., Replays]) -> None:
    for number in range(10):
        keep(make(), str(number), TextDelta("x" * 5_000))
    smaller = make(limit=20_000)
    keep(smaller, "new", TextDelta("x" * 5_000))
    assert smaller.measure()[0] == 2


def test_an_answer_larger_than_the_bound_leaves_the_others_alone(make: Callable[..., Replays]) -> None:
    replays = make(limit=10_000)
    keep(replays, "a")
    keep(replays, "b", TextDelta("x" * 20_000))
    assert (replays.find("a") is not None, replays.find("b")) == (True, None)


def test_clear_leaves_nothing_of_the_answers_in_the_file(make: Callable[..., Replays]) -> None:
    replays = make()
    for number in range(100):
        keep(replays, str(number), TextDelta("zebra-umbrella " * 100))
    count, size = replays.clear()
    assert (count, size > 150_000, replays.measure()) == (100, True, (0, 0))
    held = b"".join(path.read_bytes() for path in replays.path.parent.iterdir() if path.is_file())
    assert b"zebra-umbrella" not in held
    assert replays.path.stat().st_size < 50_000
    assert keep(replays, "a") == replays.find("a")


# ---------------------------------------------------------------- several at once


def test_several_processes_at_one_file_lose_nothing_and_mix_nothing_up(tmp_path: Path) -> None:
    command = [sys.executable, str(WORKER), str(tmp_path), "150", "40", "20000"]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        errors = [process.communicate(timeout=SECONDS)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0, 0], errors
    with closing(sqlite3.connect(tmp_path / "replays.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count, size),) = database.execute("SELECT count(*), sum(bytes) FROM kimi_answers")
    assert 10 < count <= 40
    assert size <= 20_000


def test_several_threads_share_it(make: Callable[..., Replays], told: list[str]) -> None:
    replays = make()
    seen: list[Answer | None] = []

    def work(name: int) -> None:
        for number in range(20):
            keep(replays, f"{name}-{number}")
            seen.append(replays.find(f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), None in seen, told) == (80, False, [])


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_told_once_and_left_as_it_is(
    make: Callable[..., Replays], told: list[str], content: bytes
) -> None:
    replays = make()
    replays.path.write_bytes(content)
    assert replays.find("a") is None
    keep(replays, "a")
    assert (replays.find("a"), replays.clear(), replays.measure()) == (None, None, None)
    assert len(told) == 1
    assert str(replays.path) in told[0]
    assert "restart the kernel" in told[0]
    assert replays.path.read_bytes() == content


def test_a_damaged_answer_is_told_too(make: Callable[..., Replays], told: list[str]) -> None:
    keep(replays := make(), "a")
    with closing(sqlite3.connect(replays.path)) as database:
        database.execute("UPDATE kimi_answers SET pieces = ?", (b'[{"type":"weather"}]',))
        database.commit()
    assert make().find("a") is None
    assert "cannot be read" in told[0]


def test_a_full_disk_is_told_once(make: Callable[..., Replays], told: list[str]) -> None:
    keep(replays := make(), "a")
    with replays._open().connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
    keep(replays, "b", TextDelta("x" * 1_000_000))
    keep(replays, "c", TextDelta("x" * 1_000_000))
    assert len(told) == 1
    assert "full" in told[0]
    assert make().find("a") is not None


def test_a_home_that_cannot_be_written_is_told_once(
    make: Callable[..., Replays], told: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    replays = make(home=tmp_path / "file" / "home")
    for _ in range(2):
        keep(replays, "a")
    assert (replays.find("a"), len(told)) == (None, 1)


def test_a_file_of_a_later_version_is_left_alone(make: Callable[..., Replays], told: list[str]) -> None:
    keep(replays := make(), "a")
    replays.close()
    with closing(sqlite3.connect(replays.path)) as database:
        database.execute("PRAGMA user_version=999")
        database.commit()
    later = make()
    keep(later, "b")
    assert later.find("a") is None
    assert "later version" in told[0]
    assert "pip install --upgrade" in told[0]
    with closing(sqlite3.connect(replays.path)) as database:
        assert database.execute("SELECT key FROM kimi_answers").fetchall() == [("a",)]


def test_a_file_that_was_deleted_by_hand_is_made_again(make: Callable[..., Replays], told: list[str]) -> None:
    keep(replays := make(), "a")
    for path in replays.path.parent.glob("replays.sqlite*"):
        path.unlink()
    assert replays.find("a") is None
    keep(replays, "b")
    assert (make().find("b") is not None, told) == (True, [])
