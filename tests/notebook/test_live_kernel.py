"""A kernel driven as a live front end does: what it is told while an answer grows, and what it may say meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kernels import SECONDS, FrontEnd, start_kernel

from kimi_magics.sandbox import Sandbox, SandboxOptions

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ASK = "%kimi -o r --thinking off Tell me about tokens"
#: So many tokens has the answer to that; the sandbox takes five seconds for it.
TOKENS, ANSWER_SECONDS = 252, 5.0
COUNT_WIDGETS = """
import gc, ipywidgets
gc.collect()
print(sum(issubclass(type(o), ipywidgets.Widget) for o in gc.get_objects()))
"""


@pytest.fixture
def slow_sandbox() -> Iterator[Sandbox]:
    with Sandbox(options=SandboxOptions(tokens_per_second=TOKENS / ANSWER_SECONDS)) as sandbox:
        yield sandbox


@pytest.fixture
def front_end(slow_sandbox: Sandbox, environment: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrontEnd]:
    """A front end whose kernel has the extension loaded; ended with the test."""
    monkeypatch.setenv("MOONSHOT_BASE_URL", slow_sandbox.base_url)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
    with start_kernel() as front_end:
        front_end.run("%load_ext kimi_magics")
        yield front_end


@pytest.fixture
def subshell(front_end: FrontEnd) -> str:
    """The id of a new subshell, which ipykernel has since version 7."""
    return front_end.ask("control", "create_subshell_request")["subshell_id"]


def is_custom(message: dict) -> bool:
    return message["msg_type"] == "comm_msg" and message["content"]["data"]["method"] == "custom"


def states(messages: list[dict]) -> list[dict]:
    """Return what the widget was sent."""
    return [message["content"]["data"]["content"] for message in messages if is_custom(message)]


def wish_once(front_end: FrontEnd, wish: str, subshell: str, *, at: int, then: list[float]) -> Callable[[dict], None]:
    """Return a hook that sends one wish after the message of that number, and notes when."""

    def on_message(message: dict) -> None:
        if not then and is_custom(message) and message["content"]["data"]["content"]["number"] == at:
            front_end.wish(message["content"]["comm_id"], wish, subshell=subshell)
            then.append(time.monotonic())

    return on_message


def is_asked_whole(state: dict) -> bool:
    """Tell whether a page must have asked for it: the second, fourth, eighth and sixteenth are whole of themselves."""
    return "all" in state and state["number"] not in (2, 4, 8, 16)


def merge_repeats(names: list[str]) -> list[str]:
    return [name for name, before in zip(names, ["", *names], strict=False) if name != before]


def assert_no_widget_is_left(front_end: FrontEnd) -> None:
    assert front_end.ask("shell", "comm_info_request") == {"comms": {}, "status": "ok"}
    [printed] = [m["content"]["text"] for m in front_end.run(COUNT_WIDGETS) if m["msg_type"] == "stream"]
    assert printed == "0\n"


def test_a_page_is_told_of_a_widget_that_grows_and_then_of_plain_markdown(front_end: FrontEnd) -> None:
    messages = front_end.run(ASK)
    assert merge_repeats([message["msg_type"] for message in messages]) == [
        *("execute_input", "comm_open", "display_data", "comm_msg"),
        *("update_display_data", "display_data", "comm_close"),
    ]
    opened, shown, *_, final, footer, closed = [message["content"] for message in messages[1:]]
    comm = opened["comm_id"]
    assert shown["data"] == {
        WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": comm},
        "text/plain": "The notebook was saved while this answer was being written; run the cell again for the whole.",
    }
    assert {message["content"]["comm_id"] for message in messages if is_custom(message)} == {comm}
    numbers = [state["number"] for state in states(messages)]
    assert len(numbers) > 5
    assert numbers == list(range(1, len(numbers) + 1))
    assert final["transient"] == shown["transient"] == {"display_id": comm}
    assert final["data"].keys() == {"text/markdown", "text/plain"}
    assert final["metadata"]["kimi_magics"]["is_partial"] is False
    assert footer["data"].keys() == {"text/plain", "text/html"}
    assert footer["transient"] == {}
    assert closed["comm_id"] == comm


def test_what_is_sent_is_told_once_and_apart_from_what_comes(front_end: FrontEnd) -> None:
    front_end.run("import PIL.Image\nred, teal = (PIL.Image.new('RGB', (60, 40), name) for name in ('red', 'teal'))")
    messages = front_end.run("%kimi -i red -i teal --thinking off Tell me about them")
    [opened] = [message["content"]["data"]["state"] for message in messages if message["msg_type"] == "comm_open"]
    data = [message["content"]["data"] for message in messages if message["msg_type"] == "comm_msg"]
    [update] = [one["state"] for one in data if one["method"] == "update"]

    assert opened["media"] == [{"label": name, "text": "", "thumbnail": ""} for name in ("red", "teal")]
    assert [row["label"] for row in update["media"]] == ["red", "teal"]
    assert all(row["thumbnail"].startswith("data:image/") and "60×40" in row["text"] for row in update["media"])
    assert "data:image" not in str([message for message in messages if is_custom(message)])
    assert "data:image" not in str([message for message in messages if "display" in message["msg_type"]])
    assert_no_widget_is_left(front_end)


def test_no_comm_and_no_widget_is_left_after_answers(front_end: FrontEnd) -> None:
    for prompt in ("one", "two", "three"):
        front_end.run(f"%kimi --thinking off In one word: {prompt}")
    assert_no_widget_is_left(front_end)


def test_after_a_refused_request_no_widget_is_to_be_seen_and_the_next_answer_is_whole(front_end: FrontEnd) -> None:
    front_end.run("import os\nos.environ['MOONSHOT_API_KEY'] = 'wrong'")
    messages = front_end.run("%kimi In one word: token")
    # what a page shows at the end: the last bundle of each display
    shown = {m["content"]["transient"]["display_id"]: m["content"] for m in messages if "display" in m["msg_type"]}
    assert [content["data"] for content in shown.values()] == [{"text/markdown": "", "text/plain": ""}]
    assert [content["metadata"] for content in shown.values()] == [{}]
    assert [m["content"]["ename"] for m in messages if m["msg_type"] == "error"] == ["AuthenticationError"]
    front_end.run("os.environ['MOONSHOT_API_KEY'] = 'sandbox'")
    answers = [
        m["content"]["data"]
        for m in front_end.run("%kimi --thinking off In one word: token")
        if m["msg_type"] == "update_display_data"
    ]
    assert answers == [{"text/markdown": "Sandbox", "text/plain": "Sandbox"}]
    assert_no_widget_is_left(front_end)


def test_a_stop_over_a_subshell_ends_the_cell_at_once_and_keeps_the_text(
    front_end: FrontEnd, subshell: str, slow_sandbox: Sandbox
) -> None:
    front_end.run("%kimi In one word: warm")
    stopped: list[float] = []
    messages = front_end.run(ASK, on_message=wish_once(front_end, "stop", subshell, at=3, then=stopped))
    assert time.monotonic() - stopped[0] < ANSWER_SECONDS / 2
    assert [m["content"]["ename"] for m in messages if m["msg_type"] == "error"] == ["InterruptedReplyError"]
    [final] = [message["content"] for message in messages if message["msg_type"] == "update_display_data"]
    assert final["data"]["text/plain"].startswith("## Sandbox")
    assert final["metadata"]["kimi_magics"]["is_partial"] is True
    deadline = time.monotonic() + SECONDS
    while not slow_sandbox.disconnects and time.monotonic() < deadline:
        time.sleep(0.01)
    assert slow_sandbox.disconnects == 1
    assert_no_widget_is_left(front_end)


def test_a_stop_that_comes_too_late_stops_nothing(front_end: FrontEnd, subshell: str) -> None:
    messages = front_end.run("%kimi --thinking off In one word: token")
    comm = messages[-1]["content"]["comm_id"]
    front_end.wish(comm, "stop", subshell=subshell)
    later = front_end.run("import time\ntime.sleep(2)\nprint('done')")
    # ipykernel tells that there is no such comm any more, but not to a cell
    [cell] = {m["parent_header"]["msg_id"] for m in later if m["msg_type"] == "execute_input"}
    told = [
        m["content"] for m in later if m["parent_header"].get("msg_id") == cell and m["msg_type"] != "execute_input"
    ]
    assert told == [{"name": "stdout", "text": "done\n"}]


def test_a_page_that_wishes_all_gets_the_text_so_far_with_the_next_message(front_end: FrontEnd, subshell: str) -> None:
    wished: list[float] = []
    messages = front_end.run(ASK, on_message=wish_once(front_end, "all", subshell, at=9, then=wished))
    [final] = [m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "update_display_data"]
    [whole] = [state for state in states(messages) if is_asked_whole(state)]
    # one or two may have been under way
    assert 10 <= whole["number"] <= 12
    text = "".join(markdown for markdown, _ in whole["all"]["text"])
    assert len(text) > 20
    # what is open at the end of the text so far looks otherwise in the whole: a backtick, a block of code
    assert final.startswith(text.split("&#")[0].removesuffix("\n```").rstrip())
    assert whole["all"]["cell"] == "abc"


def test_what_a_thread_prints_belongs_to_its_cell_also_after_a_message_of_the_page(
    front_end: FrontEnd, subshell: str
) -> None:
    front_end.run(
        "import threading, time\n"
        "def talk():\n"
        "    while is_going:\n"
        "        time.sleep(0.1)\n"
        "        print('tick')\n"
        "%kimi In one word: warm"
    )
    wished: list[float] = []
    messages = front_end.run(
        "is_going, thread = True, threading.Thread(target=talk)\n"
        f"thread.start()\n{ASK}\nis_going = False\nthread.join()",
        on_message=wish_once(front_end, "all", subshell, at=5, then=wished),
    )
    [cell] = {m["parent_header"]["msg_id"] for m in messages if m["msg_type"] == "execute_input"}
    # the first whole that was not sent of itself answers the page: what comes after it was printed after it
    asked = (i for i, m in enumerate(messages) if is_custom(m) and is_asked_whole(m["content"]["data"]["content"]))
    answered = next(asked)
    printed = [m for m in messages[answered:] if m["msg_type"] == "stream"]
    assert len(printed) >= 3
    assert {m["content"]["text"].strip("tick\n") for m in messages if m["msg_type"] == "stream"} == {""}
    assert {m["parent_header"]["msg_id"] for m in printed} == {cell}
