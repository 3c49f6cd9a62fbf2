"""What the live view costs and how soon it shows the text, as ratios within one run, since machines are noisy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import views

ATTEMPTS = 6
#: A model sends a token in a chunk; one of English prose or code has about so many characters.
TOKEN_CHARACTERS = 5


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """A kernel that has answered before."""
    with views.kernel() as running:
        views.compare(running, views.Shape(200), ways=("plain", "once", "kimi"), rounds=1)
        yield running


@pytest.fixture(scope="module")
def ask(kernel: Any) -> Callable[..., Any]:
    """Let `%%kimi` show one answer of that many chunks live; each only once."""

    @cache
    def ask_once(chunks: int, chunks_per_second: int) -> Any:
        shape = views.Shape(chunks, 1 / chunks_per_second)
        return views.compare(kernel, shape, ways=("kimi",), rounds=1)["kimi"]

    return ask_once


def test_a_cell_takes_little_longer_than_a_loop_that_shows_nothing(kernel: Any) -> None:
    rounds: dict[str, list[Any]] = {"plain": [], "kimi": []}
    ratios: list[tuple[float, float]] = []
    for _ in range(ATTEMPTS):
        ran = views.compare(
            kernel, views.Shape(20_000, chunk_characters=TOKEN_CHARACTERS), ways=tuple(rounds), rounds=4
        )
        for way, done in ran.items():
            rounds[way].append(done)
        best_plain, best_kimi = (views.best(done) for done in rounds.values())
        ratios.append((round(ran["kimi"].wall / ran["plain"].wall, 2), round(best_kimi.wall / best_plain.wall, 2)))
        # One plain loop that was disturbed, or one that was never so fast again, proves nothing: two attempts do, or
        # the best of all.
        if ratios[-1][1] <= 1.3 or sum(ratio <= 1.3 for ratio, _ in ratios) >= 2:
            return
    pytest.fail(f"the cell over the loop, wall clock, by attempt and at best so far: {ratios}")


def test_what_is_sent_is_at_most_eight_times_the_text(ask: Callable[..., Any]) -> None:
    answer = ask(10_000, 2_000)
    text = views.write_markdown(answer.characters).encode()

    assert answer.characters == 10_000 * views.CHUNK_CHARACTERS
    assert answer.size <= 8 * len(text)


def test_ten_times_the_chunks_are_at_most_eleven_times_the_bytes(ask: Callable[..., Any]) -> None:
    assert ask(10_000, 2_000).size <= 11 * ask(1_000, 2_000).size


def test_there_are_never_more_than_twenty_messages_a_second(ask: Callable[..., Any]) -> None:
    answer = ask(1_000, 200)

    assert answer.kinds["comm_msg"] >= 25, "too few to tell"
    assert views.count_in_busiest_second(answer.sent) <= 20


def test_all_text_is_shown_soon_after_the_model_pauses(kernel: Any) -> None:
    shape = views.Shape(60, 0.004, pauses=(7, 15, 40), pause_seconds=1.0)
    attempts = []
    for _ in range(ATTEMPTS):
        with views.server(shape) as served:
            sent = kernel.measure("kimi", served).sent
            pauses = [served.read_pause() for _ in shape.pauses]
        shown = [views.find_when_shown(sent, views.MARK.format(number)) for number in range(len(pauses))]
        # Which part of the pause had passed.
        parts = [(came - began) / (ended - began) for came, (began, ended) in zip(shown, pauses, strict=True)]
        attempts.append([round(part, 3) for part in parts])
        if max(parts) <= 0.3:
            return
    pytest.fail(f"parts of the pauses before the text was shown: {attempts}")
