"""A question of the kernel reaches every page, and the first page that has something answers it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kimi_magics.notebook.page_questions import PageQuestions


@dataclass
class Page:
    """A page that answers in a thread of its own, as on a subshell; `None` is a page that is silent."""

    comm_id: str
    answer: Any = None
    size: int = 1_000
    backwards: bool = False
    heard: list[dict] = field(default_factory=list)
    take: Callable[[Page, dict], None] = print

    def send(self, message: dict) -> None:
        self.heard.append(message)
        if self.answer is not None:
            threading.Thread(target=self._answer, args=(message["number"],)).start()

    def _answer(self, number: int) -> None:
        text = json.dumps(self.answer)
        pieces = [text[start : start + self.size] for start in range(0, len(text), self.size)]
        for index, piece in sorted(enumerate(pieces), reverse=self.backwards):
            self.take(self, {"number": number, "index": index, "count": len(pieces), "piece": piece})


def make(*pages: Page, call: Callable[[], bool] = lambda: False) -> PageQuestions:
    questions = PageQuestions(lambda: pages, call=call)
    for page in pages:
        page.take = questions.take
    return questions


def test_an_answer_in_pieces_is_put_together_in_whatever_order_they_come() -> None:
    page = Page("one", answer=[["image/png", "A" * 50]], size=7, backwards=True)
    assert make(page).ask({"op": "pictures", "name": "x"}) == [["image/png", "A" * 50]]
    assert page.heard == [{"op": "pictures", "name": "x", "number": 1}]


def test_a_page_that_has_something_is_believed_before_one_that_has_nothing() -> None:
    for pages in ((Page("a", answer=[]), Page("b", answer=["it"])), (Page("a", answer=["it"]), Page("b", answer=[]))):
        assert make(*pages).ask({}) == ["it"]


def test_nothing_is_the_answer_once_every_page_says_so() -> None:
    assert make(Page("a", answer=[]), Page("b", answer=[])).ask({}) == []


def test_a_silent_page_is_waited_for_and_then_the_others_count() -> None:
    assert make(Page("a"), Page("b", answer=["it"])).ask({}) == ["it"]
    assert make(Page("a"), Page("b", answer=[])).ask({}, wait_seconds=0.05) == []
    assert make(Page("a")).ask({}, wait_seconds=0.05) is None


def test_without_a_page_one_is_called_and_asked_when_it_comes() -> None:
    page = Page("late", answer=["it"])

    def call() -> bool:
        threading.Thread(target=lambda: questions.welcome(page)).start()
        return True

    questions = make(call=call)
    page.take = questions.take
    assert questions.ask({}) == ["it"]


def test_when_the_pages_are_silent_one_is_called() -> None:
    gone, page = Page("gone"), Page("late", answer=["it"])

    def call() -> bool:
        threading.Thread(target=lambda: questions.welcome(page)).start()
        return True

    questions = make(gone, call=call)
    page.take = questions.take
    assert questions.ask({}) == ["it"]


def test_a_page_that_was_silent_is_asked_again_and_not_waited_for() -> None:
    gone, page = Page("gone"), Page("there", answer=[])
    questions = make(gone, page)
    assert questions.ask({}, wait_seconds=0.05) == []
    assert questions.ask({}, wait_seconds=1e6) == []
    assert [message["number"] for message in gone.heard] == [1, 2]


def test_without_a_page_to_call_nobody_is_waited_for() -> None:
    assert make().ask({}, wait_seconds=1e6) is None


def test_an_answer_that_comes_too_late_is_no_answer_to_the_next_question() -> None:
    page = Page("slow")
    questions = make(page)
    assert questions.ask({}, wait_seconds=0.01) is None
    questions.take(page, {"number": 1, "index": 0, "count": 1, "piece": '["late"]'})
    page.answer = ["new"]
    assert questions.ask({}) == ["new"]


def test_what_is_no_json_is_an_empty_answer() -> None:
    page = Page("odd")
    questions = make(page)
    page.send = lambda message: questions.take(
        page, {"number": message["number"], "index": 0, "count": 1, "piece": "{"}
    )
    assert questions.ask({}) == []
