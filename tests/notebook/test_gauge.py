"""The gauge's half in the kernel, asked as a page asks: also while a cell runs, and without disturbing it."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from kernels import FrontEnd, is_end, start_kernel

from kimi_magics.sandbox import Fault, Sandbox

#: Runs until the file is there, however slow the machine is.
HOLD = """
import pathlib, time
while not pathlib.Path({path!r}).exists():
    time.sleep(0.01)
"""
DRAW = """
import matplotlib.pyplot as plt
plt.plot([1, 2])
print("drawn", flush=True)
"""
TALK = """
import threading, time
def talk():
    for number in range(300):
        time.sleep(0.01)
        print(number, flush=True)
thread = threading.Thread(target=talk)
thread.start()
"""


class Page:
    """A page with a gauge, on a subshell of its own."""

    def __init__(self, front_end: FrontEnd, subshell: str | None, comm: str = "page") -> None:
        self.front_end, self.subshell, self.comm = front_end, subshell, comm
        self.number = 0
        front_end.tell("comm_open", comm, {}, subshell=subshell, target="kimi_magics.gauge")

    def ask(self, text: str, **options: Any) -> int:
        """Send a question and return its number."""
        self.number += 1
        self.tell({"op": "estimate", "seq": self.number, "cell": "a", "text": text, **options})
        return self.number

    def tell(self, data: dict) -> None:
        self.front_end.tell("comm_msg", self.comm, data, subshell=self.subshell)

    def wait(self, **wanted: Any) -> dict:
        """Return the next message to this page that holds what is `wanted`."""
        return data_of(self.front_end.listen(lambda message: self.matches(message, wanted))[-1])

    def count(self, text: str, **options: Any) -> dict:
        """Ask, and return the last answer."""
        return self.wait(op="report", seq=self.ask(text, **options), final=True)

    def matches(self, message: dict, wanted: dict) -> bool:
        if message["msg_type"] != "comm_msg" or message["content"]["comm_id"] != self.comm:
            return False
        data = data_of(message)
        return all(data.get(name) == value for name, value in wanted.items())


def data_of(message: dict) -> dict:
    return message["content"]["data"]


def questions(sandbox: Sandbox) -> int:
    return sum(request.path.endswith("estimate-token-count") for request in sandbox.requests)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontEnd]:
    """One kernel for all, since each takes seconds to start; each test has a page of its own."""
    with pytest.MonkeyPatch.context() as patch:
        # It starts before the environment of its first test is made.
        patch.setenv("KIMI_MAGICS_HOME", str(tmp_path_factory.mktemp("kernel")))
        with start_kernel() as front_end:
            front_end.run("%load_ext kimi_magics\n%matplotlib inline\nimport matplotlib.pyplot, os")
            yield front_end


@pytest.fixture
def front_end(kernel: FrontEnd, sandbox: Sandbox) -> FrontEnd:
    kernel.run(f"os.environ |= {{'MOONSHOT_BASE_URL': '{sandbox.base_url}', 'MOONSHOT_API_KEY': 'sandbox'}}")
    kernel.run("%kimi_config gauge=live\n%kimi_budget off")
    return kernel


@pytest.fixture
def page(front_end: FrontEnd, request: pytest.FixtureRequest) -> Iterator[Page]:
    subshell = front_end.ask("control", "create_subshell_request")["subshell_id"]
    page = Page(front_end, subshell, request.node.name)
    page.wait(op="settings")
    yield page
    front_end.tell("comm_close", page.comm, {}, subshell=subshell)


def test_the_extension_says_hello_and_no_more(front_end: FrontEnd, sandbox: Sandbox) -> None:
    messages = front_end.run("%reload_ext kimi_magics")
    opened, closed = (message for message in messages if message["msg_type"].startswith("comm"))

    assert (opened["msg_type"], closed["msg_type"]) == ("comm_open", "comm_close")
    assert opened["content"]["target_name"] == "kimi_magics.hello"
    assert front_end.ask("shell", "comm_info_request")["comms"] == {}
    assert sandbox.requests == []


def test_a_page_is_told_at_once_what_is_known_here_and_then_what_was_counted(page: Page, sandbox: Sandbox) -> None:
    seq = page.ask("%%kimi\nWhat is a token?")
    first, last = page.wait(op="report", seq=seq), page.wait(op="report", seq=seq)

    assert (first["state"], first["final"], last["state"], last["final"]) == ("local", False, "counted", True)
    assert questions(sandbox) == 1
    assert page.count("%%kimi -o other\nWhat is a token?")["state"] == "counted"
    assert questions(sandbox) == 1


def test_a_passive_question_asks_nobody(page: Page, sandbox: Sandbox) -> None:
    assert page.count("%%kimi\nA draft that nobody touched", passive=True)["state"] == "local"
    assert questions(sandbox) == 0


def test_of_many_questions_about_a_cell_only_the_last_reaches_the_host(page: Page, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(path="tokenizers", delay_seconds=0.3, times=None))
    numbers = [page.ask(f"%%kimi\nWord number {number} of many.") for number in range(12)]
    last = page.wait(op="report", seq=numbers[-1], final=True)

    assert last["state"] == "counted"
    assert questions(sandbox) <= 4


def test_it_answers_while_a_cell_runs(page: Page, front_end: FrontEnd, tmp_path: Path) -> None:
    goes_on = tmp_path / "goes-on"
    ran = front_end.start(f"{HOLD.format(path=str(goes_on))}print('done')")
    report = page.count("%%kimi\nWhat is counted while a cell runs?")
    goes_on.touch()
    messages = front_end.listen(lambda message: is_end(message, ran))

    assert report["state"] == "counted"
    assert [message["content"]["text"] for message in messages if message["msg_type"] == "stream"] == ["done\n"]


def test_a_cell_gets_the_picture_that_its_page_alone_has(page: Page, front_end: FrontEnd, sandbox: Sandbox) -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (60, 40), "red").save(out, "PNG")
    answer = json.dumps([["image/png", base64.b64encode(out.getvalue()).decode()]])
    ran = front_end.start("%kimi --thinking off -i attachment:plot.png In one word: what?")
    question = page.wait(op="pictures")
    # In pieces, as a page sends what is large.
    for index, piece in enumerate((answer[:50], answer[50:])):
        number = question["number"]
        page.tell({"op": "pictures", "number": number, "index": index, "count": 2, "piece": piece})
    front_end.listen(lambda message: is_end(message, ran))
    [body] = [request.body for request in sandbox.requests if request.path.endswith("/chat/completions")]
    url = body["messages"][-1]["content"][0]["image_url"]["url"]

    assert (question["what"], question["name"]) == ("attachments", "plot.png")
    assert PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (60, 40)


FIND_ORDER = """
gauge = get_ipython().magics_manager.registry["KimiMagics"]._gauge
print(gauge.find_order({cell!r}, may_ask={may_ask}))
"""


def printed(messages: list[dict]) -> str:
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


def test_a_page_tells_how_the_cells_stand_and_another_of_other_cells(page: Page, front_end: FrontEnd) -> None:
    def find(cell: str) -> str:
        return printed(front_end.run(FIND_ORDER.format(cell=cell, may_ask=False))).strip()

    other = Page(front_end, page.subshell, "other-notebook")
    page.tell({"op": "order", "seq": 1, "cells": ["a", "b", "c"]})
    other.tell({"op": "order", "seq": 1, "cells": ["d", "e"]})
    page.count("%%kimi\nBoth were heard")
    assert (find("b"), find("d"), find("f")) == ("('a', 'b', 'c')", "('d', 'e')", "None")
    # Before a cell runs it is told in line with the requests that run cells, and is there when the cell is.
    front_end.tell("comm_msg", page.comm, {"op": "order", "seq": 5, "cells": ["a", "f", "b"]}, subshell=None)
    assert (find("f"), find("c")) == ("('a', 'f', 'b')", "None")
    # What was overtaken is outdated.
    page.tell({"op": "order", "seq": 4, "cells": ["a", "b"]})
    page.count("%%kimi\nIt was heard")
    assert find("b") == "('a', 'f', 'b')"
    front_end.tell("comm_close", "other-notebook", {}, subshell=page.subshell)
    assert find("e") == "('d', 'e')"


def test_a_page_is_asked_how_the_cells_stand_where_it_has_not_told(page: Page, front_end: FrontEnd) -> None:
    ran = front_end.start(FIND_ORDER.format(cell="new", may_ask=True))
    question = page.wait(op="order", cell="new")
    answer = {"op": "answer", "number": question["number"], "index": 0, "count": 1, "piece": '["old", "new"]'}
    page.tell(answer)
    messages = front_end.listen(lambda message: is_end(message, ran))
    assert printed(messages) == "['old', 'new']\n"


def test_a_page_that_never_comes_is_not_waited_for_long(page: Page, front_end: FrontEnd) -> None:
    begun = time.monotonic()
    messages = front_end.run("%kimi_estimate -i attachment:plot.png What is it?")
    took = time.monotonic() - begun
    [error] = [message["content"] for message in messages if message["msg_type"] == "error"]

    assert "no Markdown cell has an attachment plot.png" in error["evalue"]
    # Whoever is there is called and given three seconds.
    assert [message["msg_type"] for message in messages].count("comm_open") == 1
    assert took > 3


def test_a_figure_of_a_running_cell_outlives_the_questions(page: Page, front_end: FrontEnd, tmp_path: Path) -> None:
    goes_on = tmp_path / "goes-on"
    ran = front_end.start(DRAW + HOLD.format(path=str(goes_on)))
    front_end.listen(lambda message: message["msg_type"] == "stream")
    for number in range(3):
        page.count(f"%%kimi\nA question while it draws, number {number}")
    goes_on.touch()
    messages = front_end.listen(lambda message: is_end(message, ran))
    pictures = [m for m in messages if m["msg_type"] == "display_data" and "image/png" in m["content"]["data"]]

    assert len(pictures) == 1
    assert pictures[0]["parent_header"]["msg_id"] == ran


def test_what_threads_print_belongs_to_their_cell_whatever_a_page_asks(page: Page, front_end: FrontEnd) -> None:
    ran = front_end.start(TALK)
    printed: list[dict] = []

    def note(message: dict) -> None:
        if message["msg_type"] == "stream":
            printed.append(message)

    for number in range(60):
        seq = page.ask(f"%%kimi\nA question while it talks, number {number}", passive=True)
        wanted = {"op": "report", "seq": seq, "final": True}
        front_end.listen(lambda message, wanted=wanted: page.matches(message, wanted), on_message=note)
    ended = front_end.start("thread.join()")
    front_end.listen(lambda message: is_end(message, ended), on_message=note)

    assert "".join(m["content"]["text"] for m in printed).split() == [str(number) for number in range(300)]
    assert {m["parent_header"]["msg_id"] for m in printed} <= {ran, ended}


def test_after_a_run_the_page_is_told_what_was_expected_and_billed(page: Page, front_end: FrontEnd) -> None:
    counted = page.count("%%kimi --thinking off\nIn one word: token")
    front_end.start("%%kimi --thinking off\nIn one word: token", cell="cell-7")
    run = page.wait(op="run")

    assert (run["cell"], run["expected"], run["prompt_tokens"]) == ("cell-7", counted["tokens"], counted["tokens"])
    assert run["cost"] is not None
    totals = page.wait(op="settings")["totals"]
    assert totals["calls"] >= 1
    assert totals["tokens"] >= run["prompt_tokens"] + run["completion_tokens"]
    page.wait(op="ran")


def test_the_page_can_say_where_a_draft_may_go(page: Page, front_end: FrontEnd, sandbox: Sandbox) -> None:
    page.tell({"op": "set", "gauge": "local"})
    assert page.wait(op="settings")["gauge"] == "local"
    assert page.count("%%kimi\nA draft that stays here")["state"] == "local"
    assert questions(sandbox) == 0
    page.tell({"op": "set", "gauge": "nonsense"})
    assert page.wait(op="settings")["gauge"] == "local"
    front_end.start("%kimi_config gauge=off")
    assert page.wait(op="settings")["gauge"] == "off"


def test_a_count_that_the_user_asks_for_is_made_whatever_the_setting(
    page: Page, front_end: FrontEnd, sandbox: Sandbox
) -> None:
    for mode in ("local", "off"):
        front_end.run(f"%kimi_config gauge={mode}")
        assert page.count(f"%%kimi\nCount this now, although it is {mode}", now=True)["state"] == "counted"
    assert questions(sandbox) == 2


def test_the_balance_is_asked_for_once_a_minute_and_kept(page: Page, front_end: FrontEnd, sandbox: Sandbox) -> None:
    answers = []
    for _ in range(3):
        page.tell({"op": "balance"})
        answers.append(page.wait(op="balance"))

    assert [answer["currency"] for answer in answers] == ["USD"] * 3
    assert float(answers[0]["amount"]) > 0
    assert sum(request.path.endswith("balance") for request in sandbox.requests) == 1
    told = front_end.run("%kimi_usage --balance --json")
    shown = "".join(message["content"]["text"] for message in told if message["msg_type"] == "stream")
    assert [look["balance"] for look in json.loads(shown)["looks"]] == [answers[0]["amount"]]
    assert sum(request.path.endswith("balance") for request in sandbox.requests) == 1


def test_every_page_is_told_and_a_closed_one_is_forgotten(page: Page, front_end: FrontEnd) -> None:
    other = Page(front_end, page.subshell, "other-page")
    other.wait(op="settings")
    closed = front_end.tell("comm_close", "other-page", {}, subshell=page.subshell)
    # A subshell is beside the shell: without this the cell could end before.
    front_end.listen(lambda message: is_end(message, closed))
    messages = front_end.run("1 + 1")
    told = {m["content"]["comm_id"] for m in messages if m["msg_type"] == "comm_msg" and data_of(m)["op"] == "ran"}

    assert told == {page.comm}


def test_a_question_that_cannot_be_read_ends_nothing(page: Page) -> None:
    page.tell({"op": "estimate"})
    page.tell({"op": "nothing"})
    assert page.count("%%kimi\nStill there?")["state"] == "counted"
